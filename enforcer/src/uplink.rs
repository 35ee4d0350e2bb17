//! The stream to the server: what this node's kernel decides, and how the enforcer fares.
//!
//! Nothing here can hold up or change enforcement: without a server verdicts are counted and passed over, and the server is
//! tried again.
//!
//! - [`backlog`]: verdicts that wait for the server, and how many could not.
//! - [`dial`]: from an address, an authority and a token to a stream; [`talk`]: one stream, from its hello to its end.

mod backlog;
pub mod dial;
mod talk;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{FutureExt, future::BoxFuture};
use signalbox_api::{
    kernel::{EnforcerStatus, FlowEvent, VerdictCount},
    node::UplinkReport,
    stream::Refusal,
};
use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};
use tokio_util::sync::CancellationToken;

pub use dial::{Authority, CertificateName, DialError, Door, Server, ServerError, Socket, dial};

use crate::{Handle, inside::Inside};
use backlog::Backlog;

/// The first pause before the server is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// For which node is spoken, and to whom.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name.
    pub node: String,
    /// Where the stream leads.
    pub door: Door,
    /// Whether what is enforced stays in force without this process.
    pub enforces_on: bool,
}

/// Asks the kernel for its counts of verdicts. The error is a sentence for people.
pub type CountVerdicts = Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<VerdictCount>, String>> + Send + Sync>;

/// What there is to tell.
pub struct Feed {
    /// Verdicts as they fall.
    pub events: broadcast::Receiver<FlowEvent>,
    /// The enforcer's condition.
    pub status: watch::Receiver<EnforcerStatus>,
    /// The kernel's counts.
    pub counts: CountVerdicts,
    /// Starts probes inside of pods; absent where none may be started.
    pub inside: Option<Inside>,
}

impl From<Handle> for Feed {
    fn from(handle: Handle) -> Self {
        let (events, status) = (handle.events(), handle.status());
        let counts = move || {
            let handle = handle.clone();
            async move { handle.counts().await.map_err(|error| error.to_string()) }.boxed()
        };
        Self { events, status, counts: Arc::new(counts), inside: None }
    }
}

/// Why a stream ended.
#[derive(Debug)]
enum Ended {
    /// It broke, or none could be made. Why.
    Broke(String),
    /// The server does not want it. Why.
    Refused(Refusal, String),
    /// The shutdown.
    Shutdown,
}

/// Starts to report until the shutdown. `client`: for an authority that is kept in the cluster. The second value ends when all is said.
pub fn start(
    config: Config,
    feed: Feed,
    client: kube::Client,
    shutdown: CancellationToken,
) -> (watch::Receiver<UplinkReport>, tokio::task::JoinHandle<()>) {
    let report = UplinkReport {
        server: config.door.server.to_string(),
        since_ms: now_ms(),
        trouble: Some("not tried yet".to_owned()),
        ..UplinkReport::default()
    };
    let (sender, receiver) = watch::channel(report);
    let backlog = Backlog::default();
    let Feed { events, status, counts, inside } = feed;
    tokio::spawn(collect(events, backlog.clone(), shutdown.clone()));
    let uplink = Uplink { config, status, counts, inside, client, backlog, report: sender, started_us: now_us() };
    (receiver, tokio::spawn(uplink.run(shutdown)))
}

/// Puts verdicts where the stream finds them, whether there is one or not.
async fn collect(mut events: broadcast::Receiver<FlowEvent>, backlog: Backlog, shutdown: CancellationToken) {
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.recv() => event,
        };
        match event {
            Ok(event) => backlog.push(event),
            Err(RecvError::Lagged(missed)) => backlog.missed(missed),
            Err(RecvError::Closed) => return,
        }
    }
}

struct Uplink {
    config: Config,
    status: watch::Receiver<EnforcerStatus>,
    counts: CountVerdicts,
    inside: Option<Inside>,
    client: kube::Client,
    backlog: Backlog,
    report: watch::Sender<UplinkReport>,
    started_us: u64,
}

impl Uplink {
    async fn run(self, shutdown: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            let connections = self.report.borrow().connections;
            let ended = self.once(&shutdown).await;
            self.backlog.close();
            let why = match ended {
                Ended::Shutdown => return,
                Ended::Broke(why) => why,
                Ended::Refused(reason, why) => {
                    if reason != Refusal::Ending {
                        // To ask again at once would be answered in the same way.
                        pause = LONGEST_PAUSE;
                    }
                    format!("the server says: {why}")
                }
            };
            if self.report.borrow().connections > connections && pause < LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            let is_news = self.report.borrow().trouble.as_ref() != Some(&why);
            if is_news {
                tracing::warn!(server = %self.config.door.server, why, "no stream to the server; enforcement goes on");
            }
            self.report.send_modify(|report| {
                if report.connected {
                    report.since_ms = now_ms();
                }
                report.connected = false;
                report.trouble = Some(why);
                (report.left_out, report.waiting) = (self.backlog.left_out(), 0);
            });
            // Not all nodes at the same moment.
            let spread = pause.mul_f64(f64::from(u32::try_from(now_us() % 1_000).unwrap_or(0)) / 2_000.0);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause + spread) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(&self, shutdown: &CancellationToken) -> Ended {
        let dialled = tokio::select! {
            () = shutdown.cancelled() => return Ended::Shutdown,
            dialled = dial::dial(&self.config.door, Some(&self.client)) => dialled,
        };
        let (socket, token) = match dialled {
            Ok(dialled) => dialled,
            Err(error) => return Ended::Broke(error.to_string()),
        };
        talk::talk(self, socket, token, shutdown).await
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn now_ms() -> u64 {
    now_us() / 1_000
}
