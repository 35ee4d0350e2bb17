//! The matrix after a change: what the change does not touch is taken over.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::judge;
use crate::matrix::face::{Faces, Gallery};
use crate::matrix::set::{Set, bit_of, word_of};
use crate::matrix::side::{Class, Nature, Peers, Rules};
use crate::matrix::{Matrix, Sets};
use crate::model::{Model, PodIndex};
use crate::names::Direction;
use crate::peer::Match;
use crate::pod::Pod;

/// Past so many changed pods a new matrix is made sooner than the old one is changed.
const MANY: usize = 64;

/// Which sets are not what they were.
#[derive(Debug, Default)]
struct Changes {
    /// By number, those of [`Sets::list`] that there were before.
    sets: Vec<bool>,
    /// Whether any of [`Sets::named`] is among them.
    has_names: bool,
    /// Every class has to be looked at.
    is_everywhere: bool,
}

impl Changes {
    /// Whether what a class lets pass may be something else now.
    fn bear_on(&self, class: &Class, direction: Direction) -> bool {
        let has_changed = |set: usize| self.sets.get(set).is_some_and(|it| *it);
        self.is_everywhere
            || class.policies.iter().any(|rules| {
                (self.has_names && direction == Direction::Egress && rules.has_names())
                    || rules.sets(direction).any(has_changed)
            })
    }
}

impl Matrix {
    /// The same for a cluster that [`Cluster::with_change`] made, or any other one: equal to [`Cluster::matrix`], and
    /// quicker the less has changed.
    pub fn after(&self, cluster: &Cluster) -> Self {
        self.updated(cluster.model()).unwrap_or_else(|| Self::new(cluster.model(), self.ports.clone()))
    }

    /// `None`: too much has changed.
    fn updated(&self, model: &Arc<Model>) -> Option<Self> {
        if !has_same_ground(&self.model, model) || self.size() > 2 * self.from_scratch + 1024 {
            return None;
        }
        let mut next = Self {
            model: model.clone(),
            ports: self.ports.clone(),
            faces: Vec::new(),
            classes_of: Vec::new(),
            classes: [Vec::new(), Vec::new()],
            rules: Vec::new(),
            sets: self.sets.clone(),
            unread: self.unread.clone(),
            slots: self.slots,
            free: self.free.clone(),
            from_scratch: self.from_scratch,
        };
        let (was, slots) = next.place_pods(self)?;
        let mut changes = next.change_slots(&slots);
        // Bits are as many words as there were: those of a further one are still to be worked out.
        changes.is_everywhere |= next.words() != self.words();
        next.replace_rules(self);
        let words: BTreeSet<usize> = slots.iter().map(|(slot, _)| word_of(*slot)).collect();
        next.replace_classes(self, &was, &words.into_iter().collect::<Vec<_>>(), &changes);
        Some(next)
    }

    /// Gives faces to new pods and takes those of old ones. For each pod what its number was; and the slots that have
    /// changed, with who is there now.
    #[expect(clippy::type_complexity, reason = "two lists that belong together")]
    fn place_pods(&mut self, before: &Self) -> Option<(Vec<Option<usize>>, Vec<(u32, Option<PodIndex>)>)> {
        let (old, new) = (&before.model.pods, &self.model.pods);
        let mut was: Vec<Option<usize>> = Vec::with_capacity(new.len());
        let mut gone: Vec<usize> = Vec::new();
        let mut at = 0;
        for (index, pod) in new.iter().enumerate() {
            while old.get(at).is_some_and(|other| !Arc::ptr_eq(other, pod) && other.id < pod.id) {
                gone.push(at);
                at += 1;
            }
            let is_same = old.get(at).is_some_and(|other| Arc::ptr_eq(other, pod))
                && before.model.is_unread(PodIndex::at(at)) == self.model.is_unread(PodIndex::at(index));
            if is_same {
                was.push(Some(at));
                at += 1;
                continue;
            }
            if old.get(at).is_some_and(|other| other.id == pod.id) {
                gone.push(at);
                at += 1;
            }
            was.push(None);
        }
        gone.extend(at..old.len());
        if gone.len() > MANY || was.iter().filter(|was| was.is_none()).count() > MANY {
            return None;
        }
        let mut slots: HashMap<u32, Option<PodIndex>> = HashMap::new();
        for slot in gone.iter().flat_map(|at| before.faces[*at].slots()) {
            self.free.push(slot);
            slots.insert(slot, None);
        }
        for (index, pod) in new.iter().enumerate() {
            let faces = match was[index] {
                Some(was) => before.faces[was],
                None => {
                    let (free, next) = (&mut self.free, &mut self.slots);
                    let faces = Faces::of(pod, self.model.family, || {
                        free.pop().unwrap_or_else(|| {
                            *next += 1;
                            *next - 1
                        })
                    });
                    slots.extend(faces.slots().map(|slot| (slot, Some(PodIndex::at(index)))));
                    faces
                }
            };
            self.faces.push(faces);
        }
        Some((was, slots.into_iter().collect()))
    }

    /// Brings all sets up to date; which ones have changed.
    fn change_slots(&mut self, slots: &[(u32, Option<PodIndex>)]) -> Changes {
        let words = self.words();
        let mut changes = Changes { sets: vec![false; self.sets.list.len()], ..Changes::default() };
        let gallery = Gallery::new(&self.model, &self.faces);
        for (slot, index) in slots {
            let pod: Option<&Pod> = index.map(|index| self.model.pod(index));
            let faces = index.map(|index| self.faces[index.number()]);
            let face = faces.zip(pod).and_then(|(faces, pod)| faces.each(pod).find(|face| face.slot == *slot));
            let counterpart = index.zip(face).map(|(index, face)| gallery.counterpart(index, face));
            for (peers, has_changed) in self.sets.list.iter_mut().zip(&mut changes.sets) {
                let (policy, direction, at) = &peers.of;
                let rule = &policy.rules(*direction).unwrap_or_default()[*at];
                if rule.peers.is_empty() {
                    continue;
                }
                let found = counterpart.as_ref().map_or(Match::No, |it| judge::any_peer(&rule.peers, it));
                let (yes, maybe) = (found == Match::Yes, found == Match::Maybe);
                if peers.yes.contains(*slot) != yes || peers.maybe.contains(*slot) != maybe {
                    *has_changed = true;
                    *peers = Arc::new(Peers {
                        of: peers.of.clone(),
                        yes: peers.yes.with(*slot, yes, words),
                        maybe: peers.maybe.with(*slot, maybe, words),
                    });
                }
            }
            let names = pod.filter(|pod| !pod.is_host_network).map(|pod| &pod.ports);
            for ((protocol, number, name), set) in &mut self.sets.named {
                let calls_so = names.is_some_and(|names| names.resolve(*protocol, name).any(|it| it == *number));
                if set.contains(*slot) != calls_so {
                    changes.has_names = true;
                    *set = Arc::new(set.with(*slot, calls_so, words));
                }
            }
            let is_unread = index.is_some_and(|index| self.model.is_unread(index));
            if self.unread.contains(*slot) != is_unread {
                changes.is_everywhere = true;
                self.unread = self.unread.with(*slot, is_unread, words);
            }
        }
        changes
    }

    /// Takes over the rules of policies that are the same, and makes those of others.
    fn replace_rules(&mut self, before: &Self) {
        let mut known: HashMap<usize, &Arc<Rules>> = HashMap::new();
        let same = self.model.policies.iter().zip(&before.rules).take_while(|(a, b)| Arc::ptr_eq(a, &b.policy)).count();
        self.rules.extend(before.rules[..same].iter().cloned());
        let key = |policy: &Arc<crate::policy::Policy>| Arc::as_ptr(policy) as usize;
        known.extend(before.rules[same..].iter().map(|rules| (key(&rules.policy), rules)));
        let words = self.words();
        let gallery = Gallery::new(&self.model, &self.faces);
        for policy in &self.model.policies[same..] {
            let rules = known.get(&key(policy)).map(|rules| Arc::clone(rules)).unwrap_or_else(|| {
                let sets: &mut Sets = &mut self.sets;
                let set = |direction, at| sets.add(&gallery, words, (policy.clone(), direction, at));
                let rules = Rules::of(policy, &self.ports, set);
                for (port, name) in rules.names() {
                    let (protocol, number) = self.ports[port];
                    self.sets.named.entry((protocol, number, name.clone())).or_insert_with(|| {
                        let pods = self.model.pods.iter().zip(&self.faces);
                        let calls_so = |pod: &Pod| {
                            !pod.is_host_network && pod.ports.resolve(protocol, name).any(|it| it == number)
                        };
                        let mut list: Vec<u32> =
                            pods.filter(|(pod, _)| calls_so(pod)).flat_map(|(_, faces)| faces.slots()).collect();
                        list.sort_unstable();
                        Arc::new(Set::of(list, words))
                    });
                }
                Arc::new(rules)
            });
            self.rules.push(rules);
        }
    }

    fn replace_classes(&mut self, before: &Self, was: &[Option<usize>], words: &[usize], changes: &Changes) {
        let mut classes_of = vec![[0; 2]; self.faces.len()];
        let mut classes = before.classes.clone();
        let mut maker = self.maker();
        // Where a pod that was not understood comes or goes, plain classes are no longer so, or are again.
        if !words.is_empty() {
            for direction in Direction::ALL {
                for class in &mut classes[direction as usize] {
                    if changes.bear_on(class, direction)
                        && let Some(next) = maker.changed(class, direction, words)
                    {
                        *class = Arc::new(next);
                    }
                }
            }
        }
        for direction in Direction::ALL {
            let at = direction as usize;
            let mut last: Option<((u32, u32), u32)> = None;
            let mut known: HashMap<(u32, u32), u32> = HashMap::new();
            for index in self.model.pod_indices() {
                let number = index.number();
                let standing = self.model.standing_number(index, direction);
                let old = was[number].map(|was| before.classes_of[was][at]);
                // Neighbours have the same classes, often.
                if let (Some(old), Some((key, class))) = (old, last)
                    && key == (standing, old)
                {
                    classes_of[number][at] = class;
                    continue;
                }
                let known_class = old.and_then(|old| known.get(&(standing, old)).copied());
                let class = known_class.unwrap_or_else(|| {
                    self.class_of(index, direction, old, &mut classes[at], &mut maker, before.classes[at].len())
                });
                // Pods that were alike may call their ports otherwise, and new policies may ask for that.
                let asks_anew = |old| old != class && classes[at][class as usize].names.is_some();
                if let Some(old) = old.filter(|old| !asks_anew(*old)) {
                    known.insert((standing, old), class);
                    last = Some(((standing, old), class));
                }
                classes_of[number][at] = class;
            }
        }
        drop(maker);
        (self.classes_of, self.classes) = (classes_of, classes);
    }

    /// The pod's class: what it was, if its policies are the same; else that of a neighbour, or a new one.
    fn class_of(
        &self,
        index: PodIndex,
        direction: Direction,
        old: Option<u32>,
        classes: &mut Vec<Arc<Class>>,
        maker: &mut crate::matrix::side::Maker<'_>,
        before: usize,
    ) -> u32 {
        let policies = &self.model.standing(index, direction).policies;
        let nature = Nature::of(&self.model, index, direction);
        let is_same = |class: &Class| {
            class.nature == nature
                && class.policies.len() == policies.len()
                && class.policies.iter().zip(policies).all(|(rules, at)| Arc::ptr_eq(rules, &self.rules[*at]))
        };
        // A pod that stays has the names it had.
        if let Some(old) = old.filter(|old| is_same(&classes[*old as usize])) {
            return old;
        }
        let asks = direction == Direction::Ingress && policies.iter().any(|at| self.rules[*at].asks_names());
        let names = asks.then(|| self.model.pod(index).ports.clone());
        // Of a pod that stays the policies are others: no class that was there before can have them, save by chance.
        let first = if old.is_some() { before } else { 0 };
        let found = classes[first..].iter().position(|class| class.names == names && is_same(class));
        if let Some(found) = found {
            return u32::try_from(first + found).expect("there are no more classes than pods");
        }
        let policies = policies.iter().map(|at| self.rules[*at].clone()).collect();
        classes.push(Arc::new(maker.class(direction, policies, nature, names)));
        u32::try_from(classes.len() - 1).expect("there are no more classes than pods")
    }
}

impl Set {
    /// The same with one number in it, or not.
    fn with(&self, number: u32, is_in: bool, words: usize) -> Self {
        if self.contains(number) == is_in {
            return self.clone();
        }
        if let Self::Few(list) = self {
            let mut list = list.to_vec();
            match list.binary_search(&number) {
                Ok(at) => drop(list.remove(at)),
                Err(at) => list.insert(at, number),
            }
            return Self::of(list, words);
        }
        let word = self.word(word_of(number));
        let word = if is_in { word | bit_of(number) } else { word & !bit_of(number) };
        self.with_word(word_of(number), word, words)
    }
}

/// Whether namespaces, nodes and the family of addresses are what they were.
fn has_same_ground(a: &Model, b: &Model) -> bool {
    let labels =
        |model: &Model| model.hosts.iter().map(|(name, host)| (name.clone(), host.labels.clone())).collect::<Vec<_>>();
    a.family == b.family
        && (Arc::ptr_eq(&a.namespaces, &b.namespaces) || a.namespaces == b.namespaces)
        && (Arc::ptr_eq(&a.hosts, &b.hosts) || labels(a) == labels(b) && (a.hosts == b.hosts || !asks_addresses(b)))
}

/// Whether addresses tell which node a pod runs on.
fn asks_addresses(model: &Model) -> bool {
    model.pods.iter().any(|pod| pod.node.is_none() && !pod.node_addresses.is_empty())
}
