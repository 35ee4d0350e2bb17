//! Sets of units as a person would write them: whole namespaces, shared labels, and only then one by one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::units::Units;
use crate::choice::{self, Worth};
use crate::label::{Labels, NAMESPACE_NAME};
use crate::model::Model;
use crate::peer::{Match, Namespaces, PodSet};
use crate::pod::Pod;
use crate::selector::Selector;

/// Finds selectors for sets of units.
pub(super) struct Writer<'a> {
    model: &'a Model,
    units: &'a Units,
    /// The units of each namespace.
    by_namespace: BTreeMap<&'a str, BTreeSet<usize>>,
    /// Sets that more than one unit is in.
    shared: Vec<Shared>,
}

/// A set of pods that reads well, and what to call it.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub set: PodSet,
    pub name: String,
}

struct Shared {
    units: BTreeSet<usize>,
    named: Named,
    /// How much there is to read.
    cost: (usize, Worth),
}

impl<'a> Writer<'a> {
    pub(super) fn new(model: &'a Model, units: &'a Units) -> Self {
        let mut by_namespace: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for at in 0..units.units.len() {
            if let Some(pod) = first(model, units, at) {
                by_namespace.entry(&pod.id.namespace).or_default().insert(at);
            }
        }
        let mut writer = Self { model, units, by_namespace, shared: Vec::new() };
        writer.shared = writer.all_shared();
        writer
    }

    /// Selects exactly the pods of one unit in its namespace.
    pub(super) fn unit(&self, at: usize) -> Selector {
        let Some(pod) = first(self.model, self.units, at) else { return Selector::default() };
        self.telling(&BTreeSet::from([at]), &pod.id.namespace)
    }

    /// The same for several units of one namespace; `None` where no single label that they share does it.
    pub(super) fn group(&self, group: &BTreeSet<usize>, namespace: &str) -> Option<Selector> {
        let selector = self.telling(group, namespace);
        let is_whole = self.by_namespace.get(namespace) == Some(group);
        let is_exact = self.selected(namespace, &selector) == *group;
        match selector.requirements().len() {
            1 if is_exact => Some(selector),
            _ => is_whole.then(Selector::default),
        }
    }

    /// Peers that are exactly these units, apart from `free` ones, which may or may not be among them; as a policy says
    /// it that stands in the namespace `own`.
    pub(super) fn cover(&self, wanted: &BTreeSet<usize>, free: &BTreeSet<usize>, own: &str) -> Vec<Named> {
        let fits = |units: &BTreeSet<usize>| units.iter().all(|at| wanted.contains(at) || free.contains(at));
        let fitting: Vec<&Shared> = self.shared.iter().filter(|shared| fits(&shared.units)).collect();
        let (mut left, mut peers) = (wanted.clone(), Vec::new());
        loop {
            let gain = |shared: &Shared| shared.units.intersection(&left).count();
            // The most at once; among those that do, without others; and the shortest.
            let least = |shared: &Shared| Reverse((shared.units.len(), shared.cost));
            let best = fitting.iter().max_by_key(|shared| (gain(shared), least(shared)));
            let Some(best) = best.filter(|shared| gain(shared) > 1) else { break };
            left.retain(|at| !best.units.contains(at));
            peers.push(best.named.clone());
        }
        for at in left {
            let Some(pod) = first(self.model, self.units, at) else { continue };
            let set = PodSet { namespaces: self.by_name(&pod.id.namespace), pods: self.unit(at) };
            peers.push(Named { set, name: choice::called(pod).to_owned() });
        }
        for peer in &mut peers {
            if peer.set.namespaces == self.by_name(own) {
                peer.set.namespaces = Namespaces::Own(own.to_owned());
            }
        }
        peers.sort_by(|a, b| a.set.cmp(&b.set));
        peers
    }

    fn all_shared(&self) -> Vec<Shared> {
        let mut shared = Vec::new();
        let mut add = |namespaces: Namespaces, pods: Selector, name: &str, cost: (usize, Worth)| {
            let set = PodSet { namespaces, pods };
            let units: BTreeSet<usize> = self.units_in(&set);
            if units.len() > 1 {
                shared.push(Shared { units, named: Named { set, name: name.to_owned() }, cost });
            }
        };
        let all = || Namespaces::Selected(Selector::default());
        add(all(), Selector::default(), "all", (0, Worth::Name));
        let usable = |key: &str| Worth::of(key) < Worth::Volatile;
        let namespaces = self.model.namespaces.values().filter(|it| self.by_namespace.contains_key(it.name.as_str()));
        let of_namespaces: BTreeSet<(&String, &String)> = namespaces
            .flat_map(|namespace| &namespace.labels)
            .filter(|(key, _)| Worth::of(key) < Worth::Never)
            .collect();
        for (key, value) in of_namespaces {
            let selector = Selector::new([choice::equal(key, value)]);
            let worth = if key == NAMESPACE_NAME { Worth::Name } else { Worth::of(key).max(Worth::Part) };
            add(Namespaces::Selected(selector), Selector::default(), value, (1, worth));
        }
        let mut everywhere: BTreeSet<(&String, &String)> = BTreeSet::new();
        for (namespace, units) in &self.by_namespace {
            let pods = units.iter().filter_map(|at| first(self.model, self.units, *at));
            let labels: BTreeSet<(&String, &String)> =
                pods.flat_map(|pod| pod.labels.as_ref()).filter(|(key, _)| usable(key)).collect();
            for (key, value) in labels {
                everywhere.insert((key, value));
                let pods = Selector::new([choice::equal(key, value)]);
                add(self.by_name(namespace), pods, value, (2, Worth::of(key)));
            }
        }
        for (key, value) in everywhere {
            add(all(), Selector::new([choice::equal(key, value)]), value, (3, Worth::of(key)));
        }
        shared
    }

    fn by_name(&self, namespace: &str) -> Namespaces {
        let known = self.model.namespaces.get(namespace).and_then(|it| it.labels.get(NAMESPACE_NAME));
        Namespaces::Selected(choice::namespace(known.map_or(namespace, String::as_str)))
    }

    /// The units that a set holds; empty if it cuts through one.
    fn units_in(&self, set: &PodSet) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        for (at, unit) in self.units.units.iter().enumerate() {
            let is_in = |pod: &Pod| set.selects(pod, self.model.namespace_of(pod)) == Match::Yes;
            match unit.iter().filter(|index| is_in(self.model.pod(**index))).count() {
                0 => {}
                count if count == unit.len() => {
                    found.insert(at);
                }
                _ => return BTreeSet::new(),
            }
        }
        found
    }

    fn telling(&self, wanted: &BTreeSet<usize>, namespace: &str) -> Selector {
        let (mut inside, mut outside): (Vec<&Labels>, Vec<&Labels>) = (Vec::new(), Vec::new());
        for at in self.by_namespace.get(namespace).into_iter().flatten() {
            let whither = if wanted.contains(at) { &mut inside } else { &mut outside };
            whither.extend(self.units.units[*at].iter().map(|index| self.model.pod(*index).labels.as_ref()));
        }
        let lasting = choice::selector(&inside, outside.iter().copied(), Worth::Edition);
        if outside.iter().all(|labels| !lasting.matches(labels)) {
            return lasting;
        }
        choice::selector(&inside, outside.iter().copied(), Worth::Volatile)
    }

    fn selected(&self, namespace: &str, selector: &Selector) -> BTreeSet<usize> {
        let set = PodSet { namespaces: Namespaces::Own(namespace.to_owned()), pods: selector.clone() };
        self.units_in(&set)
    }
}

/// A pod to speak for its unit.
pub(super) fn first<'m>(model: &'m Model, units: &Units, at: usize) -> Option<&'m Pod> {
    units.units.get(at)?.first().map(|index| model.pod(*index))
}
