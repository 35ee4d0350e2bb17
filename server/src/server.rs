//! The wiring.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::objects::Kind;
use crate::cluster::watch::watch as watch_kind;
use crate::config::Config;
use crate::error::Error;
use crate::feed::{CountVerdicts, KernelFeed};
use crate::http::App;
use crate::http::security::Gate;
use crate::hub::Hub;
use crate::lesson::Lesson;
use crate::nodes::{self, Registry};
use crate::run::{Inputs, Runner};

/// Messages that wait between two tasks at most.
const QUEUE: usize = 4_096;

/// A server that runs.
pub struct Server {
    address: SocketAddr,
    streams_address: Option<SocketAddr>,
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
    client: kube::Client,
    kernel: Option<KernelFeed>,
    shutdown: CancellationToken,
) -> Result<Server, Error> {
    if config.token.is_empty() {
        return Err(Error::NoToken);
    }
    let not_ours = |source| Error::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(not_ours)?;
    let address = listener.local_addr().map_err(not_ours)?;
    let token = config.token.clone();
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
    let mut streams = match config.streams.clone() {
        Some(streams) => Some(nodes::start(streams, client.clone(), shutdown.clone()).await?),
        None => None,
    };
    tasks.extend(streams.iter_mut().flat_map(|streams| std::mem::take(&mut streams.tasks)));
    let streams_address = streams.as_ref().map(|streams| streams.address);
    let registry = streams.as_ref().map(|streams| streams.registry.clone());
    let counts = all_counts(counts, registry.clone());
    let app = App {
        hub: hub.clone(),
        client: client.clone(),
        lesson: lesson.clone(),
        asks: asks_sender,
        counts,
        gate: Arc::new(Gate::new(token.clone(), address)),
        followers: Arc::new(Semaphore::new(config.max_followers)),
        first_round: first_round.clone(),
        shutdown: shutdown.clone(),
    };
    let runner = Runner::new(config, client, hub, lesson, words_sender, first_round_sender).with_streams(registry);
    let inputs = Inputs { changes, asks, kernel, nodes: streams.map(|streams| streams.news) };
    tasks.push(tokio::spawn(runner.run(inputs, words, shutdown.clone())));
    tasks.push(tokio::spawn(async move {
        let ended = axum::serve(listener, crate::http::router(app).into_make_service())
            .with_graceful_shutdown(async move { shutdown.cancelled().await });
        if let Err(error) = ended.await {
            tracing::error!(%error, "the page can no longer be served");
        }
    }));
    tracing::info!(%address, "serving");
    Ok(Server { address, streams_address, token, first_round, tasks })
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
