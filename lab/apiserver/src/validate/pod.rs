//! Pods, and what stands in a pod template.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{PROTOCOLS, duplicate, forbidden, invalid, labels, names, one_of, port_number, required};
use crate::object::items;
use crate::status::Cause;

/// A pod.
pub(crate) fn pod(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    spec(&object["spec"], "spec", causes);
    if let Some(old) = old
        && fixed(&old["spec"]) != fixed(&object["spec"])
        && !bound(&old["spec"], &object["spec"])
    {
        causes.push(forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ));
    }
}

/// The part of a spec that never changes.
fn fixed(spec: &Value) -> Value {
    let mut fixed = spec.clone();
    if let Some(map) = fixed.as_object_mut() {
        for field in ["activeDeadlineSeconds", "tolerations"] {
            map.remove(field);
        }
    }
    for list in ["containers", "initContainers"] {
        for container in crate::object::items_mut(&mut fixed, list) {
            container["image"] = json!("");
            container["imagePullPolicy"] = json!("");
        }
    }
    fixed
}

/// A scheduler may give a pod that has no node its node.
fn bound(old: &Value, new: &Value) -> bool {
    let mut before = fixed(old);
    if !before["nodeName"].as_str().unwrap_or_default().is_empty() {
        return false;
    }
    before["nodeName"] = new["nodeName"].clone();
    before == fixed(new)
}

/// A pod's spec, at `path`.
pub(crate) fn spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let containers = items(spec, "containers");
    if containers.is_empty() {
        causes.push(required(&format!("{path}.containers"), ""));
    }
    let mut seen = HashSet::new();
    for list in ["initContainers", "containers"] {
        for (index, entry) in items(spec, list).iter().enumerate() {
            let path = format!("{path}.{list}[{index}]");
            container(entry, &path, causes);
            let name = entry["name"].as_str().unwrap_or_default();
            if !name.is_empty() && !seen.insert(name) {
                causes.push(duplicate(&format!("{path}.name"), &entry["name"]));
            }
        }
    }
    let mut volumes = HashSet::new();
    for (index, volume) in items(spec, "volumes").iter().enumerate() {
        let field = format!("{path}.volumes[{index}].name");
        match volume["name"].as_str().unwrap_or_default() {
            "" => causes.push(required(&field, "")),
            name => {
                if let Err(why) = names::label(name) {
                    causes.push(invalid(&field, &name.into(), &why));
                }
                if !volumes.insert(name) {
                    causes.push(duplicate(&field, &name.into()));
                }
            }
        }
    }
    one_of(spec, "restartPolicy", path, &["Always", "Never", "OnFailure"], causes);
    one_of(spec, "dnsPolicy", path, &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"], causes);
    labels::map(&spec["nodeSelector"], &format!("{path}.nodeSelector"), causes);
    let grace = &spec["terminationGracePeriodSeconds"];
    if grace.as_i64().is_some_and(|grace| grace < 0) {
        causes.push(invalid(
            &format!("{path}.terminationGracePeriodSeconds"),
            grace,
            "must be greater than or equal to 0",
        ));
    }
    for field in ["hostname", "subdomain"] {
        if let Some(name) = spec[field].as_str().filter(|name| !name.is_empty())
            && let Err(why) = names::label(name)
        {
            causes.push(invalid(&format!("{path}.{field}"), &name.into(), &why));
        }
    }
    if let Some(name) = spec["serviceAccountName"].as_str().filter(|name| !name.is_empty())
        && let Err(why) = names::subdomain(name)
    {
        causes.push(invalid(&format!("{path}.serviceAccountName"), &name.into(), &why));
    }
}

fn container(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    match container["name"].as_str().unwrap_or_default() {
        "" => causes.push(required(&format!("{path}.name"), "")),
        name => {
            if let Err(why) = names::label(name) {
                causes.push(invalid(&format!("{path}.name"), &name.into(), &why));
            }
        }
    }
    if container["image"].as_str().unwrap_or_default().is_empty() {
        causes.push(required(&format!("{path}.image"), ""));
    }
    one_of(container, "imagePullPolicy", path, &["Always", "IfNotPresent", "Never"], causes);
    let mut port_names = HashSet::new();
    for (index, port) in items(container, "ports").iter().enumerate() {
        let path = format!("{path}.ports[{index}]");
        match &port["containerPort"] {
            Value::Null => causes.push(required(&format!("{path}.containerPort"), "")),
            number => port_number(number, &format!("{path}.containerPort"), causes),
        }
        one_of(port, "protocol", &path, &PROTOCOLS, causes);
        if let Some(name) = port["name"].as_str().filter(|name| !name.is_empty()) {
            if let Err(why) = names::port_name(name) {
                causes.push(invalid(&format!("{path}.name"), &name.into(), &why));
            } else if !port_names.insert(name) {
                causes.push(duplicate(&format!("{path}.name"), &name.into()));
            }
        }
    }
    for (index, variable) in items(container, "env").iter().enumerate() {
        if variable["name"].as_str().unwrap_or_default().is_empty() {
            causes.push(required(&format!("{path}.env[{index}].name"), ""));
        }
    }
}
