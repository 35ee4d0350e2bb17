//! How many cells there are of each sort, without a look at each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::matrix::face::{Faces, Families};
use crate::matrix::set::Set;
use crate::matrix::side::Outcome;
use crate::matrix::{Cell, Matrix};
use crate::names::Direction;

/// How many pairs of pods, each pod with itself included, are what at one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Certainly open.
    pub open: u64,
    /// Certainly shut.
    pub shut: u64,
    /// Neither.
    pub unknown: u64,
}

/// Pods that one side treats alike and that have the same families.
struct Group {
    outcome: Arc<Outcome>,
    /// Any one of its pods' faces: all have theirs of the same families.
    like: Faces,
    size: u64,
}

struct Groups {
    list: Vec<Group>,
    of_pod: Vec<u32>,
}

impl Counts {
    fn of(&mut self, cell: Cell) -> &mut u64 {
        match cell {
            Cell::Open => &mut self.open,
            Cell::Shut => &mut self.shut,
            Cell::Unknown => &mut self.unknown,
        }
    }
}

impl Matrix {
    /// How many cells are what at one port.
    pub fn counts(&self, port: usize) -> Counts {
        let from = self.groups(Direction::Egress, port);
        let to = self.groups(Direction::Ingress, port);
        let pod_of = self.pods_by_slot();
        let open = self.pairs(&from, &to, &pod_of, |outcome| vec![&outcome.open]);
        let has_unknown = |groups: &Groups| groups.list.iter().any(|group| !group.outcome.unknown.is_none());
        let maybe = if has_unknown(&from) || has_unknown(&to) {
            self.pairs(&from, &to, &pod_of, |outcome| vec![&outcome.open, &outcome.unknown])
        } else {
            open
        };
        let all = (self.faces.len() as u64).pow(2);
        let mut counts = Counts { open, shut: all - maybe, unknown: maybe - open };
        for (from, to) in self.near() {
            let faces = Faces::between(self.faces[from], self.faces[to]);
            let (plain, cell) = (self.cell_between(from, to, port, faces), self.cell(from, to, port));
            if plain != cell {
                *counts.of(plain) -= 1;
                *counts.of(cell) += 1;
            }
        }
        counts
    }

    /// The pairs that no policy can shut, and those that perhaps none can; and those that may connect by either family. These are
    /// looked at one by one.
    fn near(&self) -> impl Iterator<Item = (usize, usize)> {
        // By the name of the node; of pods without one anywhere may be near.
        let mut by_node: BTreeMap<Option<&str>, [Vec<usize>; 2]> = BTreeMap::new();
        let pods = &self.model.pods;
        if pods.iter().any(|pod| pod.is_host_network) {
            for (index, pod) in pods.iter().enumerate() {
                by_node.entry(pod.node.as_deref()).or_default()[usize::from(pod.is_host_network)].push(index);
            }
        }
        let mut near: Vec<(usize, usize)> = (0..pods.len()).map(|pod| (pod, pod)).collect();
        for (node, [_, hosts]) in &by_node {
            let reachable = by_node.iter().filter(|(other, _)| node.is_none() || other.is_none() || *other == node);
            for (_, [others, _]) in reachable {
                near.extend(hosts.iter().flat_map(|host| others.iter().map(|other| (*host, *other))));
            }
        }
        let either: Vec<usize> =
            (0..pods.len()).filter(|pod| Faces::may_be_either(self.faces[*pod], self.faces[*pod])).collect();
        near.extend(either.iter().flat_map(|from| either.iter().map(|to| (*from, *to))));
        near.sort_unstable();
        near.dedup();
        near.into_iter()
    }

    fn groups(&self, direction: Direction, port: usize) -> Groups {
        let mut known: HashMap<(*const Outcome, Families), u32> = HashMap::new();
        let mut groups = Groups { list: Vec::new(), of_pod: Vec::with_capacity(self.faces.len()) };
        for (pod, faces) in self.faces.iter().enumerate() {
            let outcome = self.outcome(direction, pod, port);
            let number = *known.entry((Arc::as_ptr(outcome), faces.families())).or_insert_with(|| {
                groups.list.push(Group { outcome: outcome.clone(), like: *faces, size: 0 });
                u32::try_from(groups.list.len() - 1).expect("there are no more groups than pods")
            });
            groups.list[number as usize].size += 1;
            groups.of_pod.push(number);
        }
        groups
    }

    /// The pods by their faces; `u32::MAX` for faces of none.
    fn pods_by_slot(&self) -> Vec<u32> {
        let mut pod_of = vec![u32::MAX; self.slots as usize];
        for (pod, faces) in (0_u32..).zip(&self.faces) {
            faces.slots().for_each(|slot| pod_of[slot as usize] = pod);
        }
        pod_of
    }

    /// How many pairs both sides let pass. What one group lets pass of another does not depend on who of it asks, so that
    /// two numbers for each two groups are enough.
    fn pairs<'a>(
        &'a self,
        from: &'a Groups,
        to: &'a Groups,
        pod_of: &[u32],
        sets: impl Fn(&'a Outcome) -> Vec<&'a Set>,
    ) -> u64 {
        let width = to.list.len();
        let mut out = vec![0_u32; from.list.len() * width];
        for (at, group) in from.list.iter().enumerate() {
            let counts = &mut out[at * width..][..width];
            self.count(&sets(&group.outcome), to, pod_of, counts, |other| Faces::between(group.like, other).1);
        }
        let mut total = 0;
        let mut into = vec![0_u32; from.list.len()];
        for (at, group) in to.list.iter().enumerate() {
            into.fill(0);
            self.count(&sets(&group.outcome), from, pod_of, &mut into, |other| Faces::between(other, group.like).0);
            for (from, count) in into.iter().enumerate().filter(|(_, count)| **count > 0) {
                total += u64::from(*count) * u64::from(out[from * width + at]);
            }
        }
        total
    }

    /// How many pods of each group are in any of the sets, by the face that they show.
    fn count(&self, sets: &[&Set], groups: &Groups, pod_of: &[u32], counts: &mut [u32], shown: impl Fn(Faces) -> u32) {
        if sets.contains(&&Set::All) {
            for (count, group) in counts.iter_mut().zip(&groups.list) {
                *count = u32::try_from(group.size).expect("a cluster has fewer than 2^32 pods");
            }
            return;
        }
        for set in sets {
            set.each(self.slots, |slot| {
                let Some(pod) = pod_of.get(slot as usize).filter(|pod| **pod != u32::MAX) else { return };
                if shown(self.faces[*pod as usize]) == slot {
                    counts[groups.of_pod[*pod as usize] as usize] += 1;
                }
            });
        }
    }
}
