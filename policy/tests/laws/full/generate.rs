//! Random small clusters with every feature that the engine understands. Keys, values, names, ports and addresses are few,
//! so that rules do match.

use serde_json::{Value, json};

use super::random::Random;

pub const PORTS: [u16; 5] = [53, 80, 81, 90, 443];
pub const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const NODES: [&str; 2] = ["n1", "n2"];
const KEYS: [&str; 2] = ["a", "b"];
const VALUES: [&str; 3] = ["", "1", "2"];
const NAMES: [&str; 2] = ["http", "dns"];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const ACCOUNTS: [&str; 2] = ["default", "robot"];
const V4: [&str; 6] = ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/30", "10.0.0.2/32", "192.0.2.0/24", "172.16.0.0/16"];
const V6: [&str; 5] = ["::/0", "fd00::/8", "fd00::/126", "fd00::2/128", "2001:db8::/32"];

/// Which kinds of policies a cluster may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    NetworkPolicy,
    All,
}

/// All objects of a cluster.
pub fn cluster(random: &mut Random, kinds: Kinds) -> Vec<Value> {
    let mut objects = Vec::new();
    for name in NAMESPACES {
        if random.chance(80) {
            objects.push(namespace(random, name));
        }
    }
    for (number, name) in NODES.iter().enumerate() {
        objects.push(node(random, name, number));
    }
    let pods = 3 + random.below(4);
    objects.extend((0..pods).map(|number| pod(random, number)));
    let policies = random.below(6);
    for number in 0..policies {
        let policy = policy(random, number, kinds);
        // There is only one of its kind, and of two with one name the later one would count.
        let is_second = policy["kind"] == "BaselineAdminNetworkPolicy"
            && objects.iter().any(|it: &Value| it["kind"] == policy["kind"]);
        if !is_second {
            objects.push(policy);
        }
    }
    objects
}

pub fn namespace(random: &mut Random, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels(random)}})
}

pub fn node(random: &mut Random, name: &str, number: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels(random)},
    "status": {"addresses": [
        {"type": "InternalIP", "address": format!("172.16.0.{}", number + 1)},
        {"type": "InternalIP", "address": format!("fc00::{}", number + 1)},
    ]}})
}

/// Its number is in its name and addresses, so that no two pods share one.
pub fn pod(random: &mut Random, number: usize) -> Value {
    let node = random.below(2);
    let is_host = random.chance(18);
    let phase = random.pick(&[
        "Running",
        "Running",
        "Running",
        "Running",
        "Running",
        "Running",
        "Pending",
        "Succeeded",
        "Failed",
    ]);
    let (v4, v6) = if is_host {
        (format!("172.16.0.{}", node + 1), format!("fc00::{}", node + 1))
    } else {
        (format!("10.0.0.{}", number + 1), format!("fd00::{:x}", number + 1))
    };
    let ips = match random.below(6) {
        0..=2 => json!([{"ip": v4}]),
        3 => json!([{"ip": v6}]),
        4 => json!([{"ip": v4}, {"ip": v6}]),
        _ => json!([{"ip": v6}, {"ip": v4}]),
    };
    let containers: Vec<Value> = random.list(1, 2, |random| {
        let ports = random.list(0, 2, |random| {
            let mut port = json!({"name": random.pick(&NAMES), "containerPort": random.pick(&PORTS)});
            if random.chance(60) {
                port["protocol"] = json!(random.pick(&PROTOCOLS));
            }
            port
        });
        json!({"name": "c", "image": "i", "ports": ports})
    });
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": random.pick(&NAMESPACES), "name": format!("p{number}"), "labels": labels(random)},
        "spec": {"nodeName": NODES[node], "containers": containers},
        "status": {"phase": phase, "podIPs": ips}});
    if random.chance(20) {
        // Nobody knows where it runs, or an address of its node tells: of one that there is, or of one that has no other name.
        pod["spec"].as_object_mut().unwrap().remove("nodeName");
        match random.below(4) {
            0 => pod["status"]["hostIPs"] = json!([{"ip": format!("172.16.0.{}", node + 1)}]),
            1 => pod["status"]["hostIPs"] = json!([{"ip": "172.16.0.9"}]),
            _ => {}
        }
    }
    if random.chance(15) {
        pod["status"].as_object_mut().unwrap().remove("podIPs");
        if is_host {
            // Its node's addresses would be its own.
            pod["status"].as_object_mut().unwrap().remove("hostIPs");
        }
    }
    if is_host {
        pod["spec"]["hostNetwork"] = json!(true);
    }
    if random.chance(30) {
        pod["spec"]["serviceAccountName"] = json!(random.pick(&ACCOUNTS));
    }
    pod
}

/// The number is in its name. Calico's policies have orders of their own, others may have equal priorities.
pub fn policy(random: &mut Random, number: usize, kinds: Kinds) -> Value {
    match random.below(20) {
        _ if kinds == Kinds::NetworkPolicy => network_policy(random, number),
        0..=8 => network_policy(random, number),
        9..=12 => cluster_policy(random, number),
        13..=14 => admin_policy(random, number),
        15 => baseline_policy(random),
        _ => calico_policy(random, number),
    }
}

fn labels(random: &mut Random) -> Value {
    let mut labels = json!({});
    for key in KEYS {
        if random.chance(65) {
            labels[key] = json!(random.pick(&VALUES));
        }
    }
    labels
}

fn selector(random: &mut Random) -> Value {
    let mut selector = json!({});
    if random.chance(45) {
        selector["matchLabels"] = labels(random);
        if random.chance(20) {
            selector["matchLabels"] = json!({"kubernetes.io/metadata.name": random.pick(&NAMESPACES)});
        }
    }
    if random.chance(30) {
        selector["matchExpressions"] = random
            .list(1, 2, |random| {
                let operator = random.pick(&["In", "NotIn", "Exists", "DoesNotExist"]);
                let mut expression = json!({"key": random.pick(&KEYS), "operator": operator});
                if operator.ends_with("In") {
                    expression["values"] = json!(random.list(1, 2, |random| random.pick(&VALUES)));
                }
                expression
            })
            .into();
    }
    selector
}

fn network_policy(random: &mut Random, number: usize) -> Value {
    let mut spec = json!({});
    if random.chance(90) {
        spec["podSelector"] = selector(random);
    }
    if random.chance(60) {
        spec["policyTypes"] =
            random.pick(&[json!([]), json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]);
    }
    for (field, peers) in [("ingress", "from"), ("egress", "to")] {
        if random.chance(60) {
            spec[field] = random
                .list(0, 2, |random| {
                    let mut rule = json!({});
                    if random.chance(80) {
                        rule[peers] = random.list(0, 2, network_policy_peer).into();
                    }
                    if random.chance(60) {
                        rule["ports"] = random.list(0, 2, network_policy_port).into();
                    }
                    rule
                })
                .into();
        }
    }
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": random.pick(&NAMESPACES), "name": format!("np{number}")}, "spec": spec})
}

fn network_policy_peer(random: &mut Random) -> Value {
    match random.below(5) {
        0 => json!({"podSelector": selector(random)}),
        1 => json!({"namespaceSelector": selector(random)}),
        2 => json!({"podSelector": selector(random), "namespaceSelector": selector(random)}),
        _ => {
            let is_v6 = random.chance(40);
            let outer = if is_v6 { random.pick(&V6[..3]) } else { random.pick(&V4[..3]) };
            let mut block = json!({"cidr": outer});
            if random.chance(50) {
                let inner = match outer {
                    "0.0.0.0/0" | "10.0.0.0/8" => random.pick(&["10.0.0.0/30", "10.0.0.4/31"]),
                    "10.0.0.0/30" => "10.0.0.2/32",
                    "::/0" | "fd00::/8" => "fd00::/126",
                    _ => "fd00::2/128",
                };
                block["except"] = json!([inner]);
            }
            json!({"ipBlock": block})
        }
    }
}

fn network_policy_port(random: &mut Random) -> Value {
    let mut port = match random.below(5) {
        0 => json!({}),
        1 => json!({"port": random.pick(&PORTS)}),
        2 => {
            let first = random.pick(&PORTS);
            json!({"port": first, "endPort": usize::from(first) + random.below(30)})
        }
        _ => json!({"port": random.pick(&NAMES)}),
    };
    if random.chance(60) {
        port["protocol"] = json!(random.pick(&PROTOCOLS));
    }
    port
}

fn cluster_policy(random: &mut Random, number: usize) -> Value {
    let tier = random.pick(&["Admin", "Admin", "Baseline"]);
    let port = |random: &mut Random| {
        let protocol = random.pick(&["tcp", "udp", "sctp"]);
        match random.below(4) {
            0 => json!({"destinationNamedPort": random.pick(&NAMES)}),
            1 | 2 => json!({protocol: {"destinationPort": {"number": random.pick(&PORTS)}}}),
            _ => {
                let first = random.pick(&PORTS);
                json!({protocol: {"destinationPort": {"range": {"start": first, "end": first + 20}}}})
            }
        }
    };
    let spec = json!({"tier": tier, "priority": priority(random, number), "subject": subject(random)});
    let spec = tiered_rules(random, spec, &["Accept", "Deny", "Pass"], "protocols", port);
    json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": {"name": format!("cnp{number}")}, "spec": spec})
}

fn admin_policy(random: &mut Random, number: usize) -> Value {
    let spec = json!({"priority": priority(random, number), "subject": subject(random)});
    let spec = tiered_rules(random, spec, &["Allow", "Deny", "Pass"], "ports", admin_port);
    json!({"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy",
        "metadata": {"name": format!("anp{number}")}, "spec": spec})
}

/// Often that of another policy.
fn priority(random: &mut Random, number: usize) -> usize {
    if random.chance(60) { 5 } else { number + 1 }
}

fn baseline_policy(random: &mut Random) -> Value {
    let spec = json!({"subject": subject(random)});
    let spec = tiered_rules(random, spec, &["Allow", "Deny"], "ports", admin_port);
    json!({"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "BaselineAdminNetworkPolicy",
        "metadata": {"name": "default"}, "spec": spec})
}

fn admin_port(random: &mut Random) -> Value {
    let protocol = random.pick(&PROTOCOLS);
    match random.below(3) {
        0 => json!({"namedPort": random.pick(&NAMES)}),
        1 => json!({"portNumber": {"protocol": protocol, "port": random.pick(&PORTS)}}),
        _ => {
            let first = random.pick(&PORTS);
            json!({"portRange": {"protocol": protocol, "start": first, "end": first + 20}})
        }
    }
}

fn subject(random: &mut Random) -> Value {
    if random.chance(50) {
        json!({"namespaces": selector(random)})
    } else {
        json!({"pods": {"namespaceSelector": selector(random), "podSelector": selector(random)}})
    }
}

fn tiered_rules(
    random: &mut Random,
    mut spec: Value,
    actions: &[&str],
    ports: &str,
    port: impl Fn(&mut Random) -> Value,
) -> Value {
    for (field, peers) in [("ingress", "from"), ("egress", "to")] {
        if random.chance(30) {
            continue;
        }
        spec[field] = random
            .list(1, 2, |random| {
                let mut rule = json!({"action": random.pick(actions)});
                rule[peers] = random
                    .list(1, 2, |random| match random.below(if field == "egress" { 4 } else { 2 }) {
                        0 | 1 => subject(random),
                        2 => json!({"nodes": selector(random)}),
                        _ => json!({"networks": random.list(1, 2, |random| {
                            if random.chance(60) { random.pick(&V4) } else { random.pick(&V6) }
                        })}),
                    })
                    .into();
                // Rules that accept may name domains, in all kinds but one.
                let accepts = rule["action"] != "Deny" && rule["action"] != "Pass" && actions.contains(&"Pass");
                if field == "egress" && accepts && random.chance(20) {
                    let names = json!({"domainNames": ["example.org"]});
                    if random.chance(50) {
                        rule[peers] = json!([names]);
                    } else {
                        rule[peers].as_array_mut().unwrap().push(names);
                    }
                }
                if random.chance(60) {
                    // Names of ports count for pods only, and the APIs take them beside no other peers.
                    let is_of_pods =
                        |peer: &Value| ["networks", "nodes", "domainNames"].iter().all(|field| peer[*field].is_null());
                    let is_of_pods = rule[peers].as_array().unwrap().iter().all(is_of_pods);
                    let is_named =
                        |port: &Value| !port["namedPort"].is_null() || !port["destinationNamedPort"].is_null();
                    let mut list = random.list(1, 2, &port);
                    list.retain(|port| is_of_pods || !is_named(port));
                    if !list.is_empty() {
                        rule[ports] = list.into();
                    }
                }
                rule
            })
            .into();
    }
    spec
}

fn calico_policy(random: &mut Random, number: usize) -> Value {
    let is_global = random.chance(50);
    let mut spec = json!({});
    // Around the 1000 that NetworkPolicies count as.
    if number > 0 || random.chance(50) {
        spec["order"] = random.pick(&[json!(number), json!(1001 + number), json!(500.5 + number as f64)]);
    }
    if random.chance(70) {
        spec["selector"] = json!(expression(random, 0));
    }
    if is_global && random.chance(40) {
        spec["namespaceSelector"] = json!(expression(random, 1));
    }
    if random.chance(50) {
        spec["types"] = random.pick(&[json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]);
    }
    for (field, remote) in [("ingress", "source"), ("egress", "destination")] {
        if random.chance(65) {
            spec[field] = random.list(0, 2, |random| calico_rule(random, remote)).into();
        }
    }
    if is_global {
        json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
            "metadata": {"name": format!("gnp{number}")}, "spec": spec})
    } else {
        json!({"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
            "metadata": {"namespace": random.pick(&NAMESPACES), "name": format!("cal{number}")}, "spec": spec})
    }
}

fn calico_rule(random: &mut Random, remote: &str) -> Value {
    let mut rule = json!({"action": random.pick(&["Allow", "Allow", "Deny", "Pass", "Log"])});
    let mut other = json!({});
    if random.chance(45) {
        other["selector"] = json!(expression(random, 0));
        if random.chance(25) {
            other["notSelector"] = json!(expression(random, 1));
        }
    }
    if random.chance(30) {
        other["namespaceSelector"] = json!(expression(random, 1));
    }
    if random.chance(12) {
        other["serviceAccounts"] = json!({"names": [random.pick(&ACCOUNTS)]});
    }
    // Calico refuses blocks of two families in one rule.
    let nets: &[&str] = if random.chance(60) { &V4 } else { &V6 };
    if random.chance(35) {
        other["nets"] = json!(random.list(1, 2, |random| random.pick(nets)));
    }
    if random.chance(15) {
        other["notNets"] = json!([random.pick(nets)]);
    }
    if random.chance(10) {
        rule["ipVersion"] = json!(if nets[0].contains(':') { 6 } else { 4 });
    }
    rule[remote] = other;
    match random.below(6) {
        0 | 1 => {}
        2 => rule["protocol"] = json!(random.pick(&PROTOCOLS)),
        3 => rule["notProtocol"] = json!(random.pick(&PROTOCOLS)),
        _ => {
            rule["protocol"] = json!(random.pick(&PROTOCOLS));
            if rule["destination"].is_null() {
                rule["destination"] = json!({});
            }
            let range = |random: &mut Random| {
                let first = random.pick(&PORTS);
                if random.chance(50) { json!(first) } else { json!(format!("{first}:{}", first + 20)) }
            };
            if random.chance(35) {
                rule["destination"]["notPorts"] = random.list(1, 2, range).into();
                if random.chance(40) {
                    rule["destination"]["ports"] = random.list(1, 2, range).into();
                }
            } else {
                rule["destination"]["ports"] = random
                    .list(1, 2, |random| if random.chance(40) { json!(random.pick(&NAMES)) } else { range(random) })
                    .into();
            }
        }
    }
    rule
}

/// In Calico's language.
fn expression(random: &mut Random, depth: usize) -> String {
    let (key, value) = (random.pick(&KEYS), random.pick(&VALUES));
    match random.below(if depth < 2 { 14 } else { 9 }) {
        0 => "all()".to_owned(),
        1 => format!("has({key})"),
        2 => format!("!has({key})"),
        3 => format!("{key} == '{value}'"),
        4 => format!("{key} != \"{value}\""),
        5 => format!("{key} in {{'{value}', '1'}}"),
        6 => format!("{key} not in {{'{value}'}}"),
        7 => format!("{key} starts with '{value}'"),
        8 => format!("{key} contains '{value}'"),
        9 if depth == 0 => format!("projectcalico.org/namespace == '{}'", random.pick(&NAMESPACES)),
        9 | 10 => format!("!({})", expression(random, depth + 1)),
        11 | 12 => format!("{} && {}", expression(random, depth + 1), expression(random, depth + 1)),
        _ => format!("({} || {})", expression(random, depth + 1), expression(random, depth + 1)),
    }
}
