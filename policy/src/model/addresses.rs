//! Which pod has an address.

use std::net::IpAddr;

use crate::model::PodIndex;

/// Addresses that one pod has, in order. A change of one moves those behind it, and a copy of all is one of memory: both are quick.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    list: Vec<(IpAddr, PodIndex)>,
}

/// An address that two pods claim, and who did first.
pub(super) struct Clash {
    pub address: IpAddr,
    pub before: PodIndex,
    pub index: PodIndex,
}

impl Addresses {
    /// Of all claims, in their order, those that nobody else makes; and those that others make as well.
    pub(super) fn settle(claims: impl Iterator<Item = (IpAddr, PodIndex)>) -> (Self, Vec<Clash>) {
        let mut claims: Vec<(IpAddr, usize, PodIndex)> =
            claims.enumerate().map(|(turn, (address, index))| (address, turn, index)).collect();
        claims.sort_unstable();
        let (mut list, mut clashes) = (Vec::with_capacity(claims.len()), Vec::new());
        for same in claims.chunk_by(|one, other| one.0 == other.0) {
            let (address, _, index) = same[0];
            let others = same.windows(2).filter(|pair| pair[0].2 != pair[1].2);
            let before = clashes.len();
            clashes.extend(others.map(|pair| (pair[1].1, Clash { address, before: pair[0].2, index: pair[1].2 })));
            if clashes.len() == before {
                list.push((address, index));
            }
        }
        clashes.sort_unstable_by_key(|(turn, _)| *turn);
        (Self { list }, clashes.into_iter().map(|(_, clash)| clash).collect())
    }

    pub fn get(&self, address: &IpAddr) -> Option<PodIndex> {
        self.place(address).ok().map(|at| self.list[at].1)
    }

    pub fn has(&self, address: &IpAddr) -> bool {
        self.place(address).is_ok()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// In order of the addresses.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, PodIndex)> {
        self.list.iter().copied()
    }

    /// Whose it was before.
    pub(super) fn insert(&mut self, address: IpAddr, index: PodIndex) -> Option<PodIndex> {
        match self.place(&address) {
            Ok(at) => Some(std::mem::replace(&mut self.list[at].1, index)),
            Err(at) => {
                self.list.insert(at, (address, index));
                None
            }
        }
    }

    pub(super) fn remove(&mut self, address: &IpAddr) {
        if let Ok(at) = self.place(address) {
            self.list.remove(at);
        }
    }

    /// The pods have other indices now.
    pub(super) fn renumber(&mut self, to: impl Fn(PodIndex) -> PodIndex) {
        self.list.iter_mut().for_each(|(_, index)| *index = to(*index));
    }

    fn place(&self, address: &IpAddr) -> Result<usize, usize> {
        self.list.binary_search_by(|(other, _)| other.cmp(address))
    }
}
