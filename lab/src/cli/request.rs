//! Asks a server by its URL: for a round of probes, for what it knows then, for what it can do.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use owo_colors::OwoColorize;
use serde::de::DeserializeOwned;
use signalbox_api::error::ApiError;
use signalbox_api::rest::RoundReport;
use signalbox_api::state::Snapshot;

use super::remote::{ConnectError, Remote};

/// Far above the picture of the largest cluster that a lab holds.
const LARGEST_ANSWER: usize = 256 * 1024 * 1024;

/// Why the server gave no picture.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{url}: the connection broke: {source}; does `signalbox lab`, or `signalbox serve`, still run?")]
    Broken { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{url} answered {status}: {message}")]
    Refused { url: String, status: StatusCode, message: String },
    #[error(
        "{url} answered what this version does not understand: {source}; are server and command of the same version?"
    )]
    Answer { url: String, source: serde_json::Error },
    #[error("{url}: no answer of the probes within {} s; give it more with --timeout", after.as_secs())]
    Late { url: String, after: Duration },
}

/// Has a round run and returns the picture after it. Whoever may not ask for rounds gets that of the last one.
pub(super) async fn round(server: &Remote, timeout: Duration) -> Result<Snapshot, Error> {
    let both = async {
        let asked = ask(server, Method::POST, "/api/v1/rounds", None).await;
        if let Err(Error::Refused { status: StatusCode::FORBIDDEN, message, .. }) = &asked {
            anstream::eprintln!("{} no new round: {message}; what is told is of the last one", "·".dimmed());
            return ask(server, Method::GET, "/api/v1/state", None).await;
        }
        let RoundReport { round, cells, endpoints, dns } = asked?;
        // What surrounds the round: the server's and the enforcers' problems.
        let around: Snapshot = ask(server, Method::GET, "/api/v1/state", None).await?;
        Ok(Snapshot { round, cells, endpoints, dns, ..around })
    };
    let late = |_| Error::Late { url: server.url.clone(), after: timeout };
    tokio::time::timeout(timeout, both).await.map_err(late)?
}

/// Asks for something.
pub(super) async fn ask<T: DeserializeOwned>(
    server: &Remote,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<T, Error> {
    let body = send(server, method, path, body).await?;
    serde_json::from_slice(&body).map_err(|source| Error::Answer { url: format!("{}{path}", server.url), source })
}

/// Sends a request, and gives back the body of the answer.
pub(super) async fn send(server: &Remote, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Bytes, Error> {
    let (url, answer) = open(server, method, path, body).await?;
    let status = answer.status();
    let broken = |source: Box<dyn std::error::Error + Send + Sync>| Error::Broken { url: url.clone(), source };
    let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await.map_err(broken)?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    let message = serde_json::from_slice::<ApiError>(&body)
        .map_or_else(|_| String::from_utf8_lossy(&body).chars().take(300).collect(), |error| error.message);
    Err(Error::Refused { url, status, message })
}

/// Sends a request, and gives back its URL, and the answer as it begins.
pub(super) async fn open(
    server: &Remote,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<(String, Response<Incoming>), Error> {
    let url = format!("{}{path}", server.url);
    let stream = server.connect().await?;
    let broken = |source: Box<dyn std::error::Error + Send + Sync>| Error::Broken { url: url.clone(), source };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(error.into()))?;
    // It ends with the answer; its error shows there.
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.unwrap_or_default())))
        .map_err(|error| broken(error.into()))?;
    request.headers_mut().extend(server.headers());
    let answer = sender.send_request(request).await.map_err(|error| broken(error.into()))?;
    Ok((url, answer))
}
