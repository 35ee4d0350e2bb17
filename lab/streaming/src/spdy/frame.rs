//! Frames of SPDY/3 to bytes and back. No I/O.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The bytes before each frame's payload.
pub const HEAD: usize = 8;

/// The longest control frame that is taken. kubectl's are below 200 bytes.
pub const CONTROL_MOST: usize = 16 * 1024;

/// The highest stream id, and the highest window.
pub const MOST: u32 = 0x7fff_ffff;

/// The last frame of its sender on this stream.
pub const FIN: u8 = 1;

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// In SETTINGS: the window that a stream begins with.
const INITIAL_WINDOW_SIZE: u32 = 7;

/// Why a stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Not a stream that is open.
    InvalidStream = 2,
    /// A stream that nobody has a use for.
    RefusedStream = 3,
    /// A second stream of its kind.
    StreamInUse = 8,
}

/// In GOAWAY: the peer broke the rules.
const PROTOCOL_ERROR: u32 = 1;

/// A client that does not keep to the protocol. It ends the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Another version.
    #[error("a frame of SPDY version {0}, not 3")]
    Version(u16),
    /// A control frame that is too long.
    #[error("a control frame of {0} bytes")]
    TooLong(usize),
    /// A control frame whose length does not fit its type.
    #[error("a control frame of type {kind} with {length} bytes")]
    Length {
        /// The frame's type.
        kind: u16,
        /// Its length.
        length: usize,
    },
    /// A stream id that is even, or not higher than the one before.
    #[error("stream {0} out of order")]
    StreamId(u32),
    /// A header block that does not decompress, or to more than it may.
    #[error("a header block that cannot be read: {0}")]
    Headers(&'static str),
    /// A window opened beyond its limit.
    #[error("a window update of {0}")]
    Window(u32),
    /// A terminal's size that is none.
    #[error("a terminal size that is none")]
    Size,
}

/// What the first eight bytes of a frame say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A control frame.
    Control {
        /// Its type.
        kind: u16,
        /// Its flags.
        flags: u8,
        /// The payload's length.
        length: usize,
    },
    /// A piece of a stream.
    Data {
        /// Which.
        stream: u32,
        /// The last piece.
        fin: bool,
        /// The payload's length.
        length: usize,
    },
}

impl Head {
    /// Reads the first eight bytes.
    pub fn parse(bytes: [u8; HEAD]) -> Result<Self, Violation> {
        let [a, b, c, d, flags, l0, l1, l2] = bytes;
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        if a & 0x80 == 0 {
            let stream = u32::from_be_bytes([a, b, c, d]);
            return Ok(Self::Data { stream, fin: flags & FIN != 0, length });
        }
        let version = u16::from_be_bytes([a & 0x7f, b]);
        if version != VERSION {
            return Err(Violation::Version(version));
        }
        if length > CONTROL_MOST {
            return Err(Violation::TooLong(length));
        }
        Ok(Self::Control { kind: u16::from_be_bytes([c, d]), flags, length })
    }
}

/// A control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Opens a stream.
    SynStream {
        /// Which.
        stream: u32,
        /// The client will send nothing on it.
        fin: bool,
        /// Compressed headers.
        block: Bytes,
    },
    /// More headers, or an answer to a stream that nobody here has opened.
    Headers {
        /// Compressed headers. They must be read: they change the compression's state.
        block: Bytes,
    },
    /// The peer has no more use for a stream.
    RstStream {
        /// Which.
        stream: u32,
    },
    /// Settings; only this one matters.
    Settings {
        /// The window that a stream begins with.
        initial_window: Option<u32>,
    },
    /// To be sent back, if the peer has sent it first.
    Ping {
        /// Odd: the client's.
        id: u32,
    },
    /// The peer opens no more streams.
    GoAway,
    /// The peer takes more.
    WindowUpdate {
        /// Which stream; 0 is the whole connection.
        stream: u32,
        /// How many bytes more.
        delta: u32,
    },
    /// A type that SPDY/3 does not have. To be ignored.
    Unknown,
}

impl Control {
    /// Reads a control frame's payload.
    pub fn parse(kind: u16, flags: u8, mut payload: Bytes) -> Result<Self, Violation> {
        let length = payload.len();
        let least = match kind {
            SYN_STREAM => 10,
            SYN_REPLY | HEADERS | SETTINGS | PING => 4,
            RST_STREAM | GOAWAY | WINDOW_UPDATE => 8,
            _ => return Ok(Self::Unknown),
        };
        let exact = matches!(kind, RST_STREAM | GOAWAY | WINDOW_UPDATE | PING);
        if length < least || (exact && length != least) {
            return Err(Violation::Length { kind, length });
        }
        let first = payload.get_u32();
        let stream = first & MOST;
        match kind {
            SYN_STREAM => {
                // The associated stream, the priority and the slot: of no use here.
                payload.advance(6);
                Ok(Self::SynStream { stream, fin: flags & FIN != 0, block: payload })
            }
            SYN_REPLY | HEADERS => Ok(Self::Headers { block: payload }),
            RST_STREAM => Ok(Self::RstStream { stream }),
            SETTINGS => {
                if payload.len() != first as usize * 8 {
                    return Err(Violation::Length { kind, length });
                }
                let mut initial_window = None;
                while payload.has_remaining() {
                    let (id, value) = (payload.get_u32() & 0x00ff_ffff, payload.get_u32());
                    if id == INITIAL_WINDOW_SIZE {
                        initial_window = Some(value);
                    }
                }
                Ok(Self::Settings { initial_window })
            }
            PING => Ok(Self::Ping { id: first }),
            GOAWAY => Ok(Self::GoAway),
            WINDOW_UPDATE => {
                let delta = payload.get_u32() & MOST;
                if delta == 0 {
                    return Err(Violation::Window(delta));
                }
                Ok(Self::WindowUpdate { stream, delta })
            }
            _ => Ok(Self::Unknown),
        }
    }
}

/// Writes frames into one buffer.
pub trait Encode {
    /// Accepts a stream.
    fn syn_reply(&mut self, stream: u32, block: &[u8]);
    /// The head of a data frame; the payload follows.
    fn data(&mut self, stream: u32, fin: bool, payload: &[u8]);
    /// Ends a stream.
    fn rst_stream(&mut self, stream: u32, why: Reset);
    /// A question, or the answer to one.
    fn ping(&mut self, id: u32);
    /// Ends the connection, because the peer broke the rules.
    fn go_away(&mut self, last: u32);
    /// Opens a window.
    fn window_update(&mut self, stream: u32, delta: u32);
}

impl Encode for BytesMut {
    fn syn_reply(&mut self, stream: u32, block: &[u8]) {
        control(self, SYN_REPLY, 4 + block.len());
        self.put_u32(stream);
        self.put_slice(block);
    }

    fn data(&mut self, stream: u32, fin: bool, payload: &[u8]) {
        self.put_u32(stream);
        let length = u32::try_from(payload.len()).expect("a chunk is far below 16 MiB");
        self.put_u32(u32::from(if fin { FIN } else { 0 }) << 24 | length);
        self.put_slice(payload);
    }

    fn rst_stream(&mut self, stream: u32, why: Reset) {
        control(self, RST_STREAM, 8);
        self.put_u32(stream);
        self.put_u32(why as u32);
    }

    fn ping(&mut self, id: u32) {
        control(self, PING, 4);
        self.put_u32(id);
    }

    fn go_away(&mut self, last: u32) {
        control(self, GOAWAY, 8);
        self.put_u32(last);
        self.put_u32(PROTOCOL_ERROR);
    }

    fn window_update(&mut self, stream: u32, delta: u32) {
        control(self, WINDOW_UPDATE, 8);
        self.put_u32(stream);
        self.put_u32(delta);
    }
}

fn control(buffer: &mut BytesMut, kind: u16, length: usize) {
    buffer.put_u16(0x8000 | VERSION);
    buffer.put_u16(kind);
    buffer.put_u32(u32::try_from(length).expect("control frames are short"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let check = |bytes: [u8; 8], expected: Result<Head, Violation>| assert_eq!(Head::parse(bytes), expected);
        check([0, 0, 0, 5, 1, 0, 1, 2], Ok(Head::Data { stream: 5, fin: true, length: 0x102 }));
        check([0x7f, 0xff, 0xff, 0xff, 2, 0xff, 0xff, 0xff], {
            Ok(Head::Data { stream: MOST, fin: false, length: 0xff_ffff })
        });
        check([0x80, 3, 0, 1, 0, 0, 0, 10], Ok(Head::Control { kind: 1, flags: 0, length: 10 }));
        check([0x80, 2, 0, 1, 0, 0, 0, 10], Err(Violation::Version(2)));
        check([0x80, 3, 0, 1, 0, 0, 0x40, 1], Err(Violation::TooLong(CONTROL_MOST + 1)));
    }

    #[test]
    fn controls() {
        let check = |kind: u16, flags: u8, bytes: &[u8], expected: Result<Control, Violation>| {
            assert_eq!(Control::parse(kind, flags, Bytes::copy_from_slice(bytes)), expected, "{kind} {bytes:?}");
        };
        let block = Bytes::from_static(b"xy");
        check(1, 1, b"\0\0\0\x01\0\0\0\0\xe0\0xy", Ok(Control::SynStream { stream: 1, fin: true, block }));
        check(1, 0, b"\0\0\0\x01\0\0\0\0\xe0", Err(Violation::Length { kind: 1, length: 9 }));
        check(3, 0, b"\0\0\0\x07\0\0\0\x05", Ok(Control::RstStream { stream: 7 }));
        check(3, 0, b"\0\0\0\x07", Err(Violation::Length { kind: 3, length: 4 }));
        check(4, 0, b"\0\0\0\x01\x01\0\0\x07\0\x02\0\0", Ok(Control::Settings { initial_window: Some(0x2_0000) }));
        check(4, 0, b"\0\0\0\0", Ok(Control::Settings { initial_window: None }));
        check(4, 0, b"\xff\xff\xff\xff", Err(Violation::Length { kind: 4, length: 4 }));
        check(6, 0, b"\0\0\0\x09", Ok(Control::Ping { id: 9 }));
        check(7, 0, b"\0\0\0\0\0\0\0\0", Ok(Control::GoAway));
        check(9, 0, b"\0\0\0\0\0\x01\0\0", Ok(Control::WindowUpdate { stream: 0, delta: 0x1_0000 }));
        check(9, 0, b"\0\0\0\x01\0\0\0\0", Err(Violation::Window(0)));
        check(77, 0, b"", Ok(Control::Unknown));
    }

    #[test]
    fn what_is_written() {
        let check = |write: fn(&mut BytesMut), expected: &[u8]| {
            let mut buffer = BytesMut::new();
            write(&mut buffer);
            assert_eq!(&buffer[..], expected);
        };
        check(|buffer| buffer.syn_reply(3, b"zz"), b"\x80\x03\0\x02\0\0\0\x06\0\0\0\x03zz");
        check(|buffer| buffer.data(5, true, b"abc"), b"\0\0\0\x05\x01\0\0\x03abc");
        check(|buffer| buffer.rst_stream(5, Reset::InvalidStream), b"\x80\x03\0\x03\0\0\0\x08\0\0\0\x05\0\0\0\x02");
        check(|buffer| buffer.ping(2), b"\x80\x03\0\x06\0\0\0\x04\0\0\0\x02");
        check(|buffer| buffer.go_away(9), b"\x80\x03\0\x07\0\0\0\x08\0\0\0\x09\0\0\0\x01");
        check(|buffer| buffer.window_update(1, 0x4000), b"\x80\x03\0\x09\0\0\0\x08\0\0\0\x01\0\0\x40\0");
    }
}
