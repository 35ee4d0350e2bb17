//! Clusters to measure with. They look like real ones: namespaces with deployments of some replicas, of which a share has
//! labels of its own pods as StatefulSets do; policies of one to three rules that name apps of their own namespace, other
//! namespaces, address blocks, numbers, names and ranges of ports. The same arguments give the same cluster.

#![allow(dead_code, reason = "each bench uses its own part")]

use serde_json::{Value, json};
use signalbox_policy::Protocol;

/// How large a cluster is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub pods: usize,
    pub policies: usize,
    /// Further labels of each deployment, besides the four that all have.
    pub labels: usize,
    /// One of so many deployments is a StatefulSet, whose pods have labels of their own.
    pub stateful_every: usize,
}

pub const REPLICAS: usize = 5;
const DEPLOYMENTS_PER_NAMESPACE: usize = 20;

impl Size {
    pub const fn of(pods: usize, policies: usize) -> Self {
        Self { pods, policies, labels: 1, stateful_every: 10 }
    }

    fn deployments(self) -> usize {
        self.pods.div_ceil(REPLICAS)
    }

    fn namespaces(self) -> usize {
        self.deployments().div_ceil(DEPLOYMENTS_PER_NAMESPACE)
    }
}

/// `count` ports, TCP mostly.
pub fn ports(count: usize) -> Vec<(Protocol, u16)> {
    let first = [
        (Protocol::Tcp, 8080),
        (Protocol::Tcp, 9090),
        (Protocol::Udp, 53),
        (Protocol::Tcp, 53),
        (Protocol::Tcp, 443),
        (Protocol::Tcp, 5432),
        (Protocol::Tcp, 6379),
        (Protocol::Tcp, 80),
        (Protocol::Tcp, 30_500),
        (Protocol::Sctp, 3868),
    ];
    let more = (0_u16..).map(|number| (Protocol::Tcp, 20_000 + number));
    first.into_iter().chain(more).take(count).collect()
}

/// All objects.
pub fn objects(size: Size) -> Vec<Value> {
    let mut objects: Vec<Value> = (0..size.namespaces()).map(namespace).collect();
    objects.extend((0..size.pods).map(|number| pod(size, number)));
    objects.extend((0..size.policies).map(|number| policy(size, number)));
    objects
}

fn namespace(number: usize) -> Value {
    let team = format!("team-{}", number % 25);
    let env = if number.is_multiple_of(4) { "staging" } else { "production" };
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("ns-{number}"), "labels": {"team": team, "env": env}}})
}

/// One pod; 256 pods a node, each node with its own block.
pub fn pod(size: Size, number: usize) -> Value {
    let deployment = number / REPLICAS;
    let (node, host) = (number / 250, number % 250 + 2);
    let address = format!("10.{}.{}.{host}", 64 + node / 256, node % 256);
    let mut labels = json!({
        "app": app(deployment % DEPLOYMENTS_PER_NAMESPACE),
        "tier": (["front", "back", "data"][deployment % 3]),
        "version": format!("v{}", deployment % 7),
        "pod-template-hash": format!("{:x}", deployment * 2_654_435_761 % 0xFFFF_FFFF),
    });
    for label in 0..size.labels {
        labels[format!("example.com/label-{label}")] = json!(format!("value-{}", deployment % (7 + label)));
    }
    if deployment.is_multiple_of(size.stateful_every) {
        labels["apps.kubernetes.io/pod-index"] = json!((number % REPLICAS).to_string());
        labels["statefulset.kubernetes.io/pod-name"] = json!(format!("d{deployment}-{}", number % REPLICAS));
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": format!("ns-{}", deployment / DEPLOYMENTS_PER_NAMESPACE),
            "name": format!("d{deployment}-{}", number % REPLICAS),
            "labels": labels,
        },
        "spec": {"nodeName": format!("node-{node}"), "containers": [{"name": "main", "image": "app", "ports": [
            {"name": "http", "containerPort": if deployment.is_multiple_of(5) { 80 } else { 8080 }},
            {"name": "metrics", "containerPort": 9090},
        ]}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "hostIP": format!("192.168.{}.{}", node / 256, node % 256)},
    })
}

fn app(number: usize) -> String {
    format!("app-{number}")
}

/// One policy. Those of one namespace follow each other in steps, so that all namespaces have some.
pub fn policy(size: Size, number: usize) -> Value {
    let namespace = number % size.namespaces();
    let round = number / size.namespaces();
    let mut spec = match round {
        // The first one of each namespace shuts it.
        0 => json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
        _ => {
            let rules = 1 + number % 3;
            let selector = json!({"matchLabels": {"app": app((number * 7 + round) % DEPLOYMENTS_PER_NAMESPACE)}});
            let rule =
                |peers: &str, at: usize| json!({peers: [peer(size, number + at * 31)], "ports": [port(number + at)]});
            let ingress: Vec<Value> = (0..rules).map(|at| rule("from", at)).collect();
            json!({"podSelector": selector, "policyTypes": ["Ingress"], "ingress": ingress})
        }
    };
    if number % 3 == 1 {
        spec["policyTypes"] = json!(["Ingress", "Egress"]);
        let dns = json!({"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ns-0"}}}], "ports": [{"protocol": "UDP", "port": 53}]});
        spec["egress"] = json!([dns, {"to": [peer(size, number + 17)], "ports": [port(number + 1)]}]);
    }
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": format!("ns-{namespace}"), "name": format!("policy-{number}")}, "spec": spec})
}

fn peer(size: Size, seed: usize) -> Value {
    let own = json!({"podSelector": {"matchLabels": {"app": app(seed % DEPLOYMENTS_PER_NAMESPACE)}}});
    match seed % 10 {
        0..=4 => own,
        5 => {
            json!({"podSelector": {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["front", "back"]}]}})
        }
        6 => json!({"namespaceSelector": {"matchLabels": {"team": format!("team-{}", seed % 25)}}}),
        7 => {
            json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": app(seed / 10 % DEPLOYMENTS_PER_NAMESPACE), "tier": "front"}}})
        }
        8 => {
            json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": format!("ns-{}", seed % size.namespaces())}},
            "podSelector": {"matchExpressions": [{"key": "version", "operator": "NotIn", "values": ["v0"]}]}})
        }
        _ => {
            json!({"ipBlock": {"cidr": format!("10.64.{}.0/24", seed % 40), "except": [format!("10.64.{}.0/28", seed % 40)]}})
        }
    }
}

fn port(seed: usize) -> Value {
    match seed % 6 {
        0 | 1 => json!({"port": "http"}),
        2 => json!({"port": "metrics", "protocol": "TCP"}),
        3 => json!({"port": 8080}),
        4 => json!({"port": 5432}),
        _ => json!({"port": 30_000, "endPort": 30_900}),
    }
}
