//! The checks of the demo script, made from the server's picture. Pure.
//!
//! Every workload to every Service, every workload to every host outside (to the first port that it lists: 80 for the
//! internet host, which listens on 443, too), and every outside vantage point to every Service.

use std::collections::{BTreeMap, HashMap};

use signalbox_api::cell::{Agreement, Cell, CellKey, Outcome};
use signalbox_api::flow::{Decision, Protocol};
use signalbox_api::state::{Endpoint, EndpointKind, Enforcement, Snapshot};

/// One check.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Check {
    /// `frontend/web`; `frontend/web-5c…` where the pods of a workload differ; `outside/users`.
    pub from: String,
    /// `backend/dbsvc`, `outside/database`.
    pub to: String,
    pub port: u16,
    pub protocol: Protocol,
    /// What the probe saw.
    pub outcome: Option<Outcome>,
    /// What the engine says.
    pub spec: Option<Decision>,
    /// What the kernel decided.
    pub kernel: Option<Decision>,
    /// Of several pods the slowest.
    pub latency_us: Option<u64>,
    pub agreement: Agreement,
    /// Where the facts do not agree: what each says.
    pub why: Vec<String>,
}

/// All checks, and DNS by itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Report {
    pub checks: Vec<Check>,
    pub dns: Dns,
    /// What is wrong with the server's own sight and with the enforcers.
    pub problems: Vec<String>,
}

/// What became of the names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Dns {
    /// Look-ups that were answered: each vantage point asks for some names.
    pub resolved: usize,
    /// The slowest answer.
    pub slowest_us: u64,
    /// `frontend/web: dbsvc.backend: no answer`.
    pub failures: Vec<String>,
}

impl Report {
    /// Reads the server's picture.
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let cells: HashMap<&CellKey, &Cell> = snapshot.cells.iter().map(|cell| (&cell.key, cell)).collect();
        let mut checks = Vec::new();
        for (workload, sources) in workloads(snapshot) {
            let from_outside = sources.iter().any(|source| source.kind == EndpointKind::Outside);
            for target in targets(snapshot, from_outside) {
                let of = |source: &Endpoint| check(&cells, source, &source.workload, &target);
                let each: Vec<_> = sources.iter().map(|source| of(source)).collect();
                checks.extend(merge(workload, sources.as_slice(), each));
            }
        }
        let enforcers = snapshot.enforcers.iter();
        let nobody = match snapshot.enforcement {
            Enforcement::Nobody => {
                Some("policies exist, and nothing enforces them: every probe that they should stop came through")
            }
            Enforcement::Unknown if snapshot.enforcers.is_empty() => {
                Some("no enforcer of Signalbox reports, and whether another one enforces policies is not known")
            }
            Enforcement::Unknown | Enforcement::Signalbox | Enforcement::Other => None,
        };
        let problems = snapshot
            .problems
            .iter()
            .cloned()
            .chain(nobody.map(str::to_owned))
            .chain(
                enforcers
                    .flat_map(|enforcer| enforcer.problems.iter().map(|text| format!("{}: {text}", enforcer.node))),
            )
            .collect();
        Self { checks, dns: dns(snapshot), problems }
    }

    /// Every fact of every check is known as far as it has to be, and says the same.
    pub(super) fn agree(&self) -> bool {
        self.checks.iter().all(|check| check.agreement == Agreement::Agree)
    }

    /// Enough is known of every check to say whether its facts agree.
    pub(super) fn settled(&self) -> bool {
        self.checks.iter().all(|check| check.agreement != Agreement::Unsettled)
    }
}

struct Target<'a> {
    endpoint: &'a Endpoint,
    port: u16,
    protocol: Protocol,
}

/// Sources by workload: pods first, in the order of their names, then the outside.
fn workloads(snapshot: &Snapshot) -> Vec<(&str, Vec<&Endpoint>)> {
    let mut grouped: BTreeMap<(bool, usize, &str), Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in &snapshot.endpoints {
        let outside = match endpoint.kind {
            // What carries no probe tries nothing.
            EndpointKind::Pod if endpoint.vantage => false,
            EndpointKind::Outside if endpoint.vantage => true,
            EndpointKind::Pod | EndpointKind::Outside | EndpointKind::Service => continue,
        };
        grouped.entry((outside, rank(endpoint), &endpoint.workload)).or_default().push(endpoint);
    }
    grouped.into_iter().map(|((_, _, workload), sources)| (workload, sources)).collect()
}

/// The lesson names the front end first.
fn rank(endpoint: &Endpoint) -> usize {
    match endpoint.namespace.as_deref() {
        Some("frontend") => 0,
        Some(_) | None => 1,
    }
}

fn targets(snapshot: &Snapshot, from_outside: bool) -> Vec<Target<'_>> {
    let mut targets = Vec::new();
    for endpoint in &snapshot.endpoints {
        let ports = match endpoint.kind {
            EndpointKind::Service => endpoint.ports.as_slice(),
            EndpointKind::Outside if !from_outside => endpoint.ports.get(..1).unwrap_or_default(),
            EndpointKind::Outside | EndpointKind::Pod => &[],
        };
        targets.extend(ports.iter().map(|port| Target { endpoint, port: port.port, protocol: port.protocol }));
    }
    targets.sort_by_key(|target| {
        let endpoint = target.endpoint;
        (endpoint.kind == EndpointKind::Outside, rank(endpoint), &endpoint.workload, target.port, target.protocol)
    });
    targets
}

fn check(cells: &HashMap<&CellKey, &Cell>, source: &Endpoint, from: &str, target: &Target<'_>) -> Check {
    let key = CellKey {
        from: source.id.clone(),
        to: target.endpoint.id.clone(),
        port: target.port,
        protocol: target.protocol,
    };
    let cell = cells.get(&key).copied();
    let agreement = cell.map_or(Agreement::Unsettled, |cell| cell.agreement);
    Check {
        from: from.to_owned(),
        to: target.endpoint.workload.clone(),
        port: target.port,
        protocol: target.protocol,
        outcome: cell.and_then(|cell| Some(cell.probe.as_ref()?.outcome)),
        spec: cell.and_then(|cell| cell.spec.as_ref()?.decision),
        kernel: cell.and_then(|cell| Some(cell.kernel.as_ref()?.decision)),
        latency_us: cell.and_then(|cell| cell.probe.as_ref()?.latency_us),
        agreement,
        why: if agreement == Agreement::Agree { Vec::new() } else { why(source, cell) },
    }
}

/// One check for a workload whose pods see the same, else one for each pod.
fn merge(workload: &str, sources: &[&Endpoint], each: Vec<Check>) -> Vec<Check> {
    let same = each.windows(2).all(|pair| {
        let facts = |check: &Check| (check.outcome, check.spec, check.kernel, check.agreement);
        facts(&pair[0]) == facts(&pair[1])
    });
    if !same {
        let named = |(check, source): (Check, &&Endpoint)| {
            let from = match &source.namespace {
                Some(namespace) => format!("{namespace}/{}", source.name),
                None => workload.to_owned(),
            };
            Check { from, ..check }
        };
        return each.into_iter().zip(sources).map(named).collect();
    }
    let slowest = each.iter().filter_map(|check| check.latency_us).max();
    let why: Vec<_> = each.iter().flat_map(|check| check.why.iter().cloned()).collect();
    each.into_iter().take(1).map(|check| Check { latency_us: slowest, why: why.clone(), ..check }).collect()
}

fn why(source: &Endpoint, cell: Option<&Cell>) -> Vec<String> {
    let mut why = Vec::new();
    if let Some(problem) = &source.problem {
        why.push(format!("{}: {problem}", source.name));
    }
    let Some(cell) = cell else {
        why.push("nothing is known of this connection yet".to_owned());
        return why;
    };
    match &cell.probe {
        None => why.push("probe: not tried yet".to_owned()),
        Some(probe) => {
            let detail = probe.detail.as_ref().map_or(String::new(), |detail| format!(" ({detail})"));
            why.push(format!("probe: {}{detail}", probe.outcome));
        }
    }
    match &cell.spec {
        None => why.push("policies: not judged yet".to_owned()),
        Some(spec) if spec.unknown.is_empty() => why.push(format!("policies: {}", spec.summary)),
        Some(spec) => why.extend(spec.unknown.iter().map(|unknown| format!("policies: {unknown}"))),
    }
    match &cell.kernel {
        None => why.push("kernel: nobody has told".to_owned()),
        Some(kernel) => {
            let side = kernel.direction.map_or(String::new(), |direction| format!(" at {direction}"));
            let by: Vec<_> = kernel.isolated_by.iter().map(ToString::to_string).collect();
            let by = if by.is_empty() { String::new() } else { format!(", isolated by {}", by.join(", ")) };
            let rule = kernel.rule.as_ref().map_or(String::new(), |rule| format!(", by {rule}"));
            why.push(format!("kernel: {}{side}{by}{rule}", decision(kernel.decision)));
        }
    }
    why
}

/// The word that JSON has for it.
pub(super) fn decision(decision: Decision) -> &'static str {
    match decision {
        Decision::Allowed => "allowed",
        Decision::Denied => "denied",
    }
}

fn dns(snapshot: &Snapshot) -> Dns {
    let names: HashMap<_, _> = snapshot.endpoints.iter().map(|endpoint| (&endpoint.id, endpoint)).collect();
    let mut dns = Dns::default();
    for fact in &snapshot.dns {
        if fact.ok {
            dns.resolved += 1;
            dns.slowest_us = dns.slowest_us.max(fact.latency_us);
            continue;
        }
        let from = names.get(&fact.from).map_or(fact.from.as_str(), |endpoint| endpoint.workload.as_str());
        dns.failures.push(format!("{from}: {}: {}", fact.name, fact.error.as_deref().unwrap_or("did not resolve")));
    }
    dns
}

#[cfg(test)]
#[path = "report_tests.rs"]
pub(super) mod tests;
