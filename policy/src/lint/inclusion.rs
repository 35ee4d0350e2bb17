//! Whether one set lies in another, whatever pods there are: by what their selectors, blocks and ports say. `false` where
//! that cannot be told.

use std::net::IpAddr;

use crate::block::IpBlock;
use crate::label::{Labels, NAMESPACE_NAME};
use crate::names::Protocol;
use crate::namespace::Namespace;
use crate::peer::{Match, Namespaces, Peer, PodSet};
use crate::policy::Rule;
use crate::port::{PortRule, Ports};
use crate::selector::{Requirement, Selector, Test};
use crate::traffic::PortSet;

/// Whether all that the inner rule matches, the outer one matches, too. What they do is not looked at.
pub(super) fn rule(inner: &Rule, outer: &Rule) -> bool {
    peers(inner, outer) && ports(&inner.ports, &outer.ports)
}

fn peers(inner: &Rule, outer: &Rule) -> bool {
    let in_one = |own: &Peer| outer.peers.iter().any(|other| peer(own, other));
    outer.peers.is_empty() || !inner.peers.is_empty() && inner.peers.iter().all(in_one)
}

/// Whether all that one peer matches, another one matches, too.
pub(super) fn peer(inner: &Peer, outer: &Peer) -> bool {
    match (inner, outer) {
        (Peer::Pods(inner) | Peer::PodsIn(inner, _), Peer::Pods(outer)) => pods(inner, outer),
        (Peer::Block(inner) | Peer::PodsIn(_, inner), Peer::Block(outer)) => block(inner, outer),
        (Peer::PodsIn(inner, a), Peer::PodsIn(outer, b)) => pods(inner, outer) && block(a, b),
        (Peer::Nodes(inner), Peer::Nodes(outer)) => selector(inner, outer),
        (Peer::Pods(_), Peer::Block(_) | Peer::PodsIn(..) | Peer::Nodes(_))
        | (Peer::Block(_), Peer::Pods(_) | Peer::PodsIn(..) | Peer::Nodes(_))
        | (Peer::PodsIn(..), Peer::Nodes(_))
        | (Peer::Nodes(_), Peer::Pods(_) | Peer::Block(_) | Peer::PodsIn(..)) => false,
    }
}

/// Whether all pods of one set are in another.
pub(super) fn pods(inner: &PodSet, outer: &PodSet) -> bool {
    let namespaces = match (&inner.namespaces, &outer.namespaces) {
        (Namespaces::Own(inner), Namespaces::Own(outer)) => inner == outer,
        (Namespaces::Own(name), Namespaces::Selected(outer)) => {
            // Only what its name says: its other labels may change.
            let named = Namespace::new(name.clone(), Labels::new());
            outer.expression().is_none()
                && outer.requirements().iter().all(|it| it.key == NAMESPACE_NAME && it.holds(&named.labels))
        }
        (Namespaces::Selected(inner), Namespaces::Own(name)) => inner.requirements().iter().any(|it| {
            it.key == NAMESPACE_NAME
                && matches!(&it.test, Test::In(values) if values.len() == 1 && values.contains(name))
        }),
        (Namespaces::Selected(inner), Namespaces::Selected(outer)) => selector(inner, outer),
    };
    namespaces && selector(&inner.pods, &outer.pods)
}

/// Whether all labels that meet one selector meet another.
pub(super) fn selector(inner: &Selector, outer: &Selector) -> bool {
    let implied = |it: &Requirement| inner.requirements().iter().any(|own| requirement(own, it));
    outer.requirements().iter().all(implied)
        && outer.expression().is_none_or(|expression| inner.expression() == Some(expression))
}

fn requirement(inner: &Requirement, outer: &Requirement) -> bool {
    if inner.key != outer.key {
        return false;
    }
    let label = |value: &String| Labels::from([(inner.key.clone(), value.clone())]);
    match (&inner.test, &outer.test) {
        (Test::In(values), _) => values.iter().all(|value| outer.holds(&label(value))),
        (Test::NotIn(own), Test::NotIn(other)) => other.is_subset(own),
        (Test::DoesNotExist, Test::DoesNotExist | Test::NotIn(_)) => true,
        (Test::Exists | Test::Contains(_) | Test::StartsWith(_) | Test::EndsWith(_), Test::Exists) => true,
        (own, other) => own == other,
    }
}

/// Two requirements of a selector that no labels meet together.
pub(super) fn contradiction(selector: &Selector) -> Option<(&Requirement, &Requirement)> {
    let all = selector.requirements();
    let needs_it = |test: &Test| match test {
        Test::In(_) | Test::Exists | Test::Contains(_) | Test::StartsWith(_) | Test::EndsWith(_) => true,
        Test::NotIn(_) | Test::DoesNotExist => false,
    };
    for (at, a) in all.iter().enumerate() {
        for b in all[at + 1..].iter().filter(|b| b.key == a.key) {
            let clash = match (&a.test, &b.test) {
                (Test::In(values), _) => {
                    !values.iter().any(|value| b.holds(&Labels::from([(a.key.clone(), value.clone())])))
                }
                (_, Test::In(values)) => {
                    !values.iter().any(|value| a.holds(&Labels::from([(a.key.clone(), value.clone())])))
                }
                (test, Test::DoesNotExist) | (Test::DoesNotExist, test) => needs_it(test),
                (_, _) => false,
            };
            if clash {
                return Some((a, b));
            }
        }
    }
    None
}

/// Whether all addresses of one block are in another.
pub(super) fn block(inner: &IpBlock, outer: &IpBlock) -> bool {
    let outer = ranges(outer);
    ranges(inner).iter().all(|(first, last)| outer.iter().any(|(from, to)| from <= first && last <= to))
}

/// The addresses of a block as ranges, ascending, neither touching nor overlapping, IPv4 first.
pub(super) fn ranges(block: &IpBlock) -> Vec<(IpAddr, IpAddr)> {
    let mut whole: Vec<(IpAddr, IpAddr)> = block.cidrs().iter().map(|net| (net.network(), net.broadcast())).collect();
    whole = merged(whole);
    let except = merged(block.except().iter().map(|net| (net.network(), net.broadcast())).collect());
    let mut rest = Vec::new();
    for (first, last) in whole {
        let mut next = Some(first);
        for (from, to) in except.iter().filter(|(from, to)| *from <= last && *to >= first) {
            if let Some(start) = next.filter(|start| start < from) {
                rest.extend(before(*from).map(|end| (start, end)));
            }
            next = next.and_then(|start| if *to >= start { after(*to) } else { Some(start) });
        }
        rest.extend(
            next.filter(|start| *start <= last && start.is_ipv4() == last.is_ipv4()).map(|start| (start, last)),
        );
    }
    rest
}

fn merged(mut ranges: Vec<(IpAddr, IpAddr)>) -> Vec<(IpAddr, IpAddr)> {
    ranges.sort_unstable();
    let mut merged: Vec<(IpAddr, IpAddr)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(open) if first <= open.1 || after(open.1) == Some(first) => open.1 = open.1.max(last),
            Some(_) | None => merged.push((first, last)),
        }
    }
    merged
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

fn before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_sub(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(v6) => v6.to_bits().checked_sub(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

/// Whether all ports of one list are in another. An empty list has all.
pub(super) fn ports(inner: &[PortRule], outer: &[PortRule]) -> bool {
    if outer.is_empty() {
        return true;
    }
    // Mostly each item lies in one of the others, and where there is one only nothing else is left to look at.
    let in_one = |own: &PortRule| outer.iter().any(|other| port(own, other));
    if !inner.is_empty() && inner.iter().all(in_one) {
        return true;
    }
    if let [outer] = outer
        && outer.protocol.is_some()
    {
        return false;
    }
    Protocol::ALL.into_iter().all(|protocol| {
        let have = numbers(outer, protocol);
        let (numbers, names) = (numbers(inner, protocol), names(inner, protocol));
        let mut names = names.into_iter();
        numbers.difference(&have).is_empty()
            && names.all(|name| have.is_all() || self::names(outer, protocol).contains(&name))
    })
}

/// Whether one item holds another one by itself.
fn port(inner: &PortRule, outer: &PortRule) -> bool {
    let protocols = outer.protocol.is_none() || inner.protocol == outer.protocol;
    protocols
        && match (&inner.ports, &outer.ports) {
            (_, Ports::All) => true,
            (Ports::Range(inner), Ports::Range(outer)) => {
                let (inner, outer) = (inner.bounds(), outer.bounds());
                outer.0 <= inner.0 && inner.1 <= outer.1
            }
            (Ports::Named(inner), Ports::Named(outer)) => inner == outer,
            (Ports::All, Ports::Range(outer)) => outer.bounds() == (1, u16::MAX),
            (Ports::All | Ports::Range(_), Ports::Named(_)) => false,
            (Ports::Named(_), Ports::Range(outer)) => outer.bounds() == (1, u16::MAX),
        }
}

/// The ports of one protocol that a list gives by number.
pub(super) fn numbers(list: &[PortRule], protocol: Protocol) -> PortSet {
    if list.is_empty() {
        return PortSet::all();
    }
    let own = list.iter().filter(|port| port.protocol.is_none_or(|it| it == protocol));
    let ranges = own.filter_map(|port| match &port.ports {
        Ports::All => Some((1, u16::MAX)),
        Ports::Range(range) => Some(range.bounds()),
        Ports::Named(_) => None,
    });
    ranges.collect()
}

fn names(list: &[PortRule], protocol: Protocol) -> Vec<&str> {
    let own = list.iter().filter(|port| port.protocol.is_none_or(|it| it == protocol));
    own.filter_map(|port| match &port.ports {
        Ports::Named(name) => Some(name.as_str()),
        Ports::All | Ports::Range(_) => None,
    })
    .collect()
}

/// Whether two lists have a port in common: `Maybe` where that depends on what a pod calls its ports.
pub(super) fn ports_meet(a: &[PortRule], b: &[PortRule]) -> Match {
    if a.is_empty() || b.is_empty() {
        return Match::Yes;
    }
    let mut found = Match::No;
    for a in a {
        for b in b.iter().filter(|b| a.protocol.is_none() || b.protocol.is_none() || a.protocol == b.protocol) {
            match (&a.ports, &b.ports) {
                (Ports::All, _) | (_, Ports::All) => return Match::Yes,
                (Ports::Range(a), Ports::Range(b)) => {
                    let (a, b) = (a.bounds(), b.bounds());
                    if a.0 <= b.1 && b.0 <= a.1 {
                        return Match::Yes;
                    }
                }
                (Ports::Named(a), Ports::Named(b)) if a == b => return Match::Yes,
                (Ports::Named(_), _) | (_, Ports::Named(_)) => found = Match::Maybe,
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpBlock {
        let (cidrs, except) = text.split_once(" - ").unwrap_or((text, ""));
        let nets = |text: &str| {
            text.split_whitespace().map(|net| net.parse().expect("a test names CIDRs")).collect::<Vec<ipnet::IpNet>>()
        };
        IpBlock::of(nets(cidrs), nets(except))
    }

    #[test]
    fn blocks_lie_in_blocks() {
        for (inner, outer, expected) in [
            ("10.0.0.0/24", "10.0.0.0/8", true),
            ("10.0.0.0/8", "10.0.0.0/24", false),
            ("10.0.0.0/8", "10.0.0.0/9 10.128.0.0/9", true),
            ("10.0.0.0/8 - 10.1.0.0/16", "10.0.0.0/8 - 10.1.0.0/16", true),
            ("10.0.0.0/8", "10.0.0.0/8 - 10.1.0.0/16", false),
            ("10.0.0.0/8 - 10.1.0.0/16", "10.0.0.0/8 - 10.1.2.0/24", true),
            ("10.0.0.0/8 - 10.1.2.0/24", "10.0.0.0/8 - 10.1.0.0/16", false),
            ("10.0.0.0/8 - 10.0.0.0/9 10.128.0.0/9", "192.0.2.0/24", true),
            ("0.0.0.0/0", "::/0", false),
            ("::/0", "::/0", true),
            ("255.255.255.0/24", "255.0.0.0/8 - 255.255.255.255/32", false),
            ("fd00::/64", "fd00::/8 - fd00::/96", false),
        ] {
            assert_eq!(block(&net(inner), &net(outer)), expected, "{inner} in {outer}");
        }
    }
}
