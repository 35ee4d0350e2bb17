//! The model compiled for the kernel: identities, address tables and policy groups.
//!
//! A pod's policies are the same as those of every other pod that the same policies select: they share a *group*. Peers
//! that no rule can tell apart share an *identity*. Named ports are already resolved, per identity. Ports of Services do
//! not occur: the kernel judges after translation.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::names::{PodRef, PolicyRef, Protocol, RuleRef};

/// A set of peers that no rule tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub u32);

impl Identity {
    /// An address that is in no table: no pod, in no block that a rule names.
    pub const WORLD: Self = Self(0);
    /// The node that the judged pod runs on.
    pub const LOCAL_NODE: Self = Self(1);
    /// The first that stands for pods or blocks.
    pub const FIRST: Self = Self(2);
}

/// Index into [`Tables::groups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u32);

/// Index into [`Tables::rules`]. Smaller is earlier: where several rules allow, the smallest is the one that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

/// Everything the kernel of one node needs. Addresses, blocks and groups of one `Tables` belong together: an identity
/// means something else in another one, so that they are swapped as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Whole addresses: those of all pods of the cluster that have an address of their own.
    pub addresses: Vec<(IpAddr, Identity)>,
    /// Blocks, for addresses that are not in `addresses`: longest prefix wins. Every prefix that a rule of `groups` names, as a block
    /// or as an exception, is here, with the identity of the addresses whose longest such prefix it is.
    pub blocks: Vec<(IpNet, Identity)>,
    /// What each set of policies says.
    pub groups: Vec<Group>,
    /// The node's own pods.
    pub pods: Vec<LocalPod>,
    /// What a [`RuleId`] stands for, sorted.
    pub rules: Vec<RuleRef>,
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPod {
    /// Which.
    pub pod: PodRef,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its policies.
    pub group: GroupId,
    /// What it is as a peer, by its first address. Where a block holds one of its addresses and not the other, they
    /// differ: `addresses` has both.
    pub identity: Identity,
}

/// What one set of policies says in both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Into the pods of this group.
    pub ingress: GroupSide,
    /// Out of the pods of this group.
    pub egress: GroupSide,
}

/// One direction of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSide {
    /// The policies that isolate. Empty: not isolated, and no entries.
    pub isolated_by: Vec<PolicyRef>,
    /// What is allowed all the same.
    pub entries: Vec<Entry>,
}

/// Allows something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// From or to whom; `None`: anyone, whatever its address.
    pub peer: Option<Identity>,
    /// `None`: any protocol, those without ports as well. Then `ports` is `None`, too.
    pub protocol: Option<Protocol>,
    /// First and last destination port, inclusive; `None`: all.
    pub ports: Option<(u16, u16)>,
    /// The rule it comes from.
    pub rule: RuleId,
}
