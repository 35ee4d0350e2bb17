//! Which policies bear on which pod. Pods with the same labels in one namespace have it in common, and a policy is asked
//! only about pods that carry a label its `podSelector` needs.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Model, PodIndex, Standing};
use crate::names::Direction;
use crate::peer::{Match, Namespaces, PodSet};
use crate::policy::Policy;
use crate::selector::Test;

/// The standings of all pods, each kept once.
#[derive(Clone, Debug, Default)]
pub(super) struct Standings {
    /// Numbers of a pod's ingress and egress.
    of_pod: Vec<[u32; 2]>,
    table: Vec<Arc<Standing>>,
    /// How large the table was when it was made from scratch: changes leave entries behind that nobody uses.
    from_scratch: usize,
}

/// How policies have moved in [`Model::policies`].
pub(super) struct Moves {
    /// For each one before: where it is now, unless it has changed or gone.
    pub now_at: Vec<Option<usize>>,
}

impl Standings {
    pub(super) fn of_all(model: &Model) -> Self {
        let index = SubjectIndex::of(model);
        let mut made = Maker { model, index: &index, numbers: HashMap::new(), table: Vec::new() };
        let of_pod = made.numbers_of(model.pod_indices());
        let from_scratch = made.table.len();
        Self { of_pod, table: made.table, from_scratch }
    }

    pub(super) fn of(&self, index: PodIndex, direction: Direction) -> &Standing {
        &self.table[self.number(index, direction) as usize]
    }

    pub(super) fn number(&self, index: PodIndex, direction: Direction) -> u32 {
        self.of_pod[index.0][direction as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Makes room for a pod that came, or takes away that of one that went.
    pub(super) fn shift(&mut self, at: usize, came: bool) {
        if came {
            self.of_pod.insert(at, [0; 2]);
        } else {
            self.of_pod.remove(at);
        }
    }

    /// Brings all standings up to date: policies have moved, and `affected` pods are asked afresh. `None`: too much of the
    /// table is unused, and a new one is due.
    pub(super) fn updated(&self, model: &Model, moves: Option<&Moves>, affected: &[PodIndex]) -> Option<Self> {
        let mut next = self.clone();
        if let Some(moves) = moves {
            for standing in &mut next.table {
                let stays = |at: &usize| moves.now_at[*at] == Some(*at);
                if !standing.policies.iter().all(stays) {
                    let policies = standing.policies.iter().filter_map(|at| moves.now_at[*at]).collect();
                    *standing = Arc::new(Standing { policies, ..Standing::clone(standing) });
                }
            }
        }
        let index = SubjectIndex::near(model, affected);
        let mut made = Maker { model, index: &index, numbers: HashMap::new(), table: next.table };
        let numbers = made.numbers_of(affected.iter().copied());
        next.table = made.table;
        for (pod, numbers) in affected.iter().zip(numbers) {
            next.of_pod[pod.0] = numbers;
        }
        (next.table.len() <= 2 * next.from_scratch + 256).then_some(next)
    }
}

/// Makes standings, each once.
struct Maker<'m> {
    model: &'m Model,
    index: &'m SubjectIndex<'m>,
    numbers: HashMap<Arc<Standing>, u32>,
    table: Vec<Arc<Standing>>,
}

impl<'m> Maker<'m> {
    fn numbers_of(&mut self, pods: impl Iterator<Item = PodIndex>) -> Vec<[u32; 2]> {
        let kinds = self.model.pods.kinds();
        let mut known: Vec<Option<[u32; 2]>> = vec![None; kinds.specimens().len()];
        let of_pod = |index: PodIndex| {
            // What was not understood is another sentence for each pod.
            if !self.model.unknowns_of(index).is_empty() {
                return self.numbers_of_pod(index);
            }
            let kind = kinds.of_pod(index).number();
            *known[kind].get_or_insert_with(|| self.numbers_of_pod(index))
        };
        pods.map(of_pod).collect()
    }

    fn numbers_of_pod(&mut self, index: PodIndex) -> [u32; 2] {
        let candidates = self.index.candidates(self.model, index);
        Direction::ALL.map(|direction| {
            let standing = standing_of(self.model, index, &candidates, direction);
            if let Some(number) = self.numbers.get(&standing) {
                return *number;
            }
            let number = u32::try_from(self.table.len()).expect("a cluster has fewer than 2^32 kinds of pods");
            let standing = Arc::new(standing);
            self.table.push(standing.clone());
            self.numbers.insert(standing, number);
            number
        })
    }
}

/// Policies by what their subjects need.
struct SubjectIndex<'m> {
    by_namespace: HashMap<&'m str, Bucket<'m>>,
    anywhere: Bucket<'m>,
}

#[derive(Default)]
struct Bucket<'m> {
    /// Those that need one of some values of a key, by each.
    by_label: HashMap<(&'m str, &'m str), Vec<usize>>,
    /// All others.
    rest: Vec<usize>,
    all: Vec<usize>,
    /// Indices into [`Model::broken`].
    broken: Vec<usize>,
}

/// What may bear on a pod: indices of policies and of broken ones, ascending.
struct Candidates {
    policies: Vec<usize>,
    broken: Vec<usize>,
}

impl<'m> SubjectIndex<'m> {
    fn of(model: &'m Model) -> Self {
        Self::of_namespaces(model, |_| true)
    }

    /// Only what is needed for some pods.
    fn near(model: &'m Model, pods: &[PodIndex]) -> Self {
        let namespaces: std::collections::BTreeSet<&str> =
            pods.iter().map(|index| model.pod(*index).id.namespace.as_str()).collect();
        Self::of_namespaces(model, |namespace| namespaces.contains(namespace))
    }

    fn of_namespaces(model: &'m Model, wanted: impl Fn(&str) -> bool) -> Self {
        let mut index = Self { by_namespace: HashMap::new(), anywhere: Bucket::default() };
        for (at, policy) in model.policies.iter().enumerate() {
            if let Some(bucket) = index.bucket(&policy.subject, &wanted) {
                bucket.add(at, policy);
            }
        }
        for (at, policy) in model.broken.iter().enumerate() {
            if let Some(bucket) = index.bucket(&policy.subject, &wanted) {
                bucket.broken.push(at);
            }
        }
        index
    }

    fn bucket(&mut self, subject: &'m PodSet, wanted: impl Fn(&str) -> bool) -> Option<&mut Bucket<'m>> {
        match &subject.namespaces {
            Namespaces::Own(name) => wanted(name).then(|| self.by_namespace.entry(name.as_str()).or_default()),
            Namespaces::Selected(_) => Some(&mut self.anywhere),
        }
    }

    fn candidates(&self, model: &Model, index: PodIndex) -> Candidates {
        let pod = model.pod(index);
        let mut candidates = Candidates { policies: Vec::new(), broken: Vec::new() };
        if pod.is_host_network {
            return candidates;
        }
        let near = self.by_namespace.get(pod.id.namespace.as_str());
        for bucket in near.into_iter().chain([&self.anywhere]) {
            candidates.broken.extend(&bucket.broken);
            if !pod.is_understood {
                candidates.policies.extend(&bucket.all);
                continue;
            }
            candidates.policies.extend(&bucket.rest);
            if !bucket.by_label.is_empty() {
                let lists = pod.labels.iter().filter_map(|(key, value)| bucket.by_label.get(&(&**key, &**value)));
                candidates.policies.extend(lists.flatten());
            }
        }
        candidates.policies.sort_unstable();
        candidates.broken.sort_unstable();
        candidates
    }
}

impl<'m> Bucket<'m> {
    fn add(&mut self, at: usize, policy: &'m Policy) {
        self.all.push(at);
        let needed = policy.subject.pods.requirements().iter().find_map(|it| match &it.test {
            Test::In(values) => Some((it.key.as_str(), values)),
            Test::NotIn(_)
            | Test::Exists
            | Test::DoesNotExist
            | Test::Contains(_)
            | Test::StartsWith(_)
            | Test::EndsWith(_) => None,
        });
        match needed {
            Some((key, values)) => {
                for value in values {
                    self.by_label.entry((key, value.as_str())).or_default().push(at);
                }
            }
            None => self.rest.push(at),
        }
    }
}

fn standing_of(model: &Model, index: PodIndex, near: &Candidates, direction: Direction) -> Standing {
    let mut standing = Standing::default();
    let pod = model.pod(index);
    if pod.is_host_network {
        return standing;
    }
    let namespace = model.namespace_of(pod);
    for &at in &near.policies {
        let policy = &model.policies[at];
        if policy.rules(direction).is_none() {
            continue;
        }
        match policy.selects(pod, namespace) {
            Match::Yes => standing.policies.push(at),
            Match::No => {}
            Match::Maybe if policy.only_allows() => standing.uncertain.push(policy.id.clone()),
            Match::Maybe => standing.overriding.extend(model.unknowns_of(index).iter().cloned()),
        }
    }
    for policy in near.broken.iter().map(|at| &model.broken[*at]) {
        if !policy.can_isolate(direction) || policy.subject.selects(pod, namespace) == Match::No {
            continue;
        }
        standing.uncertain.push(policy.id.clone());
        if policy.overrides {
            standing.overriding.extend(policy.unknowns.iter().cloned());
        } else {
            standing.unknowns.extend(policy.unknowns.iter().cloned());
        }
    }
    standing.overriding.extend(model.nameless().iter().cloned());
    standing.uncertain.sort_unstable();
    standing
}
