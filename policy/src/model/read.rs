//! Objects, one by one, become the model.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use crate::block::IpBlock;
use crate::label::Labels;
use crate::model::Model;
use crate::names::{Family, PodRef, PolicyRef};
use crate::parse::object::{self, Kind};
use crate::parse::pod::ParsedPod;
use crate::parse::policy::ParsedPolicy;
use crate::parse::problem::{Problem, Reason};
use crate::parse::workload::Workload;
use crate::parse::{calico, cluster_policy, host, namespace, pod, policy, workload};
use crate::peer::Peer;
use crate::pod::Pod;
use crate::policy::{self as domain, BrokenPolicy, Policy, Tier};

/// What has been read so far.
#[derive(Default)]
pub(super) struct Reader {
    model: Model,
    pods: BTreeMap<PodRef, (Pod, Vec<Problem>)>,
    policies: BTreeMap<PolicyRef, Policy>,
    broken: BTreeMap<PolicyRef, BrokenPolicy>,
    namespace_problems: BTreeMap<String, Vec<Problem>>,
    /// What selectors of Calico's rules select besides pods.
    sets: calico::Sets,
    workloads: Vec<Workload>,
    /// Labels and owners of all pods, ended ones as well: a workload with pods of its own needs no stand-in.
    owned: Vec<workload::Owned>,
}

impl Reader {
    /// One for these objects, which are to be read one by one afterwards.
    pub(super) fn of<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        Self { sets: calico::Sets::of(objects), ..Self::default() }
    }

    pub(super) fn read(&mut self, index: usize, value: &Value) {
        let model = &mut self.model;
        match object::kind(value) {
            Kind::Other => {}
            Kind::Node => {
                let (host, problems) = host::host(value);
                model.problems.extend(problems);
                if let Some(read) = host {
                    let host = model.hosts.entry(read.name).or_default();
                    host.addresses.extend(read.addresses);
                    host.labels = read.labels;
                }
            }
            Kind::Namespace => {
                let (namespace, problems) = namespace::namespace(value);
                model.problems.extend(problems.iter().cloned());
                if let Some(namespace) = namespace {
                    self.namespace_problems.insert(namespace.name.clone(), problems);
                    model.namespaces.insert(namespace.name.clone(), namespace);
                }
            }
            Kind::Pod => self.add_pod(value),
            Kind::Workload(kind) => {
                let (workload, problems) = workload::workload(value, kind);
                model.problems.extend(problems);
                self.workloads.extend(workload);
            }
            Kind::NetworkPolicy => self.add_policy(policy::policy(value)),
            Kind::ClusterNetworkPolicy => self.add_policy(cluster_policy::cluster_network_policy(value)),
            Kind::AdminNetworkPolicy => self.add_policy(cluster_policy::admin_network_policy(value)),
            Kind::BaselineAdminNetworkPolicy => self.add_policy(cluster_policy::baseline_admin_network_policy(value)),
            Kind::CalicoGlobalNetworkPolicy => self.add_policy(calico::global_network_policy(value, &self.sets)),
            Kind::CalicoNetworkPolicy => self.add_policy(calico::network_policy(value, &self.sets)),
            Kind::OtherPolicy(kind) => self.add_policy(policy::other_policy(value, kind)),
            Kind::Nameless => {
                let object = format!("Object {}", index + 1);
                let problem = Problem { object, path: "kind".to_owned(), reason: Reason::Missing };
                model.nameless.push(problem.to_string());
                model.problems.push(problem);
            }
        }
    }

    pub(super) fn finish(mut self) -> Model {
        self.add_workloads();
        let has_calico = self.policies.keys().any(|id| calico::is_calico(id.kind));
        if has_calico {
            self.add_calico_labels();
        }
        let mut policies: Vec<Policy> = self.policies.into_values().collect();
        let tie = |a: &Policy, b: &Policy| {
            if has_calico && a.rank.tier == Tier::NetworkPolicy { calico::tie(&a.id, &b.id) } else { a.id.cmp(&b.id) }
        };
        policies.sort_by(|a, b| a.rank.cmp(&b.rank).then_with(|| tie(a, b)));
        let mut model = self.model;
        model.policies = policies;
        model.broken = self.broken.into_values().collect();
        model.add_pods(self.pods, &self.namespace_problems);
        model.family = model.only_family();
        model.stand();
        model.unknowns = model.problems.iter().map(Problem::to_string).collect();
        model
    }

    fn add_pod(&mut self, value: &Value) {
        let parsed = pod::pod(value);
        self.model.problems.extend(parsed.problems.iter().cloned());
        let ParsedPod { pod: Some(pod), ended, host_addresses, problems } = parsed else { return };
        self.owned.push(workload::Owned::of(value, &pod));
        if let Some(node) = &pod.node {
            self.model.hosts.entry(node.clone()).or_default().addresses.extend(host_addresses);
        }
        // The same name twice: the later object is the newer one.
        self.pods.remove(&pod.id);
        self.model.ended.remove(&pod.id);
        match ended {
            Some(phase) => {
                self.model.ended.insert(pod.id, phase);
            }
            None => {
                self.pods.insert(pod.id.clone(), (pod, problems));
            }
        }
    }

    /// The same name twice: the later object is the newer one.
    fn add_policy(&mut self, parsed: ParsedPolicy) {
        match parsed {
            ParsedPolicy::Sound(policy, problems) => {
                self.model.problems.extend(problems);
                self.broken.remove(&policy.id);
                self.policies.insert(policy.id.clone(), policy);
            }
            ParsedPolicy::Broken(policy, problems) => {
                self.model.problems.extend(problems);
                self.policies.remove(&policy.id);
                self.broken.insert(policy.id.clone(), policy);
            }
            ParsedPolicy::WithoutEffect(id) => {
                self.policies.remove(&id);
                self.broken.remove(&id);
            }
        }
    }

    /// Workloads without pods stand for them, each as one pod under its own name.
    fn add_workloads(&mut self) {
        for pod in workload::stand_ins(std::mem::take(&mut self.workloads), &self.owned) {
            let taken: HashSet<&PodRef> = self.pods.keys().chain(self.model.ended.keys()).collect();
            let pod = pod.named_apart_from(&taken);
            self.pods.insert(pod.pod.id.clone(), (pod.pod, pod.problems));
        }
    }

    fn add_calico_labels(&mut self) {
        for (id, (pod, _)) in &mut self.pods {
            domain::calico::add(&mut pod.labels, domain::calico::NAMESPACE, &id.namespace);
            domain::calico::add(&mut pod.labels, domain::calico::ORCHESTRATOR, "k8s");
            domain::calico::add(&mut pod.labels, domain::calico::SERVICE_ACCOUNT, &pod.service_account);
            // As `Model::add_pods` does it; here already, for the label.
            let namespace = self.model.namespaces.entry(id.namespace.clone());
            namespace.or_insert_with(|| crate::namespace::Namespace::new(id.namespace.clone(), Labels::new()));
        }
        for namespace in self.model.namespaces.values_mut() {
            domain::calico::add(&mut namespace.labels, domain::calico::NAME, &namespace.name);
        }
    }
}

impl Model {
    /// The family of addresses that nobody knows: that of all known ones, if it is one; without any, IPv4, unless all
    /// blocks that policies name are IPv6.
    pub(super) fn only_family(&self) -> Option<Family> {
        let pods = self.pods.iter().flat_map(|pod| &pod.addresses);
        let hosts = self.hosts.values().flat_map(|host| &host.addresses);
        let mut families = pods.chain(hosts).copied().map(Family::of);
        if let Some(first) = families.next() {
            return families.all(|family| family == first).then_some(first);
        }
        let rules = self.policies.iter().flat_map(Policy::all_rules);
        let blocks = rules.flat_map(|rule| &rule.peers).filter_map(Peer::block);
        let mut prefixes = blocks.flat_map(IpBlock::prefixes).peekable();
        let only_v6 = prefixes.peek().is_some() && prefixes.all(|net| Family::of(net.addr()) == Family::V6);
        Some(if only_v6 { Family::V6 } else { Family::V4 })
    }
}
