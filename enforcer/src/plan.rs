//! From the state that the kernel has to the state that it should have: a list of writes. Pure: no I/O.
//!
//! Every value that can change carries two versions, of which the parity of the generation selects one. A change writes
//! the version of the coming generation first, then flips the generation, then makes both versions equal. What groups of policies
//! say to those who ask never changes ([`numbers`]). So a packet meets the old state or the new one, and a change costs what it
//! changes.

mod numbers;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use itertools::{EitherOrBoth, Itertools};
use signalbox_enforcer_common::{
    Address,
    policy::{AddressValue, AuditValue, BlockKey, BlockValue, NO_IDENTITY, PodState, PodValue, PolicyKey, RangeKey},
    version,
};
use signalbox_policy::{PodRef, tables::Tables};

use crate::group::{Entries, GroupContent};
use numbers::{Known, Numbers};

/// The identity of an address in no table.
const WORLD: u32 = 0;
/// No identity, no interface.
const NO_ADDRESS: (u32, u32) = (NO_IDENTITY, 0);
/// No group, no flags.
const NO_AUDIT: (u32, u32) = (0, 0);

/// What the kernel's tables say in one generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Identity, and the interface of the local pod, or 0; in order, each address once. There are as many as pods in the cluster, so
    /// that a list takes a fifth of a map's time to make and to compare.
    pub addresses: Vec<(Address, (u32, u32))>,
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
    /// From `POLICY`.
    pub gone_policy: Vec<PolicyKey>,
    /// From `RANGES`.
    pub gone_ranges: Vec<RangeKey>,
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
    /// In `AUDITS`.
    pub audits: Vec<u32>,
}

/// A change, ready to be carried out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The generation that it makes.
    pub generation: u32,
    /// What comes to the entries of groups: to be written before anything else.
    pub groups: Entries,
    /// Before the flip.
    pub before: Writes,
    /// After the flip, when no program of the old generation runs any more.
    pub after: Writes,
    /// The groups in use, by number.
    pub names: HashMap<u32, Arc<GroupContent>>,
    image: Arc<Image>,
    /// What it starts from.
    base: Arc<Image>,
    /// See [`Planner::distrust`].
    uneven: Missing,
    unfit: HashSet<u32>,
}

impl Plan {
    /// Groups that did not fit: their pods deny where a policy judges them.
    pub fn mark_unfit(&mut self, groups: impl IntoIterator<Item = u32>) {
        let new: HashSet<u32> = groups.into_iter().filter(|group| !self.unfit.contains(group)).collect();
        if new.is_empty() {
            return;
        }
        let image = Arc::make_mut(&mut self.image);
        for (_, flags) in image.audits.values_mut().filter(|(group, _)| new.contains(group)) {
            *flags |= PodState::UNFIT;
        }
        for state in image.pods.values_mut().filter(|state| new.contains(&state.group())) {
            *state = state.with_flags(state.flags() | PodState::UNFIT);
        }
        // Nobody asks for their entries in the new generation.
        for (group, content) in new.iter().filter_map(|group| self.names.get_key_value(group)) {
            self.after.forget(&content.entries(*group));
        }
        self.unfit.extend(new);
        self.plan_pods();
        self.plan_audits();
    }

    /// These did not fit: the next change tries them again. What was there before goes: it says what no generation means any more.
    pub fn mark_missing(&mut self, missing: &Missing) {
        let Missing { addresses, blocks, pods, audits } = missing;
        let (image, base, after) = (Arc::make_mut(&mut self.image), &self.base, &mut self.after);
        image.addresses.retain(|(address, _)| !addresses.contains(address));
        image.blocks.retain(|(length, address), _| !blocks.contains(&BlockKey::new(*length, *address)));
        image.pods.retain(|interface, _| !pods.contains(interface));
        image.audits.retain(|interface, _| !audits.contains(interface));
        after.addresses.retain(|(address, _)| !addresses.contains(address));
        after.blocks.retain(|(block, _)| !blocks.contains(block));
        after.pods.retain(|(interface, _)| !pods.contains(interface));
        after.audits.retain(|(interface, _)| !audits.contains(interface));
        after.gone_addresses.extend(addresses.iter().filter(|address| base.address(address).is_some()));
        after.gone_blocks.extend(blocks.iter().filter(|block| base.blocks.contains_key(&block.parts())));
        after.gone_audits.extend(audits.iter().filter(|interface| base.audits.contains_key(interface)));
    }

    /// Whether the kernel has this pod already.
    pub fn knew(&self, interface: u32) -> bool {
        self.base.pods.contains_key(&interface)
    }

    /// Local pods whose group did not fit.
    pub fn unfit_interfaces(&self) -> impl Iterator<Item = u32> {
        self.image.pods.iter().filter(|(_, state)| state.has(PodState::UNFIT)).map(|(interface, _)| *interface)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.groups == Entries::default() && self.before == Writes::default() && self.after == Writes::default()
    }

    /// What takes everything back that may have been written before the flip, if that never comes: the coming version, which nobody
    /// reads, becomes the one in force.
    pub fn undo(&self) -> Writes {
        let mut undo = Writes::default();
        for (address, _) in &self.before.addresses {
            match self.base.address(address) {
                Some(old) => undo.addresses.push((*address, AddressValue::new([old; 2]))),
                None => undo.gone_addresses.push(*address),
            }
        }
        for (block, _) in &self.before.blocks {
            match self.base.blocks.get(&block.parts()) {
                Some(old) => undo.blocks.push((*block, BlockValue::new([*old; 2]))),
                None => undo.gone_blocks.push(*block),
            }
        }
        for (interface, _) in &self.before.pods {
            match self.base.pods.get(interface) {
                Some(old) => undo.pods.push((*interface, PodValue::new([*old; 2]))),
                None => undo.gone_pods.push(*interface),
            }
        }
        for (interface, _) in &self.before.audits {
            match self.base.audits.get(interface) {
                Some(old) => undo.audits.push((*interface, AuditValue::new([*old; 2]))),
                None => undo.gone_audits.push(*interface),
            }
        }
        undo.forget(&self.groups);
        undo
    }

    fn plan_addresses(&mut self) {
        let (old, new) = (in_order(&self.base.addresses), in_order(&self.image.addresses));
        for (address, old, new) in differences(old, new, &self.uneven.addresses) {
            let versions = both(self.generation, *old.unwrap_or(&NO_ADDRESS), *new.unwrap_or(&NO_ADDRESS));
            self.before.addresses.push((*address, AddressValue::new(versions)));
            match new {
                Some(new) => self.after.addresses.push((*address, AddressValue::new([*new; 2]))),
                None => self.after.gone_addresses.push(*address),
            }
        }
    }

    fn plan_blocks(&mut self) {
        let uneven: Vec<(u32, Address)> = self.uneven.blocks.iter().map(BlockKey::parts).collect();
        for (block, old, new) in differences(&self.base.blocks, &self.image.blocks, &uneven) {
            let key = BlockKey::new(block.0, block.1);
            // Where a version has no such block, a shorter one counts: the trie cannot go on looking, so it is said here.
            let in_force = old.copied().unwrap_or_else(|| self.base.covering(block));
            let coming = new.copied().unwrap_or_else(|| self.image.covering(block));
            self.before.blocks.push((key, BlockValue::new(both(self.generation, in_force, coming))));
            match new {
                Some(new) => self.after.blocks.push((key, BlockValue::new([*new; 2]))),
                None => self.after.gone_blocks.push(key),
            }
        }
    }

    fn plan_pods(&mut self) {
        let (before, after) = (&mut self.before, &mut self.after);
        [&mut before.pods, &mut after.pods].into_iter().for_each(Vec::clear);
        after.gone_pods.clear();
        for (interface, old, new) in differences(&self.base.pods, &self.image.pods, &self.uneven.pods) {
            let versions = both(self.generation, *old.unwrap_or(&PodState::ABSENT), *new.unwrap_or(&PodState::ABSENT));
            before.pods.push((*interface, PodValue::new(versions)));
            match new {
                Some(new) => after.pods.push((*interface, PodValue::new([*new; 2]))),
                None => after.gone_pods.push(*interface),
            }
        }
    }

    fn plan_audits(&mut self) {
        let (before, after) = (&mut self.before, &mut self.after);
        [&mut before.audits, &mut after.audits].into_iter().for_each(Vec::clear);
        after.gone_audits.clear();
        for (interface, old, new) in differences(&self.base.audits, &self.image.audits, &self.uneven.audits) {
            let Some(new) = new else {
                // The flag of the pod says that nobody looks any more.
                after.gone_audits.push(*interface);
                continue;
            };
            let versions = both(self.generation, *old.unwrap_or(&NO_AUDIT), *new);
            before.audits.push((*interface, AuditValue::new(versions)));
            after.audits.push((*interface, AuditValue::new([*new; 2])));
        }
    }
}

impl Writes {
    /// Entries of groups go.
    fn forget(&mut self, entries: &Entries) {
        self.gone_policy.extend(entries.policy.iter().map(|(key, _)| *key));
        self.gone_ranges.extend(entries.ranges.iter().map(|(key, _)| *key));
    }
}

/// Knows what the kernel has.
#[derive(Debug, Default)]
pub struct Planner {
    generation: u32,
    image: Arc<Image>,
    numbers: Numbers,
    /// Values whose two versions may differ, since the kernel had no room to make them equal.
    uneven: Missing,
}

impl Planner {
    /// Goes on where another process stopped: what its tables say, and the largest number of its groups. What these
    /// groups say is not known, so that the next plan writes all of its own.
    pub fn resume(generation: u32, image: Image, last_group: u32) -> Self {
        Self { generation, image: Arc::new(image), numbers: Numbers::after(last_group), uneven: Missing::default() }
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
        let mut contents: Vec<GroupContent> =
            tables.groups.iter().map(|group| GroupContent::new(group, tables)).collect();
        let audits = audit.map_or_else(Vec::new, |audit| audits(audit, (tables, &contents), interfaces));
        contents.extend(audits.iter().map(|(_, content)| content.clone()));
        let flags: Vec<u32> = contents.iter().map(GroupContent::flags).collect();
        let named = self.numbers.name(contents, &Known::of(&self.image), &Known::to(tables));
        let mut numbers: Vec<(u32, u32)> = named.numbers.into_iter().zip(flags).collect();
        let audit_numbers = numbers.split_off(tables.groups.len());
        let mut image = desired(tables, interfaces, &numbers);
        for ((interface, _), audit) in audits.iter().zip(audit_numbers) {
            image.audits.insert(*interface, audit);
            if let Some(state) = image.pods.get_mut(interface) {
                *state = state.with_flags(state.flags() | PodState::AUDITED);
            }
        }
        let mut plan = Plan {
            // The first generation is 1; 0 stands for "no tables yet".
            generation: self.generation.checked_add(1).unwrap_or(2),
            groups: named.coming,
            before: Writes::default(),
            after: Writes::default(),
            names: named.names,
            image: Arc::new(image),
            base: Arc::clone(&self.image),
            uneven: self.uneven.clone(),
            unfit: HashSet::new(),
        };
        plan.after.forget(&named.going);
        plan.plan_addresses();
        plan.plan_blocks();
        plan.plan_pods();
        plan.plan_audits();
        plan
    }

    /// The kernel had no room to make both versions of these equal: the next plan writes them again, whether they change or not.
    pub fn distrust(&mut self, uneven: Missing) {
        self.uneven.addresses.extend(uneven.addresses);
        self.uneven.blocks.extend(uneven.blocks);
        self.uneven.pods.extend(uneven.pods);
        self.uneven.audits.extend(uneven.audits);
    }

    /// Whether a plan that was made before may lack something that has to be written again.
    pub fn is_distrustful(&self) -> bool {
        self.uneven != Missing::default()
    }

    /// The plan was carried out up to the flip.
    pub fn done(&mut self, plan: &Plan) {
        self.generation = plan.generation;
        self.image = Arc::clone(&plan.image);
        self.uneven = Missing::default();
        // A group that did not fit is unknown, so that the next change tries again.
        self.numbers.keep(plan.names.iter().filter(|(number, _)| !plan.unfit.contains(number)));
    }
}

impl Image {
    /// Puts addresses in, over what is there.
    pub fn set_addresses(&mut self, addresses: impl IntoIterator<Item = (Address, (u32, u32))>) {
        self.addresses.extend(addresses);
        self.addresses.sort_by_key(|(address, _)| *address);
        self.addresses.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                kept.1 = later.1;
            }
            is_same
        });
    }

    /// Identity and interface of an address.
    fn address(&self, address: &Address) -> Option<(u32, u32)> {
        let place = self.addresses.binary_search_by(|(other, _)| other.cmp(address));
        place.ok().map(|at| self.addresses[at].1)
    }

    /// The identity of the longest block that holds this one, itself included.
    fn covering(&self, block: &(u32, Address)) -> u32 {
        (0..=block.0)
            .rev()
            .find_map(|length| self.blocks.get(&(length, masked(&block.1, length))))
            .copied()
            .unwrap_or(WORLD)
    }
}

fn in_order<K, V>(list: &[(K, V)]) -> impl Iterator<Item = (&K, &V)> {
    list.iter().map(|(key, value)| (key, value))
}

/// What two maps, each in order, do not have in common, and what is uneven: key, old value and new one.
fn differences<'m, K: Ord, V: PartialEq + 'm>(
    old: impl IntoIterator<Item = (&'m K, &'m V)>,
    new: impl IntoIterator<Item = (&'m K, &'m V)>,
    uneven: &'m [K],
) -> impl Iterator<Item = (&'m K, Option<&'m V>, Option<&'m V>)> {
    let pairs = old.into_iter().merge_join_by(new, |(one, _), (other, _)| one.cmp(other));
    pairs.filter_map(|pair| match pair {
        EitherOrBoth::Both((key, old), (_, new)) => {
            (old != new || uneven.contains(key)).then_some((key, Some(old), Some(new)))
        }
        EitherOrBoth::Left((key, old)) => Some((key, Some(old), None)),
        EitherOrBoth::Right((key, new)) => Some((key, None, Some(new))),
    })
}

/// What the policies in audit make of the pods that they select, by interface.
fn audits(
    audit: &Tables,
    (tables, contents): (&Tables, &[GroupContent]),
    interfaces: &HashMap<PodRef, u32>,
) -> Vec<(u32, GroupContent)> {
    let enforced: HashMap<&PodRef, &GroupContent> =
        tables.pods.iter().map(|pod| (&pod.pod, &contents[pod.group.0 as usize])).collect();
    let audited = audit.pods.iter().filter_map(|pod| {
        let (interface, enforced) = (interfaces.get(&pod.pod)?, enforced.get(&pod.pod)?);
        let content = GroupContent::new(&audit.groups[pod.group.0 as usize], audit);
        (content != **enforced).then_some((*interface, content))
    });
    audited.collect()
}

/// Both versions of a value, by parity.
fn both<T>(generation: u32, old: T, new: T) -> [T; 2] {
    if version(generation) == 0 { [new, old] } else { [old, new] }
}

fn desired(tables: &Tables, interfaces: &HashMap<PodRef, u32>, groups: &[(u32, u32)]) -> Image {
    let addresses = tables.addresses.iter().map(|(address, identity)| (Address::from(*address), (identity.0, 0)));
    let mut image = Image { addresses: addresses.collect(), ..Image::default() };
    let mut own_addresses = Vec::new();
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
            own_addresses.push((Address::from(*address), (identity.0, *interface)));
        }
    }
    image.set_addresses(own_addresses);
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
