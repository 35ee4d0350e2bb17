//! What the API says of itself: groups, kinds, version.

use serde_json::{Value, json};

use crate::kinds::{GROUPS, RESOURCES, Resource, group_version};

/// `/version`.
pub(crate) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "33",
        "gitVersion": "v1.33.0+signalbox",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, architecture()),
    })
}

/// The name that Go, and so Kubernetes, has for this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `/api`.
pub(crate) fn versions(address: std::net::SocketAddr) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address.to_string()}],
    })
}

/// `/apis`.
pub(crate) fn groups() -> Value {
    let groups: Vec<Value> = GROUPS.iter().map(|(group, version)| group_body(group, version)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub(crate) fn group(name: &str) -> Option<Value> {
    let (group, version) = GROUPS.iter().find(|(group, _)| *group == name)?;
    let mut body = group_body(group, version);
    body["kind"] = "APIGroup".into();
    body["apiVersion"] = "v1".into();
    Some(body)
}

fn group_body(group: &str, version: &str) -> Value {
    let version = json!({"groupVersion": group_version(group, version), "version": version});
    json!({"name": group, "versions": [version], "preferredVersion": version})
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
pub(crate) fn resources(group: &str, version: &str) -> Option<Value> {
    let list: Vec<Value> = RESOURCES
        .iter()
        .filter(|resource| resource.group == group && resource.version == version)
        .flat_map(entries)
        .collect();
    let known = !list.is_empty();
    known.then(|| {
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version(group, version),
            "resources": list,
        })
    })
}

fn entries(resource: &'static Resource) -> Vec<Value> {
    let mut main = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
    });
    if !resource.short.is_empty() {
        main["shortNames"] = json!(resource.short);
    }
    if !resource.categories.is_empty() {
        main["categories"] = json!(resource.categories);
    }
    let sub = |name: &str, kind: &str, verbs: &[&str]| {
        json!({
            "name": format!("{}/{name}", resource.plural),
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": kind,
            "verbs": verbs,
        })
    };
    let mut list = vec![main];
    if resource.status {
        list.push(sub("status", resource.kind, &["get", "patch", "update"]));
    }
    if resource.scale {
        let mut scale = sub("scale", "Scale", &["get", "patch", "update"]);
        scale["group"] = "autoscaling".into();
        scale["version"] = "v1".into();
        list.push(scale);
    }
    if resource.is("", "Pod") {
        list.push(sub("binding", "Binding", &["create"]));
        list.push(sub("log", "Pod", &["get"]));
    }
    if resource.is("", "Pod") || resource.is("signalbox.dev", "ExternalHost") {
        list.push(sub(
            "exec",
            if resource.group.is_empty() { "PodExecOptions" } else { resource.kind },
            &["create", "get"],
        ));
    }
    list
}
