//! Random small clusters with nodes and with policies of all kinds and tiers. The enforcer's tests use them, too.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use signalbox_policy::Party;
use signalbox_policy::evaluate::Endpoint;

use super::generate::{self, BLOCKS, Description, EXTERNAL, NAMES, NAMESPACES, PORTS, labels, selector};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// Blocks that hold nodes, besides those of the other generator.
const NODE_BLOCKS: [&str; 3] = ["198.51.100.0/24", "198.51.100.2/32", "fd00:1::/64"];

/// A cluster with nodes and policies of all kinds.
#[derive(Clone, Debug)]
pub struct Tiered {
    pub base: Description,
    nodes: Vec<Value>,
    policies: Vec<Value>,
}

impl Tiered {
    pub fn objects(&self) -> Vec<Value> {
        self.base.objects().into_iter().chain(self.nodes.iter().chain(&self.policies).cloned()).collect()
    }

    /// What the tables of a node can be asked about: addresses, and the node itself.
    pub fn places(&self) -> Vec<Place> {
        let place = |party: Party, address: IpAddr, node: Option<&str>, is_pod: bool| Place {
            party,
            address: Some(address),
            endpoint: Endpoint::Address(address),
            host: node.map(str::to_owned).filter(|_| !is_pod),
            pod_on: node.map(str::to_owned).filter(|_| is_pod),
        };
        let mut places = Vec::new();
        for pod in &self.base.pods {
            if pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed" {
                continue;
            }
            let is_pod = pod["spec"]["hostNetwork"] != true;
            let party = Party::Pod(generate::pod_ref(pod));
            for ip in pod["status"]["podIPs"].as_array().expect("generated") {
                let address = ip["ip"].as_str().expect("generated").parse().expect("generated");
                places.push(place(party.clone(), address, pod["spec"]["nodeName"].as_str(), is_pod));
                if !is_pod {
                    places.push(place(Party::Address(address), address, pod["spec"]["nodeName"].as_str(), false));
                }
            }
        }
        for node in &self.nodes {
            for item in node["status"]["addresses"].as_array().expect("generated") {
                let address: IpAddr = item["address"].as_str().expect("generated").parse().expect("generated");
                places.push(place(Party::Address(address), address, node["metadata"]["name"].as_str(), false));
            }
        }
        for address in EXTERNAL.into_iter().chain(["198.51.100.9"]) {
            let address: IpAddr = address.parse().expect("sound");
            places.push(place(Party::Address(address), address, None, false));
        }
        let (party, endpoint) = (Party::LocalNode, Endpoint::LocalNode);
        places.push(Place { party, address: None, endpoint, host: None, pod_on: None });
        places
    }
}

/// An end of a connection.
#[derive(Debug)]
#[allow(dead_code, reason = "the enforcer's tests do not use all of it")]
pub struct Place {
    pub party: Party,
    pub address: Option<IpAddr>,
    pub endpoint: Endpoint,
    /// The node that it is.
    pub host: Option<String>,
    /// The node that it runs on.
    pub pod_on: Option<String>,
}

/// A cluster with all kinds of policies; `with_unknowns`: some of it cannot be understood.
pub fn tiered(with_unknowns: bool) -> impl Strategy<Value = Tiered> {
    let unread = prop::bool::weighted(if with_unknowns { 0.05 } else { 0.0 });
    let nowhere = prop::bool::weighted(if with_unknowns { 0.3 } else { 0.0 });
    let base = (generate::description(with_unknowns), vec((unread, nowhere), 7));
    let policies = vec(policy(with_unknowns), 0..5);
    (base, vec(node(with_unknowns), NODES.len()), policies).prop_map(|((mut base, unread), nodes, policies)| {
        for (pod, (unread, nowhere)) in base.pods.iter_mut().zip(unread) {
            if unread {
                pod["metadata"]["labels"] = json!({"a": 1});
            }
            if nowhere && pod["spec"]["hostNetwork"] == true {
                pod["spec"].as_object_mut().expect("generated").remove("nodeName");
            }
        }
        let named = policies.into_iter().enumerate().map(|(index, mut policy)| {
            if policy["kind"] != "BaselineAdminNetworkPolicy" {
                policy["metadata"]["name"] = json!(format!("p{index}"));
            }
            policy
        });
        let nodes = nodes.into_iter().enumerate().filter_map(|(index, node)| {
            let mut node = node?;
            node["metadata"]["name"] = json!(NODES[index]);
            let address = [format!("198.51.100.{}", index + 1), format!("fd00:1::{}", index + 1)];
            node["status"]["addresses"] = address.map(|it| json!({"type": "InternalIP", "address": it})).into();
            Some(node)
        });
        Tiered { base, nodes: nodes.collect(), policies: named.collect() }
    })
}

/// A node without a name and addresses; absent, or without labels that can be read, where something may be unknown.
fn node(with_unknowns: bool) -> impl Strategy<Value = Option<Value>> {
    let seldom = || prop::bool::weighted(if with_unknowns { 0.2 } else { 0.0 });
    (labels(), seldom(), seldom()).prop_map(|(labels, is_unread, is_absent)| {
        let labels = if is_unread { json!({"a": 1}) } else { labels };
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"labels": labels}, "status": {}});
        (!is_absent).then_some(node)
    })
}

/// A policy without a name.
fn policy(with_unknowns: bool) -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => cluster_policy(with_unknowns),
        4 => calico(),
        2 => ancestor("AdminNetworkPolicy", &["Allow", "Deny", "Pass"]),
        1 => ancestor("BaselineAdminNetworkPolicy", &["Allow", "Deny"]),
    ]
}

fn cluster_policy(with_unknowns: bool) -> impl Strategy<Value = Value> {
    let broken = prop::bool::weighted(if with_unknowns { 0.05 } else { 0.0 });
    let rules = |field| vec(rule(field, "protocols", &["Accept", "Deny", "Pass"], cluster_port(), with_unknowns), 0..4);
    (select(vec!["Admin", "Baseline"]), 0..3, subject(), rules("from"), rules("to"), broken).prop_map(
        |(tier, priority, subject, ingress, egress, broken)| {
            let tier = if broken { "Middle" } else { tier };
            json!({
                "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {},
                "spec": {"tier": tier, "priority": priority, "subject": subject, "ingress": ingress, "egress": egress},
            })
        },
    )
}

fn ancestor(kind: &'static str, actions: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let rules = |field| vec(rule(field, "ports", actions, ancestor_port(), false), 0..3);
    (0..3, subject(), rules("from"), rules("to")).prop_map(move |(priority, subject, ingress, egress)| {
        let mut spec = json!({"subject": subject, "ingress": ingress, "egress": egress});
        let mut metadata = json!({"name": "default"});
        if kind == "AdminNetworkPolicy" {
            spec["priority"] = json!(priority);
            metadata = json!({});
        }
        json!({"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
    })
}

fn subject() -> impl Strategy<Value = Value> {
    prop_oneof![
        selector().prop_map(|namespaces| json!({"namespaces": namespaces})),
        (selector(), selector())
            .prop_map(|(namespaces, pods)| json!({"pods": {"namespaceSelector": namespaces, "podSelector": pods}})),
    ]
}

fn rule(
    peers: &'static str,
    ports_field: &'static str,
    actions: &'static [&'static str],
    port: impl Strategy<Value = Value> + Clone + 'static,
    with_unknowns: bool,
) -> impl Strategy<Value = Value> {
    let is_egress = peers == "to";
    let doubtful = prop::bool::weighted(if with_unknowns { 0.08 } else { 0.0 });
    (select(actions), vec(peer(is_egress), 1..3), option::weighted(0.6, vec(port, 1..3)), doubtful).prop_map(
        move |(action, who, ports, doubtful)| {
            let mut rule = json!({"action": action, peers: who});
            // The API refuses a port's name beside peers that are no pods.
            let only_pods = who.iter().all(|peer| peer.get("networks").is_none() && peer.get("nodes").is_none());
            let is_named = |port: &Value| port.get("destinationNamedPort").or(port.get("namedPort")).is_some();
            if let Some(ports) = ports.filter(|ports| only_pods || !ports.iter().any(is_named)) {
                rule[ports_field] = json!(ports);
            }
            if doubtful {
                rule["schedule"] = json!("weekends");
            }
            rule
        },
    )
}

fn peer(is_egress: bool) -> BoxedStrategy<Value> {
    let pods = prop_oneof![
        1 => selector().prop_map(|namespaces| json!({"namespaces": namespaces})),
        1 => (selector(), selector()).prop_map(|(namespaces, pods)| json!({"pods": {"namespaceSelector": namespaces, "podSelector": pods}})),
    ];
    if !is_egress {
        return pods.boxed();
    }
    let blocks: Vec<&str> = BLOCKS.into_iter().chain(NODE_BLOCKS).collect();
    prop_oneof![
        2 => pods,
        1 => vec(select(blocks), 1..3).prop_map(|nets| json!({"networks": nets})),
        1 => selector().prop_map(|nodes| json!({"nodes": nodes})),
    ]
    .boxed()
}

fn cluster_port() -> impl Strategy<Value = Value> + Clone {
    let number = prop_oneof![
        1 => select(&PORTS[..]).prop_map(|port| json!({"number": port})),
        1 => (select(&PORTS[..]), 1_u16..30).prop_map(|(port, more)| {
            let end = port.saturating_add(more);
            if end > port { json!({"range": {"start": port, "end": end}}) } else { json!({"number": port}) }
        }),
    ];
    let numbered = (select(vec!["tcp", "udp", "sctp"]), number)
        .prop_map(|(protocol, port)| json!({protocol: {"destinationPort": port}}));
    prop_oneof![2 => numbered, 1 => select(&NAMES[..]).prop_map(|name| json!({"destinationNamedPort": name}))]
}

fn ancestor_port() -> impl Strategy<Value = Value> + Clone {
    let numbered = (select(vec!["TCP", "UDP", "SCTP"]), select(&PORTS[..]))
        .prop_map(|(protocol, port)| json!({"portNumber": {"protocol": protocol, "port": port}}));
    prop_oneof![2 => numbered, 1 => select(&NAMES[..]).prop_map(|name| json!({"namedPort": name}))]
}

/// One of Calico's, which stands among the NetworkPolicies and can deny and pass on.
fn calico() -> impl Strategy<Value = Value> {
    const SUBJECTS: [&str; 5] = ["all()", "a == '1'", "has(b)", "!has(a) || b in {'', '2'}", "b != '1'"];
    let types = select(vec![json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]);
    let order = option::of(select(vec![10, 500, 2000]));
    let rules = |entity| vec(calico_rule(entity), 0..3);
    (option::of(select(&NAMESPACES[..])), select(&SUBJECTS[..]), order, types, rules("source"), rules("destination"))
        .prop_map(|(namespace, selector, order, types, ingress, egress)| {
            let mut spec = json!({"selector": selector, "types": types, "ingress": ingress, "egress": egress});
            if let Some(order) = order {
                spec["order"] = json!(order);
            }
            let (kind, metadata) = match namespace {
                Some(namespace) => ("NetworkPolicy", json!({"namespace": namespace})),
                None => ("GlobalNetworkPolicy", json!({})),
            };
            json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec})
        })
}

fn calico_rule(entity: &'static str) -> impl Strategy<Value = Value> {
    const PEERS: [&str; 5] = ["all()", "a == '2'", "has(a)", "a contains '1' || !has(b)", "b not in {'1'}"];
    let who = (
        option::of(select(&PEERS[..])),
        option::of(select(vec!["all()", "a == '1'", "has(b)"])),
        option::weighted(0.3, vec(select(vec!["10.0.0.0/30", "10.0.0.2/32", "192.0.2.0/24", "0.0.0.0/0"]), 1..3)),
        option::weighted(0.2, select(vec!["10.0.0.2/32", "192.0.2.128/25"])),
    );
    let ports = (
        select(vec!["TCP", "UDP", "SCTP"]),
        option::of(select(vec![json!([80]), json!(["80:85", 53]), json!(["http"]), json!(["1:65535"])])),
        option::weighted(0.2, select(vec![json!([81]), json!(["50:60"])])),
    );
    (select(vec!["Allow", "Deny", "Pass"]), who, option::weighted(0.6, ports)).prop_map(
        move |(action, (selector, namespaces, nets, not_nets), ports)| {
            let mut rule = json!({"action": action, entity: {}});
            let fields = [
                ("selector", selector.map(|it| json!(it))),
                ("namespaceSelector", namespaces.map(|it| json!(it))),
                ("nets", nets.map(|it| json!(it))),
                ("notNets", not_nets.map(|it| json!([it]))),
            ];
            for (field, value) in fields {
                if let Some(value) = value {
                    rule[entity][field] = value;
                }
            }
            if let Some((protocol, ports, not_ports)) = ports {
                rule["protocol"] = json!(protocol);
                for (field, value) in [("ports", ports), ("notPorts", not_ports)] {
                    if let Some(value) = value {
                        rule["destination"][field] = value;
                    }
                }
            }
            rule
        },
    )
}
