//! Streams from the nodes' enforcers, and from hosts outside the cluster (docs/adr/0010).
//!
//! - [`config`]: what can be told; [`authority`]: the certificates, and where they are kept.
//! - [`listen`]: the TLS listener; [`token`]: whose a token is; [`bound`]: which node a token is bound to.
//! - [`session`]: one stream; [`registry`]: all of them, and what can be asked of them; [`relay`]: a probe agent at the other end;
//!   [`trial`]: one connection, tried from inside of a pod.

pub mod authority;
pub mod bound;
pub mod config;
pub mod listen;
pub mod registry;
pub mod relay;
pub mod session;
pub mod token;
pub mod trial;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use authority::AuthorityError;
pub use config::StreamsConfig;
pub use registry::{News, Registry, Said};

use crate::error::Error;

/// News that wait for whoever takes them; a stream whose news find no room waits, and its sender counts what it leaves out.
const QUEUE: usize = 1_024;

/// The listener for streams.
pub struct Streams {
    /// Where it listens.
    pub address: SocketAddr,
    /// All streams.
    pub registry: Arc<Registry>,
    /// What they tell.
    pub news: mpsc::Receiver<News>,
    /// The certificate that it shows, which is for the names of the Service.
    pub certificate: Arc<authority::Shown>,
    /// Ends with the shutdown.
    pub tasks: Vec<JoinHandle<()>>,
}

/// Sees to the certificates and starts to listen.
///
/// # Errors
/// Where the certificates can be neither read nor made, or the address cannot be bound.
pub async fn start(config: StreamsConfig, client: kube::Client, shutdown: CancellationToken) -> Result<Streams, Error> {
    let not_ours = |source| Error::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(not_ours)?;
    let address = listener.local_addr().map_err(not_ours)?;
    let authority = authority::Authority::load(client.clone(), &config).await?;
    let (sender, news) = mpsc::channel(QUEUE);
    let registry = Arc::new(Registry::new(sender));
    let certificate = authority.certificate();
    let tls = listen::tls(certificate.clone())?;
    let gate = Arc::new(listen::Gate {
        reviewer: token::Reviewer::new(client),
        registry: registry.clone(),
        config,
        shutdown: shutdown.clone(),
    });
    let tasks = vec![
        tokio::spawn(authority.keep(shutdown.clone())),
        tokio::spawn(listen::serve(listener, tls, gate, shutdown)),
    ];
    tracing::info!(%address, "taking streams");
    Ok(Streams { address, registry, news, certificate, tasks })
}
