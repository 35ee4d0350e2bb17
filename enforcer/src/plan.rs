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
    policy::{AddressValue, AuditValue, BlockKey, BlockValue, NO_IDENTITY, PodState, PodValue},
    version,
};
use signalbox_policy::{
    PodRef,
    tables::{Group, Tables},
};

use crate::group::GroupContent;

/// The identity of an address in no table.
const WORLD: u32 = 0;

/// What the kernel's tables say in one generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Identity, and the interface of the local pod, or 0.
    pub addresses: BTreeMap<Address, (u32, u32)>,
    /// By length (of 128 bits) and address.
    pub blocks: BTreeMap<(u32, Address), u32>,
    /// By interface.
    pub pods: BTreeMap<u32, PodState>,
    /// By interface: group and flags with the policies in audit, where these make a difference.
    pub audits: BTreeMap<u32, (u32, u32)>,
}

/// Writes to the maps, in the order in which they must happen: a pod is written when all it refers to is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// To `ADDRESSES`.
    pub addresses: Vec<(Address, AddressValue)>,
    /// To `BLOCKS`.
    pub blocks: Vec<(BlockKey, BlockValue)>,
    /// To `AUDITS`.
    pub audits: Vec<(u32, AuditValue)>,
    /// To `PODS`.
    pub pods: Vec<(u32, PodValue)>,
    /// From `ADDRESSES`.
    pub gone_addresses: Vec<Address>,
    /// From `BLOCKS`.
    pub gone_blocks: Vec<BlockKey>,
    /// From `PODS`.
    pub gone_pods: Vec<u32>,
    /// From `AUDITS`.
    pub gone_audits: Vec<u32>,
    /// Groups whose entries go from `POLICY` and `RANGES`.
    pub gone_groups: Vec<(u32, Arc<GroupContent>)>,
}

/// What found no room in the maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// In `ADDRESSES`.
    pub addresses: Vec<Address>,
    /// In `BLOCKS`.
    pub blocks: Vec<BlockKey>,
    /// In `PODS`.
    pub pods: Vec<u32>,
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
    /// A group did not fit: its pods deny where a policy judges them.
    pub fn mark_unfit(&mut self, group: u32) {
        self.unfit.insert(group);
        for (_, audit) in self.image.audits.iter_mut().filter(|(_, audit)| audit.0 == group) {
            audit.1 |= PodState::UNFIT;
        }
        for writes in [&mut self.before, &mut self.after] {
            for (_, value) in &mut writes.audits {
                *value = value.with_flag(group, PodState::UNFIT);
            }
        }
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

    /// These did not fit: the next change tries them again.
    pub fn mark_missing(&mut self, missing: &Missing) {
        let Missing { addresses, blocks, pods } = missing;
        self.image.addresses.retain(|address, _| !addresses.contains(address));
        self.image.blocks.retain(|(length, address), _| !blocks.contains(&BlockKey::new(*length, *address)));
        self.image.pods.retain(|interface, _| !pods.contains(interface));
        self.after.addresses.retain(|(address, _)| !addresses.contains(address));
        self.after.blocks.retain(|(block, _)| !blocks.contains(block));
        self.after.pods.retain(|(interface, _)| !pods.contains(interface));
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
    state.with_flags(state.flags() | PodState::UNFIT)
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
    /// Goes on where another process stopped: what its tables say, and the largest number of its groups. What these
    /// groups say is not known, so that the next plan writes all of its own.
    pub fn resume(generation: u32, image: Image, last_group: u32) -> Self {
        Self { generation, image, groups: HashMap::new(), last_group }
    }

    /// The generation in force; 0 before the first.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Interfaces of pods whose group did not fit, and the group.
    pub fn unfit(&self) -> impl Iterator<Item = (u32, u32)> {
        let pods = self.image.pods.iter().filter(|(_, state)| state.has(PodState::UNFIT));
        pods.map(|(interface, state)| (*interface, state.group()))
    }

    /// The groups that the kernel may judge by.
    pub fn groups_in_use(&self) -> HashSet<u32> {
        let pods = self.image.pods.values().map(PodState::group);
        pods.chain(self.image.audits.values().map(|(group, _)| *group)).collect()
    }

    /// What must be written so that the kernel has these tables. `interfaces` are those of the local pods that are known.
    #[cfg(test)]
    pub fn plan(&mut self, tables: &Tables, interfaces: &HashMap<PodRef, u32>) -> Plan {
        self.plan_audited(tables, None, interfaces)
    }

    /// The same with tables that the policies in audit are in as well, if there are any. Their identities are those of `tables`.
    pub fn plan_audited(&mut self, tables: &Tables, audit: Option<&Tables>, interfaces: &HashMap<PodRef, u32>) -> Plan {
        // The first generation is 1; 0 stands for "no tables yet".
        let generation = self.generation.checked_add(1).unwrap_or(2);
        let mut fresh = Vec::new();
        let mut names = HashMap::new();
        let numbers: Vec<(u32, u32)> =
            tables.groups.iter().map(|group| self.number(group, tables, &mut fresh, &mut names)).collect();
        let mut image = desired(tables, interfaces, &numbers);
        if let Some(audit) = audit {
            self.add_audits(&mut image, (tables, audit), interfaces, &mut fresh, &mut names);
        }
        let mut before = Writes::default();
        let mut after = Writes::default();
        self.plan_addresses(&image, generation, &mut before, &mut after);
        self.plan_blocks(&image, generation, &mut before, &mut after);
        self.plan_pods(&image, generation, &mut before, &mut after);
        self.plan_audits(&image, generation, &mut before, &mut after);
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

    /// The number of a group and its flags.
    fn number(
        &mut self,
        group: &Group,
        tables: &Tables,
        fresh: &mut Vec<(u32, Arc<GroupContent>)>,
        names: &mut HashMap<u32, Arc<GroupContent>>,
    ) -> (u32, u32) {
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
    }

    /// Adds what the policies in audit make of the pods that they select.
    fn add_audits(
        &mut self,
        image: &mut Image,
        (tables, audit): (&Tables, &Tables),
        interfaces: &HashMap<PodRef, u32>,
        fresh: &mut Vec<(u32, Arc<GroupContent>)>,
        names: &mut HashMap<u32, Arc<GroupContent>>,
    ) {
        let real: HashMap<&PodRef, &Group> =
            tables.pods.iter().map(|pod| (&pod.pod, &tables.groups[pod.group.0 as usize])).collect();
        for pod in &audit.pods {
            let (Some(interface), Some(real)) = (interfaces.get(&pod.pod), real.get(&pod.pod)) else {
                continue;
            };
            let audited = &audit.groups[pod.group.0 as usize];
            if GroupContent::new(audited, audit) == GroupContent::new(real, tables) {
                continue;
            }
            let numbered = self.number(audited, audit, fresh, names);
            image.audits.insert(*interface, numbered);
            if let Some(state) = image.pods.get_mut(interface) {
                *state = state.with_flags(state.flags() | PodState::AUDITED);
            }
        }
    }

    fn plan_audits(&self, image: &Image, generation: u32, before: &mut Writes, after: &mut Writes) {
        const ABSENT: (u32, u32) = (0, 0);
        for (interface, new) in &image.audits {
            let old = self.image.audits.get(interface).unwrap_or(&ABSENT);
            if old != new {
                before.audits.push((*interface, AuditValue::new(both(generation, *old, *new))));
                after.audits.push((*interface, AuditValue::new([*new, *new])));
            }
        }
        // The flag of the pod says that nobody looks any more.
        after.gone_audits.extend(self.image.audits.keys().filter(|at| !image.audits.contains_key(at)));
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
    // IPv4 lies in ::ffff:0:0/96 of the trie, and a block of IPv6 that holds that must not hold IPv4.
    let v4 = Address::from(IpAddr::from([0; 4]));
    if image.blocks.keys().any(|(length, net)| *length < 96 && *net == masked(&v4, *length)) {
        image.blocks.entry((96, v4)).or_insert(WORLD);
    }
    for pod in &tables.pods {
        let Some(interface) = interfaces.get(&pod.pod) else {
            continue;
        };
        let Some((group, flags)) = groups.get(pod.group.0 as usize) else {
            continue;
        };
        let own = || pod.addresses.iter().zip(&pod.identities);
        let first = |v4: bool| {
            let found = own().find(|(address, _)| address.is_ipv4() == v4);
            found.map_or((Address::UNSPECIFIED, WORLD), |(address, identity)| (Address::from(*address), identity.0))
        };
        image.pods.insert(*interface, PodState::new(*flags, *group, first(true), first(false)));
        for (address, identity) in own() {
            image.addresses.insert(Address::from(*address), (identity.0, *interface));
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

#[cfg(test)]
mod tests;
