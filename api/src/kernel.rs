//! What the enforcer reports.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::flow::{Decision, Direction, IpProtocol, PolicyRef, RuleRef};

/// One verdict of the kernel: on the first packet of a flow, or on a denied packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowEvent {
    /// The node whose kernel judged.
    pub node: String,
    /// What it decided.
    pub decision: Decision,
    /// Which side decided, where it denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// The protocol.
    pub protocol: IpProtocol,
    /// Source address and port as judged.
    pub source: SocketAddr,
    /// Destination address and port as judged: after the Service's translation.
    pub destination: SocketAddr,
    /// The pod that sent it, `namespace/name`, where it is a local one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_pod: Option<String>,
    /// The pod that it is for, `namespace/name`, where it is a local one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_pod: Option<String>,
    /// The rule that allowed or denied, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleRef>,
    /// Where it denied, and no rule did: the policies that isolate the pod on that side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub isolated_by: Vec<PolicyRef>,
    /// Why, where neither a rule nor an isolation decided: `spoofed-source`, `map-full`, `unparsable`, ..., or
    /// `not-understood`, where a policy (the rule, if it is one) may deny it and the engine cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The generation of the tables that judged.
    pub generation: u32,
    /// When the agent read it, by the clock of the node, in Unix microseconds: up to 20 ms after an allowed flow began.
    pub at_us: u64,
}

/// How the programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// bpf_link on tcx, kernel 6.6 and newer.
    Tcx,
    /// A filter on the clsact qdisc.
    Clsact,
}

/// The enforcer's own condition on one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EnforcerStatus {
    /// The node.
    pub node: String,
    /// Programs are attached to every local pod and the newest tables are live.
    pub enforcing: bool,
    /// How; absent until the first program is attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach: Option<AttachMode>,
    /// The generation that the kernel uses.
    pub generation: u32,
    /// The newest `resourceVersion` of any policy that this generation holds.
    pub policies_version: u64,
    /// Local pods under enforcement. A user who does not see all namespaces is not told: 0.
    pub pods: u32,
    /// From the policy's arrival at the enforcer to the flip of the generation, in microseconds: the last change.
    pub last_apply_us: u64,
    /// What is wrong, one sentence each, with the object's name: empty when all is well.
    pub problems: Vec<String>,
    /// Events that the ring buffer had no room for, since the start.
    pub lost_events: u64,
    /// How often something was put back that somebody else had removed from the kernel, since the start.
    #[serde(default)]
    pub mended: u64,
    /// How the server hears of it; absent in what an enforcer says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<NodeLink>,
}

/// How the server hears of an enforcer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLink {
    /// The enforcer's version.
    pub version: String,
    /// When that which `lost` tells began: Unix milliseconds.
    pub since_ms: u64,
    /// Absent: connected. Else why nothing is heard of it any more: what stands beside this is then its last word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// Since when it lacks a change of policies that the server knows, Unix milliseconds; absent: it has them all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_since_ms: Option<u64>,
    /// From a question of the server's to the answer over the stream, in microseconds: the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u64>,
    /// Verdicts that fell and did not come through the stream, since the server heard of the node first.
    #[serde(default)]
    pub left_out: u64,
}

/// How long a new pod had an interface, and no policies in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// `namespace/name`.
    pub pod: String,
    /// Whether it was shut meanwhile (strict mode), and not open.
    pub shut: bool,
    /// From the moment the interface was seen to the flip of the generation that holds the pod, in microseconds.
    pub us: u64,
    /// Packets, from it and for it, that passed meanwhile without a judgement.
    pub passed: u64,
    /// Packets, from it and for it, that were dropped meanwhile. What its own node sends it is in neither number.
    pub dropped: u64,
}

/// Counts of verdicts, kept by the kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictCount {
    /// `namespace/name` of the pod, or the address of whoever sent.
    pub source: String,
    /// `namespace/name` of the pod, or the address of whoever it was for.
    pub destination: String,
    /// The protocol.
    pub protocol: IpProtocol,
    /// The destination's port, after translation; 0 where the protocol has none.
    pub port: u16,
    /// Flows that were allowed.
    pub allowed: u64,
    /// Packets that were denied.
    pub denied: u64,
}
