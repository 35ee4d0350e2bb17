//! Questions to DNS servers that the kernel drops.

use std::collections::BTreeMap;

use signalbox_api::cell::{CellKey, Evidence, Outcome};
use signalbox_api::flow::{Decision, Direction, Protocol};
use signalbox_api::kernel::FlowEvent;
use signalbox_api::probe::{Request, Response};
use signalbox_api::state::{Endpoint, EndpointKind, Event};
use signalbox_server::matrix::core::Command;

use crate::support::*;

/// A question of `x` leaves from here, to the DNS Service.
const PORT: &str = "10.244.0.5:53535";
const SERVER: &str = "10.96.0.10:53";
/// A pod behind that Service.
const DNS_POD: &str = "10.244.0.3:53";
const NAME: &str = "y.example.";

/// `x` asks for a name by itself in each round.
fn bench() -> Bench {
    let mut bench = Bench::new();
    let mut model = model(Some(Decision::Allowed));
    model.dns_names = vec![NAME.to_owned()];
    bench.model(model, None, 0);
    bench.hello(X, 1);
    bench.hello(Y, 1);
    bench.advance(10);
    bench
}

/// What `x` was asked to look up in the newest round.
fn look_up(bench: &Bench) -> u64 {
    let to_x = bench.commands.iter().rev().find_map(|command| match command {
        Command::Send { at, requests } if at == X => {
            requests.iter().find_map(|request| if let Request::Resolve { id, .. } = request { Some(*id) } else { None })
        }
        _ => None,
    });
    to_x.expect("a look-up")
}

fn asking(bench: &mut Bench, from: &str, id: u64, local: &str, tick: u64) {
    bench.line(from, Response::Asking { id, local: address(local), remote: address(SERVER) }, tick);
}

/// The kernel's denial of that question.
fn denial() -> FlowEvent {
    FlowEvent {
        node: "lab".to_owned(),
        decision: Decision::Denied,
        direction: Some(Direction::Egress),
        protocol: Protocol::Udp.into(),
        source: address(PORT),
        destination: address(DNS_POD),
        source_pod: Some("a/x".to_owned()),
        destination_pod: None,
        rule: None,
        isolated_by: Vec::new(),
        reason: None,
        generation: 1,
        at_us: 5,
    }
}

fn told(bench: &mut Bench, event: FlowEvent, tick: u64) {
    bench.core.flow(event, at(tick));
    bench.take();
}

/// What agents were told of dropped questions: whose agent, and of which request and port.
fn dropped(bench: &Bench) -> Vec<(String, u64, String)> {
    let mut all = Vec::new();
    for command in &bench.commands {
        let Command::Send { at, requests } = command else { continue };
        for request in requests {
            if let Request::QuestionDropped { id, local } = request {
                all.push((at.clone(), *id, local.to_string()));
            }
        }
    }
    all
}

fn dns_failed(bench: &mut Bench, id: u64, tick: u64) {
    let done = Response::Done {
        id,
        outcome: Outcome::DnsFailed,
        evidence: Evidence::KernelEvent,
        latency_us: None,
        peer_name: None,
        seen_source: None,
        detail: Some("the question was dropped".to_owned()),
    };
    bench.line(X, done, tick);
}

/// A probe to a name waited for its whole time-out although the kernel had said at once that its question was dropped.
#[test]
fn a_denied_question_ends_the_wait_whichever_is_known_first() {
    for early in [false, true] {
        for connects in [true, false] {
            let mut bench = bench();
            let id = if connects { bench.newest() } else { look_up(&bench) };
            if early {
                told(&mut bench, denial(), 11);
                assert_eq!(dropped(&bench), [], "whose it is, is not known yet");
            }
            asking(&mut bench, X, id, PORT, 12);
            if !early {
                assert_eq!(dropped(&bench), []);
                told(&mut bench, denial(), 13);
            }
            assert_eq!(dropped(&bench), [(X.to_owned(), id, PORT.to_owned())], "early: {early}, connects: {connects}");
            // Once: the other node's kernel has nothing to add.
            told(&mut bench, FlowEvent { node: "other".to_owned(), ..denial() }, 14);
            assert_eq!(dropped(&bench).len(), 1);
            if connects {
                dns_failed(&mut bench, id, 15);
                let cell = bench.cell();
                let fact = cell.probe.expect("a fact");
                assert_eq!((fact.outcome, fact.evidence), (Outcome::DnsFailed, Evidence::KernelEvent));
                assert_eq!(fact.detail.as_deref(), Some("the question was dropped"));
                // It is no word about the connection itself, of which no packet left.
                assert_eq!(cell.kernel, None);
            } else {
                let error = Some("the question was dropped".to_owned());
                bench.line(X, Response::Resolved { id, addresses: vec![], latency_us: 900, error: error.clone() }, 15);
                let facts = bench.core.take_events().into_iter().find_map(|event| match event {
                    Event::Dns(facts) => Some(facts),
                    _ => None,
                });
                let facts = facts.expect("look-ups");
                assert_eq!((facts[0].ok, &facts[0].error), (false, &error));
            }
        }
    }
}

#[test]
fn what_is_not_the_questions_denial_ends_nothing() {
    let at_y = "10.244.0.9:53535";
    let cases = [
        ("allowed", FlowEvent { decision: Decision::Allowed, direction: None, ..denial() }, false),
        ("another pod's with the same port", FlowEvent { source_pod: Some("a/y".to_owned()), ..denial() }, false),
        ("another address, of no known pod", FlowEvent { source_pod: None, source: address(at_y), ..denial() }, false),
        ("another port's", FlowEvent { source: address("10.244.0.5:53536"), ..denial() }, false),
        ("TCP", FlowEvent { protocol: Protocol::Tcp.into(), ..denial() }, false),
        ("to another port", FlowEvent { destination: address("10.244.0.3:9000"), ..denial() }, false),
        ("by the node of the server, which knows the address alone", FlowEvent { source_pod: None, ..denial() }, true),
        ("before translation", FlowEvent { destination: address(SERVER), ..denial() }, true),
        ("mapped", FlowEvent { source_pod: None, source: address("[::ffff:10.244.0.5]:53535"), ..denial() }, true),
    ];
    for (what, event, ours) in cases {
        for early in [false, true] {
            let mut bench = bench();
            let id = bench.newest();
            if early {
                told(&mut bench, event.clone(), 11);
            }
            asking(&mut bench, X, id, PORT, 12);
            if !early {
                told(&mut bench, event.clone(), 13);
            }
            assert_eq!(dropped(&bench).len(), usize::from(ours), "{what}, early: {early}");
        }
    }
}

#[test]
fn a_service_may_translate_the_port_of_its_dns_server_too() {
    let behind = FlowEvent { destination: address("10.244.0.3:5353"), ..denial() };
    for (known, expected) in [(true, 1), (false, 0)] {
        let mut bench = Bench::new();
        let mut model = model(Some(Decision::Allowed));
        if known {
            let service = "service:kube-system/kube-dns";
            let key_of_dns = CellKey { to: service.to_owned(), port: 53, protocol: Protocol::Udp, ..key() };
            let mut target = model.targets[&key()].clone();
            target.destinations = vec![address("10.244.0.3:5353")];
            model.targets.insert(key_of_dns, target);
            model.endpoints.push(endpoint(service, "10.96.0.10"));
        }
        bench.model(model, None, 0);
        bench.hello(X, 1);
        bench.hello(Y, 1);
        bench.advance(10);
        let id = bench.newest();
        asking(&mut bench, X, id, PORT, 12);
        told(&mut bench, behind.clone(), 13);
        assert_eq!(dropped(&bench).len(), expected, "known: {known}");
    }
}

#[test]
fn an_agent_tells_of_its_own_questions_only_and_as_long_as_they_are_open() {
    // Another agent's request; a request that there is not; an address that is another pod's.
    for (from, of, local) in [(Y, 0, PORT), (X, 1_000, PORT), (X, 0, "10.244.0.9:53535")] {
        let mut bench = bench();
        let id = bench.newest() + of;
        asking(&mut bench, from, id, local, 11);
        told(&mut bench, FlowEvent { source_pod: None, source: address(local), ..denial() }, 12);
        told(&mut bench, denial(), 12);
        assert_eq!(dropped(&bench), [], "{from} {of} {local}");
    }
    // Of an agent before this one, and of requests that are done.
    let mut bench = bench();
    let id = bench.newest();
    asking(&mut bench, X, id, PORT, 11);
    dns_failed(&mut bench, id, 12);
    told(&mut bench, denial(), 13);
    let id = look_up(&bench);
    asking(&mut bench, X, id, "10.244.0.5:53536", 14);
    let lost = bench.epochs[X];
    bench.core.agent_down(X, lost, "gone".to_owned(), at(15));
    told(&mut bench, FlowEvent { source: address("10.244.0.5:53536"), ..denial() }, 16);
    assert_eq!(dropped(&bench), []);
}

#[test]
fn a_port_that_another_socket_has_taken_over_is_no_questions_any_more() {
    // A question's by another question of the same agent: the denial is the newer one's.
    let mut bench = bench();
    let (connect, resolve) = (bench.newest(), look_up(&bench));
    asking(&mut bench, X, connect, PORT, 11);
    asking(&mut bench, X, resolve, PORT, 12);
    told(&mut bench, denial(), 13);
    assert_eq!(dropped(&bench), [(X.to_owned(), resolve, PORT.to_owned())]);

    // By the probe itself, once its name is known.
    let mut bench = self::bench();
    let id = bench.newest();
    asking(&mut bench, X, id, PORT, 11);
    bench.line(X, Response::Started { id, local: address(LOCAL), remote: address(BACKEND) }, 12);
    told(&mut bench, denial(), 13);
    assert_eq!(dropped(&bench), []);

    // By a probe over UDP; its denial is its own, and not that of a question which leaves from there later.
    for early in [false, true] {
        let mut bench = Bench::new();
        let mut model = model(Some(Decision::Denied));
        let udp = CellKey { port: 53, protocol: Protocol::Udp, ..key() };
        let mut target = model.targets[&key()].clone();
        (target.port, target.destinations) = (53, vec![address(DNS_POD)]);
        model.targets = BTreeMap::from([(udp, target)]);
        model.dns_names = vec![NAME.to_owned()];
        bench.model(model, None, 0);
        for pod in [X, Y] {
            let protocols = vec![Protocol::Tcp, Protocol::Udp];
            bench.line(pod, Response::Hello { version: "1".to_owned(), protocols }, 1);
        }
        bench.advance(10);
        let (probe, resolve) = (bench.newest(), look_up(&bench));
        asking(&mut bench, X, resolve, PORT, 11);
        if early {
            bench.core.agent_line(
                X,
                bench.epochs[X],
                Response::Resolved { id: resolve, addresses: vec![], latency_us: 1, error: None },
                at(12),
            );
            told(&mut bench, denial(), 12);
        }
        bench.line(X, Response::Started { id: probe, local: address(PORT), remote: address(DNS_POD) }, 13);
        if !early {
            told(&mut bench, denial(), 14);
        }
        assert!(bench.sent().any(|request| *request == Request::Dropped { id: probe }), "early: {early}");
        assert_eq!(dropped(&bench), [], "early: {early}");
    }
}

#[test]
fn a_denial_waits_for_its_question_but_not_for_ever_nor_from_before_it() {
    let mut bench = bench();
    told(&mut bench, denial(), 9);
    let id = bench.newest();
    asking(&mut bench, X, id, PORT, 11);
    assert_eq!(dropped(&bench), [], "the round began at 10");

    let mut bench = self::bench();
    told(&mut bench, denial(), 11);
    bench.advance(2_012);
    let id = bench.newest();
    asking(&mut bench, X, id, PORT, 2_013);
    assert_eq!(dropped(&bench), []);
}

fn endpoint(id: &str, ip: &str) -> Endpoint {
    Endpoint {
        id: id.to_owned(),
        kind: EndpointKind::Service,
        namespace: None,
        name: String::new(),
        workload: String::new(),
        addresses: vec![ip.parse().expect("an address")],
        ports: Vec::new(),
        labels: BTreeMap::new(),
        ready: true,
        vantage: false,
        backends: Vec::new(),
        problem: None,
    }
}
