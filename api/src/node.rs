//! What an enforcer answers at its socket, about its own node.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::flow::{Direction, PolicyRef, Protocol, RuleRef};
use crate::kernel::{EnforcerStatus, Exposure};

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its condition.
    #[serde(flatten)]
    pub status: EnforcerStatus,
    /// Everything is let pass: what a policy would deny is reported only.
    pub audit: bool,
    /// Policies that are in audit: they decide nothing, and what they would deny is reported.
    #[serde(default)]
    pub policies_in_audit: Vec<String>,
    /// The kernel's tables and how full they are.
    pub maps: Vec<MapFill>,
    /// What was told of verdicts, and what was left out.
    pub events: EventTally,
    /// The node's pods, bound ones first, in order of their names.
    pub local_pods: Vec<PodRow>,
    /// How long the newest pods had to wait for their policies, and what passed meanwhile; the latest last.
    #[serde(default)]
    pub exposures: Vec<Exposure>,
    /// Policies that are not enforced entirely.
    pub conditions: Vec<Condition>,
    /// What the agent cannot do besides enforcing, one sentence each: it may not write Events, for example.
    #[serde(default)]
    pub notices: Vec<String>,
    /// The stream to the server, where one is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<UplinkReport>,
}

/// The stream to the server, as the enforcer sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkReport {
    /// The server's address.
    pub server: String,
    /// Whether the server takes what it is told.
    pub connected: bool,
    /// Since when it is so, Unix milliseconds.
    pub since_ms: u64,
    /// Where it is not connected: why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The server's version; absent before it was connected first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// How often it was connected.
    pub connections: u64,
    /// Verdicts that were written to the server.
    pub sent: u64,
    /// Verdicts that fell and were not: the server was away, or too slow.
    pub left_out: u64,
    /// Verdicts that wait to be written: how far the server lags.
    pub waiting: u64,
    /// Frames of the server's whose type is not known here.
    pub unknown_frames: u64,
}

/// How full one of the kernel's tables is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapFill {
    /// Its name in the kernel programs.
    pub name: String,
    /// Entries, counted just now.
    pub entries: u64,
    /// Entries at most.
    pub capacity: u64,
}

/// Verdicts that were told and those that were not, since the start. Every verdict that is worth an event (a new flow, and a packet
/// that was denied) is in exactly one of `told`, `suppressed` and `lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTally {
    /// Events that were read from the kernel.
    pub told: u64,
    /// Left out in the kernel, since the same flow was told of less than half a second before.
    pub suppressed: u64,
    /// Lost in the kernel, since the ring buffer was full.
    pub lost: u64,
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRow {
    /// `namespace/name`.
    pub pod: String,
    /// The index of its host interface; absent while it is not found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<u32>,
    /// What the kernel holds for it; absent where that is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
}

/// What the kernel does with connections of a pod that no rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Into the pod.
    pub ingress: Rest,
    /// Out of the pod.
    pub egress: Rest,
    /// Its policies did not fit into the kernel's tables: what they would judge is denied.
    pub unfit: bool,
}

/// What becomes of connections that no rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rest {
    /// No policy has a word on them.
    Unjudged,
    /// They are let pass.
    Open,
    /// They are denied: policies isolate the pod.
    Shut,
    /// They are denied: a policy that was not understood may deny them.
    NotUnderstood,
}

/// A policy that is not enforced as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Kind and name, `NetworkPolicy backend/dbsvc`; or the pod that suffers.
    pub object: String,
    /// The field's path; empty: the object as a whole.
    pub path: String,
    /// One word for machines: `NotUnderstood`, `MapFull`.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
}

/// What kind of verdict an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The first packet of a flow was let pass.
    NewFlow,
    /// A packet was denied.
    Denied,
    /// A packet of a flow that had been allowed was denied.
    Cut,
    /// Audit: a packet was let pass that would be denied.
    WouldBeDenied,
}

impl EventKind {
    /// The word in events, metrics and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NewFlow => "new-flow",
            Self::Denied => "denied",
            Self::Cut => "cut",
            Self::WouldBeDenied => "would-be-denied",
        }
    }
}

/// One verdict of the kernel: a line of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeEvent {
    /// The node whose kernel judged.
    pub node: String,
    /// What kind of verdict.
    pub kind: EventKind,
    /// `TCP`, `UDP`, `SCTP`, `ICMP`, `ICMPv6`, else the number of the IP protocol.
    pub protocol: String,
    /// Source address and port as judged; for ICMP echo the identifier, else 0.
    pub source: SocketAddr,
    /// Destination address and port as judged: after the Service's translation.
    pub destination: SocketAddr,
    /// The pod that sent it, where it is a local one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_pod: Option<String>,
    /// The pod that it is for, where it is a local one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_pod: Option<String>,
    /// Which side decided, where it denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// What decided.
    #[serde(flatten)]
    pub cause: Cause,
    /// Denials of this flow that were left out since the last event of it.
    #[serde(default)]
    pub suppressed: u32,
    /// The generation of the tables that judged.
    pub generation: u32,
    /// When it was read, by the clock of the node, in microseconds since 1970.
    pub at_us: u64,
}

/// What decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The rule, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleRef>,
    /// Where it denied, and no rule did: the policies that isolate the pod on that side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub isolated_by: Vec<PolicyRef>,
    /// Why, where neither a rule nor an isolation decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A line of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EventLine {
    /// A verdict.
    Event(Box<NodeEvent>),
    /// This many events were left out of this stream, since its reader was too slow. They are no part of [`EventTally::lost`].
    Skipped {
        /// How many.
        skipped: u64,
    },
}

/// `GET /v1/flows`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowList {
    /// Flows, the least idle first.
    pub flows: Vec<LiveFlow>,
    /// Flows that fit the question; more than `flows` has where a limit was given.
    pub total: u64,
}

/// A flow in the kernel's table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveFlow {
    /// As in [`NodeEvent::protocol`].
    pub protocol: String,
    /// Who opened it.
    pub source: SocketAddr,
    /// To whom: after the Service's translation.
    pub destination: SocketAddr,
    /// The local pod that opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_pod: Option<String>,
    /// The local pod that it was opened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_pod: Option<String>,
    /// The node itself opened it.
    #[serde(default)]
    pub from_node: bool,
    /// The rule that allows it out of the source; absent where no rule was needed, or where it is not known any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_rule: Option<RuleRef>,
    /// The same into the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_rule: Option<RuleRef>,
    /// What it is now.
    pub state: FlowState,
    /// Seconds since its last packet, by the enforcer's coarse clock: one second more or less.
    pub idle_s: u32,
    /// The generation of the tables that judged it last. A flow that is silent is judged again with its next packet.
    pub generation: u32,
}

/// What a flow is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowState {
    /// Its packets pass.
    Live,
    /// It is judged again with its next packet: the tables have changed since its last one.
    Unconfirmed,
    /// Its packets pass since the node is in audit: they would be denied.
    Audited,
    /// It was allowed once, and is not any more.
    Cut,
    /// It was silent for so long that its next packet is judged as that of a new flow.
    Stale,
}

/// `GET /v1/policy?pod=…`: what the kernel has for a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodReport {
    /// `namespace/name`.
    pub pod: String,
    /// Its host interface.
    pub interface: u32,
    /// Its addresses, as the kernel knows them.
    pub addresses: Vec<std::net::IpAddr>,
    /// The generation that was read.
    pub generation: u32,
    /// The number of its set of policies in the kernel.
    pub group: u32,
    /// Its policies did not fit into the kernel's tables: what they would judge is denied.
    pub unfit: bool,
    /// Into the pod.
    pub ingress: SideReport,
    /// Out of the pod.
    pub egress: SideReport,
    /// The same with the policies that are in audit, where there are any for this pod: it decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditReport>,
}

/// What the policies in audit would make of a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditReport {
    /// The number of the set of policies in the kernel.
    pub group: u32,
    /// Into the pod.
    pub ingress: SideReport,
    /// Out of the pod.
    pub egress: SideReport,
}

/// One direction of a pod's tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideReport {
    /// The policies that isolate.
    pub isolated_by: Vec<PolicyRef>,
    /// In the order in which they decide.
    pub decisions: Vec<DecisionReport>,
    /// What becomes of what none of them matches.
    pub rest: Rest,
}

/// A decision and what it is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionReport {
    /// Its index: of all that match, the smallest decides.
    pub index: u32,
    /// `allow`, `deny`, or `not-understood`, which denies.
    pub action: Action,
    /// The rule; absent where no rule decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleRef>,
    /// Entries of the kernel's tables that lead to it, as far as they were asked for.
    pub entries: Vec<EntryReport>,
    /// Entries that lead to it.
    pub entry_count: u64,
}

/// What a decision does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It lets pass.
    Allow,
    /// It denies.
    Deny,
    /// Something was not understood: it denies.
    NotUnderstood,
}

impl Action {
    /// The word in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::NotUnderstood => "not understood",
        }
    }
}

/// One entry of the kernel's tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EntryReport {
    /// Whom it speaks of: addresses and blocks that have the identity in the kernel, a few of them; `any` and `node` are words.
    pub peers: Vec<String>,
    /// How many addresses and blocks have the identity.
    pub peer_count: u64,
    /// `None`: any protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// First and last port; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<(u16, u16)>,
}

/// `GET /v1/trace?from=…&to=…&protocol=…&port=…`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceReport {
    /// Who opens the connection: `namespace/name` or an address.
    pub from: String,
    /// To whom.
    pub to: String,
    /// Between which addresses.
    pub source: SocketAddr,
    /// See `source`.
    pub destination: SocketAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// What the engine says of it.
    pub engine: Opinion,
    /// What this node's programs do with its first packet; absent where they do not see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Opinion>,
    /// The programs that the packet went through, in order.
    pub steps: Vec<TraceStep>,
    /// Whether both say the same of what is judged on this node; absent where the kernel was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agree: Option<bool>,
    /// What a reader must know, one sentence each.
    pub notes: Vec<String>,
}

/// What one of the judges says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Opinion {
    /// Absent: it cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<bool>,
    /// Which side denies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// What decided.
    #[serde(flatten)]
    pub cause: Cause,
    /// The same in one sentence.
    pub sentence: String,
}

/// A program that was run on the packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceStep {
    /// Its name.
    pub program: String,
    /// The interface that it stands at.
    pub interface: u32,
    /// Whether it let the packet pass.
    pub passes: bool,
}
