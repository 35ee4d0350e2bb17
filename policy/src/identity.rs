//! Numbers for identities, kept stable from one compile to the next.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::tables::Identity;

/// What carries an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Holder {
    Address(IpAddr),
    /// The addresses whose longest named prefix this is.
    Block(IpNet),
}

/// Hands out identities. A class of peers keeps the number that most of its members had; a number that nobody holds any
/// more is not handed out again until all others have been, since flows that were judged by it may live on.
#[derive(Clone, Debug, Default)]
pub struct IdentityAllocator {
    /// In order of the holders.
    held: Vec<(Holder, Identity)>,
    last: u32,
}

impl IdentityAllocator {
    /// One number for each class, all different. `members` are in order, each is in one class, and each class has one at least.
    pub(crate) fn assign(&mut self, members: &[(Holder, usize)], classes: usize) -> Vec<Identity> {
        let mut count: FxHashMap<(Identity, usize), usize> = FxHashMap::default();
        let mut held = self.held.iter().peekable();
        for (holder, class) in members {
            while held.next_if(|(other, _)| other < holder).is_some() {}
            if let Some((_, identity)) = held.next_if(|(other, _)| other == holder) {
                *count.entry((*identity, *class)).or_default() += 1;
            }
        }
        // Most members first, then the oldest number, then the first class: the same input gives the same numbers.
        let mut votes: Vec<(usize, Identity, usize)> =
            count.into_iter().map(|((identity, class), count)| (count, identity, class)).collect();
        votes.sort_unstable_by_key(|(count, identity, class)| (std::cmp::Reverse(*count), *identity, *class));
        let mut numbers: Vec<Option<Identity>> = vec![None; classes];
        let mut taken: HashSet<Identity> = HashSet::new();
        for (_, identity, class) in votes {
            if numbers[class].is_none() && taken.insert(identity) {
                numbers[class] = Some(identity);
            }
        }
        // What was held until now must not change its meaning at once, even if no class claims it.
        let mut in_use: FxHashSet<Identity> = taken.into_iter().collect();
        // One by one: there are few, and many that hold them.
        for (_, identity) in &self.held {
            in_use.insert(*identity);
        }
        let numbers: Vec<Identity> =
            numbers.into_iter().map(|number| number.unwrap_or_else(|| self.fresh(&mut in_use))).collect();
        self.held = members.iter().map(|(holder, class)| (*holder, numbers[*class])).collect();
        numbers
    }

    fn fresh(&mut self, in_use: &mut FxHashSet<Identity>) -> Identity {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(Identity::FIRST.0).max(Identity::FIRST.0);
            if in_use.insert(Identity(self.last)) {
                return Identity(self.last);
            }
        }
    }
}
