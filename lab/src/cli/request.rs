//! Asks a server by its URL: for a round of probes, for what it knows then, for what it can do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::de::DeserializeOwned;
use signalbox_api::error::ApiError;
use signalbox_api::rest::RoundReport;
use signalbox_api::state::Snapshot;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::lab::kubeconfig::ServerEntry;

/// Far above the picture of the largest cluster that a lab holds.
const LARGEST_ANSWER: usize = 256 * 1024 * 1024;

/// Why the server gave no picture.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "the server {0:?} is no http:// or https:// URL: give --server one, or name the kubeconfig that `signalbox lab` has written"
    )]
    Url(String),
    #[error(
        "whom to trust for {url} is not known: {why}; name a file with --server-ca, as `kubectl -n signalbox-system get configmap signalbox-ca -o \
         jsonpath='{{.data.ca\\.crt}}'` prints it"
    )]
    Trust { url: String, why: String },
    #[error(
        "{url} does not prove to be the server: {source}; its certificate has to be for the host that --server names, of an authority in --server-ca"
    )]
    Tls { url: String, source: std::io::Error },
    #[error("no answer from {url}: {source}; does `signalbox lab`, or `signalbox serve`, still run?")]
    Connect { url: String, source: std::io::Error },
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

/// Has a round run and returns the picture after it.
pub(super) async fn round(server: &ServerEntry, timeout: Duration) -> Result<Snapshot, Error> {
    let both = async {
        let RoundReport { round, cells, endpoints, dns } = ask(server, Method::POST, "/api/v1/rounds", None).await?;
        // What surrounds the round: the server's and the enforcers' problems.
        let around: Snapshot = ask(server, Method::GET, "/api/v1/state", None).await?;
        Ok(Snapshot { round, cells, endpoints, dns, ..around })
    };
    let late = |_| Error::Late { url: server.server.clone(), after: timeout };
    tokio::time::timeout(timeout, both).await.map_err(late)?
}

/// Asks for something.
pub(super) async fn ask<T: DeserializeOwned>(
    server: &ServerEntry,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<T, Error> {
    let body = send(server, method, path, body).await?;
    serde_json::from_slice(&body).map_err(|source| Error::Answer { url: format!("{}{path}", server.server), source })
}

/// Sends a request, and gives back the body of the answer.
pub(super) async fn send(
    server: &ServerEntry,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<Bytes, Error> {
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
    server: &ServerEntry,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<(String, Response<Incoming>), Error> {
    let url = format!("{}{path}", server.server);
    let wrong = || Error::Url(server.server.clone());
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let (is_tls, port) = match uri.scheme_str() {
        Some("http") => (false, 80),
        Some("https") => (true, 443),
        Some(_) | None => return Err(wrong()),
    };
    let authority = uri.authority().ok_or_else(wrong)?;
    let address = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(port));
    let stream =
        TcpStream::connect(address).await.map_err(|source| Error::Connect { url: server.server.clone(), source })?;
    let stream: Box<dyn Stream> =
        if is_tls { Box::new(secured(server, address.0, stream).await?) } else { Box::new(stream) };
    let broken = |source: Box<dyn std::error::Error + Send + Sync>| Error::Broken { url: url.clone(), source };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(error.into()))?;
    // It ends with the answer; its error shows there.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, authority.as_str())
        .header(CONTENT_TYPE, "application/json")
        .header(AUTHORIZATION, format!("Bearer {}", server.token))
        .body(Full::new(Bytes::from(body.unwrap_or_default())))
        .map_err(|error| broken(error.into()))?;
    let answer = sender.send_request(request).await.map_err(|error| broken(error.into()))?;
    Ok((url, answer))
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// TLS, trusting whom the entry names and nobody else.
async fn secured(
    server: &ServerEntry,
    host: &str,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Error> {
    let distrust = |why: String| Error::Trust { url: server.server.clone(), why };
    let pem = server.authority.as_ref().ok_or_else(|| distrust("no certificates are named".to_owned()))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| distrust(error.to_string()))?;
        roots.add(certificate).map_err(|error| distrust(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(distrust("the file holds no certificate".to_owned()));
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| distrust(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::Url(server.server.clone()))?;
    let connected = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map_err(|source| Error::Tls { url: server.server.clone(), source })
}
