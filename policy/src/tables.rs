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

/// Index into [`Tables::rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

/// Index into [`GroupSide::decisions`]. Smaller is earlier: of all entries that match, the smallest is the one that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DecisionId(pub u32);

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
    /// What a [`RuleId`] stands for, in the order in which policies and their rules are asked.
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
    /// What it is as a peer, by each of its addresses: they differ where a block holds one of them and not the other.
    pub identities: Vec<Identity>,
}

/// What one set of policies says in both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Into the pods of this group.
    pub ingress: GroupSide,
    /// Out of the pods of this group.
    pub egress: GroupSide,
}

/// One direction of a group: an ordered list of which the first entry that matches decides.
///
/// Tiers and `Pass` are worked into the list: what a rule passes on stands in its place as what the next tiers say of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSide {
    /// The policies that isolate, whatever else judges. Empty: not isolated.
    pub isolated_by: Vec<PolicyRef>,
    /// What entries come to, in order.
    pub decisions: Vec<Decision>,
    /// What the decisions are about, by decision.
    pub entries: Vec<Entry>,
    /// What no entry matches.
    pub rest: Rest,
}

/// What an entry comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// The rule allows.
    Allow(RuleId),
    /// The rule denies.
    Deny(RuleId),
    /// No rule: as [`GroupSide::rest`] would have it behind all tiers. A rule has passed it on.
    Rest(Rest),
    /// Something was not understood that may bear on it: the rule's own words, whom it speaks of, or who has the address.
    NotUnderstood(Option<RuleId>),
}

/// What becomes of connections on which no rule decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rest {
    /// They are let pass: no policy isolates.
    #[default]
    Open,
    /// They are denied: policies isolate.
    Shut,
    /// They are denied: a policy that was not understood may deny them.
    NotUnderstood,
}

/// What a decision is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// From or to whom; `None`: anyone, whatever its address.
    pub peer: Option<Identity>,
    /// `None`: any protocol, those without ports as well. Then `ports` is `None`, too.
    pub protocol: Option<Protocol>,
    /// First and last destination port, inclusive; `None`: all.
    pub ports: Option<(u16, u16)>,
    /// What it comes to.
    pub decision: DecisionId,
}

impl GroupSide {
    /// Whether anything is judged here: if not, all is open.
    pub fn is_judged(&self) -> bool {
        !self.entries.is_empty() || self.rest.denies()
    }
}

impl Decision {
    /// Whether it denies.
    pub fn denies(self) -> bool {
        match self {
            Self::Allow(_) => false,
            Self::Rest(rest) => rest.denies(),
            Self::Deny(_) | Self::NotUnderstood(_) => true,
        }
    }

    /// The rule that decides, or that was not understood.
    pub fn rule(self) -> Option<RuleId> {
        match self {
            Self::Allow(rule) | Self::Deny(rule) => Some(rule),
            Self::NotUnderstood(rule) => rule,
            Self::Rest(_) => None,
        }
    }
}

impl Rest {
    /// Whether it denies.
    pub fn denies(self) -> bool {
        match self {
            Self::Open => false,
            Self::Shut | Self::NotUnderstood => true,
        }
    }
}
