//! The answers of the engine.

use crate::names::{Direction, PolicyRef, RuleRef};

/// What the policies say of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the source's policies say; absent where the source is no pod that a policy can select.
    pub egress: Option<Side>,
    /// What the destination's policies say; absent where the destination is no pod that a policy can select.
    pub ingress: Option<Side>,
    /// What could not be understood and bears on this connection. Not empty: the verdict is neither allowed nor denied.
    pub unknown: Vec<String>,
}

impl Verdict {
    /// `Some(true)`: both sides allow; `Some(false)`: one denies; `None`: it cannot be judged.
    pub fn allowed(&self) -> Option<bool> {
        let sides = [&self.egress, &self.ingress];
        if sides.into_iter().flatten().any(|side| !side.is_allowed()) && self.unknown.is_empty() {
            return Some(false);
        }
        self.unknown.is_empty().then_some(true)
    }
}

/// What one direction says, and what decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// No policy isolates the pod in this direction, and no rule of another tier decides: everything is allowed.
    NotIsolated(Direction),
    /// This rule allows: the first by tier, policy, rule, peer and port. With the policies that isolate the pod.
    AllowedBy(RuleRef, Vec<PolicyRef>),
    /// This rule of a ClusterNetworkPolicy, or another kind that can deny, shuts it.
    DeniedBy(RuleRef),
    /// A pod to itself by its own address, or its own node to it: no policy can forbid that.
    AlwaysAllowed(Direction, &'static str),
    /// Isolated by these policies, and no rule allows.
    Denied {
        /// Which side.
        direction: Direction,
        /// The policies that isolate the pod, in order of their names.
        isolated_by: Vec<PolicyRef>,
        /// The rule that came closest; absent where none of them has a rule in this direction.
        nearest: Option<NearestMiss>,
    },
}

impl Side {
    /// Whether this side lets the connection pass.
    pub fn is_allowed(&self) -> bool {
        match self {
            Self::NotIsolated(_) | Self::AllowedBy(..) | Self::AlwaysAllowed(..) => true,
            Self::DeniedBy(_) | Self::Denied { .. } => false,
        }
    }
}

/// The rule that came closest to allowing, and what differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearestMiss {
    /// The rule.
    pub rule: RuleRef,
    /// One sentence for people: "allows TCP 8080, not TCP 9000", "its peer needs tier=front, frontend has tier=back".
    pub difference: String,
}
