//! Answers of the REST API that are nothing but answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::cell::{Cell, KernelFact, ProbeFact};
use crate::flow::Protocol;
use crate::state::{DnsFact, Endpoint, RoundInfo};

/// What `POST /api/v1/rounds` answers once the round has ended and nothing is under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundReport {
    /// The round.
    pub round: RoundInfo,
    /// All cells.
    pub cells: Vec<Cell>,
    /// All endpoints.
    pub endpoints: Vec<Endpoint>,
    /// DNS, from each vantage point.
    pub dns: Vec<DnsFact>,
}

/// What `POST /api/v1/stand-ins` takes: a probe in place of pods that have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandInWish {
    /// The client's name for its run: 1 to 40 small letters and digits. The stand-ins of a run are renewed and removed together.
    pub run: String,
    /// Where.
    pub namespace: String,
    /// `KIND/NAME` of what is stood in for: `deployment/web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
    /// Without `like`: the labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Keep the labels that Services select by, too. The stand-in is never ready then, so that Services send it nothing.
    #[serde(default)]
    pub keep_service_labels: bool,
    /// One on every node, and not one at all.
    #[serde(default)]
    pub on_every_node: bool,
}

/// What `POST /api/v1/stand-ins` answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandInReport {
    /// As in the wish.
    pub run: String,
    /// Where.
    pub namespace: String,
    /// The names of the Jobs that were created. Each has one pod, with the label `job-name`.
    pub jobs: Vec<String>,
    /// `KIND.NAME`: the label `signalbox.dev/stands-in-for` of the pods.
    pub stands_in_for: String,
    /// The labels that the pods have of their model.
    pub labels: BTreeMap<String, String>,
    /// Labels of the model that were left out, so that no Service selects the stand-in.
    pub dropped: Vec<String>,
    /// It is kept from ever being ready, since Services select it.
    pub never_ready: bool,
    /// How policies treat it otherwise than its model, in words. Empty: alike.
    pub differences: Vec<String>,
}

/// What `POST /api/v1/probes` takes: one connection, to be tried from inside of a real pod's network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeWish {
    /// `namespace/name` of the pod.
    pub from: String,
    /// Where to.
    pub to: ProbeGoal,
    /// When to give up, in milliseconds, from 1 to 10,000. Absent: as rounds of probes do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
}

/// Where one connection goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeGoal {
    /// An address; a name, which is resolved as the pod resolves it; or an endpoint's id, as `pod:backend/db`.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The protocol.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
}

const fn tcp() -> Protocol {
    Protocol::Tcp
}

impl std::fmt::Display for ProbeGoal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.port, self.protocol)
    }
}

/// What `POST /api/v1/probes` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// `namespace/name` of the pod whose network namespace it left from.
    pub from: String,
    /// The node whose enforcer tried it.
    pub node: String,
    /// As in the wish.
    pub to: ProbeGoal,
    /// Where the first packet went, before any translation; absent where none left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<SocketAddr>,
    /// What the probe saw.
    pub probe: ProbeFact,
    /// What kernels decided on its packets, each by itself: a connection is allowed where all that judge it say so. Empty: nothing
    /// was heard of any in time.
    pub kernels: Vec<KernelFact>,
    /// From the request to the outcome, in microseconds: finding the pod's namespace and resolving the name included.
    pub elapsed_us: u64,
}

/// What happened to a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeAction {
    /// It was not there before.
    Created,
    /// It was there and is different now.
    Configured,
    /// It was there as it is.
    Unchanged,
    /// It is gone.
    Deleted,
}

/// One policy that was applied, replaced or deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// `NetworkPolicy`.
    pub kind: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// What happened.
    pub action: ChangeAction,
    /// `metadata.resourceVersion` afterwards; absent where it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Judged by the API server and not kept.
    pub dry_run: bool,
}
