//! `agent`: requests in, results out, one JSON object a line.
//!
//! One thread reads the input, and one thread does everything else. A result is written with a blocking call before
//! the agent goes on, so [`Response::Started`] is out before the connection's first packet. Whoever starts an agent
//! must read its output while writing its input.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, BufRead, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use signalbox_api::flow::Protocol;
use signalbox_api::probe::{Request, Response};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::attempt::{Finding, Goal, attempt};
use crate::control;
use crate::ports::Ports;
use crate::questions::Questions;
use crate::resolve::Resolver;
use crate::resolve::exchange::Watch;

/// The longest line that is read.
const LINE_MOST: u64 = 64 * 1024;

/// Lines read ahead.
const READ_AHEAD: usize = 1024;

/// Requests that may wait for their turn. Whatever comes on top is answered with `probe-broken`.
const QUEUE: usize = 100_000;

/// Connections at once, however many files may be open: each takes one of the 28,000 ephemeral ports.
const AT_ONCE: u64 = 16 * 1024;

/// Descriptors kept for standard streams and the event loop.
const RESERVED: u64 = 64;

/// Descriptors that one connection may hold: while its name is resolved, one socket for each family.
const FILES_EACH: u64 = 2;

/// After the end of the input, what is under way gets so much longer.
const DRAIN: Duration = Duration::from_secs(10);

/// Why an agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Whoever started the agent does not listen any more.
    #[error("cannot write results: {0}")]
    Output(#[source] io::Error),
    /// The machine refuses a thread.
    #[error("cannot start the thread that reads requests: {0}")]
    Thread(#[source] io::Error),
}

/// Serves the requests of one stream until it ends.
///
/// Connections that are under way then get to their end, for at most ten seconds. `open_files` bounds how many run at
/// once; the rest wait, and their time starts when their turn comes.
pub async fn run(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    open_files: u64,
) -> Result<(), AgentError> {
    let mut lines = read_lines(input).map_err(AgentError::Thread)?;
    let agent = Arc::new(Agent::new(output, open_files));
    agent.write(&Response::Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocols: crate::system::protocols(),
    });
    let mut tasks = JoinSet::new();
    while let Some(line) = lines.recv().await {
        agent.clone().take(&line, &mut tasks);
        agent.check()?;
        while tasks.try_join_next().is_some() {}
        // What has happened on open sockets comes before the next request: a burst must not lengthen the latencies
        // that are being measured.
        tokio::task::yield_now().await;
    }
    // Too late for them is no error: their asker has gone.
    let _ = tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    agent.check()
}

/// Reads lines in a thread of its own. Standard input may be a pipe, a socket, a file or a terminal, and only a blocking
/// read works on all of them.
fn read_lines(input: impl Read + Send + 'static) -> io::Result<mpsc::Receiver<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    std::thread::Builder::new().name("requests".into()).stack_size(64 * 1024).spawn(move || {
        let mut input = io::BufReader::new(input);
        loop {
            let mut line = Vec::new();
            match input.by_ref().take(LINE_MOST).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if line.len() as u64 == LINE_MOST && !line.ends_with(b"\n") && skip_line(&mut input).is_err() {
                return;
            }
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Throws the rest of a line away without holding it.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let newline = buffer.iter().position(|byte| *byte == b'\n');
        let used = newline.map_or(buffer.len(), |at| at + 1);
        input.consume(used);
        if newline.is_some() || used == 0 {
            return Ok(());
        }
    }
}

struct Agent {
    output: Mutex<Output>,
    turns: Semaphore,
    under_way: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    questions: Questions,
    ports: Ports,
    resolver: Mutex<(Instant, Resolver)>,
}

struct Output {
    sink: Box<dyn Write + Send>,
    failed: Option<io::Error>,
}

impl Agent {
    fn new(output: impl Write + Send + 'static, open_files: u64) -> Self {
        let at_once = (open_files.saturating_sub(RESERVED) / FILES_EACH).clamp(16, AT_ONCE);
        Self {
            output: Mutex::new(Output { sink: Box::new(output), failed: None }),
            turns: Semaphore::new(at_once as usize),
            under_way: Mutex::new(HashMap::new()),
            questions: Questions::default(),
            ports: Ports::default(),
            resolver: Mutex::new((Instant::now(), Resolver::of_system())),
        }
    }

    /// Acts on one line.
    fn take(self: Arc<Self>, line: &[u8], tasks: &mut JoinSet<()>) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let request = match serde_json::from_slice(line) {
            Ok(request) => request,
            Err(error) => return self.reject(line, &error.to_string()),
        };
        match request {
            Request::Connect { id, protocol, host, port, timeout_ms } => {
                let within = Duration::from_millis(timeout_ms.into());
                let cancelled = match self.register(id) {
                    Ok(cancelled) => cancelled,
                    Err(why) => return self.write(&done(id, Finding::broken(why))),
                };
                tasks.spawn(async move { self.connect(id, Goal { protocol, host, port, within }, cancelled).await });
            }
            Request::Resolve { id, name, timeout_ms } => {
                tasks.spawn(async move { self.resolve(id, &name, Duration::from_millis(timeout_ms.into())).await });
            }
            Request::Dropped { id } => {
                // Not there: it ended by itself meanwhile.
                if let Some(cancel) = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&id) {
                    let _ = cancel.send(());
                }
            }
            // Not there: it was answered, or given up, meanwhile.
            Request::QuestionDropped { id, local } => self.questions.dropped(id, local),
            Request::Control { id, ports } => {
                tasks.spawn(async move { self.control(id, &ports).await });
            }
        }
    }

    fn reject(&self, line: &[u8], why: &str) {
        let beginning: String = String::from_utf8_lossy(line).trim_end().chars().take(80).collect();
        self.write(&Response::Rejected { error: format!("{why}: {beginning:?}") });
    }

    fn register(&self, id: u64) -> Result<oneshot::Receiver<()>, &'static str> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.len() >= QUEUE {
            return Err("too many requests wait for their turn");
        }
        match under_way.entry(id) {
            Entry::Occupied(_) => Err("another connection has this id"),
            Entry::Vacant(entry) => {
                let (cancel, cancelled) = oneshot::channel();
                entry.insert(cancel);
                Ok(cancelled)
            }
        }
    }

    async fn connect(&self, id: u64, goal: Goal, cancelled: oneshot::Receiver<()>) {
        let Ok(_turn) = self.turns.acquire().await else { return };
        let resolver = self.resolver();
        let started = |local, remote| {
            self.write(&Response::Started { id, local, remote });
            Ok(())
        };
        let asker = Asker { agent: self, id };
        let finding = tokio::select! {
            biased;
            Ok(()) = cancelled => Finding::dropped_by_kernel(),
            finding = attempt(&goal, &resolver, &asker, started) => finding,
        };
        self.questions.forget(id);
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.write(&done(id, finding));
    }

    async fn resolve(&self, id: u64, name: &str, within: Duration) {
        let Ok(_turn) = self.turns.acquire().await else { return };
        let begun = Instant::now();
        let looked_up = self.resolver().lookup(name, within, &Asker { agent: self, id }).await;
        self.questions.forget(id);
        let latency_us = micros(begun.elapsed());
        let (addresses, error) = match looked_up {
            Ok(addresses) => (addresses, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        self.write(&Response::Resolved { id, addresses, latency_us, error });
    }

    async fn control(&self, id: u64, ports: &[(Protocol, u16)]) {
        let Ok(_turn) = self.turns.acquire().await else { return };
        let listening = control::listening(ports, &self.resolver()).await;
        self.write(&Response::Controlled { id, listening });
    }

    /// The files are read again now and then: a pod's resolv.conf hardly ever changes, but it can.
    fn resolver(&self) -> Resolver {
        let mut resolver = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        if resolver.0.elapsed() > Duration::from_secs(1) {
            *resolver = (Instant::now(), Resolver::of_system());
        }
        resolver.1.clone()
    }

    fn write(&self, response: &Response) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        if output.failed.is_some() {
            return;
        }
        let line = serde_json::to_vec(response).map_err(io::Error::other).and_then(|mut line| {
            line.push(b'\n');
            output.sink.write_all(&line)?;
            output.sink.flush()
        });
        output.failed = line.err();
    }

    fn check(&self) -> Result<(), AgentError> {
        match self.output.lock().unwrap_or_else(PoisonError::into_inner).failed.take() {
            Some(error) => Err(AgentError::Output(error)),
            None => Ok(()),
        }
    }
}

/// Tells the server of one request's questions.
struct Asker<'a> {
    agent: &'a Agent,
    id: u64,
}

impl Watch for Asker<'_> {
    fn asking(&self, local: SocketAddr, remote: SocketAddr) -> oneshot::Receiver<()> {
        // Before the line is out: what it is told by may come at once.
        let dropped = self.agent.questions.left(self.id, local);
        self.agent.write(&Response::Asking { id: self.id, local, remote });
        dropped
    }

    fn ports(&self) -> &Ports {
        &self.agent.ports
    }
}

/// The line that tells of a connection's end.
pub fn done(id: u64, finding: Finding) -> Response {
    let Finding { outcome, evidence, latency, greeting, detail } = finding;
    Response::Done {
        id,
        outcome,
        evidence,
        latency_us: latency.map(micros),
        seen_source: greeting.as_ref().map(|greeting| greeting.peer.ip().to_canonical()),
        peer_name: greeting.map(|greeting| greeting.name),
        detail,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
