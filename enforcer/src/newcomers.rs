//! Interfaces that appear on the node: which may be a new pod's, and since when they are there. Pure: no clock, no I/O.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use crate::discover::Peer;

/// A veth is made with both ends in one namespace, and then one end is moved: how long it may stay there before it counts as the
/// node's own.
const UNSETTLED: Duration = Duration::from_secs(2);

/// What an interface is, as far as it can be told from itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It leads into another namespace: a pod's, perhaps.
    Candidate,
    /// Both ends are here, for now.
    Unsettled,
    /// A pod's, which a process before knew.
    Inherited,
    /// No pod's.
    Foreign,
}

/// An interface.
#[derive(Clone, Copy, Debug)]
struct Seen {
    kind: Kind,
    since: Instant,
}

/// All interfaces of the node.
#[derive(Debug, Default)]
pub struct Newcomers {
    seen: HashMap<u32, Seen>,
}

impl Newcomers {
    /// Begins with the interfaces that no pod is awaited at: those that are no pod's, and those whose pods a process before
    /// knew. Others that are there came meanwhile.
    pub fn new(foreign: &BTreeSet<u32>, inherited: impl IntoIterator<Item = u32>, now: Instant) -> Self {
        let foreign = foreign.iter().map(|interface| (*interface, Seen { kind: Kind::Foreign, since: now }));
        let inherited = inherited.into_iter().map(|interface| (interface, Seen { kind: Kind::Inherited, since: now }));
        Self { seen: foreign.chain(inherited).collect() }
    }

    /// An interface is there, or has changed.
    pub fn appear(&mut self, interface: u32, peer: Option<Peer>, now: Instant) {
        let kind = match peer {
            Some(Peer { netns_id: Some(_), .. }) => Kind::Candidate,
            Some(Peer { netns_id: None, .. }) => Kind::Unsettled,
            None => Kind::Foreign,
        };
        let seen = self.seen.entry(interface).or_insert(Seen { kind, since: now });
        if seen.kind == Kind::Unsettled {
            seen.kind = match kind {
                Kind::Unsettled if now.duration_since(seen.since) >= UNSETTLED => Kind::Foreign,
                kind => kind,
            };
        }
    }

    /// An interface is gone.
    pub fn vanish(&mut self, interface: u32) {
        self.seen.remove(&interface);
    }

    /// All interfaces that are there: what is not among them is gone.
    pub fn compare(&mut self, present: &HashMap<u32, Option<Peer>>, now: Instant) {
        self.seen.retain(|interface, _| present.contains_key(interface));
        for (interface, peer) in present {
            self.appear(*interface, *peer, now);
        }
    }

    /// A pod has been found behind it: when that is gone, the interface is not the node's own.
    pub fn bind(&mut self, interface: u32) {
        if let Some(seen) = self.seen.get_mut(&interface) {
            seen.kind = Kind::Candidate;
        }
    }

    /// Interfaces that may be a pod's.
    pub fn candidates(&self) -> impl Iterator<Item = u32> {
        self.seen.iter().filter(|(_, seen)| seen.kind == Kind::Candidate).map(|(interface, _)| *interface)
    }

    /// Interfaces that are a pod's, for all that is known: those that may be a new one's, and those whose pods a process before knew.
    pub fn of_pods(&self) -> impl Iterator<Item = u32> {
        let is_of_pod = |kind| matches!(kind, Kind::Candidate | Kind::Inherited);
        self.seen.iter().filter(move |(_, seen)| is_of_pod(seen.kind)).map(|(interface, _)| *interface)
    }

    /// What the process before knew counts no more: of these it is to be found out anew whose they are.
    pub fn disinherit(&mut self, is_found: impl Fn(u32) -> bool) {
        for (interface, seen) in &mut self.seen {
            if seen.kind == Kind::Inherited && !is_found(*interface) {
                seen.kind = Kind::Candidate;
            }
        }
    }

    /// Interfaces that are no pod's.
    pub fn foreign(&self) -> BTreeSet<u32> {
        self.seen.iter().filter(|(_, seen)| seen.kind == Kind::Foreign).map(|(interface, _)| *interface).collect()
    }

    /// Since when an interface is there.
    pub fn since(&self, interface: u32) -> Option<Instant> {
        self.seen.get(&interface).map(|seen| seen.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELSEWHERE: Option<Peer> = Some(Peer { index: 2, netns_id: Some(0) });
    const HERE: Option<Peer> = Some(Peer { index: 2, netns_id: None });

    fn candidates(newcomers: &Newcomers) -> BTreeSet<u32> {
        newcomers.candidates().collect()
    }

    #[test]
    fn what_was_there_before_is_left_alone() {
        let now = Instant::now();
        let mut newcomers = Newcomers::new(&[1, 2].into(), [7], now);
        newcomers.compare(&[(1, None), (2, ELSEWHERE), (3, ELSEWHERE), (4, None), (7, ELSEWHERE)].into(), now);
        assert_eq!(candidates(&newcomers), [3].into());
        assert_eq!(newcomers.foreign(), [1, 2, 4].into());
        newcomers.bind(2);
        assert_eq!(newcomers.foreign(), [1, 4].into(), "a pod was found behind it: it is nobody else's any more");
    }

    #[test]
    fn an_index_that_is_used_again_is_another_interface() {
        let now = Instant::now();
        let mut newcomers = Newcomers::new(&[2].into(), [], now);
        newcomers.vanish(2);
        newcomers.appear(2, ELSEWHERE, now);
        assert_eq!(candidates(&newcomers), [2].into());
        newcomers.compare(&HashMap::new(), now);
        assert_eq!(newcomers.since(2), None);
    }

    #[test]
    fn a_veth_may_be_made_here_and_moved_later() {
        let now = Instant::now();
        let mut newcomers = Newcomers::default();
        newcomers.appear(5, HERE, now);
        assert_eq!((candidates(&newcomers), newcomers.foreign()), ([].into(), [].into()));
        newcomers.appear(5, ELSEWHERE, now + Duration::from_secs(1));
        assert_eq!(candidates(&newcomers), [5].into());
        assert_eq!(newcomers.since(5), Some(now), "it has been there since it was made");
        newcomers.appear(6, HERE, now);
        newcomers.appear(6, HERE, now + UNSETTLED);
        assert_eq!(newcomers.foreign(), [6].into());
    }
}
