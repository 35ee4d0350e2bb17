//! Numbers for identities, kept stable from one compile to the next.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::tables::Identity;

/// What carries an identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Holder {
    Address(IpAddr),
    /// The addresses whose longest named prefix this is.
    Block(IpNet),
}

/// Hands out identities. A class of peers keeps the number that most of its members had; a number that nobody holds any
/// more is not handed out again until all others have been, since flows that were judged by it may live on.
#[derive(Clone, Debug, Default)]
pub struct IdentityAllocator {
    held: BTreeMap<Holder, Identity>,
    last: u32,
}

impl IdentityAllocator {
    /// One number for each class, all different. Each class has a holder at least, and no holder is in two classes.
    pub(crate) fn assign(&mut self, classes: &[Vec<Holder>]) -> Vec<Identity> {
        let mut votes: Vec<(usize, Identity, usize)> = Vec::new();
        for (class, holders) in classes.iter().enumerate() {
            let mut count: HashMap<Identity, usize> = HashMap::new();
            for identity in holders.iter().filter_map(|holder| self.held.get(holder)) {
                *count.entry(*identity).or_default() += 1;
            }
            votes.extend(count.into_iter().map(|(identity, count)| (count, identity, class)));
        }
        // Most members first, then the oldest number, then the first class: the same input gives the same numbers.
        votes.sort_unstable_by_key(|(count, identity, class)| (std::cmp::Reverse(*count), *identity, *class));
        let mut numbers: Vec<Option<Identity>> = vec![None; classes.len()];
        let mut taken: HashSet<Identity> = HashSet::new();
        for (_, identity, class) in votes {
            if numbers[class].is_none() && taken.insert(identity) {
                numbers[class] = Some(identity);
            }
        }
        // What was held until now must not change its meaning at once, even if no class claims it.
        let mut in_use: BTreeSet<Identity> = self.held.values().copied().collect();
        in_use.extend(&taken);
        let numbers: Vec<Identity> =
            numbers.into_iter().map(|number| number.unwrap_or_else(|| self.fresh(&mut in_use))).collect();
        self.held = classes
            .iter()
            .zip(&numbers)
            .flat_map(|(holders, number)| holders.iter().map(|holder| (holder.clone(), *number)))
            .collect();
        numbers
    }

    fn fresh(&mut self, in_use: &mut BTreeSet<Identity>) -> Identity {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(Identity::FIRST.0).max(Identity::FIRST.0);
            if in_use.insert(Identity(self.last)) {
                return Identity(self.last);
            }
        }
    }
}
