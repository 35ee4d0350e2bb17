//! Takes over the tables that a process before left in force. See docs/adr/0008.
//!
//! What the version in force says is the state from which the first complete tables are planned, so that they become one
//! change like any other. What a process left half done is made equal first: the coming version of a value, which nobody
//! reads yet, may be that of a change that never came.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use signalbox_enforcer_common::{
    Address, CONTROL_CLOCK, CONTROL_GENERATION,
    policy::{
        AddressValue, AuditValue, BlockKey, BlockValue, Judgement, NO_IDENTITY, NodePortKey, PodState, PodValue,
        PolicyKey, RangeKey, TranslatedKey,
    },
};

use crate::{
    datapath::{NodeAddresses, maps::Maps},
    error::Error,
    lanes::Lanes,
    pins::{self, Pins},
    plan::Image,
    sys::{self, MapFacts},
};

/// What a set of maps says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// The generation in force; 0: none ever was.
    pub generation: u32,
    /// The coarse clock.
    pub now: u32,
}

impl Clock {
    /// Of the set in a folder; nothing where it has no such map. `CONTROL` only grows, and its first cells are the same in all layouts.
    pub fn of(set: &Path) -> Self {
        sys::open_pin(&set.join("maps/CONTROL")).map(|control| Self::read(control.as_fd())).unwrap_or_default()
    }

    /// Of the map `CONTROL`.
    fn read(control: BorrowedFd<'_>) -> Self {
        let read = |cell: u32| {
            let mut value = [0_u32];
            sys::lookup(control, &cell, &mut value).map(|()| value[0]).unwrap_or_default()
        };
        Self { generation: read(CONTROL_GENERATION), now: read(CONTROL_CLOCK) }
    }
}

/// Where the process before stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// There was none, or none that left anything in force.
    Nothing,
    /// The own set's tables are in force.
    Own(Clock),
    /// Tables of another set are in force: they stay, until the own ones are complete.
    Other(Clock),
}

/// Looks at what is pinned, and removes what is not in force. `is_attached`: a program of another process stands, and uses the
/// maps `in_force`.
///
/// # Errors
///
/// When the file system refuses.
pub fn look_back(pins: &Pins, is_attached: bool, in_force: &[OwnedFd]) -> Result<Past, Error> {
    let facts: Vec<(&OwnedFd, MapFacts)> =
        in_force.iter().filter_map(|fd| Some((fd, sys::map_facts(fd.as_fd()).ok()?))).collect();
    recover(pins, &facts)?;
    let own = Clock::of(&pins.own());
    let newest = pins.others().iter().map(|set| Clock::of(set)).max_by_key(|clock| clock.generation);
    let standing = facts.iter().find(|(_, facts)| facts.name == "CONTROL").map(|(fd, _)| Clock::read(fd.as_fd()));
    let newest = newest.into_iter().chain(standing).max_by_key(|clock| clock.generation).unwrap_or_default();
    if own.generation != 0 && own.generation >= newest.generation && pins.missing_maps().is_empty() {
        return Ok(Past::Own(own));
    }
    // Never in force, or not any more.
    pins::remove(&pins.own().join("maps"))?;
    if !is_attached {
        pins.forget_flows()?;
        return Ok(Past::Nothing);
    }
    let newest = if own.generation > newest.generation { own } else { newest };
    Ok(Past::Other(newest))
}

/// Pins maps again whose pins somebody has removed, as long as a program holds them.
fn recover(pins: &Pins, facts: &[(&OwnedFd, MapFacts)]) -> Result<(), Error> {
    let missing: Vec<String> = pins.missing_maps().into_iter().map(str::to_owned).collect();
    let is_own = pins.maps().filter(|name| *name != "FLOWS").any(|name| {
        let id = sys::open_pin(&pins.map(name)).and_then(|fd| sys::map_facts(fd.as_fd())).map(|facts| facts.id);
        id.is_ok_and(|id| facts.iter().any(|(_, facts)| facts.id == id))
    });
    if !is_own {
        return Ok(());
    }
    for name in missing {
        // Flows of another capacity are not the ones that are missing.
        let fits =
            |facts: &MapFacts| facts.name == name && (name != "FLOWS" || facts.capacity == pins.flows_capacity());
        if let Some((fd, _)) = facts.iter().find(|(_, facts)| fits(facts)) {
            let path = pins.map(&name);
            tracing::warn!(map = name, "its pin had been removed; it is pinned again");
            sys::pin(fd.as_fd(), &path).map_err(|source| Error::Pin { path, source })?;
        }
    }
    Ok(())
}

/// What the maps hold.
#[derive(Debug, Default)]
pub struct Found {
    /// What the version in force says.
    pub image: Image,
    /// Groups whose entries are there: their content is not known, so all go when the first tables are in.
    pub groups: BTreeSet<u32>,
    /// What the node listens to.
    pub node: NodeAddresses,
    /// Numbers of pods behind bridges.
    pub lanes: Lanes,
}

impl Found {
    /// The largest number of a group.
    pub fn last_group(&self) -> u32 {
        self.groups.last().copied().unwrap_or_default()
    }

    /// Addresses of local pods, and the interface that each had.
    pub fn heirs(&self) -> HashMap<IpAddr, u32> {
        let known = |address: Address| (address != Address::UNSPECIFIED).then(|| IpAddr::from(address));
        let pods = self.image.pods.iter();
        pods.flat_map(|(interface, state)| {
            let (v4, v6) = state.addresses();
            [known(v4), known(v6)].into_iter().flatten().map(|address| (address, *interface))
        })
        .collect()
    }
}

/// Reads the maps, makes both versions of all values those in force, and forgets pods whose interface is not attached any
/// more, and their addresses: whoever has the interface's number or the address now is somebody else.
///
/// # Errors
///
/// When the kernel refuses.
pub fn read(maps: &Maps, generation: u32, attached: &HashSet<u32>) -> Result<Found, Error> {
    sys::wait_for_readers().map_err(|source| Error::Io { what: "membarrier(2)", source })?;
    let other = generation.wrapping_add(1);
    let mut found = Found::default();

    let (mut changed, mut gone) = (Vec::new(), Vec::new());
    for (interface, value) in maps.pods.entries::<u32, PodValue>()? {
        let (state, coming) = (*value.state(generation), value.state(other));
        if !state.has(PodState::PRESENT) || !attached.contains(&interface) {
            gone.push(interface);
            continue;
        }
        if state != *coming {
            changed.push((interface, PodValue::new([state, state])));
        }
        found.groups.insert(state.group());
        found.image.pods.insert(interface, state);
    }
    maps.pods.update_all(&changed)?;
    maps.pods.delete_all(&gone)?;

    let (mut changed, mut gone, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for (address, value) in maps.addresses.entries::<Address, AddressValue>()? {
        let version = |generation| (value.identity(generation), value.interface(generation));
        let (identity, interface) = version(generation);
        if identity == NO_IDENTITY || interface != 0 && !attached.contains(&interface) {
            gone.push(address);
            continue;
        }
        if version(other) != (identity, interface) {
            changed.push((address, AddressValue::new([(identity, interface); 2])));
        }
        kept.push((address, (identity, interface)));
    }
    found.image.set_addresses(kept);
    maps.addresses.update_all(&changed)?;
    maps.addresses.delete_all(&gone)?;

    let mut changed = Vec::new();
    for (block, value) in maps.blocks.entries::<BlockKey, BlockValue>()? {
        let identity = value.identity(generation);
        if value.identity(other) != identity {
            changed.push((block, BlockValue::new([identity; 2])));
        }
        // One that only the coming version knows says here what covers it: the same as if it were not there.
        found.image.blocks.insert(block.parts(), identity);
    }
    maps.blocks.update_all(&changed)?;

    let (mut changed, mut gone) = (Vec::new(), Vec::new());
    for (interface, value) in maps.audits.entries::<u32, AuditValue>()? {
        let version = |generation| (value.group(generation), value.flags(generation));
        let audit = version(generation);
        if audit.0 == 0 || !attached.contains(&interface) {
            gone.push(interface);
            continue;
        }
        if version(other) != audit {
            changed.push((interface, AuditValue::new([audit; 2])));
        }
        found.groups.insert(audit.0);
        found.image.audits.insert(interface, audit);
    }
    maps.audits.update_all(&changed)?;
    maps.audits.delete_all(&gone)?;

    let policy = maps.policy.entries::<PolicyKey, Judgement>()?;
    found.groups.extend(policy.iter().map(|(key, _)| key.group()));
    let ranges = maps.ranges.entries::<RangeKey, Judgement>()?;
    found.groups.extend(ranges.iter().map(|(key, _)| key.group()));

    let addresses = maps.node_addresses.entries::<Address, u32>()?;
    found.node.addresses = addresses.iter().map(|(address, _)| IpAddr::from(*address)).collect();
    let ports = maps.node_ports.entries::<NodePortKey, u32>()?;
    found.node.translated_ports = ports.iter().map(|(key, _)| key.parts()).collect();
    let translated = maps.translated.entries::<TranslatedKey, u32>()?;
    let parts = |key: &TranslatedKey| (IpAddr::from(key.parts().0), key.parts().1, key.parts().2);
    found.node.translated = translated.iter().map(|(key, _)| parts(key)).collect();
    found.lanes = Lanes::resume(maps.bridged.entries::<u32, u32>()?);
    Ok(found)
}

/// Removes the entries of groups that no pod refers to any more.
///
/// # Errors
///
/// When the kernel refuses.
pub fn remove_groups(maps: &Maps, groups: &BTreeSet<u32>) -> Result<(), Error> {
    let policy = maps.policy.entries::<PolicyKey, Judgement>()?;
    let keys: Vec<PolicyKey> = policy.iter().map(|(key, _)| *key).filter(|key| groups.contains(&key.group())).collect();
    maps.policy.delete_all(&keys)?;
    let ranges = maps.ranges.entries::<RangeKey, Judgement>()?;
    let keys: Vec<RangeKey> = ranges.iter().map(|(key, _)| *key).filter(|key| groups.contains(&key.group())).collect();
    maps.ranges.delete_all(&keys)
}
