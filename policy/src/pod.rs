//! Pods.

use std::net::IpAddr;
use std::sync::Arc;

use crate::label::Labels;
use crate::names::PodRef;
use crate::port::NamedPorts;

/// A pod that has a network: neither Succeeded nor Failed. One that terminates has it until it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub id: PodRef,
    /// `metadata.labels`, shared by pods that have the same.
    pub labels: Arc<Labels>,
    /// The node it runs on, once it has one.
    pub node: Option<String>,
    /// Where the node's name is not known: its addresses, as far as the pod tells them (`status.hostIPs`).
    pub node_addresses: Vec<IpAddr>,
    /// Whether its traffic is the node's: no policy selects it, and it is in no peer by label.
    pub is_host_network: bool,
    /// Its addresses, in the order of `status.podIPs`. Those of the node if it is in the node's network.
    pub addresses: Vec<IpAddr>,
    /// What it calls its ports.
    pub ports: NamedPorts,
    /// `spec.serviceAccountName`; Kubernetes fills in `default`.
    pub service_account: String,
    /// Whether its labels could be read. If not, no selector that asks something selects it for certain.
    pub is_understood: bool,
}

impl Pod {
    /// Its address of the family that `like` belongs to.
    pub fn address_like(&self, like: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == like.is_ipv4())
    }
}
