//! Pods, and addresses outside, that no policy tells apart: one of each kind answers for all of its kind.
//!
//! What one end may reach at another depends on which policies bear on either end, on which peers match either end, on the
//! names of the destination's ports and on the families of both. Ends that are the same in all of this are of one kind. A
//! picture of a large cluster needs one question for each pair of kinds, not for each pair of pods.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use crate::analyze::{self, AddressRange};
use crate::block::IpBlock;
use crate::judge::End;
use crate::label::Labels;
use crate::model::{Model, NodeOf, PodIndex, Standing};
use crate::names::{Direction, Family};
use crate::peer::{Counterpart, Match, Peer, PodSet};
use crate::port::NamedPorts;
use crate::selector::Selector;

/// Addresses that no policy tells apart, pods and nodes aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// All of them, ascending.
    pub ranges: Vec<AddressRange>,
    /// One of them that is no pod's and no node's.
    pub sample: IpAddr,
}

/// The kind of each pod, by number from 0, in the order of the pods. Two different pods of one kind may reach, and be
/// reached by, the same at any third end, and each other as any other two of their kinds.
pub(crate) fn pods(model: &Model) -> Vec<usize> {
    let asked = Asked::of(model);
    let is_node_asked = model.pods.iter().any(|pod| pod.is_host_network);
    let mut by_labels: HashMap<LabelKey<'_>, usize> = HashMap::new();
    let mut label_parts: HashMap<Vec<Match>, usize> = HashMap::new();
    let mut block_parts: HashMap<Vec<Match>, usize> = HashMap::new();
    let mut kinds: HashMap<Kind<'_>, usize> = HashMap::new();
    let indices = model.pod_indices();
    let numbered = indices.map(|index| {
        let pod = model.pod(index);
        let key = LabelKey {
            namespace: &pod.id.namespace,
            labels: &pod.labels,
            is_understood: pod.is_understood,
            host: pod.is_host_network.then_some(node(model, index)),
        };
        let labels = *by_labels.entry(key).or_insert_with(|| {
            let other = counterpart(model, index, None, None);
            number(&mut label_parts, asked.labels_of(&other))
        });
        let first = pod.addresses.first().copied();
        let of = |family: Family| pod.addresses.iter().copied().find(|address| Family::of(*address) == family);
        let questions = [(of(Family::V4), Some(Family::V4)), (of(Family::V6), Some(Family::V6)), (first, None)];
        let blocks = questions.map(|(address, family)| asked.blocks_of(&counterpart(model, index, address, family)));
        let blocks = number(&mut block_parts, blocks.concat());
        let kind = Kind {
            labels,
            blocks,
            families: pod.addresses.iter().copied().map(Family::of).collect(),
            standings: Direction::ALL.map(|direction| model.standing(index, direction)),
            ports: &pod.ports,
            has_unknowns: !model.unknowns_of(index).is_empty(),
            is_host: pod.is_host_network,
            node: is_node_asked.then(|| (node(model, index), pod.node_addresses.as_slice())),
        };
        number(&mut kinds, kind)
    });
    numbered.collect()
}

/// All addresses of the families in use that are no pod's and no node's, by kind; in the order of their first ones. With
/// several models: cut where any of them cuts, and put together where none tells them apart.
pub(crate) fn outside(models: &[&Model]) -> Vec<Outside> {
    let asked: Vec<Asked<'_>> = models.iter().map(|model| Asked::of(model)).collect();
    let mut kinds: HashMap<(Family, Vec<Match>), usize> = HashMap::new();
    let mut outside: Vec<Outside> = Vec::new();
    for range in analyze::ranges(models) {
        // Where pods or nodes have all of the addresses there is nothing outside.
        let Some(sample) = range.free_address(models) else { continue };
        let family = Family::of(sample);
        let other = Counterpart { address: Some(sample), family: Some(family), ..Counterpart::default() };
        let answers: Vec<Match> = asked.iter().flat_map(|asked| asked.blocks_of(&other)).collect();
        let kind = number(&mut kinds, (family, answers));
        match outside.get_mut(kind) {
            Some(known) => known.ranges.push(range),
            None => outside.push(Outside { ranges: vec![range], sample }),
        }
    }
    outside
}

/// Everything that policies ask of the other end.
struct Asked<'m> {
    blocks: BTreeSet<&'m IpBlock>,
    pods: BTreeSet<&'m PodSet>,
    nodes: BTreeSet<&'m Selector>,
}

/// All that selectors can tell of a pod.
#[derive(PartialEq, Eq, Hash)]
struct LabelKey<'m> {
    namespace: &'m str,
    labels: &'m Labels,
    is_understood: bool,
    /// Set for pods in the network of their node: its name, if that is known.
    host: Option<Option<&'m str>>,
}

/// All that makes a difference.
#[derive(PartialEq, Eq, Hash)]
struct Kind<'m> {
    labels: usize,
    blocks: usize,
    families: Vec<Family>,
    standings: [&'m Standing; 2],
    ports: &'m NamedPorts,
    has_unknowns: bool,
    is_host: bool,
    /// Set where there are pods in the network of their node: that always reaches its own pods. Its name, if it is known, else
    /// its addresses.
    node: Option<(Option<&'m str>, &'m [IpAddr])>,
}

impl<'m> Asked<'m> {
    fn of(model: &'m Model) -> Self {
        let rules = model.policies.iter().flat_map(|policy| policy.all_rules());
        let peers: Vec<&Peer> = rules.flat_map(|rule| &rule.peers).collect();
        let nodes = peers.iter().filter_map(|peer| match peer {
            Peer::Nodes(selector) => Some(selector),
            Peer::Pods(_) | Peer::Block(_) | Peer::PodsIn(..) => None,
        });
        Self {
            blocks: peers.iter().filter_map(|peer| peer.block()).collect(),
            pods: peers.iter().filter_map(|peer| peer.pods()).collect(),
            nodes: nodes.collect(),
        }
    }

    fn labels_of(&self, other: &Counterpart<'_>) -> Vec<Match> {
        let pods = self.pods.iter().map(|set| match other.pod {
            Some((pod, namespace)) => set.selects(pod, namespace),
            None => Match::No,
        });
        let nodes = self.nodes.iter().map(|selector| Peer::Nodes((*selector).clone()).matches(other));
        pods.chain(nodes).collect()
    }

    fn blocks_of(&self, other: &Counterpart<'_>) -> Vec<Match> {
        self.blocks.iter().map(|block| block.matches(other.address, other.family)).collect()
    }
}

fn counterpart(model: &Model, index: PodIndex, address: Option<IpAddr>, family: Option<Family>) -> Counterpart<'_> {
    let pod = model.pod(index);
    if pod.is_host_network {
        let node = Some(model.node_labels(node(model, index)));
        return Counterpart { pod: None, node, address, family: family.or(model.family) };
    }
    End::Pod(index, pod).counterpart(model, address, family)
}

/// The name of the node that a pod runs on, if it is known.
fn node(model: &Model, index: PodIndex) -> Option<&str> {
    model.node_name(&NodeOf::Pod(model.pod(index)))
}

/// The number of something, counted from 0 in the order of appearance.
fn number<T: Eq + Hash>(known: &mut HashMap<T, usize>, thing: T) -> usize {
    let next = known.len();
    *known.entry(thing).or_insert(next)
}
