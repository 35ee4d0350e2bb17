//! What of an object is kept: of 10,000 pods, all that nobody reads would be most of the server's memory. What changes in
//! the rest, such as a node's heartbeat, is no change then.

use kube::api::DynamicObject;
use serde_json::{Map, Value};

/// The fields to keep, with those below them.
enum Keep {
    /// All that there is.
    All,
    /// These fields of an object, or of each object in a list.
    Fields(&'static [(&'static str, Keep)]),
}

use Keep::{All, Fields};

const META: (&str, Keep) = (
    "metadata",
    Fields(&[
        ("name", All),
        ("namespace", All),
        ("uid", All),
        ("labels", All),
        ("deletionTimestamp", All),
        (
            "ownerReferences",
            Fields(&[("apiVersion", All), ("kind", All), ("name", All), ("uid", All), ("controller", All)]),
        ),
    ]),
);
const API_VERSION: (&str, Keep) = ("apiVersion", All);
const KIND: (&str, Keep) = ("kind", All);
const PORTS: (&str, Keep) = ("ports", Fields(&[("name", All), ("containerPort", All), ("protocol", All)]));
const STATE: (&str, Keep) = (
    "state",
    Fields(&[
        ("running", Fields(&[])),
        ("waiting", Fields(&[("reason", All)])),
        ("terminated", Fields(&[("exitCode", All), ("reason", All)])),
    ]),
);

const POD: Keep = Fields(&[
    API_VERSION,
    KIND,
    META,
    (
        "spec",
        Fields(&[
            ("nodeName", All),
            ("hostNetwork", All),
            ("serviceAccountName", All),
            ("containers", Fields(&[("name", All), PORTS])),
            ("initContainers", Fields(&[("name", All), ("restartPolicy", All), PORTS])),
        ]),
    ),
    (
        "status",
        Fields(&[
            ("phase", All),
            ("podIP", All),
            ("podIPs", All),
            ("hostIP", All),
            ("hostIPs", All),
            ("conditions", Fields(&[("type", All), ("status", All)])),
            ("containerStatuses", Fields(&[("name", All), ("restartCount", All), STATE])),
        ]),
    ),
]);
const NODE: Keep = Fields(&[
    API_VERSION,
    KIND,
    META,
    ("spec", Fields(&[("podCIDR", All), ("podCIDRs", All)])),
    ("status", Fields(&[("addresses", All)])),
]);
const NAMESPACE: Keep = Fields(&[API_VERSION, KIND, META]);
const SERVICE: Keep = Fields(&[API_VERSION, KIND, META, ("spec", All), ("status", All)]);
const SLICE: Keep = Fields(&[
    API_VERSION,
    KIND,
    META,
    ("addressType", All),
    ("ports", All),
    (
        "endpoints",
        Fields(&[
            ("addresses", All),
            ("conditions", All),
            ("targetRef", Fields(&[("kind", All), ("name", All), ("namespace", All)])),
        ]),
    ),
]);

/// What can be dropped before the object is copied: its largest part, mostly. Annotations of policies stay, since an edit is
/// applied with them; except the one that repeats the object.
pub fn metadata(object: &mut DynamicObject) {
    object.metadata.managed_fields = None;
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        if annotations.is_empty() {
            object.metadata.annotations = None;
        }
    }
}

/// Drops what nobody reads from an object of a kind.
pub fn value(kind: &str, value: &mut Value) {
    match kind {
        "Pod" => {
            keep(&POD, value);
            conditions(value);
        }
        "Node" => keep(&NODE, value),
        "Namespace" => keep(&NAMESPACE, value),
        "Service" => keep(&SERVICE, value),
        "EndpointSlice" => keep(&SLICE, value),
        // Policies, and what they select, are kept as they are.
        _ => {}
    }
}

fn keep(what: &Keep, value: &mut Value) {
    let Fields(fields) = what else { return };
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| keep(what, item)),
        Value::Object(object) => {
            let kept: Map<String, Value> = fields
                .iter()
                .filter_map(|(name, below)| {
                    let (name, mut value) = object.remove_entry(*name)?;
                    keep(below, &mut value);
                    Some((name, value))
                })
                .collect();
            *object = kept;
        }
        // What is of another shape than it should be is for the reader to report.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Of a pod's conditions only `Ready` matters.
fn conditions(pod: &mut Value) {
    if let Some(conditions) = pod.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
        conditions.retain(|condition| condition["type"] == "Ready");
        conditions.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_keeps_what_is_read_of_it_and_nothing_else() {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "a", "labels": {"run": "web"}, "annotations": {"note": "long"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "web-1", "controller": true, "blockOwnerDeletion": true}]},
            "spec": {"nodeName": "n1", "volumes": [{"name": "token"}], "containers": [
                {"name": "c", "image": "x", "env": [{"name": "A"}], "ports": [{"containerPort": 80, "name": "http"}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "qosClass": "Burstable",
                "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": null}, {"type": "Initialized", "status": "True"}],
                "containerStatuses": [{"name": "c", "restartCount": 2, "imageID": "sha", "state": {"running": {"startedAt": "now"}}}]},
        });
        value("Pod", &mut pod);
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "a", "labels": {"run": "web"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "web-1", "controller": true}]},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"containerPort": 80, "name": "http"}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "c", "restartCount": 2, "state": {"running": {}}}]},
        });
        assert_eq!(pod, expected);
    }

    #[test]
    fn a_field_of_another_shape_stays_for_the_reader_to_report() {
        let mut pod = json!({"metadata": "none", "spec": {"containers": 7}});
        value("Pod", &mut pod);
        assert_eq!(pod, json!({"metadata": "none", "spec": {"containers": 7}}));
    }

    #[test]
    fn a_nodes_heartbeat_is_no_change() {
        let node = |at: &str| {
            let mut node = json!({"metadata": {"name": "n"}, "status": {
                "conditions": [{"type": "Ready", "lastHeartbeatTime": at}], "addresses": [{"type": "InternalIP", "address": "1"}]}});
            value("Node", &mut node);
            node
        };
        assert_eq!(node("1"), node("2"));
    }
}
