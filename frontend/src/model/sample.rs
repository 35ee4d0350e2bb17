//! Lesson one's cluster as the server would tell it, for tests.

use std::collections::BTreeMap;

use signalbox_api::cell::{Agreement, Cell, CellKey, Evidence, KernelFact, Outcome, ProbeFact, SideFact, SpecFact};
use signalbox_api::flow::{Decision, Direction, PolicyRef, Protocol};
use signalbox_api::state::{Endpoint, EndpointKind, EndpointPort, NamespaceInfo, PolicyInfo, Snapshot};

fn endpoint(id: &str, kind: EndpointKind, workload: &str, address: &str, ports: &[u16], vantage: bool) -> Endpoint {
    let name = id.rsplit(['/', ':']).next().unwrap_or(id);
    Endpoint {
        id: id.into(),
        kind,
        namespace: (kind != EndpointKind::Outside).then(|| workload.split('/').next().unwrap_or_default().to_owned()),
        name: name.into(),
        workload: workload.into(),
        addresses: vec![address.parse().expect("an address")],
        ports: ports.iter().map(|port| EndpointPort { port: *port, protocol: Protocol::Tcp, name: None }).collect(),
        labels: BTreeMap::new(),
        ready: true,
        vantage,
        backends: Vec::new(),
        problem: None,
    }
}

/// A key for TCP.
pub fn key(from: &str, to: &str, port: u16) -> CellKey {
    CellKey { from: from.into(), to: to.into(), port, protocol: Protocol::Tcp }
}

fn open(key: CellKey) -> Cell {
    Cell {
        key,
        probe: Some(ProbeFact {
            outcome: Outcome::Open,
            evidence: Evidence::Answer,
            latency_us: Some(412),
            seen_source: None,
            backend: None,
            detail: None,
            at_ms: 1,
        }),
        spec: Some(SpecFact {
            decision: Some(Decision::Allowed),
            summary: "No policy selects either side.".into(),
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

fn denied(mut cell: Cell, direction: Direction, namespace: &str, name: &str) -> Cell {
    let policy = PolicyRef { kind: "NetworkPolicy".into(), namespace: Some(namespace.into()), name: name.into() };
    cell.probe = cell.probe.map(|probe| ProbeFact {
        outcome: Outcome::Dropped,
        evidence: Evidence::KernelEvent,
        latency_us: None,
        ..probe
    });
    cell.spec = Some(SpecFact {
        decision: Some(Decision::Denied),
        summary: format!("{direction} is shut by {policy}."),
        sides: vec![SideFact {
            direction,
            decision: Decision::Denied,
            rule: None,
            isolated_by: vec![policy.clone()],
            nearest_miss: None,
        }],
        unknown: Vec::new(),
    });
    cell.kernel = cell.kernel.map(|kernel| KernelFact {
        decision: Decision::Denied,
        direction: Some(direction),
        isolated_by: vec![policy],
        ..kernel
    });
    cell
}

/// web to dbsvc, shut on one side.
pub fn cell_denied(direction: Direction, namespace: &str, name: &str) -> Cell {
    denied(open(key("pod:frontend/web-6d4-aaaaa", "service:backend/dbsvc", 9000)), direction, namespace, name)
}

/// Step 0: everything is open.
pub fn wide_open() -> Snapshot {
    let mut endpoints = Vec::new();
    for (namespace, name, at) in [("frontend", "web", 1), ("backend", "dbsvc", 2), ("backend", "extsvc", 3)] {
        let workload = format!("{namespace}/{name}");
        let pod = format!("pod:{workload}-6d4-aaaaa");
        endpoints.push(endpoint(&pod, EndpointKind::Pod, &workload, &format!("10.244.0.{at}"), &[9000], true));
        let id = format!("service:{workload}");
        let mut service = endpoint(&id, EndpointKind::Service, &workload, &format!("10.96.0.{at}"), &[9000], false);
        service.backends.push(pod);
        endpoints.push(service);
    }
    let outside = EndpointKind::Outside;
    endpoints.push(endpoint("outside:database", outside, "outside/database", "198.51.100.20", &[3306], false));
    endpoints.push(endpoint("outside:internet", outside, "outside/internet", "203.0.113.10", &[80, 443], false));
    endpoints.push(endpoint("outside:users", outside, "outside/users", "198.51.100.100", &[], true));

    let mut cells = Vec::new();
    for from in endpoints.iter().filter(|from| from.vantage) {
        for to in &endpoints {
            let tried = match to.kind {
                EndpointKind::Service => true,
                EndpointKind::Pod => from.kind == EndpointKind::Pod,
                EndpointKind::Outside => from.kind == EndpointKind::Pod,
            };
            for port in to.ports.iter().filter(|_| tried) {
                cells.push(open(key(&from.id, &to.id, port.port)));
            }
        }
    }
    Snapshot {
        seq: 1,
        cluster: "lab".into(),
        version: "0.1.0".into(),
        writable: true,
        namespaces: ["backend", "frontend"]
            .map(|name| NamespaceInfo { name: name.into(), labels: BTreeMap::new() })
            .to_vec(),
        endpoints,
        cells,
        ..Snapshot::default()
    }
}

/// Step 1: nothing is open, a pod to itself by its own address aside.
pub fn zero_trust() -> Snapshot {
    let mut snapshot = wide_open();
    for namespace in ["backend", "frontend"] {
        snapshot.policies.push(PolicyInfo {
            kind: "NetworkPolicy".into(),
            namespace: namespace.into(),
            name: "zero-trust".into(),
            resource_version: "7".into(),
            yaml: "kind: NetworkPolicy\n".into(),
            summary: "all pods: nothing in, DNS out".into(),
            selects: Vec::new(),
            unknown: Vec::new(),
        });
    }
    let cells = std::mem::take(&mut snapshot.cells);
    snapshot.cells = cells
        .into_iter()
        .map(|cell| {
            if cell.key.from == cell.key.to {
                return cell;
            }
            let place = |id: &str| if id.contains("frontend/") { "frontend" } else { "backend" };
            if cell.key.from.starts_with("outside:") {
                let namespace = place(&cell.key.to);
                denied(cell, Direction::Ingress, namespace, "zero-trust")
            } else {
                let namespace = place(&cell.key.from);
                denied(cell, Direction::Egress, namespace, "zero-trust")
            }
        })
        .collect();
    snapshot
}
