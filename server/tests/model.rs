//! Rows, columns and cells from objects as the API server sends them.

use serde_json::{Value, json};
use signalbox_api::flow::{Decision, Protocol};
use signalbox_server::cluster::objects::{Change, Kind, Object, ObjectKey, Objects};
use signalbox_server::matrix::model::{Options, Place, build};
use signalbox_server::matrix::spec::Audit;
use signalbox_server::{ServiceHost, Vantages};

fn options(vantages: Vantages) -> Options {
    Options {
        skip_namespaces: Vec::new(),
        run: None,
        cluster_domain: "cluster.local".to_owned(),
        audit: Audit::Heeded,
        vantages,
        service_host: ServiceHost::Name,
        max_cells: 1_000,
    }
}

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
    let options = options(Vantages::All);
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
    let options = options(Vantages::All);
    let model = build(&objects(&all), &options);
    let unknown: Vec<_> =
        model.policies.iter().map(|it| (it.namespace.as_str(), it.name.as_str(), it.unknown.len())).collect();
    assert_eq!(unknown, [("a", "web", 0), ("a", "web-2", 1), ("ba", "web", 1)]);
}

fn pod(name: &str, address: &str, labels: Value) -> (Kind, Value) {
    let containers = json!([{"name": "app", "ports": [{"containerPort": 80}]}, {"name": "prober"}]);
    let running = |name: &str| json!({"name": name, "state": {"running": {}}, "restartCount": 0});
    let status =
        json!({"phase": "Running", "podIP": address, "containerStatuses": [running("app"), running("prober")]});
    let metadata = json!({"name": name, "namespace": "a", "labels": labels});
    let kind = json!({"apiVersion": "v1", "kind": "Pod"});
    let mut value = json!({"metadata": metadata, "spec": {"containers": containers}, "status": status});
    value.as_object_mut().expect("an object").extend(kind.as_object().expect("an object").clone());
    (Kind::Pod, value)
}

#[test]
fn in_a_cluster_probes_start_where_the_label_says_so_and_the_others_are_judged_all_the_same() {
    let all = [
        pod("app", "10.0.0.1", json!({"run": "app"})),
        pod("first", "10.0.0.2", json!({"signalbox.dev/probe": ""})),
        pod("named", "10.0.0.3", json!({"signalbox.dev/probe": "prober"})),
        pod("wrong", "10.0.0.4", json!({"signalbox.dev/probe": "nothing"})),
        pod(
            "stand-in",
            "10.0.0.5",
            json!({"signalbox.dev/probe": "", "signalbox.dev/stands-in-for": "deployment.app"}),
        ),
    ];
    let model = build(&objects(&all), &options(Vantages::Labelled));
    let container = |id: &str| match &model.vantages.get(id)?.place {
        Place::Pod { container, .. } => container.clone(),
        Place::Outside { .. } => None,
    };
    assert_eq!(container("pod:a/app"), None);
    assert_eq!(container("pod:a/first").as_deref(), Some("app"));
    assert_eq!(container("pod:a/named").as_deref(), Some("prober"));
    let endpoint = |name: &str| model.endpoints.iter().find(|endpoint| endpoint.name == name).expect("it is there");
    assert!(!endpoint("app").vantage);
    assert!(endpoint("first").vantage);
    assert!(endpoint("wrong").problem.as_deref().is_some_and(|text| text.contains("container nothing")));
    assert_eq!(endpoint("stand-in").workload, "a/app (stand-in)");
    // 5 pods to 5 pods, and all of them judged, with a probe or without.
    assert_eq!(model.targets.len(), 25);
    assert!(model.targets.values().all(|target| target.spec.decision.is_some()));
    // An application need not answer a datagram that it does not understand.
    let answers = |to: &str| model.targets.iter().filter(|(key, _)| key.to == to).all(|(_, target)| target.answers);
    assert!(!answers("pod:a/app"));
    assert!(answers("pod:a/first"));
    assert!(model.left_out.is_empty(), "{:?}", model.left_out);
    assert!(!model.nothing_to_try);
}

#[test]
fn what_would_be_too_many_cells_is_left_out_and_named() {
    let all = [
        pod("app", "10.0.0.1", json!({})),
        pod("other", "10.0.0.2", json!({})),
        pod("probe", "10.0.0.3", json!({"signalbox.dev/probe": ""})),
    ];
    for (max_cells, cells, words) in [(9, 9, None), (8, 3, Some("no rows")), (2, 1, Some("neither rows nor columns"))] {
        let model = build(&objects(&all), &Options { max_cells, ..options(Vantages::Labelled) });
        assert_eq!(model.targets.len(), cells, "{max_cells}");
        assert_eq!(model.left_out.is_empty(), words.is_none(), "{max_cells}");
        assert!(model.left_out.concat().contains(words.unwrap_or_default()), "{max_cells}");
    }
}

#[test]
fn what_a_policy_in_audit_denies_is_allowed_where_our_enforcer_is() {
    let metadata =
        json!({"name": "shut", "namespace": "a", "annotations": {signalbox_policy::audit::ANNOTATION: "true"}});
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata,
                        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}});
    let all = [
        (Kind::Namespace, namespace),
        pod("one", "10.0.0.1", json!({})),
        pod("two", "10.0.0.2", json!({})),
        (Kind::NetworkPolicy, policy),
    ];
    for (audit, decision) in [(Audit::Heeded, Decision::Allowed), (Audit::Unheeded, Decision::Denied)] {
        let model = build(&objects(&all), &Options { audit, ..options(Vantages::All) });
        let cell = model.targets.iter().find(|(key, _)| key.from == "pod:a/one" && key.to == "pod:a/two");
        let (_, target) = cell.expect("the cell is there");
        assert_eq!(target.spec.decision, Some(decision), "{audit:?}: {:?}", target.spec);
        assert!(target.spec.summary.contains("ingress is shut by a/shut"), "{}", target.spec.summary);
        assert_eq!(target.spec.summary.contains("without the audit"), audit == Audit::Heeded);
        assert_eq!(model.policies[0].selects.len(), 2, "it is shown with what it selects either way");
    }
}

#[test]
fn what_a_run_has_made_for_itself_is_in_no_matrix_but_its_own() {
    let namespace =
        |name: &str, labels: Value| (Kind::Namespace, json!({"metadata": {"name": name, "labels": labels}}));
    let within = |namespace: &str, name: &str, address: &str| {
        let (kind, mut value) = pod(name, address, json!({"signalbox.dev/probe": ""}));
        value["metadata"]["namespace"] = namespace.into();
        (kind, value)
    };
    let all = [
        namespace("a", json!({"team": "one"})),
        namespace("x-1", json!({"signalbox.dev/run": "1"})),
        namespace("x-2", json!({"signalbox.dev/run": "2"})),
        within("a", "web", "10.0.0.1"),
        within("x-1", "probe", "10.0.0.2"),
        within("x-2", "probe", "10.0.0.3"),
        // Its namespace's object has not come yet.
        within("new", "web", "10.0.0.4"),
        users(),
    ];
    for (run, shown) in [
        (None, vec!["outside:users", "pod:a/web", "pod:new/web"]),
        (Some("2"), vec!["pod:x-2/probe"]),
        (Some("3"), vec![]),
    ] {
        let model = build(&objects(&all), &Options { run: run.map(str::to_owned), ..options(Vantages::Labelled) });
        let mut endpoints: Vec<&str> = model.endpoints.iter().map(|endpoint| endpoint.id.as_str()).collect();
        endpoints.sort_unstable();
        assert_eq!(endpoints, shown, "{run:?}");
        let says_so =
            model.left_out.iter().any(|text| text.ends_with("(label signalbox.dev/run): namespaces x-1, x-2"));
        assert_eq!(says_so, run.is_none(), "{:?}", model.left_out);
        assert_eq!(model.vantages.keys().map(String::as_str).collect::<Vec<_>>(), shown, "{run:?}");
    }
}
