//! Policies in audit: Signalbox's enforcer reports what they would deny, and lets it pass.

use serde_json::Value;

/// The annotation that puts one policy into audit: it isolates, allows and denies nothing.
pub const ANNOTATION: &str = "signalbox.dev/audit";

/// Whether an object is a policy in audit. Any other value than `"true"` is none: what is doubtful is enforced.
///
/// Only Signalbox's enforcer heeds it. Where another one enforces, such a policy is like any other.
#[must_use]
pub fn is_in_audit(object: &Value) -> bool {
    let is_policy = object["kind"].as_str().is_some_and(|kind| kind.ends_with("NetworkPolicy"));
    is_policy && object["metadata"]["annotations"][ANNOTATION] == "true"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_doubtful_is_enforced() {
        let object = |kind: &str, value: Value| json!({"kind": kind, "metadata": {"annotations": {ANNOTATION: value}}});
        assert!(is_in_audit(&object("NetworkPolicy", json!("true"))));
        assert!(is_in_audit(&object("ClusterNetworkPolicy", json!("true"))));
        for doubtful in [json!(true), json!("True"), json!("yes"), json!(""), json!(null)] {
            assert!(!is_in_audit(&object("NetworkPolicy", doubtful)));
        }
        assert!(!is_in_audit(&object("Pod", json!("true"))));
        assert!(!is_in_audit(&json!({"kind": "NetworkPolicy", "metadata": {}})));
    }
}
