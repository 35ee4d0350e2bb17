//! A text small enough for a link: compressed, in the alphabet that links take, and never larger than it says.

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

/// The largest text that is unpacked. A link may come from anybody.
pub const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The longest link, in characters: what browsers and most programs that pass links on take.
pub const LONGEST_LINK: usize = 32 * 1024;

/// The most that is put into the browser's memory, in characters. Browsers grant about five million in all.
pub const MOST_STORED: usize = 2 * 1024 * 1024;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Packs a text.
pub fn pack(text: &str) -> String {
    const LEVEL: u8 = 7;
    let packed = compress_to_vec(text.as_bytes(), LEVEL);
    let mut out = String::with_capacity(packed.len().div_ceil(3) * 4);
    for group in packed.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..=group.len() {
            out.push(char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]));
        }
    }
    out
}

/// Unpacks what [`pack`] made; `None` for anything else, and for what would be too large.
pub fn unpack(packed: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(packed.len() / 4 * 3);
    for group in packed.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for byte in group {
            bits = bits << 6 | u32::try_from(ALPHABET.iter().position(|it| it == byte)?).ok()?;
        }
        bits <<= 6 * (4 - group.len());
        bytes.extend(bits.to_be_bytes()[1..].iter().take((group.len() * 6) / 8));
    }
    let text = decompress_to_vec_with_limit(&bytes, MOST_BYTES).ok()?;
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_unpacks() {
        for text in ["", "a", "ab", "abc", "grüße 🚂", &"NetworkPolicy ".repeat(1000)] {
            let packed = pack(text);
            assert_eq!(unpack(&packed).as_deref(), Some(text));
            assert!(packed.bytes().all(|byte| ALPHABET.contains(&byte)));
        }
        assert!(pack(&"NetworkPolicy ".repeat(1000)).len() < 200);
    }

    #[test]
    fn a_link_from_anybody_does_no_harm() {
        for nonsense in ["!", "A", "AAAA", "____", "ä", "AAAAA="] {
            let _ = unpack(nonsense);
        }
        // 64 MiB of nothing, packed into few bytes.
        let bomb = pack(&"\0".repeat(64 * 1024 * 1024));
        assert!(bomb.len() < 128 * 1024, "{}", bomb.len());
        assert_eq!(unpack(&bomb), None);
    }
}
