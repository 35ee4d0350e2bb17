//! When rounds run.

use std::collections::BTreeMap;

use signalbox_api::cell::{Agreement, Evidence, Outcome};
use signalbox_api::flow::Decision;
use signalbox_api::kernel::EnforcerStatus;
use signalbox_server::matrix::core::Command;
use signalbox_server::matrix::model::Model;
use signalbox_server::matrix::rounds::Catch;

use crate::support::*;

#[test]
fn the_first_round_waits_for_every_agent_but_not_for_ever() {
    let mut bench = Bench::new();
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

    let mut bench = Bench::new();
    bench.model(model(Some(Decision::Allowed)), None, 0);
    bench.hello(X, 1);
    bench.advance(4_999);
    assert!(bench.connects().is_empty());
    bench.advance(5_000);
    assert_eq!(bench.connects().len(), 1, "the wait is bounded");
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
            tick = bench.core.next_wake().expect("a follow-up").max(tick + 1);
            bench.advance(tick);
        }
    }
    let (when, last) = *seen.last().expect("probes");
    assert_eq!(last, Agreement::Disagree, "{seen:?}");
    assert!((1_010..2_000).contains(&when), "after the settling time, and soon: {seen:?}");
    assert!(seen.iter().rev().skip(1).all(|(_, agreement)| *agreement == Agreement::Unsettled));
}

/// After a change of policy the round came half a second late, now and then: what the change asked for took longer to do than the round was to
/// be put off, and when to look next was asked for a moment at which its time had passed, though nobody had looked.
#[test]
fn a_round_whose_time_came_while_the_machine_was_busy_is_not_put_off() {
    let mut bench = Bench::started(Decision::Allowed);
    bench.core.enforcer(enforcing("lab", 2), at(11));
    bench.advance(20);
    let before = bench.connects().len();
    bench.model(model(Some(Decision::Denied)), Some(Catch::Version(2)), 30);
    bench.advance(30);
    assert_eq!(bench.connects().len(), before, "changes are gathered");
    // Whatever the clock says by now.
    let next = bench.core.next_wake().expect("a round waits");
    assert!((31..40).contains(&next), "{next}");
    bench.advance(next);
    assert_eq!(bench.connects().len(), before + 1);
    // Where it has been looked at, and the enforcer is still behind, it is not looked at again and again.
    bench.model(model(Some(Decision::Allowed)), Some(Catch::Version(3)), 50);
    bench.advance(60);
    let next = bench.core.next_wake().expect("a round waits");
    assert!(next > 500, "{next}");
}

#[test]
fn a_policy_change_starts_a_round_once_the_enforcer_has_caught_up() {
    let mut bench = Bench::started(Decision::Allowed);
    let status = |version| enforcing("lab", version);
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
fn a_round_waits_for_the_enforcer_to_find_every_pod_but_not_for_ever() {
    let status = |pods| EnforcerStatus { node: "lab".to_owned(), enforcing: true, pods, ..EnforcerStatus::default() };
    for (what, pods, tick, rounds) in
        [("all are found", 2, 12, 1), ("one is missing", 1, 12, 0), ("missing for too long", 1, 5_100, 1)]
    {
        let mut bench = Bench::new();
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
