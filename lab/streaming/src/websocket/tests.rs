//! Clients that break the rules, and the messages of those that keep them.

use std::process::Stdio;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::{Handshake, Version};
use crate::relay::Wanted;
use crate::runtime::{ExecSession, ExitStatus};

const PATIENCE: Duration = Duration::from_secs(20);

fn serve(version: Version, program: &str) -> (DuplexStream, JoinHandle<()>) {
    let mut child = Command::new("sh")
        .args(["-c", program])
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
    let (ours, theirs) = duplex(1 << 16);
    let handshake = Handshake { version, accept: HeaderValue::from_static("") };
    let wanted = Wanted { stdout: true, stderr: true };
    (ours, tokio::spawn(handshake.serve(theirs, session, wanted)))
}

async fn client(version: Version, program: &str) -> (WebSocketStream<DuplexStream>, JoinHandle<()>) {
    let (io, server) = serve(version, program);
    (WebSocketStream::from_raw_socket(io, Role::Client, None).await, server)
}

/// All that still comes, but for the server's questions whether somebody is there.
async fn rest(socket: &mut WebSocketStream<DuplexStream>) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Ok(Some(Ok(message))) = timeout(PATIENCE, socket.next()).await {
        if !message.is_ping() {
            messages.push(message);
        }
    }
    messages
}

#[tokio::test]
async fn a_whole_conversation() {
    let (mut socket, server) = client(Version::V5, "cat; echo err >&2; exit 9").await;
    for piece in [&b"\0hello"[..], b"\0", b"\0 there", b"\xff\0"] {
        socket.send(Message::binary(piece.to_vec())).await.unwrap();
    }
    let messages = rest(&mut socket).await;
    let channel = |number: u8| -> Vec<u8> {
        let pieces = messages.iter().filter(|message| message.is_binary()).map(|message| message.clone().into_data());
        pieces.filter(|data| data[0] == number).flat_map(|data| data[1..].to_vec()).collect()
    };
    assert_eq!(messages[0], Message::binary(vec![1]), "the first one is empty, on standard output");
    assert_eq!(channel(1), b"hello there");
    assert_eq!(channel(2), b"err\n");
    let status: serde_json::Value = serde_json::from_slice(&channel(3)).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "9");
    let normal = Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }));
    assert_eq!(messages.last(), Some(&normal));
    timeout(PATIENCE, server).await.unwrap().unwrap();
}

#[tokio::test]
async fn broken_rules_are_answered_with_their_code() {
    for (message, code) in [
        (vec![], CloseCode::Protocol),
        (vec![1, b'x'], CloseCode::Policy),
        (vec![9, b'x'], CloseCode::Policy),
        (vec![4, b'x'], CloseCode::Policy),
        (b"\x04{\"Width\":-1,\"Height\":2}".to_vec(), CloseCode::Policy),
        (vec![255], CloseCode::Policy),
        (vec![255, 77], CloseCode::Policy),
        (vec![0; (1 << 20) + 1], CloseCode::Size),
    ] {
        let (mut socket, server) = client(Version::V5, "exec sleep 1000").await;
        let what = format!("{:?}", &message[..message.len().min(8)]);
        // Towards the end of a large message the server has closed already.
        let _ = socket.send(Message::binary(message)).await;
        let messages = rest(&mut socket).await;
        let Some(Message::Close(Some(frame))) = messages.last() else { panic!("{what}: {messages:?}") };
        assert_eq!(frame.code, code, "{what}");
        timeout(PATIENCE, server).await.expect("it ends").expect("it does not panic");
    }
    // Version 4 knows no closing of channels.
    let (mut socket, _server) = client(Version::V4, "exec sleep 1000").await;
    socket.send(Message::binary(vec![255, 0])).await.unwrap();
    let messages = rest(&mut socket).await;
    assert!(matches!(messages.last(), Some(Message::Close(Some(frame))) if frame.code == CloseCode::Policy));
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
    for _ in 0..60 {
        let (mut io, server) = serve(Version::V5, "cat");
        let bytes: Vec<u8> = (0..random() % 600).map(|_| random() as u8).collect();
        io.write_all(&bytes).await.unwrap();
        io.shutdown().await.unwrap();
        let mut rest = Vec::new();
        timeout(PATIENCE, io.read_to_end(&mut rest)).await.expect("it ends").unwrap();
        timeout(PATIENCE, server).await.expect("it ends").expect("it does not panic");
    }
}
