//! WebSocket: one binary message for each piece, its first byte the channel.

#[cfg(test)]
mod tests;

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{Sink, SinkExt, Stream, StreamExt};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::relay::{self, Ends, FromClient, HEARTBEAT, ToClient, Wanted};
use crate::runtime::ExecSession;
use crate::{Body, status};

/// The largest message that is taken. Clients send at most 32 KiB at once.
const MESSAGE_MOST: usize = 1 << 20;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Since v5: the next byte names the channel that the client closes.
const CLOSE: u8 = 255;

/// A version of the remote command protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// How a command ended is told as a `Status`.
    V4,
    /// The client can close standard input.
    V5,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "v4.channel.k8s.io",
            Self::V5 => "v5.channel.k8s.io",
        })
    }
}

/// What both ends agreed on.
#[derive(Debug)]
pub struct Handshake {
    version: Version,
    accept: HeaderValue,
}

impl Handshake {
    /// Reads the client's side, or says what is wrong with it.
    pub fn read(headers: &HeaderMap) -> Result<Self, String> {
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version.as_bytes() != b"13") {
            return Err("the WebSocket version must be 13".into());
        }
        let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
            return Err("Sec-WebSocket-Key is missing".into());
        };
        let offered: Vec<&str> = headers
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        // The client's order counts.
        let version = offered.iter().find_map(|name| match *name {
            "v5.channel.k8s.io" => Some(Version::V5),
            "v4.channel.k8s.io" => Some(Version::V4),
            _ => None,
        });
        let Some(version) = version else {
            return Err(format!(
                "no common WebSocket subprotocol: {offered:?} offered, v5 and v4.channel.k8s.io known"
            ));
        };
        let accept = derive_accept_key(key.as_bytes());
        let accept = HeaderValue::try_from(accept).expect("base64 is a header value");
        Ok(Self { version, accept })
    }

    /// The answer that ends HTTP.
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(status::full(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        let version = HeaderValue::try_from(self.version.to_string()).expect("a version is a header value");
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, version);
        response
    }

    /// Speaks the agreed protocol until the command or the connection ends.
    pub async fn serve<S>(self, io: S, session: ExecSession, wanted: Wanted)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_MOST))
            .max_frame_size(Some(MESSAGE_MOST))
            .write_buffer_size(0);
        let (sink, stream) = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await.split();
        let (ends, pipes) = relay::channels();
        let Ends { stdin, size, from } = ends;
        let (refuse, refused) = mpsc::channel(1);
        let version = self.version;
        let reader = async {
            if let Err(complaint) = read(stream, version, stdin, size).await {
                // Through the writer, which alone owns the sink, and which then ends.
                let _ = refuse.send(complaint).await;
                std::future::pending().await
            }
        };
        let connection = async {
            tokio::select! {
                () = reader => {}
                result = write(sink, wanted, from, refused) => if let Err(error) = result {
                    tracing::debug!(%error, "exec: the client went away");
                },
            }
        };
        relay::run(session, wanted, pipes, connection).await;
    }
}

/// What is wrong with a message: the close frame that answers it.
type Complaint = (CloseCode, &'static str);

/// Ends with the connection.
async fn read(
    mut stream: impl Stream<Item = Result<Message, Error>> + Unpin,
    version: Version,
    stdin: mpsc::Sender<FromClient>,
    size: tokio::sync::watch::Sender<Option<crate::runtime::TerminalSize>>,
) -> Result<(), Complaint> {
    while let Some(message) = stream.next().await {
        let mut piece = match message {
            Ok(Message::Binary(piece)) => piece,
            Ok(Message::Text(text)) => text.into(),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
            Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Io(_)) => return Ok(()),
            Err(Error::Capacity(_)) => return Err((CloseCode::Size, "the message is too large")),
            Err(error) => {
                tracing::debug!(%error, "exec: bad frame");
                return Err((CloseCode::Protocol, "a frame against RFC 6455"));
            }
        };
        if piece.is_empty() {
            return Err((CloseCode::Protocol, "a message without a channel"));
        }
        let channel = piece.split_to(1)[0];
        // A send fails after the command's end: what the client still says does not matter then.
        match channel {
            STDIN if piece.is_empty() => {}
            STDIN => drop(stdin.send(FromClient::Data(piece)).await),
            RESIZE => match relay::parse_size(&piece) {
                Ok(newest) => drop(size.send_replace(Some(newest))),
                Err(_) => return Err((CloseCode::Policy, "a terminal size that is none")),
            },
            CLOSE if version == Version::V5 => match *piece {
                [STDIN] => drop(stdin.send(FromClient::End).await),
                // Its other channels a client only reads.
                [STDOUT | STDERR | ERROR | RESIZE] => {}
                _ => return Err((CloseCode::Policy, "a close of no channel")),
            },
            _ => return Err((CloseCode::Policy, "no such channel to write to")),
        }
    }
    Ok(())
}

/// Ends after a refusal, or with an error when the client has gone. After the last word it waits for the client.
async fn write(
    mut sink: impl Sink<Message, Error = Error> + Unpin,
    wanted: Wanted,
    mut from: mpsc::Receiver<ToClient>,
    mut refused: mpsc::Receiver<Complaint>,
) -> Result<(), Error> {
    // An empty message tells the client that the command has started, as a kubelet does.
    let first = if wanted.stdout {
        STDOUT
    } else if wanted.stderr {
        STDERR
    } else {
        ERROR
    };
    sink.send(message(first, b"")).await?;
    let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    loop {
        tokio::select! {
            Some((code, reason)) = refused.recv() => {
                sink.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await?;
                return sink.close().await;
            }
            piece = from.recv() => match piece {
                Some(ToClient::Stdout(bytes)) => sink.send(message(STDOUT, &bytes)).await?,
                Some(ToClient::Stderr(bytes)) => sink.send(message(STDERR, &bytes)).await?,
                Some(ToClient::StdinTaken(_)) => {}
                Some(ToClient::Exit(exit)) => {
                    sink.send(message(ERROR, status::of_exit(&exit).to_string().as_bytes())).await?;
                    sink.send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))).await?;
                }
                None => {
                    // All is said. The reader ends when the client has closed.
                    return std::future::pending().await;
                }
            },
            _ = heartbeat.tick() => sink.send(Message::Ping(Bytes::new())).await?,
        }
    }
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel);
    message.put_slice(bytes);
    Message::Binary(message.freeze())
}
