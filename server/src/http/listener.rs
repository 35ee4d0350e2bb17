//! The page's listener: TLS, and how much of it anyone can take up.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::access::keeper::Keeper;
use crate::access::proxy::{Peer, Trust};

/// Bytes of a request's line and headers at most.
const HEAD_BYTES: usize = 64 * 1024;
/// How long open connections are waited for at the end.
const FAREWELL: Duration = Duration::from_secs(10);
/// Between two lines about refused connections.
const COMPLAINT: Duration = Duration::from_secs(5);

/// How much of the listener can be taken up.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Connections from one address at a time. All users behind a proxy have its address.
    pub per_address: usize,
    /// For the TLS handshake; and for all headers of a request, from the moment that the connection waits for one.
    pub head_time: Duration,
    /// For a request's body.
    pub body_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            per_address: 256,
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(20),
        }
    }
}

/// Serves until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<rustls::ServerConfig>>,
    keeper: Option<Arc<Keeper>>,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let rooms = Arc::new(Rooms::new(&limits));
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or the peer is gone already.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(room) = rooms.enter(address.ip()) else { continue };
        let connection = Connection {
            peer: Peer { address, is_proxy: false },
            router: router.clone(),
            keeper: keeper.clone(),
            head_time: limits.head_time,
            shutdown: shutdown.clone(),
        };
        let acceptor = acceptor.clone();
        tasks.spawn(async move {
            connection.run(stream, acceptor).await;
            drop(room);
        });
    }
    tasks.close();
    if tokio::time::timeout(FAREWELL, tasks.wait()).await.is_err() {
        tracing::warn!("connections of the page's were still open at the end");
    }
}

struct Connection {
    peer: Peer,
    router: Router,
    keeper: Option<Arc<Keeper>>,
    head_time: Duration,
    shutdown: CancellationToken,
}

impl Connection {
    async fn run(mut self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        let _small_answers_at_once = stream.set_nodelay(true);
        let Some(acceptor) = acceptor else { return self.http(stream).await };
        let address = self.peer.address;
        match tokio::time::timeout(self.head_time, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let trust = self.keeper.as_ref().and_then(|keeper| keeper.trust());
                let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
                self.peer.is_proxy = trust.is_some_and(|trust: &Trust| trust.is_proxy(certificates));
                self.http(stream).await;
            }
            Ok(Err(error)) => tracing::debug!(%address, %error, "no TLS connection came about"),
            Err(_elapsed) => tracing::info!(%address, "refused: the TLS handshake took too long"),
        }
    }

    /// HTTP/1.1 only: all that a page needs, and nothing that multiplies what one connection can ask for.
    async fn http(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self { peer, router, head_time, shutdown, .. } = self;
        let address = peer.address;
        let service = service_fn(move |request: http::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer.clone());
            // A router is always ready.
            router.clone().call(request)
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_time)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        match ended {
            Ok(()) => {}
            Err(error) if error.is_timeout() => {
                tracing::info!(%address, "refused: the request's headers took too long")
            }
            Err(error) if error.is_parse() => tracing::info!(%address, %error, "refused: this is no request"),
            Err(error) => tracing::debug!(%address, %error, "a connection broke"),
        }
    }
}

/// Room for connections.
struct Rooms {
    all: Arc<Semaphore>,
    most: usize,
    per_address: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
    complaint: Mutex<Complaint>,
}

#[derive(Default)]
struct Complaint {
    last: Option<Instant>,
    unsaid: u64,
}

struct Room {
    rooms: Arc<Rooms>,
    address: IpAddr,
    _one: OwnedSemaphorePermit,
}

impl Rooms {
    fn new(limits: &Limits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.connections)),
            most: limits.connections,
            per_address: limits.per_address,
            taken: Mutex::default(),
            complaint: Mutex::default(),
        }
    }

    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Room> {
        let address = block(address.to_canonical());
        let Ok(one) = self.all.clone().try_acquire_owned() else {
            self.complain(address, &format!("{} connections are open already", self.most));
            return None;
        };
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.entry(address).or_default();
        if *taken >= self.per_address {
            drop(all);
            self.complain(address, &format!("{} connections from that address are open already", self.per_address));
            return None;
        }
        *taken += 1;
        drop(all);
        Some(Room { rooms: self.clone(), address, _one: one })
    }

    /// Says so once in a while: whoever opens connections by the thousand does not fill the log.
    fn complain(&self, address: IpAddr, why: &str) {
        let mut complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        complaint.unsaid += 1;
        if complaint.last.is_none_or(|last| last.elapsed() >= COMPLAINT) {
            tracing::warn!(%address, connections = complaint.unsaid, "refused: {why}");
            *complaint = Complaint { last: Some(Instant::now()), unsaid: 0 };
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut all = self.rooms.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = all.get_mut(&self.address) {
            *taken -= 1;
            if *taken == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// Whoever has one IPv6 address has all of its /64.
fn block(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(wide) => IpAddr::V6((wide.to_bits() & (u128::MAX << 64)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_bounded_by_address_and_in_total_and_free_again() {
        let rooms = Arc::new(Rooms::new(&Limits { connections: 3, per_address: 2, ..Limits::default() }));
        let enter = |address: &str| rooms.enter(address.parse().expect("an address"));
        let first = enter("2001:db8::1");
        let second = enter("2001:db8::2");
        assert!(first.is_some() && second.is_some());
        assert!(enter("2001:db8::3").is_none(), "the same /64");
        let third = enter("192.0.2.1");
        assert!(third.is_some());
        assert!(enter("192.0.2.2").is_none(), "three in total");
        drop(first);
        assert!(enter("192.0.2.2").is_some());
        drop((second, third));
        assert!(rooms.taken.lock().expect("nobody panicked").is_empty());
    }
}
