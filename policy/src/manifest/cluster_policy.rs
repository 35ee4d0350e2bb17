//! ClusterNetworkPolicy and its ancestors as text.

use super::yaml::{Block, flow_list, item, scalar, under};
use super::{head, selector};
use crate::names::{Direction, Protocol};
use crate::peer::{Namespaces, Peer, PodSet};
use crate::policy::{Action, Policy, Rule};
use crate::port::{PortRule, Ports};

/// What the kinds differ in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Cluster,
    Admin,
    Baseline,
}

impl Dialect {
    pub(super) fn of(kind: &str) -> Option<Self> {
        match kind {
            "ClusterNetworkPolicy" => Some(Self::Cluster),
            "AdminNetworkPolicy" => Some(Self::Admin),
            "BaselineAdminNetworkPolicy" => Some(Self::Baseline),
            _ => None,
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::Cluster => "policy.networking.k8s.io/v1alpha2",
            Self::Admin | Self::Baseline => "policy.networking.k8s.io/v1alpha1",
        }
    }

    fn action(self, action: Action) -> &'static str {
        match (self, action) {
            (Self::Cluster, Action::Allow) => "Accept",
            (Self::Admin | Self::Baseline, Action::Allow) => "Allow",
            (_, Action::Deny) => "Deny",
            (_, Action::Pass) => "Pass",
        }
    }
}

pub(super) fn lines(policy: &Policy, dialect: Dialect) -> Option<Block> {
    let mut spec = Block::new();
    if dialect == Dialect::Cluster {
        spec.push(format!("tier: {}", policy.rank.tier));
    }
    if dialect != Dialect::Baseline {
        spec.push(format!("priority: {}", policy.rank.order.number()));
    }
    spec.extend(under("subject", pods(&policy.subject)?));
    for (direction, field, peers) in [(Direction::Ingress, "ingress", "from"), (Direction::Egress, "egress", "to")] {
        let rules = policy.rules(direction).unwrap_or_default();
        if !rules.is_empty() {
            let rules: Option<Vec<Block>> = rules.iter().map(|it| rule(it, direction, peers, dialect)).collect();
            spec.extend(under(field, rules?.into_iter().flat_map(item).collect()));
        }
    }
    let mut lines = head(dialect.version(), policy);
    lines.extend(under("spec", spec));
    Some(lines)
}

fn rule(rule: &Rule, direction: Direction, field: &str, dialect: Dialect) -> Option<Block> {
    // The API wants at least one peer.
    if rule.doubt.is_some() || rule.peers.is_empty() {
        return None;
    }
    let mut lines = vec![format!("action: {}", dialect.action(rule.action))];
    let peers: Option<Vec<Block>> = rule.peers.iter().map(|it| peer(it, direction)).collect();
    lines.extend(under(field, peers?.into_iter().flat_map(item).collect()));
    if !rule.ports.is_empty() {
        let (field, port): (_, fn(&PortRule) -> Option<String>) = match dialect {
            Dialect::Cluster => ("protocols", port),
            Dialect::Admin | Dialect::Baseline => ("ports", port_of_v1alpha1),
        };
        let ports: Option<Vec<String>> = rule.ports.iter().map(port).collect();
        lines.extend(under(field, ports?.into_iter().flat_map(|it| item(vec![it])).collect()));
    }
    Some(lines)
}

fn peer(peer: &Peer, direction: Direction) -> Option<Block> {
    match (peer, direction) {
        (Peer::Pods(set), _) => pods(set),
        (Peer::Nodes(nodes), Direction::Egress) => Some(under("nodes", selector(nodes)?)),
        (Peer::Block(block), Direction::Egress) if block.except().is_empty() => {
            Some(vec![format!("networks: {}", flow_list(block.cidrs().iter().map(|net| scalar(&net.to_string()))))])
        }
        (Peer::Block(_) | Peer::Nodes(_) | Peer::PodsIn(..), _) => None,
    }
}

/// `namespaces`, or `pods` where labels of pods matter.
fn pods(set: &PodSet) -> Option<Block> {
    let Namespaces::Selected(namespaces) = &set.namespaces else { return None };
    if set.pods.is_empty() {
        return Some(under("namespaces", selector(namespaces)?));
    }
    let mut lines = under("namespaceSelector", selector(namespaces)?);
    lines.extend(under("podSelector", selector(&set.pods)?));
    Some(under("pods", lines))
}

fn port(port: &PortRule) -> Option<String> {
    if let (None, Ports::Named(name)) = (port.protocol, &port.ports) {
        return Some(format!("{{destinationNamedPort: {}}}", scalar(name)));
    }
    let protocol = match port.protocol? {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    let (first, last) = numbers(&port.ports)?;
    let ports =
        if first == last { format!("number: {first}") } else { format!("range: {{start: {first}, end: {last}}}") };
    Some(format!("{{{protocol}: {{destinationPort: {{{ports}}}}}}}"))
}

fn port_of_v1alpha1(port: &PortRule) -> Option<String> {
    if let (None, Ports::Named(name)) = (port.protocol, &port.ports) {
        return Some(format!("{{namedPort: {}}}", scalar(name)));
    }
    let protocol = port.protocol?;
    Some(match numbers(&port.ports)? {
        (first, last) if first == last => format!("{{portNumber: {{port: {first}, protocol: {protocol}}}}}"),
        (first, last) => format!("{{portRange: {{start: {first}, end: {last}, protocol: {protocol}}}}}"),
    })
}

fn numbers(ports: &Ports) -> Option<(u16, u16)> {
    match ports {
        Ports::All => Some((1, u16::MAX)),
        Ports::Range(range) => Some(range.bounds()),
        Ports::Named(_) => None,
    }
}
