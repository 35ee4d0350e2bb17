//! Carries questions to the agent.

use std::{
    io,
    path::{Path, PathBuf},
};

use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use signalbox_api::error::ApiError;
use tokio::net::UnixStream;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody answers.
    #[error(
        "no enforcer runs here that answers at {}: start one with `signalbox-enforcer --node NAME` (see --help), or name its socket with --socket", .0.display()
    )]
    NoAgent(PathBuf),
    /// Somebody answers, but not to this user.
    #[error("the enforcer's socket {} belongs to the user that it runs as: run this command as that user, mostly root", .0.display())]
    NotAllowed(PathBuf),
    /// The socket does something else.
    #[error("cannot connect to {}: {source}", path.display())]
    Connect {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The agent ended, or speaks another language.
    #[error("the enforcer did not answer: {0}: it may just have ended; `signalbox-enforcer status` tells")]
    Http(#[from] hyper::Error),
    /// The agent refuses.
    #[error("{0}")]
    Refused(String),
    /// Agent and command are not of one version.
    #[error("the enforcer's answer cannot be read: {0}: agent and command come from different versions")]
    Unreadable(#[from] serde_json::Error),
    /// Standard output has gone.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// Asks, and reads the whole answer.
pub async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, Failure> {
    let body = open(socket, path).await?.collect().await?.to_bytes();
    Ok(serde_json::from_slice(&body)?)
}

/// Asks, and hands each line of the answer over as it comes; `false` ends it.
pub async fn lines(
    socket: &Path,
    path: &str,
    mut take: impl FnMut(&[u8]) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut body = open(socket, path).await?;
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            if !take(&line[..end])? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A value of a question, so that it stays one value.
pub fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                escaped.push(byte.into());
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

async fn open(socket: &Path, path: &str) -> Result<Incoming, Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::NoAgent(socket.to_owned()),
        io::ErrorKind::PermissionDenied => Failure::NotAllowed(socket.to_owned()),
        _ => Failure::Connect { path: socket.to_owned(), source },
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the agent ended");
        }
    });
    let request = Request::get(path).header(HOST, "enforcer").body(Empty::<Bytes>::new());
    let response = sender.send_request(request.expect("a path of ours")).await?;
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response.into_body());
    }
    let body = response.into_body().collect().await?.to_bytes();
    match serde_json::from_slice::<ApiError>(&body) {
        Ok(error) => Err(Failure::Refused(error.message)),
        Err(_) => Err(Failure::Refused(format!("{status}: {}", String::from_utf8_lossy(&body).trim()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_values() {
        assert_eq!(escape("shop/web-1"), "shop/web-1");
        assert_eq!(escape("a&b=c d%"), "a%26b%3Dc%20d%25");
    }
}
