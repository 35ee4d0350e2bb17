//! What pods may reach at pods, by classes: each two classes are asked once, and only what was not understood of a pod makes
//! it a case of its own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::cluster::{Party, Route};
use crate::judge::{self, End};
use crate::matrix::Matrix;
use crate::model::{Model, PodIndex};
use crate::names::{Direction, Family};
use crate::pod::Pod;
use crate::port::NamedPorts;
use crate::reach::{self, Reach};

/// Answers for all pairs, kept as they are found.
pub(super) struct Pairs<'m> {
    model: &'m Model,
    /// Made for its classes, not for its cells: it has no ports.
    matrix: Matrix,
    /// By face: who it is to all rules. `None`: to some that cannot be told.
    kinds: Vec<Option<u32>>,
    /// By pod: what it calls its ports.
    names: Vec<u32>,
    /// By pod: whether it has addresses of each family.
    families: Vec<[bool; 2]>,
    known: RefCell<Known>,
}

/// A class of pods by their policies, one of faces by what rules say of them, and names of ports.
type Key = (Direction, u32, u32, u32);

#[derive(Default)]
struct Known {
    sides: HashMap<Key, usize>,
    /// What a side lets pass.
    list: Vec<Reach>,
    both: HashMap<(usize, usize), Rc<Reach>>,
    /// By direction, class, range, and for ingress by names of ports.
    outside: HashMap<Key, Rc<Reach>>,
}

impl<'m> Pairs<'m> {
    pub(super) fn new(model: &'m Arc<Model>) -> Self {
        let matrix = Matrix::new(model, [].into());
        let kinds = matrix.face_kinds();
        let mut numbers: HashMap<&NamedPorts, u32> = HashMap::new();
        let names = model.pods.iter().map(|pod| {
            let next = u32::try_from(numbers.len()).expect("there are no more than pods");
            *numbers.entry(&pod.ports).or_insert(next)
        });
        let has = |pod: &Pod| [Family::V4, Family::V6].map(|it| pod.addresses.iter().any(|ip| Family::of(*ip) == it));
        let families = model.pods.iter().map(|pod| has(pod)).collect();
        Self { model, names: names.collect(), matrix, kinds, families, known: RefCell::default() }
    }

    /// The families by which two pods can connect: see [`reach::common_families`].
    pub(super) fn families(&self, from: usize, to: usize) -> &'static [Option<Family>] {
        let (mut from, mut to) = (self.families[from], self.families[to]);
        match (from == [false; 2], to == [false; 2]) {
            (true, true) => {
                from = [Family::V4, Family::V6].map(|family| self.model.families().contains(&family));
                to = from;
            }
            (true, false) => from = to,
            (false, true) => to = from,
            (false, false) => {}
        }
        match [from[0] && to[0], from[1] && to[1]] {
            [true, true] => &[Some(Family::V4), Some(Family::V6)],
            [true, false] => &[Some(Family::V4)],
            [false, true] => &[Some(Family::V6)],
            [false, false] => &[],
        }
    }

    /// What a pod may reach at a range of addresses, or that at the pod.
    pub(super) fn outside(&self, direction: Direction, pod: usize, (range, party): (usize, &Party)) -> Rc<Reach> {
        let own = Party::Pod(self.model.pods[pod].id.clone());
        let (from, to) = if direction == Direction::Egress { (&own, party) } else { (party, &own) };
        let family = match party {
            Party::Address(address) => Some(Family::of(*address)),
            Party::Pod(_) | Party::LocalNode => None,
        };
        let ask = || Rc::new(reach::reach(self.model, from, to, Route::Direct, family));
        // An address of a node may be that of the pod's own, and that of a pod a pod.
        let is_outside = matches!(judge::end(self.model, party, &own), Ok(End::Address(_)));
        if !is_outside || !self.is_plain(pod) {
            return ask();
        }
        let names = if direction == Direction::Ingress { self.names[pod] } else { 0 };
        let range = u32::try_from(range).expect("policies name fewer than 2^32 blocks");
        let key = (direction, self.matrix.class(pod, direction), range, names);
        let known = self.known.borrow().outside.get(&key).cloned();
        known.unwrap_or_else(|| {
            let reach = ask();
            self.known.borrow_mut().outside.insert(key, reach.clone());
            reach
        })
    }

    fn is_plain(&self, pod: usize) -> bool {
        let pod = PodIndex::at(pod);
        !self.model.pod(pod).is_host_network && self.model.unknowns_of(pod).is_empty()
    }

    /// What one pod may reach at another by a family that both have; `None` where an address is not known.
    pub(super) fn reach(&self, from: usize, to: usize, route: Route, family: Option<Family>) -> Rc<Reach> {
        let (from_face, to_face) = self.matrix.faces_between(from, to, family);
        let (Some(from_kind), Some(to_kind)) = (self.kinds[from_face as usize], self.kinds[to_face as usize]) else {
            return self.one_by_one(from, to, route, family);
        };
        if from == to || !self.is_plain(from) || !self.is_plain(to) {
            return self.one_by_one(from, to, route, family);
        }
        let egress = (Direction::Egress, self.matrix.class(from, Direction::Egress), to_kind, self.names[to]);
        let ingress = (Direction::Ingress, self.matrix.class(to, Direction::Ingress), from_kind, self.names[to]);
        let known = &mut *self.known.borrow_mut();
        let mut side = |key: Key, subject: usize, other: usize| {
            if let Some(known) = known.sides.get(&key) {
                return *known;
            }
            let reach = self.side(key.0, (from, to), (subject, other), route, family);
            known.list.push(reach);
            known.sides.insert(key, known.list.len() - 1);
            known.list.len() - 1
        };
        let sides = (side(egress, from, to), side(ingress, to, from));
        let Known { list, both, .. } = known;
        both.entry(sides).or_insert_with(|| Rc::new(list[sides.0].and(&list[sides.1]))).clone()
    }

    fn side(
        &self,
        direction: Direction,
        (from, to): (usize, usize),
        (subject, other): (usize, usize),
        route: Route,
        family: Option<Family>,
    ) -> Reach {
        let end = |pod: usize| End::Pod(PodIndex::at(pod), self.model.pod(PodIndex::at(pod)));
        let (from_address, to_address) = judge::addresses(&end(from), &end(to), family);
        let address = if direction == Direction::Egress { to_address } else { from_address };
        let names = Some(&self.model.pods[to].ports);
        reach::one_side(self.model, direction, (&end(subject), &end(other)), (address, family), names, route)
    }

    fn one_by_one(&self, from: usize, to: usize, route: Route, family: Option<Family>) -> Rc<Reach> {
        let party = |pod: usize| Party::Pod(self.model.pods[pod].id.clone());
        Rc::new(reach::reach(self.model, &party(from), &party(to), route, family))
    }
}
