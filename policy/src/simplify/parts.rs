//! What rules are made of, each for itself: selectors, peers, ports. All of it holds for every cluster.

use std::collections::BTreeSet;

use super::{Rewrite, addresses, within};
use crate::names::Protocol;
use crate::peer::{Namespaces, Peer, PodSet};
use crate::port::{PortRange, PortRule, Ports};
use crate::selector::{Requirement, Selector, Test};

/// The same selector with fewer requirements; `None` where there is no such.
pub(super) fn selector(selector: &Selector) -> Option<Selector> {
    if selector.expression().is_some() || within::is_never(selector) {
        return None;
    }
    let mut requirements: Vec<Requirement> = selector.requirements().to_vec();
    let mut at = 0;
    while at < requirements.len() {
        let merged = (at + 1..requirements.len())
            .find_map(|other| Some((other, both(&requirements[at], &requirements[other])?)));
        match merged {
            Some((other, merged)) => {
                requirements.remove(other);
                requirements[at] = merged;
                at = 0;
            }
            None => at += 1,
        }
    }
    (requirements.len() < selector.requirements().len()).then(|| Selector::new(requirements))
}

/// Two requirements as one.
fn both(one: &Requirement, other: &Requirement) -> Option<Requirement> {
    if within::requirement(one, other) {
        return Some(one.clone());
    }
    if within::requirement(other, one) {
        return Some(other.clone());
    }
    let test = match (&one.test, &other.test) {
        (Test::In(one), Test::In(other)) => Test::In(one.intersection(other).cloned().collect()),
        (Test::In(one), Test::NotIn(other)) | (Test::NotIn(other), Test::In(one)) => {
            Test::In(one.difference(other).cloned().collect())
        }
        (Test::NotIn(one), Test::NotIn(other)) => Test::NotIn(one.union(other).cloned().collect()),
        (_, _) => return None,
    };
    let is_possible = !matches!(&test, Test::In(values) if values.is_empty());
    (one.key == other.key && is_possible).then(|| Requirement { key: one.key.clone(), test })
}

/// Makes a rule's peers fewer or simpler, one step; a list that was empty before is left alone, since that means anyone.
/// Gives what was done. `Some` with an emptied list: no labels can meet any of them.
pub(super) fn peers(peers: &mut Vec<Peer>) -> Option<(Rewrite, String)> {
    for peer in peers.iter_mut() {
        match peer {
            Peer::Pods(set) => {
                let before = set.to_string();
                if pod_set(set) {
                    return Some((Rewrite::Selector, format!("{before} is {set}")));
                }
            }
            Peer::Block(block) => {
                if let Some(less) = addresses::tidied(block) {
                    let what = format!("{block} is {less}");
                    *block = less;
                    return Some((Rewrite::Blocks, what));
                }
            }
            Peer::PodsIn(..) | Peer::Nodes(_) => {}
        }
    }
    if let Some(at) = peers.iter().position(|peer| peer.pods().is_some_and(is_never)) {
        let gone = peers.remove(at);
        return Some((Rewrite::Peers, format!("no pod can be among {gone}")));
    }
    for at in 0..peers.len() {
        for other in (0..peers.len()).filter(|other| *other != at) {
            if within::peer(&peers[at], &peers[other]) {
                let what = format!("{} is within {}", peers[at], peers[other]);
                peers.remove(at);
                return Some((Rewrite::Peers, what));
            }
        }
    }
    for at in 0..peers.len() {
        for other in at + 1..peers.len() {
            let (rewrite, merged) = match (&peers[at], &peers[other]) {
                (Peer::Block(one), Peer::Block(other)) => {
                    (Rewrite::Blocks, addresses::together(one, other).map(Peer::Block))
                }
                (Peer::Pods(one), Peer::Pods(other)) => (Rewrite::Peers, either(one, other).map(Peer::Pods)),
                (_, _) => continue,
            };
            if let Some(merged) = merged {
                let what = format!("{} and {} are {merged}", peers[at], peers[other]);
                peers.remove(other);
                peers[at] = merged;
                return Some((rewrite, what));
            }
        }
    }
    None
}

/// Whether no labels can put a pod in it.
fn is_never(set: &PodSet) -> bool {
    let namespaces = match &set.namespaces {
        Namespaces::Own(_) => false,
        Namespaces::Selected(selector) => within::is_never(selector),
    };
    namespaces || within::is_never(&set.pods)
}

/// Whether its selectors could be made simpler.
pub(super) fn pod_set(set: &mut PodSet) -> bool {
    let pods = selector(&set.pods);
    let namespaces = match &set.namespaces {
        Namespaces::Own(_) => None,
        Namespaces::Selected(namespaces) => selector(namespaces),
    };
    let is_changed = pods.is_some() || namespaces.is_some();
    set.pods = pods.unwrap_or_else(|| set.pods.clone());
    if let Some(namespaces) = namespaces {
        set.namespaces = Namespaces::Selected(namespaces);
    }
    is_changed
}

/// Two sets as one, where they differ in the values of one label only.
fn either(one: &PodSet, other: &PodSet) -> Option<PodSet> {
    if one.namespaces == other.namespaces {
        let pods = union(&one.pods, &other.pods)?;
        return Some(PodSet { namespaces: one.namespaces.clone(), pods });
    }
    let (Namespaces::Selected(a), Namespaces::Selected(b)) = (&one.namespaces, &other.namespaces) else { return None };
    if one.pods != other.pods {
        return None;
    }
    Some(PodSet { namespaces: Namespaces::Selected(union(a, b)?), pods: one.pods.clone() })
}

fn union(one: &Selector, other: &Selector) -> Option<Selector> {
    if one.expression().is_some() || other.expression().is_some() {
        return None;
    }
    let (a, b): (BTreeSet<_>, BTreeSet<_>) =
        (one.requirements().iter().collect(), other.requirements().iter().collect());
    let (only_a, only_b): (Vec<_>, Vec<_>) = (a.difference(&b).collect(), b.difference(&a).collect());
    let ([in_a], [in_b]) = (&only_a[..], &only_b[..]) else { return None };
    let (Test::In(values), Test::In(more)) = (&in_a.test, &in_b.test) else { return None };
    if in_a.key != in_b.key {
        return None;
    }
    let merged = Requirement { key: in_a.key.clone(), test: Test::In(values.union(more).cloned().collect()) };
    let common = a.intersection(&b).map(|requirement| (*requirement).clone());
    Some(Selector::new(common.chain([merged])))
}

/// The same ports with fewer items; `None` where there are no such.
pub(super) fn ports(ports: &[PortRule]) -> Option<Vec<PortRule>> {
    let mut fewer: Vec<PortRule> = Vec::new();
    for protocol in Protocol::ALL {
        let set = within::numbers(ports, protocol);
        let own = Some(protocol);
        if set.is_all() {
            fewer.push(PortRule { protocol: own, ports: Ports::All });
            continue;
        }
        let ranges = set.ranges().iter().filter_map(|(first, last)| PortRange::new(*first, *last));
        fewer.extend(ranges.map(|range| PortRule { protocol: own, ports: Ports::Range(range) }));
        let names: BTreeSet<&PortRule> =
            ports.iter().filter(|port| port.protocol == own && matches!(port.ports, Ports::Named(_))).collect();
        fewer.extend(names.into_iter().cloned());
    }
    fewer.extend(ports.iter().filter(|port| port.protocol.is_none()).cloned());
    (fewer.len() < ports.len()).then_some(fewer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simplify::within::tests::{all_labels, requirements};

    /// The argument for every cluster: over all labels there can be.
    #[test]
    fn selectors_made_simpler_select_the_same() {
        let (requirements, labels) = (requirements(), all_labels());
        let mut merged = (0, 0);
        for one in &requirements {
            for other in &requirements {
                let before = Selector::new([one.clone(), other.clone()]);
                if let Some(after) = selector(&before) {
                    merged.0 += 1;
                    assert!(labels.iter().all(|it| before.matches(it) == after.matches(it)), "{before} is not {after}");
                }
                let each = [one, other].map(|it| Selector::new([it.clone()]));
                if let Some(either) = union(&each[0], &each[1]) {
                    merged.1 += 1;
                    let is_same = |it| either.matches(it) == (each[0].matches(it) || each[1].matches(it));
                    assert!(labels.iter().all(is_same), "{one} or {other} is not {either}");
                }
            }
        }
        assert!(merged.0 > 100 && merged.1 > 50, "{merged:?}");
    }
}
