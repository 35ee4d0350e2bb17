//! What the policies say of a cell: the engine's verdict in the words of the wire.

use std::net::IpAddr;

use serde_json::Value;
use signalbox_api::cell::{NearestMiss, SideFact, SpecFact};
use signalbox_api::flow::{Decision, Direction, PolicyRef, Protocol, RuleRef};
use signalbox_policy::audit::is_in_audit;
use signalbox_policy::{Cluster, Party, PodRef, Side, Verdict};

/// The engine on the cluster as it is.
pub struct Judge {
    /// What is enforced.
    cluster: Cluster,
    /// The same with the policies that are in audit, where there are any.
    written: Option<Cluster>,
}

/// What the annotation [`signalbox_policy::audit::ANNOTATION`] means in this cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audit {
    /// Signalbox's enforcer reads it: such a policy decides nothing.
    Heeded,
    /// Whoever enforces knows nothing of it: such a policy is like any other.
    #[default]
    Unheeded,
}

/// One end that a connection may have after translation.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// The pod, `namespace`, `name`; or
    pub pod: Option<(String, String)>,
    /// the address.
    pub address: Option<IpAddr>,
    /// The port after translation.
    pub port: u16,
}

/// How a connection names its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the address of its own.
    Direct,
    /// Through a Service, which may lead back to where it came from.
    ThroughService,
}

impl Judge {
    /// Reads namespaces, nodes, pods and policies. `unseen` says of each kind of which there may be more objects why.
    pub fn new<'a>(objects: impl Iterator<Item = &'a Value>, unseen: Vec<String>, audit: Audit) -> Self {
        let read = |objects: &[&Value]| {
            let cluster = Cluster::from_objects(objects.iter().copied());
            if unseen.is_empty() { cluster } else { cluster.with_unread(unseen.iter().cloned()) }
        };
        let written: Vec<&Value> = objects.collect();
        let enforced: Vec<&Value> = written.iter().copied().filter(|object| !is_in_audit(object)).collect();
        if audit == Audit::Unheeded || enforced.len() == written.len() {
            return Self { cluster: read(&written), written: None };
        }
        Self { cluster: read(&enforced), written: Some(read(&written)) }
    }

    /// The engine's own face, with every policy that is written.
    pub fn cluster(&self) -> &Cluster {
        self.written.as_ref().unwrap_or(&self.cluster)
    }

    /// Judges one cell: from one end to every end that the connection may have after translation. What only policies in
    /// audit deny is allowed, and the summary says what they would do.
    pub fn judge(&self, from: &End, to: &[End], protocol: Protocol, way: Way) -> SpecFact {
        let mut fact = judge(&self.cluster, from, to, protocol, way);
        if let Some(written) = &self.written {
            let promoted = judge(written, from, to, protocol, way);
            if promoted.decision != fact.decision {
                fact.summary = format!("{}; without the audit: {}", fact.summary, promoted.summary);
            }
        }
        fact
    }
}

fn judge(cluster: &Cluster, from: &End, to: &[End], protocol: Protocol, way: Way) -> SpecFact {
    let verdicts: Vec<(&End, Verdict)> =
        to.iter().map(|end| (end, verdict(cluster, from, end, protocol, way))).collect();
    let Some((first_end, first)) = verdicts.first() else {
        return SpecFact {
            decision: None,
            summary: "no ready pod is behind it, so there is nothing to judge".to_owned(),
            sides: Vec::new(),
            unknown: vec!["no ready backend: policies are judged on the pod behind a Service".to_owned()],
        };
    };
    let decision = decision(first);
    if let Some((end, other)) = verdicts.iter().find(|(_, other)| self::decision(other) != decision) {
        let difference = format!(
            "backends differ: {} is {}, {} is {}",
            name(first_end),
            word(decision),
            name(end),
            word(self::decision(other)),
        );
        return SpecFact { decision: None, summary: difference.clone(), sides: Vec::new(), unknown: vec![difference] };
    }
    let sides: Vec<SideFact> = [(&first.egress, Direction::Egress), (&first.ingress, Direction::Ingress)]
        .into_iter()
        .filter_map(|(side, direction)| side.as_ref().map(|side| side_fact(side, direction)))
        .collect();
    SpecFact { decision, summary: summary(decision, &sides, &first.unknown), sides, unknown: first.unknown.clone() }
}

fn verdict(cluster: &Cluster, from: &End, to: &End, protocol: Protocol, way: Way) -> Verdict {
    let (Some(source), Some(destination)) = (party(from), party(to)) else {
        return Verdict { egress: None, ingress: None, unknown: vec!["one end has no address yet".to_owned()] };
    };
    let protocol = engine_protocol(protocol);
    match way {
        Way::Direct => cluster.verdict(&source, &destination, protocol, to.port),
        Way::ThroughService => cluster.verdict_through_service(&source, &destination, protocol, to.port),
    }
}

fn party(end: &End) -> Option<Party> {
    match (&end.pod, end.address) {
        (Some((namespace, name)), _) => Some(Party::Pod(PodRef { namespace: namespace.clone(), name: name.clone() })),
        (None, Some(address)) => Some(Party::Address(address)),
        (None, None) => None,
    }
}

fn name(end: &End) -> String {
    match (&end.pod, end.address) {
        (Some((namespace, name)), _) => format!("{namespace}/{name}"),
        (None, Some(address)) => address.to_string(),
        (None, None) => "nobody".to_owned(),
    }
}

fn decision(verdict: &Verdict) -> Option<Decision> {
    verdict.allowed().map(|allowed| if allowed { Decision::Allowed } else { Decision::Denied })
}

fn word(decision: Option<Decision>) -> &'static str {
    match decision {
        Some(Decision::Allowed) => "allowed",
        Some(Decision::Denied) => "denied",
        None => "unknown",
    }
}

fn side_fact(side: &Side, direction: Direction) -> SideFact {
    match side {
        Side::NotIsolated(_) | Side::AlwaysAllowed(..) => {
            SideFact { direction, decision: Decision::Allowed, rule: None, isolated_by: Vec::new(), nearest_miss: None }
        }
        Side::AllowedBy(rule, isolated_by) => SideFact {
            direction,
            decision: Decision::Allowed,
            rule: Some(api_rule(rule)),
            isolated_by: isolated_by.iter().map(api_policy).collect(),
            nearest_miss: None,
        },
        Side::DeniedBy(rule) => SideFact {
            direction,
            decision: Decision::Denied,
            rule: Some(api_rule(rule)),
            isolated_by: Vec::new(),
            nearest_miss: None,
        },
        Side::Denied { isolated_by, nearest, .. } => SideFact {
            direction,
            decision: Decision::Denied,
            rule: None,
            isolated_by: isolated_by.iter().map(api_policy).collect(),
            nearest_miss: nearest
                .as_ref()
                .map(|miss| NearestMiss { rule: Some(api_rule(&miss.rule)), difference: miss.difference.clone() }),
        },
    }
}

fn summary(decision: Option<Decision>, sides: &[SideFact], unknown: &[String]) -> String {
    if decision.is_none() {
        return format!("cannot be judged: {}", unknown.join("; "));
    }
    let shut: Vec<&SideFact> = sides.iter().filter(|side| side.decision == Decision::Denied).collect();
    if !shut.is_empty() {
        let sides = shut.iter().map(|side| match &side.rule {
            Some(rule) => format!("{} is shut by {rule}", side.direction),
            None => format!("{} is shut by {}", side.direction, list(&side.isolated_by)),
        });
        return sides.collect::<Vec<_>>().join("; ");
    }
    let rules: Vec<String> =
        sides.iter().filter_map(|side| side.rule.as_ref()).map(|rule| format!("{rule} allows it")).collect();
    if rules.is_empty() { "no policy isolates either side".to_owned() } else { rules.join("; ") }
}

fn list(policies: &[PolicyRef]) -> String {
    policies.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

const fn engine_protocol(protocol: Protocol) -> signalbox_policy::Protocol {
    match protocol {
        Protocol::Tcp => signalbox_policy::Protocol::Tcp,
        Protocol::Udp => signalbox_policy::Protocol::Udp,
        Protocol::Sctp => signalbox_policy::Protocol::Sctp,
    }
}

fn api_policy(policy: &signalbox_policy::PolicyRef) -> PolicyRef {
    PolicyRef { kind: policy.kind.to_owned(), namespace: policy.namespace.clone(), name: policy.name.clone() }
}

fn api_rule(rule: &signalbox_policy::RuleRef) -> RuleRef {
    RuleRef {
        policy: api_policy(&rule.policy),
        direction: match rule.direction {
            signalbox_policy::Direction::Ingress => Direction::Ingress,
            signalbox_policy::Direction::Egress => Direction::Egress,
        },
        rule: rule.rule,
        peer: rule.peer,
        port: rule.port,
    }
}
