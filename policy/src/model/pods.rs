//! The pods of a cluster, and what can be worked out of them whatever the policies say: which of them are alike, and which run where.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::{Arc, OnceLock};

use crate::label::Labels;
use crate::model::PodIndex;
use crate::pod::Pod;
use crate::port::NamedPorts;

/// Sorted by name. Models that differ in policies only share them, with all that has been worked out; a change of pods brings that up
/// to date.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pods {
    list: Vec<Arc<Pod>>,
    kinds: OnceLock<Kinds>,
    /// Those with a network of their own.
    by_node: OnceLock<HashMap<String, Vec<PodIndex>>>,
}

/// Pods that no rule can tell apart but by their addresses: they have a namespace, labels and names of ports in common. Two kinds
/// may have as well, but seldom do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kinds {
    /// Of each pod.
    of_pod: Vec<Kind>,
    /// One pod of each; perhaps there is none any more, and this is what it was.
    specimens: Vec<Arc<Pod>>,
    known: Arc<HashMap<Alike, Kind>>,
    /// How many there were when they were made from scratch: changes leave some behind that no pod is of.
    from_scratch: usize,
}

/// Index into [`Kinds::specimens`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Kind(u32);

/// Compares pods by what makes their kind. Labels that are shared are compared by where they are.
#[derive(Clone, Debug)]
struct Alike(Arc<Pod>);

impl Pods {
    pub(super) fn new(list: Vec<Arc<Pod>>) -> Self {
        Self { list, ..Self::default() }
    }

    pub(super) fn insert(&mut self, at: usize, pod: Arc<Pod>) {
        if let Some(kinds) = self.kinds.get_mut() {
            let kind = kinds.kind_of(&pod);
            kinds.of_pod.insert(at, kind);
        }
        if let Some(by_node) = self.by_node.get_mut() {
            let pods = by_node.values_mut().flatten();
            pods.filter(|index| index.0 >= at).for_each(|index| index.0 += 1);
        }
        self.list.insert(at, pod);
        self.note_node(at);
        self.forget_what_is_gone();
    }

    pub(super) fn remove(&mut self, at: usize) {
        if let Some(kinds) = self.kinds.get_mut() {
            kinds.of_pod.remove(at);
        }
        self.forget_node(at);
        if let Some(by_node) = self.by_node.get_mut() {
            let pods = by_node.values_mut().flatten();
            pods.filter(|index| index.0 > at).for_each(|index| index.0 -= 1);
        }
        self.list.remove(at);
    }

    pub(super) fn replace(&mut self, at: usize, pod: Arc<Pod>) {
        if let Some(kinds) = self.kinds.get_mut() {
            kinds.of_pod[at] = kinds.kind_of(&pod);
        }
        self.forget_node(at);
        self.list[at] = pod;
        self.note_node(at);
        self.forget_what_is_gone();
    }

    fn forget_what_is_gone(&mut self) {
        if self.kinds.get().is_some_and(|kinds| kinds.specimens.len() > 2 * kinds.from_scratch + 256) {
            self.kinds = OnceLock::new();
        }
    }

    fn note_node(&mut self, at: usize) {
        if let (Some(by_node), Some(node)) = (self.by_node.get_mut(), own_node(&self.list[at])) {
            let pods = by_node.entry(node.to_owned()).or_default();
            let place = pods.partition_point(|index| index.0 < at);
            pods.insert(place, PodIndex(at));
        }
    }

    fn forget_node(&mut self, at: usize) {
        if let (Some(by_node), Some(node)) = (self.by_node.get_mut(), own_node(&self.list[at]))
            && let Some(pods) = by_node.get_mut(node)
        {
            pods.retain(|index| index.0 != at);
        }
    }

    pub(crate) fn kinds(&self) -> &Kinds {
        self.kinds.get_or_init(|| Kinds::of(&self.list))
    }

    /// Those that run on a node and have a network of their own, ascending.
    pub(crate) fn on_node(&self, node: &str) -> &[PodIndex] {
        let by_node = self.by_node.get_or_init(|| {
            let mut by_node: HashMap<String, Vec<PodIndex>> = HashMap::new();
            for (at, pod) in self.list.iter().enumerate() {
                let Some(node) = own_node(pod) else { continue };
                match by_node.get_mut(node) {
                    Some(pods) => pods.push(PodIndex(at)),
                    None => drop(by_node.insert(node.to_owned(), vec![PodIndex(at)])),
                }
            }
            by_node
        });
        by_node.get(node).map_or(&[], Vec::as_slice)
    }

    /// Where those of a namespace are: they follow each other.
    pub(crate) fn of_namespace(&self, namespace: &str) -> Range<usize> {
        let first = self.list.partition_point(|pod| pod.id.namespace.as_str() < namespace);
        let count = self.list[first..].partition_point(|pod| pod.id.namespace == namespace);
        first..first + count
    }
}

impl Deref for Pods {
    type Target = [Arc<Pod>];

    fn deref(&self) -> &[Arc<Pod>] {
        &self.list
    }
}

/// The node of a pod that has a network of its own.
fn own_node(pod: &Pod) -> Option<&str> {
    pod.node.as_deref().filter(|_| !pod.is_host_network)
}

impl Kinds {
    fn of(pods: &[Arc<Pod>]) -> Self {
        let mut kinds = Self::default();
        kinds.of_pod = pods.iter().map(|pod| kinds.kind_of(pod)).collect();
        kinds.from_scratch = kinds.specimens.len();
        kinds
    }

    fn kind_of(&mut self, pod: &Arc<Pod>) -> Kind {
        let alike = Alike(pod.clone());
        if let Some(kind) = self.known.get(&alike) {
            return *kind;
        }
        let kind = Kind(u32::try_from(self.specimens.len()).expect("a cluster has fewer than 2^32 pods"));
        Arc::make_mut(&mut self.known).insert(alike, kind);
        self.specimens.push(pod.clone());
        kind
    }

    pub(crate) fn of_pod(&self, index: PodIndex) -> Kind {
        self.of_pod[index.0]
    }

    /// A pod of each kind, in the order of the kinds.
    pub(crate) fn specimens(&self) -> &[Arc<Pod>] {
        &self.specimens
    }
}

impl Kind {
    pub(crate) fn number(self) -> usize {
        self.0 as usize
    }
}

impl Alike {
    fn parts(&self) -> (*const Labels, bool, bool, &str, &NamedPorts) {
        let Self(pod) = self;
        (Arc::as_ptr(&pod.labels), pod.is_host_network, pod.is_understood, &pod.id.namespace, &pod.ports)
    }
}

impl PartialEq for Alike {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Alike {}

impl Hash for Alike {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::names::PodRef;
    use crate::names::Protocol;

    /// One of a few shapes: labels, node, port, whether it is in its node's network.
    type Shape = (usize, u8, bool, bool);

    fn pod(name: u8, (labels, node, has_port, is_host_network): Shape, all: &[Arc<Labels>]) -> Arc<Pod> {
        let mut ports = NamedPorts::default();
        if has_port {
            ports.insert(Protocol::Tcp, "web", 80);
        }
        Arc::new(Pod {
            id: PodRef { namespace: format!("n{}", name % 2), name: format!("p{name}") },
            labels: all[labels].clone(),
            node: (node > 0).then(|| format!("m{node}")),
            node_addresses: Vec::new(),
            is_host_network,
            addresses: Vec::new(),
            ports,
            service_account: String::new(),
            is_understood: true,
        })
    }

    proptest! {
        /// Law: after any changes pods are as alike, and where they are, as if all had been there from the start.
        #[test]
        fn a_change_leaves_what_is_worked_out_from_scratch(
            changes in prop::collection::vec((0_u8..12, prop::option::of((0_usize..3, 0_u8..3, any::<bool>(), any::<bool>()))), 1..40),
        ) {
            let labels: Vec<Arc<Labels>> = (0..3).map(|_| Arc::new(Labels::new())).collect();
            let mut pods = Pods::default();
            pods.kinds();
            pods.on_node("m1");
            for (name, shape) in changes {
                let coming = shape.map(|shape| pod(name, shape, &labels));
                let id = PodRef { namespace: format!("n{}", name % 2), name: format!("p{name}") };
                match (pods.binary_search_by(|pod| pod.id.cmp(&id)), coming) {
                    (Ok(at), Some(pod)) => pods.replace(at, pod),
                    (Ok(at), None) => pods.remove(at),
                    (Err(at), Some(pod)) => pods.insert(at, pod),
                    (Err(_), None) => {}
                }
                prop_assert!(pods.kinds.get().is_some() && pods.by_node.get().is_some(), "nothing is worked out anew");
                let afresh = Pods::new(pods.list.clone());
                let alike = |pods: &Pods| -> Vec<Vec<bool>> {
                    let of = |at: usize| pods.kinds().of_pod(PodIndex(at));
                    (0..pods.len()).map(|one| (0..pods.len()).map(|other| of(one) == of(other)).collect()).collect()
                };
                prop_assert_eq!(alike(&pods), alike(&afresh));
                for node in ["m1", "m2"] {
                    prop_assert_eq!(pods.on_node(node), afresh.on_node(node));
                }
                for (at, pod) in pods.iter().enumerate() {
                    let specimen = &pods.kinds().specimens()[pods.kinds().of_pod(PodIndex(at)).number()];
                    prop_assert!(Alike(pod.clone()) == Alike(specimen.clone()));
                }
            }
        }
    }
}
