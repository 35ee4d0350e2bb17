//! Peers: who a rule speaks of, and sets of pods, which policies bear on.

use std::fmt;
use std::net::IpAddr;

use crate::block::IpBlock;
use crate::label::Labels;
use crate::names::Family;
use crate::namespace::Namespace;
use crate::pod::Pod;
use crate::selector::Selector;

/// One item of a rule's `from` or `to`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// Pods by their labels and those of their namespaces.
    Pods(PodSet),
    /// Addresses, be they of pods or not.
    Block(IpBlock),
    /// Pods by their labels **and** addresses: both must match. Calico's rules can say so.
    PodsIn(PodSet, IpBlock),
    /// Nodes by their labels, and with them the pods in their network.
    Nodes(Selector),
}

/// Pods: in these namespaces **and** with these labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodSet {
    /// Which namespaces.
    pub namespaces: Namespaces,
    /// Which of their pods.
    pub pods: Selector,
}

/// Namespaces of a set of pods.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Namespaces {
    /// That of the policy, by its name: there is no `namespaceSelector`.
    Own(String),
    /// All that the `namespaceSelector` selects.
    Selected(Selector),
}

/// Whether something matches, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It asks for something that was not understood, or is not known.
    Maybe,
}

/// The other end of a connection, as a rule sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counterpart<'m> {
    /// The pod and its namespace, where it is one that labels select.
    pub pod: Option<(&'m Pod, &'m Namespace)>,
    /// The node's labels, where it is a node or a pod in its network.
    pub node: Option<NodeLabels<'m>>,
    /// Its address on this connection, if it is known.
    pub address: Option<IpAddr>,
    /// The family of that address, if that is known.
    pub family: Option<Family>,
}

/// The labels of a node.
#[derive(Clone, Copy, Debug)]
pub enum NodeLabels<'m> {
    /// These.
    Known(&'m Labels),
    /// No Node object says.
    Unknown,
}

impl NodeLabels<'_> {
    /// Whether the selector selects the node.
    pub fn meet(self, selector: &Selector) -> Match {
        match self {
            Self::Known(_) | Self::Unknown if selector.is_empty() => Match::Yes,
            Self::Known(labels) => selector.matches(labels).into(),
            Self::Unknown => Match::Maybe,
        }
    }
}

impl Peer {
    /// Whether the other end is in it.
    pub fn matches(&self, other: &Counterpart<'_>) -> Match {
        match self {
            Self::Pods(set) => other.pod.map_or(Match::No, |(pod, namespace)| set.selects(pod, namespace)),
            Self::Block(block) => block.matches(other.address, other.family),
            Self::PodsIn(set, block) => {
                let labels = other.pod.map_or(Match::No, |(pod, namespace)| set.selects(pod, namespace));
                labels.and(|| block.matches(other.address, other.family))
            }
            Self::Nodes(selector) => match other.node {
                None => Match::No,
                Some(node) => node.meet(selector),
            },
        }
    }

    /// One that includes no one.
    pub(crate) fn nobody() -> Self {
        Self::Block(IpBlock::of([], []))
    }

    /// The block it names.
    pub fn block(&self) -> Option<&IpBlock> {
        match self {
            Self::Block(block) | Self::PodsIn(_, block) => Some(block),
            Self::Pods(_) | Self::Nodes(_) => None,
        }
    }

    /// The set of pods it names by labels.
    pub fn pods(&self) -> Option<&PodSet> {
        match self {
            Self::Pods(set) | Self::PodsIn(set, _) => Some(set),
            Self::Block(_) | Self::Nodes(_) => None,
        }
    }
}

impl PodSet {
    /// All pods of one namespace.
    pub fn of_namespace(namespace: String) -> Self {
        Self { namespaces: Namespaces::Own(namespace), pods: Selector::default() }
    }

    /// All pods there are.
    pub fn all() -> Self {
        Self { namespaces: Namespaces::Selected(Selector::default()), pods: Selector::default() }
    }

    /// Whether the pod is in it. Never so for pods in the network of their node: they are node traffic.
    pub fn selects(&self, pod: &Pod, namespace: &Namespace) -> Match {
        if pod.is_host_network {
            return Match::No;
        }
        let there = match &self.namespaces {
            Namespaces::Own(name) => Match::from(*name == pod.id.namespace),
            Namespaces::Selected(selector) => asked(selector, &namespace.labels, namespace.is_understood),
        };
        there.and(|| asked(&self.pods, &pod.labels, pod.is_understood))
    }
}

impl Match {
    /// That both hold.
    pub fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::No => Self::No,
            Self::Yes => other(),
            Self::Maybe => match other() {
                Self::No => Self::No,
                Self::Yes | Self::Maybe => Self::Maybe,
            },
        }
    }

    /// Whether it is certain.
    pub fn is_certain(self) -> bool {
        self == Self::Yes
    }
}

impl From<bool> for Match {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

/// Labels that could not be read match for certain only where nothing is asked.
fn asked(selector: &Selector, labels: &Labels, is_understood: bool) -> Match {
    if selector.is_empty() {
        Match::Yes
    } else if is_understood {
        selector.matches(labels).into()
    } else {
        Match::Maybe
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pods(set) => write!(f, "{set}"),
            Self::Block(block) => write!(f, "{block}"),
            Self::PodsIn(set, block) => write!(f, "{set} with addresses in {block}"),
            Self::Nodes(selector) if selector.is_empty() => f.write_str("all nodes"),
            Self::Nodes(selector) => write!(f, "nodes with {selector}"),
        }
    }
}

impl fmt::Display for PodSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pods.is_empty() {
            f.write_str("all pods")?;
        } else {
            write!(f, "pods with {}", self.pods)?;
        }
        match &self.namespaces {
            Namespaces::Own(name) => write!(f, " of {name}"),
            Namespaces::Selected(selector) if selector.is_empty() => f.write_str(" of all namespaces"),
            Namespaces::Selected(selector) => write!(f, " of namespaces with {selector}"),
        }
    }
}
