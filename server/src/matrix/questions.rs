//! Questions to DNS servers that agents wait for, and the kernel's denials of them.
//!
//! A denial names a question by the pod or the address that it left, and its port: as long as a question is open, that port is no other
//! connection's. Where to it went is not compared here: a Service translates that. Denials and the agent's lines come by different
//! ways, so either may be first.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;

use signalbox_api::flow::{Decision, Protocol};
use signalbox_api::kernel::FlowEvent;

/// How long a denial waits for its question.
const KEEP_MS: u64 = 2_000;
/// Denials that wait at most. What is older goes first: most are none of ours.
const MAX_EARLY: usize = 8_192;
/// Questions of one request at most: two kinds of addresses, three servers, five attempts. Of more, the oldest are over.
const MOST_EACH: usize = 32;

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The request that it is for.
    pub id: u64,
    /// Where it leaves from.
    pub source: Source,
    /// The server, before any translation.
    pub remote: SocketAddr,
}

/// A port of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The agent's endpoint id.
    pub at: String,
    /// `namespace/name` of its pod, if it is in one.
    pub pod: Option<String>,
    /// An address of that endpoint, and the port.
    pub local: SocketAddr,
}

impl Source {
    fn is_of(&self, event: &FlowEvent) -> bool {
        let is_its_own = match (&event.source_pod, &self.pod) {
            (Some(event), Some(pod)) => event == pod,
            _ => event.source.ip().to_canonical() == self.local.ip().to_canonical(),
        };
        is_its_own && event.source.port() == self.local.port()
    }
}

/// All that are open, and the denials that wait for theirs.
#[derive(Debug, Default)]
pub struct Questions {
    by_port: HashMap<u16, Vec<Question>>,
    /// The ports of each request, the oldest first.
    ports: HashMap<u64, VecDeque<u16>>,
    /// By source port and number.
    early: BTreeMap<(u16, u64), (u64, FlowEvent)>,
    /// When each of them came, the oldest first; those that found their question are still in here.
    came: VecDeque<(u64, (u16, u64))>,
    next: u64,
}

impl Questions {
    /// A question is about to leave. Whatever had its port before is over.
    pub fn asking(&mut self, question: Question) {
        let (id, port) = (question.id, question.source.local.port());
        self.close(&question.source.at, port);
        self.by_port.entry(port).or_default().push(question);
        let ports = self.ports.entry(id).or_default();
        ports.push_back(port);
        if ports.len() > MOST_EACH
            && let Some(oldest) = ports.pop_front()
        {
            self.remove(oldest, |question| question.id == id);
        }
    }

    /// The question that a denial may be about.
    pub fn of(&self, event: &FlowEvent) -> Option<&Question> {
        if !is_denial(event) {
            return None;
        }
        self.by_port.get(&event.source.port())?.iter().find(|question| question.source.is_of(event))
    }

    /// A denial of no question that is known yet, and of no probe.
    pub fn keep(&mut self, event: FlowEvent, now: u64) {
        if self.came.len() >= MAX_EARLY {
            self.drop_oldest();
        }
        let key = (event.source.port(), self.next);
        self.next += 1;
        self.came.push_back((now, key));
        self.early.insert(key, (now, event));
    }

    /// Takes the denials from a port that came `since` then, and before it was known whose it is.
    pub fn take_early(&mut self, source: &Source, since: u64) -> Vec<FlowEvent> {
        let port = source.local.port();
        let at_port = self.early.range((port, 0)..=(port, u64::MAX)).filter(|(_, (_, event))| source.is_of(event));
        let keys: Vec<_> = at_port.map(|(key, _)| *key).collect();
        let taken = keys.iter().filter_map(|key| self.early.remove(key));
        taken.filter(|(came, _)| *came >= since).map(|(_, event)| event).collect()
    }

    /// A question is answered, or its port is another connection's now.
    pub fn close(&mut self, at: &str, port: u16) {
        self.remove(port, |question| question.source.at == at);
    }

    /// A request is over, and with it its questions.
    pub fn forget(&mut self, id: u64) {
        for port in self.ports.remove(&id).unwrap_or_default() {
            self.remove(port, |question| question.id == id);
        }
    }

    /// Forgets denials that are too old to matter.
    pub fn expire(&mut self, now: u64) {
        while self.came.front().is_some_and(|(at, _)| at + KEEP_MS < now) {
            self.drop_oldest();
        }
    }

    fn remove(&mut self, port: u16, is_over: impl Fn(&Question) -> bool) {
        if let Some(at_port) = self.by_port.get_mut(&port) {
            at_port.retain(|question| !is_over(question));
            if at_port.is_empty() {
                self.by_port.remove(&port);
            }
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, key)) = self.came.pop_front() {
            self.early.remove(&key);
        }
    }
}

/// Whether this may end a question: what was allowed, or is no datagram, does not.
pub fn is_denial(event: &FlowEvent) -> bool {
    event.decision == Decision::Denied && event.protocol.transport() == Some(Protocol::Udp)
}
