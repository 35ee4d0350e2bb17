//! One set of policies as the kernel's tables hold it. Pure.
//!
//! Rules are numbered within the side of a group, in the engine's order, so that a change elsewhere in the cluster leaves
//! the group as it is: a group that is equal keeps its entries in the kernel.

use std::collections::BTreeMap;

use signalbox_enforcer_common::policy::{PodState, PolicyKey, RangeKey, Side};
use signalbox_policy::{
    PolicyRef, Protocol, RuleRef,
    tables::{Group, GroupSide, RuleId, Tables},
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
    /// What the numbers of rules stand for.
    pub rules: Vec<RuleRef>,
    /// The smallest rule of each.
    exact: BTreeMap<Exact, u32>,
    /// The smallest rule of each. No two blocks of ports overlap.
    blocks: BTreeMap<PortBlock, u32>,
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

    /// The flags of its pods.
    pub fn flags(&self) -> u32 {
        let mut flags = 0;
        let mut set = |condition: bool, flag: u32| flags |= if condition { flag } else { 0 };
        set(!self.ingress.isolated_by.is_empty(), PodState::INGRESS_ISOLATED);
        set(!self.egress.isolated_by.is_empty(), PodState::EGRESS_ISOLATED);
        set(!self.ingress.blocks.is_empty(), PodState::INGRESS_RANGES);
        set(!self.egress.blocks.is_empty(), PodState::EGRESS_RANGES);
        flags
    }

    /// Its entries of the map `POLICY`.
    pub fn policy_entries(&self, id: u32) -> Vec<(PolicyKey, u32)> {
        self.sides()
            .flat_map(|(side, content)| {
                content.exact.iter().map(move |(&(identity, protocol, port), &rule)| {
                    (PolicyKey::new(id, side, identity, protocol, port), rule)
                })
            })
            .collect()
    }

    /// Its entries of the map `RANGES`.
    pub fn range_entries(&self, id: u32) -> Vec<(RangeKey, u32)> {
        self.sides()
            .flat_map(|(side, content)| {
                content.blocks.iter().map(move |(&(identity, protocol, port, bits), &rule)| {
                    (RangeKey::new(id, side, identity, protocol, port, bits), rule)
                })
            })
            .collect()
    }

    /// Whether any rule names a peer.
    pub fn names_peers(&self) -> bool {
        self.sides().any(|(_, content)| {
            content.exact.keys().any(|key| key.0.is_some()) || content.blocks.keys().any(|key| key.0.is_some())
        })
    }

    fn sides(&self) -> impl Iterator<Item = (Side, &SideContent)> {
        [(Side::Ingress, &self.ingress), (Side::Egress, &self.egress)].into_iter()
    }
}

impl SideContent {
    fn new(side: &GroupSide, tables: &Tables) -> Self {
        let mut ids: Vec<RuleId> = side.entries.iter().map(|entry| entry.rule).collect();
        ids.sort_unstable();
        ids.dedup();
        let number = |rule: RuleId| {
            let at = ids.binary_search(&rule).expect("every entry's rule is in the list made from the entries");
            u32::try_from(at).expect("a group has fewer than 2^32 rules")
        };
        let mut exact = BTreeMap::new();
        let mut ranges: BTreeMap<(Option<u32>, u8), Vec<PortRule>> = BTreeMap::new();
        for entry in &side.entries {
            let identity = entry.peer.map(|identity| identity.0);
            let rule = number(entry.rule);
            let key = match (entry.protocol, entry.ports) {
                (None, _) => (identity, None, None),
                (Some(protocol), None) => (identity, Some(ip_protocol(protocol)), None),
                (Some(protocol), Some((first, last))) if first == last => {
                    (identity, Some(ip_protocol(protocol)), Some(first))
                }
                (Some(protocol), Some((first, last))) => {
                    let range = PortRule { first, last, rule };
                    ranges.entry((identity, ip_protocol(protocol))).or_default().push(range);
                    continue;
                }
            };
            exact.entry(key).and_modify(|known: &mut u32| *known = rule.min(*known)).or_insert(rule);
        }
        let mut blocks = BTreeMap::new();
        for ((identity, protocol), rules) in ranges {
            for part in disjoint(&rules) {
                for (port, bits) in aligned_blocks(part.first, part.last) {
                    blocks.insert((identity, protocol, port, bits), part.rule);
                }
            }
        }
        // The engine's tables always hold the rules that their entries name.
        let rules = ids.iter().filter_map(|id| tables.rules.get(id.0 as usize).cloned()).collect();
        Self { isolated_by: side.isolated_by.clone(), rules, exact, blocks }
    }
}

/// The number of a protocol.
pub const fn ip_protocol(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// Ports, first and last, and the rule that allows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PortRule {
    first: u16,
    last: u16,
    rule: u32,
}

/// Cuts overlapping ranges into pieces that do not overlap, each with the smallest rule of those that cover it.
fn disjoint(rules: &[PortRule]) -> Vec<PortRule> {
    let mut borders: Vec<u32> =
        rules.iter().flat_map(|range| [u32::from(range.first), u32::from(range.last) + 1]).collect();
    borders.sort_unstable();
    borders.dedup();
    let mut parts: Vec<PortRule> = Vec::new();
    for pair in borders.windows(2) {
        let (first, last) = (pair[0] as u16, (pair[1] - 1) as u16);
        let covering = rules.iter().filter(|range| range.first <= first && last <= range.last);
        let Some(rule) = covering.map(|range| range.rule).min() else {
            continue;
        };
        match parts.last_mut() {
            Some(before) if before.rule == rule && u32::from(before.last) + 1 == u32::from(first) => before.last = last,
            Some(_) | None => parts.push(PortRule { first, last, rule }),
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
        /// Law: whatever the ranges, a port finds at most one block, and in it the smallest rule that covers it.
        #[test]
        fn a_port_finds_the_smallest_rule(
            ranges in prop::collection::vec((0_u16..200, 0_u16..200, 0_u32..9), 1..8),
            port in 0_u16..220,
        ) {
            let rules: Vec<PortRule> = ranges
                .iter()
                .map(|&(a, b, rule)| PortRule { first: a.min(b), last: a.max(b), rule })
                .collect();
            let expected = rules.iter().filter(|r| r.first <= port && port <= r.last).map(|r| r.rule).min();
            let mut found = Vec::new();
            for part in disjoint(&rules) {
                for (base, bits) in aligned_blocks(part.first, part.last) {
                    let mask = if bits == 0 { 0 } else { u16::MAX << (16 - bits) };
                    prop_assert_eq!(base & mask, base);
                    if port & mask == base {
                        found.push(part.rule);
                    }
                }
            }
            prop_assert!(found.len() <= 1);
            prop_assert_eq!(found.first().copied(), expected);
        }
    }
}
