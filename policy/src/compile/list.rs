//! One side of a group as a list: of all entries that match, the first decides.
//!
//! A rule that passes leads on to the next tier. What it matches is a box (a peer, a protocol, a range of ports, each of
//! which may be "any"), and so is what any entry of the next tier matches; what both match is a box again. So the rule is
//! replaced by the next tier's list, cut down to its box: exact, whatever stands behind it in its own tier.

use std::collections::HashMap;

use rustc_hash::FxHashSet;

use crate::names::{Direction, Protocol};
use crate::policy::Action;
use crate::tables::{Identity, Rest};

/// Names a rule by numbers, in the order in which rules are asked: policy, direction, rule, peer, port.
pub(super) type RuleKey = (usize, Direction, usize, Option<usize>, Option<usize>);

/// What an entry matches; `None` is "any".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Condition {
    pub peer: Option<Identity>,
    pub protocol: Option<Protocol>,
    /// Absent where `protocol` is.
    pub ports: Option<(u16, u16)>,
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Rule(Action),
    /// It may do this or that, or may not match: denied.
    NotUnderstood,
}

/// What an entry comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decided {
    Allow(RuleKey),
    Deny(RuleKey),
    Rest(Rest),
    NotUnderstood(Option<RuleKey>),
}

impl Decided {
    pub fn rule(self) -> Option<RuleKey> {
        match self {
            Self::Allow(rule) | Self::Deny(rule) => Some(rule),
            Self::NotUnderstood(rule) => rule,
            Self::Rest(_) => None,
        }
    }

    fn denies(self) -> bool {
        match self {
            Self::Allow(_) => false,
            Self::Rest(rest) => rest.denies(),
            Self::Deny(_) | Self::NotUnderstood(_) => true,
        }
    }
}

/// The list, and what no entry matches.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    pub entries: Vec<(Condition, Decided)>,
    pub rest: Rest,
    seen: Seen,
}

impl Condition {
    /// Anything at all.
    pub const ANY: Self = Self { peer: None, protocol: None, ports: None };

    /// What both match.
    fn and(self, other: Self) -> Option<Self> {
        let peer = both(self.peer, other.peer, |a, b| (a == b).then_some(a))?;
        let protocol = both(self.protocol, other.protocol, |a, b| (a == b).then_some(a))?;
        let ports = both(self.ports, other.ports, |(a, b), (c, d)| {
            let (first, last) = (a.max(c), b.min(d));
            (first <= last).then_some((first, last))
        })?;
        Some(Self { peer, protocol, ports })
    }

    fn packed(self) -> u128 {
        let peer = self.peer.map_or(u32::MAX, |peer| peer.0);
        let protocol = match self.protocol {
            None => 0,
            Some(Protocol::Tcp) => 1,
            Some(Protocol::Udp) => 2,
            Some(Protocol::Sctp) => 3_u128,
        };
        // No rule can name port 0.
        let (first, last) = self.ports.unwrap_or_default();
        u128::from(peer) << 34 | protocol << 32 | u128::from(first) << 16 | u128::from(last)
    }
}

/// Of two bounds the narrower, or that nothing is left; `None` is no bound.
fn both<T>(a: Option<T>, b: Option<T>, meet: impl FnOnce(T, T) -> Option<T>) -> Option<Option<T>> {
    match (a, b) {
        (Some(a), Some(b)) => meet(a, b).map(Some),
        (a, b) => Some(a.or(b)),
    }
}

impl List {
    /// Nothing is decided.
    pub fn resting(rest: Rest) -> Self {
        Self { rest, ..Self::default() }
    }

    /// Adds an entry behind all others, unless one of them matches all that it does.
    pub fn push(&mut self, condition: Condition, decided: Decided) {
        if self.seen.add(condition) {
            self.entries.push((condition, decided));
        }
    }

    /// A rule that passes on what it matches, all of these: to this list.
    pub fn push_passed(&mut self, conditions: &[Condition], next: &Self) {
        let mut by_peer: HashMap<Option<Identity>, Vec<Condition>> = HashMap::new();
        for condition in conditions {
            by_peer.entry(condition.peer).or_default().push(*condition);
        }
        let of = |peer: Option<Identity>| by_peer.get(&peer).into_iter().flatten();
        for (inner, decided) in &next.entries {
            let mut add = |condition: &Condition| {
                if let Some(common) = condition.and(*inner) {
                    self.push(common, *decided);
                }
            };
            match inner.peer {
                None => conditions.iter().for_each(&mut add),
                Some(_) => of(inner.peer).chain(of(None)).for_each(&mut add),
            }
        }
        for condition in conditions {
            self.push(*condition, Decided::Rest(next.rest));
        }
    }

    /// Of what no entry matches so far, any of these strands may be asked first: what they say of one connection holds where it
    /// comes to the same, and is not understood where it does not. What none of them matches goes on.
    ///
    /// The entries of each strand are held against those of all before. In the order of both, the first that matches is
    /// made of the first that matches in each.
    pub fn append_any_of(&mut self, strands: impl Iterator<Item = Strand>) {
        let mut all: Vec<(Condition, Option<(usize, Decided)>)> = vec![(Condition::ANY, None)];
        for strand in strands {
            let mut by_peer: HashMap<Option<Identity>, Vec<usize>> = HashMap::new();
            for (at, (condition, _)) in strand.list.entries.iter().enumerate() {
                by_peer.entry(condition.peer).or_default().push(at);
            }
            let mut next = Vec::new();
            let mut seen = Seen::default();
            for (condition, said) in all {
                let mut add = |condition: Condition, said| {
                    if seen.add(condition) {
                        next.push((condition, said));
                    }
                };
                let of = |peer: Option<Identity>| by_peer.get(&peer).into_iter().flatten().copied();
                let mut near: Vec<usize> = match condition.peer {
                    None => (0..strand.list.entries.len()).collect(),
                    Some(_) => of(condition.peer).chain(of(None)).collect(),
                };
                near.sort_unstable();
                for at in near {
                    let (own, decided) = strand.list.entries[at];
                    if let Some(common) = condition.and(own) {
                        add(common, Some(any_of(said, (strand.policies[at], decided))));
                    }
                }
                add(condition, said);
            }
            all = next;
        }
        for (condition, said) in all {
            if let Some((_, decided)) = said {
                self.push(condition, decided);
            }
        }
    }

    /// What no entry matches so far goes on to this list.
    pub fn append(&mut self, next: Self) {
        if self.entries.is_empty() {
            *self = next;
            return;
        }
        for (condition, decided) in next.entries {
            self.push(condition, decided);
        }
        self.rest = next.rest;
    }
}

/// A list of one strand of a turn: no entry of it stands for what it does not match.
#[derive(Clone, Debug, Default)]
pub(super) struct Strand {
    pub list: List,
    /// By entry: whose it is.
    pub policies: Vec<usize>,
}

/// What it comes to where nobody knows which of two is asked first. Of two that come to the same the earlier policy's is told.
fn any_of(said: Option<(usize, Decided)>, other: (usize, Decided)) -> (usize, Decided) {
    let Some(said) = said else { return other };
    let (first, second) = if said.0 <= other.0 { (said, other) } else { (other, said) };
    if first.1.denies() == second.1.denies() {
        return first;
    }
    (first.0, Decided::NotUnderstood(first.1.rule().or(second.1.rule())))
}

/// The conditions so far. Ranges of ports are compared as wholes: one that lies in another is kept, which does no harm.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// With a peer or without. They are our own numbers: nobody chooses them to collide.
    conditions: FxHashSet<u128>,
}

impl Seen {
    /// Whether it is new.
    fn add(&mut self, condition: Condition) -> bool {
        let peers = [condition.peer, None];
        let rests = [(None, None), (condition.protocol, None), (condition.protocol, condition.ports)];
        let wider =
            peers.into_iter().flat_map(|peer| rests.map(|(protocol, ports)| Condition { peer, protocol, ports }));
        let is_covered = wider.map(Condition::packed).any(|wider| self.conditions.contains(&wider));
        !is_covered && self.conditions.insert(condition.packed())
    }
}
