//! All streams: who speaks for whom, and what can be asked of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use signalbox_api::kernel::{EnforcerStatus, FlowEvent, VerdictCount};
use signalbox_api::probe::{Request, Response};
use signalbox_api::stream::{Order, Role};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Orders that a stream may lag behind.
const ORDERS: usize = 256;
/// Answers of a probe agent that whoever asked may lag behind.
const LINES: usize = 1_024;
/// Verdicts that whoever waits for some may lag behind.
const FLOWS: usize = 4_096;
/// How long a node may take for its counts.
const COUNTS_WAIT: Duration = Duration::from_secs(2);

/// What a stream tells of a node's enforcer.
#[derive(Debug)]
pub struct News {
    /// The node.
    pub node: String,
    /// Of which stream: what an older one says is void.
    pub epoch: u64,
    /// What.
    pub said: Said,
}

/// What.
#[derive(Debug)]
pub enum Said {
    /// An enforcer of this version connected.
    Connected(String),
    /// Its condition.
    Status(Box<EnforcerStatus>),
    /// Verdicts, and how many are in none.
    Flows(Vec<FlowEvent>, u64),
    /// How long an answer took, in microseconds.
    RoundTrip(u64),
    /// Nothing is heard of it any more. Why.
    Lost(String),
    /// It has ended, and enforces no more.
    Ended,
}

/// What a probe agent at the other end of a stream says.
#[derive(Debug)]
pub enum Told {
    /// It wrote lines.
    Lines(Vec<Response>),
    /// It has ended, or could not be started.
    Ended(String),
}

/// All streams.
#[derive(Debug)]
pub struct Registry {
    news: mpsc::Sender<News>,
    flows: broadcast::Sender<FlowEvent>,
    streams: Mutex<BTreeMap<Who, Stream>>,
    /// How many verdicts of each node's enforcer have come or were left out, and when its process began.
    positions: Mutex<BTreeMap<String, (u64, u64)>>,
    next: AtomicU64,
}

/// For whom a stream speaks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A node.
    Node(String),
    /// A host outside the cluster.
    Host(String),
}

impl From<&Role> for Who {
    fn from(role: &Role) -> Self {
        match role {
            Role::Enforcer { node } => Self::Node(node.clone()),
            Role::Outside { host } => Self::Host(host.clone()),
        }
    }
}

#[derive(Debug)]
struct Stream {
    epoch: u64,
    orders: mpsc::Sender<Order>,
    replaced: CancellationToken,
    counts: BTreeMap<u64, oneshot::Sender<Result<Vec<VerdictCount>, String>>>,
    sessions: BTreeMap<u64, mpsc::Sender<Told>>,
}

/// A stream's place among the others.
pub struct Place {
    /// Its number: larger than that of every stream before.
    pub epoch: u64,
    /// What it is asked.
    pub orders: mpsc::Receiver<Order>,
    /// Another one speaks for the same now.
    pub replaced: CancellationToken,
}

/// A probe agent at the other end of a stream.
pub struct Remote {
    session: u64,
    orders: mpsc::Sender<Order>,
    /// What it says.
    pub told: mpsc::Receiver<Told>,
}

impl Remote {
    /// Writes to it.
    ///
    /// # Errors
    /// Where the stream is gone.
    pub async fn send(&self, lines: Vec<Request>) -> Result<(), String> {
        let order = Order::Lines { session: self.session, lines };
        self.orders.send(order).await.map_err(|_closed| "its stream ended".to_owned())
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // A stream that is full or gone ends its agents with itself.
        let _gone = self.orders.try_send(Order::End { session: self.session });
    }
}

impl Registry {
    /// No stream yet. `news`: who listens.
    pub fn new(news: mpsc::Sender<News>) -> Self {
        let flows = broadcast::channel(FLOWS).0;
        Self { news, flows, streams: Mutex::default(), positions: Mutex::default(), next: AtomicU64::new(1) }
    }

    /// A stream speaks for somebody from now on, in the place of one before.
    pub fn enter(&self, who: Who) -> Place {
        let epoch = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, orders) = mpsc::channel(ORDERS);
        let replaced = CancellationToken::new();
        let stream = Stream {
            epoch,
            orders: sender,
            replaced: replaced.clone(),
            counts: BTreeMap::new(),
            sessions: BTreeMap::new(),
        };
        if let Some(old) = self.lock().insert(who, stream) {
            old.replaced.cancel();
        }
        Place { epoch, orders, replaced }
    }

    /// A stream has ended. Gives back whether it spoke for them to the end.
    pub fn leave(&self, who: &Who, epoch: u64) -> bool {
        let mut streams = self.lock();
        let is_its_own = streams.get(who).is_some_and(|stream| stream.epoch == epoch);
        if is_its_own {
            streams.remove(who);
        }
        is_its_own
    }

    /// Passes on what a node's enforcer says. `false`: the server ends.
    pub async fn tell(&self, node: &str, epoch: u64, said: Said) -> bool {
        if let Said::Flows(events, _) = &said
            && self.flows.receiver_count() > 0
        {
            for event in events {
                // Whoever listened may have gone meanwhile.
                let _nobody = self.flows.send(event.clone());
            }
        }
        self.news.send(News { node: node.to_owned(), epoch, said }).await.is_ok()
    }

    /// Verdicts came from a node: `count` of them, after `before` others since its process began. Gives back how many were left out since
    /// those that came before, over whichever stream. What fell before this server heard of the node first is not counted.
    pub fn advance(&self, node: &str, started_us: u64, before: u64, count: u64) -> u64 {
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        let position = positions.entry(node.to_owned()).or_insert((started_us, before));
        if position.0 != started_us {
            *position = (started_us, 0);
        }
        let left_out = before.saturating_sub(position.1);
        position.1 = position.1.max(before.saturating_add(count));
        left_out
    }

    /// Counts came.
    pub fn counted(&self, who: &Who, id: u64, counts: Result<Vec<VerdictCount>, String>) {
        let waiting = self.lock().get_mut(who).and_then(|stream| stream.counts.remove(&id));
        if let Some(waiting) = waiting {
            // Whoever asked may have gone.
            let _gone = waiting.send(counts);
        }
    }

    /// A probe agent said something.
    pub fn said(&self, who: &Who, session: u64, told: Told) {
        let is_end = matches!(told, Told::Ended(_));
        let mut streams = self.lock();
        let Some(stream) = streams.get_mut(who) else { return };
        let is_lost = stream.sessions.get(&session).is_some_and(|told_to| told_to.try_send(told).is_err());
        if is_lost || is_end {
            // Whoever does not keep up sees the end of its channel, and starts again.
            stream.sessions.remove(&session);
        }
    }

    /// All nodes' verdicts from now on.
    pub fn flows(&self) -> broadcast::Receiver<FlowEvent> {
        self.flows.subscribe()
    }

    /// Whether somebody is connected.
    pub fn has(&self, who: &Who) -> bool {
        self.lock().contains_key(who)
    }

    /// Starts a probe agent at the other end of a stream: on the host itself, or in a pod's network namespace.
    ///
    /// # Errors
    /// Where there is no such stream, or it does not keep up.
    pub fn probe(&self, who: &Who, pod: Option<String>) -> Result<Remote, String> {
        let mut streams = self.lock();
        let stream = streams.get_mut(who).ok_or_else(|| match who {
            Who::Node(node) => format!("the enforcer of node {node} is not connected"),
            Who::Host(host) => format!("nobody has joined as {host}: run `signalbox join --name {host}` there"),
        })?;
        let session = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, told) = mpsc::channel(LINES);
        let order = Order::Probe { session, pod };
        stream.orders.try_send(order).map_err(|_full| "its stream does not keep up".to_owned())?;
        stream.sessions.insert(session, sender);
        Ok(Remote { session, orders: stream.orders.clone(), told })
    }

    /// The counts of all nodes that are connected.
    ///
    /// # Errors
    /// Where a node does not tell: a sum without it would be wrong.
    pub async fn counts(&self) -> Result<Vec<VerdictCount>, String> {
        let mut asked = Vec::new();
        for (who, stream) in self.lock().iter_mut() {
            let Who::Node(node) = who else { continue };
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            let (answer, answered) = oneshot::channel();
            stream.orders.try_send(Order::Counts { id }).map_err(|_full| format!("{node} does not keep up"))?;
            stream.counts.retain(|_, waiting| !waiting.is_closed());
            stream.counts.insert(id, answer);
            asked.push((node.clone(), answered));
        }
        let mut all = Vec::new();
        let deadline = tokio::time::Instant::now() + COUNTS_WAIT;
        for (node, answered) in asked {
            let counts = match tokio::time::timeout_at(deadline, answered).await {
                Ok(Ok(counts)) => counts.map_err(|why| format!("{node}: {why}"))?,
                Ok(Err(_closed)) => return Err(format!("{node}: its stream ended")),
                Err(_late) => return Err(format!("{node} does not answer")),
            };
            all.extend(counts);
        }
        Ok(all)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Who, Stream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
