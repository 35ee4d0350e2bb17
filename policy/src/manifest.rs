//! Policies as text: YAML that `kubectl apply` takes, in the manner of the lessons' manifests. The reverse of
//! [`crate::parse`]; a law in the tests holds the two together.
//!
//! What is not the engine's business is not in it: labels, annotations and comments of the manifest that a policy was
//! read from.

mod cluster_policy;
mod yaml;

use crate::block::IpBlock;
use crate::names::Direction;
use crate::peer::{Namespaces, Peer, PodSet};
use crate::policy::{Action, Policy, Rule};
use crate::port::{PortRule, Ports};
use crate::selector::{Selector, Test};
use yaml::{Block, flow_list, item, scalar, under};

/// How many items a list may have on one line.
const ON_ONE_LINE: usize = 3;

/// The policy as a YAML document, without a marker in front. `None` where its kind cannot say what it means, or part of it
/// was not understood.
pub fn yaml(policy: &Policy) -> Option<String> {
    let lines = match policy.id.kind {
        "NetworkPolicy" => network_policy(policy)?,
        kind => cluster_policy::lines(policy, cluster_policy::Dialect::of(kind)?)?,
    };
    Some(lines.join("\n") + "\n")
}

/// Several policies as one text, with a comment in front of each.
pub fn documents<'a>(documents: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (index, (comment, yaml)) in documents.into_iter().enumerate() {
        if index > 0 {
            text.push_str("---\n");
        }
        for line in comment.lines() {
            text.push_str("# ");
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(yaml);
    }
    text
}

fn network_policy(policy: &Policy) -> Option<Block> {
    let namespace = policy.id.namespace.as_deref()?;
    let Namespaces::Own(own) = &policy.subject.namespaces else { return None };
    if own != namespace || !policy.only_allows() {
        return None;
    }
    let mut spec = under("podSelector", selector(&policy.subject.pods)?);
    let types = [(Direction::Ingress, "Ingress"), (Direction::Egress, "Egress")];
    let types: Vec<&str> =
        types.iter().filter(|(direction, _)| policy.rules(*direction).is_some()).map(|(_, word)| *word).collect();
    if types.is_empty() {
        return None;
    }
    spec.push(format!("policyTypes: {}", flow_list(types)));
    for (direction, field, peers) in [(Direction::Ingress, "ingress", "from"), (Direction::Egress, "egress", "to")] {
        let rules = policy.rules(direction).unwrap_or_default();
        if !rules.is_empty() {
            let rules: Option<Vec<Block>> = rules.iter().map(|it| rule(it, peers, namespace)).collect();
            spec.extend(under(field, rules?.into_iter().flat_map(item).collect()));
        }
    }
    let mut lines = head("networking.k8s.io/v1", policy);
    lines.extend(under("spec", spec));
    Some(lines)
}

fn head(version: &str, policy: &Policy) -> Block {
    let mut metadata = vec![format!("name: {}", scalar(&policy.id.name))];
    metadata.extend(policy.id.namespace.as_ref().map(|namespace| format!("namespace: {}", scalar(namespace))));
    let mut lines = vec![format!("apiVersion: {version}"), format!("kind: {}", policy.id.kind)];
    lines.extend(under("metadata", metadata));
    lines
}

fn rule(rule: &Rule, field: &str, own: &str) -> Option<Block> {
    if rule.doubt.is_some() || rule.action != Action::Allow {
        return None;
    }
    let mut lines = Block::new();
    if !rule.peers.is_empty() {
        let peers: Option<Vec<Block>> = rule.peers.iter().map(|it| peer(it, own)).collect();
        lines.extend(under(field, peers?.into_iter().flat_map(item).collect()));
    }
    if !rule.ports.is_empty() {
        let ports: Option<Vec<Block>> = rule.ports.iter().map(port).collect();
        lines.extend(under("ports", ports?.into_iter().flat_map(item).collect()));
    }
    Some(if lines.is_empty() { vec!["{}".to_owned()] } else { lines })
}

fn peer(peer: &Peer, own: &str) -> Option<Block> {
    match peer {
        Peer::Pods(PodSet { namespaces: Namespaces::Own(name), pods }) => {
            if name == own {
                Some(under("podSelector", selector(pods)?))
            } else {
                None
            }
        }
        Peer::Pods(PodSet { namespaces: Namespaces::Selected(namespaces), pods }) => {
            let mut lines = under("namespaceSelector", selector(namespaces)?);
            if !pods.is_empty() {
                lines.extend(under("podSelector", selector(pods)?));
            }
            Some(lines)
        }
        Peer::Block(block) => Some(under("ipBlock", ip_block(block)?)),
        Peer::PodsIn(..) | Peer::Nodes(_) => None,
    }
}

fn ip_block(block: &IpBlock) -> Option<Block> {
    let [cidr] = block.cidrs() else { return None };
    let cidr = scalar(&cidr.to_string());
    let except: Vec<String> = block.except().iter().map(|net| scalar(&net.to_string())).collect();
    if except.is_empty() {
        return Some(vec![format!("{{cidr: {cidr}}}")]);
    }
    let mut lines = vec![format!("cidr: {cidr}")];
    if except.len() <= ON_ONE_LINE {
        lines.push(format!("except: {}", flow_list(&except)));
    } else {
        lines.extend(under("except", except.into_iter().flat_map(|net| item(vec![net])).collect()));
    }
    Some(lines)
}

fn port(port: &PortRule) -> Option<Block> {
    let protocol = port.protocol?;
    let text = match &port.ports {
        Ports::All => format!("{{protocol: {protocol}}}"),
        Ports::Named(name) => format!("{{port: {}, protocol: {protocol}}}", scalar(name)),
        Ports::Range(range) => match range.bounds() {
            (first, last) if first == last => format!("{{port: {first}, protocol: {protocol}}}"),
            (first, last) => format!("{{port: {first}, endPort: {last}, protocol: {protocol}}}"),
        },
    };
    Some(vec![text])
}

/// `matchLabels` for what is equal, `matchExpressions` for all else.
fn selector(selector: &Selector) -> Option<Block> {
    if selector.expression().is_some() {
        return None;
    }
    let (mut labels, mut expressions): (Vec<(&str, &str)>, Vec<String>) = (Vec::new(), Vec::new());
    for requirement in selector.requirements() {
        let key = requirement.key.as_str();
        let operator = match &requirement.test {
            Test::In(values) => match values.first() {
                // One key can stand in a map only once.
                Some(value) if values.len() == 1 && labels.iter().all(|(known, _)| *known != key) => {
                    labels.push((key, value));
                    continue;
                }
                Some(_) | None => "In",
            },
            Test::NotIn(_) => "NotIn",
            Test::Exists => "Exists",
            Test::DoesNotExist => "DoesNotExist",
            Test::Contains(_) | Test::StartsWith(_) | Test::EndsWith(_) => return None,
        };
        let values = match &requirement.test {
            Test::In(values) | Test::NotIn(values) => {
                format!(", values: {}", flow_list(values.iter().map(|value| scalar(value))))
            }
            Test::Exists | Test::DoesNotExist | Test::Contains(_) | Test::StartsWith(_) | Test::EndsWith(_) => {
                String::new()
            }
        };
        expressions.push(format!("{{key: {}, operator: {operator}{values}}}", scalar(key)));
    }
    let mut lines = Block::new();
    let pairs = labels.iter().map(|(key, value)| format!("{}: {}", scalar(key), scalar(value)));
    if labels.len() > ON_ONE_LINE {
        lines.extend(under("matchLabels", pairs.collect()));
    } else if !labels.is_empty() {
        lines.push(format!("matchLabels: {{{}}}", pairs.collect::<Vec<_>>().join(", ")));
    }
    if !expressions.is_empty() {
        lines.extend(under("matchExpressions", expressions.into_iter().flat_map(|it| item(vec![it])).collect()));
    }
    Some(if lines.is_empty() { vec!["{}".to_owned()] } else { lines })
}
