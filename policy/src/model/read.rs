//! Objects, one by one, become sources, and these the model.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::label::Labels;
use crate::model::addresses::Addresses;
use crate::model::pods::Pods;
use crate::model::{Host, Model, PodIndex};
use crate::names::{ObjectRef, PodRef, PolicyRef};
use crate::namespace::Namespace;
use crate::parse::object::{self, Kind};
use crate::parse::policy::ParsedPolicy;
use crate::parse::problem::{Problem, Reason};
use crate::parse::workload::{Owned, Workload};
use crate::parse::{calico, cluster_policy, host, namespace, pod, policy, workload};
use crate::pod::Pod;
use crate::policy::{self as domain, BrokenPolicy, Policy};

/// What objects said, each by itself. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    pub namespaces: Arc<BTreeMap<String, (Namespace, Vec<Problem>)>>,
    pub nodes: Arc<BTreeMap<String, NodeSource>>,
    pub workloads: Arc<Vec<(ObjectRef, Workload)>>,
    /// By name, once they are all read.
    pub pods: Arc<Vec<Arc<PodSource>>>,
    /// By name, once they are all read.
    pub policies: Vec<PolicySource>,
    /// In the order of the objects; those of objects without a name have none.
    pub problems: Vec<(Option<ObjectRef>, Problem)>,
    /// Objects that do not even say whom they bear on.
    pub nameless: Arc<Vec<String>>,
    /// What selectors of Calico's rules select besides pods, and the objects that say so.
    pub sets: Arc<calico::Sets>,
    pub set_objects: Arc<Vec<(ObjectRef, Value)>>,
    /// Calico's policies as they were given: what they mean depends on the sets.
    pub calico: Arc<Vec<(ObjectRef, Value)>>,
    /// Each set of labels once: most pods have replicas.
    labels: Arc<HashSet<Arc<Labels>>>,
    objects: usize,
}

/// What a node's object said: its labels, if they could be read, and its addresses.
pub(super) type NodeSource = (Option<Labels>, Vec<IpAddr>);

/// What a pod's object said.
#[derive(Debug)]
pub(super) struct PodSource {
    pub pod: Arc<Pod>,
    pub problems: Vec<Problem>,
    pub ended: Option<&'static str>,
    pub host_addresses: Vec<IpAddr>,
    pub owned: Owned,
}

/// What a policy's object said.
#[derive(Clone, Debug)]
pub(super) enum PolicySource {
    Sound(Arc<Policy>),
    Broken(Arc<BrokenPolicy>),
    WithoutEffect(PolicyRef),
}

/// Reads objects.
#[derive(Default)]
pub(super) struct Reader {
    pub sources: Sources,
}

impl Reader {
    /// One for these objects, which are to be read one by one afterwards.
    pub(super) fn of<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut reader = Self::default();
        let sets = objects.into_iter().filter_map(|value| Some((calico::set_name(value)?, value.clone())));
        reader.set_sets(sets.collect());
        reader
    }

    /// Takes in what selectors of Calico's rules select besides pods. Its policies are to be read afterwards.
    pub(super) fn set_sets(&mut self, mut objects: Vec<(ObjectRef, Value)>) {
        // Of several that a selector selects the first one is named: the same one in whatever order they came.
        objects.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.sources.sets = Arc::new(calico::Sets::of(objects.iter().map(|(_, value)| value)));
        self.sources.set_objects = Arc::new(objects);
    }

    /// Takes in an object. Its name, if that is known and it matters.
    pub(super) fn read(&mut self, value: &Value) -> Option<ObjectRef> {
        let sources = &mut self.sources;
        sources.objects += 1;
        match object::kind(value) {
            Kind::Other => calico::set_name(value),
            Kind::Node => {
                let (host, problems) = host::host(value);
                let id = host.as_ref().map(|host| ObjectRef::Node(host.name.clone()));
                self.add_problems(id.as_ref(), problems);
                if let Some(host) = host {
                    let node = Arc::make_mut(&mut self.sources.nodes).entry(host.name).or_default();
                    node.0 = host.labels;
                    node.1.extend(host.addresses);
                }
                id
            }
            Kind::Namespace => {
                let (namespace, problems) = namespace::namespace(value);
                let id = namespace.as_ref().map(|namespace| ObjectRef::Namespace(namespace.name.clone()));
                self.add_problems(id.as_ref(), problems.clone());
                if let Some(namespace) = namespace {
                    let namespaces = Arc::make_mut(&mut self.sources.namespaces);
                    namespaces.insert(namespace.name.clone(), (namespace, problems));
                }
                id
            }
            Kind::Pod => self.add_pod(value),
            Kind::Workload(kind) => {
                let (workload, problems) = workload::workload(value, kind);
                let id = ObjectRef::workload(kind, value);
                self.add_problems(Some(&id), problems);
                let workloads = Arc::make_mut(&mut self.sources.workloads);
                workloads.extend(workload.map(|workload| (id.clone(), workload)));
                Some(id)
            }
            Kind::NetworkPolicy => Some(self.add_policy(policy::policy(value))),
            Kind::ClusterNetworkPolicy => Some(self.add_policy(cluster_policy::cluster_network_policy(value))),
            Kind::AdminNetworkPolicy => Some(self.add_policy(cluster_policy::admin_network_policy(value))),
            Kind::BaselineAdminNetworkPolicy => {
                Some(self.add_policy(cluster_policy::baseline_admin_network_policy(value)))
            }
            Kind::CalicoGlobalNetworkPolicy => Some(self.add_calico(value)),
            Kind::CalicoNetworkPolicy => Some(self.add_calico(value)),
            Kind::OtherPolicy(kind) => Some(self.add_policy(policy::other_policy(value, kind))),
            Kind::Nameless => {
                let object = format!("Object {}", sources.objects);
                let problem = Problem { object, path: "kind".to_owned(), reason: Reason::Missing, index: None };
                Arc::make_mut(&mut sources.nameless).push(problem.to_string());
                self.add_problems(None, vec![problem]);
                None
            }
        }
    }

    /// Of one name the later object is the newer one.
    pub(super) fn finish(self) -> Sources {
        let mut sources = self.sources;
        let pods = Arc::make_mut(&mut sources.pods);
        pods.reverse();
        pods.sort_by(|a, b| a.pod.id.cmp(&b.pod.id));
        pods.dedup_by(|a, b| a.pod.id == b.pod.id);
        sources.policies.reverse();
        sources.policies.sort_by(|a, b| a.id().cmp(b.id()));
        sources.policies.dedup_by(|a, b| a.id() == b.id());
        sources.policies.retain(|it| !matches!(it, PolicySource::WithoutEffect(_)));
        sources
    }

    fn add_problems(&mut self, id: Option<&ObjectRef>, problems: Vec<Problem>) {
        let index = self.sources.objects.checked_sub(1);
        let problems = problems.into_iter().map(|problem| (id.cloned(), Problem { index, ..problem }));
        self.sources.problems.extend(problems);
    }

    fn add_pod(&mut self, value: &Value) -> Option<ObjectRef> {
        let parsed = pod::pod(value);
        let id = parsed.pod.as_ref().map(|pod| ObjectRef::Pod(pod.id.clone()));
        self.add_problems(id.as_ref(), parsed.problems.clone());
        let mut pod = parsed.pod?;
        self.sources.share_labels(&mut pod);
        let owned = Owned::of(value, &pod);
        let (problems, ended, host_addresses) = (parsed.problems, parsed.ended, parsed.host_addresses);
        let source = PodSource { pod: Arc::new(pod), problems, ended, host_addresses, owned };
        Arc::make_mut(&mut self.sources.pods).push(Arc::new(source));
        id
    }

    pub(super) fn add_calico(&mut self, value: &Value) -> ObjectRef {
        let sets = self.sources.sets.clone();
        let parsed = match object::kind(value) {
            Kind::CalicoGlobalNetworkPolicy => calico::global_network_policy(value, &sets),
            _ => calico::network_policy(value, &sets),
        };
        let id = self.add_policy(parsed);
        let calico = Arc::make_mut(&mut self.sources.calico);
        calico.push((id.clone(), value.clone()));
        id
    }

    fn add_policy(&mut self, parsed: ParsedPolicy) -> ObjectRef {
        let (source, problems) = match parsed {
            ParsedPolicy::Sound(policy, problems) => (PolicySource::Sound(Arc::new(policy)), problems),
            ParsedPolicy::Broken(policy, problems) => (PolicySource::Broken(Arc::new(policy)), problems),
            ParsedPolicy::WithoutEffect(id) => (PolicySource::WithoutEffect(id), Vec::new()),
        };
        let id = ObjectRef::Policy(source.id().clone());
        self.add_problems(Some(&id), problems);
        self.sources.policies.push(source);
        id
    }
}

impl PolicySource {
    pub(super) fn id(&self) -> &PolicyRef {
        match self {
            Self::Sound(policy) => &policy.id,
            Self::Broken(policy) => &policy.id,
            Self::WithoutEffect(id) => id,
        }
    }
}

impl Sources {
    fn share_labels(&mut self, pod: &mut Pod) {
        match self.labels.get(&pod.labels) {
            Some(known) => pod.labels = known.clone(),
            None => {
                Arc::make_mut(&mut self.labels).insert(pod.labels.clone());
            }
        }
    }

    /// Starts over, so that what went does not stay for ever.
    pub(super) fn forget_labels(&mut self) {
        self.labels = Arc::new(self.pods.iter().map(|source| source.pod.labels.clone()).collect());
    }

    /// Without pods, policies and problems.
    pub(super) fn without_any(&self) -> Self {
        Self {
            namespaces: self.namespaces.clone(),
            nodes: self.nodes.clone(),
            workloads: self.workloads.clone(),
            nameless: self.nameless.clone(),
            sets: self.sets.clone(),
            set_objects: self.set_objects.clone(),
            labels: self.labels.clone(),
            objects: self.objects,
            ..Self::default()
        }
    }

    /// How many sets of labels are remembered.
    pub(super) fn label_sets(&self) -> usize {
        self.labels.len()
    }

    /// Whether Calico's policies are among them: then its labels are on all pods.
    pub(super) fn has_calico(&self) -> bool {
        self.policies.iter().any(|it| matches!(it, PolicySource::Sound(policy) if calico::is_calico(policy.id.kind)))
    }

    /// The model of all of it.
    pub(super) fn model(self) -> Model {
        let has_calico = self.has_calico();
        let running = self.pods.iter().filter(|source| source.ended.is_none());
        let mut pods: Vec<(Arc<Pod>, &[Problem])> =
            running.map(|source| (source.pod.clone(), source.problems.as_slice())).collect();
        let ended: BTreeMap<PodRef, &'static str> =
            self.pods.iter().filter_map(|source| Some((source.pod.id.clone(), source.ended?))).collect();
        let stand_ins = self.stand_ins(&pods, &ended);
        if !stand_ins.is_empty() {
            pods.extend(stand_ins.iter().map(|(pod, problems)| (pod.clone(), problems.as_slice())));
            pods.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        }
        let mut dresser = Dresser::new(has_calico);
        for (pod, _) in &mut pods {
            dresser.dress(pod);
        }
        let mut model = Model {
            namespaces: Arc::new(self.all_namespaces(&pods, has_calico)),
            pods: Arc::new(Pods::new(pods.iter().map(|(pod, _)| pod.clone()).collect())),
            ended: Arc::new(ended),
            hosts: Arc::new(self.hosts()),
            problems: self.problems.iter().map(|(_, problem)| problem.clone()).collect(),
            ..Model::default()
        };
        for (index, (pod, problems)) in pods.iter().enumerate() {
            let unknowns = self.unknowns_of(pod, problems);
            if !unknowns.is_empty() {
                model.pod_unknowns.insert(PodIndex(index), unknowns);
            }
        }
        let own = pods.iter().enumerate().filter(|(_, (pod, _))| !pod.is_host_network);
        let (by_address, clashes) = Addresses::settle(
            own.flat_map(|(index, (pod, _))| pod.addresses.iter().map(move |address| (*address, PodIndex(index)))),
        );
        model.by_address = Arc::new(by_address);
        clashes.into_iter().for_each(|clash| model.note_clash(clash));
        drop(pods);
        for source in &self.policies {
            match source {
                PolicySource::Sound(policy) => model.policies.push(policy.clone()),
                PolicySource::Broken(policy) => model.broken.push(policy.clone()),
                PolicySource::WithoutEffect(_) => {}
            }
        }
        model.policies.sort_by(|a, b| order(a, b, has_calico));
        model.family = model.only_family();
        model.unknowns = model.problems.iter().map(Problem::to_string).collect();
        model.standings = OnceLock::new();
        model.sources = self;
        model
    }

    /// What was not understood of a pod or of its namespace.
    pub(super) fn unknowns_of(&self, pod: &Pod, problems: &[Problem]) -> Vec<String> {
        let of_namespace = self.namespaces.get(&pod.id.namespace).map_or(&[][..], |(_, problems)| problems);
        problems.iter().chain(of_namespace).map(Problem::to_string).collect()
    }

    /// A node, and the addresses that its pods know it by.
    pub(super) fn host(&self, name: &str) -> Option<Host> {
        let node = self.nodes.get(name);
        let pods = self.pods.iter().filter(|source| source.pod.node.as_deref() == Some(name));
        let mut pods = pods.peekable();
        if node.is_none() && pods.peek().is_none() {
            return None;
        }
        let addresses = pods.flat_map(|source| &source.host_addresses).copied();
        Some(Host {
            addresses: addresses.chain(node.into_iter().flat_map(|(_, addresses)| addresses).copied()).collect(),
            labels: node.and_then(|(labels, _)| labels.clone()),
        })
    }

    fn hosts(&self) -> BTreeMap<String, Host> {
        let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
        for (name, (labels, addresses)) in &*self.nodes {
            let host = Host { addresses: addresses.iter().copied().collect(), labels: labels.clone() };
            hosts.insert(name.clone(), host);
        }
        for source in &*self.pods {
            let Some(node) = &source.pod.node else { continue };
            match hosts.get_mut(node) {
                Some(host) => host.addresses.extend(&source.host_addresses),
                None => {
                    let addresses = source.host_addresses.iter().copied().collect();
                    hosts.insert(node.clone(), Host { addresses, labels: None });
                }
            }
        }
        hosts
    }

    /// Workloads without pods stand for them, each as one pod under its own name.
    fn stand_ins(
        &self,
        pods: &[(Arc<Pod>, &[Problem])],
        ended: &BTreeMap<PodRef, &'static str>,
    ) -> Vec<(Arc<Pod>, Vec<Problem>)> {
        if self.workloads.is_empty() {
            return Vec::new();
        }
        let workloads = self.workloads.iter().map(|(_, workload)| workload.clone()).collect();
        let owned: Vec<&Owned> = self.pods.iter().map(|source| &source.owned).collect();
        let mut taken: HashSet<PodRef> = pods.iter().map(|(pod, _)| pod.id.clone()).collect();
        taken.extend(ended.keys().cloned());
        let stand_ins = workload::stand_ins(workloads, &owned).into_iter().map(|stand_in| {
            let stand_in = stand_in.named_apart_from(&taken);
            taken.insert(stand_in.pod.id.clone());
            (Arc::new(stand_in.pod), stand_in.problems)
        });
        stand_ins.collect()
    }

    /// Those of objects, and those of pods: no cluster has a pod outside any namespace; files often leave it out.
    fn all_namespaces(&self, pods: &[(Arc<Pod>, &[Problem])], has_calico: bool) -> BTreeMap<String, Namespace> {
        let mut namespaces: BTreeMap<String, Namespace> =
            self.namespaces.iter().map(|(name, (namespace, _))| (name.clone(), namespace.clone())).collect();
        let mut last = None;
        // They are sorted, so that each namespace comes once.
        for name in pods.iter().map(|(pod, _)| &pod.id.namespace) {
            if last != Some(name) && !namespaces.contains_key(name) {
                namespaces.insert(name.clone(), Namespace::new(name.clone(), Labels::new()));
            }
            last = Some(name);
        }
        if has_calico {
            for namespace in namespaces.values_mut() {
                domain::calico::add(&mut namespace.labels, domain::calico::NAME, &namespace.name);
            }
        }
        namespaces
    }
}

/// Which of two policies is asked first.
pub(super) fn order(a: &Policy, b: &Policy, has_calico: bool) -> Ordering {
    a.rank.cmp(&b.rank).then_with(|| if has_calico { calico::tie(&a.id, &b.id) } else { a.id.cmp(&b.id) })
}

/// Gives pods the labels that Calico would.
pub(super) struct Dresser {
    has_calico: bool,
    /// By the labels before, the namespace and the service account. The labels are kept, so that no other ones can take
    /// their place in memory.
    shared: HashMap<(*const Labels, String, String), Dressed>,
}

struct Dressed {
    _before: Arc<Labels>,
    after: Arc<Labels>,
}

impl Dresser {
    pub(super) fn new(has_calico: bool) -> Self {
        Self { has_calico, shared: HashMap::new() }
    }

    pub(super) fn dress(&mut self, pod: &mut Arc<Pod>) {
        if !self.has_calico {
            return;
        }
        let key = (Arc::as_ptr(&pod.labels), pod.id.namespace.clone(), pod.service_account.clone());
        let dressed = self.shared.entry(key).or_insert_with(|| {
            let mut labels = Labels::clone(&pod.labels);
            domain::calico::add(&mut labels, domain::calico::NAMESPACE, &pod.id.namespace);
            domain::calico::add(&mut labels, domain::calico::ORCHESTRATOR, "k8s");
            domain::calico::add(&mut labels, domain::calico::SERVICE_ACCOUNT, &pod.service_account);
            Dressed { _before: pod.labels.clone(), after: Arc::new(labels) }
        });
        *pod = Arc::new(Pod { labels: dressed.after.clone(), ..Pod::clone(pod) });
    }
}
