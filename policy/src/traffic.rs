//! Sets of destination ports, exact to the single port, and of traffic: one such set for each protocol.

use std::fmt;

use crate::names::Protocol;

/// The largest port number.
const LAST: u16 = u16::MAX;

/// A set of ports from 1 to 65535.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortSet {
    /// First and last, inclusive; ascending, neither touching nor overlapping.
    ranges: Vec<(u16, u16)>,
}

/// Ports of each protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Traffic {
    sets: [PortSet; Protocol::ALL.len()],
}

impl PortSet {
    /// Ports 1 to 65535.
    pub fn all() -> Self {
        Self { ranges: vec![(1, LAST)] }
    }

    /// One range, inclusive. Port 0 is nobody's and left out; a range that ends before it starts is empty.
    pub fn range(first: u16, last: u16) -> Self {
        let first = first.max(1);
        Self { ranges: if first <= last { vec![(first, last)] } else { Vec::new() } }
    }

    /// First and last of each range, inclusive; ascending, neither touching nor overlapping.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.ranges
    }

    /// Whether there is no port in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether all ports are in it.
    pub fn is_all(&self) -> bool {
        self.ranges == [(1, LAST)]
    }

    /// Whether the port is in it.
    pub fn contains(&self, port: u16) -> bool {
        let at = self.ranges.partition_point(|(_, last)| *last < port);
        self.ranges.get(at).is_some_and(|(first, _)| *first <= port)
    }

    /// How many ports are in it.
    pub fn len(&self) -> usize {
        self.ranges.iter().map(|(first, last)| usize::from(last - first) + 1).sum()
    }

    /// What is in one or both.
    pub fn union(&self, other: &Self) -> Self {
        if self.is_empty() || other.is_all() {
            return other.clone();
        }
        if other.is_empty() || self.is_all() {
            return self.clone();
        }
        let mut both: Vec<(u16, u16)> = self.ranges.iter().chain(&other.ranges).copied().collect();
        both.sort_unstable();
        let mut ranges: Vec<(u16, u16)> = Vec::with_capacity(both.len());
        for (first, last) in both {
            match ranges.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                Some(_) | None => ranges.push((first, last)),
            }
        }
        Self { ranges }
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut ranges, mut left, mut right) = (Vec::new(), self.ranges.iter(), other.ranges.iter());
        let (mut a, mut b) = (left.next(), right.next());
        while let (Some(&(a_first, a_last)), Some(&(b_first, b_last))) = (a, b) {
            let (first, last) = (a_first.max(b_first), a_last.min(b_last));
            if first <= last {
                ranges.push((first, last));
            }
            if a_last < b_last {
                a = left.next();
            } else {
                b = right.next();
            }
        }
        Self { ranges }
    }

    /// What is in this one only.
    pub fn difference(&self, other: &Self) -> Self {
        self.intersection(&other.complement())
    }

    /// All that is not in it.
    pub fn complement(&self) -> Self {
        let mut ranges = Vec::with_capacity(self.ranges.len() + 1);
        let mut next = Some(1);
        for &(first, last) in &self.ranges {
            if let Some(from) = next.filter(|from| *from < first) {
                ranges.push((from, first - 1));
            }
            next = last.checked_add(1);
        }
        ranges.extend(next.map(|from| (from, LAST)));
        Self { ranges }
    }
}

impl FromIterator<(u16, u16)> for PortSet {
    fn from_iter<I: IntoIterator<Item = (u16, u16)>>(ranges: I) -> Self {
        ranges.into_iter().fold(Self::default(), |set, (first, last)| set.union(&Self::range(first, last)))
    }
}

impl Traffic {
    /// All ports of all protocols.
    pub fn all() -> Self {
        Self { sets: std::array::from_fn(|_| PortSet::all()) }
    }

    /// Some ports of one protocol.
    pub fn of(protocol: Protocol, ports: PortSet) -> Self {
        let mut traffic = Self::default();
        traffic.sets[protocol as usize] = ports;
        traffic
    }

    /// The ports of one protocol.
    pub fn ports(&self, protocol: Protocol) -> &PortSet {
        &self.sets[protocol as usize]
    }

    /// The protocols of which it has ports, with those.
    pub fn protocols(&self) -> impl Iterator<Item = (Protocol, &PortSet)> {
        Protocol::ALL.into_iter().zip(&self.sets).filter(|(_, ports)| !ports.is_empty())
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.sets.iter().all(PortSet::is_empty)
    }

    /// Whether everything is in it.
    pub fn is_all(&self) -> bool {
        self.sets.iter().all(PortSet::is_all)
    }

    /// Whether a port of a protocol is in it.
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.ports(protocol).contains(port)
    }

    /// What is in one or both.
    pub fn union(&self, other: &Self) -> Self {
        self.each(other, PortSet::union)
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        self.each(other, PortSet::intersection)
    }

    /// What is in this one only.
    pub fn difference(&self, other: &Self) -> Self {
        self.each(other, PortSet::difference)
    }

    fn each(&self, other: &Self, combine: impl Fn(&PortSet, &PortSet) -> PortSet) -> Self {
        Self { sets: std::array::from_fn(|at| combine(&self.sets[at], &other.sets[at])) }
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("all ports");
        }
        for (index, (first, last)) in self.ranges.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            if first == last { write!(f, "{first}")? } else { write!(f, "{first}-{last}")? }
        }
        Ok(())
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("everything");
        }
        if self.is_empty() {
            return f.write_str("nothing");
        }
        for (index, (protocol, ports)) in self.protocols().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            write!(f, "{protocol} {ports}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sets() -> impl Strategy<Value = PortSet> {
        let ends = prop_oneof![1_u16..40, Just(LAST - 1), Just(LAST)];
        prop::collection::vec((ends.clone(), ends), 0..6)
            .prop_map(|ranges| ranges.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect())
    }

    proptest! {
        /// Law: sets of ranges are sets of ports, and each set has one form only.
        #[test]
        fn sets_of_ranges_are_sets(a in sets(), b in sets()) {
            let has = |set: &PortSet| (1..=LAST).map(|port| set.contains(port)).collect::<Vec<_>>();
            let (in_a, in_b) = (has(&a), has(&b));
            let both = |combine: fn(bool, bool) -> bool| {
                in_a.iter().zip(&in_b).map(|(a, b)| combine(*a, *b)).collect::<Vec<_>>()
            };
            prop_assert_eq!(has(&a.union(&b)), both(|a, b| a || b));
            prop_assert_eq!(has(&a.intersection(&b)), both(|a, b| a && b));
            prop_assert_eq!(has(&a.difference(&b)), both(|a, b| a && !b));
            prop_assert_eq!(a.len(), in_a.iter().filter(|it| **it).count());
            prop_assert_eq!(a.complement().complement(), a.clone());
            prop_assert_eq!(a.union(&b).difference(&b).union(&b), a.union(&b));
            prop_assert!(a.ranges().windows(2).all(|pair| u32::from(pair[0].1) + 1 < u32::from(pair[1].0)));
        }
    }
}
