//! One connection, tried from inside of a pod by the enforcer of its node.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use signalbox_api::cell::{Evidence, KernelFact, NodeGeneration, Outcome, ProbeFact};
use signalbox_api::flow::{Decision, Protocol};
use signalbox_api::kernel::FlowEvent;
use signalbox_api::probe::{Request, Response};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::registry::{Registry, Told, Who};

/// How long the enforcer may take to find the pod and to enter its namespace.
const BEGIN_WAIT: Duration = Duration::from_secs(5);
/// How much longer than the connection itself its answer may take.
const SLACK: Duration = Duration::from_secs(3);
/// How long kernels' words are waited for once a connection has ended.
const WORDS_WAIT: Duration = Duration::from_millis(150);
/// Verdicts that wait for the connection that they may belong to.
const MOST_EARLY: usize = 1_024;
/// The connection's number: it is the only one.
const ID: u64 = 1;

/// A connection to try.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The node of the pod.
    pub node: String,
    /// `namespace/name`.
    pub pod: String,
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// When to give up.
    pub timeout: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where the first packet went; absent where none left.
    pub remote: Option<SocketAddr>,
    /// What the probe saw.
    pub fact: ProbeFact,
    /// What each node's kernel decided on it.
    pub words: Vec<KernelFact>,
}

impl Trial {
    /// Has it tried.
    ///
    /// # Errors
    /// Where the enforcer is not connected, does not start it, or does not answer: a sentence for people.
    pub async fn run(&self, registry: &Registry) -> Result<Found, String> {
        // Before it starts: what the kernel says may come before what the probe says.
        let mut flows = registry.flows();
        let mut remote = registry.probe(&Who::Node(self.node.clone()), Some(self.pod.clone()))?;
        let mut words = Words { pod: &self.pod, protocol: self.protocol, ..Words::default() };
        let mut deadline = Instant::now() + BEGIN_WAIT;
        let mut sent = false;
        let mut dropped = false;
        let done = 'ended: loop {
            tokio::select! {
                told = remote.told.recv() => match told {
                    Some(Told::Lines(lines)) => for line in lines {
                        match line {
                            Response::Hello { .. } if !sent => {
                                sent = true;
                                deadline = Instant::now() + self.timeout + SLACK;
                                remote.send(vec![self.request()]).await?;
                            }
                            Response::Started { id: ID, local, remote } => words.start(local, remote),
                            Response::Done { id: ID, outcome, evidence, latency_us, seen_source, detail, .. } => {
                                let at_ms = now_ms();
                                break 'ended ProbeFact { outcome, evidence, latency_us, seen_source, backend: None, detail, at_ms };
                            }
                            Response::Rejected { error } => return Err(format!("the enforcer of node {} refuses: {error}", self.node)),
                            Response::Hello { .. } | Response::Started { .. } | Response::Asking { .. } | Response::Done { .. } | Response::Resolved { .. } | Response::Controlled { .. } => {}
                        }
                    },
                    Some(Told::Ended(why)) => return Err(why),
                    None => return Err(format!("the stream of the enforcer of node {} ended", self.node)),
                },
                event = flows.recv() => match event {
                    Ok(event) => words.take(event),
                    // What was missed may be missing below; nothing is concluded from that.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Err("the server ends".to_owned()),
                },
                () = tokio::time::sleep_until(deadline) => {
                    return Err(format!("the enforcer of node {} does not answer in time", self.node));
                }
            }
            if words.denial().is_some() && !dropped {
                dropped = true;
                remote.send(vec![Request::Dropped { id: ID }]).await?;
            }
        };
        let until = Instant::now() + WORDS_WAIT;
        while words.way.is_some()
            && let Ok(Ok(event)) = tokio::time::timeout_at(until, flows.recv()).await
        {
            words.take(event);
        }
        Ok(words.found(done))
    }

    fn request(&self) -> Request {
        let timeout_ms = u32::try_from(self.timeout.as_millis()).unwrap_or(u32::MAX);
        Request::Connect { id: ID, protocol: self.protocol, host: self.host.clone(), port: self.port, timeout_ms }
    }
}

/// What kernels say of the connection.
struct Words<'a> {
    pod: &'a str,
    protocol: Protocol,
    /// Source and destination, before any translation; absent until the agent tells.
    way: Option<(SocketAddr, SocketAddr)>,
    early: VecDeque<FlowEvent>,
    by_node: BTreeMap<String, FlowEvent>,
}

impl Default for Words<'_> {
    fn default() -> Self {
        Self { pod: "", protocol: Protocol::Tcp, way: None, early: VecDeque::new(), by_node: BTreeMap::new() }
    }
}

impl Words<'_> {
    fn start(&mut self, local: SocketAddr, remote: SocketAddr) {
        self.way = Some((local, remote));
        for event in std::mem::take(&mut self.early) {
            self.take(event);
        }
    }

    fn take(&mut self, event: FlowEvent) {
        let Some((local, _)) = self.way else {
            if self.early.len() >= MOST_EARLY {
                self.early.pop_front();
            }
            self.early.push_back(event);
            return;
        };
        // Its port is no other connection's as long as it lives, so where to it went behind a Service need not be known.
        let is_its_port = event.protocol.transport() == Some(self.protocol) && event.source.port() == local.port();
        let is_its_pod = match &event.source_pod {
            Some(pod) => pod == self.pod,
            None => event.source.ip().to_canonical() == local.ip().to_canonical(),
        };
        let has_denied = |known: &FlowEvent| known.decision == Decision::Denied;
        if is_its_port && is_its_pod && !self.by_node.get(&event.node).is_some_and(has_denied) {
            self.by_node.insert(event.node.clone(), event);
        }
    }

    fn denial(&self) -> Option<&FlowEvent> {
        self.by_node.values().find(|event| event.decision == Decision::Denied)
    }

    fn found(self, mut fact: ProbeFact) -> Found {
        if fact.outcome == Outcome::Dropped && self.denial().is_some() {
            fact.evidence = Evidence::KernelEvent;
            fact.detail = None;
        }
        let to = self.by_node.values().find_map(|event| event.destination_pod.clone());
        fact.backend = to.map(|pod| format!("pod:{pod}"));
        let words = self.by_node.into_values().map(|event| KernelFact {
            decision: event.decision,
            direction: event.direction,
            rule: event.rule,
            isolated_by: event.isolated_by,
            generation: event.generation,
            at_ms: event.at_us / 1_000,
            nodes: vec![NodeGeneration { node: event.node, generation: event.generation }],
        });
        Found { remote: self.way.map(|(_, remote)| remote), fact, words: words.collect() }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(node: &str, source: &str, pod: Option<&str>, decision: Decision) -> FlowEvent {
        FlowEvent {
            node: node.to_owned(),
            decision,
            direction: None,
            protocol: Protocol::Tcp.into(),
            source: source.parse().expect("an address"),
            destination: "10.244.1.9:9000".parse().expect("an address"),
            source_pod: pod.map(str::to_owned),
            destination_pod: None,
            rule: None,
            isolated_by: Vec::new(),
            reason: None,
            generation: 3,
            at_us: 5_000,
        }
    }

    fn silent() -> ProbeFact {
        ProbeFact {
            outcome: Outcome::Dropped,
            evidence: Evidence::Timeout,
            latency_us: None,
            seen_source: None,
            backend: None,
            detail: Some("no answer within 1000 ms".to_owned()),
            at_ms: 1,
        }
    }

    #[test]
    fn a_kernels_word_belongs_to_the_connection_whichever_comes_first_and_no_other_does() {
        use Decision::{Allowed, Denied};
        let (local, remote) = ("10.244.0.2:40000".parse().expect("one"), "10.96.0.7:80".parse().expect("one"));
        let cases: [(&str, Option<&str>, bool); 5] = [
            ("10.244.0.2:40000", Some("a/x"), true),
            ("10.244.0.2:40000", None, true),
            ("10.244.0.2:40001", Some("a/x"), false),
            ("10.244.0.2:40000", Some("a/y"), false),
            ("10.244.0.3:40000", None, false),
        ];
        for (source, pod, ours) in cases {
            for early in [true, false] {
                let mut words = Words { pod: "a/x", ..Words::default() };
                if early {
                    words.take(event("n", source, pod, Denied));
                    assert!(words.denial().is_none(), "whose it is, is not known yet");
                }
                words.start(local, remote);
                if !early {
                    words.take(event("n", source, pod, Denied));
                }
                assert_eq!(words.denial().is_some(), ours, "{source} {pod:?} {early}");
            }
        }
        let mut words = Words { pod: "a/x", ..Words::default() };
        words.start(local, remote);
        for (node, decision) in [("n", Allowed), ("m", Denied), ("m", Allowed)] {
            words.take(event(node, "10.244.0.2:40000", None, decision));
        }
        let found = words.found(silent());
        let decisions: Vec<_> = found.words.iter().map(|word| (word.nodes[0].node.as_str(), word.decision)).collect();
        assert_eq!(decisions, [("m", Denied), ("n", Allowed)], "each node's, and a denial stays");
        assert_eq!((found.fact.evidence, found.fact.detail), (Evidence::KernelEvent, None));
        assert_eq!(found.remote, Some(remote));
    }

    #[test]
    fn silence_alone_stays_weak_evidence() {
        let mut words = Words { pod: "a/x", ..Words::default() };
        words.start("10.244.0.2:40000".parse().expect("one"), "10.96.0.7:80".parse().expect("one"));
        words.take(event("n", "10.244.0.2:40000", Some("a/x"), Decision::Allowed));
        assert_eq!(words.found(silent()).fact, silent());
    }
}
