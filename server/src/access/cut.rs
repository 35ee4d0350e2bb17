//! The picture and its events, cut down to what a user may see. Field by field: what is new in the wire's types has to be
//! thought through here, so structs are taken apart without `..`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use signalbox_api::cell::{Cell, CellKey, KernelFact, NearestMiss, ProbeFact, SideFact, SpecFact};
use signalbox_api::flow::{PolicyRef, RuleRef};
use signalbox_api::kernel::{EnforcerStatus, NodeLink, VerdictCount};
use signalbox_api::rest::ProbeReport;
use signalbox_api::state::{
    DnsFact, Endpoint, Enforcement, Event, FlowPulse, LessonStep, NamespaceInfo, PolicyInfo, RoundInfo, Snapshot,
};

use super::view::{HIDDEN, View};

/// What stands in place of a list of problems that cannot be told one by one.
const PROBLEMS: &str =
    "There are problems that may concern what you may not see; who sees all namespaces can read them.";

/// What has to be known besides the view.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// The namespaces that the lesson's policies are in.
    pub lesson: BTreeSet<String>,
    /// Cells that the user sees now.
    pub cells: u32,
}

/// The whole picture. Left as it is for one who sees everything.
pub fn snapshot(snapshot: Snapshot, view: &View, around: &Around) -> Snapshot {
    if view.is_everything() {
        return snapshot;
    }
    let Snapshot {
        seq,
        cluster,
        version,
        writable,
        viewer,
        namespaces: all_namespaces,
        endpoints: all_endpoints,
        cells: all_cells,
        policies: all_policies,
        dns: all_dns,
        round: whole_round,
        enforcers: all_enforcers,
        lesson: all_lesson,
        problems: all_problems,
        enforcement,
    } = snapshot;
    let cells = cells(&all_cells, view);
    let around = Around { cells: u32::try_from(cells.len()).unwrap_or(u32::MAX), ..around.clone() };
    Snapshot {
        seq,
        cluster,
        version,
        writable,
        viewer,
        namespaces: namespaces(&all_namespaces, view),
        endpoints: endpoints(&all_endpoints, view),
        cells,
        policies: policies(&all_policies, view),
        dns: dns(&all_dns, view),
        round: round(&whole_round, view, &around),
        enforcers: enforcers(&all_enforcers, view),
        lesson: lesson(&all_lesson, view, &around),
        problems: problems(&all_problems, view),
        enforcement: self::enforcement(enforcement, view),
    }
}

/// One event; `None` where nothing of it is theirs. Only for one who does not see everything.
pub fn event(event: &Event, view: &View, around: &Around) -> Option<Event> {
    // An empty list is news only where the list is told as a whole.
    let some = |event: Event, is_empty: bool| (!is_empty).then_some(event);
    match event {
        Event::Snapshot(whole) => Some(Event::Snapshot(Box::new(snapshot((**whole).clone(), view, around)))),
        Event::Cells(all) => {
            let cells = cells(all, view);
            let is_empty = cells.is_empty();
            some(Event::Cells(cells), is_empty)
        }
        Event::CellsGone(all) => {
            let keys: Vec<CellKey> = all.iter().filter(|key| cell(key, view)).cloned().collect();
            let is_empty = keys.is_empty();
            some(Event::CellsGone(keys), is_empty)
        }
        Event::Flows(all) => {
            let flows: Vec<FlowPulse> = all.iter().filter(|flow| cell(&flow.key, view)).cloned().collect();
            let is_empty = flows.is_empty();
            some(Event::Flows(flows), is_empty)
        }
        Event::Endpoints(all) => Some(Event::Endpoints(endpoints(all, view))),
        Event::Namespaces(all) => Some(Event::Namespaces(namespaces(all, view))),
        Event::Policies(all) => Some(Event::Policies(policies(all, view))),
        Event::Dns(all) => Some(Event::Dns(dns(all, view))),
        Event::Round(whole) => Some(Event::Round(round(whole, view, around))),
        Event::Enforcers(all) => Some(Event::Enforcers(enforcers(all, view))),
        Event::Lesson(all) => Some(Event::Lesson(lesson(all, view, around))),
        Event::Problems(all) => Some(Event::Problems(problems(all, view))),
        Event::Enforcement(found) => Some(Event::Enforcement(enforcement(*found, view))),
    }
}

/// Whether a cell is theirs: both of its ends are.
pub fn cell(key: &CellKey, view: &View) -> bool {
    view.endpoint(&key.from) && view.endpoint(&key.to)
}

/// The kernel's counts between ends that are theirs. An address counts as theirs where it is one of an endpoint that they see:
/// whose any other address is, nobody can tell.
pub fn counts(all: Vec<VerdictCount>, view: &View, seen: &[Endpoint]) -> Vec<VerdictCount> {
    if view.is_everything() {
        return all;
    }
    let addresses: BTreeSet<IpAddr> = seen.iter().flat_map(|endpoint| endpoint.addresses.iter().copied()).collect();
    let theirs = |end: &str| match end.split_once('/') {
        Some((namespace, _)) => view.namespace(namespace),
        None => end.parse::<IpAddr>().is_ok_and(|address| addresses.contains(&address)),
    };
    all.into_iter().filter(|count| theirs(&count.source) && theirs(&count.destination)).collect()
}

/// What a probe that somebody had tried from inside of a pod of theirs saw. Where its packets went and who answered is what the pod itself could
/// tell them; whose policies decided is not.
pub fn probe_report(report: ProbeReport, view: &View) -> ProbeReport {
    if view.is_everything() {
        return report;
    }
    let ProbeReport { from, node, to, remote, probe, kernels, elapsed_us } = report;
    let kernels = kernels.into_iter().map(|fact| kernel_fact(fact, view)).collect();
    ProbeReport { from, node, to, remote, probe: probe_fact(probe, view), kernels, elapsed_us }
}

fn namespaces(all: &[NamespaceInfo], view: &View) -> Vec<NamespaceInfo> {
    all.iter().filter(|namespace| view.namespace(&namespace.name)).cloned().collect()
}

fn endpoints(all: &[Endpoint], view: &View) -> Vec<Endpoint> {
    let theirs = all.iter().filter(|endpoint| view.endpoint(&endpoint.id)).cloned();
    theirs
        .map(|endpoint| {
            let Endpoint {
                id,
                kind,
                namespace,
                name,
                workload,
                addresses,
                ports,
                labels,
                ready,
                vantage,
                mut backends,
                problem,
            } = endpoint;
            backends.retain(|backend| view.endpoint(backend));
            let problem = problem.map(|problem| view.told(&problem));
            Endpoint {
                id,
                kind,
                namespace,
                name,
                workload,
                addresses,
                ports,
                labels,
                ready,
                vantage,
                backends,
                problem,
            }
        })
        .collect()
}

fn cells(all: &[Cell], view: &View) -> Vec<Cell> {
    let theirs = all.iter().filter(|theirs| cell(&theirs.key, view)).cloned();
    theirs
        .map(|cell| {
            let Cell { key, probe, spec, kernel, agreement, since_ms } = cell;
            Cell {
                key,
                probe: probe.map(|fact| probe_fact(fact, view)),
                spec: spec.map(|fact| spec_fact(fact, view)),
                kernel: kernel.map(|fact| kernel_fact(fact, view)),
                agreement,
                since_ms,
            }
        })
        .collect()
}

fn probe_fact(fact: ProbeFact, view: &View) -> ProbeFact {
    let ProbeFact { outcome, evidence, latency_us, seen_source, backend, detail, at_ms } = fact;
    ProbeFact {
        outcome,
        evidence,
        latency_us,
        seen_source,
        // A Service may lead to pods of other namespaces.
        backend: backend.filter(|backend| view.endpoint(backend)),
        detail: detail.map(|detail| view.told(&detail)),
        at_ms,
    }
}

fn spec_fact(fact: SpecFact, view: &View) -> SpecFact {
    let SpecFact { decision, summary, sides, unknown } = fact;
    let hidden = |side: &SideFact| {
        side.rule.iter().map(|rule| &rule.policy).chain(&side.isolated_by).any(|policy| !view.policy(policy))
    };
    let is_hidden = sides.iter().any(hidden) || !view.text(&summary);
    let mut told: Vec<String> = Vec::new();
    for text in unknown {
        let text = view.told(&text);
        if !told.contains(&text) {
            told.push(text);
        }
    }
    SpecFact {
        decision,
        summary: match (is_hidden, decision) {
            (false, _) => summary,
            (true, Some(_)) => "decided by policies of which you may not see all".to_owned(),
            (true, None) => format!("cannot be judged: {HIDDEN}"),
        },
        sides: sides.into_iter().map(|side| side_fact(side, view)).collect(),
        unknown: told,
    }
}

fn side_fact(fact: SideFact, view: &View) -> SideFact {
    let SideFact { direction, decision, rule, isolated_by, nearest_miss } = fact;
    let (rule, isolated_by) = cause(rule, isolated_by, view);
    SideFact { direction, decision, rule, isolated_by, nearest_miss: nearest_miss.and_then(|miss| near(miss, view)) }
}

fn near(miss: NearestMiss, view: &View) -> Option<NearestMiss> {
    let NearestMiss { rule, difference } = miss;
    let is_seen = rule.as_ref().is_none_or(|rule| view.policy(&rule.policy)) && view.text(&difference);
    is_seen.then_some(NearestMiss { rule, difference })
}

fn kernel_fact(fact: KernelFact, view: &View) -> KernelFact {
    let KernelFact { decision, direction, rule, isolated_by, generation, at_ms, nodes } = fact;
    let (rule, isolated_by) = cause(rule, isolated_by, view);
    KernelFact { decision, direction, rule, isolated_by, generation, at_ms, nodes }
}

/// What decided. A policy that they may not see is not left out, since that would say that none had: it loses its name.
fn cause(rule: Option<RuleRef>, isolated_by: Vec<PolicyRef>, view: &View) -> (Option<RuleRef>, Vec<PolicyRef>) {
    let mut told: Vec<PolicyRef> = Vec::new();
    let rule_is_hidden = rule.as_ref().is_some_and(|rule| !view.policy(&rule.policy));
    let unnamed =
        PolicyRef { kind: "hidden".to_owned(), namespace: None, name: "a policy that you may not see".to_owned() };
    for policy in isolated_by {
        let policy = if view.policy(&policy) { policy } else { unnamed.clone() };
        if !told.contains(&policy) {
            told.push(policy);
        }
    }
    if rule_is_hidden && !told.contains(&unnamed) {
        told.push(unnamed);
    }
    (rule.filter(|_| !rule_is_hidden), told)
}

fn policies(all: &[PolicyInfo], view: &View) -> Vec<PolicyInfo> {
    let is_theirs = |policy: &&PolicyInfo| {
        view.policy(&PolicyRef {
            kind: policy.kind.clone(),
            namespace: Some(policy.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            name: policy.name.clone(),
        })
    };
    let cut = |policy: PolicyInfo| {
        let PolicyInfo { kind, namespace, name, resource_version, yaml, summary, mut selects, unknown } = policy;
        selects.retain(|pod| view.endpoint(pod));
        // Text of their own policy, which they may read: it names others only as they wrote it.
        PolicyInfo { kind, namespace, name, resource_version, yaml, summary, selects, unknown }
    };
    all.iter().filter(is_theirs).cloned().map(cut).collect()
}

fn dns(all: &[DnsFact], view: &View) -> Vec<DnsFact> {
    let theirs = all.iter().filter(|fact| view.endpoint(&fact.from) && is_seen_name(&fact.name, view)).cloned();
    theirs
        .map(|fact| {
            let DnsFact { from, name, ok, latency_us, error, at_ms } = fact;
            DnsFact { from, name, ok, latency_us, error: error.map(|error| view.told(&error)), at_ms }
        })
        .collect()
}

/// Whether a name is of a Service that they see, or of no Service.
fn is_seen_name(name: &str, view: &View) -> bool {
    let labels: Vec<&str> = name.split('.').collect();
    match labels.iter().position(|label| *label == "svc") {
        Some(at) if at >= 1 => view.namespace(labels[at - 1]),
        Some(_) | None => view.text(name),
    }
}

fn round(whole: &RoundInfo, view: &View, around: &Around) -> RoundInfo {
    let RoundInfo { number, cause, started_ms, ended_ms, cells } = whole.clone();
    let cells = if view.is_nothing() { 0 } else { cells.min(around.cells) };
    RoundInfo { number, cause, started_ms, ended_ms, cells }
}

/// Who enforces is about the cluster as a whole: told to whoever sees any of it.
fn enforcement(found: Enforcement, view: &View) -> Enforcement {
    if view.is_nothing() { Enforcement::default() } else { found }
}

fn node_link(link: NodeLink, view: &View) -> NodeLink {
    let NodeLink { version, since_ms, lost, behind_since_ms, round_trip_us, left_out } = link;
    NodeLink { version, since_ms, lost: lost.map(|why| view.told(&why)), behind_since_ms, round_trip_us, left_out }
}

fn enforcers(all: &[EnforcerStatus], view: &View) -> Vec<EnforcerStatus> {
    if view.is_nothing() {
        return Vec::new();
    }
    let cut = |status: EnforcerStatus| {
        let EnforcerStatus {
            node,
            enforcing,
            attach,
            generation,
            policies_version,
            pods: _all_of_the_nodes,
            last_apply_us,
            problems: all_problems,
            lost_events,
            mended,
            link,
        } = status;
        EnforcerStatus {
            node,
            enforcing,
            attach,
            generation,
            policies_version,
            pods: 0,
            last_apply_us,
            problems: problems(&all_problems, view),
            lost_events,
            mended,
            link: link.map(|link| node_link(link, view)),
        }
    };
    all.iter().cloned().map(cut).collect()
}

/// All steps or none: whether one is applied says what policies there are in the lesson's namespaces.
fn lesson(all: &[LessonStep], view: &View, around: &Around) -> Vec<LessonStep> {
    let sees = |namespace: &String| {
        view.policy(&PolicyRef {
            kind: "NetworkPolicy".to_owned(),
            namespace: Some(namespace.clone()),
            name: String::new(),
        })
    };
    if around.lesson.iter().all(sees) { all.to_vec() } else { Vec::new() }
}

/// Problems of the server or of an enforcer: words about anything.
fn problems(all: &[String], view: &View) -> Vec<String> {
    if all.is_empty() || view.is_nothing() {
        return Vec::new();
    }
    if view.hidden.is_empty() && all.iter().all(|problem| view.text(problem)) {
        return all.to_vec();
    }
    vec![PROBLEMS.to_owned()]
}
