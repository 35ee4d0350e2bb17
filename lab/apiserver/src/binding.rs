//! The subresource `binding` of pods: how a scheduler gives a pod its node.

use serde_json::{Value, json};

use crate::object::{deleting, meta, now};
use crate::status::Status;
use crate::store::{Key, Store};

/// Binds the pod `key` to the node that a Binding names. As in Kubernetes a pod is bound once, and while it lives.
pub(crate) fn bind(store: &Store, key: &Key, binding: &Value, dry_run: bool) -> Result<Value, Status> {
    let node = binding["target"]["name"].as_str().filter(|name| !name.is_empty());
    let node = node.ok_or_else(|| Status::bad_request("Binding: target.name: Required value: the name of a node"))?;
    store.write(dry_run, |transaction| {
        let pod = transaction.get(key).ok_or_else(|| key.not_found())?;
        let wanted = meta(binding, "uid");
        if !wanted.is_empty() && wanted != meta(&pod, "uid") {
            return Err(key.conflict("the Binding is for another pod of this name: its uid differs"));
        }
        if deleting(&pod) {
            return Err(key.conflict(&format!("pod {} is being deleted, cannot be assigned to a host", key.name)));
        }
        if let Some(bound) = pod["spec"]["nodeName"].as_str().filter(|bound| !bound.is_empty()) {
            return Err(key.conflict(&format!("pod {} is already assigned to node {bound:?}", key.name)));
        }
        let mut pod = (*pod).clone();
        pod["spec"]["nodeName"] = node.into();
        scheduled(&mut pod);
        transaction.put(key, pod);
        Ok(())
    })?;
    Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
}

/// The condition that tells the kubelet and people.
fn scheduled(pod: &mut Value) {
    let condition =
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now()});
    let conditions = &mut pod["status"]["conditions"];
    let mut others = conditions.as_array().cloned().unwrap_or_default();
    others.retain(|other| other["type"] != "PodScheduled");
    others.push(condition);
    *conditions = others.into();
}
