//! Answers of the REST API that are nothing but answers.

use serde::{Deserialize, Serialize};

use crate::cell::Cell;
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
