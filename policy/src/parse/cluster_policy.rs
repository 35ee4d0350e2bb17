//! ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2), and its ancestors AdminNetworkPolicy and
//! BaselineAdminNetworkPolicy (v1alpha1).

use serde_json::Value;

use crate::parse::policy::{ParsedPolicy, other_policy};

pub(crate) fn cluster_network_policy(value: &Value) -> ParsedPolicy {
    other_policy(value, "ClusterNetworkPolicy")
}

pub(crate) fn admin_network_policy(value: &Value) -> ParsedPolicy {
    other_policy(value, "AdminNetworkPolicy")
}

pub(crate) fn baseline_admin_network_policy(value: &Value) -> ParsedPolicy {
    other_policy(value, "BaselineAdminNetworkPolicy")
}
