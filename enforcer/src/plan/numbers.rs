//! Which group of policies has which number in the kernel.
//!
//! A content that is in the kernel keeps its number. One that differs from it in nothing that anybody asks for has it as well: an
//! identity that only packets of the new generation come with is in the way of no packet of the old one. So whoever tells apart
//! peers that no rule told apart before, by one new rule, has some entries added to each group that speaks of them, and none of
//! these written anew. Any other content is another group with another number.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use rustc_hash::{FxHashMap, FxHashSet};
use signalbox_enforcer_common::Address;
use signalbox_policy::tables::{Identity, Tables};

use super::{Image, WORLD};
use crate::group::{Entries, GroupContent};

/// The groups that are in the kernel and whose content is known.
#[derive(Debug, Default)]
pub struct Numbers {
    groups: FxHashMap<Arc<GroupContent>, u32>,
    last: u32,
}

/// Identities that packets of one generation come with.
#[derive(Debug)]
pub struct Known(FxHashSet<u32>);

/// The groups of coming tables with their numbers.
pub struct Named {
    /// The number of each content, in the order in which they were given.
    pub numbers: Vec<u32>,
    /// The groups in use, by number.
    pub names: HashMap<u32, Arc<GroupContent>>,
    /// Entries to be written before anybody asks for them.
    pub coming: Entries,
    /// Entries for which nobody will ask any more.
    pub going: Entries,
}

impl Numbers {
    /// None is known; new ones begin behind this one.
    pub fn after(last: u32) -> Self {
        Self { groups: FxHashMap::default(), last }
    }

    /// Gives each content its number. Packets of the old generation come with the identities `old`, those of the new one with `new`.
    pub fn name(&mut self, contents: Vec<GroupContent>, old: &Known, new: &Known) -> Named {
        let mut names: HashMap<u32, Arc<GroupContent>> = HashMap::new();
        let known = contents.iter().map(|content| {
            let (content, number) = self.groups.get_key_value(content)?;
            names.insert(*number, Arc::clone(content));
            Some(*number)
        });
        let known: Vec<Option<u32>> = known.collect();
        let mut taken: HashSet<u32> = names.keys().copied().collect();
        let is_lasting = |identity| old.has(identity) && new.has(identity);
        let mut imprints: FxHashMap<u64, Vec<(&Arc<GroupContent>, u32)>> = FxHashMap::default();
        for (content, number) in self.groups.iter().filter(|(_, number)| !taken.contains(number)) {
            imprints.entry(content.imprint(is_lasting)).or_default().push((content, *number));
        }
        // Two groups of the tables may be equal: they share a number.
        let mut fresh: FxHashMap<Arc<GroupContent>, u32> = FxHashMap::default();
        let (mut coming, mut going) = (Entries::default(), Entries::default());
        let mut number_of = |content: GroupContent| {
            if let Some(number) = fresh.get(&content) {
                return *number;
            }
            let alike = imprints.get(&content.imprint(is_lasting)).into_iter().flatten();
            let fitting = alike.filter(|(before, number)| {
                !taken.contains(number) && before.can_become(&content, |id| old.has(id), |id| new.has(id))
            });
            // The smallest, so that the same changes give the same numbers.
            let (number, entries) = match fitting.min_by_key(|(_, number)| *number) {
                Some((before, number)) => (*number, content.entries_beyond(before, *number)),
                None => {
                    self.last += 1;
                    (self.last, content.entries(self.last))
                }
            };
            taken.insert(number);
            coming.extend(entries);
            let content = Arc::new(content);
            names.insert(number, Arc::clone(&content));
            fresh.insert(content, number);
            number
        };
        let numbers =
            contents.into_iter().zip(known).map(|(it, known)| known.unwrap_or_else(|| number_of(it))).collect();
        for (before, number) in &self.groups {
            match names.get(number) {
                Some(content) if Arc::ptr_eq(before, content) => {}
                Some(content) => going.extend(before.entries_beyond(content, *number)),
                None => going.extend(before.entries(*number)),
            }
        }
        Named { numbers, names, coming, going }
    }

    /// From now on these are in the kernel, and no others.
    pub fn keep<'g>(&mut self, groups: impl Iterator<Item = (&'g u32, &'g Arc<GroupContent>)>) {
        let mut coming: HashMap<u32, &Arc<GroupContent>> = groups.map(|(number, content)| (*number, content)).collect();
        self.groups.retain(|content, number| {
            let stays = coming.get(number).is_some_and(|it| Arc::ptr_eq(it, content));
            if stays {
                coming.remove(number);
            }
            stays
        });
        self.groups.extend(coming.into_iter().map(|(number, content)| (Arc::clone(content), number)));
    }
}

impl Known {
    /// Those of tables that are in the kernel.
    pub fn of(image: &Image) -> Self {
        let addresses = image.addresses.iter().map(|(_, (identity, _))| *identity);
        let of_family = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::LOCALHOST)].map(Address::from);
        let pods = image.pods.values().flat_map(|state| of_family.map(|like| state.identity(&like)));
        Self::with(addresses.chain(image.blocks.values().copied()).chain(pods))
    }

    /// Those of tables that are to be.
    pub fn to(tables: &Tables) -> Self {
        let addresses = tables.addresses.iter().map(|(_, identity)| identity.0);
        let blocks = tables.blocks.iter().map(|(_, identity)| identity.0);
        let pods = tables.pods.iter().flat_map(|pod| &pod.identities).map(|identity| identity.0);
        Self::with(addresses.chain(blocks).chain(pods))
    }

    /// Whoever is in no table, and the node itself, ask at all times.
    fn with(identities: impl Iterator<Item = u32>) -> Self {
        let mut known = FxHashSet::default();
        // One by one: there are few, and many that have them.
        for identity in identities.chain([WORLD, Identity::LOCAL_NODE.0]) {
            known.insert(identity);
        }
        Self(known)
    }

    fn has(&self, identity: u32) -> bool {
        self.0.contains(&identity)
    }
}
