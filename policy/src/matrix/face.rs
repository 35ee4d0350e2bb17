//! Pods as the rules of others see them. A pod of two families shows two faces, one for each.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::label::Labels;
use crate::model::{Model, NodeOf, PodIndex};
use crate::names::Family;
use crate::peer::{Counterpart, Match, Namespaces, Peer, PodSet};
use crate::pod::Pod;
use crate::selector::{Selector, Test};

/// Where a pod's faces are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Faces {
    /// By family; twice the same where the pod has one family.
    slots: [u32; 2],
    /// Which families it has, in the order of its addresses.
    families: Families,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Families {
    Only(Family),
    First(Family),
    /// It has no known address, and may have one of either family.
    Either,
}

/// What a pod shows to others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Face {
    pub slot: u32,
    pub address: Option<IpAddr>,
    pub family: Family,
}

impl Families {
    /// Of these addresses; without any it is those that nobody knows in this cluster.
    fn of(addresses: &[IpAddr], unknown: Option<Family>) -> Self {
        let Some(first) = addresses.first().copied().map(Family::of) else {
            return unknown.map_or(Self::Either, Self::Only);
        };
        let is_both = addresses.iter().any(|address| Family::of(*address) != first);
        if is_both { Self::First(first) } else { Self::Only(first) }
    }

    fn has(self, family: Family) -> bool {
        match self {
            Self::Only(own) => own == family,
            Self::First(_) | Self::Either => true,
        }
    }

    fn first(self) -> Family {
        match self {
            Self::Only(first) | Self::First(first) => first,
            Self::Either => Family::V4,
        }
    }
}

impl Faces {
    /// Takes as many slots as the pod has faces.
    pub(super) fn of(pod: &Pod, unknown: Option<Family>, mut slot: impl FnMut() -> u32) -> Self {
        let families = Families::of(&pod.addresses, unknown);
        let first = slot();
        let second = if let Families::Only(_) = families { first } else { slot() };
        let slots = if families.first() == Family::V4 { [first, second] } else { [second, first] };
        Self { slots, families }
    }

    /// Each face, that of the first family first.
    pub(super) fn each(self, pod: &Pod) -> impl Iterator<Item = Face> {
        let face = move |family: Family| {
            let address = pod.addresses.iter().copied().find(|address| Family::of(*address) == family);
            Face { slot: self.slot(family), address, family }
        };
        let first = self.families.first();
        let second = if first == Family::V4 { Family::V6 } else { Family::V4 };
        let second = if let Families::Only(_) = self.families { None } else { Some(face(second)) };
        std::iter::once(face(first)).chain(second)
    }

    pub(super) fn slots(self) -> impl Iterator<Item = u32> {
        let [first, second] = self.slots;
        std::iter::once(first).chain((second != first).then_some(second))
    }

    pub(super) fn slot(self, family: Family) -> u32 {
        self.slots[family as usize]
    }

    /// Whether two pods may connect by either family, for all that is known.
    pub(super) fn may_be_either(from: Self, to: Self) -> bool {
        from.families == Families::Either && to.families == Families::Either
    }

    pub(super) fn families(self) -> Families {
        self.families
    }

    /// The faces that two pods show each other: of the destination's first family that the source has, too. Who may have
    /// either family takes the other one's first; of two such pods it is only one of the two pairs of faces.
    pub(super) fn between(from: Self, to: Self) -> (u32, u32) {
        let first = match (from.families, to.families) {
            (known, Families::Either) => known.first(),
            (_, known) => known.first(),
        };
        let second = if first == Family::V4 { Family::V6 } else { Family::V4 };
        for family in [first, second] {
            if from.families.has(family) && to.families.has(family) {
                return (from.slot(family), to.slot(family));
            }
        }
        (from.slot(from.families.first()), to.slot(to.families.first()))
    }
}

/// All faces of a cluster, and how to find those that a peer may mean.
pub(super) struct Gallery<'m> {
    model: &'m Model,
    faces: &'m [Faces],
    /// Pods by their labels.
    kinds: OnceCell<Kinds<'m>>,
    /// Sorted by address.
    by_address: OnceCell<Vec<(IpAddr, u32, PodIndex)>>,
    /// Pods about which labels or addresses cannot tell everything.
    odd: OnceCell<Vec<PodIndex>>,
}

struct Kinds<'m> {
    list: Vec<(&'m Labels, Vec<PodIndex>)>,
    by_label: OnceCell<HashMap<(&'m str, &'m str), Vec<u32>>>,
}

impl<'m> Gallery<'m> {
    pub(super) fn new(model: &'m Model, faces: &'m [Faces]) -> Self {
        Self { model, faces, kinds: OnceCell::new(), by_address: OnceCell::new(), odd: OnceCell::new() }
    }

    /// The faces that any of the peers includes, and those of which it cannot be told; both ascending.
    pub(super) fn faces_in(&self, peers: &[Peer]) -> (Vec<u32>, Vec<u32>) {
        let (mut yes, mut maybe) = (Vec::new(), Vec::new());
        for peer in peers {
            let mut note = |slot, found| match found {
                Match::Yes => yes.push(slot),
                Match::Maybe => maybe.push(slot),
                Match::No => {}
            };
            match peer {
                Peer::Pods(set) => self.pods_in(set, |pod, found| {
                    self.faces_of(pod).for_each(|face| note(face.slot, found));
                }),
                Peer::PodsIn(set, block) => self.pods_in(set, |pod, found| {
                    for Face { slot, address, family } in self.faces_of(pod) {
                        note(slot, found.and(|| block.matches(address, Some(family))));
                    }
                }),
                Peer::Block(block) => {
                    for net in block.cidrs() {
                        let list = self.by_address();
                        let first = list.partition_point(|(address, ..)| *address < net.network());
                        let inside = list[first..].iter().take_while(|(address, ..)| *address <= net.broadcast());
                        inside.for_each(|(address, slot, _)| note(*slot, block.contains(*address).into()));
                    }
                    let odd = self.odd().iter().filter(|index| self.model.pod(**index).addresses.is_empty());
                    for face in odd.flat_map(|pod| self.faces_of(*pod)) {
                        note(face.slot, block.matches(None, Some(face.family)));
                    }
                }
                Peer::Nodes(_) => {
                    for pod in self.odd().iter().filter(|index| self.model.pod(**index).is_host_network) {
                        for face in self.faces_of(*pod) {
                            note(face.slot, peer.matches(&self.counterpart(*pod, face)));
                        }
                    }
                }
            }
        }
        yes.sort_unstable();
        yes.dedup();
        maybe.sort_unstable();
        maybe.dedup();
        maybe.retain(|slot| yes.binary_search(slot).is_err());
        (yes, maybe)
    }

    /// The other end that a face is.
    pub(super) fn counterpart(&self, index: PodIndex, face: Face) -> Counterpart<'m> {
        let pod: &'m Pod = self.model.pod(index);
        let (mut labels, mut node) = (None, None);
        if pod.is_host_network {
            node = Some(self.model.node_labels(self.model.node_name(&NodeOf::Pod(pod))));
        } else {
            labels = Some((pod, self.model.namespace_of(pod)));
        }
        Counterpart { pod: labels, node, address: face.address, family: Some(face.family) }
    }

    fn faces_of(&self, index: PodIndex) -> impl Iterator<Item = Face> + use<'m> {
        self.faces[index.number()].each(self.model.pod(index))
    }

    fn pods_in(&self, set: &PodSet, mut visit: impl FnMut(PodIndex, Match)) {
        match &set.namespaces {
            Namespaces::Own(name) => {
                let range = self.model.pods.of_namespace(name);
                let mut known: Option<(*const Labels, Match)> = None;
                for index in range.map(PodIndex::at) {
                    let pod = self.model.pod(index);
                    let key = Arc::as_ptr(&pod.labels);
                    let is_plain = !pod.is_host_network && pod.is_understood;
                    let found = match known {
                        Some((other, found)) if other == key && is_plain => found,
                        Some(_) | None => set.selects(pod, self.model.namespace_of(pod)),
                    };
                    known = is_plain.then_some((key, found));
                    visit(index, found);
                }
            }
            Namespaces::Selected(namespaces) if set.pods.is_empty() => {
                for namespace in self.model.namespaces.values() {
                    if namespace.is_understood && !namespaces.matches(&namespace.labels) {
                        continue;
                    }
                    for index in self.model.pods.of_namespace(&namespace.name).map(PodIndex::at) {
                        visit(index, set.selects(self.model.pod(index), namespace));
                    }
                }
            }
            Namespaces::Selected(_) => {
                let kinds = self.kinds();
                let mut of_kind = |(labels, pods): &(&Labels, Vec<PodIndex>)| {
                    if set.pods.matches(labels) {
                        // Pods of one kind differ in their namespaces alone, and are sorted by these.
                        let mut known: Option<(&str, Match)> = None;
                        for index in pods {
                            let pod = self.model.pod(*index);
                            let found = match known {
                                Some((namespace, found)) if namespace == pod.id.namespace => found,
                                Some(_) | None => set.selects(pod, self.model.namespace_of(pod)),
                            };
                            known = Some((&pod.id.namespace, found));
                            visit(*index, found);
                        }
                    }
                };
                match needed(&set.pods) {
                    Some((key, values)) => {
                        let lists = values.iter().filter_map(|value| kinds.by_label().get(&(key, value.as_str())));
                        lists.flatten().for_each(|kind| of_kind(&kinds.list[*kind as usize]));
                    }
                    None => kinds.list.iter().for_each(of_kind),
                }
                for index in self.odd().iter().filter(|index| !self.model.pod(**index).is_understood) {
                    let pod = self.model.pod(*index);
                    visit(*index, set.selects(pod, self.model.namespace_of(pod)));
                }
            }
        }
    }

    fn kinds(&self) -> &Kinds<'m> {
        self.kinds.get_or_init(|| {
            let mut numbers: HashMap<*const Labels, usize> = HashMap::new();
            let mut list: Vec<(&'m Labels, Vec<PodIndex>)> = Vec::new();
            for index in self.model.pod_indices() {
                let pod: &'m Pod = self.model.pod(index);
                if pod.is_host_network || !pod.is_understood {
                    continue;
                }
                let number = *numbers.entry(Arc::as_ptr(&pod.labels)).or_insert_with(|| {
                    list.push((&*pod.labels, Vec::new()));
                    list.len() - 1
                });
                list[number].1.push(index);
            }
            Kinds { list, by_label: OnceCell::new() }
        })
    }

    fn by_address(&self) -> &[(IpAddr, u32, PodIndex)] {
        self.by_address.get_or_init(|| {
            let faces = self
                .model
                .pod_indices()
                .flat_map(|index| self.faces_of(index).filter_map(move |face| Some((face.address?, face.slot, index))));
            let mut list: Vec<_> = faces.collect();
            list.sort_unstable();
            list
        })
    }

    fn odd(&self) -> &[PodIndex] {
        self.odd.get_or_init(|| {
            let is_odd = |index: &PodIndex| {
                let pod = self.model.pod(*index);
                pod.is_host_network || !pod.is_understood || pod.addresses.is_empty()
            };
            self.model.pod_indices().filter(is_odd).collect()
        })
    }
}

impl<'m> Kinds<'m> {
    fn by_label(&self) -> &HashMap<(&'m str, &'m str), Vec<u32>> {
        self.by_label.get_or_init(|| {
            let mut by_label: HashMap<(&'m str, &'m str), Vec<u32>> = HashMap::new();
            for (number, (labels, _)) in (0_u32..).zip(&self.list) {
                for (key, value) in *labels {
                    by_label.entry((key, value)).or_default().push(number);
                }
            }
            by_label
        })
    }
}

/// A key, and the values of which it must have one.
fn needed(selector: &Selector) -> Option<(&str, &std::collections::BTreeSet<String>)> {
    selector.requirements().iter().find_map(|it| match &it.test {
        Test::In(values) => Some((it.key.as_str(), values)),
        Test::NotIn(_)
        | Test::Exists
        | Test::DoesNotExist
        | Test::Contains(_)
        | Test::StartsWith(_)
        | Test::EndsWith(_) => None,
    })
}
