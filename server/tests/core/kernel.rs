//! What kernels tell of probes.

use std::collections::BTreeMap;

use signalbox_api::cell::{Agreement, CellKey, Evidence, Outcome};
use signalbox_api::flow::{Decision, Direction};
use signalbox_api::probe::{Request, Response};
use signalbox_api::state::Event;

use crate::support::*;

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
fn a_kernels_word_on_an_earlier_probe_does_not_stand_for_ever() {
    let mut bench = Bench::started(Decision::Allowed);
    bench.core.enforcer(enforcing("lab", 0), at(10));
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

/// A probe that had waited its whole time was said to be known by the kernel's event for this very packet: that was the event of the probe before.
#[test]
fn a_kernels_word_on_an_earlier_probe_is_no_evidence_for_this_one() {
    let mut bench = Bench::started(Decision::Denied);
    let id = bench.newest();
    bench.begins(id, 11);
    bench.judged(Decision::Denied, 12);
    bench.done(id, Outcome::Dropped, Evidence::KernelEvent, 13);
    let evidence = |bench: &mut Bench| bench.cell().probe.map(|fact| fact.evidence);
    assert_eq!(evidence(&mut bench), Some(Evidence::KernelEvent));
    bench.advance(6_000);
    let id = bench.newest();
    bench.begins(id, 6_001);
    bench.done(id, Outcome::Dropped, Evidence::Timeout, 7_001);
    assert_eq!(evidence(&mut bench), Some(Evidence::Timeout));
    assert_eq!(
        bench.cell().kernel.map(|fact| fact.decision),
        Some(Decision::Denied),
        "its word stands until the next probe"
    );
    bench.judged(Decision::Denied, 7_002);
    assert_eq!(evidence(&mut bench), Some(Evidence::KernelEvent), "the event of this one came late");
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
fn where_an_enforcer_is_at_work_nothing_agrees_without_its_word() {
    let mut bench = Bench::started(Decision::Denied);
    bench.core.enforcer(enforcing("lab", 0), at(11));
    bench.advance(20);
    let id = bench.newest();
    bench.begins(id, 21);
    bench.done(id, Outcome::Dropped, Evidence::Timeout, 1_030);
    assert_eq!(bench.cell().agreement, Agreement::Unsettled, "a bare time-out may have any cause");
    bench.judged(Decision::Denied, 1_031);
    assert_eq!(bench.cell().agreement, Agreement::Agree);
}
