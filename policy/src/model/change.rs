//! A model after a change. What changes are pods and policies, mostly: then all that they do not touch is shared with the
//! model before. Anything else makes the model anew from its sources. The result is that of reading all objects again.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::model::read::{self, Dresser, PodSource, PolicySource, Reader, Sources};
use crate::model::stand::Moves;
use crate::model::{Model, PodIndex};
use crate::names::{Family, ObjectRef, PodRef, PolicyRef};
use crate::parse::calico;
use crate::parse::object::{self, Kind};
use crate::parse::problem::Problem;
use crate::peer::{Match, Namespaces, PodSet};
use crate::pod::Pod;
use crate::policy::Policy;

/// Past so many objects a new model is made sooner than they are put in one by one.
const MANY: usize = 64;

impl Model {
    /// With objects that are new or changed, and without some.
    pub(crate) fn with_change<'a>(
        &self,
        changed: impl IntoIterator<Item = &'a Value>,
        removed: impl IntoIterator<Item = &'a ObjectRef>,
    ) -> Self {
        let changed: Vec<&Value> = changed.into_iter().collect();
        let mut touched: HashSet<ObjectRef> = removed.into_iter().cloned().collect();
        // Those of a Node or a workload that comes anew must go first: they would add up.
        touched.extend(changed.iter().filter_map(|value| match object::kind(value) {
            Kind::Node => value.pointer("/metadata/name")?.as_str().map(|name| ObjectRef::Node(name.to_owned())),
            Kind::Workload(kind) => Some(ObjectRef::workload(kind, value)),
            Kind::Other => calico::set_name(value),
            _ => None,
        }));
        let (sources, touched) = self.sources.with_change(&changed, touched);
        let is_simple = |id: &ObjectRef| matches!(id, ObjectRef::Pod(_) | ObjectRef::Policy(_));
        if touched.len() <= MANY && touched.iter().all(is_simple) {
            self.patched(&sources, &touched).unwrap_or_else(|| sources.model())
        } else {
            sources.model()
        }
    }

    /// `None`: more than pods and policies would change.
    fn patched(&self, sources: &Sources, touched: &HashSet<ObjectRef>) -> Option<Self> {
        let has_calico = sources.has_calico();
        if has_calico != self.sources.has_calico() || sources.nameless.len() != self.sources.nameless.len() {
            return None;
        }
        let pods: BTreeSet<&PodRef> =
            touched.iter().filter_map(|id| if let ObjectRef::Pod(id) = id { Some(id) } else { None }).collect();
        let policies: BTreeSet<&PolicyRef> =
            touched.iter().filter_map(|id| if let ObjectRef::Policy(id) = id { Some(id) } else { None }).collect();
        // Pods of workloads come and go with others.
        if !pods.is_empty() && !sources.workloads.is_empty() {
            return None;
        }
        let mut model = self.sharing(sources.clone());
        let mut standings = self.standings.get().cloned();
        for id in &pods {
            model.replace_pod(self, id, |at, came| {
                if let Some(standings) = &mut standings {
                    standings.shift(at, came);
                }
            })?;
        }
        let moves = (!policies.is_empty()).then(|| model.replace_policies(self, &policies, has_calico));
        // Where an address is known the policies' blocks say nothing of the family.
        let addresses = pods.iter().flat_map(|id| addresses_of(self, id).into_iter().chain(addresses_of(&model, id)));
        if model.by_address.is_empty() || addresses.map(Family::of).any(|family| self.family != Some(family)) {
            model.family = model.only_family();
        }
        if let Some(standings) = standings {
            let mut affected: BTreeSet<PodIndex> = pods.iter().filter_map(|id| model.find(id)).collect();
            for id in &policies {
                for subject in subjects_of(self, id).into_iter().chain(subjects_of(&model, id)) {
                    affected.extend(model.perhaps_selected(subject));
                }
            }
            let affected: Vec<PodIndex> = affected.into_iter().collect();
            if let Some(standings) = standings.updated(&model, moves.as_ref(), &affected) {
                model.standings = OnceLock::from(standings);
            }
        }
        Some(model)
    }

    /// The same with other sources, of which only the problems are taken over.
    fn sharing(&self, sources: Sources) -> Self {
        let of_sources = sources.problems.iter().map(|(_, problem)| problem.clone());
        // Behind those of objects come those of addresses.
        let problems: Vec<Problem> =
            of_sources.chain(self.problems[self.sources.problems.len()..].iter().cloned()).collect();
        Self {
            namespaces: self.namespaces.clone(),
            pods: self.pods.clone(),
            policies: self.policies.clone(),
            broken: self.broken.clone(),
            ended: self.ended.clone(),
            hosts: self.hosts.clone(),
            unknowns: problems.iter().map(Problem::to_string).collect(),
            problems,
            by_address: self.by_address.clone(),
            shared_addresses: self.shared_addresses.clone(),
            family: self.family,
            pod_unknowns: self.pod_unknowns.clone(),
            standings: OnceLock::new(),
            nameless_nodes: OnceLock::new(),
            sources,
        }
    }

    /// Takes a pod over from the sources, or out if it is not there. `None`: it is not that simple.
    fn replace_pod(&mut self, before: &Self, id: &PodRef, mut shift: impl FnMut(usize, bool)) -> Option<()> {
        let (old, new) = (before.sources.pod(id).cloned(), self.sources.pod(id).cloned());
        let ended = |source: &Option<Arc<PodSource>>| source.as_ref().and_then(|source| source.ended);
        match (ended(&old), ended(&new)) {
            (None, None) => {}
            (_, Some(phase)) => {
                Arc::make_mut(&mut self.ended).insert(id.clone(), phase);
            }
            (Some(_), None) => {
                Arc::make_mut(&mut self.ended).remove(id);
            }
        }
        self.replace_hosts(old.as_deref(), new.as_deref());
        let new = new.filter(|source| source.ended.is_none());
        let old_pod = before.find(id).map(|index| before.pod(index));
        let old_addresses = old_pod.map_or(&[][..], |pod| &pod.addresses);
        let clashes = |address: &IpAddr| self.shared_addresses.contains_key(address);
        if old_addresses.iter().any(clashes) || new.iter().flat_map(|source| &source.pod.addresses).any(clashes) {
            return None;
        }
        let place = self.pods.binary_search_by(|pod| pod.id.cmp(id));
        if let Ok(at) = place {
            for address in old_addresses.iter().filter(|_| !old_pod.is_some_and(|pod| pod.is_host_network)) {
                Arc::make_mut(&mut self.by_address).remove(address);
            }
            self.pod_unknowns.remove(&PodIndex(at));
        }
        let at = match (place, new.is_some()) {
            (Ok(at), true) => at,
            (Ok(at), false) => {
                Arc::make_mut(&mut self.pods).remove(at);
                self.shift_pods(|index| if index.0 > at { PodIndex(index.0 - 1) } else { index });
                shift(at, false);
                at
            }
            (Err(at), true) => {
                Arc::make_mut(&mut self.pods).insert(at, new.as_ref()?.pod.clone());
                self.shift_pods(|index| if index.0 >= at { PodIndex(index.0 + 1) } else { index });
                shift(at, true);
                at
            }
            (Err(at), false) => at,
        };
        match new {
            Some(source) => {
                if !self.namespaces.contains_key(&id.namespace) {
                    return None;
                }
                let index = PodIndex(at);
                let unknowns = self.sources.unknowns_of(&source.pod, &source.problems);
                if !unknowns.is_empty() {
                    self.pod_unknowns.insert(index, unknowns);
                }
                let mut pod = source.pod.clone();
                Dresser::new(self.sources.has_calico()).dress(&mut pod);
                if !pod.is_host_network {
                    for address in &pod.addresses {
                        let other = Arc::make_mut(&mut self.by_address).insert(*address, index);
                        if other.is_some_and(|other| other != index) {
                            return None;
                        }
                    }
                }
                Arc::make_mut(&mut self.pods).replace(at, pod);
            }
            None => {
                // A namespace of no object goes with its last pod.
                let range = self.pods.of_namespace(&id.namespace);
                if range.is_empty() && !self.sources.namespaces.contains_key(&id.namespace) {
                    return None;
                }
            }
        }
        Some(())
    }

    fn shift_pods(&mut self, to: impl Fn(PodIndex) -> PodIndex) {
        Arc::make_mut(&mut self.by_address).renumber(&to);
        if !self.pod_unknowns.is_empty() {
            self.pod_unknowns = self.pod_unknowns.drain().map(|(index, texts)| (to(index), texts)).collect();
        }
    }

    /// Nodes have the addresses that their pods know them by.
    fn replace_hosts(&mut self, old: Option<&PodSource>, new: Option<&PodSource>) {
        for source in [old, new].into_iter().flatten() {
            let Some(node) = &source.pod.node else { continue };
            let says_same = |other: &PodSource| {
                other.pod.node.as_ref() == Some(node)
                    && source.host_addresses.iter().all(|address| other.host_addresses.contains(address))
            };
            if self.hosts.contains_key(node)
                && self.sources.pods.iter().any(|other| says_same(other) && other.pod.id != source.pod.id)
            {
                continue;
            }
            match self.sources.host(node) {
                Some(host) if self.hosts.get(node) == Some(&host) => {}
                Some(host) => {
                    Arc::make_mut(&mut self.hosts).insert(node.clone(), host);
                }
                None => {
                    Arc::make_mut(&mut self.hosts).remove(node);
                }
            }
        }
    }

    /// Takes policies over from the sources, or out if they are not there.
    fn replace_policies(&mut self, before: &Self, ids: &BTreeSet<&PolicyRef>, has_calico: bool) -> Moves {
        let kept = before.policies.iter().enumerate().filter(|(_, policy)| !ids.contains(&policy.id));
        let mut list: Vec<(Option<usize>, Arc<Policy>)> = kept.map(|(at, it)| (Some(at), it.clone())).collect();
        self.broken.retain(|policy| !ids.contains(&policy.id));
        for id in ids {
            match self.sources.policy(id) {
                Some(PolicySource::Sound(policy)) => {
                    let at = list.partition_point(|(_, other)| read::order(other, policy, has_calico).is_lt());
                    list.insert(at, (None, policy.clone()));
                }
                Some(PolicySource::Broken(policy)) => {
                    let at = self.broken.partition_point(|other| other.id < policy.id);
                    self.broken.insert(at, policy.clone());
                }
                Some(PolicySource::WithoutEffect(_)) | None => {}
            }
        }
        let mut now_at = vec![None; before.policies.len()];
        for (at, (was, _)) in list.iter().enumerate() {
            if let Some(was) = was {
                now_at[*was] = Some(at);
            }
        }
        self.policies = list.into_iter().map(|(_, policy)| policy).collect();
        Moves { now_at }
    }

    /// The pods that it selects, or that nobody can say of.
    fn perhaps_selected(&self, set: &PodSet) -> Vec<PodIndex> {
        let range = match &set.namespaces {
            Namespaces::Own(namespace) => self.pods.of_namespace(namespace),
            Namespaces::Selected(_) => 0..self.pods.len(),
        };
        let kinds = self.pods.kinds();
        let mut known: Vec<Option<bool>> = vec![None; kinds.specimens().len()];
        let mut is_selected = |index: &PodIndex| {
            let pod = self.pod(*index);
            let known = &mut known[kinds.of_pod(*index).number()];
            *known.get_or_insert_with(|| set.selects(pod, self.namespace_of(pod)) != Match::No)
        };
        range.map(PodIndex).filter(|index| is_selected(index)).collect()
    }
}

impl Sources {
    /// With objects that are new or changed, and without some; and all that is touched by it.
    fn with_change(&self, changed: &[&Value], removed: HashSet<ObjectRef>) -> (Self, HashSet<ObjectRef>) {
        let mut reader = Reader { sources: self.without_lists(&removed) };
        let mut touched = removed;
        let sets: Vec<_> =
            changed.iter().filter_map(|value| Some((calico::set_name(value)?, (*value).clone()))).collect();
        if !sets.is_empty() || touched.iter().any(|id| matches!(id, ObjectRef::AddressSet { .. })) {
            let kept = self.set_objects.iter().filter(|(id, _)| !touched.contains(id)).cloned();
            reader.set_sets(kept.chain(sets).collect());
            // What Calico's policies mean depends on them.
            let mut again = Vec::new();
            for (id, value) in self.calico.iter().filter(|(id, _)| !touched.contains(id)) {
                reader.add_calico(value);
                again.push(id.clone());
            }
            touched.extend(again);
        }
        touched.extend(changed.iter().filter_map(|value| reader.read(value)));
        let mut next = reader.finish();
        let (new_pods, new_policies) = (std::mem::take(&mut next.pods), std::mem::take(&mut next.policies));
        let is_kept = |id: Option<&ObjectRef>| id.is_none_or(|id| !touched.contains(id));
        (next.pods, next.policies) = (self.pods.clone(), self.policies.clone());
        for id in &touched {
            match id {
                ObjectRef::Pod(id) => {
                    let new = find(&new_pods, id, |it| &it.pod.id);
                    replace(Arc::make_mut(&mut next.pods), id, |it| &it.pod.id, new);
                }
                ObjectRef::Policy(id) => {
                    replace(&mut next.policies, id, PolicySource::id, find(&new_policies, id, PolicySource::id));
                }
                ObjectRef::Namespace(_)
                | ObjectRef::Node(_)
                | ObjectRef::Workload { .. }
                | ObjectRef::AddressSet { .. } => {}
            }
        }
        if !self.calico.is_empty() {
            let kept = self.calico.iter().filter(|(id, _)| is_kept(Some(id))).cloned();
            next.calico = Arc::new(kept.chain(next.calico.iter().cloned()).collect());
        }
        let kept = self.problems.iter().filter(|(id, _)| is_kept(id.as_ref())).cloned();
        next.problems = kept.chain(std::mem::take(&mut next.problems)).collect();
        if next.label_sets() > 2 * next.pods.len() + 1024 {
            next.forget_labels();
        }
        (next, touched)
    }

    /// Without what is removed of all but pods, policies and problems.
    fn without_lists(&self, removed: &HashSet<ObjectRef>) -> Self {
        let mut next = self.without_any();
        for id in removed {
            match id {
                ObjectRef::Namespace(name) => drop(Arc::make_mut(&mut next.namespaces).remove(name)),
                ObjectRef::Node(name) => drop(Arc::make_mut(&mut next.nodes).remove(name)),
                ObjectRef::Workload { .. } => Arc::make_mut(&mut next.workloads).retain(|(other, _)| other != id),
                ObjectRef::Pod(_) | ObjectRef::Policy(_) | ObjectRef::AddressSet { .. } => {}
            }
        }
        next
    }

    pub(super) fn pod(&self, id: &PodRef) -> Option<&Arc<PodSource>> {
        find(&self.pods, id, |it| &it.pod.id)
    }

    pub(super) fn policy(&self, id: &PolicyRef) -> Option<&PolicySource> {
        find(&self.policies, id, PolicySource::id)
    }
}

fn find<'l, T, K: Ord>(list: &'l [T], key: &K, key_of: impl Fn(&T) -> &K) -> Option<&'l T> {
    list.binary_search_by(|item| key_of(item).cmp(key)).ok().map(|at| &list[at])
}

/// Puts an item into a sorted list in the place of one with the same key, or takes that out.
fn replace<T: Clone, K: Ord>(list: &mut Vec<T>, key: &K, key_of: impl Fn(&T) -> &K, new: Option<&T>) {
    match (list.binary_search_by(|item| key_of(item).cmp(key)), new) {
        (Ok(at), Some(new)) => list[at] = new.clone(),
        (Ok(at), None) => drop(list.remove(at)),
        (Err(at), Some(new)) => list.insert(at, new.clone()),
        (Err(_), None) => {}
    }
}

fn addresses_of(model: &Model, id: &PodRef) -> Vec<IpAddr> {
    let pod: Option<&Pod> = model.find(id).map(|index| model.pod(index));
    let known_to = pod.and_then(|pod| pod.node.as_ref()).and_then(|node| model.hosts.get(node));
    let of_node = known_to.into_iter().flat_map(|host| &host.addresses);
    pod.into_iter().flat_map(|pod| &pod.addresses).chain(of_node).copied().collect()
}

fn subjects_of<'m>(model: &'m Model, id: &PolicyRef) -> Vec<&'m PodSet> {
    match model.sources.policy(id) {
        Some(PolicySource::Sound(policy)) => vec![&policy.subject],
        Some(PolicySource::Broken(policy)) => vec![&policy.subject],
        Some(PolicySource::WithoutEffect(_)) | None => Vec::new(),
    }
}
