//! The parsed cluster with its indices: which policies bear on which pod.
//!
//! - `read`: objects become sources, one by one. `change`: some of them change, and what has not changed is shared.
//! - `pods`: the pods, and which of them are alike. `stand`: which policies bear on which pod.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

mod addresses;
mod change;
mod other_policies;
mod pods;
mod read;
mod stand;

use crate::block::IpBlock;
use crate::label::Labels;
use crate::names::{Direction, Family, ObjectRef, PodRef, PolicyRef};
use crate::namespace::Namespace;
use crate::parse::problem::{Problem, Reason};
use crate::peer::{Match, NodeLabels, Peer};
use crate::pod::Pod;
use crate::policy::{BrokenPolicy, Policy};
use crate::turns::{self, Turn};
use addresses::{Addresses, Clash};
use pods::Pods;
use read::{Reader, Sources};
use stand::Standings;

/// Index into [`Model::pods`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PodIndex(usize);

impl PodIndex {
    pub(crate) fn at(number: usize) -> Self {
        Self(number)
    }

    pub(crate) fn number(self) -> usize {
        self.0
    }
}

/// Everything that was read. A change makes another one, which shares what did not change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// Those of objects, and those that pods are in although no object says so.
    pub namespaces: Arc<BTreeMap<String, Namespace>>,
    pub pods: Arc<Pods>,
    /// In the order in which they are asked: sorted by rank, then by name.
    pub policies: Vec<Arc<Policy>>,
    /// Not understood; sorted by name.
    pub broken: Vec<Arc<BrokenPolicy>>,
    /// Pods that have ended, with their phase.
    pub ended: Arc<BTreeMap<PodRef, &'static str>>,
    /// The nodes, by name.
    pub hosts: Arc<BTreeMap<String, Host>>,
    /// All that was not understood.
    pub problems: Vec<Problem>,
    /// The same, as text.
    pub unknowns: Vec<String>,
    /// Which pod has an address; without those that several pods claim.
    pub by_address: Arc<Addresses>,
    /// Addresses that several pods claim, with what to say about it.
    pub shared_addresses: BTreeMap<IpAddr, String>,
    /// The family of addresses that are not known: that of all that are, if it is one.
    pub family: Option<Family>,
    pod_unknowns: HashMap<PodIndex, Vec<String>>,
    /// Worked out when first asked for.
    standings: OnceLock<Standings>,
    /// Addresses of nodes of which the name is not known, with a pod that runs there. Worked out when first asked for.
    nameless_nodes: OnceLock<BTreeMap<IpAddr, PodIndex>>,
    /// What all of this was made from.
    sources: Sources,
}

/// A node, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    pub addresses: BTreeSet<IpAddr>,
    /// Absent where no Node object has told them.
    pub labels: Option<Labels>,
}

/// Which node something runs on, as far as that is known.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NodeOf<'m> {
    /// It is this one.
    Name(&'m str),
    /// That of a pod.
    Pod(&'m Pod),
    /// No one can tell.
    Nobody,
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

/// The name of an object, if it has one and matters here.
pub(crate) fn name_of(object: &Value) -> Option<ObjectRef> {
    Reader::default().read(object)
}

impl Model {
    pub(crate) fn read<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        let objects: Vec<&Value> = objects.into_iter().collect();
        let mut reader = Reader::of(objects.iter().copied());
        for value in objects {
            reader.read(value);
        }
        reader.finish().model()
    }

    /// Without what was worked out.
    pub(crate) fn unclassified(&self) -> Self {
        Self { standings: OnceLock::new(), ..self.clone() }
    }

    /// With objects of which nothing is known but that they may be there.
    pub(crate) fn with_unread(&self, sentences: impl IntoIterator<Item = String>) -> Self {
        let mut model = self.unclassified();
        let sentences: Vec<String> = sentences.into_iter().collect();
        model.unknowns.extend(sentences.iter().cloned());
        Arc::make_mut(&mut model.sources.nameless).extend(sentences);
        model
    }

    /// Objects that do not even say whom they bear on.
    fn nameless(&self) -> &[String] {
        &self.sources.nameless
    }

    /// Two claims of an address are a contradiction: then nobody is told by that address.
    fn note_clash(&mut self, Clash { address, before, index }: Clash) {
        let problem = Problem {
            object: format!("Pod {}", self.pods[index.0].id),
            path: "status.podIPs".to_owned(),
            reason: Reason::SharedAddress {
                address: address.to_string(),
                other: format!("Pod {}", self.pods[before.0].id),
            },
            index: None,
        };
        let text = problem.to_string();
        for index in [before, index] {
            self.pod_unknowns.entry(index).or_default().push(text.clone());
        }
        self.shared_addresses.insert(address, text);
        self.problems.push(problem);
    }

    /// The family of addresses that nobody knows: that of all known ones, if it is one; without any, IPv4, unless policies
    /// name blocks of IPv6.
    fn only_family(&self) -> Option<Family> {
        let pods = self.pods.iter().flat_map(|pod| &pod.addresses);
        let hosts = self.hosts.values().flat_map(|host| &host.addresses);
        let mut families = pods.chain(hosts).copied().map(Family::of);
        if let Some(first) = families.next() {
            return families.all(|family| family == first).then_some(first);
        }
        let rules = self.policies.iter().flat_map(|policy| policy.all_rules());
        let blocks = rules.flat_map(|rule| &rule.peers).filter_map(Peer::block);
        let has_v6 = blocks.flat_map(IpBlock::prefixes).any(|net| Family::of(net.addr()) == Family::V6);
        (!has_v6).then_some(Family::V4)
    }

    /// All families that addresses which nobody knows may be of.
    pub(crate) fn families(&self) -> &'static [Family] {
        match self.family {
            Some(Family::V4) => &[Family::V4],
            Some(Family::V6) => &[Family::V6],
            None => &[Family::V4, Family::V6],
        }
    }

    /// Whether something of the pod was not understood, and it is one that labels select.
    pub(crate) fn is_unread(&self, index: PodIndex) -> bool {
        !self.pod(index).is_host_network && !self.unknowns_of(index).is_empty()
    }

    pub(crate) fn pod(&self, index: PodIndex) -> &Pod {
        &self.pods[index.0]
    }

    pub(crate) fn pod_indices(&self) -> impl Iterator<Item = PodIndex> + use<> {
        (0..self.pods.len()).map(PodIndex)
    }

    pub(crate) fn find(&self, id: &PodRef) -> Option<PodIndex> {
        self.pods.binary_search_by(|pod| pod.id.cmp(id)).ok().map(PodIndex)
    }

    /// The pods of a namespace.
    pub(crate) fn pods_of(&self, namespace: &str) -> &[Arc<Pod>] {
        &self.pods[self.pods.of_namespace(namespace)]
    }

    pub(crate) fn namespace_of(&self, pod: &Pod) -> &Namespace {
        self.namespaces.get(&pod.id.namespace).expect("every pod's namespace was added with the pod")
    }

    /// The name of a node: a pod names it, or an address of the node's that one node alone has.
    pub(crate) fn node_name<'a>(&'a self, node: &NodeOf<'a>) -> Option<&'a str> {
        match node {
            NodeOf::Name(name) => Some(name),
            NodeOf::Pod(Pod { node: Some(name), .. }) => Some(name),
            NodeOf::Pod(pod) => {
                let has = |host: &Host| pod.node_addresses.iter().any(|address| host.addresses.contains(address));
                let mut named = self.hosts.iter().filter(|(_, host)| !pod.node_addresses.is_empty() && has(host));
                named.next().filter(|_| named.next().is_none()).map(|(name, _)| name.as_str())
            }
            NodeOf::Nobody => None,
        }
    }

    /// The node that has an address.
    pub(crate) fn node_at(&self, address: IpAddr) -> Option<NodeOf<'_>> {
        let named = self.hosts.iter().find(|(_, host)| host.addresses.contains(&address));
        let named = named.map(|(name, _)| NodeOf::Name(name));
        named.or_else(|| self.nameless_nodes().get(&address).map(|index| NodeOf::Pod(self.pod(*index))))
    }

    /// The addresses that [`Model::hosts`] do not have, since only pods tell them that name no node.
    pub(crate) fn nameless_nodes(&self) -> &BTreeMap<IpAddr, PodIndex> {
        self.nameless_nodes.get_or_init(|| {
            let all =
                self.pod_indices().flat_map(|index| self.pod(index).node_addresses.iter().map(move |it| (*it, index)));
            let is_known = |address: &IpAddr| self.hosts.values().any(|host| host.addresses.contains(address));
            all.filter(|(address, _)| !is_known(address)).collect()
        })
    }

    /// Whether a pod runs on a node.
    pub(crate) fn runs_on(&self, index: PodIndex, node: &NodeOf<'_>) -> Match {
        let pod = self.pod(index);
        match (self.node_name(&NodeOf::Pod(pod)), self.node_name(node), node) {
            (Some(own), Some(name), _) => (own == name).into(),
            (_, _, NodeOf::Pod(other)) if other.id == pod.id => Match::Yes,
            (None, None, NodeOf::Pod(other)) => {
                let is_shared = pod.node_addresses.iter().any(|address| other.node_addresses.contains(address));
                if is_shared { Match::Yes } else { Match::Maybe }
            }
            (_, _, _) => Match::Maybe,
        }
    }

    /// The turns of a pod's policies: places in [`Standing::policies`].
    pub(crate) fn turns(&self, standing: &Standing, direction: Direction) -> Vec<Turn> {
        turns::turns(standing.policies.iter().map(|at| &*self.policies[*at]), direction)
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
        self.standings().of(index, direction)
    }

    /// The same by number: pods with one number have one standing.
    pub(crate) fn standing_number(&self, index: PodIndex, direction: Direction) -> u32 {
        self.standings().number(index, direction)
    }

    /// How many numbers there are.
    pub(crate) fn standing_count(&self) -> usize {
        self.standings().len()
    }

    fn standings(&self) -> &Standings {
        self.standings.get_or_init(|| Standings::of_all(self))
    }
}

impl Standing {
    /// Whether any policy isolates, certain or not.
    pub(crate) fn isolates(&self, policies: &[Arc<Policy>]) -> bool {
        !self.uncertain.is_empty() || self.policies.iter().any(|index| policies[*index].rank.tier.isolates())
    }

    /// All that isolate, certain or not, in order of their names.
    pub(crate) fn isolated_by(&self, policies: &[Arc<Policy>]) -> Vec<PolicyRef> {
        let isolating = self.policies.iter().map(|index| &policies[*index]).filter(|it| it.rank.tier.isolates());
        let mut names: Vec<PolicyRef> = isolating.map(|policy| policy.id.clone()).collect();
        names.extend(self.uncertain.iter().cloned());
        names.sort_unstable();
        names.dedup();
        names
    }
}
