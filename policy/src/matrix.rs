//! Who may reach whom, for all pairs of pods at some ports at once.
//!
//! Not pair by pair: pods that the same policies bear on are one class, and each class has, for each port, the set of pods
//! that it lets out to, and another one of those that it lets in. A cell is one look into each. So the work grows with
//! classes and rules, not with pairs of pods.
//!
//! - `set`: sets of numbers. `face`: pods as others' rules see them, and who a peer means. `side`: what a class lets pass.
//! - `update`: the matrix after a change. `count`: how many cells there are of each sort.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::model::{Model, NodeOf, PodIndex};
use crate::names::{Direction, Family, PodRef, Protocol};
use crate::peer::{Match, Peer};
use crate::policy::Policy;
use crate::port::NamedPorts;
use face::{Faces, Gallery};
use set::Set;
use side::{Class, Maker, Nature, Outcome, Peers, Rules, Sets};

mod count;
mod face;
mod set;
mod side;
mod update;

pub use count::Counts;

/// What the policies say of all pairs of pods, at some ports, by the destination's own address. Between pods of two
/// families it holds for the first one of the destination's that the source has, too, as [`Cluster::verdict`] does: where one of them
/// has no known address for the first one of the other's.
#[derive(Clone, Debug)]
pub struct Matrix {
    model: Arc<Model>,
    ports: Arc<[(Protocol, u16)]>,
    /// By pod.
    faces: Vec<Faces>,
    /// By pod: the numbers of its classes for ingress and egress.
    classes_of: Vec<[u32; 2]>,
    /// By direction.
    classes: [Vec<Arc<Class>>; 2],
    /// By policy.
    rules: Vec<Arc<Rules>>,
    sets: Sets,
    /// Faces of pods that were not understood.
    unread: Set,
    /// How many faces there have been, and which of them are free again.
    slots: u32,
    free: Vec<u32>,
    /// How many sets and classes there were when it was made from scratch: changes leave unused ones behind.
    from_scratch: usize,
}

/// What is said of one pair at one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    /// Both sides let it pass.
    Open,
    /// One side shuts it.
    Shut,
    /// Something that bears on it was not understood.
    Unknown,
}

impl Matrix {
    pub(crate) fn new(model: &Arc<Model>, ports: Arc<[(Protocol, u16)]>) -> Self {
        let mut slots = 0..;
        let mut next = || slots.next().expect("a cluster has fewer than 2^32 addresses");
        let faces: Vec<Faces> = model.pods.iter().map(|pod| Faces::of(pod, model.family, &mut next)).collect();
        let mut matrix = Self {
            model: model.clone(),
            ports,
            faces,
            classes_of: Vec::new(),
            classes: [Vec::new(), Vec::new()],
            rules: Vec::new(),
            sets: Sets::default(),
            unread: Set::NONE(),
            slots: next(),
            free: Vec::new(),
            from_scratch: 0,
        };
        let gallery = Gallery::new(model, &matrix.faces);
        let words = matrix.words();
        let mut known: HashMap<&[Peer], usize> = HashMap::new();
        let sets = &mut matrix.sets;
        for policy in &model.policies {
            let rules = Rules::of(policy, &matrix.ports, |direction, at| {
                let peers = policy.rules(direction).unwrap_or_default()[at].peers.as_slice();
                *known.entry(peers).or_insert_with(|| sets.add(&gallery, words, (policy.clone(), direction, at)))
            });
            matrix.rules.push(Arc::new(rules));
        }
        matrix.name_ports();
        matrix.unread = matrix.unread_faces();
        matrix.classify();
        matrix.from_scratch = matrix.size();
        matrix
    }

    /// The ports that it is about, in the order asked for.
    pub fn ports(&self) -> &[(Protocol, u16)] {
        &self.ports
    }

    /// The pods, in order of their names. Rows and columns are numbered so.
    pub fn pods(&self) -> impl ExactSizeIterator<Item = &PodRef> {
        self.model.pods.iter().map(|pod| &pod.id)
    }

    /// The number of a pod.
    pub fn index(&self, pod: &PodRef) -> Option<usize> {
        self.model.find(pod).map(PodIndex::number)
    }

    /// What is said of one pair. `None`: there is no such pod, or the port was not asked for.
    pub fn get(&self, from: &PodRef, to: &PodRef, protocol: Protocol, port: u16) -> Option<Cell> {
        let port = self.ports.iter().position(|it| *it == (protocol, port))?;
        Some(self.cell(self.index(from)?, self.index(to)?, port))
    }

    /// The same by numbers. Panics where there are no such ones.
    pub fn cell(&self, from: usize, to: usize, port: usize) -> Cell {
        match (self.always_open(from, to), self.plain_cell(from, to, port)) {
            (Match::Yes, _) => Cell::Open,
            (Match::Maybe, Cell::Shut) => Cell::Unknown,
            (Match::Maybe | Match::No, cell) => cell,
        }
    }

    /// All that one pod may reach at one port, or perhaps may: the numbers of the pods in order, with what is said.
    pub fn row(&self, from: usize, port: usize) -> impl Iterator<Item = (usize, Cell)> {
        (0..self.faces.len()).map(move |to| (to, self.cell(from, to, port))).filter(|(_, cell)| *cell != Cell::Shut)
    }

    /// The rows of all pods at one port.
    pub fn rows(&self, port: usize) -> impl Iterator<Item = (usize, impl Iterator<Item = (usize, Cell)>)> {
        (0..self.faces.len()).map(move |from| (from, self.row(from, port)))
    }

    /// How many classes of pods it holds apart, for ingress and for egress.
    pub fn class_counts(&self) -> [usize; 2] {
        [self.classes[0].len(), self.classes[1].len()]
    }

    /// The number of a pod's class: pods of one class have the same policies, and nothing else tells that side's answers apart.
    pub(crate) fn class(&self, pod: usize, direction: Direction) -> u32 {
        self.classes_of[pod][direction as usize]
    }

    /// The faces that two pods show each other, by one family or as [`Matrix`] has it.
    pub(crate) fn faces_between(&self, from: usize, to: usize, family: Option<Family>) -> (u32, u32) {
        match family {
            Some(family) => (self.faces[from].slot(family), self.faces[to].slot(family)),
            None => Faces::between(self.faces[from], self.faces[to]),
        }
    }

    /// For each face who it is to all rules: two of one number are in the same peers. `None`: to some rule that cannot be
    /// told.
    pub(crate) fn face_kinds(&self) -> Vec<Option<u32>> {
        let mut sets: Vec<Vec<u32>> = vec![Vec::new(); self.slots as usize];
        let mut is_told = vec![true; self.slots as usize];
        for (number, peers) in (0_u32..).zip(&self.sets.list) {
            if peers.yes != Set::All {
                peers.yes.each(self.slots, |face| sets[face as usize].push(number));
            }
            peers.maybe.each(self.slots, |face| is_told[face as usize] = false);
        }
        let mut numbers: HashMap<Vec<u32>, u32> = HashMap::new();
        let kinds = sets.into_iter().zip(is_told).map(|(sets, is_told)| {
            let next = u32::try_from(numbers.len()).expect("there are no more than faces");
            is_told.then(|| *numbers.entry(sets).or_insert(next))
        });
        kinds.collect()
    }

    /// A pod to itself, and a node to its own pods: no policy can forbid that, and a node has no policies of its own.
    fn always_open(&self, from: usize, to: usize) -> Match {
        if from == to {
            return Match::Yes;
        }
        let (source, destination) = (&self.model.pods[from], &self.model.pods[to]);
        if !source.is_host_network || destination.is_host_network {
            return Match::No;
        }
        match (&source.node, &destination.node) {
            (Some(from), Some(to)) => (from == to).into(),
            (_, _) => self.model.runs_on(PodIndex::at(to), &NodeOf::Pod(source)),
        }
    }

    /// Without what no policy can forbid.
    fn plain_cell(&self, from: usize, to: usize, port: usize) -> Cell {
        let (source, destination) = (self.faces[from], self.faces[to]);
        if !Faces::may_be_either(source, destination) {
            return self.cell_between(from, to, port, Faces::between(source, destination));
        }
        let of = |family| self.cell_between(from, to, port, (source.slot(family), destination.slot(family)));
        let (v4, v6) = (of(Family::V4), of(Family::V6));
        if v4 == v6 { v4 } else { Cell::Unknown }
    }

    /// By these faces of theirs.
    fn cell_between(&self, from: usize, to: usize, port: usize, (from_face, to_face): (u32, u32)) -> Cell {
        let out = self.outcome(Direction::Egress, from, port);
        let into = self.outcome(Direction::Ingress, to, port);
        if out.open.contains(to_face) && into.open.contains(from_face) {
            Cell::Open
        } else if out.maybe(to_face) && into.maybe(from_face) {
            Cell::Unknown
        } else {
            Cell::Shut
        }
    }

    fn outcome(&self, direction: Direction, pod: usize, port: usize) -> &Arc<Outcome> {
        let class = &self.classes[direction as usize][self.classes_of[pod][direction as usize] as usize];
        &class.outcomes[class.at[port]]
    }

    fn words(&self) -> usize {
        (self.slots as usize).div_ceil(64)
    }

    fn size(&self) -> usize {
        self.sets.list.len() + self.sets.named.len() + self.classes.iter().map(Vec::len).sum::<usize>()
    }

    /// Who calls which of the ports by a name that a rule asks for.
    fn name_ports(&mut self) {
        let mut wanted: HashMap<(Protocol, u16, &str), Vec<u32>> = HashMap::new();
        for (port, name) in self.rules.iter().flat_map(|rules| rules.names()) {
            let (protocol, number) = self.ports[port];
            wanted.entry((protocol, number, name)).or_default();
        }
        if wanted.is_empty() {
            return;
        }
        for (pod, faces) in self.model.pods.iter().zip(&self.faces).filter(|(pod, _)| !pod.is_host_network) {
            for (protocol, name, number) in pod.ports.iter() {
                if let Some(list) = wanted.get_mut(&(protocol, number, name)) {
                    list.extend(faces.slots());
                }
            }
        }
        let words = self.words();
        let named = wanted.into_iter().map(|((protocol, number, name), mut list)| {
            list.sort_unstable();
            ((protocol, number, name.to_owned()), Arc::new(Set::of(list, words)))
        });
        self.sets.named = named.collect();
    }

    fn unread_faces(&self) -> Set {
        let unread = self.model.pod_indices().filter(|index| self.model.is_unread(*index));
        let mut list: Vec<u32> = unread.flat_map(|index| self.faces[index.number()].slots()).collect();
        list.sort_unstable();
        Set::of(list, self.words())
    }

    fn classify(&mut self) {
        let mut asks_names: Vec<Option<bool>> = vec![None; self.model.standing_count()];
        let mut classes_of = vec![[0; 2]; self.faces.len()];
        let mut classes: [Vec<Arc<Class>>; 2] = [Vec::new(), Vec::new()];
        let mut maker = self.maker();
        for direction in Direction::ALL {
            let mut known: HashMap<(u32, bool, bool, Option<&NamedPorts>), u32> = HashMap::new();
            for index in self.model.pod_indices() {
                let pod = self.model.pod(index);
                let standing = self.model.standing_number(index, direction);
                let asks = direction == Direction::Ingress
                    && *asks_names[standing as usize].get_or_insert_with(|| {
                        let policies = &self.model.standing(index, direction).policies;
                        policies.iter().any(|at| self.rules[*at].asks_names())
                    });
                let names = asks.then_some(&pod.ports);
                let key = (standing, pod.is_host_network, !self.model.unknowns_of(index).is_empty(), names);
                let class = *known.entry(key).or_insert_with(|| {
                    let policies = self.model.standing(index, direction).policies.iter();
                    let policies = policies.map(|at| self.rules[*at].clone()).collect();
                    let nature = Nature::of(&self.model, index, direction);
                    let list = &mut classes[direction as usize];
                    list.push(Arc::new(maker.class(direction, policies, nature, names.cloned())));
                    u32::try_from(list.len() - 1).expect("there are no more classes than pods")
                });
                classes_of[index.number()][direction as usize] = class;
            }
        }
        drop(maker);
        (self.classes_of, self.classes) = (classes_of, classes);
    }

    fn maker(&self) -> Maker<'_> {
        Maker {
            ports: &self.ports,
            sets: &self.sets,
            unread: &self.unread,
            words: self.words(),
            shared: HashMap::new(),
        }
    }
}

impl Sets {
    /// Adds the faces that a rule means; its number.
    fn add(&mut self, gallery: &Gallery<'_>, words: usize, of: (Arc<Policy>, Direction, usize)) -> usize {
        let peers = &of.0.rules(of.1).unwrap_or_default()[of.2].peers;
        let (yes, maybe) = if peers.is_empty() {
            (Set::All, Set::NONE())
        } else {
            let (yes, maybe) = gallery.faces_in(peers);
            (Set::of(yes, words), Set::of(maybe, words))
        };
        self.list.push(Arc::new(Peers { of, yes, maybe }));
        self.list.len() - 1
    }
}

impl Outcome {
    fn maybe(&self, face: u32) -> bool {
        self.open.contains(face) || self.unknown.contains(face)
    }
}

impl Cluster {
    /// What the policies say of all pairs of pods at some ports.
    pub fn matrix(&self, ports: &[(Protocol, u16)]) -> Matrix {
        Matrix::new(self.model(), ports.into())
    }
}
