//! The field's words as domain types.

use std::fmt;
use std::net::IpAddr;

use serde_json::Value;

use crate::model;
use crate::parse::object::DEFAULT_NAMESPACE;

/// A transport protocol that NetworkPolicy can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
    /// IP protocol 132.
    Sctp,
}

/// Which side of a connection a policy judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Into the selected pod.
    Ingress,
    /// Out of the selected pod.
    Egress,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// 32 bits.
    V4,
    /// 128 bits.
    V6,
}

impl Protocol {
    /// All, in the order of their names in the API.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];
}

impl Family {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// `IPv4` or `IPv6`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// Names a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodRef {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

/// Names a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyRef {
    /// `NetworkPolicy`; with its group where Kubernetes has a kind of the same name: `NetworkPolicy.projectcalico.org`.
    pub kind: &'static str,
    /// Absent for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
}

/// Names one rule of a policy, by indices as they stand in the manifest, from 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleRef {
    /// The policy that holds it.
    pub policy: PolicyRef,
    /// `spec.ingress` or `spec.egress`.
    pub direction: Direction,
    /// Index in that list.
    pub rule: u32,
    /// Index in `from` or `to`; absent where the rule names no peer.
    pub peer: Option<u32>,
    /// Index in `ports`; absent where the rule names no port.
    pub port: Option<u32>,
}

/// Names an object that matters to policies.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectRef {
    /// A namespace, by its name.
    Namespace(String),
    /// A node, by its name.
    Node(String),
    /// A pod.
    Pod(PodRef),
    /// A policy of any kind.
    Policy(PolicyRef),
    /// What makes pods from a template.
    Workload {
        /// `Deployment` and the like.
        kind: &'static str,
        /// `metadata.namespace`.
        namespace: String,
        /// `metadata.name`.
        name: String,
    },
    /// A NetworkSet, GlobalNetworkSet or HostEndpoint of Calico's.
    AddressSet {
        /// One of these words.
        kind: &'static str,
        /// `metadata.namespace`; absent for cluster-scoped kinds.
        namespace: Option<String>,
        /// `metadata.name`.
        name: String,
    },
}

impl ObjectRef {
    /// The name of a Kubernetes object. `None`: it has none, or no bearing on policies.
    pub fn of(object: &Value) -> Option<Self> {
        model::name_of(object)
    }

    pub(crate) fn workload(kind: &'static str, value: &Value) -> Self {
        let text = |path: &str| value.pointer(path).and_then(Value::as_str);
        let namespace = text("/metadata/namespace").unwrap_or(DEFAULT_NAMESPACE).to_owned();
        Self::Workload { kind, namespace, name: text("/metadata/name").unwrap_or_default().to_owned() }
    }
}

impl PolicyRef {
    /// Names a NetworkPolicy.
    pub fn network_policy(namespace: &str, name: &str) -> Self {
        Self { kind: "NetworkPolicy", namespace: Some(namespace.to_owned()), name: name.to_owned() }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}
