//! The words that every other module uses.

use serde::{Deserialize, Serialize};

/// A transport protocol that NetworkPolicy can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// Transmission Control Protocol, IP protocol 6.
    Tcp,
    /// User Datagram Protocol, IP protocol 17.
    Udp,
    /// Stream Control Transmission Protocol, IP protocol 132.
    Sctp,
}

/// An IP protocol: those that NetworkPolicy can name, and the others that a kernel judges as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum IpProtocol {
    /// One with ports.
    Transport(Protocol),
    /// IP protocol 1. An echo has its identifier in place of both ports.
    Icmp,
    /// IP protocol 58. As [`IpProtocol::Icmp`].
    Icmpv6,
    /// Any other, by its number.
    Other(u8),
}

impl IpProtocol {
    /// The one that has ports, if it is one.
    pub const fn transport(self) -> Option<Protocol> {
        match self {
            Self::Transport(protocol) => Some(protocol),
            Self::Icmp | Self::Icmpv6 | Self::Other(_) => None,
        }
    }
}

impl From<u8> for IpProtocol {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Icmp,
            6 => Self::Transport(Protocol::Tcp),
            17 => Self::Transport(Protocol::Udp),
            58 => Self::Icmpv6,
            132 => Self::Transport(Protocol::Sctp),
            other => Self::Other(other),
        }
    }
}

impl From<Protocol> for IpProtocol {
    fn from(protocol: Protocol) -> Self {
        Self::Transport(protocol)
    }
}

impl std::fmt::Display for IpProtocol {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Transport(protocol) => formatter.write_str(protocol.as_str()),
            Self::Icmp => formatter.write_str("ICMP"),
            Self::Icmpv6 => formatter.write_str("ICMPv6"),
            Self::Other(number) => write!(formatter, "{number}"),
        }
    }
}

impl From<IpProtocol> for String {
    fn from(protocol: IpProtocol) -> Self {
        protocol.to_string()
    }
}

impl TryFrom<String> for IpProtocol {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "TCP" => Ok(Self::Transport(Protocol::Tcp)),
            "UDP" => Ok(Self::Transport(Protocol::Udp)),
            "SCTP" => Ok(Self::Transport(Protocol::Sctp)),
            "ICMP" => Ok(Self::Icmp),
            "ICMPv6" => Ok(Self::Icmpv6),
            other => other.parse::<u8>().map(Self::from).map_err(|_| format!("{other:?} is no IP protocol")),
        }
    }
}

impl Protocol {
    /// The name that Kubernetes manifests use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which side of a connection a policy judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Into the selected pod.
    Ingress,
    /// Out of the selected pod.
    Egress,
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// The answer of a judge: engine or kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Both directions allow.
    Allowed,
    /// At least one direction denies.
    Denied,
}

/// Names a policy object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PolicyRef {
    /// `NetworkPolicy`, `ClusterNetworkPolicy`, ...
    pub kind: String,
    /// Absent for cluster-scoped kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
}

impl std::fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(ns) => write!(f, "{ns}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Names one rule of a policy: the one that decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleRef {
    /// The policy that holds the rule.
    pub policy: PolicyRef,
    /// `spec.ingress` or `spec.egress`.
    pub direction: Direction,
    /// Index in `spec.ingress` or `spec.egress`, from 0.
    pub rule: u32,
    /// Index in the rule's `from` or `to`, from 0; absent where the rule names no peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<u32>,
    /// Index in the rule's `ports`, from 0; absent where the rule names no port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
}

impl std::fmt::Display for RuleRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}[{}]", self.policy, self.direction, self.rule)?;
        if let Some(peer) = self.peer {
            let list = match self.direction {
                Direction::Ingress => "from",
                Direction::Egress => "to",
            };
            write!(f, ".{list}[{peer}]")?;
        }
        Ok(())
    }
}
