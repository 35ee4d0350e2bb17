//! Which objects are kept, and what of them: what bears on policies, and nothing that could be a secret.

use serde_json::{Map, Value};

/// Fields of every object's metadata that are kept.
const METADATA: &[&str] = &["name", "namespace", "labels", "ownerReferences"];

/// What becomes of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// Part of it, or all.
    Object(Value),
    /// It has no bearing on policies; its kind.
    PassedOver(String),
    /// It does not say what it is.
    Nameless,
}

/// Keeps what matters.
pub fn keep(object: Value) -> Kept {
    let Some(kind) = object.get("kind").and_then(Value::as_str).filter(|kind| !kind.is_empty()) else {
        return Kept::Nameless;
    };
    let kind = kind.to_owned();
    let kept = match kind.as_str() {
        "Namespace" => of(object, &[]),
        "Node" => of(object, &[("status", &["addresses"])]),
        "Service" => of(object, &[("spec", &["*"])]),
        "Pod" => {
            let mut kept = of(object, &[("spec", POD_SPEC), ("status", POD_STATUS)]);
            containers(kept.get_mut("spec"));
            kept
        }
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            let mut kept = of(object, &[("spec", &["replicas", "selector", "serviceName", "template"])]);
            template(kept.get_mut("spec"));
            kept
        }
        "CronJob" => {
            let mut kept = of(object, &[("spec", &["jobTemplate"])]);
            let job = kept.get_mut("spec").and_then(|spec| spec.get_mut("jobTemplate"));
            template(job.and_then(|job| job.get_mut("spec")));
            kept
        }
        kind if is_policy(kind) => policy(object),
        _ => return Kept::PassedOver(kind),
    };
    Kept::Object(kept)
}

/// Whether a kind's objects say who may talk to whom.
pub fn is_policy(kind: &str) -> bool {
    kind.ends_with("NetworkPolicy") || kind.ends_with("NetworkPolicies") || kind == "CiliumClusterwideNetworkPolicy"
}

const POD_SPEC: &[&str] = &["nodeName", "hostNetwork", "serviceAccountName", "containers", "initContainers"];
const POD_STATUS: &[&str] = &["phase", "podIP", "podIPs", "hostIP", "hostIPs"];

/// Version, kind, metadata, and of some other fields some parts. What is of another type than the API says is left as
/// it is: the engine has to see it.
fn of(mut object: Value, fields: &[(&str, &[&str])]) -> Value {
    let Some(map) = object.as_object_mut() else { return object };
    map.retain(|key, _| {
        ["apiVersion", "kind", "metadata"].contains(&key.as_str()) || fields.iter().any(|it| it.0 == key)
    });
    retain(map.get_mut("metadata"), METADATA);
    for (field, parts) in fields.iter().filter(|(_, parts)| *parts != ["*"]) {
        retain(map.get_mut(*field), parts);
    }
    object
}

fn retain(value: Option<&mut Value>, keys: &[&str]) {
    if let Some(Value::Object(map)) = value {
        map.retain(|key, _| keys.contains(&key.as_str()));
    }
}

/// A pod's template: labels and the pod's spec.
fn template(spec: Option<&mut Value>) {
    let Some(template) = spec.and_then(|spec| spec.get_mut("template")) else { return };
    retain(Some(template), &["metadata", "spec"]);
    retain(template.get_mut("metadata"), METADATA);
    retain(template.get_mut("spec"), POD_SPEC);
    containers(template.get_mut("spec"));
}

/// Names and ports of containers: their environment and arguments may hold secrets.
fn containers(spec: Option<&mut Value>) {
    let Some(Value::Object(spec)) = spec else { return };
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            retain(Some(container), &["name", "ports", "restartPolicy"]);
        }
    }
}

/// A policy without what a cluster adds to it.
fn policy(mut object: Value) -> Value {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    const ADDED: [&str; 6] = ["managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"];
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
        if let Some(Value::Object(metadata)) = map.get_mut("metadata") {
            metadata.retain(|key, _| !ADDED.contains(&key.as_str()));
            if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
                annotations.remove(LAST_APPLIED);
            }
            if metadata.get("annotations").and_then(Value::as_object).is_some_and(Map::is_empty) {
                metadata.remove("annotations");
            }
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(object: Value) -> Value {
        match keep(object) {
            Kept::Object(object) => object,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn secrets_do_not_get_in() {
        let container = json!({"name": "c", "image": "i", "env": [{"name": "PASSWORD", "value": "hunter2"}],
            "args": ["--token=hunter2"], "ports": [{"containerPort": 80}]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "annotations": {"a": "hunter2"}, "labels": {"a": "b"}},
            "spec": {"containers": [container], "volumes": ["hunter2"]}, "status": {"podIP": "10.0.0.1", "message": "hunter2"}});
        let expected = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}, "status": {"podIP": "10.0.0.1"}});
        assert_eq!(kept(pod.clone()), expected);
        let template = json!({"metadata": pod["metadata"], "spec": pod["spec"]});
        for object in [
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": template}}),
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "d"},
                "spec": {"jobTemplate": {"spec": {"template": template}}}}),
        ] {
            let kept = kept(object);
            assert!(!kept.to_string().contains("hunter2") && kept.to_string().contains("containerPort"), "{kept}");
        }
        for kind in ["Secret", "ConfigMap", "Ingress"] {
            assert_eq!(keep(json!({"kind": kind, "data": {"a": "hunter2"}})), Kept::PassedOver(kind.into()));
        }
        assert_eq!(keep(json!({"data": 1})), Kept::Nameless);
    }

    #[test]
    fn fields_of_a_wrong_type_stay_for_the_engine_to_see() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": 7}, "spec": [], "status": "x"});
        assert_eq!(kept(pod.clone()), pod);
    }

    #[test]
    fn a_policy_loses_only_what_the_cluster_added() {
        let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "p", "uid": "1", "managedFields": [], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}},
            "spec": {"podSelector": {}, "unheardOf": 1}, "status": {}});
        let expected = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p"},
            "spec": {"podSelector": {}, "unheardOf": 1}});
        assert_eq!(kept(policy), expected);
    }
}
