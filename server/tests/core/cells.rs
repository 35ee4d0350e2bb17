//! What cells show.

use signalbox_api::cell::{Agreement, Evidence, Outcome};
use signalbox_api::flow::{Decision, Protocol};
use signalbox_api::probe::{Request, Response};
use signalbox_api::state::Event;
use signalbox_server::matrix::core::Command;
use signalbox_server::matrix::rounds::Catch;

use crate::support::*;

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
