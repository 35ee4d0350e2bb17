//! Rows, columns and cells from objects as the API server sends them.

use serde_json::{Value, json};
use signalbox_api::flow::{Decision, Protocol};
use signalbox_server::cluster::objects::{Change, Kind, Object, ObjectKey, Objects};
use signalbox_server::matrix::model::{Options, build};
use signalbox_server::matrix::spec::Audit;

fn objects(all: &[(Kind, Value)]) -> Objects {
    let mut objects = Objects::default();
    for kind in Kind::ALL {
        objects.apply(Change::All(kind, Vec::new()));
    }
    for (kind, value) in all {
        let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = ObjectKey { namespace: text("namespace"), name: text("name") };
        objects.apply(Change::Applied(*kind, Object { key, version: 1, value: value.clone() }));
    }
    objects
}

fn node() -> (Kind, Value) {
    let addresses = json!([{"type": "Hostname", "address": "lab"}, {"type": "ExternalIP", "address": "203.0.113.1"},
                           {"type": "InternalIP", "address": "198.51.100.10"}]);
    (Kind::Node, json!({"metadata": {"name": "lab"}, "status": {"addresses": addresses}}))
}

fn users() -> (Kind, Value) {
    let spec = json!({"addresses": ["198.51.100.100"], "vantage": true});
    (Kind::ExternalHost, json!({"metadata": {"name": "users"}, "spec": spec}))
}

fn service(kind: &str, balancer: &str) -> (Kind, Value) {
    let ports = json!([{"name": "tcp", "port": 80, "nodePort": 30080, "protocol": "TCP"},
                       {"name": "udp", "port": 80, "nodePort": 30081, "protocol": "UDP"}]);
    let spec = json!({"type": kind, "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": ports});
    let ingress: Vec<Value> = [balancer].iter().filter(|ip| !ip.is_empty()).map(|ip| json!({"ip": ip})).collect();
    let status = json!({"loadBalancer": {"ingress": ingress}});
    (Kind::Service, json!({"metadata": {"name": "web", "namespace": "a"}, "spec": spec, "status": status}))
}

#[test]
fn how_users_come_to_a_service() {
    // What it is, its load balancer, whether a node is known; where TCP and UDP go.
    let cases = [
        ("ClusterIP", "", true, ["10.96.0.7:80", "10.96.0.7:80"]),
        ("NodePort", "", true, ["198.51.100.10:30080", "198.51.100.10:30081"]),
        ("NodePort", "", false, ["10.96.0.7:80", "10.96.0.7:80"]),
        ("LoadBalancer", "198.51.100.200", true, ["198.51.100.200:80", "198.51.100.200:80"]),
        ("LoadBalancer", "", true, ["198.51.100.10:30080", "198.51.100.10:30081"]),
    ];
    let options =
        Options { skip_namespaces: Vec::new(), cluster_domain: "cluster.local".to_owned(), audit: Audit::Heeded };
    for (kind, balancer, with_node, expected) in cases {
        let mut all = vec![users(), service(kind, balancer)];
        all.extend(with_node.then(node));
        let model = build(&objects(&all), &options);
        let to = |protocol: Protocol| {
            let target = model.targets.iter().find(|(key, _)| key.protocol == protocol);
            target.map(|(key, target)| {
                assert_eq!((key.from.as_str(), key.to.as_str(), key.port), ("outside:users", "service:a/web", 80));
                format!("{}:{}", target.host, target.port)
            })
        };
        let found = [to(Protocol::Tcp), to(Protocol::Udp)];
        assert_eq!(found, expected.map(|text| Some(text.to_owned())), "{kind} {balancer:?}, node known: {with_node}");
    }
}

#[test]
fn a_policy_shows_what_is_unknown_of_it_and_of_no_other() {
    let policy = |namespace: &str, name: &str, cidr: &str| {
        let spec = json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": cidr}}]}]});
        let metadata = json!({"namespace": namespace, "name": name});
        let kind = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"});
        let mut value = json!({"metadata": metadata, "spec": spec});
        value.as_object_mut().expect("an object").extend(kind.as_object().expect("an object").clone());
        (Kind::NetworkPolicy, value)
    };
    let all = [policy("a", "web", "10.0.0.0/8"), policy("a", "web-2", "nonsense"), policy("ba", "web", "nonsense")];
    let options =
        Options { skip_namespaces: Vec::new(), cluster_domain: "cluster.local".to_owned(), audit: Audit::Heeded };
    let model = build(&objects(&all), &options);
    let unknown: Vec<_> =
        model.policies.iter().map(|it| (it.namespace.as_str(), it.name.as_str(), it.unknown.len())).collect();
    assert_eq!(unknown, [("a", "web", 0), ("a", "web-2", 1), ("ba", "web", 1)]);
}

#[test]
fn what_a_policy_in_audit_denies_is_allowed_where_our_enforcer_is() {
    let pod = |name: &str, address: &str| {
        let spec = json!({"nodeName": "lab", "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]});
        let status = json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]});
        let metadata = json!({"name": name, "namespace": "a"});
        (Kind::Pod, json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}))
    };
    let metadata =
        json!({"name": "shut", "namespace": "a", "annotations": {signalbox_policy::audit::ANNOTATION: "true"}});
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata,
                        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}});
    let all = [
        (Kind::Namespace, namespace),
        pod("one", "10.244.0.2"),
        pod("two", "10.244.0.3"),
        (Kind::NetworkPolicy, policy),
    ];
    for (audit, decision) in [(Audit::Heeded, Decision::Allowed), (Audit::Unheeded, Decision::Denied)] {
        let options = Options { skip_namespaces: Vec::new(), cluster_domain: "cluster.local".to_owned(), audit };
        let model = build(&objects(&all), &options);
        let cell = model.targets.iter().find(|(key, _)| key.from == "pod:a/one" && key.to == "pod:a/two");
        let (_, target) = cell.expect("the cell is there");
        assert_eq!(target.spec.decision, Some(decision), "{audit:?}: {:?}", target.spec);
        assert!(target.spec.summary.contains("ingress is shut by a/shut"), "{}", target.spec.summary);
        assert_eq!(target.spec.summary.contains("without the audit"), audit == Audit::Heeded);
        assert_eq!(model.policies[0].selects.len(), 2, "it is shown with what it selects either way");
    }
}
