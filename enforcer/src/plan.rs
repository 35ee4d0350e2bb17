//! From the state that the kernel has to the state that it should have: a list of writes. Pure: no I/O.
//!
//! Every value that can change carries two versions, of which the parity of the generation selects one. A change writes
//! the version of the coming generation first, then flips the generation, then makes both versions equal. Groups of
//! policies never change: a group that differs is another group with another number. So a packet meets the old state
//! or the new one, and a change costs what it changes.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use signalbox_enforcer_common::{
    Address,
    policy::{AddressValue, BlockKey, BlockValue, NO_IDENTITY, PodState, PodValue},
    version,
};
use signalbox_policy::{PodRef, tables::Tables};

use crate::group::GroupContent;

/// The identity of an address in no table.
const WORLD: u32 = 0;

/// What the kernel's tables say in one generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Image {
    /// Identity, and the interface of the local pod, or 0.
    addresses: BTreeMap<Address, (u32, u32)>,
    /// By length (of 128 bits) and address.
    blocks: BTreeMap<(u32, Address), u32>,
    /// By interface.
    pods: BTreeMap<u32, PodState>,
}

/// Writes to the maps, in the order in which they must happen: a pod is written when all it refers to is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// To `ADDRESSES`.
    pub addresses: Vec<(Address, AddressValue)>,
    /// To `BLOCKS`.
    pub blocks: Vec<(BlockKey, BlockValue)>,
    /// To `PODS`.
    pub pods: Vec<(u32, PodValue)>,
    /// From `ADDRESSES`.
    pub gone_addresses: Vec<Address>,
    /// From `BLOCKS`.
    pub gone_blocks: Vec<BlockKey>,
    /// From `PODS`.
    pub gone_pods: Vec<u32>,
    /// Groups whose entries go from `POLICY` and `RANGES`.
    pub gone_groups: Vec<(u32, Arc<GroupContent>)>,
}

/// A change, ready to be carried out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The generation that it makes.
    pub generation: u32,
    /// New groups, to be written before anything else.
    pub groups: Vec<(u32, Arc<GroupContent>)>,
    /// Before the flip.
    pub before: Writes,
    /// After the flip, when no program of the old generation runs any more.
    pub after: Writes,
    /// The groups in use, by number.
    pub names: HashMap<u32, Arc<GroupContent>>,
    image: Image,
    unfit: HashSet<u32>,
}

impl Plan {
    /// A group did not fit: its pods deny where a policy isolates them.
    pub fn mark_unfit(&mut self, group: u32) {
        self.unfit.insert(group);
        let version = version(self.generation);
        for (interface, state) in self.image.pods.iter_mut().filter(|(_, state)| state.group() == group) {
            *state = unfit(state);
            for writes in [&mut self.before, &mut self.after] {
                for (_, value) in writes.pods.iter_mut().filter(|(written, _)| written == interface) {
                    let mut versions = [*value.state(0), *value.state(1)];
                    for (at, old) in versions.iter_mut().enumerate() {
                        if at == version || old.group() == group && old.has(PodState::PRESENT) {
                            *old = unfit(old);
                        }
                    }
                    *value = PodValue::new(versions);
                }
            }
        }
    }

    /// Local pods whose group did not fit.
    pub fn unfit_interfaces(&self) -> impl Iterator<Item = u32> {
        self.image.pods.iter().filter(|(_, state)| state.has(PodState::UNFIT)).map(|(interface, _)| *interface)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.before == Writes::default() && self.after == Writes::default()
    }
}

fn unfit(state: &PodState) -> PodState {
    let mut flags = state.flags() | PodState::UNFIT;
    flags &= !(PodState::INGRESS_RANGES | PodState::EGRESS_RANGES);
    let (v4, v6) = state.addresses();
    PodState::new(flags, state.group(), state.identity(), v4, v6)
}

/// Knows what the kernel has.
#[derive(Debug, Default)]
pub struct Planner {
    generation: u32,
    image: Image,
    groups: HashMap<Arc<GroupContent>, u32>,
    last_group: u32,
}

impl Planner {
    /// The generation in force; 0 before the first.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// What must be written so that the kernel has these tables. `interfaces` are those of the local pods that are known.
    pub fn plan(&mut self, tables: &Tables, interfaces: &HashMap<PodRef, u32>) -> Plan {
        // The first generation is 1; 0 stands for "no tables yet".
        let generation = self.generation.checked_add(1).unwrap_or(2);
        let mut fresh = Vec::new();
        let mut names = HashMap::new();
        let numbers: Vec<(u32, u32)> = tables
            .groups
            .iter()
            .map(|group| {
                let content = Arc::new(GroupContent::new(group, tables));
                let flags = content.flags();
                let number = match self.groups.get(&content) {
                    Some(number) => *number,
                    None => {
                        // Two groups of the tables may be equal: they share a number.
                        let twin = fresh.iter().find(|(_, other)| *other == content).map(|(number, _)| *number);
                        twin.unwrap_or_else(|| {
                            self.last_group += 1;
                            fresh.push((self.last_group, Arc::clone(&content)));
                            self.last_group
                        })
                    }
                };
                names.insert(number, content);
                (number, flags)
            })
            .collect();
        let image = desired(tables, interfaces, &numbers);
        let mut before = Writes::default();
        let mut after = Writes::default();
        self.plan_addresses(&image, generation, &mut before, &mut after);
        self.plan_blocks(&image, generation, &mut before, &mut after);
        self.plan_pods(&image, generation, &mut before, &mut after);
        after.gone_groups = self
            .groups
            .iter()
            .filter(|(_, number)| !names.contains_key(number))
            .map(|(content, number)| (*number, Arc::clone(content)))
            .collect();
        Plan { generation, groups: fresh, before, after, names, image, unfit: HashSet::new() }
    }

    /// The plan was carried out up to the flip.
    pub fn done(&mut self, plan: &Plan) {
        self.generation = plan.generation;
        self.image = plan.image.clone();
        // A group that did not fit is unknown, so that the next change tries again.
        self.groups = plan
            .names
            .iter()
            .filter(|(number, _)| !plan.unfit.contains(number))
            .map(|(number, content)| (Arc::clone(content), *number))
            .collect();
    }

    fn plan_addresses(&self, image: &Image, generation: u32, before: &mut Writes, after: &mut Writes) {
        const ABSENT: (u32, u32) = (NO_IDENTITY, 0);
        for (address, new) in &image.addresses {
            let old = self.image.addresses.get(address).unwrap_or(&ABSENT);
            if old != new {
                before.addresses.push((*address, AddressValue::new(both(generation, *old, *new))));
                after.addresses.push((*address, AddressValue::new([*new, *new])));
            }
        }
        for (address, old) in &self.image.addresses {
            if !image.addresses.contains_key(address) {
                before.addresses.push((*address, AddressValue::new(both(generation, *old, ABSENT))));
                after.gone_addresses.push(*address);
            }
        }
    }

    fn plan_blocks(&self, image: &Image, generation: u32, before: &mut Writes, after: &mut Writes) {
        for (block, new) in &image.blocks {
            // Where a version has no such block, a shorter one counts: the trie cannot go on looking, so it is said here.
            let old = self.image.covering(block);
            if self.image.blocks.get(block) != Some(new) {
                let key = BlockKey::new(block.0, block.1);
                before.blocks.push((key, BlockValue::new(both(generation, old, *new))));
                after.blocks.push((key, BlockValue::new([*new, *new])));
            }
        }
        for (block, old) in &self.image.blocks {
            if !image.blocks.contains_key(block) {
                let key = BlockKey::new(block.0, block.1);
                before.blocks.push((key, BlockValue::new(both(generation, *old, image.covering(block)))));
                after.gone_blocks.push(key);
            }
        }
    }

    fn plan_pods(&self, image: &Image, generation: u32, before: &mut Writes, after: &mut Writes) {
        for (interface, new) in &image.pods {
            let old = self.image.pods.get(interface).unwrap_or(&PodState::ABSENT);
            if old != new {
                before.pods.push((*interface, PodValue::new(both(generation, *old, *new))));
                after.pods.push((*interface, PodValue::new([*new, *new])));
            }
        }
        for (interface, old) in &self.image.pods {
            if !image.pods.contains_key(interface) {
                before.pods.push((*interface, PodValue::new(both(generation, *old, PodState::ABSENT))));
                after.gone_pods.push(*interface);
            }
        }
    }
}

impl Image {
    /// The identity of the longest block that holds this one, itself included.
    fn covering(&self, block: &(u32, Address)) -> u32 {
        (0..=block.0)
            .rev()
            .find_map(|length| self.blocks.get(&(length, masked(&block.1, length))))
            .copied()
            .unwrap_or(WORLD)
    }
}

/// Both versions of a value, by parity.
fn both<T>(generation: u32, old: T, new: T) -> [T; 2] {
    if version(generation) == 0 { [new, old] } else { [old, new] }
}

fn desired(tables: &Tables, interfaces: &HashMap<PodRef, u32>, groups: &[(u32, u32)]) -> Image {
    let mut image = Image::default();
    for (address, identity) in &tables.addresses {
        image.addresses.insert(Address::from(*address), (identity.0, 0));
    }
    for (block, identity) in &tables.blocks {
        let offset = if block.addr().is_ipv4() { 96 } else { 0 };
        let key = (offset + u32::from(block.prefix_len()), Address::from(block.network()));
        image.blocks.insert(key, identity.0);
    }
    for pod in &tables.pods {
        let Some(interface) = interfaces.get(&pod.pod) else {
            continue;
        };
        let Some((group, flags)) = groups.get(pod.group.0 as usize) else {
            continue;
        };
        let first = |v4: bool| {
            let found = pod.addresses.iter().find(|address| address.is_ipv4() == v4);
            found.map_or(Address::UNSPECIFIED, |address| Address::from(*address))
        };
        image.pods.insert(*interface, PodState::new(*flags, *group, pod.identity.0, first(true), first(false)));
        for address in &pod.addresses {
            image.addresses.insert(Address::from(*address), (pod.identity.0, *interface));
        }
    }
    image
}

/// The first bits of an address.
fn masked(address: &Address, length: u32) -> Address {
    let bits = match IpAddr::from(*address) {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let mask = if length == 0 { 0 } else { u128::MAX << (128 - length) };
    Address::from(IpAddr::V6(std::net::Ipv6Addr::from_bits(bits & mask)))
}
