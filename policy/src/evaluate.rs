//! Judges a packet by the tables, as the kernel does. The tests hold it against the engine, and the enforcer's tests
//! hold the kernel against it.

use std::net::IpAddr;

use crate::names::Protocol;
use crate::tables::{Decision, Group, GroupSide, Identity, LocalPod, Rest, RuleId, Tables};

/// An end of a connection, as a packet shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An address.
    Address(IpAddr),
    /// The node itself, as a source. As a destination give its address: an ipBlock may name it.
    LocalNode,
}

/// What the tables say of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Judgement {
    /// The source's side; absent where the source is no pod of this node.
    pub egress: Option<Outcome>,
    /// The destination's side; absent where the destination is no pod of this node.
    pub ingress: Option<Outcome>,
}

/// What one side says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// No policy isolates, and no rule decides.
    NotIsolated,
    /// The rule that decided.
    AllowedBy(RuleId),
    /// From the node that the pod runs on.
    FromLocalNode,
    /// Isolated, and no rule decides.
    Denied,
    /// The rule that decided.
    DeniedBy(RuleId),
    /// Something was not understood that may deny it, or may not allow it: denied. The rule, if it was one.
    NotUnderstood(Option<RuleId>),
}

impl Outcome {
    /// Whether it lets the connection pass.
    pub fn is_allowed(self) -> bool {
        match self {
            Self::NotIsolated | Self::AllowedBy(_) | Self::FromLocalNode => true,
            Self::Denied | Self::DeniedBy(_) | Self::NotUnderstood(_) => false,
        }
    }
}

impl Judgement {
    /// Whether this node lets it pass.
    pub fn is_allowed(&self) -> bool {
        [self.egress, self.ingress].into_iter().flatten().all(Outcome::is_allowed)
    }
}

impl Tables {
    /// Judges the first packet of a connection after any Service's translation. A pod's traffic to its own address does
    /// not come this way, since it never leaves the pod, unless it went through a Service: so it is judged here.
    pub fn judge(&self, source: Endpoint, destination: Endpoint, protocol: Protocol, port: u16) -> Judgement {
        let egress =
            self.group_at(source).map(|group| group.egress.judge(self.identity_at(destination), protocol, port));
        let ingress = self.group_at(destination).map(|group| match source {
            Endpoint::LocalNode => Outcome::FromLocalNode,
            Endpoint::Address(_) => group.ingress.judge(self.identity_at(source), protocol, port),
        });
        Judgement { egress, ingress }
    }

    /// Who has this address: a pod, else the longest block, else the world.
    pub fn identity_of(&self, address: IpAddr) -> Identity {
        if let Ok(index) = self.addresses.binary_search_by_key(&address, |(address, _)| *address) {
            return self.addresses[index].1;
        }
        let holding = self.blocks.iter().filter(|(net, _)| net.contains(&address));
        holding.max_by_key(|(net, _)| net.prefix_len()).map_or(Identity::WORLD, |(_, identity)| *identity)
    }

    /// The pod of this node that has this address.
    pub fn local_pod(&self, address: IpAddr) -> Option<&LocalPod> {
        self.pods.iter().find(|pod| pod.addresses.contains(&address))
    }

    fn identity_at(&self, end: Endpoint) -> Identity {
        match end {
            Endpoint::Address(address) => self.identity_of(address),
            Endpoint::LocalNode => Identity::LOCAL_NODE,
        }
    }

    fn group_at(&self, end: Endpoint) -> Option<&Group> {
        match end {
            Endpoint::Address(address) => self.local_pod(address).map(|pod| &self.groups[pod.group.0 as usize]),
            Endpoint::LocalNode => None,
        }
    }
}

impl GroupSide {
    /// What this side says of a connection with a peer. The smallest decision of all that match counts.
    pub fn judge(&self, peer: Identity, protocol: Protocol, port: u16) -> Outcome {
        let matching = self.entries.iter().filter(|entry| {
            entry.peer.is_none_or(|it| it == peer)
                && entry.protocol.is_none_or(|it| it == protocol)
                && entry.ports.is_none_or(|(first, last)| (first..=last).contains(&port))
        });
        let first = matching.map(|entry| entry.decision).min();
        match first.map_or(Decision::Rest(self.rest), |decision| self.decisions[decision.0 as usize]) {
            Decision::Allow(rule) => Outcome::AllowedBy(rule),
            Decision::Deny(rule) => Outcome::DeniedBy(rule),
            Decision::NotUnderstood(rule) => Outcome::NotUnderstood(rule),
            Decision::Rest(Rest::Open) => Outcome::NotIsolated,
            Decision::Rest(Rest::Shut) => Outcome::Denied,
            Decision::Rest(Rest::NotUnderstood) => Outcome::NotUnderstood(None),
        }
    }
}
