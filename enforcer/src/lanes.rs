//! Numbers for pods behind bridges, so that a packet that is routed there still tells who sent it: docs/adr/0001. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use signalbox_enforcer_common::policy::LANE_OF_BRIDGE;

/// The largest number: `skb->tc_index` has 16 bits.
const LAST: u32 = 0xffff;

/// Who has which number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// Interfaces that are ports of a bridge, and the number of each.
    ports: BTreeMap<u32, u32>,
    bridges: BTreeSet<u32>,
    /// The last number that was given: a number is used again as late as can be, since packets may be on their way.
    last: u32,
}

/// What is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// To `BRIDGED`.
    pub bridged: Vec<(u32, u32)>,
    /// To `SENDERS`.
    pub senders: Vec<(u32, u32)>,
    /// From `BRIDGED`.
    pub gone_bridged: Vec<u32>,
    /// From `SENDERS`.
    pub gone_senders: Vec<u32>,
}

impl Lanes {
    /// Goes on with what stands in the map `BRIDGED`.
    pub fn resume(entries: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut lanes = Self::default();
        for (interface, lane) in entries {
            if lane == LANE_OF_BRIDGE {
                lanes.bridges.insert(interface);
            } else {
                lanes.ports.insert(interface, lane);
                lanes.last = lanes.last.max(lane);
            }
        }
        lanes
    }

    /// Whether anybody has a number.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// Gives numbers to those of these pods' interfaces that have a master, and takes them from all others.
    pub fn update(&mut self, pods: &BTreeSet<u32>, masters: &HashMap<u32, u32>) -> Change {
        let mut change = Change::default();
        let is_port = |interface: &u32| pods.contains(interface) && masters.contains_key(interface);
        self.ports.retain(|interface, lane| {
            if is_port(interface) {
                return true;
            }
            change.gone_bridged.push(*interface);
            change.gone_senders.push(*lane);
            false
        });
        let mut bridges = BTreeSet::new();
        for interface in pods.iter().filter(|interface| masters.contains_key(interface)) {
            bridges.insert(masters[interface]);
            if self.ports.contains_key(interface) {
                continue;
            }
            let Some(lane) = self.free() else { break };
            self.ports.insert(*interface, lane);
            self.last = lane;
            change.senders.push((lane, *interface));
            change.bridged.push((*interface, lane));
        }
        change.gone_senders.retain(|lane| !change.senders.iter().any(|(new, _)| new == lane));
        change.bridged.extend(bridges.difference(&self.bridges).map(|bridge| (*bridge, LANE_OF_BRIDGE)));
        change.gone_bridged.extend(self.bridges.difference(&bridges));
        self.bridges = bridges;
        change
    }

    /// The next number that nobody has.
    fn free(&self) -> Option<u32> {
        let taken: BTreeSet<u32> = self.ports.values().copied().collect();
        (self.last + 1..=LAST).chain(1..=self.last).find(|lane| !taken.contains(lane))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_a_bridge_get_numbers_and_give_them_back() {
        let mut lanes = Lanes::default();
        let masters: HashMap<u32, u32> = [(5, 2), (6, 2), (7, 3)].into();
        let change = lanes.update(&[4, 5, 6].into(), &masters);
        assert_eq!(change.senders, [(1, 5), (2, 6)]);
        assert_eq!(change.bridged, [(5, 1), (6, 2), (2, LANE_OF_BRIDGE)], "4 has no bridge, and 7 is no pod's");
        assert_eq!(lanes.update(&[4, 5, 6].into(), &masters), Change::default());
        let resumed = Lanes::resume(change.bridged);
        assert_eq!(resumed, lanes);
        let change = lanes.update(&[6, 7].into(), &masters);
        assert_eq!((change.gone_senders, change.gone_bridged), (vec![1], vec![5]));
        assert_eq!(change.bridged, [(7, 3), (3, LANE_OF_BRIDGE)], "a number rests before it is used again");
        let change = lanes.update(&[].into(), &masters);
        assert_eq!(change.gone_bridged, [6, 7, 2, 3]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn numbers_are_used_again_when_all_have_been_used() {
        let mut lanes = Lanes::resume([(5, LAST - 1), (6, 1)]);
        let change = lanes.update(&[5, 6, 7, 8].into(), &[(5, 2), (6, 2), (7, 2), (8, 2)].into());
        assert_eq!(change.senders, [(LAST, 7), (2, 8)]);
    }
}
