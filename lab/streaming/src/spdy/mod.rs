//! SPDY/3.1, the server's side of what kubectl spoke before WebSocket: one stream for each of standard input, output, error,
//! the terminal's size, and how the command ended.
//!
//! - [`frame`]: frames to bytes and back.
//! - [`headers`]: header blocks, which are compressed over the whole connection.
//! - [`reader`] and [`writer`]: the two loops that [`crate::relay`] asks for.
//!
//! Go's client neither keeps to windows nor opens them. Towards a client that does, the writer keeps to them.

mod frame;
mod headers;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::relay::{self, Ends, Wanted};
use crate::runtime::ExecSession;
use crate::{Body, status};

/// The header that versions are negotiated with.
const VERSION_HEADER: &str = "x-stream-protocol-version";

/// What the reader may want of the writer before it has to wait.
const ORDERS: usize = 64;

/// A version of the remote command protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// The error stream carries text.
    V1,
    /// The error stream carries text.
    V2,
    /// A terminal can change its size.
    V3,
    /// The error stream carries a `Status`.
    V4,
}

impl Version {
    const ALL: [Self; 4] = [Self::V4, Self::V3, Self::V2, Self::V1];

    fn parse(name: &str) -> Option<Self> {
        // Version 1 had no name in its first years.
        if name.is_empty() {
            return Some(Self::V1);
        }
        Self::ALL.into_iter().find(|version| version.to_string() == name)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "channel.k8s.io",
            Self::V2 => "v2.channel.k8s.io",
            Self::V3 => "v3.channel.k8s.io",
            Self::V4 => "v4.channel.k8s.io",
        })
    }
}

/// What a stream is for, by its header `streamtype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// From the client.
    Stdin,
    /// To the client.
    Stdout,
    /// To the client.
    Stderr,
    /// To the client: how the command ended.
    Error,
    /// From the client: the terminal's size.
    Resize,
}

impl Kind {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "stdin" => Some(Self::Stdin),
            "stdout" => Some(Self::Stdout),
            "stderr" => Some(Self::Stderr),
            "error" => Some(Self::Error),
            "resize" => Some(Self::Resize),
            _ => None,
        }
    }
}

/// What both ends agreed on.
#[derive(Debug)]
pub struct Handshake {
    version: Version,
}

impl Handshake {
    /// Reads the client's side, or answers what is wrong with it.
    pub fn read(headers: &HeaderMap) -> Result<Self, Box<Response<Body>>> {
        let offered: Vec<&str> = headers
            .get_all(VERSION_HEADER)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        if offered.is_empty() {
            return Ok(Self { version: Version::V1 });
        }
        // The client's order counts.
        if let Some(version) = offered.iter().find_map(|name| Version::parse(name)) {
            return Ok(Self { version });
        }
        let known = Version::ALL.map(|version| version.to_string());
        let message = format!("unable to upgrade: unable to negotiate protocol: {offered:?} offered, {known:?} known");
        let mut refusal = status::failure(StatusCode::FORBIDDEN, "Forbidden", &message);
        for version in known {
            let value = HeaderValue::try_from(version).expect("a version is a header value");
            refusal.headers_mut().append("x-accepted-stream-protocol-versions", value);
        }
        Err(Box::new(refusal))
    }

    /// The answer that ends HTTP.
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(status::full(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        let version = HeaderValue::try_from(self.version.to_string()).expect("a version is a header value");
        headers.insert(VERSION_HEADER, version);
        response
    }

    /// Speaks SPDY until the command or the connection ends.
    pub async fn serve<S>(self, io: S, session: ExecSession, wanted: Wanted)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (input, output) = tokio::io::split(io);
        let (ends, pipes) = relay::channels();
        let Ends { stdin, size, from } = ends;
        let (orders, taken) = mpsc::channel(ORDERS);
        let reader = reader::Reader::new(input, orders.clone(), stdin, size);
        let writer = writer::Writer::new(output, self.version, wanted);
        let reader = async {
            if let Err(violation) = reader.run().await {
                tracing::debug!(%violation, "exec: bad SPDY");
                // Through the writer, which says so and ends.
                let _ = orders.send(writer::Order::GoAway).await;
                std::future::pending().await
            }
        };
        let connection = async {
            tokio::select! {
                () = reader => {}
                result = writer.run(taken, from) => if let Err(error) = result {
                    tracing::debug!(%error, "exec: the client went away");
                },
            }
        };
        relay::run(session, wanted, pipes, connection).await;
    }
}
