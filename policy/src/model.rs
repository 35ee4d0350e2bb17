//! The parsed cluster with its indices: which policies bear on which pod.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use serde_json::Value;

use crate::label::Labels;
use crate::names::{Direction, PodRef, PolicyRef};
use crate::namespace::Namespace;
use crate::parse::object::{self, Kind};
use crate::parse::policy::ParsedPolicy;
use crate::parse::problem::{Problem, Reason};
use crate::parse::{host, namespace, pod, policy};
use crate::pod::Pod;
use crate::policy::{BrokenPolicy, Policy};

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
    /// Sorted by name.
    pub policies: Vec<Policy>,
    /// Not understood; sorted by name.
    pub broken: Vec<BrokenPolicy>,
    /// Pods that have ended, with their phase.
    pub ended: BTreeMap<PodRef, &'static str>,
    /// The addresses of the nodes.
    pub hosts: BTreeMap<String, BTreeSet<IpAddr>>,
    /// All that was not understood.
    pub problems: Vec<Problem>,
    /// The same, as text.
    pub unknowns: Vec<String>,
    /// Which pod has an address; without those that several pods claim.
    pub by_address: HashMap<IpAddr, PodIndex>,
    /// Addresses that several pods claim, with what to say about it.
    pub shared_addresses: BTreeMap<IpAddr, String>,
    by_name: HashMap<PodRef, PodIndex>,
    standings: Vec<[Standing; 2]>,
    pod_unknowns: HashMap<PodIndex, Vec<String>>,
    /// Objects that do not even say whom they bear on.
    nameless: Vec<String>,
}

/// What bears on one pod in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Standing {
    /// The policies that select the pod and isolate it: indices into [`Model::policies`], ascending.
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
        let mut model = Self::default();
        let mut pods: BTreeMap<PodRef, (Pod, Vec<Problem>)> = BTreeMap::new();
        let mut policies: BTreeMap<PolicyRef, Policy> = BTreeMap::new();
        let mut broken: BTreeMap<PolicyRef, BrokenPolicy> = BTreeMap::new();
        let mut namespace_problems: BTreeMap<String, Vec<Problem>> = BTreeMap::new();
        for (index, value) in objects.into_iter().enumerate() {
            match object::kind(value) {
                Kind::Other => {}
                Kind::Node => {
                    if let Some((name, addresses)) = host::host(value) {
                        model.hosts.entry(name).or_default().extend(addresses);
                    }
                }
                Kind::Namespace => {
                    let (namespace, problems) = namespace::namespace(value);
                    model.problems.extend(problems.iter().cloned());
                    if let Some(namespace) = namespace {
                        namespace_problems.insert(namespace.name.clone(), problems);
                        model.namespaces.insert(namespace.name.clone(), namespace);
                    }
                }
                Kind::Pod => {
                    let parsed = pod::pod(value);
                    model.problems.extend(parsed.problems.iter().cloned());
                    let Some(pod) = parsed.pod else { continue };
                    if let Some(node) = &pod.node {
                        model.hosts.entry(node.clone()).or_default().extend(parsed.host_addresses);
                    }
                    // The same name twice: the later object is the newer one.
                    pods.remove(&pod.id);
                    model.ended.remove(&pod.id);
                    match parsed.ended {
                        Some(phase) => {
                            model.ended.insert(pod.id, phase);
                        }
                        None => {
                            pods.insert(pod.id.clone(), (pod, parsed.problems));
                        }
                    }
                }
                Kind::NetworkPolicy => match policy::policy(value) {
                    ParsedPolicy::Sound(policy) => {
                        broken.remove(&policy.id);
                        policies.insert(policy.id.clone(), policy);
                    }
                    ParsedPolicy::Broken(policy, problems) => {
                        model.problems.extend(problems);
                        policies.remove(&policy.id);
                        broken.insert(policy.id.clone(), policy);
                    }
                },
                Kind::OtherPolicy(kind) => {
                    let (policy, problems) = policy::other_policy(value, kind);
                    model.problems.extend(problems);
                    broken.insert(policy.id.clone(), policy);
                }
                Kind::Nameless => {
                    let object = format!("Object {}", index + 1);
                    let problem = Problem { object, path: "kind".to_owned(), reason: Reason::Missing };
                    model.nameless.push(problem.to_string());
                    model.problems.push(problem);
                }
            }
        }
        model.policies = policies.into_values().collect();
        model.broken = broken.into_values().collect();
        model.add_pods(pods, &namespace_problems);
        model.stand();
        model.unknowns = model.problems.iter().map(Problem::to_string).collect();
        model
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
        for (index, policy) in self.policies.iter().enumerate() {
            by_namespace.entry(policy.namespace.as_str()).or_default().push(index);
        }
        let standings = self.pods.iter().map(|pod| {
            let near = by_namespace.get(pod.id.namespace.as_str()).map_or(&[][..], Vec::as_slice);
            [Direction::Ingress, Direction::Egress].map(|direction| self.standing_of(pod, near, direction))
        });
        let standings = standings.collect();
        self.standings = standings;
    }

    fn standing_of(&self, pod: &Pod, near: &[usize], direction: Direction) -> Standing {
        let mut standing = Standing::default();
        if pod.is_host_network {
            return standing;
        }
        for &index in near {
            let policy = &self.policies[index];
            if policy.rules(direction).is_none() {
                continue;
            }
            if policy.selector.is_empty() || (pod.is_understood && policy.selector.matches(&pod.labels)) {
                standing.policies.push(index);
            } else if !pod.is_understood {
                standing.uncertain.push(policy.id.clone());
            }
        }
        for policy in &self.broken {
            let in_reach = policy.namespace.as_ref().is_none_or(|namespace| *namespace == pod.id.namespace);
            if !in_reach || !policy.can_isolate(direction) {
                continue;
            }
            if pod.is_understood && !policy.selector.matches(&pod.labels) {
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
    /// All that isolate, certain or not, in order of their names.
    pub(crate) fn isolated_by(&self, policies: &[Policy]) -> Vec<PolicyRef> {
        let mut names: Vec<PolicyRef> = self.policies.iter().map(|index| policies[*index].id.clone()).collect();
        names.extend(self.uncertain.iter().cloned());
        names.sort_unstable();
        names.dedup();
        names
    }
}
