//! The parsed cluster, and the questions it answers.

use std::net::IpAddr;

use serde_json::Value;

use crate::names::{PodRef, Protocol};
use crate::tables::Tables;
use crate::verdict::Verdict;

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// A pod of the cluster.
    Pod(PodRef),
    /// Anything else, by its address.
    Address(IpAddr),
    /// The node that the other end, a pod, runs on.
    LocalNode,
}

/// Namespaces, pods and policies, parsed once. Immutable: a change makes a new one.
#[derive(Clone, Debug, Default)]
pub struct Cluster {}

impl Cluster {
    /// Reads Kubernetes objects: Namespace, Pod, NetworkPolicy. Other kinds are passed over. Never fails: what it
    /// cannot understand is in [`Cluster::unknowns`], and whatever that bears on is judged unknown.
    pub fn from_objects<'a>(_objects: impl IntoIterator<Item = &'a Value>) -> Self {
        Self {}
    }

    /// What could not be understood: the object's name, the field's path, the reason.
    pub fn unknowns(&self) -> &[String] {
        &[]
    }

    /// What the policies say of a connection to `port` (the pod's own, after any Service's translation).
    pub fn verdict(&self, _from: &Party, _to: &Party, _protocol: Protocol, _port: u16) -> Verdict {
        Verdict { egress: None, ingress: None, unknown: vec!["placeholder".to_owned()] }
    }

    /// The pods that a policy selects; empty where there is no such policy.
    pub fn selected_by(&self, _namespace: &str, _policy: &str) -> Vec<PodRef> {
        Vec::new()
    }

    /// One line for people: whom the policy selects and what it allows.
    pub fn summary(&self, _namespace: &str, _policy: &str) -> Option<String> {
        None
    }

    /// Compiles the tables for one node.
    pub fn compile(&self, _node: &str) -> Tables {
        Tables::default()
    }
}
