//! The nearest miss: which rule came closest to allowing, and what differs.

use std::net::IpAddr;

use crate::block::IpBlock;
use crate::judge::{Target, View};
use crate::label::Labels;
use crate::model::Model;
use crate::names::Direction;
use crate::peer::{Namespaces, NodeLabels, Peer, PodSet};
use crate::policy::{Action, Rule};
use crate::port::{PortRule, Ports};
use crate::selector::Selector;
use crate::verdict::NearestMiss;

/// A peer of another sort than the other end is further off than any single label or address.
const OTHER_SORT: usize = 2;

/// How many ports of a rule a sentence lists.
const LISTED: usize = 6;

/// The rule with the fewest differing conditions; among equals the first.
pub(crate) fn nearest(
    model: &Model,
    policies: &[usize],
    direction: Direction,
    other: &View<'_>,
    target: &Target<'_>,
) -> Option<NearestMiss> {
    let mut best: Option<(usize, NearestMiss)> = None;
    for policy in policies.iter().map(|index| &model.policies[*index]) {
        for (rule_index, rule) in policy.rules(direction).unwrap_or_default().iter().enumerate() {
            if rule.action != Action::Allow || rule.is_never() {
                continue;
            }
            let Some((peer_index, peer)) = closest(rule.peer_slots(), |peer| peer_difference(peer, other)) else {
                continue;
            };
            let Some((port_index, port)) = closest(rule.port_slots(), |port| port_difference(port, rule, target))
            else {
                continue;
            };
            let count = peer.count + port.count;
            if best.as_ref().is_none_or(|(least, _)| count < *least) {
                let texts: Vec<String> = peer.texts.into_iter().chain(port.texts).collect();
                let rule = policy.rule_ref(direction, rule_index, peer_index, port_index);
                best = Some((count, NearestMiss { rule, difference: texts.join("; ") }));
            }
        }
    }
    best.map(|(_, miss)| miss)
}

/// What differs, and how much.
#[derive(Default)]
struct Difference {
    count: usize,
    texts: Vec<String>,
}

impl Difference {
    fn one(text: String) -> Self {
        Self { count: 1, texts: vec![text] }
    }

    fn add(&mut self, text: String) {
        self.count += 1;
        self.texts.push(text);
    }
}

fn closest<'r, T: 'r>(
    slots: impl Iterator<Item = (Option<usize>, Option<&'r T>)>,
    difference: impl Fn(&T) -> Difference,
) -> Option<(Option<usize>, Difference)> {
    slots
        .map(|(index, item)| (index, item.map(&difference).unwrap_or_default()))
        .min_by_key(|(_, difference)| difference.count)
}

fn peer_difference(peer: &Peer, other: &View<'_>) -> Difference {
    match peer {
        Peer::Block(block) => block_difference(block, other),
        Peer::Pods(set) => set_difference(set, peer, other),
        Peer::PodsIn(set, block) => {
            let mut difference = set_difference(set, peer, other);
            let of_block = block_difference(block, other);
            difference.count += of_block.count;
            difference.texts.extend(of_block.texts);
            difference
        }
        Peer::Nodes(selector) => match other.counterpart.node {
            None => no_such(peer, other, "node"),
            Some(NodeLabels::Unknown) => {
                Difference::one(format!("its peer is {peer}, and the labels of {} are not known", other.name))
            }
            Some(NodeLabels::Known(labels)) => {
                let mut difference = Difference::default();
                unmet(selector, labels, "its peer", &other.name, &mut difference);
                difference
            }
        },
    }
}

fn set_difference(set: &PodSet, peer: &Peer, other: &View<'_>) -> Difference {
    let Some((pod, namespace)) = other.counterpart.pod else {
        return no_such(peer, other, "pod");
    };
    let mut difference = Difference::default();
    match &set.namespaces {
        Namespaces::Own(own) if *own != pod.id.namespace => {
            difference.add(format!("its peer must be in namespace {own}, {} is in {}", pod.id.name, pod.id.namespace));
        }
        Namespaces::Own(_) => {}
        Namespaces::Selected(selector) => {
            let whose = format!("namespace {}", namespace.name);
            unmet(selector, &namespace.labels, "its peer's namespace", &whose, &mut difference);
        }
    }
    unmet(&set.pods, &pod.labels, "its peer", &pod.id.name, &mut difference);
    difference
}

fn no_such(peer: &Peer, other: &View<'_>, what: &str) -> Difference {
    Difference { count: OTHER_SORT, texts: vec![format!("its peer is {peer}, {} is no such {what}", other.name)] }
}

fn unmet(selector: &Selector, labels: &Labels, needy: &str, whose: &str, difference: &mut Difference) {
    for requirement in selector.unmet(labels) {
        let has = match labels.get(&requirement.key) {
            Some(value) if value.is_empty() => format!("has it with an empty value: {}=\"\"", requirement.key),
            Some(value) => format!("has {}={value}", requirement.key),
            None => format!("has no label {}", requirement.key),
        };
        difference.add(format!("{needy} needs {requirement}, {whose} {has}"));
    }
    if let Some(expression) = selector.expression().filter(|expression| !expression.holds(labels)) {
        difference.add(format!("{needy} needs {expression}, which the labels of {whose} do not meet"));
    }
}

fn block_difference(block: &IpBlock, other: &View<'_>) -> Difference {
    let Some(address) = other.counterpart.address else {
        return Difference::one(format!("its ipBlock is {block}, {} has no known address", other.name));
    };
    if block.contains(address) {
        return Difference::default();
    }
    let cidrs = joined(&block.cidrs().iter().map(ToString::to_string).collect::<Vec<_>>());
    Difference::one(match excepting(block, address) {
        Some(except) => {
            format!("its ipBlock {cidrs} leaves out {except}, and with it {}", whose(address, other))
        }
        None => format!("its ipBlock {cidrs} does not contain {}", whose(address, other)),
    })
}

fn excepting(block: &IpBlock, address: IpAddr) -> Option<ipnet::IpNet> {
    let holds = block.cidrs().iter().any(|net| net.contains(&address));
    holds.then(|| block.except().iter().copied().find(|net| net.contains(&address)))?
}

fn whose(address: IpAddr, other: &View<'_>) -> String {
    let plain = address.to_string();
    if other.name == plain { plain } else { format!("{plain} ({})", other.name) }
}

fn port_difference(port: &PortRule, rule: &Rule, target: &Target<'_>) -> Difference {
    if target.is_in(port) {
        return Difference::default();
    }
    let wanted = format!("{} {}", target.protocol, target.port);
    let mut allowed: Vec<String> = rule.ports.iter().take(LISTED).map(|port| described(port, target)).collect();
    if rule.ports.len() > LISTED {
        allowed.push(format!("{} more", rule.ports.len() - LISTED));
    }
    let mut difference = Difference::one(format!("allows {}, not {wanted}", joined(&allowed)));
    let number_differs = match &port.ports {
        Ports::All => false,
        Ports::Range(range) => !range.contains(target.port),
        Ports::Named(name) => !target.names.is_some_and(|names| {
            port.protocols().any(|protocol| names.resolve(protocol, name).any(|number| number == target.port))
        }),
    };
    if port.protocol.is_some_and(|own| own != target.protocol) && number_differs {
        difference.count += 1;
    }
    difference
}

/// A port of a rule, and for a name what it stands for at this destination.
fn described(port: &PortRule, target: &Target<'_>) -> String {
    let Ports::Named(name) = &port.ports else {
        return port.to_string();
    };
    let (Some(names), Some(pod)) = (target.names, target.pod) else {
        return format!("{port} (names count for pods only)");
    };
    let numbers = port.protocols().flat_map(|protocol| names.resolve(protocol, name).collect::<Vec<_>>());
    let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
    if numbers.is_empty() {
        format!("{port} (which {pod} does not have)")
    } else {
        format!("{port} (which is {} on {pod})", joined(&numbers))
    }
}

fn joined(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
