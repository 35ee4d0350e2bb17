//! Whether one thing lies within another, whatever pods there are. `false` also where it cannot be told.

use super::addresses::Addresses;
use crate::names::Protocol;
use crate::peer::{Namespaces, Peer, PodSet};
use crate::policy::Rule;
use crate::port::{PortRule, Ports};
use crate::selector::{Requirement, Selector, Test};
use crate::traffic::PortSet;

/// Whether all labels that meet the first meet the second.
pub(super) fn requirement(inner: &Requirement, outer: &Requirement) -> bool {
    if inner.key != outer.key {
        return false;
    }
    match (&inner.test, &outer.test) {
        (one, other) if one == other => true,
        (Test::In(one), Test::In(other)) => one.is_subset(other),
        (Test::In(one), Test::NotIn(other)) => one.is_disjoint(other),
        (Test::In(_), Test::Exists) | (Test::DoesNotExist, Test::NotIn(_)) => true,
        (Test::NotIn(one), Test::NotIn(other)) => other.is_subset(one),
        (_, _) => false,
    }
}

pub(super) fn selector(inner: &Selector, outer: &Selector) -> bool {
    inner.expression().is_none()
        && outer.expression().is_none()
        && outer.requirements().iter().all(|outer| inner.requirements().iter().any(|inner| requirement(inner, outer)))
}

/// Whether no labels meet it.
pub(super) fn is_never(selector: &Selector) -> bool {
    let requirements = selector.requirements();
    requirements.iter().enumerate().any(|(at, one)| {
        requirements[at + 1..].iter().filter(|other| other.key == one.key).any(|other| match (&one.test, &other.test) {
            (Test::In(one), Test::In(other)) => one.is_disjoint(other),
            (Test::In(one), Test::NotIn(other)) | (Test::NotIn(other), Test::In(one)) => one.is_subset(other),
            (Test::In(_) | Test::Exists, Test::DoesNotExist) | (Test::DoesNotExist, Test::In(_) | Test::Exists) => true,
            (_, _) => false,
        })
    })
}

pub(super) fn pods(inner: &PodSet, outer: &PodSet) -> bool {
    let namespaces = match (&inner.namespaces, &outer.namespaces) {
        (Namespaces::Own(one), Namespaces::Own(other)) => one == other,
        (Namespaces::Own(_), Namespaces::Selected(other)) => other.is_empty(),
        (Namespaces::Selected(_), Namespaces::Own(_)) => false,
        (Namespaces::Selected(one), Namespaces::Selected(other)) => selector(one, other),
    };
    namespaces && selector(&inner.pods, &outer.pods)
}

pub(super) fn peer(inner: &Peer, outer: &Peer) -> bool {
    match (inner, outer) {
        (Peer::Pods(one), Peer::Pods(other)) => pods(one, other),
        (Peer::Block(one), Peer::Block(other)) => match (Addresses::of(one), Addresses::of(other)) {
            (Some(one), Some(other)) => one.is_within(&other),
            (_, _) => false,
        },
        (one, other) => one == other,
    }
}

pub(super) fn peers(inner: &[Peer], outer: &[Peer]) -> bool {
    outer.is_empty() || (!inner.is_empty() && inner.iter().all(|one| outer.iter().any(|other| peer(one, other))))
}

/// Those that are given by number.
pub(super) fn numbers(ports: &[PortRule], protocol: Protocol) -> PortSet {
    let own = ports.iter().filter(|port| port.protocol == Some(protocol));
    own.fold(PortSet::default(), |set, port| match &port.ports {
        Ports::All => PortSet::all(),
        Ports::Range(range) => set.union(&PortSet::range(range.bounds().0, range.bounds().1)),
        Ports::Named(_) => set,
    })
}

pub(super) fn port(inner: &PortRule, outer: &[PortRule]) -> bool {
    let Some(protocol) = inner.protocol else { return outer.contains(inner) };
    let all = numbers(outer, protocol);
    match &inner.ports {
        Ports::All => all.is_all(),
        Ports::Range(range) => PortSet::range(range.bounds().0, range.bounds().1).difference(&all).is_empty(),
        // Whatever number it stands for.
        Ports::Named(_) => all.is_all() || outer.contains(inner),
    }
}

/// No ports means any, of protocols without ports, too: nothing that is listed is that much.
pub(super) fn ports(inner: &[PortRule], outer: &[PortRule]) -> bool {
    outer.is_empty() || (!inner.is_empty() && inner.iter().all(|one| port(one, outer)))
}

pub(super) fn rule(inner: &Rule, outer: &Rule) -> bool {
    peers(&inner.peers, &outer.peers) && ports(&inner.ports, &outer.ports)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::label::Labels;

    /// All requirements on one key with values of these, and on another one.
    pub fn requirements() -> Vec<Requirement> {
        let mut tests = vec![Test::Exists, Test::DoesNotExist];
        for bits in 1..8_u8 {
            let chosen = ["", "a", "b"].into_iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
            let values: BTreeSet<String> = chosen.map(|(_, value)| value.to_owned()).collect();
            tests.extend([Test::In(values.clone()), Test::NotIn(values)]);
        }
        let keyed =
            |key: &str| tests.iter().map(|test| Requirement { key: key.to_owned(), test: test.clone() }).collect();
        let all: [Vec<Requirement>; 2] = ["k", "l"].map(keyed);
        all.concat()
    }

    /// All that labels can be to these requirements: each key absent, with each value, or with one that none names.
    pub fn all_labels() -> Vec<Labels> {
        let values = [None, Some(""), Some("a"), Some("b"), Some("c")];
        let pairs = values.into_iter().flat_map(|k| values.map(|l| [("k", k), ("l", l)]));
        let labels = pairs.map(|pair| {
            let there = pair.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
            there.collect()
        });
        labels.collect()
    }

    /// The argument for every cluster: over all labels there can be.
    #[test]
    fn what_is_implied_holds_for_all_labels() {
        let (requirements, labels) = (requirements(), all_labels());
        let holds = |list: &[&Requirement], labels: &Labels| list.iter().all(|it| it.holds(labels));
        for one in &requirements {
            for other in &requirements {
                let implied = labels.iter().filter(|it| one.holds(it)).all(|it| other.holds(it));
                // `Exists` follows from nothing but itself and values, and so on: it is told wherever it is so.
                let told = requirement(one, other);
                assert!(!told || implied, "{one} does not imply {other}");
                assert!(told || !implied || one.key != other.key, "{one} implies {other}, and that is not told");
                let never = is_never(&Selector::new([one.clone(), other.clone()]));
                assert_eq!(never, !labels.iter().any(|it| holds(&[one, other], it)), "{one} and {other}");
            }
        }
    }
}
