//! Calico's GlobalNetworkPolicy and NetworkPolicy.

use serde_json::Value;

use crate::parse::policy::{ParsedPolicy, other_policy};

/// The kind of Calico's cluster-wide policies.
pub(crate) const GLOBAL: &str = "GlobalNetworkPolicy";
/// The kind of its policies in a namespace: with its group, since Kubernetes has one of the same name.
pub(crate) const NAMESPACED: &str = "NetworkPolicy.projectcalico.org";

/// Whether this is one of Calico's kinds.
pub(crate) fn is_calico(kind: &str) -> bool {
    kind == GLOBAL || kind == NAMESPACED
}

pub(crate) fn global_network_policy(value: &Value) -> ParsedPolicy {
    other_policy(value, GLOBAL)
}

pub(crate) fn network_policy(value: &Value) -> ParsedPolicy {
    other_policy(value, NAMESPACED)
}
