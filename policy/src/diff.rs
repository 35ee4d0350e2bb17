//! Two states of a cluster, compared: what opens, what closes, and what can no longer, or only now, be told.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

use crate::analyze::{self, AddressRange, Link, Links, Place};
use crate::cluster::Cluster;
use crate::names::{Family, PodRef};
use crate::reach::Reach;
use crate::traffic::Traffic;

/// The families of each pod's addresses; empty where no address is known.
pub type Pods = BTreeMap<PodRef, BTreeSet<Family>>;

/// One state of a cluster, or the part of it that is compared.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// All pods, also those that no link names.
    pub pods: Pods,
    /// As [`Cluster::analyze`] gives them.
    pub links: Vec<Link>,
}

/// Whether something is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// One of the two pods is not there.
    Absent,
    /// Shut for certain.
    Shut,
    /// Nobody can tell: something that bears on it was not understood.
    Unknown,
    /// Open for certain.
    Open,
}

/// What has changed for one pair of places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Who connects.
    pub from: Place,
    /// To whom.
    pub to: Place,
    /// Set where the families differ; else the change goes for all families that both have.
    pub family: Option<Family>,
    /// How it was.
    pub before: Access,
    /// How it is.
    pub after: Access,
    /// For which ports.
    pub traffic: Traffic,
    /// What was not understood, where one of the two is unknown.
    pub reasons: BTreeSet<String>,
}

/// What a change is to somebody who has to let it pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// What was shut, or perhaps shut, is open, or perhaps open.
    Opens,
    /// What was open, or perhaps open, is shut, or perhaps shut.
    Closes,
    /// A pod came, and something is open to or from it, or perhaps open.
    Comes,
    /// A pod went, and with it what was open, or perhaps open.
    Goes,
}

impl Change {
    /// What it is to somebody who has to let it pass. What is not known counts as the worse of what it may be: from shut to
    /// unknown opens, and so does from unknown to open.
    pub fn effect(&self) -> Effect {
        match (self.before, self.after) {
            (Access::Absent, _) => Effect::Comes,
            (_, Access::Absent) => Effect::Goes,
            (before, after) if after > before => Effect::Opens,
            (_, _) => Effect::Closes,
        }
    }

    /// Whether both states are known.
    pub fn is_certain(&self) -> bool {
        self.before != Access::Unknown && self.after != Access::Unknown
    }
}

/// All differences, sorted by source, destination and family. Ranges of addresses are as large as what has changed for
/// them.
pub fn diff(before: &State, after: &State) -> Vec<Change> {
    Comparison { pods: [&before.pods, &after.pods] }.compare(&before.links, &after.links)
}

/// What has changed where one end may reach this at the other, by one family, and then that: how it was, how it is, and for which
/// ports.
pub fn between(before: &Reach, after: &Reach) -> Vec<(Access, Access, Traffic)> {
    moves(&parts(before), &parts(after))
}

/// All ports by what they are.
fn parts(reach: &Reach) -> Vec<(Access, Traffic)> {
    let shut = Traffic::all().difference(&reach.open).difference(&reach.unknown);
    vec![(Access::Open, reach.open.clone()), (Access::Unknown, reach.unknown.clone()), (Access::Shut, shut)]
}

fn moves(before: &[(Access, Traffic)], after: &[(Access, Traffic)]) -> Vec<(Access, Access, Traffic)> {
    let mut found = Vec::new();
    for (was, of_before) in before {
        for (is, of_after) in after {
            let traffic = of_before.intersection(of_after);
            if was != is && !traffic.is_empty() && !is_nothing(*was, *is) {
                found.push((*was, *is, traffic));
            }
        }
    }
    found
}

/// The differences of one source after another, in order: a large cluster's links are too many to be kept at once.
pub struct Differences<'c> {
    links: [Peekable<Links<'c>>; 2],
    pods: [Pods; 2],
}

impl<'c> Differences<'c> {
    pub(crate) fn new(before: &'c Cluster, after: &'c Cluster, options: analyze::Options) -> Self {
        let links = [before, after].map(|cluster| cluster.links(options).peekable());
        Self { links, pods: [before.families(), after.families()] }
    }
}

impl Iterator for Differences<'_> {
    type Item = Vec<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        let [before, after] = &mut self.links;
        let first = [before.peek(), after.peek()].into_iter().flatten().map(|(from, _)| from).min()?.clone();
        let take = |links: &mut Peekable<Links<'_>>| match first {
            Place::Pod(_) => links.next_if(|(from, _)| *from == first).map(|(_, links)| links).unwrap_or_default(),
            // The two states cut the outside differently: ranges have to be looked at together. They come last.
            Place::Range(_) => links.by_ref().flat_map(|(_, links)| links).collect(),
        };
        let (before, after) = (take(before), take(after));
        Some(Comparison { pods: [&self.pods[0], &self.pods[1]] }.compare(&before, &after))
    }
}

/// What both states know of their pods.
struct Comparison<'a> {
    pods: [&'a Pods; 2],
}

/// What one state says of one pair: by family, where they differ.
type Found<'a> = Vec<(Option<Family>, &'a Reach)>;

impl Comparison<'_> {
    fn compare(&self, before: &[Link], after: &[Link]) -> Vec<Change> {
        let cuts = Cuts::of(before.iter().chain(after));
        let mut pairs: BTreeMap<(Place, Place), [Found<'_>; 2]> = BTreeMap::new();
        for (index, links) in [before, after].into_iter().enumerate() {
            for link in links {
                for from in cuts.pieces(&link.from) {
                    for to in cuts.pieces(&link.to) {
                        pairs.entry((from.clone(), to)).or_default()[index].push((link.family, &link.reach));
                    }
                }
            }
        }
        joined(pairs.into_iter().flat_map(|((from, to), found)| self.pair(&from, &to, &found)).collect())
    }

    fn pair(&self, from: &Place, to: &Place, found: &[Found<'_>; 2]) -> Vec<Change> {
        let families: &[Option<Family>] = match found.iter().flatten().any(|(family, _)| family.is_some()) {
            true => &[Some(Family::V4), Some(Family::V6)],
            false => &[None],
        };
        let mut changes: Vec<Change> = Vec::new();
        for family in families {
            let [before, after] = [0, 1].map(|index| self.access(index, from, to, *family, &found[index]));
            for (before, after, traffic) in moves(&before, &after) {
                let (from, to, family) = (from.clone(), to.clone(), *family);
                let reasons = reasons([before, after], found, family);
                changes.push(Change { from, to, family, before, after, traffic, reasons });
            }
        }
        let (v4, v6): (Vec<&Change>, Vec<&Change>) =
            changes.iter().partition(|change| change.family == Some(Family::V4));
        let is_same = |(a, b): (&&Change, &&Change)| {
            let key = |it: &Change| (it.before, it.after, it.traffic.clone(), it.reasons.clone());
            a.family.is_some() && key(a) == key(b)
        };
        if !v4.is_empty() && v4.len() == v6.len() && v4.iter().zip(&v6).all(is_same) {
            return v4.into_iter().map(|change| Change { family: None, ..change.clone() }).collect();
        }
        changes
    }

    /// What is open, unknown and shut in one state.
    fn access(
        &self,
        state: usize,
        from: &Place,
        to: &Place,
        family: Option<Family>,
        found: &Found<'_>,
    ) -> Vec<(Access, Traffic)> {
        if [from, to].into_iter().any(|place| !self.has(state, place)) {
            return vec![(Access::Absent, Traffic::all())];
        }
        let own = found.iter().find(|(own, _)| *own == family);
        let for_all = || found.iter().find(|(own, _)| own.is_none() && self.may_use(state, from, to, family));
        own.or_else(for_all).map_or_else(|| parts(&Reach::default()), |(_, reach)| parts(reach))
    }

    fn has(&self, state: usize, place: &Place) -> bool {
        match place {
            Place::Pod(pod) => self.pods[state].contains_key(pod),
            Place::Range(_) => true,
        }
    }

    /// Whether both have addresses of the family, or may have.
    fn may_use(&self, state: usize, from: &Place, to: &Place, family: Option<Family>) -> bool {
        let has = |place: &Place| match (place, family) {
            (_, None) => true,
            (Place::Range(range), Some(family)) => Family::of(range.first()) == family,
            (Place::Pod(pod), Some(family)) => {
                self.pods[state].get(pod).is_none_or(|families| families.is_empty() || families.contains(&family))
            }
        };
        has(from) && has(to)
    }
}

/// What was not understood of the states that are unknown.
fn reasons(states: [Access; 2], found: &[Found<'_>; 2], family: Option<Family>) -> BTreeSet<String> {
    let unknown = states.into_iter().zip(found).filter(|(access, _)| *access == Access::Unknown);
    let reaches = unknown.flat_map(|(_, found)| found).filter(|(own, _)| own.is_none() || *own == family);
    reaches.flat_map(|(_, reach)| &reach.reasons).cloned().collect()
}

/// A pod that comes or goes without any connection changes nothing.
fn is_nothing(before: Access, after: Access) -> bool {
    matches!((before, after), (Access::Absent, Access::Shut) | (Access::Shut, Access::Absent))
}

/// Ranges side by side that have changed in the same way become one, so that it does not matter where they were cut.
fn joined(mut changes: Vec<Change>) -> Vec<Change> {
    let outside = |change: &Change| match (&change.from, &change.to) {
        (Place::Range(range), _) | (_, Place::Range(range)) => Some(*range),
        (Place::Pod(_), Place::Pod(_)) => None,
    };
    let pod = |change: &Change| match (&change.from, &change.to) {
        (Place::Pod(from), Place::Range(_)) => (Some(from.clone()), None),
        (Place::Range(_), Place::Pod(to)) => (None, Some(to.clone())),
        (Place::Pod(from), Place::Pod(to)) => (Some(from.clone()), Some(to.clone())),
        (Place::Range(_), Place::Range(_)) => (None, None),
    };
    let same = |it: &Change| (pod(it), it.before, it.after, it.traffic.clone(), it.family, it.reasons.clone());
    changes.sort_by_cached_key(|change| (same(change), outside(change)));
    let mut joined: Vec<Change> = Vec::with_capacity(changes.len());
    for change in changes {
        let last = joined.last_mut().filter(|last| same(last) == same(&change));
        let both = last.as_ref().and_then(|last| outside(last)?.joined(outside(&change)?));
        match (last, both) {
            (Some(last), Some(both)) => {
                let whole = Place::Range(both);
                if matches!(last.from, Place::Range(_)) { last.from = whole } else { last.to = whole }
            }
            (_, _) => joined.push(change),
        }
    }
    joined.sort_by(|a, b| {
        let key = |it: &Change| (it.family, it.before, it.after);
        (&a.from, &a.to, key(a)).cmp(&(&b.from, &b.to, key(b)))
    });
    joined
}

/// The borders of all ranges of both states.
struct Cuts {
    ranges: BTreeMap<AddressRange, Vec<AddressRange>>,
}

impl Cuts {
    fn of<'l>(links: impl Iterator<Item = &'l Link>) -> Self {
        let ranges: BTreeSet<AddressRange> = links
            .flat_map(|link| [&link.from, &link.to])
            .filter_map(|place| match place {
                Place::Range(range) => Some(*range),
                Place::Pod(_) => None,
            })
            .collect();
        let pieces = ranges.iter().map(|range| (*range, range.cut_at(&ranges))).collect();
        Self { ranges: pieces }
    }

    fn pieces(&self, place: &Place) -> Vec<Place> {
        match place {
            Place::Pod(_) => vec![place.clone()],
            Place::Range(range) => self.ranges[range].iter().copied().map(Place::Range).collect(),
        }
    }
}
