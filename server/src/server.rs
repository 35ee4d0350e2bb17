//! The wiring.

use std::net::SocketAddr;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::Error;
use crate::feed::KernelFeed;

/// A server that runs.
pub struct Server {
    address: SocketAddr,
    token: String,
    first_round: watch::Receiver<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts watches, prober and listener. Returns as soon as the address is bound; everything ends with `shutdown`.
///
/// # Errors
/// Where the address cannot be bound, or the token is empty.
pub async fn start(
    config: Config,
    _client: kube::Client,
    _kernel: Option<KernelFeed>,
    _shutdown: CancellationToken,
) -> Result<Server, Error> {
    if config.token.is_empty() {
        return Err(Error::NoToken);
    }
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .map_err(|source| Error::Listen { address: config.listen, source })?;
    let address = listener.local_addr().map_err(|source| Error::Listen { address: config.listen, source })?;
    let (_sender, first_round) = watch::channel(false);
    Ok(Server { address, token: config.token, first_round, tasks: Vec::new() })
}

impl Server {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The link that opens the page and lets it change things.
    pub fn url(&self) -> String {
        format!("http://{}/?token={}", self.address, self.token)
    }

    /// Resolves once the first matrix stands, or the server has ended.
    pub async fn first_round(&self) {
        let mut first_round = self.first_round.clone();
        // An error means that the server ended before.
        let _ended = first_round.wait_for(|done| *done).await;
    }

    /// Resolves once everything has ended.
    pub async fn stopped(self) {
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the server ended badly");
            }
        }
    }
}
