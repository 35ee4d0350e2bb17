//! The lesson's picture, and what becomes of it.

use super::*;
use serde_json::json;
use signalbox_api::cell::{Evidence, KernelFact, ProbeFact, SpecFact};

fn endpoint(id: &str, ports: &[u16], vantage: bool) -> Endpoint {
    let (kind, path) = id.split_once(':').unwrap();
    let (namespace, name) = path.split_once('/').map_or((None, path), |(namespace, name)| (Some(namespace), name));
    let workload = match namespace {
        Some(namespace) => format!("{namespace}/{}", name.split('-').next().unwrap()),
        None => format!("outside/{name}"),
    };
    serde_json::from_value(json!({
        "id": id, "kind": kind, "namespace": namespace, "name": name, "workload": workload, "addresses": [], "labels": {},
        "ports": ports.iter().map(|port| json!({"port": port, "protocol": "TCP"})).collect::<Vec<_>>(),
        "ready": true, "vantage": vantage,
    }))
    .unwrap()
}

fn open_cell(from: &Endpoint, to: &Endpoint, port: u16) -> Cell {
    Cell {
        key: CellKey { from: from.id.clone(), to: to.id.clone(), port, protocol: Protocol::Tcp },
        probe: Some(ProbeFact {
            outcome: Outcome::Open,
            evidence: Evidence::Answer,
            latency_us: Some(123),
            seen_source: None,
            backend: None,
            detail: None,
            at_ms: 1,
        }),
        spec: Some(SpecFact {
            decision: Some(Decision::Allowed),
            summary: "nobody is isolated".into(),
            sides: Vec::new(),
            unknown: Vec::new(),
        }),
        kernel: Some(KernelFact {
            decision: Decision::Allowed,
            direction: None,
            rule: None,
            isolated_by: Vec::new(),
            generation: 1,
            at_ms: 1,
            nodes: Vec::new(),
        }),
        agreement: Agreement::Agree,
        since_ms: 1,
    }
}

/// The lesson's cluster at step 0: everything open, also what the demo script does not count.
pub(in crate::cli::test) fn lesson() -> Snapshot {
    with_pods(&["pod:frontend/web-1", "pod:backend/dbsvc-1", "pod:backend/extsvc-1"])
}

fn with_pods(pods: &[&str]) -> Snapshot {
    let pods: Vec<_> = pods.iter().map(|id| endpoint(id, &[9000], true)).collect();
    let services = ["service:frontend/web", "service:backend/dbsvc", "service:backend/extsvc"]
        .map(|id| endpoint(id, &[9000], false));
    let outside = [endpoint("outside:database", &[3306], false), endpoint("outside:internet", &[80, 443], false)];
    let users = endpoint("outside:users", &[], true);
    let mut cells = Vec::new();
    for pod in &pods {
        cells.extend(services.iter().map(|service| open_cell(pod, service, 9000)));
        for host in &outside {
            cells.extend(host.ports.iter().map(|port| open_cell(pod, host, port.port)));
        }
        cells.extend(pods.iter().map(|peer| open_cell(pod, peer, 9000)));
    }
    cells.extend(services.iter().map(|service| open_cell(&users, service, 9000)));
    let dns = pods.iter().chain([&users]);
    let dns = dns
        .map(|from| {
            serde_json::from_value(
                json!({"from": from.id, "name": "web.frontend", "ok": true, "latency_us": 400, "at_ms": 1}),
            )
        })
        .collect::<Result<_, _>>()
        .unwrap();
    let endpoints = pods.into_iter().chain(services).chain(outside).chain([users]).collect();
    Snapshot { endpoints, cells, dns, ..Snapshot::default() }
}

#[test]
fn the_lesson_has_eighteen_checks() {
    let report = Report::new(&lesson());
    let pairs: Vec<_> =
        report.checks.iter().map(|check| format!("{} {}:{}", check.from, check.to, check.port)).collect();
    let mut expected = Vec::new();
    for from in ["frontend/web", "backend/dbsvc", "backend/extsvc"] {
        for to in [
            "frontend/web:9000",
            "backend/dbsvc:9000",
            "backend/extsvc:9000",
            "outside/database:3306",
            "outside/internet:80",
        ] {
            expected.push(format!("{from} {to}"));
        }
    }
    for to in ["frontend/web:9000", "backend/dbsvc:9000", "backend/extsvc:9000"] {
        expected.push(format!("outside/users {to}"));
    }
    assert_eq!(pairs, expected);
    assert!(report.agree());
}

#[test]
fn replicas_that_see_the_same_are_one_check() {
    let pods = ["pod:frontend/web-1", "pod:frontend/web-2", "pod:backend/dbsvc-1", "pod:backend/extsvc-1"];
    let mut snapshot = with_pods(&pods);
    assert_eq!(Report::new(&snapshot).checks.len(), 18);
    let slow =
        snapshot.cells.iter_mut().find(|cell| cell.key.from == pods[1] && cell.key.to == "service:backend/dbsvc");
    let probe = slow.unwrap().probe.as_mut().unwrap();
    probe.latency_us = Some(900);
    let slowest = |snapshot: &Snapshot| Report::new(snapshot).checks[1].latency_us;
    assert_eq!(slowest(&snapshot), Some(900));
}

#[test]
fn replicas_that_differ_are_named() {
    let pods = ["pod:frontend/web-1", "pod:frontend/web-2", "pod:backend/dbsvc-1", "pod:backend/extsvc-1"];
    let mut snapshot = with_pods(&pods);
    let cell =
        snapshot.cells.iter_mut().find(|cell| cell.key.from == pods[1] && cell.key.to == "service:backend/dbsvc");
    cell.unwrap().probe.as_mut().unwrap().outcome = Outcome::Dropped;
    let report = Report::new(&snapshot);
    assert_eq!(report.checks.len(), 19);
    let names: Vec<_> =
        report.checks.iter().filter(|check| check.from.contains('-')).map(|check| check.from.as_str()).collect();
    assert_eq!(names, ["frontend/web-1", "frontend/web-2"]);
}

#[test]
fn a_missing_cell_does_not_agree() {
    let mut snapshot = lesson();
    snapshot.cells.retain(|cell| cell.key.from != "outside:users");
    let report = Report::new(&snapshot);
    assert_eq!(report.checks.len(), 18);
    assert!(!report.agree());
    assert_eq!(report.checks[17].why, ["nothing is known of this connection yet"]);
}

#[test]
fn dns_failures_stand_by_themselves() {
    let mut snapshot = lesson();
    (snapshot.dns[0].ok, snapshot.dns[0].error) = (false, Some("no answer".into()));
    let dns = Report::new(&snapshot).dns;
    assert_eq!((dns.resolved, dns.failures), (3, vec!["frontend/web: web.frontend: no answer".to_owned()]));
}
