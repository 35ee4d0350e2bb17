//! Objects as a whole: not understood, there twice, of an API that will go or that older clusters do not have.

use crate::label::NAMESPACE_NAME;
use crate::names::{Direction, Protocol};
use crate::parse::problem::Problem;
use crate::peer::Namespaces;
use crate::port::Ports;

use super::context::{Context, RuleAt};
use super::path::NAMESPACE_SELECTOR;
use super::{Finding, RuleId, Severity};

/// A field that older versions of the API do not have, and drop in silence.
struct Newer {
    field: &'static str,
    /// The version in which it is there without a feature gate.
    since: (u32, u32),
    without: &'static str,
    instead: &'static str,
}

const END_PORT: Newer = Newer {
    field: "endPort",
    since: (1, 25),
    without: "the range becomes its first port alone",
    instead: "list the ports one by one where such clusters must be served",
};
const METADATA_NAME: Newer = Newer {
    field: "the label kubernetes.io/metadata.name",
    since: (1, 21),
    without: "no namespace has it unless someone sets it, and the peer matches nothing",
    instead: "give the namespace that label, or another one, by hand",
};
const SCTP: Newer = Newer {
    field: "protocol: SCTP",
    since: (1, 20),
    without: "it is behind a feature gate, and the policy may be refused or not enforced",
    instead: "upgrade the cluster, or leave the rule out",
};

pub(super) fn check(context: &Context<'_>, findings: &mut Vec<Finding>) {
    findings.extend(context.model.problems.iter().map(problem));
    findings.extend(context.raw.twice.iter().map(|title| {
        Finding::new(
            RuleId::DefinedTwice,
            title,
            "metadata.name",
            "several objects have this kind, namespace and name; the last one replaces the others in silence"
                .to_owned(),
            "delete all but one, or give them names of their own".to_owned(),
        )
    }));
    superseded(context, findings);
    for direction in Direction::ALL {
        for rule in context.rules(direction) {
            newer_fields(context, rule, findings);
        }
    }
}

fn problem(problem: &Problem) -> Finding {
    Finding::new(
        RuleId::NotUnderstood,
        &problem.object,
        &problem.path,
        problem.reason.to_string(),
        "mend the field: until then all that it bears on is unknown".to_owned(),
    )
}

/// Source: the network-policy-api project, of which in v1alpha2 ClusterNetworkPolicy takes the place of both kinds.
fn superseded(context: &Context<'_>, findings: &mut Vec<Finding>) {
    for policy in &context.model.policies {
        let (tier, notes) = match policy.id.kind {
            "AdminNetworkPolicy" => ("Admin", ""),
            "BaselineAdminNetworkPolicy" => ("Baseline", " and a priority, since there may be several then"),
            _ => continue,
        };
        findings.push(Finding::new(
            RuleId::SupersededApi,
            &policy.id,
            "apiVersion",
            format!(
                "policy.networking.k8s.io/v1alpha1 {} has been superseded by ClusterNetworkPolicy (v1alpha2, v1beta1); a cluster \
                 that serves the newer versions only does not enforce it",
                policy.id.kind
            ),
            format!("write a ClusterNetworkPolicy with tier: {tier}{notes}; its word for Allow is Accept"),
        ));
    }
}

fn newer_fields(context: &Context<'_>, rule: RuleAt<'_>, findings: &mut Vec<Finding>) {
    if rule.policy.id.kind != "NetworkPolicy" {
        return;
    }
    let oldest = context.raw.nodes.oldest.as_ref();
    for (index, port) in rule.rule.ports.iter().enumerate() {
        let path = rule.port_path(Some(index));
        if let Ports::Range(range) = &port.ports
            && range.bounds().0 < range.bounds().1
            // What a cluster that is not known does is worth a word only where the field is of late.
            && oldest.is_none_or(|(version, _)| *version < END_PORT.since)
        {
            findings.push(newer(&END_PORT, rule, format!("{path}.endPort"), oldest));
        }
        if port.protocol == Some(Protocol::Sctp) && oldest.is_some_and(|(version, _)| *version < SCTP.since) {
            findings.push(newer(&SCTP, rule, format!("{path}.protocol"), oldest));
        }
    }
    for (index, peer) in rule.rule.peers.iter().enumerate() {
        let Some(Namespaces::Selected(selector)) = peer.pods().map(|pods| &pods.namespaces) else { continue };
        let asks = selector.requirements().iter().any(|requirement| requirement.key == NAMESPACE_NAME);
        if asks && oldest.is_some_and(|(version, _)| *version < METADATA_NAME.since) {
            let path = format!("{}.{NAMESPACE_SELECTOR}", rule.peer_path(Some(index)));
            findings.push(newer(&METADATA_NAME, rule, path, oldest));
        }
    }
}

fn newer(newer: &Newer, rule: RuleAt<'_>, path: String, oldest: Option<&((u32, u32), String)>) -> Finding {
    let Newer { field, since, without, instead } = newer;
    let (since, remedy) = (format!("{}.{}", since.0, since.1), (*instead).to_owned());
    match oldest {
        Some(((major, minor), node)) => {
            let message = format!(
                "{field} is there for certain since Kubernetes {since} only, and node {node} is of version \
                 {major}.{minor}: {without}"
            );
            Finding::new(RuleId::NewerField, &rule.policy.id, path, message, remedy).with(Severity::Warning)
        }
        None => {
            let message = format!("a cluster older than Kubernetes {since} may drop {field} in silence: {without}");
            Finding::new(RuleId::NewerField, &rule.policy.id, path, message, remedy)
        }
    }
}
