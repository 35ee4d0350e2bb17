//! Header blocks of SPDY/3: names and values, deflated with one state over the whole connection and with a dictionary that
//! the protocol fixes.

use std::sync::LazyLock;

use bytes::{Buf, BufMut, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::Violation;

/// The longest block, uncompressed. A small frame can inflate to a thousand times its size.
const MOST: usize = 16 * 1024;

/// The words that the dictionary begins with, each after its length in four bytes.
const WORDS: [&str; 65] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

/// What follows the words, without lengths.
const TAIL: &str = concat!(
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505",
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized",
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable",
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT",
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,",
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.",
);

pub(super) static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut dictionary = BytesMut::new();
    for word in WORDS {
        put(&mut dictionary, word);
    }
    dictionary.put_slice(TAIL.as_bytes());
    dictionary.to_vec()
});

/// Reads the client's blocks, each of them and in order.
pub struct Inflater {
    state: Decompress,
}

impl Inflater {
    /// At the beginning of a connection.
    pub fn new() -> Self {
        Self { state: Decompress::new(true) }
    }

    /// Reads a block.
    pub fn read(&mut self, mut block: &[u8]) -> Result<Vec<(String, String)>, Violation> {
        // One byte more than it may have: then it has too many.
        let mut plain = Vec::with_capacity(MOST + 1);
        loop {
            let before = self.state.total_in();
            match self.state.decompress_vec(block, &mut plain, FlushDecompress::Sync) {
                Ok(Status::Ok | Status::BufError) => {}
                Ok(Status::StreamEnd) => return Err(Violation::Headers("the compressed stream ends")),
                Err(error) if error.needs_dictionary().is_some() => {
                    self.state.set_dictionary(&DICTIONARY).map_err(|_| Violation::Headers("another dictionary"))?;
                }
                Err(_) => return Err(Violation::Headers("not deflated")),
            }
            let used = usize::try_from(self.state.total_in() - before).unwrap_or(usize::MAX);
            block = block.get(used..).unwrap_or_default();
            if plain.len() > MOST {
                return Err(Violation::Headers("too long"));
            }
            if block.is_empty() {
                return pairs(&plain);
            }
            if used == 0 {
                return Err(Violation::Headers("not deflated"));
            }
        }
    }
}

/// Writes this end's blocks.
pub struct Deflater {
    state: Compress,
}

impl Deflater {
    /// At the beginning of a connection.
    pub fn new() -> Self {
        let mut state = Compress::new(Compression::fast(), true);
        state.set_dictionary(&DICTIONARY).expect("a new stream takes a dictionary");
        Self { state }
    }

    /// The block without any header: all that a server of exec has to say.
    pub fn empty(&mut self) -> Vec<u8> {
        let mut block = Vec::with_capacity(64);
        self.state
            .compress_vec(&0u32.to_be_bytes(), &mut block, FlushCompress::Sync)
            .expect("four bytes fit into sixty-four");
        block
    }
}

fn put(buffer: &mut BytesMut, word: &str) {
    buffer.put_u32(u32::try_from(word.len()).expect("words are short"));
    buffer.put_slice(word.as_bytes());
}

fn pairs(mut plain: &[u8]) -> Result<Vec<(String, String)>, Violation> {
    const SHORT: Violation = Violation::Headers("shorter than it says");
    let count = plain.try_get_u32().map_err(|_| SHORT)?;
    let mut pairs = Vec::new();
    // Not reserved beforehand: the count is the client's word.
    for _ in 0..count {
        let (name, value) = (text(&mut plain).ok_or(SHORT)?, text(&mut plain).ok_or(SHORT)?);
        pairs.push((name.to_ascii_lowercase(), value));
    }
    Ok(pairs)
}

fn text(plain: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(plain.try_get_u32().ok()?).ok()?;
    let (text, rest) = plain.split_at_checked(length)?;
    *plain = rest;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deflate(state: &mut Compress, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = BytesMut::new();
        plain.put_u32(headers.len() as u32);
        for (name, value) in headers {
            put(&mut plain, name);
            put(&mut plain, value);
        }
        let mut block = Vec::with_capacity(plain.len() + 128);
        state.compress_vec(&plain, &mut block, FlushCompress::Sync).unwrap();
        block
    }

    #[test]
    fn the_dictionary_is_the_protocols() {
        // Its Adler-32, which every compressed stream of SPDY/3 carries after the two bytes of zlib's header.
        let mut compress = Compress::new(Compression::fast(), true);
        assert_eq!(compress.set_dictionary(&DICTIONARY).unwrap(), 0xe3c6_a7c2);
        assert_eq!(DICTIONARY.len(), 1423);
    }

    #[test]
    fn the_state_lasts_over_blocks() {
        let mut compress = Compress::new(Compression::best(), true);
        compress.set_dictionary(&DICTIONARY).unwrap();
        let mut inflater = Inflater::new();
        for kind in ["error", "stdin", "stdout", "stderr"] {
            let block = deflate(&mut compress, &[("streamType", kind), ("x", "é")]);
            let expected = vec![("streamtype".to_owned(), kind.to_owned()), ("x".into(), "é".into())];
            assert_eq!(inflater.read(&block), Ok(expected));
        }
    }

    #[test]
    fn an_empty_block_reads_as_none() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
        for _ in 0..3 {
            assert_eq!(inflater.read(&deflater.empty()), Ok(vec![]));
        }
    }

    #[test]
    fn bad_blocks_are_refused() {
        let mut bomb = Compress::new(Compression::best(), true);
        bomb.set_dictionary(&DICTIONARY).unwrap();
        let bomb = deflate(&mut bomb, &[("a", &"x".repeat(1 << 20))]);
        assert!(bomb.len() < 8192);
        let mut plain = Compress::new(Compression::best(), true);
        let without = deflate(&mut plain, &[("a", "b")]);
        let mut lies = Vec::with_capacity(100);
        let mut compress = Compress::new(Compression::best(), true);
        compress.set_dictionary(&DICTIONARY).unwrap();
        compress.compress_vec(b"\xff\xff\xff\xff\0\0\0\x01a\0\0\0\x09b", &mut lies, FlushCompress::Sync).unwrap();
        for (block, expected) in [
            (&b"garbage"[..], None),
            (&b""[..], Some("shorter than it says")),
            (&bomb, Some("too long")),
            (&lies, Some("shorter than it says")),
        ] {
            let result = Inflater::new().read(block);
            match expected {
                Some(why) => assert_eq!(result, Err(Violation::Headers(why))),
                None => assert!(matches!(result, Err(Violation::Headers(_))), "{result:?}"),
            }
        }
        // Without the dictionary it can be read all the same: zlib says which one is needed, and here it is none.
        assert!(Inflater::new().read(&without).is_ok());
    }
}
