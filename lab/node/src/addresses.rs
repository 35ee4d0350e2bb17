//! Who gets which address and which range of user ids.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;

use crate::error::Error;

/// How long a released address rests.
const QUARANTINE: Duration = Duration::from_secs(60);
/// The first addresses of the range stay free for the node.
const RESERVED: u32 = 10;

/// Hands out the pods' addresses in turn: a released address comes again only after all others, and not before
/// it has rested.
#[derive(Debug)]
pub(crate) struct AddressPool {
    range: Ipv4Net,
    next: u32,
    used: HashSet<u32>,
    resting: HashMap<u32, Instant>,
}

impl AddressPool {
    /// All of `range` but its first ten addresses and its last.
    pub(crate) fn new(range: Ipv4Net) -> Self {
        Self { range, next: RESERVED, used: HashSet::new(), resting: HashMap::new() }
    }

    /// The next free address.
    pub(crate) fn take(&mut self, now: Instant) -> Result<Ipv4Addr, Error> {
        self.resting.retain(|_, released| now.saturating_duration_since(*released) < QUARANTINE);
        let size = u32::from(self.range.broadcast()) - u32::from(self.range.network());
        for _ in RESERVED..size {
            let offset = self.next;
            self.next = if offset + 1 < size { offset + 1 } else { RESERVED };
            if !self.resting.contains_key(&offset) && self.used.insert(offset) {
                return Ok(Ipv4Addr::from(u32::from(self.range.network()) + offset));
            }
        }
        Err(Error::AddressesExhausted { range: self.range })
    }

    /// Gives an address back.
    pub(crate) fn release(&mut self, address: Ipv4Addr, now: Instant) {
        let offset = u32::from(address).wrapping_sub(u32::from(self.range.network()));
        if self.used.remove(&offset) {
            self.resting.insert(offset, now);
        }
    }
}

/// How many user ids each pod has.
pub(crate) const USERS_PER_POD: u32 = 65536;
/// The first one. Far above what people, services and container engines use.
const FIRST_USER: u32 = 200_000_000;

/// Hands out ranges of user ids, distinct for all that live.
#[derive(Debug, Default)]
pub(crate) struct UserPool {
    used: HashSet<u32>,
    next: u32,
}

impl UserPool {
    /// Ranges there are: up to user id 1.8 billion.
    const RANGES: u32 = 24_000;

    /// The first user id of a free range.
    pub(crate) fn take(&mut self) -> u32 {
        loop {
            let range = self.next;
            self.next = (range + 1) % Self::RANGES;
            // Addresses run out at 65 thousand pods, processes of the machine long before 24 thousand.
            if self.used.insert(range) {
                return FIRST_USER + range * USERS_PER_POD;
            }
        }
    }

    /// Gives a range back.
    pub(crate) fn release(&mut self, first: u32) {
        self.used.remove(&((first - FIRST_USER) / USERS_PER_POD));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(range: &str) -> AddressPool {
        AddressPool::new(range.parse().expect("a range"))
    }

    #[test]
    fn the_first_ten_stay_free() {
        let mut pool = pool("10.244.0.0/16");
        assert_eq!(pool.take(Instant::now()).expect("free"), Ipv4Addr::new(10, 244, 0, 10));
    }

    #[test]
    fn a_released_address_comes_last_and_rests() {
        let mut pool = pool("10.0.0.0/28");
        let start = Instant::now();
        let first = pool.take(start).expect("free");
        pool.release(first, start);
        let others: Vec<_> = (0..4).map(|_| pool.take(start).expect("free")).collect();
        assert!(!others.contains(&first));
        assert!(matches!(pool.take(start), Err(Error::AddressesExhausted { .. })));
        assert_eq!(pool.take(start + QUARANTINE).expect("rested"), first);
    }

    #[test]
    fn user_ranges_are_distinct() {
        let mut users = UserPool::default();
        let (a, b) = (users.take(), users.take());
        assert!(a.abs_diff(b) >= USERS_PER_POD);
        users.release(a);
        assert_ne!(users.take(), b);
    }
}
