//! What is left of the picture's parts for one who sees the namespace `a` and its policies, the pods of `b`, and nothing of `c`.

use std::collections::BTreeSet;

use serde_json::json;
use signalbox_api::cell::Cell;
use signalbox_api::kernel::{EnforcerStatus, VerdictCount};
use signalbox_api::rest::ProbeReport;
use signalbox_api::state::{DnsFact, Endpoint, Event, RoundInfo, Snapshot};
use signalbox_server::access::cut::{self, Around};
use signalbox_server::access::view::{Scope, View};

fn view() -> View {
    let only = |names: &[&str]| Scope::Only(names.iter().map(|name| (*name).to_owned()).collect());
    let mut view = View::everything();
    view.policies.values_mut().for_each(|scope| *scope = only(&[]));
    view.policies.insert("NetworkPolicy", only(&["a"]));
    View { namespaces: only(&["a", "b"]), hidden: ["c".to_owned()].into(), ..view }
}

/// One who sees nothing.
fn nobody() -> View {
    View { namespaces: Scope::Only(BTreeSet::new()), ..view() }
}

/// A cell with facts of the policy of a namespace on each side.
fn cell(from: &str, to: &str, policy: &str, difference: &str, unknown: &[&str]) -> Cell {
    let reference = json!({"kind": "NetworkPolicy", "namespace": policy, "name": "p"});
    let rule = json!({"policy": reference, "direction": "egress", "rule": 2, "peer": 1});
    serde_json::from_value(json!({
        "key": {"from": from, "to": to, "port": 80, "protocol": "TCP"},
        "probe": {"outcome": "dropped", "evidence": "timeout", "backend": "pod:c/x", "detail": "asked c/x", "at_ms": 1},
        "spec": {
            "decision": "denied",
            "summary": format!("egress is shut by {policy}/p"),
            "sides": [
                {"direction": "egress", "decision": "allowed", "rule": rule, "isolated_by": [reference]},
                {"direction": "ingress", "decision": "denied", "isolated_by": [reference],
                 "nearest_miss": {"rule": rule, "difference": difference}},
            ],
            "unknown": unknown,
        },
        "kernel": {"decision": "denied", "isolated_by": [reference], "generation": 3, "at_ms": 1},
        "agreement": "agree",
        "since_ms": 1,
    }))
    .expect("a cell")
}

fn cells(cells: Vec<Cell>) -> Vec<Cell> {
    match cut::event(&Event::Cells(cells), &view(), &Around::default()) {
        Some(Event::Cells(cells)) => cells,
        None => Vec::new(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cell_is_seen_where_both_ends_are() {
    for (from, to, seen) in [
        ("pod:a/x", "pod:b/y", true),
        ("pod:a/x", "service:a/y", true),
        ("pod:a/x", "outside:database", true),
        ("pod:a/x", "pod:c/y", false),
        ("pod:c/x", "pod:a/y", false),
        ("pod:c/x", "pod:c/y", false),
        ("pod:c/x", "outside:database", false),
    ] {
        let one = cell(from, to, "a", "", &[]);
        assert_eq!(cells(vec![one.clone()]).len(), usize::from(seen), "{from} {to}");
        let gone = cut::event(&Event::CellsGone(vec![one.key.clone()]), &view(), &Around::default());
        assert_eq!(gone.is_some(), seen, "{from} {to}");
        let flow = json!({"key": one.key, "outcome": "open"});
        let flows = Event::Flows(vec![serde_json::from_value(flow).expect("a pulse")]);
        assert_eq!(cut::event(&flows, &view(), &Around::default()).is_some(), seen, "{from} {to}");
    }
}

#[test]
fn what_a_cell_names_is_left_or_loses_its_name() {
    let own = cell("pod:a/x", "pod:b/y", "a", "the pod b/y has no label", &["NetworkPolicy a/p: spec: not understood"]);
    let left = cells(vec![own.clone()]).remove(0);
    assert_eq!((&left.spec, &left.kernel), (&own.spec, &own.kernel), "nothing of it is hidden");
    let probe = left.probe.expect("a probe");
    assert_eq!((probe.backend, probe.detail.as_deref()), (None, Some("something that you may not see")));

    // They see b's pods, and not its policies.
    let unknown = ["NetworkPolicy b/p: spec: not understood", "Namespace c: labels", "NetworkPolicy a/p: spec"];
    let other = cells(vec![cell("pod:a/x", "pod:b/y", "b", "the pod b/y has no label", &unknown)]).remove(0);
    let text = serde_json::to_string(&other).expect("JSON");
    assert!(!text.contains("b/p") && !text.contains("\"b\"") && !text.contains("Namespace c"), "{text}");
    let spec = other.spec.expect("a spec");
    assert_eq!(spec.decision, Some(signalbox_api::flow::Decision::Denied), "what is decided is told");
    assert_eq!(spec.unknown, ["something that you may not see", "NetworkPolicy a/p: spec"]);
    for side in &spec.sides {
        assert_eq!((side.rule.as_ref(), side.nearest_miss.as_ref()), (None, None));
        assert_eq!(side.isolated_by.len(), 1, "not isolated would be false");
        assert_eq!(side.isolated_by[0].name, "a policy that you may not see");
    }
    assert!(spec.summary.contains("may not see"), "{}", spec.summary);

    let miss = cells(vec![cell("pod:a/x", "pod:b/y", "a", "c/z has the label", &[])]).remove(0);
    assert_eq!(miss.spec.expect("a spec").sides[1].nearest_miss, None, "its text names what is hidden");
}

#[test]
fn names_of_services_are_seen_with_their_namespace() {
    let fact = |from: &str, name: &str| DnsFact {
        from: from.to_owned(),
        name: name.to_owned(),
        ok: true,
        latency_us: 1,
        error: Some("no answer for x.c.svc.cluster.local".to_owned()),
        at_ms: 1,
    };
    for (from, name, seen) in [
        ("pod:a/x", "web.b.svc.cluster.local", true),
        ("pod:a/x", "web.c.svc.cluster.local", false),
        ("pod:c/x", "web.a.svc.cluster.local", false),
        ("pod:a/x", "db.example.com", true),
        ("pod:a/x", "svc.example.com", true),
    ] {
        let Some(Event::Dns(left)) = cut::event(&Event::Dns(vec![fact(from, name)]), &view(), &Around::default())
        else {
            panic!("all facts are told anew");
        };
        assert_eq!(left.len(), usize::from(seen), "{from} {name}");
        assert!(left.iter().all(|fact| fact.error.as_deref() == Some("something that you may not see")));
    }
}

#[test]
fn counts_are_of_ends_that_are_seen() {
    let endpoint: Endpoint = serde_json::from_value(json!({
        "id": "pod:a/x", "kind": "pod", "namespace": "a", "name": "x", "workload": "a/x", "addresses": ["10.0.0.1"],
        "ports": [], "labels": {}, "ready": true, "vantage": true,
    }))
    .expect("an endpoint");
    let count = |source: &str, destination: &str| VerdictCount {
        source: source.to_owned(),
        destination: destination.to_owned(),
        protocol: signalbox_api::flow::IpProtocol::Transport(signalbox_api::flow::Protocol::Tcp),
        port: 80,
        allowed: 1,
        denied: 1,
    };
    for (source, destination, seen) in [
        ("a/x", "b/y", true),
        ("10.0.0.1", "b/y", true),
        ("a/x", "c/y", false),
        ("kube-system/dns", "a/x", false),
        // Perhaps a pod of another node, and of another namespace.
        ("10.0.0.2", "a/x", false),
    ] {
        let left = cut::counts(vec![count(source, destination)], &view(), std::slice::from_ref(&endpoint));
        assert_eq!(left.len(), usize::from(seen), "{source} {destination}");
        assert_eq!(cut::counts(vec![count(source, destination)], &View::everything(), &[]).len(), 1);
    }
}

#[test]
fn rounds_and_enforcers_give_no_counts_away() {
    let round = RoundInfo { number: 4, cells: 900, ..RoundInfo::default() };
    let status = EnforcerStatus {
        node: "n".to_owned(),
        enforcing: true,
        pods: 7,
        problems: vec!["pod c/x: no interface".to_owned()],
        ..EnforcerStatus::default()
    };
    let whole = Snapshot {
        round: round.clone(),
        enforcers: vec![status.clone()],
        problems: vec!["cannot watch pods".to_owned()],
        cells: vec![cell("pod:a/x", "pod:b/y", "a", "", &[]), cell("pod:a/x", "pod:c/y", "a", "", &[])],
        ..Snapshot::default()
    };
    let left = cut::snapshot(whole.clone(), &view(), &Around::default());
    assert_eq!((left.round.cells, left.cells.len(), left.enforcers[0].pods), (1, 1, 0));
    for problems in [&left.problems, &left.enforcers[0].problems] {
        assert_eq!(problems.len(), 1, "that there are some is told");
        assert!(problems[0].contains("may not see"), "{problems:?}");
    }
    let nothing = cut::snapshot(whole.clone(), &nobody(), &Around::default());
    assert!(nothing.enforcers.is_empty() && nothing.problems.is_empty() && nothing.cells.is_empty());
    assert_eq!(cut::snapshot(whole.clone(), &View::everything(), &Around::default()), whole);
    let told = cut::event(&Event::Round(round), &view(), &Around { cells: 12, ..Around::default() });
    assert!(matches!(told, Some(Event::Round(round)) if round.cells == 12));
}

#[test]
fn the_lesson_is_seen_with_the_policies_of_its_namespaces() {
    let whole = Snapshot {
        lesson: vec![
            serde_json::from_value(json!({"number": 0, "title": "", "text": "", "yaml": "", "applied": true}))
                .expect("a step"),
        ],
        ..Snapshot::default()
    };
    for (namespaces, seen) in [(&["a"][..], true), (&["a", "b"], false), (&["c"], false)] {
        let around = Around { lesson: namespaces.iter().map(|name| (*name).to_owned()).collect(), cells: 0 };
        let left = cut::snapshot(whole.clone(), &view(), &around).lesson;
        assert_eq!(left.len(), usize::from(seen), "{namespaces:?}");
    }
}

#[test]
fn a_probe_from_inside_of_a_pod_tells_no_name_of_a_policy_that_is_not_seen() {
    let reference = |namespace: &str| json!({"kind": "NetworkPolicy", "namespace": namespace, "name": "p"});
    let kernel = |namespace: &str| {
        let rule = json!({"policy": reference(namespace), "direction": "ingress", "rule": 0, "peer": 0});
        json!({"decision": "denied", "rule": rule, "isolated_by": [reference(namespace)], "generation": 1, "at_ms": 1})
    };
    let report: ProbeReport = serde_json::from_value(json!({
        "from": "a/x", "node": "n", "to": {"host": "10.0.0.7", "port": 80},
        "probe": {"outcome": "dropped", "evidence": "kernel-event", "backend": "pod:c/x", "detail": "c/x says so", "at_ms": 1},
        "kernels": [kernel("a"), kernel("c")], "elapsed_us": 1,
    }))
    .expect("a report");
    assert_eq!(cut::probe_report(report.clone(), &View::everything()), report);
    let told = cut::probe_report(report, &view());
    assert_eq!(told.kernels.len(), 2, "that a kernel decided is told");
    assert!(told.kernels[0].rule.is_some() && told.kernels[1].rule.is_none(), "{told:?}");
    assert_eq!(told.kernels[1].isolated_by[0].name, "a policy that you may not see");
    assert_eq!((told.probe.backend, told.probe.detail.as_deref()), (None, Some("something that you may not see")));
}
