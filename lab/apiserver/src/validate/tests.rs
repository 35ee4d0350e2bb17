//! Manifests, and the fields that must be named.

use serde_json::{Value, json};

use super::*;
use crate::kinds::{by_kind, defaults};

fn check(api_version: &str, kind: &str, spec: Value, expected: &[&str]) {
    let resource = by_kind(api_version, kind).expect("a kind");
    let mut manifest = json!({"metadata": {"name": "x", "namespace": "default"}, "spec": spec});
    defaults::fill(resource, &mut manifest);
    let causes = object(resource, &manifest, None);
    let found: Vec<String> = causes.iter().map(|cause| format!("{} {}", cause.reason, cause.field)).collect();
    assert_eq!(found, expected, "{spec}\n{causes:?}");
}

fn policy(spec: Value, expected: &[&str]) {
    check("networking.k8s.io/v1", "NetworkPolicy", spec, expected);
}

#[test]
fn network_policies() {
    policy(json!({}), &[]);
    policy(
        json!({"podSelector": {}, "ingress": [{}], "egress": [{"ports": [{"port": "dns", "protocol": "UDP"}]}]}),
        &[],
    );
    let port = |port: Value| json!({"ingress": [{"ports": [port]}]});
    policy(port(json!({"port": 0})), &["FieldValueInvalid spec.ingress[0].ports[0].port"]);
    policy(port(json!({"port": 65536})), &["FieldValueInvalid spec.ingress[0].ports[0].port"]);
    policy(port(json!({"port": "A"})), &["FieldValueInvalid spec.ingress[0].ports[0].port"]);
    policy(
        port(json!({"port": 80, "protocol": "ICMP"})),
        &["FieldValueNotSupported spec.ingress[0].ports[0].protocol"],
    );
    policy(port(json!({"port": 80, "endPort": 79})), &["FieldValueInvalid spec.ingress[0].ports[0].endPort"]);
    policy(port(json!({"port": 80, "endPort": 80})), &[]);
    policy(port(json!({"port": "http", "endPort": 80})), &["FieldValueForbidden spec.ingress[0].ports[0].endPort"]);
    policy(port(json!({"endPort": 80})), &["FieldValueRequired spec.ingress[0].ports[0].port"]);
    let peer = |peer: Value| json!({"egress": [{"to": [peer]}]});
    policy(peer(json!({})), &["FieldValueRequired spec.egress[0].to[0]"]);
    policy(peer(json!({"namespaceSelector": {}})), &[]);
    policy(peer(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}})), &[]);
    policy(peer(json!({"ipBlock": {"cidr": "10.0.0.0/33"}})), &["FieldValueInvalid spec.egress[0].to[0].ipBlock.cidr"]);
    policy(peer(json!({"ipBlock": {"cidr": "10.0.0.0"}})), &["FieldValueInvalid spec.egress[0].to[0].ipBlock.cidr"]);
    policy(peer(json!({"ipBlock": {}})), &["FieldValueRequired spec.egress[0].to[0].ipBlock.cidr"]);
    for except in ["11.0.0.0/16", "10.0.0.0/8", "nonsense", "fd00::/16"] {
        let block = json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": [except]}});
        policy(peer(block), &["FieldValueInvalid spec.egress[0].to[0].ipBlock.except[0]"]);
    }
    policy(
        peer(json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "namespaceSelector": {}})),
        &["FieldValueForbidden spec.egress[0].to[0]"],
    );
    let expression = |expression: Value| json!({"podSelector": {"matchExpressions": [expression]}});
    let at = "spec.podSelector.matchExpressions[0]";
    policy(expression(json!({"key": "a", "operator": "In"})), &[&format!("FieldValueRequired {at}.values")]);
    policy(
        expression(json!({"key": "a", "operator": "Exists", "values": ["x"]})),
        &[&format!("FieldValueForbidden {at}.values")],
    );
    policy(expression(json!({"key": "a", "operator": "Equals"})), &[&format!("FieldValueNotSupported {at}.operator")]);
    policy(expression(json!({"key": "a b", "operator": "Exists"})), &[&format!("FieldValueInvalid {at}.key")]);
    policy(json!({"podSelector": {"matchLabels": {"a": "b c"}}}), &["FieldValueInvalid spec.podSelector.matchLabels"]);
    policy(json!({"policyTypes": ["Both"]}), &["FieldValueNotSupported spec.policyTypes[0]"]);
}

#[test]
fn policy_types_are_filled_in() {
    for (spec, expected) in [
        (json!({}), json!(["Ingress"])),
        (json!({"egress": []}), json!(["Ingress"])),
        (json!({"egress": [{}]}), json!(["Ingress", "Egress"])),
        (json!({"policyTypes": ["Egress"]}), json!(["Egress"])),
    ] {
        let mut object = json!({"spec": spec});
        defaults::fill(by_kind("networking.k8s.io/v1", "NetworkPolicy").expect("a kind"), &mut object);
        assert_eq!(object["spec"]["policyTypes"], expected);
    }
}

#[test]
fn workloads() {
    let template =
        |labels: Value| json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    let deployment = |spec: Value, expected: &[&str]| check("apps/v1", "Deployment", spec, expected);
    deployment(
        json!({"selector": {"matchLabels": {"a": "b"}}, "template": template(json!({"a": "b", "c": "d"}))}),
        &[],
    );
    deployment(
        json!({"selector": {"matchLabels": {"a": "b"}}, "template": template(json!({"a": "x"}))}),
        &["FieldValueInvalid spec.template.metadata.labels"],
    );
    deployment(json!({"template": template(json!({}))}), &["FieldValueRequired spec.selector"]);
    deployment(
        json!({"replicas": -1, "selector": {"matchLabels": {"a": "b"}}, "template": template(json!({"a": "b"}))}),
        &["FieldValueInvalid spec.replicas"],
    );
    check("v1", "Pod", json!({}), &["FieldValueRequired spec.containers"]);
    check(
        "v1",
        "Pod",
        json!({"containers": [{"name": "a", "image": "b", "ports": [{"containerPort": 70000}]}, {"name": "a", "image": "c"}]}),
        &["FieldValueInvalid spec.containers[0].ports[0].containerPort", "FieldValueDuplicate spec.containers[1].name"],
    );
    check(
        "v1",
        "Pod",
        json!({"hostname": "a\nb", "subdomain": "Z", "containers": [{"name": "a", "image": "b"}]}),
        &["FieldValueInvalid spec.hostname", "FieldValueInvalid spec.subdomain"],
    );
    let service = |spec: Value, expected: &[&str]| check("v1", "Service", spec, expected);
    service(json!({"ports": [{"port": 80}]}), &[]);
    service(json!({}), &["FieldValueRequired spec.ports"]);
    service(json!({"clusterIP": "None"}), &[]);
    service(
        json!({"ports": [{"port": 80}, {"port": 81}]}),
        &["FieldValueRequired spec.ports[0].name", "FieldValueRequired spec.ports[1].name"],
    );
    service(
        json!({"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}),
        &["FieldValueDuplicate spec.ports[1].name"],
    );
    check(
        "signalbox.dev/v1alpha1",
        "ExternalHost",
        json!({"addresses": ["nowhere"]}),
        &["FieldValueInvalid spec.addresses[0]"],
    );
}
