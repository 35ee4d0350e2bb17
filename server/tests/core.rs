//! The core without clock or socket: what goes in, what comes out.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use signalbox_api::cell::{Agreement, Cell, CellKey, Evidence, Outcome, SpecFact};
use signalbox_api::flow::{Decision, Direction, Protocol};
use signalbox_api::kernel::{EnforcerStatus, FlowEvent};
use signalbox_api::probe::{Request, Response};
use signalbox_api::state::Event;
use signalbox_server::matrix::Now;
use signalbox_server::matrix::core::{Command, Core, Difference, Options};
use signalbox_server::matrix::model::{Model, Place, Target, Vantage};
use signalbox_server::matrix::parse::Run;
use signalbox_server::matrix::rounds::Catch;

const X: &str = "pod:a/x";
const Y: &str = "pod:a/y";
const LOCAL: &str = "10.244.0.5:40000";
const BACKEND: &str = "10.244.0.9:9000";

fn at(tick: u64) -> Now {
    Now { tick, wall_ms: 1_000_000 + tick }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn spec(decision: Option<Decision>) -> SpecFact {
    SpecFact { decision, summary: String::new(), sides: Vec::new(), unknown: Vec::new() }
}

fn key() -> CellKey {
    CellKey { from: X.to_owned(), to: Y.to_owned(), port: 9000, protocol: Protocol::Tcp }
}

/// `x` connects to `y`; both are vantage points.
fn model(decision: Option<Decision>) -> Model {
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
        spec: spec(decision),
    };
    Model {
        vantages: BTreeMap::from([
            (X.to_owned(), vantage("x", "10.244.0.5", "1")),
            (Y.to_owned(), vantage("y", "10.244.0.9", "1")),
        ]),
        targets: BTreeMap::from([(key(), target)]),
        complete: true,
        ..Model::default()
    }
}

fn options() -> Options {
    Options { interval_ms: 5_000, probe_timeout_ms: 1_000, settle_ms: 1_000, first_round_wait_ms: 5_000 }
}

struct Bench {
    core: Core,
    commands: Vec<Command>,
    epochs: BTreeMap<String, u64>,
}

impl Bench {
    /// Both agents are up, and the first round has started.
    fn started(decision: Decision) -> Self {
        let mut bench = Self { core: Core::new(options()), commands: Vec::new(), epochs: BTreeMap::new() };
        bench.model(model(Some(decision)), None, 0);
        bench.hello(X, 1);
        bench.hello(Y, 1);
        bench.advance(10);
        bench
    }

    fn model(&mut self, model: Model, policy: Option<Catch>, tick: u64) {
        self.core.model(model, Difference { synced: true, policy }, at(tick));
        self.take();
    }

    fn hello(&mut self, at_id: &str, tick: u64) {
        let hello = Response::Hello { version: "1".to_owned(), protocols: vec![Protocol::Tcp] };
        self.line(at_id, hello, tick);
    }

    fn line(&mut self, at_id: &str, line: Response, tick: u64) {
        let epoch = self.epochs.get(at_id).copied().unwrap_or(0);
        self.core.agent_line(at_id, epoch, line, at(tick));
        self.take();
    }

    fn advance(&mut self, tick: u64) {
        self.core.advance(at(tick));
        self.take();
    }

    fn take(&mut self) {
        for command in self.core.take_commands() {
            if let Command::StartAgent { at, epoch, .. } = &command {
                self.epochs.insert(at.clone(), *epoch);
            }
            self.commands.push(command);
        }
    }

    /// The ids of the connections that were asked for, newest last.
    fn connects(&self) -> Vec<u64> {
        self.sent()
            .filter_map(|request| if let Request::Connect { id, .. } = request { Some(*id) } else { None })
            .collect()
    }

    fn sent(&self) -> impl Iterator<Item = &Request> {
        self.commands.iter().flat_map(|command| match command {
            Command::Send { requests, .. } => requests.as_slice(),
            _ => &[],
        })
    }

    fn newest(&self) -> u64 {
        *self.connects().last().expect("a probe was sent")
    }

    fn begins(&mut self, id: u64, tick: u64) {
        self.line(X, Response::Started { id, local: address(LOCAL), remote: address(BACKEND) }, tick);
    }

    fn done(&mut self, id: u64, outcome: Outcome, evidence: Evidence, tick: u64) {
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

    fn judged(&mut self, decision: Decision, tick: u64) {
        let event = FlowEvent {
            node: "lab".to_owned(),
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

    fn cell(&self) -> Cell {
        self.core.cells().next().expect("one cell").clone()
    }

    fn outcome(&self) -> Option<Outcome> {
        self.cell().probe.map(|probe| probe.outcome)
    }
}

#[test]
fn the_first_round_waits_for_every_agent_but_not_for_ever() {
    let mut bench = Bench { core: Core::new(options()), commands: Vec::new(), epochs: BTreeMap::new() };
    bench.model(model(Some(Decision::Allowed)), None, 0);
    bench.hello(X, 1);
    bench.advance(10);
    assert!(bench.connects().is_empty(), "y has not said hello");
    bench.hello(Y, 20);
    bench.advance(20);
    assert_eq!(bench.connects().len(), 1);
    assert!(!bench.commands.contains(&Command::FirstRound));
    let id = bench.newest();
    bench.done(id, Outcome::Open, Evidence::Answer, 21);
    assert!(bench.commands.contains(&Command::FirstRound));

    let mut bench = Bench { core: Core::new(options()), commands: Vec::new(), epochs: BTreeMap::new() };
    bench.model(model(Some(Decision::Allowed)), None, 0);
    bench.hello(X, 1);
    bench.advance(4_999);
    assert!(bench.connects().is_empty());
    bench.advance(5_000);
    assert_eq!(bench.connects().len(), 1, "the wait is bounded");
}

#[test]
fn a_denied_packet_ends_its_probe_at_once() {
    let mut bench = Bench::started(Decision::Denied);
    let id = bench.newest();
    bench.begins(id, 11);
    bench.judged(Decision::Denied, 12);
    assert!(bench.sent().any(|request| *request == Request::Dropped { id }));
    bench.done(id, Outcome::Dropped, Evidence::KernelEvent, 13);
    let cell = bench.cell();
    assert_eq!(cell.agreement, Agreement::Agree);
    assert_eq!(cell.kernel.map(|fact| fact.decision), Some(Decision::Denied));
    let flows = bench.core.take_events().into_iter().find_map(|event| match event {
        Event::Flows(flows) => Some(flows),
        _ => None,
    });
    assert_eq!(flows.expect("a pulse")[0].stopped_at, Some(Direction::Ingress));
}

#[test]
fn an_event_before_the_agent_tells_its_port_ends_the_probe_too() {
    let mut bench = Bench::started(Decision::Denied);
    let id = bench.newest();
    bench.judged(Decision::Denied, 11);
    bench.begins(id, 12);
    assert!(bench.sent().any(|request| *request == Request::Dropped { id }));
}

#[test]
fn a_late_event_completes_the_cell() {
    let mut bench = Bench::started(Decision::Allowed);
    let id = bench.newest();
    bench.begins(id, 11);
    bench.done(id, Outcome::Open, Evidence::Answer, 12);
    assert!(bench.cell().kernel.is_none());
    bench.judged(Decision::Allowed, 13);
    assert_eq!(bench.cell().kernel.map(|fact| fact.decision), Some(Decision::Allowed));
}

#[test]
fn a_contradiction_becomes_a_disagreement_only_once_the_change_has_settled() {
    let mut bench = Bench::started(Decision::Denied);
    let mut tick = 11;
    let mut seen = Vec::new();
    for _ in 0..40 {
        let id = bench.newest();
        bench.done(id, Outcome::Open, Evidence::Answer, tick);
        seen.push((tick, bench.cell().agreement));
        if bench.cell().agreement == Agreement::Disagree {
            break;
        }
        let before = bench.connects().len();
        while bench.connects().len() == before {
            tick = bench.core.next_wake(at(tick)).expect("a follow-up").max(tick + 1);
            bench.advance(tick);
        }
    }
    let (when, last) = *seen.last().expect("probes");
    assert_eq!(last, Agreement::Disagree, "{seen:?}");
    assert!((1_010..2_000).contains(&when), "after the settling time, and soon: {seen:?}");
    assert!(seen.iter().rev().skip(1).all(|(_, agreement)| *agreement == Agreement::Unsettled));
}

#[test]
fn a_policy_change_starts_a_round_once_the_enforcer_has_caught_up() {
    let mut bench = Bench::started(Decision::Allowed);
    let status = |version| EnforcerStatus { enforcing: true, policies_version: version, ..EnforcerStatus::default() };
    bench.core.enforcer(status(1), at(11));
    let id = bench.newest();
    bench.done(id, Outcome::Open, Evidence::Answer, 12);
    bench.advance(20);
    let id = bench.newest();
    bench.done(id, Outcome::Open, Evidence::Answer, 21);
    let before = bench.connects().len();
    bench.model(model(Some(Decision::Denied)), Some(Catch::Version(2)), 30);
    bench.advance(40);
    assert_eq!(bench.connects().len(), before, "the enforcer is behind");
    bench.core.enforcer(status(2), at(41));
    bench.advance(41);
    assert_eq!(bench.connects().len(), before + 1);
    let cell = bench.cell();
    assert_eq!(cell.agreement, Agreement::Unsettled, "open by the old rules, denied by the new");
}

#[test]
fn a_refusal_asks_the_peer_whether_it_listens() {
    for (listening, expected) in [(vec![], Outcome::NoListener), (vec![(Protocol::Tcp, 9000)], Outcome::Refused)] {
        let mut bench = Bench::started(Decision::Allowed);
        let id = bench.newest();
        bench.done(id, Outcome::Refused, Evidence::Answer, 11);
        assert_eq!(bench.outcome(), None, "not before the peer has told");
        let control = bench.sent().find_map(|request| match request {
            Request::Control { id, ports } => Some((*id, ports.clone())),
            _ => None,
        });
        let (control, ports) = control.expect("a control probe");
        assert_eq!(ports, [(Protocol::Tcp, 9000)]);
        bench.line(Y, Response::Controlled { id: control, listening }, 12);
        assert_eq!(bench.outcome(), Some(expected));
    }
}

#[test]
fn what_another_pods_agent_says_of_a_probe_is_passed_over() {
    let mut bench = Bench::started(Decision::Denied);
    let id = bench.newest();
    let done = |outcome| Response::Done {
        id,
        outcome,
        evidence: Evidence::Answer,
        latency_us: None,
        peer_name: None,
        seen_source: None,
        detail: None,
    };
    bench.line(Y, done(Outcome::Open), 11);
    assert_eq!(bench.outcome(), None, "y knows nothing of x's probe");
    bench.line(Y, Response::Started { id, local: address(LOCAL), remote: address(BACKEND) }, 11);
    bench.judged(Decision::Denied, 12);
    assert!(!bench.sent().any(|request| *request == Request::Dropped { id }));

    bench.line(X, done(Outcome::Refused), 13);
    let control = bench.sent().find_map(|request| match request {
        Request::Control { id, .. } => Some(*id),
        _ => None,
    });
    let control = control.expect("y is asked whether it listens");
    bench.line(X, Response::Controlled { id: control, listening: Vec::new() }, 14);
    assert_eq!(bench.outcome(), None, "it is y that was asked");
    bench.line(Y, Response::Controlled { id: control, listening: Vec::new() }, 15);
    assert_eq!(bench.outcome(), Some(Outcome::NoListener));
}

#[test]
fn a_kernels_word_on_an_earlier_probe_does_not_stand_for_ever() {
    let mut bench = Bench::started(Decision::Allowed);
    bench.core.enforcer(EnforcerStatus { enforcing: true, ..EnforcerStatus::default() }, at(10));
    let mut tick = 11;
    let mut round = |bench: &mut Bench, told: bool| {
        let id = bench.newest();
        bench.begins(id, tick);
        if told {
            bench.judged(Decision::Allowed, tick);
        }
        bench.done(id, Outcome::Open, Evidence::Answer, tick);
        let cell = bench.cell();
        tick += 6_000;
        bench.advance(tick);
        assert_ne!(bench.newest(), id, "another round");
        (cell.kernel.is_some(), cell.agreement)
    };
    assert_eq!(round(&mut bench, true), (true, Agreement::Agree));
    // Its event may still be under way.
    assert_eq!(round(&mut bench, false), (true, Agreement::Agree));
    assert_eq!(round(&mut bench, false), (false, Agreement::Unsettled), "an old word is no evidence");
    assert_eq!(round(&mut bench, true), (true, Agreement::Agree));
}

#[test]
fn a_second_hello_starts_nothing() {
    let mut bench = Bench::started(Decision::Allowed);
    let id = bench.newest();
    bench.done(id, Outcome::Open, Evidence::Answer, 11);
    let before = bench.connects().len();
    bench.hello(X, 12);
    bench.advance(40);
    assert_eq!(bench.connects().len(), before);
}

#[test]
fn a_service_with_nobody_behind_it_has_no_listener() {
    let mut bench = Bench::started(Decision::Allowed);
    let mut deserted = model(None);
    for target in deserted.targets.values_mut() {
        target.deserted = true;
        target.listeners.clear();
        target.destinations.clear();
    }
    let id = bench.newest();
    bench.model(deserted, None, 11);
    bench.done(id, Outcome::Refused, Evidence::Answer, 12);
    assert_eq!(bench.outcome(), Some(Outcome::NoListener));
    assert_eq!(bench.cell().agreement, Agreement::Unsettled);
}

#[test]
fn which_pod_a_services_connection_went_to() {
    // What the peer called itself, what the kernel told before the end, and what is to be said then.
    let cases =
        [(Some("y"), false, Some(Y)), (Some("stranger"), false, None), (None, true, Some(Y)), (None, false, None)];
    for (peer, kernel, expected) in cases {
        let mut bench = Bench::started(Decision::Allowed);
        let mut service = model(Some(Decision::Allowed));
        service.targets =
            BTreeMap::from([(CellKey { to: "service:a/s".to_owned(), ..key() }, service.targets[&key()].clone())]);
        bench.model(service, None, 20);
        bench.advance(30);
        let id = bench.newest();
        bench.begins(id, 31);
        if kernel {
            bench.judged(Decision::Allowed, 32);
        }
        let (outcome, evidence) = (Outcome::Open, Evidence::Answer);
        let peer_name = peer.map(str::to_owned);
        let (latency_us, seen_source, detail) = (None, None, None);
        bench.line(X, Response::Done { id, outcome, evidence, latency_us, peer_name, seen_source, detail }, 33);
        assert_eq!(bench.cell().probe.and_then(|probe| probe.backend).as_deref(), expected, "{peer:?}, {kernel}");
    }
}

#[test]
fn a_lost_agent_breaks_its_row_and_mends_it_when_it_is_back() {
    let mut bench = Bench::started(Decision::Allowed);
    let id = bench.newest();
    bench.done(id, Outcome::Open, Evidence::Answer, 11);
    let epoch = bench.epochs[X];
    bench.core.agent_down(X, epoch, "gone".to_owned(), at(20));
    bench.take();
    let cell = bench.cell();
    assert_eq!(cell.probe.as_ref().and_then(|probe| probe.detail.as_deref()), Some("gone"));
    assert_eq!(bench.outcome(), Some(Outcome::ProbeBroken));
    assert_eq!(cell.agreement, Agreement::Unsettled);
    bench.core.agent_down(X, epoch + 100, "of another life".to_owned(), at(21));
    bench.hello(X, 30);
    bench.advance(40);
    let id = bench.newest();
    bench.done(id, Outcome::Open, Evidence::Answer, 41);
    assert_eq!(bench.outcome(), Some(Outcome::Open));
}

#[test]
fn a_restarted_container_gets_a_new_agent_and_words_of_the_old_one_are_passed_over() {
    let mut bench = Bench::started(Decision::Allowed);
    let old = bench.epochs[X];
    let mut again = model(Some(Decision::Allowed));
    again.vantages.get_mut(X).expect("x").instance = "2".to_owned();
    bench.model(again, None, 20);
    assert!(bench.epochs[X] > old);
    let id = bench.newest();
    let line = Response::Done {
        id,
        outcome: Outcome::Open,
        evidence: Evidence::Answer,
        latency_us: None,
        peer_name: None,
        seen_source: None,
        detail: None,
    };
    bench.core.agent_line(X, old, line, at(21));
    assert_eq!(bench.outcome(), None);
}

#[test]
fn a_stopped_container_says_so_in_its_row() {
    let mut bench = Bench::started(Decision::Allowed);
    let mut stopped = model(Some(Decision::Allowed));
    stopped.vantages.get_mut(X).expect("x").run = Run::Stopped("its container ended with code 137".to_owned());
    bench.model(stopped, None, 20);
    let detail = bench.cell().probe.and_then(|probe| probe.detail).expect("a reason");
    assert_eq!(detail, "a/x does not run: its container ended with code 137");
    assert!(bench.commands.contains(&Command::StopAgent { at: X.to_owned() }));
}

#[test]
fn an_agent_that_says_nothing_is_broken_not_denied() {
    let mut bench = Bench::started(Decision::Denied);
    bench.advance(10 + 1_000 + 1_500);
    assert_eq!(bench.outcome(), Some(Outcome::ProbeBroken));
}

#[test]
fn a_protocol_without_sockets_is_broken_not_denied() {
    let mut bench = Bench { core: Core::new(options()), commands: Vec::new(), epochs: BTreeMap::new() };
    let mut sctp = model(Some(Decision::Allowed));
    let target = sctp.targets.remove(&key()).expect("the target");
    sctp.targets.insert(CellKey { protocol: Protocol::Sctp, ..key() }, target);
    bench.model(sctp, None, 0);
    bench.hello(X, 1);
    bench.hello(Y, 1);
    bench.advance(10);
    let detail = bench.cell().probe.and_then(|probe| probe.detail).expect("a reason");
    assert_eq!(detail, "this kernel has no sockets for SCTP");
}

#[test]
fn rounds_come_again_and_an_asked_one_is_answered_when_all_is_quiet() {
    let mut bench = Bench::started(Decision::Allowed);
    let id = bench.newest();
    bench.done(id, Outcome::Open, Evidence::Answer, 20);
    bench.core.ask(7, at(100));
    bench.advance(100);
    assert_eq!(bench.connects().len(), 1, "watches get a moment to deliver");
    bench.advance(121);
    assert_eq!(bench.connects().len(), 2);
    assert!(!bench.commands.contains(&Command::Answer { ask: 7 }));
    let id = bench.newest();
    bench.done(id, Outcome::Open, Evidence::Answer, 130);
    bench.advance(130);
    assert!(bench.commands.contains(&Command::Answer { ask: 7 }));
    bench.advance(5_129);
    assert_eq!(bench.connects().len(), 2);
    bench.advance(5_130);
    assert_eq!(bench.connects().len(), 3, "the interval has passed");
}

#[test]
fn since_is_when_decision_or_outcome_changed_last() {
    let mut bench = Bench::started(Decision::Allowed);
    let id = bench.newest();
    bench.done(id, Outcome::Open, Evidence::Answer, 20);
    assert_eq!(bench.cell().since_ms, at(20).wall_ms);
    bench.advance(6_000);
    let id = bench.newest();
    bench.done(id, Outcome::Open, Evidence::Answer, 6_010);
    assert_eq!(bench.cell().since_ms, at(20).wall_ms, "nothing changed");
    bench.model(model(Some(Decision::Denied)), Some(Catch::Version(1)), 7_000);
    assert_eq!(bench.cell().since_ms, at(7_000).wall_ms);
}

#[test]
fn a_pod_that_is_gone_takes_its_cells_with_it() {
    let mut bench = Bench::started(Decision::Allowed);
    bench.core.take_events();
    let mut smaller = model(Some(Decision::Allowed));
    smaller.vantages.remove(X);
    smaller.targets.clear();
    bench.model(smaller, None, 20);
    let events = bench.core.take_events();
    assert!(events.iter().any(|event| matches!(event, Event::CellsGone(keys) if *keys == [key()])), "{events:?}");
    assert!(bench.commands.contains(&Command::StopAgent { at: X.to_owned() }));
}

#[test]
fn where_an_enforcer_is_at_work_nothing_agrees_without_its_word() {
    let mut bench = Bench::started(Decision::Denied);
    bench.core.enforcer(EnforcerStatus { enforcing: true, ..EnforcerStatus::default() }, at(11));
    bench.advance(20);
    let id = bench.newest();
    bench.begins(id, 21);
    bench.done(id, Outcome::Dropped, Evidence::Timeout, 1_030);
    assert_eq!(bench.cell().agreement, Agreement::Unsettled, "a bare time-out may have any cause");
    bench.judged(Decision::Denied, 1_031);
    assert_eq!(bench.cell().agreement, Agreement::Agree);
}

#[test]
fn a_round_waits_for_the_enforcer_to_find_every_pod_but_not_for_ever() {
    let status = |pods| EnforcerStatus { node: "lab".to_owned(), enforcing: true, pods, ..EnforcerStatus::default() };
    for (what, pods, tick, rounds) in
        [("all are found", 2, 12, 1), ("one is missing", 1, 12, 0), ("missing for too long", 1, 5_100, 1)]
    {
        let mut bench = Bench { core: Core::new(options()), commands: Vec::new(), epochs: BTreeMap::new() };
        let enforceable = BTreeMap::from([("lab".to_owned(), 2)]);
        bench.core.enforcer(status(pods), at(0));
        bench.model(Model { enforceable, ..model(Some(Decision::Allowed)) }, None, 0);
        bench.hello(X, 1);
        bench.hello(Y, 1);
        bench.advance(2);
        bench.advance(tick);
        bench.advance(tick + 10);
        assert_eq!(bench.connects().len(), rounds, "{what}");
    }
}
