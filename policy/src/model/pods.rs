//! The pods of a cluster, and what can be worked out of them whatever the policies say: which of them are alike, and which run where.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::{Arc, OnceLock};

use crate::model::PodIndex;
use crate::pod::Pod;

/// Sorted by name. Models that differ in policies only share them, with all that has been worked out.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    list: Vec<Arc<Pod>>,
    kinds: OnceLock<Kinds>,
    by_node: OnceLock<HashMap<String, Vec<PodIndex>>>,
}

/// Pods that no rule can tell apart but by their addresses: they have a namespace, labels and names of ports in common. Two kinds
/// may have as well, but seldom do.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    /// Of each pod.
    of_pod: Vec<Kind>,
    /// The first pod of each.
    first: Vec<PodIndex>,
}

/// Index into what [`Kinds::specimens`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Kind(u32);

/// Compares pods by what makes their kind. Labels that are shared are compared by where they are.
struct Alike<'p>(&'p Pod);

impl Pods {
    pub(super) fn new(list: Vec<Arc<Pod>>) -> Self {
        Self { list, ..Self::default() }
    }

    /// To change them: what was worked out is forgotten.
    pub(super) fn change(&mut self) -> &mut Vec<Arc<Pod>> {
        (self.kinds, self.by_node) = (OnceLock::new(), OnceLock::new());
        &mut self.list
    }

    pub(crate) fn kinds(&self) -> &Kinds {
        self.kinds.get_or_init(|| Kinds::of(&self.list))
    }

    /// Those that run on a node and have a network of their own.
    pub(crate) fn on_node(&self, node: &str) -> &[PodIndex] {
        let by_node = self.by_node.get_or_init(|| {
            let mut by_node: HashMap<String, Vec<PodIndex>> = HashMap::new();
            for (at, pod) in self.list.iter().enumerate().filter(|(_, pod)| !pod.is_host_network) {
                match pod.node.as_deref().map(|node| (node, by_node.get_mut(node))) {
                    Some((_, Some(pods))) => pods.push(PodIndex(at)),
                    Some((node, None)) => drop(by_node.insert(node.to_owned(), vec![PodIndex(at)])),
                    None => {}
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

/// A copy is made to be changed.
impl Clone for Pods {
    fn clone(&self) -> Self {
        Self::new(self.list.clone())
    }
}

impl Deref for Pods {
    type Target = [Arc<Pod>];

    fn deref(&self) -> &[Arc<Pod>] {
        &self.list
    }
}

impl Kinds {
    fn of(pods: &[Arc<Pod>]) -> Self {
        let mut kinds = Self { of_pod: Vec::with_capacity(pods.len()), first: Vec::new() };
        let mut known: HashMap<Alike<'_>, Kind> = HashMap::new();
        for (at, pod) in pods.iter().enumerate() {
            let kind = known.entry(Alike(pod)).or_insert_with(|| {
                kinds.first.push(PodIndex(at));
                Kind(u32::try_from(kinds.first.len() - 1).expect("a cluster has fewer than 2^32 pods"))
            });
            kinds.of_pod.push(*kind);
        }
        kinds
    }

    pub(crate) fn of_pod(&self, index: PodIndex) -> Kind {
        self.of_pod[index.0]
    }

    /// One pod of each kind, in the order of the kinds.
    pub(crate) fn specimens(&self) -> &[PodIndex] {
        &self.first
    }
}

impl Kind {
    pub(crate) fn number(self) -> usize {
        self.0 as usize
    }
}

impl Alike<'_> {
    fn parts(&self) -> (*const (), bool, bool, &str, &crate::port::NamedPorts) {
        let Self(pod) = self;
        let labels = Arc::as_ptr(&pod.labels).cast();
        (labels, pod.is_host_network, pod.is_understood, &pod.id.namespace, &pod.ports)
    }
}

impl PartialEq for Alike<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Alike<'_> {}

impl Hash for Alike<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}
