//! Ports: of rules, and of pods.

use std::fmt;

use crate::names::Protocol;

/// One item of a rule's `ports`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRule {
    /// Of which protocol; `None`: of any, as ClusterNetworkPolicy's named ports are.
    pub protocol: Option<Protocol>,
    /// Which ports of that protocol.
    pub ports: Ports,
}

/// Destination ports of one protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ports {
    /// All of them.
    All,
    /// From the first to the last, inclusive.
    Range(PortRange),
    /// Whatever the destination pod calls so.
    Named(String),
}

/// A range that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// `None` if it starts at 0 or ends before it starts.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first >= 1 && first <= last).then_some(Self { first, last })
    }

    /// First and last port, inclusive.
    pub fn bounds(self) -> (u16, u16) {
        (self.first, self.last)
    }

    /// Whether the port lies in it.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// What a pod calls its ports. One name may stand for several numbers: in another protocol, or in another container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamedPorts {
    /// Ascending, each once. Pods have few: a list is smaller than a map, and as quick.
    list: Vec<(Protocol, String, u16)>,
}

impl NamedPorts {
    /// Adds a number to a name.
    pub fn insert(&mut self, protocol: Protocol, name: &str, number: u16) {
        let place = self.list.binary_search_by(|(p, n, it)| (*p, n.as_str(), *it).cmp(&(protocol, name, number)));
        if let Err(at) = place {
            self.list.insert(at, (protocol, name.to_owned(), number));
        }
    }

    /// The numbers behind a name, in order. None: the pod has no such port.
    pub fn resolve<'a>(&'a self, protocol: Protocol, name: &'a str) -> impl Iterator<Item = u16> + 'a {
        self.iter().filter(move |(p, n, _)| *p == protocol && *n == name).map(|(_, _, number)| number)
    }

    /// All names with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Protocol, &str, u16)> {
        self.list.iter().map(|(protocol, name, number)| (*protocol, name.as_str(), *number))
    }
}

impl PortRule {
    /// The protocols it speaks of.
    pub fn protocols(&self) -> impl Iterator<Item = Protocol> {
        let own = self.protocol;
        Protocol::ALL.into_iter().filter(move |protocol| own.is_none_or(|own| own == *protocol))
    }

    /// Whether it allows this port of a destination that calls its ports so. A destination that is no pod has no names.
    pub fn matches(&self, protocol: Protocol, port: u16, names: Option<&NamedPorts>) -> bool {
        self.protocol.is_none_or(|own| own == protocol)
            && match &self.ports {
                Ports::All => true,
                Ports::Range(range) => range.contains(port),
                Ports::Named(name) => {
                    names.is_some_and(|names| names.resolve(protocol, name).any(|number| number == port))
                }
            }
    }
}

/// Whether Kubernetes takes this as the name of a port.
pub(crate) fn is_port_name(name: &str) -> bool {
    name.len() <= 15
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && name.chars().any(|c| c.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

impl fmt::Display for PortRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol: &dyn fmt::Display = match &self.protocol {
            Some(protocol) => protocol,
            None => &"any protocol",
        };
        match &self.ports {
            Ports::All => write!(f, "{protocol}"),
            Ports::Range(PortRange { first, last }) if first == last => write!(f, "{protocol} {first}"),
            Ports::Range(PortRange { first, last }) => write!(f, "{protocol} {first}-{last}"),
            Ports::Named(name) => write!(f, "{protocol} \"{name}\""),
        }
    }
}
