//! One set of policies as the kernel's tables hold it. Pure.
//!
//! Decisions are numbered within the side of a group, in the engine's order, so that a change elsewhere in the cluster
//! leaves the group as it is: a group that is equal keeps its entries in the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
};

use itertools::{EitherOrBoth, Itertools};
use rustc_hash::FxHasher;
use signalbox_enforcer_common::policy::{Judgement, PodState, PolicyKey, RangeKey, Shapes, Side};
use signalbox_policy::{
    PolicyRef, Protocol, RuleRef,
    tables::{Decision, Group, GroupSide, Rest, RuleId, Tables},
};

/// Identity, protocol and port; `None` stands for any.
type Exact = (Option<u32>, Option<u8>, Option<u16>);

/// Identity (`None`: any), protocol, first port and number of leading bits of a block of ports.
type PortBlock = (Option<u32>, u8, u16, u32);

/// What one set of policies says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GroupContent {
    /// Into its pods.
    pub ingress: SideContent,
    /// Out of its pods.
    pub egress: SideContent,
}

/// One direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SideContent {
    /// The policies that isolate; empty: not isolated.
    pub isolated_by: Vec<PolicyRef>,
    /// What the numbers of decisions stand for.
    pub decisions: Vec<Decided>,
    /// What becomes of what no entry matches.
    pub rest: Rest,
    /// The smallest decision of each, in order.
    exact: Vec<(Exact, u32)>,
    /// The smallest decision of each, in order. No two blocks of ports overlap.
    blocks: Vec<(PortBlock, u32)>,
}

/// Entries of the maps `POLICY` and `RANGES`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Of `POLICY`.
    pub policy: Vec<(PolicyKey, Judgement)>,
    /// Of `RANGES`.
    pub ranges: Vec<(RangeKey, Judgement)>,
}

/// A decision by the names of rules: their numbers change with the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Decided {
    /// The rule allows.
    Allow(RuleRef),
    /// The rule denies.
    Deny(RuleRef),
    /// No rule: as if no entry had matched, behind all tiers.
    Rest(Rest),
    /// Something was not understood: a rule, or who has the address.
    NotUnderstood(Option<RuleRef>),
}

impl Entries {
    /// Takes others in as well.
    pub fn extend(&mut self, others: Self) {
        self.policy.extend(others.policy);
        self.ranges.extend(others.ranges);
    }

    /// Those of each group by themselves.
    pub fn by_group(&self) -> BTreeMap<u32, Self> {
        let mut groups: BTreeMap<u32, Self> = BTreeMap::new();
        for entry in &self.policy {
            groups.entry(entry.0.group()).or_default().policy.push(*entry);
        }
        for entry in &self.ranges {
            groups.entry(entry.0.group()).or_default().ranges.push(*entry);
        }
        groups
    }
}

impl GroupContent {
    /// From the engine's tables.
    pub fn new(group: &Group, tables: &Tables) -> Self {
        Self { ingress: SideContent::new(&group.ingress, tables), egress: SideContent::new(&group.egress, tables) }
    }

    /// One of its sides.
    pub fn side(&self, side: Side) -> &SideContent {
        match side {
            Side::Ingress => &self.ingress,
            Side::Egress => &self.egress,
        }
    }

    /// All policies that it is made of, in order of their names.
    pub fn policies(&self) -> Vec<PolicyRef> {
        let mut policies = BTreeSet::new();
        for (_, side) in self.sides() {
            policies.extend(side.isolated_by.iter().cloned());
            policies.extend(side.decisions.iter().filter_map(|decided| match decided {
                Decided::Allow(rule) | Decided::Deny(rule) | Decided::NotUnderstood(Some(rule)) => {
                    Some(rule.policy.clone())
                }
                Decided::NotUnderstood(None) | Decided::Rest(_) => None,
            }));
        }
        policies.into_iter().collect()
    }

    /// The flags of its pods.
    pub fn flags(&self) -> u32 {
        let mut flags = 0;
        let mut set = |condition: bool, flag: u32| flags |= if condition { flag } else { 0 };
        set(self.ingress.is_judged(), PodState::INGRESS_JUDGED);
        set(self.egress.is_judged(), PodState::EGRESS_JUDGED);
        set(self.ingress.rest.denies(), PodState::INGRESS_SHUT);
        set(self.egress.rest.denies(), PodState::EGRESS_SHUT);
        flags | PodState::shapes_as_flags(self.ingress.shapes(), self.egress.shapes())
    }

    /// Its entries, as those of the group with a number.
    pub fn entries(&self, number: u32) -> Entries {
        self.entries_beyond(&Self::default(), number)
    }

    /// The entries that another content does not have, or has with another decision.
    pub fn entries_beyond(&self, other: &Self, number: u32) -> Entries {
        let mut entries = Entries::default();
        for (side, content) in self.sides() {
            let other = other.side(side);
            for (&((identity, protocol, port), decision), _) in beyond(&content.exact, &other.exact) {
                let key = PolicyKey::new(number, side, identity, protocol, port);
                entries.policy.push((key, content.judgement(decision)));
            }
            for (&((identity, protocol, port, bits), decision), _) in beyond(&content.blocks, &other.blocks) {
                let key = RangeKey::new(number, side, identity, protocol, port, bits);
                entries.ranges.push((key, content.judgement(decision)));
            }
        }
        entries
    }

    /// A number that contents have in common which say the same of all identities but some, by the same decisions.
    pub fn imprint(&self, is_lasting: impl Fn(u32) -> bool) -> u64 {
        let mut hasher = FxHasher::default();
        let counts = |identity: Option<u32>| identity.is_none_or(&is_lasting);
        for (_, side) in self.sides() {
            (&side.isolated_by, &side.decisions, side.rest).hash(&mut hasher);
            side.exact.iter().filter(|((identity, ..), _)| counts(*identity)).for_each(|entry| entry.hash(&mut hasher));
            side.blocks
                .iter()
                .filter(|((identity, ..), _)| counts(*identity))
                .for_each(|entry| entry.hash(&mut hasher));
        }
        hasher.finish()
    }

    /// Whether entries can be added to these, and others be removed later, so that they say what `next` says, and nobody who asks
    /// meanwhile notices: packets of the old generation come with the identities of which `is_old` is true, those of the new one
    /// with those of which `is_new` is.
    pub fn can_become(&self, next: &Self, is_old: impl Fn(u32) -> bool, is_new: impl Fn(u32) -> bool) -> bool {
        let is_hidden =
            |identity: Option<u32>, is_asked: &dyn Fn(u32) -> bool| identity.is_some_and(|it| !is_asked(it));
        self.sides().all(|(side, content)| {
            let next = next.side(side);
            // Nobody of the old generation meets what comes, nor anybody of the new one what goes; what both have stays.
            content.decisions == next.decisions
                && content.isolated_by == next.isolated_by
                && content.rest == next.rest
                && is_rest_hidden(&next.exact, &content.exact, |key| is_hidden(key.0, &is_old))
                && is_rest_hidden(&next.blocks, &content.blocks, |key| is_hidden(key.0, &is_old))
                && is_rest_hidden(&content.exact, &next.exact, |key| is_hidden(key.0, &is_new))
                && is_rest_hidden(&content.blocks, &next.blocks, |key| is_hidden(key.0, &is_new))
        })
    }

    /// Whether any rule names a peer.
    pub fn names_peers(&self) -> bool {
        self.sides().any(|(_, content)| {
            content.exact.iter().any(|(key, _)| key.0.is_some())
                || content.blocks.iter().any(|(key, _)| key.0.is_some())
        })
    }

    /// Whether any entry denies something to a peer by its identity.
    pub fn denies_peers(&self) -> bool {
        self.sides().any(|(_, content)| {
            let exact = content.exact.iter().map(|(key, decision)| (key.0, *decision));
            let blocks = content.blocks.iter().map(|(key, decision)| (key.0, *decision));
            let mut all = exact.chain(blocks).filter(|(identity, _)| identity.is_some());
            all.any(|(_, decision)| content.decisions[decision as usize].denies())
        })
    }

    fn sides(&self) -> impl Iterator<Item = (Side, &SideContent)> {
        [(Side::Ingress, &self.ingress), (Side::Egress, &self.egress)].into_iter()
    }
}

impl SideContent {
    fn new(side: &GroupSide, tables: &Tables) -> Self {
        let mut exact = Vec::with_capacity(side.entries.len());
        let mut ranges: BTreeMap<(Option<u32>, u8), Vec<PortDecision>> = BTreeMap::new();
        for entry in &side.entries {
            let identity = entry.peer.map(|identity| identity.0);
            let decision = entry.decision.0;
            let key = match (entry.protocol, entry.ports) {
                (None, _) => (identity, None, None),
                (Some(protocol), None) => (identity, Some(ip_protocol(protocol)), None),
                (Some(protocol), Some((first, last))) if first == last => {
                    (identity, Some(ip_protocol(protocol)), Some(first))
                }
                (Some(protocol), Some((first, last))) => {
                    let range = PortDecision { first, last, decision };
                    ranges.entry((identity, ip_protocol(protocol))).or_default().push(range);
                    continue;
                }
            };
            exact.push((key, decision));
        }
        exact.sort_unstable();
        exact.dedup_by_key(|(key, _)| *key);
        let mut blocks = Vec::new();
        for ((identity, protocol), rules) in ranges {
            for part in disjoint(&rules) {
                for (port, bits) in aligned_blocks(part.first, part.last) {
                    blocks.push(((identity, protocol, port, bits), part.decision));
                }
            }
        }
        blocks.sort_unstable();
        let decisions = side.decisions.iter().map(|decision| Decided::new(*decision, tables)).collect();
        Self { isolated_by: side.isolated_by.clone(), decisions, rest: side.rest, exact, blocks }
    }

    fn is_judged(&self) -> bool {
        !self.decisions.is_empty() || self.rest.denies()
    }

    /// Which kinds of entries it has.
    fn shapes(&self) -> Shapes {
        let exact =
            self.exact.iter().map(|((identity, protocol, port), _)| Shapes::of_entry(*identity, *protocol, *port));
        let blocks = self.blocks.iter().map(|((identity, ..), _)| Shapes::of_range(*identity));
        exact.chain(blocks).fold(Shapes::NONE, Shapes::and)
    }

    fn judgement(&self, decision: u32) -> Judgement {
        Judgement::new(decision, self.decisions[decision as usize].denies())
    }
}

impl Decided {
    fn new(decision: Decision, tables: &Tables) -> Self {
        let named = |rule: RuleId| tables.rules[rule.0 as usize].clone();
        match decision {
            Decision::Allow(rule) => Self::Allow(named(rule)),
            Decision::Deny(rule) => Self::Deny(named(rule)),
            Decision::Rest(rest) => Self::Rest(rest),
            Decision::NotUnderstood(rule) => Self::NotUnderstood(rule.map(named)),
        }
    }

    /// Whether it denies.
    pub fn denies(&self) -> bool {
        match self {
            Self::Allow(_) => false,
            Self::Rest(rest) => rest.denies(),
            Self::Deny(_) | Self::NotUnderstood(_) => true,
        }
    }
}

/// The entries that others lack, or have with another decision, which is told as well. Both are in order.
fn beyond<'e, K: Ord>(
    entries: &'e [(K, u32)],
    others: &'e [(K, u32)],
) -> impl Iterator<Item = (&'e (K, u32), Option<u32>)> {
    let pairs = entries.iter().merge_join_by(others, |(one, _), (other, _)| one.cmp(other));
    pairs.filter_map(|pair| match pair {
        EitherOrBoth::Both(entry, (_, other)) => (entry.1 != *other).then_some((entry, Some(*other))),
        EitherOrBoth::Left(entry) => Some((entry, None)),
        EitherOrBoth::Right(_) => None,
    })
}

/// Whether all entries that others lack, or have with another decision, are hidden. An entry with another decision never is: the
/// kernel holds one for each key.
fn is_rest_hidden<K: Ord>(entries: &[(K, u32)], others: &[(K, u32)], is_hidden: impl Fn(&K) -> bool) -> bool {
    beyond(entries, others).all(|((key, _), other)| other.is_none() && is_hidden(key))
}

/// The number of a protocol.
pub const fn ip_protocol(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// Ports, first and last, and what is decided on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PortDecision {
    first: u16,
    last: u16,
    decision: u32,
}

/// Cuts overlapping ranges into pieces that do not overlap, each with the smallest decision of those that cover it.
fn disjoint(rules: &[PortDecision]) -> Vec<PortDecision> {
    let mut borders: Vec<u32> =
        rules.iter().flat_map(|range| [u32::from(range.first), u32::from(range.last) + 1]).collect();
    borders.sort_unstable();
    borders.dedup();
    let mut parts: Vec<PortDecision> = Vec::new();
    for pair in borders.windows(2) {
        let (first, last) = (pair[0] as u16, (pair[1] - 1) as u16);
        let covering = rules.iter().filter(|range| range.first <= first && last <= range.last);
        let Some(decision) = covering.map(|range| range.decision).min() else {
            continue;
        };
        match parts.last_mut() {
            Some(before) if before.decision == decision && u32::from(before.last) + 1 == u32::from(first) => {
                before.last = last
            }
            Some(_) | None => parts.push(PortDecision { first, last, decision }),
        }
    }
    parts
}

/// A range as blocks whose ports have their first `bits` bits in common.
fn aligned_blocks(first: u16, last: u16) -> Vec<(u16, u32)> {
    let mut blocks = Vec::new();
    let (mut at, end) = (u32::from(first), u32::from(last) + 1);
    while at < end {
        let aligned = if at == 0 { 16 } else { at.trailing_zeros().min(16) };
        let fitting = 31 - (end - at).leading_zeros();
        let size = aligned.min(fitting);
        blocks.push((at as u16, 16 - size));
        at += 1 << size;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_become_blocks() {
        assert_eq!(aligned_blocks(80, 81), [(80, 15)]);
        assert_eq!(aligned_blocks(0, 65_535), [(0, 0)]);
        assert_eq!(aligned_blocks(1, 4), [(1, 16), (2, 15), (4, 16)]);
        assert_eq!(aligned_blocks(65_535, 65_535), [(65_535, 16)]);
    }

    proptest! {
        /// Law: whatever the ranges, a port finds at most one block, and in it the smallest decision that covers it.
        #[test]
        fn a_port_finds_the_smallest_decision(
            ranges in prop::collection::vec((0_u16..200, 0_u16..200, 0_u32..9), 1..8),
            port in 0_u16..220,
        ) {
            let rules: Vec<PortDecision> = ranges
                .iter()
                .map(|&(a, b, decision)| PortDecision { first: a.min(b), last: a.max(b), decision })
                .collect();
            let expected = rules.iter().filter(|r| r.first <= port && port <= r.last).map(|r| r.decision).min();
            let mut found = Vec::new();
            for part in disjoint(&rules) {
                for (base, bits) in aligned_blocks(part.first, part.last) {
                    let mask = if bits == 0 { 0 } else { u16::MAX << (16 - bits) };
                    prop_assert_eq!(base & mask, base);
                    if port & mask == base {
                        found.push(part.decision);
                    }
                }
            }
            prop_assert!(found.len() <= 1);
            prop_assert_eq!(found.first().copied(), expected);
        }
    }
}
