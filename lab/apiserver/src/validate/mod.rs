//! Is what a manifest says possible? Answers name the field, as Kubernetes' do.

use serde_json::Value;

use crate::kinds::Resource;
use crate::object::{items, meta};
use crate::status::Cause;

pub(crate) mod labels;
mod names;
mod network_policy;
mod pod;
mod service;
mod small;
mod workload;

/// Everything that is wrong with an object; `old` is what it replaces.
pub(crate) fn object(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = metadata(resource, object);
    match (resource.group, resource.kind) {
        ("", "Pod") => pod::pod(object, old, &mut causes),
        ("", "Service") => service::service(object, old, &mut causes),
        ("apps", "Deployment" | "ReplicaSet") => workload::workload(object, old, &mut causes),
        ("networking.k8s.io", "NetworkPolicy") => network_policy::policy(&object["spec"], &mut causes),
        ("signalbox.dev", "ExternalHost") => small::external_host(&object["spec"], &mut causes),
        ("discovery.k8s.io", "EndpointSlice") => small::endpoint_slice(object, old, &mut causes),
        ("", "ConfigMap" | "Secret") => small::data(object, old, &mut causes),
        ("", "Event") => small::event(object, &mut causes),
        _ => {}
    }
    causes
}

fn metadata(resource: &Resource, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = meta(object, "name");
    if name.is_empty() {
        causes.push(required("metadata.name", "name or generateName is required"));
    } else if let Err(why) = names::check(resource, name) {
        causes.push(invalid("metadata.name", &name.into(), &why));
    }
    labels::map(&object["metadata"]["labels"], "metadata.labels", &mut causes);
    for (key, _) in object["metadata"]["annotations"].as_object().into_iter().flatten() {
        if let Err(why) = labels::qualified_name(key) {
            causes.push(invalid("metadata.annotations", &key.as_str().into(), &why));
        }
    }
    for (index, finalizer) in items(&object["metadata"], "finalizers").iter().enumerate() {
        let path = format!("metadata.finalizers[{index}]");
        if let Err(why) = labels::qualified_name(finalizer.as_str().unwrap_or_default()) {
            causes.push(invalid(&path, finalizer, &why));
        }
    }
    for (index, owner) in items(&object["metadata"], "ownerReferences").iter().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                causes.push(invalid(
                    &format!("metadata.ownerReferences[{index}].{field}"),
                    &"".into(),
                    &format!("{field} must not be empty"),
                ));
            }
        }
    }
    causes
}

/// The value is there and wrong.
pub(crate) fn invalid(field: &str, value: &Value, why: &str) -> Cause {
    Cause { reason: "FieldValueInvalid", field: field.to_owned(), message: format!("Invalid value: {value}: {why}") }
}

/// The value is missing.
pub(crate) fn required(field: &str, why: &str) -> Cause {
    let message = if why.is_empty() { "Required value".into() } else { format!("Required value: {why}") };
    Cause { reason: "FieldValueRequired", field: field.to_owned(), message }
}

/// The value is none of those that are possible.
pub(crate) fn unsupported(field: &str, value: &Value, supported: &[&str]) -> Cause {
    let supported: Vec<String> = supported.iter().map(|one| format!("\"{one}\"")).collect();
    Cause {
        reason: "FieldValueNotSupported",
        field: field.to_owned(),
        message: format!("Unsupported value: {value}: supported values: {}", supported.join(", ")),
    }
}

/// The value is there twice.
pub(crate) fn duplicate(field: &str, value: &Value) -> Cause {
    Cause { reason: "FieldValueDuplicate", field: field.to_owned(), message: format!("Duplicate value: {value}") }
}

/// The field must not be there, or must not change.
pub(crate) fn forbidden(field: &str, why: &str) -> Cause {
    Cause { reason: "FieldValueForbidden", field: field.to_owned(), message: format!("Forbidden: {why}") }
}

/// One of a list's supported values, where there is one.
fn one_of(object: &Value, field: &str, path: &str, supported: &[&str], causes: &mut Vec<Cause>) {
    let value = &object[field];
    if !value.is_null() && !supported.iter().any(|one| value == one) {
        causes.push(unsupported(&format!("{path}.{field}"), value, supported));
    }
}

/// The protocols of a port.
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// A port's number.
fn port_number(value: &Value, path: &str, causes: &mut Vec<Cause>) {
    match value.as_i64() {
        Some(1..=65535) => {}
        _ => causes.push(invalid(path, value, "must be between 1 and 65535, inclusive")),
    }
}

/// A port's number or name.
fn port_or_name(value: &Value, path: &str, causes: &mut Vec<Cause>) {
    match value {
        Value::String(name) => {
            if let Err(why) = names::port_name(name) {
                causes.push(invalid(path, value, &why));
            }
        }
        _ => port_number(value, path, causes),
    }
}

#[cfg(test)]
mod tests;
