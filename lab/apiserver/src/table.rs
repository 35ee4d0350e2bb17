//! `Table`: what `kubectl get` prints. Columns are those that Kubernetes shows for each kind; priority 1 means `-o wide` only.

use serde_json::{Value, json};

use crate::kinds::Resource;
use crate::object::{deleting, items, meta};
use crate::validate::labels;

/// How much of the object a row carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

/// A Table of objects.
pub(crate) fn table(
    resource: &Resource,
    objects: &[&Value],
    include: Include,
    version: &str,
    headers: Headers,
) -> Value {
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut row = json!({"cells": cells(resource, object)});
            match include {
                Include::None => {}
                Include::Metadata => row["object"] = metadata(object, version),
                Include::Object => row["object"] = (*object).clone(),
            }
            row
        })
        .collect();
    let columns = match headers {
        Headers::Shown => columns(resource),
        Headers::Omitted => Value::Array(Vec::new()),
    };
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": {},
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// A watch names its columns once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Headers {
    Shown,
    Omitted,
}

/// An object reduced to its metadata.
pub(crate) fn metadata(object: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object["metadata"],
    })
}

/// Names, types and priorities of a kind's columns.
fn names(resource: &Resource) -> &'static [(&'static str, &'static str, u8)] {
    match (resource.group, resource.kind) {
        ("", "Namespace") => &[("Name", "string", 0), ("Status", "string", 0), ("Age", "string", 0)],
        ("", "Node") => &[
            ("Name", "string", 0),
            ("Status", "string", 0),
            ("Roles", "string", 0),
            ("Age", "string", 0),
            ("Version", "string", 0),
            ("Internal-IP", "string", 1),
            ("External-IP", "string", 1),
            ("OS-Image", "string", 1),
            ("Kernel-Version", "string", 1),
            ("Container-Runtime", "string", 1),
        ],
        ("", "Pod") => &[
            ("Name", "string", 0),
            ("Ready", "string", 0),
            ("Status", "string", 0),
            ("Restarts", "string", 0),
            ("Age", "string", 0),
            ("IP", "string", 1),
            ("Node", "string", 1),
            ("Nominated Node", "string", 1),
            ("Readiness Gates", "string", 1),
        ],
        ("", "Service") => &[
            ("Name", "string", 0),
            ("Type", "string", 0),
            ("Cluster-IP", "string", 0),
            ("External-IP", "string", 0),
            ("Port(s)", "string", 0),
            ("Age", "string", 0),
            ("Selector", "string", 1),
        ],
        ("", "ServiceAccount") => &[("Name", "string", 0), ("Secrets", "integer", 0), ("Age", "string", 0)],
        ("", "Event") => &[
            ("Last Seen", "string", 0),
            ("Type", "string", 0),
            ("Reason", "string", 0),
            ("Object", "string", 0),
            ("Subobject", "string", 1),
            ("Source", "string", 1),
            ("Message", "string", 0),
            ("First Seen", "string", 1),
            ("Count", "integer", 1),
            ("Name", "string", 1),
        ],
        ("", "ConfigMap") => &[("Name", "string", 0), ("Data", "integer", 0), ("Age", "string", 0)],
        ("", "Secret") => &[("Name", "string", 0), ("Type", "string", 0), ("Data", "integer", 0), ("Age", "string", 0)],
        ("", "Endpoints") => &[("Name", "string", 0), ("Endpoints", "string", 0), ("Age", "string", 0)],
        ("apps", "Deployment") => &[
            ("Name", "string", 0),
            ("Ready", "string", 0),
            ("Up-to-date", "integer", 0),
            ("Available", "integer", 0),
            ("Age", "string", 0),
            ("Containers", "string", 1),
            ("Images", "string", 1),
            ("Selector", "string", 1),
        ],
        ("apps", "ReplicaSet") => &[
            ("Name", "string", 0),
            ("Desired", "integer", 0),
            ("Current", "integer", 0),
            ("Ready", "integer", 0),
            ("Age", "string", 0),
            ("Containers", "string", 1),
            ("Images", "string", 1),
            ("Selector", "string", 1),
        ],
        ("networking.k8s.io", "NetworkPolicy") => {
            &[("Name", "string", 0), ("Pod-Selector", "string", 0), ("Age", "string", 0)]
        }
        ("coordination.k8s.io", "Lease") => &[("Name", "string", 0), ("Holder", "string", 0), ("Age", "string", 0)],
        ("discovery.k8s.io", "EndpointSlice") => &[
            ("Name", "string", 0),
            ("AddressType", "string", 0),
            ("Ports", "string", 0),
            ("Endpoints", "string", 0),
            ("Age", "string", 0),
        ],
        ("signalbox.dev", "ExternalHost") => &[
            ("Name", "string", 0),
            ("Addresses", "string", 0),
            ("Names", "string", 0),
            ("Ports", "string", 0),
            ("Vantage", "boolean", 0),
            ("Age", "string", 0),
        ],
        _ => &[("Name", "string", 0), ("Age", "string", 0)],
    }
}

fn columns(resource: &Resource) -> Value {
    names(resource)
        .iter()
        .map(|(name, kind, priority)| {
            let format = if *name == "Name" { "name" } else { "" };
            json!({"name": name, "type": kind, "format": format, "description": "", "priority": priority})
        })
        .collect()
}

fn cells(resource: &Resource, object: &Value) -> Value {
    let name = meta(object, "name");
    let age = age(meta(object, "creationTimestamp"));
    let spec = &object["spec"];
    let status = &object["status"];
    let count = |value: &Value| value.as_i64().unwrap_or(0);
    match (resource.group, resource.kind) {
        ("", "Namespace") => json!([name, status["phase"], age]),
        ("", "Node") => node(object, &age),
        ("", "Pod") => pod(object, &age),
        ("", "Service") => service(object, &age),
        ("", "ServiceAccount") => json!([name, items(object, "secrets").len(), age]),
        ("", "Event") => event(object),
        ("", "ConfigMap") => json!([name, entries(&object["data"]) + entries(&object["binaryData"]), age]),
        ("", "Secret") => json!([name, object["type"], entries(&object["data"]), age]),
        ("", "Endpoints") => json!([name, endpoints(object), age]),
        ("apps", "Deployment") => {
            let [containers, images] = containers(spec);
            let ready = format!("{}/{}", count(&status["readyReplicas"]), count(&spec["replicas"]));
            json!([
                name,
                ready,
                count(&status["updatedReplicas"]),
                count(&status["availableReplicas"]),
                age,
                containers,
                images,
                selector(&spec["selector"])
            ])
        }
        ("apps", "ReplicaSet") => {
            let [containers, images] = containers(spec);
            json!([
                name,
                count(&spec["replicas"]),
                count(&status["replicas"]),
                count(&status["readyReplicas"]),
                age,
                containers,
                images,
                selector(&spec["selector"])
            ])
        }
        ("networking.k8s.io", "NetworkPolicy") => json!([name, selector(&spec["podSelector"]), age]),
        ("coordination.k8s.io", "Lease") => json!([name, text(&spec["holderIdentity"]), age]),
        ("discovery.k8s.io", "EndpointSlice") => {
            let ports = items(object, "ports").iter().map(|port| printed(&port["port"])).collect();
            let addresses =
                items(object, "endpoints").iter().flat_map(|one| items(one, "addresses")).map(text).collect();
            json!([name, object["addressType"], or(short(ports), "<unset>"), or(short(addresses), "<unset>"), age])
        }
        ("signalbox.dev", "ExternalHost") => {
            let list = |field: &str| items(spec, field).iter().map(text).collect::<Vec<_>>().join(",");
            let ports: Vec<String> = items(spec, "ports")
                .iter()
                .map(|port| format!("{}/{}", port["port"], text(&port["protocol"])))
                .collect();
            json!([
                name,
                list("addresses"),
                or(list("names"), "<none>"),
                or(ports.join(","), "<none>"),
                spec["vantage"] == true,
                age
            ])
        }
        _ => json!([name, age]),
    }
}

fn node(object: &Value, age: &str) -> Value {
    let status = &object["status"];
    let ready = items(status, "conditions").iter().find(|one| one["type"] == "Ready");
    let mut state = match ready {
        Some(ready) if ready["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object["spec"]["unschedulable"] == true {
        state.push_str(",SchedulingDisabled");
    }
    let mut roles: Vec<&str> = object["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"))
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    let address = |kind: &str| {
        let found = items(status, "addresses").iter().find(|one| one["type"] == kind);
        or(found.map_or_else(String::new, |one| text(&one["address"])), "<none>")
    };
    let info = |field: &str| or(text(&status["nodeInfo"][field]), "<unknown>");
    json!([
        meta(object, "name"),
        state,
        or(roles.join(","), "<none>"),
        age,
        text(&status["nodeInfo"]["kubeletVersion"]),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion")
    ])
}

fn pod(object: &Value, age: &str) -> Value {
    let status = &object["status"];
    let statuses = items(status, "containerStatuses");
    let total = items(&object["spec"], "containers").len();
    let ready = statuses.iter().filter(|one| one["ready"] == true).count();
    let restarts: i64 = statuses.iter().filter_map(|one| one["restartCount"].as_i64()).sum();
    let last = statuses
        .iter()
        .filter(|one| one["restartCount"].as_i64().unwrap_or(0) > 0)
        .filter_map(|one| one["lastState"]["terminated"]["finishedAt"].as_str())
        .max();
    let restarts = match last {
        Some(last) => format!("{restarts} ({} ago)", self::age(last)),
        None => restarts.to_string(),
    };
    json!([
        meta(object, "name"),
        format!("{ready}/{total}"),
        pod_state(object, statuses),
        restarts,
        age,
        or(text(&status["podIP"]), "<none>"),
        or(text(&object["spec"]["nodeName"]), "<none>"),
        or(text(&status["nominatedNodeName"]), "<none>"),
        "<none>"
    ])
}

/// The word in the column Status: phase, unless a container or a deletion has more to say.
fn pod_state(object: &Value, statuses: &[Value]) -> String {
    let status = &object["status"];
    let mut state = or(text(&status["reason"]), &or(text(&status["phase"]), "Unknown"));
    for container in statuses.iter().rev() {
        let waiting = text(&container["state"]["waiting"]["reason"]);
        let terminated = &container["state"]["terminated"];
        if !waiting.is_empty() {
            state = waiting;
        } else if terminated.is_object() {
            let reason = text(&terminated["reason"]);
            let signal = terminated["signal"].as_i64().unwrap_or(0);
            state = match (reason.is_empty(), signal) {
                (false, _) => reason,
                (true, 0) => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0)),
                (true, signal) => format!("Signal:{signal}"),
            };
        }
    }
    if deleting(object) {
        return if text(&status["reason"]) == "NodeLost" { "Unknown".into() } else { "Terminating".into() };
    }
    state
}

fn service(object: &Value, age: &str) -> Value {
    let spec = &object["spec"];
    let kind = text(&spec["type"]);
    let given: Vec<String> = items(spec, "externalIPs").iter().map(text).collect();
    let ingress: Vec<String> = items(&object["status"]["loadBalancer"], "ingress")
        .iter()
        .map(|one| or(text(&one["ip"]), &text(&one["hostname"])))
        .collect();
    let external = match kind.as_str() {
        "ExternalName" => text(&spec["externalName"]),
        "LoadBalancer" if ingress.is_empty() && given.is_empty() => "<pending>".into(),
        "LoadBalancer" => [ingress, given].concat().join(","),
        _ => or(given.join(","), "<none>"),
    };
    let ports: Vec<String> = items(spec, "ports")
        .iter()
        .map(|port| match port["nodePort"].as_i64() {
            Some(node) if node > 0 => format!("{}:{node}/{}", port["port"], text(&port["protocol"])),
            _ => format!("{}/{}", port["port"], text(&port["protocol"])),
        })
        .collect();
    let selected: Vec<String> = spec["selector"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    json!([
        meta(object, "name"),
        kind,
        or(text(&spec["clusterIP"]), "<none>"),
        external,
        or(ports.join(","), "<none>"),
        age,
        or(selected.join(","), "<none>")
    ])
}

fn event(object: &Value) -> Value {
    let first = or(text(&object["firstTimestamp"]), &text(&object["eventTime"]));
    let last = or(text(&object["lastTimestamp"]), &first);
    let about = &object["involvedObject"];
    let source = &object["source"];
    let host = text(&source["host"]);
    let component = or(text(&source["component"]), &text(&object["reportingComponent"]));
    let source = if host.is_empty() { component } else { format!("{component}, {host}") };
    json!([
        age(&last),
        object["type"],
        object["reason"],
        format!("{}/{}", text(&about["kind"]).to_lowercase(), text(&about["name"])),
        text(&about["fieldPath"]),
        source,
        text(&object["message"]).trim(),
        age(&first),
        object["count"].as_i64().unwrap_or(1),
        meta(object, "name")
    ])
}

fn endpoints(object: &Value) -> String {
    let list = items(object, "subsets")
        .iter()
        .flat_map(|subset| {
            items(subset, "addresses").iter().flat_map(|address| {
                items(subset, "ports").iter().map(|port| format!("{}:{}", text(&address["ip"]), port["port"]))
            })
        })
        .collect();
    or(short(list), "<none>")
}

fn containers(spec: &Value) -> [String; 2] {
    let containers = items(&spec["template"]["spec"], "containers");
    ["name", "image"].map(|field| containers.iter().map(|one| text(&one[field])).collect::<Vec<_>>().join(","))
}

fn selector(selector: &Value) -> String {
    let mut parts: Vec<String> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    parts.extend(items(selector, "matchExpressions").iter().map(labels::printed));
    or(parts.join(","), "<none>")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "*".into(),
        other => other.to_string(),
    }
}

fn or(text: String, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text }
}

fn entries(map: &Value) -> usize {
    map.as_object().map_or(0, serde_json::Map::len)
}

/// At most three of a list, and how many more there are.
fn short(list: Vec<String>) -> String {
    match list.len() {
        0..=3 => list.join(","),
        many => format!("{} + {} more...", list[..3].join(","), many - 3),
    }
}

/// The time since, in the two largest units that matter.
fn age(since: &str) -> String {
    let Ok(since) = since.parse::<jiff::Timestamp>() else { return "<unknown>".into() };
    duration(jiff::Timestamp::now().as_second() - since.as_second())
}

fn duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let with = |large: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => with(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => with(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => with(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => with(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, expected) in [
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_800, "3h"),
            (90_000, "25h"),
            (172_800, "2d"),
            (864_000, "10d"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn cells_fit_their_columns() {
        for resource in &crate::kinds::RESOURCES {
            let cells = cells(resource, &json!({"metadata": {"name": "a"}}));
            assert_eq!(cells.as_array().map(Vec::len), Some(names(resource).len()), "{}", resource.kind);
        }
    }
}
