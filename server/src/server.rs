//! The wiring.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::server::ResolvesServerCert;
use signalbox_api::state::Snapshot;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::access::audit::{Audit, AuditLog};
use crate::access::keeper::Keeper;
use crate::access::proxy::Trust;
use crate::cluster::objects::Kind;
use crate::cluster::watch::watch as watch_kind;
use crate::config::{Config, Vantages};
use crate::error::Error;
use crate::feed::{CountVerdicts, KernelFeed};
use crate::http::App;
use crate::http::listener;
use crate::http::probes::Probes;
use crate::http::security::Gate;
use crate::http::tls::Tls;
use crate::hub::Hub;
use crate::lesson::Lesson;
use crate::nodes::{self, Registry, Streams};
use crate::run::{Inputs, Runner};
use crate::standins::StandIns;
use crate::standins::job::Style;

/// Messages that wait between two tasks at most.
const QUEUE: usize = 4_096;

/// A server that runs.
pub struct Server {
    address: SocketAddr,
    streams_address: Option<SocketAddr>,
    url: String,
    watching: Watching,
}

/// Everything of a server but the listener.
pub struct Watching {
    handle: Handle,
    tasks: Vec<JoinHandle<()>>,
    counts: Option<CountVerdicts>,
    lesson: Arc<Lesson>,
    shutdown: CancellationToken,
}

/// What whoever runs in the same process can ask.
#[derive(Clone)]
pub struct Handle {
    hub: Arc<Hub>,
    asks: mpsc::Sender<oneshot::Sender<()>>,
    stand_ins: StandIns,
    first_round: watch::Receiver<bool>,
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
    let streams = match config.streams.clone() {
        Some(streams) => Some(nodes::start(streams, client.clone(), shutdown.clone()).await?),
        None => None,
    };
    let streams_address = streams.as_ref().map(|streams| streams.address);
    // Without a certificate of its own the page shows that of the streams, which is for the same Service.
    let shared = streams.as_ref().filter(|_| !is_local(&config)).map(|streams| {
        let shown: Arc<dyn ResolvesServerCert> = streams.certificate.clone();
        Tls::from(shown)
    });
    let tls = config.tls.clone().or(shared);
    let clients = keeper.as_ref().and_then(|keeper| keeper.trust()).and_then(Trust::verifier);
    if clients.is_some() && tls.is_none() {
        return Err(Error::ProxyWithoutTls);
    }
    let tls = tls.as_ref().map(|tls| tls.config(clients)).transpose()?;
    let not_ours = |source| Error::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(not_ours)?;
    let address = listener.local_addr().map_err(not_ours)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = match &config.access {
        Access::Loopback => format!("{scheme}://{address}/?token={}", config.token),
        Access::Kubernetes(_) => format!("{scheme}://{address}/"),
    };
    let gate = Arc::new(Gate::new(config.token.clone(), address, config.hosts.clone()));
    let registry = streams.as_ref().map(|streams| streams.registry.clone());
    let probes = Arc::new(Probes::new(config.allow_real_pods, registry, config.probe_timeout));
    let (limits, max_followers) = (config.limits.clone(), config.max_followers);
    let mut watching = watch_with(config, client.clone(), kernel, streams, shutdown.clone());
    let app = App {
        hub: watching.handle.hub.clone(),
        client,
        lesson: watching.lesson.clone(),
        asks: watching.handle.asks.clone(),
        stand_ins: watching.handle.stand_ins.clone(),
        probes,
        counts: watching.counts.clone(),
        gate,
        keeper: keeper.clone(),
        audit,
        body_time: limits.body_time,
        followers: Arc::new(Semaphore::new(max_followers)),
        first_round: watching.handle.first_round.clone(),
        shutdown: shutdown.clone(),
    };
    let router = crate::http::routes::router(app);
    watching.tasks.push(tokio::spawn(listener::serve(listener, router, tls, keeper, limits, shutdown)));
    tracing::info!(%address, "serving");
    Ok(Server { address, streams_address, url, watching })
}

/// Starts watches and prober, and listens nowhere: for one command that asks them itself.
pub fn watch(
    config: Config,
    client: kube::Client,
    kernel: Option<KernelFeed>,
    shutdown: CancellationToken,
) -> Watching {
    watch_with(config, client, kernel, None, shutdown)
}

fn watch_with(
    config: Config,
    client: kube::Client,
    kernel: Option<KernelFeed>,
    streams: Option<Streams>,
    shutdown: CancellationToken,
) -> Watching {
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
    let (questions_sender, questions) = mpsc::channel(QUEUE);
    let (kernel, counts) = match kernel {
        Some(KernelFeed { events, status, counts }) => (Some((events, status)), Some(counts)),
        None => (None, None),
    };
    let registry = streams.as_ref().map(|streams| streams.registry.clone());
    let counts = all_counts(counts, registry.clone());
    let news = streams.map(|streams| {
        tasks.extend(streams.tasks);
        streams.news
    });
    let program = config.probe_command.first().cloned().unwrap_or_default();
    let style = Style { image: config.probe_image.clone(), program };
    let stand_ins = StandIns::new(client.clone(), style, questions_sender);
    if config.vantages == Vantages::Labelled {
        tasks.push(tokio::spawn(stand_ins.clone().run(shutdown.clone())));
    }
    let handle = Handle { hub: hub.clone(), asks: asks_sender, stand_ins, first_round };
    let runner =
        Runner::new(config, client, hub, lesson.clone(), words_sender, first_round_sender).with_streams(registry);
    let inputs = Inputs { changes, asks, questions, kernel, nodes: news };
    tasks.push(tokio::spawn(runner.run(inputs, words, shutdown.clone())));
    Watching { handle, tasks, counts, lesson, shutdown }
}

impl Watching {
    /// What can be asked.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends everything, and removes the stand-ins that are left.
    pub async fn end(self) {
        self.shutdown.cancel();
        self.stopped().await;
    }

    async fn stopped(self) {
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the server ended badly");
            }
        }
    }
}

impl Handle {
    /// The whole picture.
    pub fn snapshot(&self) -> Snapshot {
        self.hub.snapshot(true)
    }

    /// Has a round run, and gives back the picture after it; `None` where the server is ending.
    pub async fn round(&self) -> Option<Snapshot> {
        let (asker, answer) = oneshot::channel();
        self.asks.send(asker).await.ok()?;
        answer.await.ok()?;
        Some(self.snapshot())
    }

    /// Events after `seq`, as JSON, with their numbers; waits for the next one where there is none. `None`: they are no longer
    /// known, or the server is ending.
    pub async fn events(&self, seq: u64) -> Option<Vec<(u64, Arc<str>)>> {
        let mut news = self.hub.follow();
        loop {
            news.borrow_and_update();
            let events = self.hub.after(seq)?;
            if !events.is_empty() {
                return Some(events.into_iter().map(|kept| (kept.seq, kept.json)).collect());
            }
            news.changed().await.ok()?;
        }
    }

    /// Probes in place of pods that have none.
    pub fn stand_ins(&self) -> &StandIns {
        &self.stand_ins
    }

    /// Resolves once the first matrix stands, or the server has ended.
    pub async fn first_round(&self) {
        let mut first_round = self.first_round.clone();
        // An error means that the server ended before.
        let _ended = first_round.wait_for(|done| *done).await;
    }
}

/// The counts of all kernels: of this process's, and of all nodes that are connected.
fn all_counts(here: Option<CountVerdicts>, nodes: Option<Arc<Registry>>) -> Option<CountVerdicts> {
    let Some(nodes) = nodes else { return here };
    Some(Arc::new(move || {
        let (here, nodes) = (here.clone(), nodes.clone());
        Box::pin(async move {
            let mut all = match here {
                Some(here) => here().await?,
                None => Vec::new(),
            };
            all.extend(nodes.counts().await?);
            Ok(all)
        })
    }))
}

/// Whether only this machine reaches the page.
fn is_local(config: &Config) -> bool {
    config.listen.ip().to_canonical().is_loopback()
}

/// What must not be served as it is configured.
fn check(config: &Config) -> Result<(), Error> {
    let is_local = is_local(config);
    let has_certificate = config.tls.is_some() || config.streams.is_some();
    match &config.access {
        Access::Loopback if config.token.is_empty() => Err(Error::NoToken),
        Access::Loopback if !is_local && !config.allow_remote => Err(Error::Exposed(config.listen)),
        Access::Kubernetes(_) if !is_local && !has_certificate => Err(Error::Exposed(config.listen)),
        Access::Kubernetes(kubernetes)
            if (kubernetes.allow_apply || config.allow_real_pods) && config.audit == AuditLog::Off =>
        {
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

    /// Where it takes streams, if it does.
    pub fn streams_addr(&self) -> Option<SocketAddr> {
        self.streams_address
    }

    /// The link that opens the page; with [`Access::Loopback`] it brings the token that lets it change things.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// What whoever runs in the same process can ask.
    pub fn handle(&self) -> &Handle {
        &self.watching.handle
    }

    /// Resolves once the first matrix stands, or the server has ended.
    pub async fn first_round(&self) {
        self.watching.handle.first_round().await;
    }

    /// Resolves once everything has ended.
    pub async fn stopped(self) {
        self.watching.stopped().await;
    }
}
