//! Several enforcers: whose word counts, whom rounds wait for, and what is left of one that is lost.

use std::collections::BTreeMap;

use signalbox_api::cell::{Agreement, Evidence, NodeGeneration, Outcome};
use signalbox_api::flow::Decision;
use signalbox_api::state::Event;
use signalbox_server::matrix::model::Model;
use signalbox_server::matrix::rounds::Catch;

use crate::support::*;

/// `x` on the node `n1`, `y` on `n2`.
fn two_nodes(decision: Decision) -> Model {
    let nodes = [(X, "n1"), (Y, "n2")].map(|(pod, node)| (pod.to_owned(), node.to_owned()));
    let enforceable = BTreeMap::from([("n1".to_owned(), 1), ("n2".to_owned(), 1)]);
    let node_names = ["n1".to_owned(), "n2".to_owned()].into();
    Model { nodes: nodes.into(), enforceable, node_names, ..model(Some(decision)) }
}

fn status(node: &str, version: u64) -> signalbox_api::kernel::EnforcerStatus {
    signalbox_api::kernel::EnforcerStatus { pods: 1, ..enforcing(node, version) }
}

/// Both agents are up, and the first round has begun; these nodes have enforcers.
fn started(decision: Decision, enforcers: &[&str]) -> Bench {
    let mut bench = Bench::new();
    for node in enforcers {
        bench.core.enforcer_connected(node, "1", at(0));
        bench.core.enforcer(status(node, 1), at(0));
    }
    bench.model(two_nodes(decision), None, 0);
    bench.hello(X, 1);
    bench.hello(Y, 1);
    bench.advance(10);
    bench
}

/// A probe ends as `outcome` after these nodes have said these words.
fn probe(bench: &mut Bench, words: &[(&str, Decision)], outcome: Outcome, tick: u64) -> (Option<Decision>, Agreement) {
    let id = bench.newest();
    bench.begins(id, tick);
    for (node, decision) in words {
        bench.judged_by(node, *decision, tick);
    }
    bench.done(id, outcome, Evidence::Answer, tick);
    let cell = bench.cell();
    (cell.kernel.map(|fact| fact.decision), cell.agreement)
}

/// What is tried, which nodes say what, how the probe ends, and what is to be shown of the kernels and of their agreement.
type Case<'a> = (&'a str, &'a [(&'a str, Decision)], Outcome, Option<Decision>, Agreement);

#[test]
fn a_cell_is_allowed_where_both_nodes_say_so() {
    use Decision::{Allowed, Denied};
    let cases: [Case; 4] = [
        ("both allow", &[("n1", Allowed), ("n2", Allowed)], Outcome::Open, Some(Allowed), Agreement::Agree),
        ("the destination's is silent", &[("n1", Allowed)], Outcome::Open, None, Agreement::Unsettled),
        ("the source's is silent", &[("n2", Allowed)], Outcome::Open, None, Agreement::Unsettled),
        // Spec says allowed here: once that has settled it is a disagreement.
        ("one denies", &[("n1", Allowed), ("n2", Denied)], Outcome::Dropped, Some(Denied), Agreement::Unsettled),
    ];
    for (what, words, outcome, kernel, agreement) in cases {
        let mut bench = started(Allowed, &["n1", "n2"]);
        assert_eq!(probe(&mut bench, words, outcome, 12), (kernel, agreement), "{what}");
    }
    let mut bench = started(Allowed, &["n1", "n2"]);
    probe(&mut bench, &[("n1", Allowed), ("n2", Allowed)], Outcome::Open, 12);
    let nodes = bench.cell().kernel.expect("a fact").nodes;
    let of = |node: &str| NodeGeneration { node: node.to_owned(), generation: 1 };
    assert_eq!(nodes, [of("n1"), of("n2")]);
}

#[test]
fn a_denial_by_either_node_ends_the_probe() {
    for node in ["n1", "n2"] {
        let mut bench = started(Decision::Denied, &["n1", "n2"]);
        let seen = probe(&mut bench, &[(node, Decision::Denied)], Outcome::Dropped, 12);
        assert_eq!(seen, (Some(Decision::Denied), Agreement::Agree), "{node}");
    }
}

#[test]
fn what_a_lost_node_said_is_forgotten_at_once() {
    let both = [("n1", Decision::Allowed), ("n2", Decision::Allowed)];
    let mut bench = started(Decision::Allowed, &["n1", "n2"]);
    assert_eq!(probe(&mut bench, &both, Outcome::Open, 12), (Some(Decision::Allowed), Agreement::Agree));
    bench.core.take_events();
    bench.core.enforcer_lost("n2", "the connection ended".to_owned(), at(20));
    let cell = bench.cell();
    assert_eq!((cell.kernel, cell.agreement), (None, Agreement::Unsettled), "its word is stale");
    let events = bench.core.take_events();
    let told = events.iter().find_map(|event| if let Event::Enforcers(all) = event { Some(all) } else { None });
    let n2 = told.expect("the list is told anew").iter().find(|one| one.node == "n2").expect("it stays in the list");
    assert!(!n2.enforcing);
    assert_eq!(n2.link.as_ref().and_then(|link| link.lost.as_deref()), Some("the connection ended"));
    // Probes go on; n1 alone cannot say that the way is open.
    bench.advance(30);
    let seen = probe(&mut bench, &[("n1", Decision::Allowed)], Outcome::Open, 31);
    assert_eq!(seen, (None, Agreement::Unsettled));
    // It is back: its word counts again.
    bench.core.enforcer_connected("n2", "1", at(40));
    bench.core.enforcer(status("n2", 1), at(41));
    bench.advance(50);
    assert_eq!(probe(&mut bench, &both, Outcome::Open, 51), (Some(Decision::Allowed), Agreement::Agree));
}

#[test]
fn what_a_lost_node_denied_is_not_known_either_but_the_other_ones_denial_stands() {
    for (denies, expected) in [("n1", Some(Decision::Denied)), ("n2", None)] {
        let mut bench = started(Decision::Denied, &["n1", "n2"]);
        probe(&mut bench, &[(denies, Decision::Denied)], Outcome::Dropped, 12);
        bench.core.enforcer_lost("n2", "gone".to_owned(), at(20));
        assert_eq!(bench.cell().kernel.map(|fact| fact.decision), expected, "{denies}");
    }
}

#[test]
fn a_node_without_an_enforcer_leaves_the_kernels_verdict_open_and_the_rest_to_the_probe() {
    let mut bench = started(Decision::Allowed, &["n1"]);
    let seen = probe(&mut bench, &[("n1", Decision::Allowed)], Outcome::Open, 12);
    assert_eq!(seen, (None, Agreement::Agree), "nobody speaks for the destination");
    let mut bench = started(Decision::Denied, &["n1"]);
    let seen = probe(&mut bench, &[("n1", Decision::Denied)], Outcome::Dropped, 12);
    assert_eq!(seen, (Some(Decision::Denied), Agreement::Agree), "one denial is enough");
    let mut bench = started(Decision::Allowed, &["n1"]);
    assert_eq!(probe(&mut bench, &[], Outcome::Open, 12), (None, Agreement::Unsettled), "n1 has not spoken");
}

#[test]
fn an_enforcer_that_ends_in_order_and_enforces_no_more_is_gone() {
    let mut bench = started(Decision::Allowed, &["n1", "n2"]);
    bench.core.enforcer_ended("n2", at(12));
    bench.advance(20);
    assert_eq!(probe(&mut bench, &[("n1", Decision::Allowed)], Outcome::Open, 21), (None, Agreement::Agree));
}

#[test]
fn a_round_waits_for_each_enforcer_and_not_for_one_that_is_lost() {
    let both = [("n1", Decision::Allowed), ("n2", Decision::Allowed)];
    let settled = || {
        let mut bench = started(Decision::Allowed, &["n1", "n2"]);
        probe(&mut bench, &both, Outcome::Open, 12);
        bench.model(two_nodes(Decision::Denied), Some(Catch::Version(2)), 30);
        bench.core.enforcer(status("n1", 2), at(31));
        bench.advance(40);
        bench
    };
    let mut bench = settled();
    assert_eq!(bench.connects().len(), 1, "n2 is behind");
    bench.core.enforcer(status("n2", 2), at(50));
    bench.advance(50);
    assert_eq!(bench.connects().len(), 2);

    let mut bench = settled();
    bench.core.enforcer_lost("n2", "gone".to_owned(), at(50));
    bench.advance(54);
    assert_eq!(bench.connects().len(), 2, "nobody knows when it will be back");

    let mut bench = settled();
    bench.advance(29 + 500);
    assert_eq!(bench.connects().len(), 1);
    bench.advance(31 + 500);
    assert_eq!(bench.connects().len(), 2, "one that lags for long is not waited for");
}

#[test]
fn the_list_says_who_lags_and_since_when() {
    let mut bench = started(Decision::Allowed, &["n1", "n2"]);
    bench.core.take_events();
    let newer = Model { policies_version: 2, ..two_nodes(Decision::Allowed) };
    bench.model(newer, Some(Catch::Version(2)), 30);
    bench.core.enforcer(status("n1", 2), at(31));
    let events = bench.core.take_events();
    let told = events.iter().rev().find_map(|event| if let Event::Enforcers(all) = event { Some(all) } else { None });
    let behind: Vec<(&str, Option<u64>)> = told
        .expect("the list is told anew")
        .iter()
        .map(|one| (one.node.as_str(), one.link.as_ref().and_then(|link| link.behind_since_ms)))
        .collect();
    assert_eq!(behind, [("n1", None), ("n2", Some(at(30).wall_ms))]);
}
