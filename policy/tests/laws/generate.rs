//! Random small clusters with every feature.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};
use signalbox_policy::{Party, PodRef};

/// Ports that questions are about: in, at the ends of, and outside what rules name.
pub const PORTS: [u16; 5] = [53, 80, 81, 90, 65535];

/// Addresses that are no pod's: inside blocks, inside exceptions, and outside.
pub const EXTERNAL: [&str; 5] = ["192.0.2.1", "192.0.2.200", "203.0.113.9", "2001:db8::1", "fd00::ffff"];

pub const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const KEYS: [&str; 2] = ["a", "b"];
const VALUES: [&str; 3] = ["", "1", "2"];
pub const NAMES: [&str; 2] = ["http", "dns"];
pub const BLOCKS: [&str; 12] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/30",
    "10.0.0.7/29",
    "10.0.0.2/32",
    "192.0.2.0/24",
    "192.0.2.128/25",
    "::/0",
    "fd00::/8",
    "fd00::/126",
    "fd00::2/128",
    "2001:db8::/32",
];

#[derive(Clone, Debug)]
pub struct Description {
    pub namespaces: Vec<Value>,
    pub pods: Vec<Value>,
    pub policies: Vec<Value>,
}

impl Description {
    pub fn objects(&self) -> Vec<Value> {
        self.namespaces.iter().chain(&self.pods).chain(&self.policies).cloned().collect()
    }

    /// The pods that have a network of their own.
    pub fn running_pods(&self) -> Vec<(PodRef, Vec<IpAddr>)> {
        let running = self.pods.iter().filter(|pod| {
            pod["spec"]["hostNetwork"] != true
                && pod["status"]["phase"] != "Succeeded"
                && pod["status"]["phase"] != "Failed"
        });
        running
            .map(|pod| {
                let ips = pod["status"]["podIPs"].as_array().expect("generated");
                let ips = ips.iter().map(|ip| ip["ip"].as_str().expect("generated").parse().expect("generated"));
                (pod_ref(pod), ips.collect())
            })
            .collect()
    }

    pub fn node_of(&self, pod: &PodRef) -> Option<&str> {
        self.pods.iter().find(|it| pod_ref(it) == *pod)?["spec"]["nodeName"].as_str()
    }

    /// All ends, each with each.
    pub fn pairs(&self) -> Vec<(Party, Party)> {
        let mut parties: Vec<Party> = self.pods.iter().map(|pod| Party::Pod(pod_ref(pod))).collect();
        parties.extend(EXTERNAL.iter().map(|address| Party::Address(address.parse().expect("generated"))));
        let pairs = parties.iter().flat_map(|from| parties.iter().map(move |to| (from.clone(), to.clone())));
        pairs.collect()
    }
}

pub fn pod_ref(pod: &Value) -> PodRef {
    let text = |field: &str| pod["metadata"][field].as_str().expect("generated").to_owned();
    PodRef { namespace: text("namespace"), name: text("name") }
}

/// A cluster; `with_broken`: some of its policies cannot be understood.
pub fn description(with_broken: bool) -> impl Strategy<Value = Description> {
    let namespaces = vec(option::weighted(0.8, labels()), NAMESPACES.len());
    let policies = vec(policy(with_broken), 0..6);
    (namespaces, vec(pod(), 1..7), policies).prop_map(|(namespaces, pods, policies)| {
        let namespaces = NAMESPACES.iter().zip(namespaces).filter_map(|(name, labels)| {
            Some(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels?}}))
        });
        let pods = pods.into_iter().enumerate().map(|(index, mut pod)| {
            pod["metadata"]["name"] = json!(format!("p{index}"));
            // Addresses are the pod's number, so that no two pods share one; the families come from the generator.
            let families = pod["status"]["podIPs"].take();
            let is_host = pod["spec"]["hostNetwork"] == true;
            let ips = families.as_array().expect("generated").iter().map(|family| match (is_host, family == "v4") {
                (false, true) => json!({"ip": format!("10.0.0.{}", index + 1)}),
                (false, false) => json!({"ip": format!("fd00::{:x}", index + 1)}),
                (true, true) => json!({"ip": format!("172.16.0.{}", index + 1)}),
                (true, false) => json!({"ip": format!("fc00::{:x}", index + 1)}),
            });
            pod["status"]["podIPs"] = ips.collect();
            pod
        });
        let policies = policies.into_iter().enumerate().map(|(index, policy)| renamed(policy, &format!("np{index}")));
        Description { namespaces: namespaces.collect(), pods: pods.collect(), policies: policies.collect() }
    })
}

pub fn renamed(mut policy: Value, name: &str) -> Value {
    policy["metadata"]["name"] = json!(name);
    policy
}

/// One policy per namespace that isolates everything.
pub fn isolating_all() -> Vec<Value> {
    NAMESPACES
        .iter()
        .map(|namespace| {
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"namespace": namespace, "name": "base"},
                "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}})
        })
        .collect()
}

pub fn labels() -> impl Strategy<Value = Value> {
    vec(option::of(select(&VALUES[..])), KEYS.len()).prop_map(|values| {
        let pairs = KEYS.iter().zip(values).filter_map(|(key, value)| Some(((*key).to_owned(), json!(value?))));
        Value::Object(pairs.collect())
    })
}

fn pod() -> impl Strategy<Value = Value> {
    let families = prop_oneof![3 => Just(json!(["v4"])), 1 => Just(json!(["v6"])), 2 => Just(json!(["v4", "v6"]))];
    let phase = prop_oneof![8 => Just("Running"), 1 => Just("Succeeded"), 1 => Just("Failed")];
    (
        select(&NAMESPACES[..]),
        labels(),
        select(vec!["n1", "n2"]),
        prop::bool::weighted(0.1),
        phase,
        families,
        vec(named_port(), 0..4),
    )
        .prop_map(|(namespace, labels, node, host, phase, families, ports)| {
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"namespace": namespace, "name": "", "labels": labels},
                "spec": {"nodeName": node, "hostNetwork": host, "containers": [{"name": "c", "ports": ports}]},
                "status": {"phase": phase, "podIPs": families}})
        })
}

fn named_port() -> impl Strategy<Value = Value> {
    (select(&NAMES[..]), option::of(protocol()), select(&PORTS[..])).prop_map(|(name, protocol, number)| {
        let mut port = json!({"name": name, "containerPort": number});
        if let Some(protocol) = protocol {
            port["protocol"] = json!(protocol);
        }
        port
    })
}

pub fn protocol() -> impl Strategy<Value = &'static str> {
    select(vec!["TCP", "UDP", "SCTP"])
}

/// A policy without a name.
pub fn policy(with_broken: bool) -> impl Strategy<Value = Value> {
    let types = prop_oneof![
        3 => Just(None),
        1 => Just(Some(json!([]))),
        1 => Just(Some(json!(["Ingress"]))),
        1 => Just(Some(json!(["Egress"]))),
        2 => Just(Some(json!(["Egress", "Ingress"]))),
    ];
    let broken = prop::bool::weighted(if with_broken { 0.15 } else { 0.0 });
    (select(&NAMESPACES[..]), option::weighted(0.9, selector()), types, rules("from"), rules("to"), broken).prop_map(
        |(namespace, selector, types, ingress, egress, broken)| {
            let mut spec = json!({});
            let fields = [("podSelector", selector), ("policyTypes", types), ("ingress", ingress), ("egress", egress)];
            for (field, value) in fields {
                if let Some(value) = value {
                    spec[field] = value;
                }
            }
            if broken {
                spec["ingress"] = json!([{"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}]);
            }
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"namespace": namespace, "name": ""}, "spec": spec})
        },
    )
}

fn rules(peers: &'static str) -> impl Strategy<Value = Option<Value>> {
    option::of(vec(rule(peers), 0..3).prop_map(Value::Array))
}

fn rule(peers: &'static str) -> impl Strategy<Value = Value> {
    (option::weighted(0.8, vec(peer(), 0..3)), option::weighted(0.7, vec(port(), 0..3))).prop_map(
        move |(who, ports)| {
            let mut rule = json!({});
            if let Some(who) = who {
                rule[peers] = Value::Array(who);
            }
            if let Some(ports) = ports {
                rule["ports"] = Value::Array(ports);
            }
            rule
        },
    )
}

fn peer() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => selector().prop_map(|pods| json!({"podSelector": pods})),
        1 => selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        1 => (selector(), selector()).prop_map(|(pods, namespaces)| json!({"podSelector": pods, "namespaceSelector": namespaces})),
        1 => Just(json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "y"}}})),
        2 => block(),
    ]
}

fn block() -> impl Strategy<Value = Value> {
    select(&BLOCKS[..]).prop_flat_map(|cidr| {
        let outer: ipnet::IpNet = cidr.parse().expect("generated");
        let inside: Vec<&str> = BLOCKS
            .into_iter()
            .filter(|inner| {
                let inner: ipnet::IpNet = inner.parse().expect("generated");
                outer.trunc().contains(&inner.trunc()) && outer.prefix_len() < inner.prefix_len()
            })
            .collect();
        let count = inside.len();
        subsequence(inside, 0..=count.min(2)).prop_map(move |except| {
            if except.is_empty() {
                json!({"ipBlock": {"cidr": cidr}})
            } else {
                json!({"ipBlock": {"cidr": cidr, "except": except}})
            }
        })
    })
}

fn port() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        1 => Just(json!({})),
        2 => select(&PORTS[..]).prop_map(|port| json!({"port": port})),
        2 => (select(&PORTS[..]), 0_u16..30).prop_map(|(port, more)| json!({"port": port, "endPort": port.saturating_add(more)})),
        3 => select(&NAMES[..]).prop_map(|name| json!({"port": name})),
    ];
    (number, option::of(protocol())).prop_map(|(mut port, protocol)| {
        if let Some(protocol) = protocol {
            port["protocol"] = json!(protocol);
        }
        port
    })
}

pub fn selector() -> impl Strategy<Value = Value> {
    let expression =
        (select(&KEYS[..]), 0..4_usize, subsequence(VALUES.to_vec(), 1..3)).prop_map(|(key, operator, values)| {
            match operator {
                0 => json!({"key": key, "operator": "In", "values": values}),
                1 => json!({"key": key, "operator": "NotIn", "values": values}),
                2 => json!({"key": key, "operator": "Exists"}),
                _ => json!({"key": key, "operator": "DoesNotExist"}),
            }
        });
    prop_oneof![
        2 => Just(json!({})),
        2 => labels().prop_map(|labels| json!({"matchLabels": labels})),
        2 => vec(expression.clone(), 0..2).prop_map(|list| json!({"matchExpressions": list})),
        1 => (labels(), vec(expression, 1..2)).prop_map(|(labels, list)| json!({"matchLabels": labels, "matchExpressions": list})),
    ]
}
