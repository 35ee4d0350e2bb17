//! One cell of the matrix and the facts that stand side by side in it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::flow::{Decision, Direction, PolicyRef, Protocol, RuleRef};

/// Names one cell: one connection that is tried again and again.
///
/// `from` and `to` are [`crate::state::Endpoint`] ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CellKey {
    /// The pod (or outside host) that connects.
    pub from: String,
    /// The pod, Service or outside host that is connected to.
    pub to: String,
    /// The port that is connected to: a Service's port where `to` is a Service.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// What a probe saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The peer answered.
    Open,
    /// The peer answered with a reset, or with ICMP port unreachable, although it has a listener there; where nobody can
    /// be asked for one, as outside the cluster, [`ProbeFact::detail`] says so.
    Refused,
    /// No answer; see [`Evidence`] for how that is known.
    Dropped,
    /// ICMP says that there is no way there.
    Unreachable,
    /// The name did not resolve: nothing is said about the connection.
    DnsFailed,
    /// Refused, and the peer's own control probe finds nobody listening on that port, or there is no ready backend.
    NoListener,
    /// The probe itself could not run: nothing is said about the connection.
    ProbeBroken,
}

impl Outcome {
    /// The word that tables, JSON and JUnit print.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Refused => "refused",
            Self::Dropped => "dropped",
            Self::Unreachable => "unreachable",
            Self::DnsFailed => "dns-failed",
            Self::NoListener => "no-listener",
            Self::ProbeBroken => "probe-broken",
        }
    }

    /// What the outcome says of policies; `None` where it says nothing of them.
    pub const fn decision(self) -> Option<Decision> {
        match self {
            Self::Open | Self::Refused | Self::NoListener => Some(Decision::Allowed),
            Self::Dropped => Some(Decision::Denied),
            Self::Unreachable | Self::DnsFailed | Self::ProbeBroken => None,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How an [`Outcome`] is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// The peer's own answer, or an error that the kernel returned for this connection.
    Answer,
    /// The enforcer's event for this very packet; for [`Outcome::DnsFailed`], for the question to the DNS server.
    KernelEvent,
    /// Nothing came within the time given: weaker than the others.
    Timeout,
}

/// What the probe saw the last time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeFact {
    /// What happened.
    pub outcome: Outcome,
    /// How that is known.
    pub evidence: Evidence,
    /// From the first packet to the peer's answer, in microseconds; only for [`Outcome::Open`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
    /// The source address that the peer saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_source: Option<IpAddr>,
    /// For a connection to a Service: the pod that it went to, as an endpoint id, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// What went wrong, in words: the resolver's answer, the exec's error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When the probe ended.
    pub at_ms: u64,
}

/// What the engine says of one direction of a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideFact {
    /// Which side.
    pub direction: Direction,
    /// What this side says.
    pub decision: Decision,
    /// The rule that allows; absent where the pod is not isolated in this direction, or where nothing allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleRef>,
    /// The policies that isolate the pod in this direction. Empty: not isolated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub isolated_by: Vec<PolicyRef>,
    /// Where this side denies: the rule that came closest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest_miss: Option<NearestMiss>,
}

/// The rule that came closest to allowing a connection, and what differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NearestMiss {
    /// The rule; absent where no isolating policy has any rule in this direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleRef>,
    /// One sentence for people: what differs.
    pub difference: String,
}

/// What the policies say of a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpecFact {
    /// Both sides together. Absent where it cannot be judged: see `unknown`.
    pub decision: Option<Decision>,
    /// One sentence for people.
    pub summary: String,
    /// What each judged side says. A side outside the cluster is not judged.
    pub sides: Vec<SideFact>,
    /// Why it cannot be judged: what was not understood, with the object's name and the field's path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// What the enforcer decided on this cell's own packets, the last time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelFact {
    /// What it decided.
    pub decision: Decision,
    /// Which side decided, where it denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// The rule that allowed or denied, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleRef>,
    /// Where it denied, and no rule did: the policies that isolate the pod on that side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub isolated_by: Vec<PolicyRef>,
    /// The generation of the tables that judged: of the first of `nodes`.
    pub generation: u32,
    /// When.
    pub at_ms: u64,
    /// The nodes whose kernels said so, the one that decided first. Generations are each node's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeGeneration>,
}

/// A node that judged, and by which tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeGeneration {
    /// The node.
    pub node: String,
    /// The generation of its tables.
    pub generation: u32,
}

/// Whether the facts of a cell agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Agreement {
    /// Every fact that is known says the same, and the probe's is known.
    Agree,
    /// Two facts contradict each other.
    Disagree,
    /// Too little is known to say: no probe yet, a change under way, DNS failed, the probe is broken.
    Unsettled,
}

/// One cell of the matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Which.
    pub key: CellKey,
    /// What the probe saw; absent until the first round ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeFact>,
    /// What the policies say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<SpecFact>,
    /// What the enforcer decided; absent where nobody enforces, or before its first packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelFact>,
    /// Whether the three agree.
    pub agreement: Agreement,
    /// Since when the cell is as it is: decision and outcome.
    pub since_ms: u64,
}
