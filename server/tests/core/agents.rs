//! Agents that come, go and lie.

use signalbox_api::cell::{Agreement, CellKey, Evidence, Outcome};
use signalbox_api::flow::{Decision, Protocol};
use signalbox_api::probe::{Request, Response};
use signalbox_server::matrix::core::Command;
use signalbox_server::matrix::parse::Run;

use crate::support::*;

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
    let mut bench = Bench::new();
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
