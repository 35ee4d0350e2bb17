//! Values that Kubernetes fills in where a manifest leaves them out.

use serde_json::{Value, json};

use super::Resource;
use crate::object::{default, items, items_mut, map_in};

/// Fills an object's defaults in.
pub(crate) fn fill(resource: &Resource, object: &mut Value) {
    match (resource.group, resource.kind) {
        ("", "Namespace") => namespace(object),
        ("", "Pod") => pod(object),
        ("", "Service") => service(object),
        ("", "Secret") => secret(object),
        ("apps", "Deployment") => deployment(object),
        ("apps", "ReplicaSet") => replica_set(object),
        ("networking.k8s.io", "NetworkPolicy") => network_policy(object),
        ("discovery.k8s.io", "EndpointSlice") => protocols(object, "ports"),
        ("", "Endpoints") => items_mut(object, "subsets").iter_mut().for_each(|subset| protocols(subset, "ports")),
        ("signalbox.dev", "ExternalHost") => {
            map_in(object, "spec");
            protocols(&mut object["spec"], "ports");
        }
        _ => {}
    }
}

/// What `status` starts as.
pub(crate) fn initial_status(resource: &Resource) -> Option<Value> {
    match (resource.group, resource.kind) {
        ("", "Namespace") => Some(json!({"phase": "Active"})),
        ("", "Pod") => Some(json!({"phase": "Pending", "qosClass": "BestEffort"})),
        ("", "Service") => Some(json!({"loadBalancer": {}})),
        ("apps", "Deployment") => Some(json!({})),
        ("apps", "ReplicaSet") => Some(json!({"replicas": 0})),
        _ => None,
    }
}

fn protocols(object: &mut Value, list: &str) {
    for port in items_mut(object, list).iter_mut().filter(|port| port.is_object()) {
        default(port, "protocol", "TCP");
    }
}

fn namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    map_in(&mut object["metadata"], "labels").insert("kubernetes.io/metadata.name".into(), name);
    let spec = map_in(object, "spec");
    if !spec.contains_key("finalizers") {
        spec.insert("finalizers".into(), json!(["kubernetes"]));
    }
}

fn secret(object: &mut Value) {
    default(object, "type", "Opaque");
    let Some(map) = object.as_object_mut() else { return };
    let Some(Value::Object(plain)) = map.remove("stringData") else { return };
    let data = map_in(object, "data");
    for (key, value) in plain {
        let text = value.as_str().unwrap_or_default();
        data.insert(key, base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text).into());
    }
}

fn pod(object: &mut Value) {
    map_in(object, "spec");
    let spec = &mut object["spec"];
    pod_spec(spec);
    default(spec, "serviceAccountName", "default");
    let account = spec["serviceAccountName"].clone();
    default(spec, "serviceAccount", account);
    default(spec, "priority", 0);
    default(spec, "preemptionPolicy", "PreemptLowerPriority");
    default(spec, "enableServiceLinks", true);
}

/// Defaults of a pod's spec, in a pod and in a template alike.
fn pod_spec(spec: &mut Value) {
    default(spec, "restartPolicy", "Always");
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "schedulerName", "default-scheduler");
    default(spec, "securityContext", json!({}));
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list).iter_mut().filter(|container| container.is_object()) {
            self::container(container);
        }
    }
}

fn container(container: &mut Value) {
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    default(container, "resources", json!({}));
    let image = container["image"].as_str().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let latest = !image.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    default(container, "imagePullPolicy", if latest { "Always" } else { "IfNotPresent" });
    protocols(container, "ports");
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) else { continue };
        for (field, value) in
            [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
        {
            default(probe, field, value);
        }
        if let Some(http) = probe.get_mut("httpGet").filter(|http| http.is_object()) {
            default(http, "scheme", "HTTP");
            default(http, "path", "/");
        }
    }
    for variable in items_mut(container, "env") {
        if let Some(field) = variable.get_mut("valueFrom").and_then(|from| from.get_mut("fieldRef")) {
            default(field, "apiVersion", "v1");
        }
    }
}

fn deployment(object: &mut Value) {
    map_in(object, "spec");
    let spec = &mut object["spec"];
    for (field, value) in [("replicas", 1), ("revisionHistoryLimit", 10), ("progressDeadlineSeconds", 600)] {
        default(spec, field, value);
    }
    map_in(spec, "strategy");
    let strategy = &mut spec["strategy"];
    default(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        map_in(strategy, "rollingUpdate");
        default(&mut strategy["rollingUpdate"], "maxSurge", "25%");
        default(&mut strategy["rollingUpdate"], "maxUnavailable", "25%");
    }
    template(spec);
}

fn replica_set(object: &mut Value) {
    map_in(object, "spec");
    default(&mut object["spec"], "replicas", 1);
    template(&mut object["spec"]);
}

fn template(spec: &mut Value) {
    if let Some(spec) =
        spec.get_mut("template").and_then(|template| template.get_mut("spec")).filter(|spec| spec.is_object())
    {
        pod_spec(spec);
    }
}

fn service(object: &mut Value) {
    map_in(object, "spec");
    let spec = &mut object["spec"];
    default(spec, "type", "ClusterIP");
    default(spec, "sessionAffinity", "None");
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "NodePort" || kind == "LoadBalancer" {
        default(spec, "externalTrafficPolicy", "Cluster");
    } else if let Some(map) = spec.as_object_mut() {
        for field in ["externalTrafficPolicy", "allocateLoadBalancerNodePorts"] {
            map.remove(field);
        }
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
    for port in items_mut(spec, "ports").iter_mut().filter(|port| port.is_object()) {
        default(port, "protocol", "TCP");
        let number = port["port"].clone();
        if number.is_number() {
            default(port, "targetPort", number);
        }
    }
    if spec["sessionAffinity"] == "ClientIP" {
        default(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}));
    }
}

/// `policyTypes`: Ingress always, Egress only where the policy has a rule for it (networking.k8s.io/v1, NetworkPolicySpec).
fn network_policy(object: &mut Value) {
    map_in(object, "spec");
    let spec = &mut object["spec"];
    default(spec, "podSelector", json!({}));
    if items(spec, "policyTypes").is_empty() {
        let egress = !items(spec, "egress").is_empty();
        spec["policyTypes"] = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    }
    for direction in ["ingress", "egress"] {
        for rule in items_mut(spec, direction).iter_mut().filter(|rule| rule.is_object()) {
            protocols(rule, "ports");
        }
    }
}
