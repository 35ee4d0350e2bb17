//! The core on a cluster where few pods carry the probe, and nobody of Signalbox's enforces: without clock or socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use signalbox_api::cell::{Agreement, CellKey, Evidence, Outcome, SpecFact};
use signalbox_api::flow::{Decision, Protocol};
use signalbox_api::kernel::FlowEvent;
use signalbox_api::probe::{Request, Response};
use signalbox_api::state::{Enforcement, Event};
use signalbox_server::matrix::Now;
use signalbox_server::matrix::core::{Command, Core, Difference, Options};
use signalbox_server::matrix::model::{Model, Place, Target, Vantage};
use signalbox_server::matrix::parse::Run;

const PROBE: &str = "pod:a/probe";
const APP: &str = "pod:a/app";
const LATE: u64 = 60_000;

fn at(tick: u64) -> Now {
    Now { tick, wall_ms: 1_000_000 + tick }
}

fn core() -> Core {
    Core::new(Options { interval_ms: 5_000, probe_timeout_ms: 1_000, settle_ms: 1_000, first_round_wait_ms: 5_000 })
}

fn target(to: SocketAddr, decision: Decision) -> Target {
    Target {
        host: to.ip().to_string(),
        port: to.port(),
        destinations: vec![to],
        listeners: Vec::new(),
        deserted: false,
        answers: false,
        spec: SpecFact { decision: Some(decision), summary: String::new(), sides: Vec::new(), unknown: Vec::new() },
    }
}

/// One pod with a probe tries two ports of one without, and that one is a row, too.
fn model(protocol: Protocol, decisions: [Decision; 2]) -> Model {
    let vantage = Vantage {
        place: Place::Pod { namespace: "a".to_owned(), name: "probe".to_owned(), container: None },
        instance: "1".to_owned(),
        run: Run::Running,
        addresses: vec![[10, 0, 0, 2].into()],
    };
    let mut targets = BTreeMap::new();
    for (port, decision) in [80, 81].into_iter().zip(decisions) {
        for (from, to, ip) in [(PROBE, APP, [10, 0, 0, 1]), (APP, PROBE, [10, 0, 0, 2])] {
            let key = CellKey { from: from.to_owned(), to: to.to_owned(), port, protocol };
            targets.insert(key, target((ip, port).into(), decision));
        }
    }
    Model { vantages: BTreeMap::from([(PROBE.to_owned(), vantage)]), targets, complete: true, ..Model::default() }
}

/// Runs the first rounds until changes have settled; every probe ends as `outcome` says of its port.
fn run(core: &mut Core, model: Model, outcome: impl Fn(u16) -> Outcome) -> Vec<Event> {
    let mut events = Vec::new();
    core.model(model, Difference { synced: true, policy: None }, at(0));
    let mut tick = 1;
    while tick < 20_000 {
        core.advance(at(tick));
        for command in core.take_commands() {
            match command {
                Command::StartAgent { at: id, epoch, .. } => {
                    let protocols = vec![Protocol::Tcp, Protocol::Udp];
                    core.agent_line(&id, epoch, Response::Hello { version: "1".to_owned(), protocols }, at(tick));
                }
                Command::Send { at: id, requests } => {
                    assert_eq!(id, PROBE, "nothing is tried from a pod without a probe");
                    for request in requests {
                        let Request::Connect { id: probe, port, .. } = request else { continue };
                        let done = Response::Done {
                            id: probe,
                            outcome: outcome(port),
                            evidence: Evidence::Timeout,
                            latency_us: None,
                            peer_name: None,
                            seen_source: None,
                            detail: None,
                        };
                        core.agent_line(&id, 1, done, at(tick));
                    }
                }
                Command::StopAgent { .. } | Command::Answer { .. } | Command::FirstRound => {}
            }
        }
        events.extend(core.take_events());
        tick += 50;
    }
    events
}

fn last_enforcement(events: &[Event]) -> Enforcement {
    let told = events.iter().filter_map(|event| if let Event::Enforcement(told) = event { Some(*told) } else { None });
    told.fold(Enforcement::default(), |_, told| told)
}

#[test]
fn that_nobody_enforces_is_said_only_where_probes_show_it() {
    use Decision::{Allowed, Denied};
    let cases = [
        ([Denied, Denied], [Outcome::Open, Outcome::Open], Enforcement::Nobody),
        ([Denied, Allowed], [Outcome::Refused, Outcome::Open], Enforcement::Nobody),
        ([Denied, Denied], [Outcome::Dropped, Outcome::Dropped], Enforcement::Other),
        ([Denied, Denied], [Outcome::Open, Outcome::Dropped], Enforcement::Unknown),
        ([Allowed, Allowed], [Outcome::Open, Outcome::Open], Enforcement::Unknown),
        ([Denied, Denied], [Outcome::ProbeBroken, Outcome::Unreachable], Enforcement::Unknown),
    ];
    for (decisions, outcomes, expected) in cases {
        let mut core = core();
        let of = |port: u16| outcomes[usize::from(port - 80)];
        let events = run(&mut core, model(Protocol::Tcp, decisions), of);
        assert_eq!(last_enforcement(&events), expected, "{decisions:?} {outcomes:?}");
    }
}

#[test]
fn silence_over_udp_of_whoever_need_not_answer_is_no_denial() {
    for (protocol, expected) in [(Protocol::Udp, Outcome::ProbeBroken), (Protocol::Tcp, Outcome::Dropped)] {
        let mut core = core();
        run(&mut core, model(protocol, [Decision::Allowed; 2]), |_| Outcome::Dropped);
        let tried = core.cells().filter(|cell| cell.key.from == PROBE);
        for cell in tried {
            assert_eq!(cell.probe.as_ref().map(|probe| probe.outcome), Some(expected), "{protocol}");
        }
    }
}

#[test]
fn a_pod_without_a_probe_is_judged_and_never_said_to_be_open() {
    let mut core = core();
    run(&mut core, model(Protocol::Tcp, [Decision::Allowed, Decision::Denied]), |_| Outcome::Open);
    let untried: Vec<_> = core.cells().filter(|cell| cell.key.from == APP).collect();
    assert_eq!(untried.len(), 2);
    for cell in untried {
        assert_eq!(cell.probe, None);
        assert!(cell.spec.is_some());
        assert_eq!(cell.agreement, Agreement::Unsettled);
    }
}

#[test]
fn the_kernels_word_on_a_pods_own_traffic_is_in_its_cell() {
    let mut core = core();
    run(&mut core, model(Protocol::Tcp, [Decision::Allowed, Decision::Denied]), |_| Outcome::Open);
    for (port, decision) in [(80, Decision::Denied), (81, Decision::Denied)] {
        let event = FlowEvent {
            node: "n".to_owned(),
            decision,
            direction: None,
            protocol: Protocol::Tcp.into(),
            source: ([10, 0, 0, 1], 40_000).into(),
            destination: ([10, 0, 0, 2], port).into(),
            source_pod: Some("a/app".to_owned()),
            destination_pod: None,
            rule: None,
            isolated_by: Vec::new(),
            reason: None,
            generation: 1,
            at_us: 5,
        };
        core.flow(event, at(LATE));
    }
    let agreement = |port| {
        let cell = core.cells().find(|cell| cell.key.from == APP && cell.key.port == port).expect("it is there");
        (cell.kernel.as_ref().map(|fact| fact.decision), cell.agreement)
    };
    assert_eq!(agreement(80), (Some(Decision::Denied), Agreement::Disagree), "the policies allow it");
    assert_eq!(agreement(81), (Some(Decision::Denied), Agreement::Unsettled), "no probe has tried it");
}

#[test]
fn without_a_pod_to_probe_from_the_first_round_is_over_at_once() {
    let mut core = core();
    let model = Model { complete: true, nothing_to_try: true, ..Model::default() };
    core.model(model, Difference { synced: true, policy: None }, at(0));
    core.advance(at(50));
    assert!(core.take_commands().contains(&Command::FirstRound));
}
