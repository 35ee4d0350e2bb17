//! The wiring.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::access::audit::{Audit, AuditLog};
use crate::access::keeper::Keeper;
use crate::access::proxy::Trust;
use crate::cluster::objects::Kind;
use crate::cluster::watch::watch as watch_kind;
use crate::config::Config;
use crate::error::Error;
use crate::feed::KernelFeed;
use crate::http::App;
use crate::http::listener;
use crate::http::security::Gate;
use crate::hub::Hub;
use crate::lesson::Lesson;
use crate::run::{Inputs, Runner};

/// Messages that wait between two tasks at most.
const QUEUE: usize = 4_096;

/// A server that runs.
pub struct Server {
    address: SocketAddr,
    url: String,
    first_round: watch::Receiver<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts watches, prober and listener. Returns as soon as the address is bound; everything ends with `shutdown`.
///
/// # Errors
/// Where the address cannot be bound, a file cannot be read, or others could reach what is not guarded.
pub async fn start(
    config: Config,
    client: kube::Client,
    kernel: Option<KernelFeed>,
    shutdown: CancellationToken,
) -> Result<Server, Error> {
    check(&config)?;
    let audit = Audit::open(&config.audit)?;
    let keeper = match &config.access {
        Access::Loopback => None,
        Access::Kubernetes(kubernetes) => Some(Arc::new(Keeper::new(kubernetes.clone(), client.clone())?)),
    };
    let clients = keeper.as_ref().and_then(|keeper| keeper.trust()).and_then(Trust::verifier);
    if clients.is_some() && config.tls.is_none() {
        return Err(Error::ProxyWithoutTls);
    }
    let tls = config.tls.as_ref().map(|tls| tls.config(clients)).transpose()?;
    let not_ours = |source| Error::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(not_ours)?;
    let address = listener.local_addr().map_err(not_ours)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = match &config.access {
        Access::Loopback => format!("{scheme}://{address}/?token={}", config.token),
        Access::Kubernetes(_) => format!("{scheme}://{address}/"),
    };
    let (first_round_sender, first_round) = watch::channel(false);
    let hub = Arc::new(Hub::new(config.cluster.clone(), first_event()));
    let lesson = Arc::new(Lesson::one());
    let mut tasks = Vec::new();

    let (changes_sender, changes) = mpsc::channel(QUEUE);
    for kind in Kind::ALL {
        tasks.push(tokio::spawn(watch_kind(client.clone(), kind, changes_sender.clone(), shutdown.clone())));
    }
    let (asks_sender, asks) = mpsc::channel(QUEUE);
    let (words_sender, words) = mpsc::channel(QUEUE);
    let (kernel, counts) = match kernel {
        Some(KernelFeed { events, status, counts }) => (Some((events, status)), Some(counts)),
        None => (None, None),
    };
    let app = App {
        hub: hub.clone(),
        client: client.clone(),
        lesson: lesson.clone(),
        asks: asks_sender,
        counts,
        gate: Arc::new(Gate::new(config.token.clone(), address, config.hosts.clone())),
        keeper: keeper.clone(),
        audit,
        body_time: config.limits.body_time,
        followers: Arc::new(Semaphore::new(config.max_followers)),
        first_round: first_round.clone(),
        shutdown: shutdown.clone(),
    };
    let limits = config.limits.clone();
    let runner = Runner::new(config, client, hub, lesson, words_sender, first_round_sender);
    let inputs = Inputs { changes, asks, kernel };
    tasks.push(tokio::spawn(runner.run(inputs, words, shutdown.clone())));
    let router = crate::http::routes::router(app);
    tasks.push(tokio::spawn(listener::serve(listener, router, tls, keeper, limits, shutdown)));
    tracing::info!(%address, "serving");
    Ok(Server { address, url, first_round, tasks })
}

/// What must not be served as it is configured.
fn check(config: &Config) -> Result<(), Error> {
    let is_local = config.listen.ip().to_canonical().is_loopback();
    match &config.access {
        Access::Loopback if config.token.is_empty() => Err(Error::NoToken),
        Access::Loopback if !is_local && !config.allow_remote => Err(Error::Exposed(config.listen)),
        Access::Kubernetes(_) if !is_local && config.tls.is_none() => Err(Error::Exposed(config.listen)),
        Access::Kubernetes(kubernetes) if kubernetes.allow_apply && config.audit == AuditLog::Off => {
            Err(Error::NoAudit)
        }
        Access::Loopback | Access::Kubernetes(_) => Ok(()),
    }
}

/// Beyond every number that an earlier server can have given to an event: it gave fewer than one each microsecond.
fn first_event() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0)
}

impl Server {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The link that opens the page; with [`Access::Loopback`] it brings the token that lets it change things.
    pub fn url(&self) -> String {
        self.url.clone()
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
