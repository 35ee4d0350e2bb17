//! The server's side as a client sees it, byte by byte, with real commands behind it.

use std::collections::VecDeque;
use std::process::Stdio;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use flate2::{Compress, Compression, FlushCompress};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::frame::{Encode, HEAD, Head};
use super::headers::{DICTIONARY, Inflater};
use super::{Handshake, Version};
use crate::relay::Wanted;
use crate::runtime::{ExecSession, ExitStatus};

const PATIENCE: Duration = Duration::from_secs(20);

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Frame {
    Data { stream: u32, fin: bool, bytes: Vec<u8> },
    Reply { stream: u32 },
    Reset { stream: u32, status: u32 },
    Ping(u32),
    GoAway { last: u32, status: u32 },
    Window { stream: u32, delta: u32 },
    End,
}

struct Client {
    io: DuplexStream,
    deflate: Compress,
    inflate: Inflater,
    server: JoinHandle<()>,
    early: VecDeque<Frame>,
}

impl Client {
    /// Connects to a shell command that has an input and both outputs.
    fn new(script: &str) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let session = ExecSession {
            stdin: Some(Box::pin(child.stdin.take().unwrap())),
            stdout: Box::pin(child.stdout.take().unwrap()),
            stderr: Some(Box::pin(child.stderr.take().unwrap())),
            resize: tokio::sync::mpsc::channel(1).0,
            exit: Box::pin(async move { ExitStatus::Code(child.wait().await.unwrap().code().unwrap_or(-1)) }),
        };
        let (io, theirs) = duplex(1 << 20);
        let wanted = Wanted { stdout: true, stderr: false };
        let server = tokio::spawn(Handshake { version: Version::V4 }.serve(theirs, session, wanted));
        let mut deflate = Compress::new(Compression::best(), true);
        deflate.set_dictionary(&DICTIONARY).unwrap();
        Self { io, deflate, inflate: Inflater::new(), server, early: VecDeque::new() }
    }

    async fn write(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut buffer = BytesMut::new();
        write(&mut buffer);
        self.io.write_all(&buffer).await.unwrap();
    }

    async fn open(&mut self, stream: u32, kind: &str) {
        let headers = [("streamtype", kind)];
        let block = block(&mut self.deflate, &headers);
        self.write(|buffer| control(buffer, 1, &[&stream.to_be_bytes()[..], &[0; 6], &block].concat())).await;
    }

    /// Opens the streams that the server waits for: error on 1, stdout on 3, stdin on 5.
    async fn open_all(&mut self) {
        for (stream, kind) in [(1, "error"), (3, "stdout"), (5, "stdin")] {
            self.open(stream, kind).await;
        }
        // Output may begin before the last reply.
        let mut early = VecDeque::new();
        let mut replies = 0;
        while replies < 3 {
            match self.next().await {
                Frame::Reply { .. } => replies += 1,
                other => early.push_back(other),
            }
        }
        self.early = early;
    }

    async fn next(&mut self) -> Frame {
        timeout(PATIENCE, self.read()).await.expect("a frame in time")
    }

    async fn read(&mut self) -> Frame {
        if let Some(frame) = self.early.pop_front() {
            return frame;
        }
        let mut head = [0; HEAD];
        if self.io.read_exact(&mut head).await.is_err() {
            return Frame::End;
        }
        match Head::parse(head).unwrap() {
            Head::Data { stream, fin, length } => {
                let mut bytes = vec![0; length];
                self.io.read_exact(&mut bytes).await.unwrap();
                Frame::Data { stream, fin, bytes }
            }
            Head::Control { kind, length, .. } => {
                let mut payload = vec![0; length];
                self.io.read_exact(&mut payload).await.unwrap();
                let mut payload = &payload[..];
                let first = payload.get_u32();
                match kind {
                    2 => {
                        assert_eq!(self.inflate.read(payload).unwrap(), []);
                        Frame::Reply { stream: first }
                    }
                    3 => Frame::Reset { stream: first, status: payload.get_u32() },
                    6 => Frame::Ping(first),
                    7 => Frame::GoAway { last: first, status: payload.get_u32() },
                    9 => Frame::Window { stream: first, delta: payload.get_u32() },
                    other => panic!("a frame of type {other}"),
                }
            }
        }
    }

    /// Reads output until the command's last word, and gives back both.
    async fn finish(&mut self) -> (Vec<u8>, String) {
        let mut output = Vec::new();
        loop {
            match self.next().await {
                Frame::Data { stream: 3, bytes, .. } => output.extend(bytes),
                Frame::Data { stream: 1, bytes, fin: true } => return (output, String::from_utf8(bytes).unwrap()),
                Frame::Window { .. } | Frame::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn block(state: &mut Compress, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut plain = BytesMut::new();
    plain.put_u32(headers.len() as u32);
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        plain.put_u32(text.len() as u32);
        plain.put_slice(text.as_bytes());
    }
    let mut block = Vec::with_capacity(plain.len() + 256);
    state.compress_vec(&plain, &mut block, FlushCompress::Sync).unwrap();
    block
}

fn control(buffer: &mut BytesMut, kind: u16, payload: &[u8]) {
    buffer.put_u16(0x8003);
    buffer.put_u16(kind);
    buffer.put_u32(payload.len() as u32);
    buffer.put_slice(payload);
}

#[tokio::test]
async fn a_whole_conversation() {
    let mut client = Client::new("cat");
    client.open_all().await;
    client.write(|buffer| buffer.ping(7)).await;
    assert_eq!(client.next().await, Frame::Ping(7));
    // An answer to a ping of the server's needs no answer; a type that does not exist is ignored.
    client.write(|buffer| buffer.ping(2)).await;
    client.write(|buffer| control(buffer, 77, b"what")).await;
    client.write(|buffer| buffer.data(5, false, b"hel")).await;
    client.write(|buffer| buffer.data(5, true, b"lo")).await;
    let (output, word) = client.finish().await;
    assert_eq!(output, b"hello");
    assert_eq!(word, r#"{"metadata":{},"status":"Success"}"#);
    drop(client.io);
    timeout(PATIENCE, client.server).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_clients_windows_are_kept() {
    const WINDOW: usize = 1000;
    let mut client = Client::new("head -c 5000 /dev/zero");
    // SETTINGS: INITIAL_WINDOW_SIZE (7).
    client.write(|buffer| control(buffer, 4, &[0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0x03, 0xe8])).await;
    client.open_all().await;
    let (mut received, mut granted) = (0, WINDOW);
    loop {
        match timeout(Duration::from_millis(400), client.read()).await {
            Ok(Frame::Data { stream: 3, fin: true, .. }) => break,
            Ok(Frame::Data { stream: 3, bytes, .. }) => received += bytes.len(),
            Ok(other) => panic!("{other:?}"),
            Err(_) => {
                assert_eq!(received, granted, "the window is used to its end");
                granted += WINDOW;
                client.write(|buffer| buffer.window_update(3, WINDOW as u32)).await;
            }
        }
        assert!(received <= granted, "{received} of {granted}");
    }
    assert_eq!(received, 5000);
    assert!(client.finish().await.1.contains("Success"));
}

#[tokio::test]
async fn the_connections_window_is_kept() {
    let mut client = Client::new("head -c 200000 /dev/zero");
    client.write(|buffer| control(buffer, 4, &[0, 0, 0, 1, 0, 0, 0, 7, 0, 0x0f, 0, 0])).await;
    client.open_all().await;
    let mut received = 0;
    while let Ok(frame) = timeout(Duration::from_millis(500), client.read()).await {
        let Frame::Data { stream: 3, bytes, .. } = frame else { panic!("{frame:?}") };
        received += bytes.len();
    }
    assert_eq!(received, 64 * 1024);
    client.write(|buffer| buffer.window_update(0, 1 << 20)).await;
    assert_eq!(client.finish().await.0.len() + received, 200_000);
}

#[tokio::test]
async fn a_client_without_windows_gets_everything() {
    let mut client = Client::new("head -c 300000 /dev/zero; exit 4");
    client.open_all().await;
    let (output, word) = client.finish().await;
    assert_eq!(output.len(), 300_000);
    assert!(word.contains(r#""causes":[{"message":"4","reason":"ExitCode"}]"#), "{word}");
}

#[tokio::test]
async fn the_clients_window_is_opened_as_the_command_reads() {
    let mut client = Client::new("head -c 50000 >/dev/null; exec sleep 1000");
    client.open_all().await;
    for _ in 0..5 {
        client.write(|buffer| buffer.data(5, false, &[0; 10_000])).await;
    }
    let mut opened = std::collections::HashMap::new();
    while let Ok(frame) = timeout(Duration::from_millis(500), client.read()).await {
        let Frame::Window { stream, delta } = frame else { panic!("{frame:?}") };
        *opened.entry(stream).or_insert(0) += delta;
    }
    assert_eq!(opened, [(0, 40_000), (5, 40_000)].into());
}

#[tokio::test]
async fn what_is_refused_does_no_harm() {
    let mut client = Client::new("cat");
    client.open_all().await;
    client.open(7, "sesame").await;
    assert_eq!(client.next().await, Frame::Reset { stream: 7, status: 3 });
    client.open(9, "stdout").await;
    assert_eq!(client.next().await, Frame::Reset { stream: 9, status: 8 });
    client.write(|buffer| buffer.data(11, true, b"to nobody")).await;
    assert_eq!(client.next().await, Frame::Reset { stream: 11, status: 2 });
    // The client closes its side of an output, as Go's does.
    client.write(|buffer| buffer.data(3, true, b"")).await;
    // A reset input is a closed one.
    client.write(|buffer| buffer.data(5, false, b"x")).await;
    assert_eq!(client.next().await, Frame::Data { stream: 3, fin: false, bytes: b"x".into() });
    client.write(|buffer| control(buffer, 3, &[0, 0, 0, 5, 0, 0, 0, 5])).await;
    assert!(client.finish().await.1.contains("Success"));
}

#[tokio::test]
async fn a_reset_output_is_thrown_away() {
    let mut client = Client::new("read go; head -c 1000000 /dev/zero; exit 3");
    client.open_all().await;
    client.write(|buffer| control(buffer, 3, &[0, 0, 0, 3, 0, 0, 0, 5])).await;
    client.write(|buffer| buffer.data(5, true, b"go\n")).await;
    let (output, word) = client.finish().await;
    assert_eq!(output, b"");
    assert!(word.contains("exit status 3"), "{word}");
}

#[tokio::test]
async fn broken_rules_end_the_connection() {
    let bomb = {
        let mut state = Compress::new(Compression::best(), true);
        state.set_dictionary(&DICTIONARY).unwrap();
        block(&mut state, &[("a", &"x".repeat(1 << 20))])
    };
    let syn = |stream: u32, block: &[u8]| {
        let mut buffer = BytesMut::new();
        control(&mut buffer, 1, &[&stream.to_be_bytes()[..], &[0; 6], block].concat());
        buffer.to_vec()
    };
    for (what, bytes) in [
        ("another version", b"\x80\x02\0\x06\0\0\0\x04\0\0\0\x01".to_vec()),
        ("a control frame of 16 MiB", b"\x80\x03\0\x06\0\xff\xff\xff".to_vec()),
        ("a short SYN_STREAM", b"\x80\x03\0\x01\0\0\0\x04\0\0\0\x01".to_vec()),
        ("a short RST_STREAM", b"\x80\x03\0\x03\0\0\0\x04\0\0\0\x01".to_vec()),
        ("SETTINGS that promise more", b"\x80\x03\0\x04\0\0\0\x04\xff\xff\xff\xff".to_vec()),
        ("a window opened by nothing", b"\x80\x03\0\x09\0\0\0\x08\0\0\0\0\0\0\0\0".to_vec()),
        ("a header block of noise", syn(1, b"\x01\x02\x03\x04")),
        ("a header block that explodes", syn(1, &bomb)),
    ] {
        let mut client = Client::new("exec sleep 1000");
        client.io.write_all(&bytes).await.unwrap();
        assert_eq!(client.next().await, Frame::GoAway { last: 0, status: 1 }, "{what}");
        assert_eq!(client.next().await, Frame::End, "{what}");
        timeout(PATIENCE, client.server).await.expect("it ends").expect("it does not panic");
    }
    for (stream, kind) in [(2, "stdin"), (1, "stdin"), (0, "stdin")] {
        let mut client = Client::new("exec sleep 1000");
        client.open(1, "error").await;
        assert_eq!(client.next().await, Frame::Reply { stream: 1 });
        client.open(stream, kind).await;
        assert_eq!(client.next().await, Frame::GoAway { last: 1, status: 1 }, "stream {stream}");
    }
    let mut client = Client::new("exec sleep 1000");
    client.open(1, "resize").await;
    assert_eq!(client.next().await, Frame::Reply { stream: 1 });
    client.write(|buffer| buffer.data(1, false, br#"{"Width":80,"Heigh"#)).await;
    client.write(|buffer| buffer.data(1, false, br#"t":24} {"Width":-1}"#)).await;
    assert_eq!(client.next().await, Frame::GoAway { last: 1, status: 1 });
}

#[tokio::test]
async fn noise_never_panics() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..60 {
        let mut client = Client::new("cat");
        client.open_all().await;
        let mut bytes: Vec<u8> = (0..random() % 600).map(|_| random() as u8).collect();
        // Every other round the noise is inside a well-formed control frame.
        if round % 2 == 0 {
            let mut buffer = BytesMut::new();
            control(&mut buffer, (random() % 11) as u16, &bytes);
            bytes = buffer.to_vec();
        }
        client.io.write_all(&bytes).await.unwrap();
        client.io.shutdown().await.unwrap();
        while client.next().await != Frame::End {}
        timeout(PATIENCE, client.server).await.expect("it ends").expect("it does not panic");
    }
}

#[test]
fn the_last_word_by_version() {
    let check = |version, exit, expected: &str| {
        assert_eq!(super::writer::last_word(&exit, version), expected.as_bytes(), "{version} {exit:?}");
    };
    let text = "command terminated with non-zero exit code: exit status 2";
    for version in [Version::V1, Version::V2, Version::V3] {
        check(version, ExitStatus::Code(0), "");
        check(version, ExitStatus::Code(2), text);
        check(version, ExitStatus::Failed("the pod went away".into()), "the pod went away");
    }
    check(Version::V4, ExitStatus::Code(0), r#"{"metadata":{},"status":"Success"}"#);
}
