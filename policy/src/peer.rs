//! Peers: who a rule speaks of.

use std::fmt;
use std::net::IpAddr;

use crate::block::IpBlock;
use crate::namespace::Namespace;
use crate::pod::Pod;
use crate::selector::Selector;

/// One item of a rule's `from` or `to`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// Pods: in these namespaces **and** with these labels.
    Pods {
        /// Which namespaces.
        namespaces: Namespaces,
        /// Which of their pods.
        pods: Selector,
    },
    /// Addresses, be they of pods or not.
    Block(IpBlock),
}

/// The namespaces of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Namespaces {
    /// That of the policy, by its name: the peer has no `namespaceSelector`.
    Own(String),
    /// All that the `namespaceSelector` selects.
    Selected(Selector),
}

impl Peer {
    /// Whether the pod is in it by namespace and labels. Labels that could not be read match only where nothing is asked.
    pub fn selects(&self, pod: &Pod, namespace: &Namespace) -> bool {
        match self {
            Self::Pods { namespaces, pods } => {
                let there = match namespaces {
                    Namespaces::Own(name) => *name == pod.id.namespace,
                    Namespaces::Selected(selector) => {
                        selector.is_empty() || (namespace.is_understood && selector.matches(&namespace.labels))
                    }
                };
                there && (pods.is_empty() || (pod.is_understood && pods.matches(&pod.labels)))
            }
            Self::Block(_) => false,
        }
    }

    /// Whether the address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Pods { .. } => false,
            Self::Block(block) => block.contains(address),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(block) => write!(f, "{block}"),
            Self::Pods { namespaces, pods } => {
                if pods.is_empty() {
                    f.write_str("all pods")?;
                } else {
                    write!(f, "pods with {pods}")?;
                }
                match namespaces {
                    Namespaces::Own(name) => write!(f, " of {name}"),
                    Namespaces::Selected(selector) if selector.is_empty() => f.write_str(" of all namespaces"),
                    Namespaces::Selected(selector) => write!(f, " of namespaces with {selector}"),
                }
            }
        }
    }
}
