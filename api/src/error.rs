//! The one shape of an error that the REST API answers with.

use serde::{Deserialize, Serialize};

/// The body of every answer with a status of 400 or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// One sentence: the object, what is wrong, and the remedy.
    pub message: String,
    /// The fields at fault, where the object was refused for its contents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<FieldCause>,
}

/// One field at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldCause {
    /// `spec.egress[0].ports[0].port`; empty where the YAML itself cannot be read.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
    /// Line in the YAML that was sent, from 1, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in that line, from 1, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}
