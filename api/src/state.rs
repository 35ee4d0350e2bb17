//! The whole picture that a browser starts from, and the events that change it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::cell::{Cell, CellKey};
use crate::flow::Protocol;
use crate::kernel::EnforcerStatus;
use crate::session::Viewer;

/// What an [`Endpoint`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointKind {
    /// A pod: connects, and is connected to by its own address.
    Pod,
    /// A Service: is connected to by its name.
    Service,
    /// A host outside the cluster.
    Outside,
}

/// A port that something listens on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EndpointPort {
    /// The number.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// The port's name, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A row or a column of the matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `pod:frontend/web-5c…`, `service:frontend/web`, `outside:database`.
    pub id: String,
    /// What it is.
    pub kind: EndpointKind,
    /// Absent outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
    /// For a pod: what owns it in the end (`frontend/web`), or its own name. For others `namespace/name` or `outside/name`.
    pub workload: String,
    /// Its addresses; for a Service the cluster's.
    pub addresses: Vec<IpAddr>,
    /// What it listens on.
    pub ports: Vec<EndpointPort>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Pods: ready. Services: has a ready backend. Outside: true.
    pub ready: bool,
    /// Probes start from here.
    pub vantage: bool,
    /// For a Service: the ids of the pods behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<String>,
    /// What is wrong with it, in words: restarting, exec failed, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A namespace and its labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceInfo {
    /// `metadata.name`.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A policy as the API server holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyInfo {
    /// `NetworkPolicy`.
    pub kind: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.resourceVersion`, to apply an edit against.
    pub resource_version: String,
    /// The manifest as YAML, without `managedFields` and `status`, ready to edit.
    pub yaml: String,
    /// One line: whom it selects and what it allows.
    pub summary: String,
    /// Pods that it selects, as endpoint ids.
    pub selects: Vec<String>,
    /// What the engine could not understand in it, with the field's path.
    pub unknown: Vec<String>,
}

/// DNS as each vantage point sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DnsFact {
    /// The vantage point's endpoint id.
    pub from: String,
    /// The name that was asked for.
    pub name: String,
    /// Whether it resolved.
    pub ok: bool,
    /// In microseconds.
    pub latency_us: u64,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When.
    pub at_ms: u64,
}

/// One pass over all cells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundInfo {
    /// Counts from 1.
    pub number: u64,
    /// Why it ran: `start`, `interval`, `policy-change`, `pod-change`, `asked`.
    pub cause: String,
    /// When it began.
    pub started_ms: u64,
    /// When it ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// Cells tried. For a user who does not see all namespaces: no more than those that they see.
    pub cells: u32,
}

/// One step of a lesson.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LessonStep {
    /// Counts from 0.
    pub number: u32,
    /// A few words.
    pub title: String,
    /// What it does and what to look at.
    pub text: String,
    /// What is applied, as YAML; empty for step 0.
    pub yaml: String,
    /// Everything that this step wants applied is applied as it wants it.
    pub applied: bool,
}

/// Whether anybody enforces the policies, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    /// Nothing that policies shut has been tried, or what was tried says one thing here and another there.
    #[default]
    Unknown,
    /// An enforcer of Signalbox reports.
    Signalbox,
    /// None reports, and what policies shut is shut: whoever made the network enforces them.
    Other,
    /// None reports, policies exist, and every probe that they should stop came through.
    Nobody,
}

/// The whole picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Where the event stream stands: pass it as `Last-Event-ID`, or `?after=`.
    pub seq: u64,
    /// `lab` or the cluster's name.
    pub cluster: String,
    /// Signalbox's version.
    pub version: String,
    /// This client may change things. With users of Kubernetes: changes are taken from those who have the right.
    pub writable: bool,
    /// Whom the server takes this client for; absent where it tells no users apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewer: Option<Viewer>,
    /// The cluster's namespaces.
    pub namespaces: Vec<NamespaceInfo>,
    /// Rows and columns.
    pub endpoints: Vec<Endpoint>,
    /// Cells.
    pub cells: Vec<Cell>,
    /// Policies.
    pub policies: Vec<PolicyInfo>,
    /// DNS, from each vantage point.
    pub dns: Vec<DnsFact>,
    /// The last round, or the one under way.
    pub round: RoundInfo,
    /// One per node. Empty: nobody enforces as far as Signalbox can see.
    pub enforcers: Vec<EnforcerStatus>,
    /// Whether anybody enforces the policies.
    #[serde(default)]
    pub enforcement: Enforcement,
    /// The lesson's steps; none where the cluster that it is about is not there.
    pub lesson: Vec<LessonStep>,
    /// What is wrong with the server's own sight: watch lost, API server away.
    pub problems: Vec<String>,
}

/// One change of the picture. Sent by SSE as `data:` with the event's `id:` = `seq`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "kebab-case")]
pub enum Event {
    /// Start anew from this: sent first, and whenever the client's position is gone.
    Snapshot(Box<Snapshot>),
    /// Cells that are new or changed.
    Cells(Vec<Cell>),
    /// Cells that are gone.
    CellsGone(Vec<CellKey>),
    /// A probe of this cell has begun or ended: drawn as a dot that runs along the line.
    Flows(Vec<FlowPulse>),
    /// All endpoints, anew.
    Endpoints(Vec<Endpoint>),
    /// All namespaces, anew.
    Namespaces(Vec<NamespaceInfo>),
    /// All policies, anew.
    Policies(Vec<PolicyInfo>),
    /// DNS facts, anew.
    Dns(Vec<DnsFact>),
    /// A round began or ended.
    Round(RoundInfo),
    /// All enforcers, anew.
    Enforcers(Vec<EnforcerStatus>),
    /// Whether anybody enforces the policies.
    Enforcement(Enforcement),
    /// The lesson's steps, anew.
    Lesson(Vec<LessonStep>),
    /// The server's problems, anew.
    Problems(Vec<String>),
}

/// One connection that was just tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowPulse {
    /// Which cell.
    pub key: CellKey,
    /// How it ended.
    pub outcome: crate::cell::Outcome,
    /// Where it was stopped, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<crate::flow::Direction>,
}
