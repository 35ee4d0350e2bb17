//! The parsed cluster with its indices: which policies bear on which pod.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use serde_json::Value;

mod change;
mod read;

use crate::label::Labels;
use crate::names::{Direction, Family, PodRef, PolicyRef};
use crate::namespace::Namespace;
use crate::parse::problem::{Problem, Reason};
use crate::peer::{Match, Namespaces, NodeLabels};
use crate::pod::Pod;
use crate::policy::{BrokenPolicy, Policy};
use read::Reader;

/// Index into [`Model::pods`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PodIndex(usize);

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// Those of objects, and those that pods are in although no object says so.
    pub namespaces: BTreeMap<String, Namespace>,
    /// Sorted by name.
    pub pods: Vec<Pod>,
    /// In the order in which they are asked: sorted by rank, then by name.
    pub policies: Vec<Policy>,
    /// Not understood; sorted by name.
    pub broken: Vec<BrokenPolicy>,
    /// Pods that have ended, with their phase.
    pub ended: BTreeMap<PodRef, &'static str>,
    /// The nodes, by name.
    pub hosts: BTreeMap<String, Host>,
    /// All that was not understood.
    pub problems: Vec<Problem>,
    /// The same, as text.
    pub unknowns: Vec<String>,
    /// Which pod has an address; without those that several pods claim.
    pub by_address: HashMap<IpAddr, PodIndex>,
    /// Addresses that several pods claim, with what to say about it.
    pub shared_addresses: BTreeMap<IpAddr, String>,
    /// The family of addresses that are not known: that of all that are, if it is one.
    pub family: Option<Family>,
    by_name: HashMap<PodRef, PodIndex>,
    standings: Vec<[Standing; 2]>,
    pod_unknowns: HashMap<PodIndex, Vec<String>>,
    /// Objects that do not even say whom they bear on.
    nameless: Vec<String>,
}

/// A node, as far as it matters here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    pub addresses: BTreeSet<IpAddr>,
    /// Absent where no Node object has told them.
    pub labels: Option<Labels>,
}

/// What bears on one pod in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Standing {
    /// The policies that select the pod and speak of this direction: indices into [`Model::policies`], ascending, which is
    /// the order in which they are asked.
    pub policies: Vec<usize>,
    /// Policies that may do so, and nobody can tell: broken ones, and all that ask for labels if the pod's could not be
    /// read. They isolate and allow nothing.
    pub uncertain: Vec<PolicyRef>,
    /// What was not understood of them.
    pub unknowns: Vec<String>,
    /// What was not understood and may take away what policies allow.
    pub overriding: Vec<String>,
}

impl Model {
    pub(crate) fn read<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        let objects: Vec<&Value> = objects.into_iter().collect();
        let mut reader = Reader::of(objects.iter().copied());
        for (index, value) in objects.into_iter().enumerate() {
            reader.read(index, value);
        }
        reader.finish()
    }

    fn add_pods(
        &mut self,
        pods: BTreeMap<PodRef, (Pod, Vec<Problem>)>,
        namespace_problems: &BTreeMap<String, Vec<Problem>>,
    ) {
        for (id, (pod, problems)) in pods {
            let index = PodIndex(self.pods.len());
            let of_namespace = namespace_problems.get(&id.namespace).into_iter().flatten();
            let unknowns: Vec<String> = problems.iter().chain(of_namespace).map(Problem::to_string).collect();
            if !unknowns.is_empty() {
                self.pod_unknowns.insert(index, unknowns);
            }
            // No cluster has a pod outside any namespace; files often leave the namespace out.
            self.namespaces
                .entry(id.namespace.clone())
                .or_insert_with(|| Namespace::new(id.namespace.clone(), Labels::new()));
            if !pod.is_host_network {
                for address in &pod.addresses {
                    self.claim(*address, index, &id);
                }
            }
            self.by_name.insert(id, index);
            self.pods.push(pod);
        }
        for address in self.shared_addresses.keys() {
            self.by_address.remove(address);
        }
    }

    /// Notes whose an address is. Two claims are a contradiction: then nobody is told by that address.
    fn claim(&mut self, address: IpAddr, index: PodIndex, id: &PodRef) {
        let Some(before) = self.by_address.insert(address, index) else { return };
        if before == index {
            return;
        }
        let problem = Problem {
            object: format!("Pod {id}"),
            path: "status.podIPs".to_owned(),
            reason: Reason::SharedAddress {
                address: address.to_string(),
                other: format!("Pod {}", self.pods[before.0].id),
            },
        };
        let text = problem.to_string();
        for index in [before, index] {
            self.pod_unknowns.entry(index).or_default().push(text.clone());
        }
        self.shared_addresses.insert(address, text);
        self.problems.push(problem);
    }

    /// Works out which policies bear on which pod.
    fn stand(&mut self) {
        let mut by_namespace: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut anywhere: Vec<usize> = Vec::new();
        for (index, policy) in self.policies.iter().enumerate() {
            match &policy.subject.namespaces {
                Namespaces::Own(namespace) => by_namespace.entry(namespace.as_str()).or_default().push(index),
                Namespaces::Selected(_) => anywhere.push(index),
            }
        }
        // Both lists ascend, and so must what is asked.
        for near in by_namespace.values_mut() {
            near.extend(&anywhere);
            near.sort_unstable();
        }
        let standings = self.pod_indices().map(|index| {
            let near = by_namespace.get(self.pod(index).id.namespace.as_str()).map_or(&anywhere[..], Vec::as_slice);
            Direction::ALL.map(|direction| self.standing_of(index, near, direction))
        });
        let standings = standings.collect();
        self.standings = standings;
    }

    fn standing_of(&self, index: PodIndex, near: &[usize], direction: Direction) -> Standing {
        let mut standing = Standing::default();
        let pod = self.pod(index);
        if pod.is_host_network {
            return standing;
        }
        let namespace = self.namespace_of(pod);
        for &at in near {
            let policy = &self.policies[at];
            if policy.rules(direction).is_none() {
                continue;
            }
            match policy.selects(pod, namespace) {
                Match::Yes => standing.policies.push(at),
                Match::No => {}
                Match::Maybe if policy.only_allows() => standing.uncertain.push(policy.id.clone()),
                Match::Maybe => standing.overriding.extend(self.unknowns_of(index).iter().cloned()),
            }
        }
        for policy in &self.broken {
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
        standing.overriding.extend(self.nameless.iter().cloned());
        standing.uncertain.sort_unstable();
        standing
    }

    pub(crate) fn pod(&self, index: PodIndex) -> &Pod {
        &self.pods[index.0]
    }

    pub(crate) fn pod_indices(&self) -> impl Iterator<Item = PodIndex> + use<> {
        (0..self.pods.len()).map(PodIndex)
    }

    pub(crate) fn find(&self, id: &PodRef) -> Option<PodIndex> {
        self.by_name.get(id).copied()
    }

    pub(crate) fn namespace_of(&self, pod: &Pod) -> &Namespace {
        self.namespaces.get(&pod.id.namespace).expect("every pod's namespace was added with the pod")
    }

    /// The labels of a node, by its name if that is known.
    pub(crate) fn node_labels(&self, node: Option<&str>) -> NodeLabels<'_> {
        let host = node.and_then(|node| self.hosts.get(node));
        host.and_then(|host| host.labels.as_ref()).map_or(NodeLabels::Unknown, NodeLabels::Known)
    }

    /// What was not understood of a pod or its namespace.
    pub(crate) fn unknowns_of(&self, index: PodIndex) -> &[String] {
        self.pod_unknowns.get(&index).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn standing(&self, index: PodIndex, direction: Direction) -> &Standing {
        let [ingress, egress] = &self.standings[index.0];
        match direction {
            Direction::Ingress => ingress,
            Direction::Egress => egress,
        }
    }
}

impl Standing {
    /// Whether any policy isolates, certain or not.
    pub(crate) fn isolates(&self, policies: &[Policy]) -> bool {
        !self.uncertain.is_empty() || self.policies.iter().any(|index| policies[*index].rank.tier.isolates())
    }

    /// All that isolate, certain or not, in order of their names.
    pub(crate) fn isolated_by(&self, policies: &[Policy]) -> Vec<PolicyRef> {
        let isolating = self.policies.iter().map(|index| &policies[*index]).filter(|it| it.rank.tier.isolates());
        let mut names: Vec<PolicyRef> = isolating.map(|policy| policy.id.clone()).collect();
        names.extend(self.uncertain.iter().cloned());
        names.sort_unstable();
        names.dedup();
        names
    }
}
