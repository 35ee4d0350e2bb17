//! The listener: TLS, one path, and a good token before anything else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use signalbox_api::stream::{LONGEST_FRAME, PATH};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StreamsConfig;
use super::authority::{AuthorityError, Shown};
use super::registry::Registry;
use super::session;
use super::token::{Refused, Reviewer};

/// Bytes of a request's head at most.
const HEAD: usize = 32 * 1024;

/// What every connection needs.
pub struct Gate {
    /// Whose a token is.
    pub reviewer: Reviewer,
    /// All streams.
    pub registry: Arc<Registry>,
    /// What can be told.
    pub config: StreamsConfig,
    /// Ends all streams.
    pub shutdown: CancellationToken,
}

/// Whoever is at the other end of a connection, and its place among the others.
#[derive(Clone)]
struct Peer {
    address: SocketAddr,
    slot: Arc<OwnedSemaphorePermit>,
}

/// TLS that shows whatever certificate there is at the time.
///
/// # Errors
/// Never with the provider that is built in.
pub fn tls(shown: Arc<Shown>) -> Result<Arc<rustls::ServerConfig>, AuthorityError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves until the shutdown.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    gate: Arc<Gate>,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let slots = Arc::new(Semaphore::new(gate.config.max_connections));
    let connections = TaskTracker::new();
    let refused = AtomicU64::new(0);
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: those that are open get a moment to close.
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            let so_far = refused.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(%address, refused = so_far, "refused: {} connections are open", gate.config.max_connections);
            continue;
        };
        let peer = Peer { address, slot: Arc::new(slot) };
        connections.spawn(connection(stream, peer, acceptor.clone(), gate.clone()));
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(gate.config.greeting, connections.wait()).await.is_err() {
        tracing::warn!("streams did not end in time");
    }
}

async fn connection(stream: TcpStream, peer: Peer, acceptor: TlsAcceptor, gate: Arc<Gate>) {
    let address = peer.address;
    let (greeting, shutdown) = (gate.config.greeting, gate.shutdown.clone());
    let _without = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(greeting, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%address, %error, "no TLS"),
        Err(_) => return tracing::debug!(%address, "TLS takes too long"),
    };
    let app = axum::Router::new().route(PATH, get(open)).layer(Extension(peer)).with_state(gate);
    let served = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new())
        .http1_only()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(greeting)
        .max_buf_size(HEAD)
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(app))
        .into_owned();
    tokio::select! {
        ended = served => {
            if let Err(error) = ended {
                tracing::debug!(%address, %error, "the connection ended");
            }
        }
        () = shutdown.cancelled() => {}
    }
}

/// `GET /v1/stream`.
async fn open(
    State(gate): State<Arc<Gate>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let address = peer.address;
    let refuse = |code: StatusCode, why: &str| {
        tracing::warn!(%address, why, "a stream is refused");
        (code, format!("{why}\n")).into_response()
    };
    let Some(token) = bearer(&headers) else {
        return refuse(StatusCode::UNAUTHORIZED, "there is no bearer token in the header Authorization");
    };
    let caller = match gate.reviewer.review(token).await {
        Ok(caller) => caller,
        Err(error @ Refused::NotGood(_)) => return refuse(StatusCode::UNAUTHORIZED, &error.to_string()),
        Err(error @ Refused::Unavailable(_)) => return refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    };
    let token = token.to_owned();
    let upgrade = upgrade.max_message_size(LONGEST_FRAME).max_frame_size(LONGEST_FRAME);
    upgrade.on_upgrade(move |socket| async move {
        session::run(socket, caller, token, &gate, address).await;
        drop(peer.slot);
    })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}
