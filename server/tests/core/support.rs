//! A core, a cluster of two pods, and what may happen to them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use signalbox_api::cell::{Cell, CellKey, Evidence, Outcome, SpecFact};
use signalbox_api::flow::{Decision, Direction, Protocol};
use signalbox_api::kernel::{EnforcerStatus, FlowEvent};
use signalbox_api::probe::{Request, Response};
use signalbox_server::matrix::Now;
use signalbox_server::matrix::core::{Command, Core, Difference, Options};
use signalbox_server::matrix::model::{Model, Place, Target, Vantage};
use signalbox_server::matrix::parse::Run;
use signalbox_server::matrix::rounds::Catch;

pub const X: &str = "pod:a/x";
pub const Y: &str = "pod:a/y";
pub const LOCAL: &str = "10.244.0.5:40000";
pub const BACKEND: &str = "10.244.0.9:9000";

pub fn at(tick: u64) -> Now {
    Now { tick, wall_ms: 1_000_000 + tick }
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub fn spec(decision: Option<Decision>) -> SpecFact {
    SpecFact { decision, summary: String::new(), sides: Vec::new(), unknown: Vec::new() }
}

pub fn key() -> CellKey {
    CellKey { from: X.to_owned(), to: Y.to_owned(), port: 9000, protocol: Protocol::Tcp }
}

/// `x` connects to `y`; both are vantage points.
pub fn model(decision: Option<Decision>) -> Model {
    let vantage = |name: &str, ip: &str, instance: &str| Vantage {
        place: Place::Pod { namespace: "a".to_owned(), name: name.to_owned(), container: None },
        instance: instance.to_owned(),
        run: Run::Running,
        addresses: vec![ip.parse().expect("an address")],
    };
    let target = Target {
        host: "10.244.0.9".to_owned(),
        port: 9000,
        destinations: vec![address(BACKEND)],
        listeners: vec![(Y.to_owned(), 9000)],
        deserted: false,
        answers: true,
        spec: spec(decision),
    };
    Model {
        vantages: BTreeMap::from([
            (X.to_owned(), vantage("x", "10.244.0.5", "1")),
            (Y.to_owned(), vantage("y", "10.244.0.9", "1")),
        ]),
        targets: BTreeMap::from([(key(), target)]),
        nodes: [X, Y].map(|pod| (pod.to_owned(), "lab".to_owned())).into(),
        complete: true,
        ..Model::default()
    }
}

pub fn options() -> Options {
    Options { interval_ms: 5_000, probe_timeout_ms: 1_000, settle_ms: 1_000, first_round_wait_ms: 5_000 }
}

pub struct Bench {
    pub core: Core,
    pub commands: Vec<Command>,
    pub epochs: BTreeMap<String, u64>,
}

impl Bench {
    pub fn new() -> Self {
        Self { core: Core::new(options()), commands: Vec::new(), epochs: BTreeMap::new() }
    }

    /// Both agents are up, and the first round has started.
    pub fn started(decision: Decision) -> Self {
        let mut bench = Self::new();
        bench.model(model(Some(decision)), None, 0);
        bench.hello(X, 1);
        bench.hello(Y, 1);
        bench.advance(10);
        bench
    }

    pub fn model(&mut self, model: Model, policy: Option<Catch>, tick: u64) {
        self.core.model(model, Difference { synced: true, policy }, at(tick));
        self.take();
    }

    pub fn hello(&mut self, at_id: &str, tick: u64) {
        let hello = Response::Hello { version: "1".to_owned(), protocols: vec![Protocol::Tcp] };
        self.line(at_id, hello, tick);
    }

    pub fn line(&mut self, at_id: &str, line: Response, tick: u64) {
        let epoch = self.epochs.get(at_id).copied().unwrap_or(0);
        self.core.agent_line(at_id, epoch, line, at(tick));
        self.take();
    }

    pub fn advance(&mut self, tick: u64) {
        self.core.advance(at(tick));
        self.take();
    }

    pub fn take(&mut self) {
        for command in self.core.take_commands() {
            if let Command::StartAgent { at, epoch, .. } = &command {
                self.epochs.insert(at.clone(), *epoch);
            }
            self.commands.push(command);
        }
    }

    /// The ids of the connections that were asked for, newest last.
    pub fn connects(&self) -> Vec<u64> {
        self.sent()
            .filter_map(|request| if let Request::Connect { id, .. } = request { Some(*id) } else { None })
            .collect()
    }

    pub fn sent(&self) -> impl Iterator<Item = &Request> {
        self.commands.iter().flat_map(|command| match command {
            Command::Send { requests, .. } => requests.as_slice(),
            _ => &[],
        })
    }

    pub fn newest(&self) -> u64 {
        *self.connects().last().expect("a probe was sent")
    }

    pub fn begins(&mut self, id: u64, tick: u64) {
        self.line(X, Response::Started { id, local: address(LOCAL), remote: address(BACKEND) }, tick);
    }

    pub fn done(&mut self, id: u64, outcome: Outcome, evidence: Evidence, tick: u64) {
        let done = Response::Done {
            id,
            outcome,
            evidence,
            latency_us: None,
            peer_name: None,
            seen_source: None,
            detail: None,
        };
        self.line(X, done, tick);
    }

    /// The kernel of the one node that there is.
    pub fn judged(&mut self, decision: Decision, tick: u64) {
        self.judged_by("lab", decision, tick);
    }

    pub fn judged_by(&mut self, node: &str, decision: Decision, tick: u64) {
        let event = FlowEvent {
            node: node.to_owned(),
            decision,
            direction: (decision == Decision::Denied).then_some(Direction::Ingress),
            protocol: Protocol::Tcp.into(),
            source: address(LOCAL),
            destination: address(BACKEND),
            source_pod: Some("a/x".to_owned()),
            destination_pod: Some("a/y".to_owned()),
            rule: None,
            isolated_by: Vec::new(),
            reason: None,
            generation: 1,
            at_us: 5,
        };
        self.core.flow(event, at(tick));
        self.take();
    }

    pub fn cell(&self) -> Cell {
        self.core.cells().next().expect("one cell").clone()
    }

    pub fn outcome(&self) -> Option<Outcome> {
        self.cell().probe.map(|probe| probe.outcome)
    }
}

/// An enforcer that enforces.
pub fn enforcing(node: &str, version: u64) -> EnforcerStatus {
    EnforcerStatus { node: node.to_owned(), enforcing: true, policies_version: version, ..EnforcerStatus::default() }
}
