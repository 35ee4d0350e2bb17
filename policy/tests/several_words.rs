//! The matrix after changes to a cluster larger than those of the laws: its sets of pods fill several words of bits.

use serde_json::{Value, json};
use signalbox_policy::{Cluster, ObjectRef, Protocol};

/// Two pods fewer than fill two words.
const PODS: usize = 126;
const PORTS: [(Protocol, u16); 2] = [(Protocol::Tcp, 80), (Protocol::Udp, 53)];

fn pod(number: usize, app: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": format!("pod-{number}"), "labels": {"app": format!("app-{app}")}},
        "spec": {"containers": [{"name": "main", "ports": [{"name": "http", "containerPort": 80 + number % 2}]}]},
        "status": {"podIPs": [{"ip": format!("10.0.0.{number}")}]}})
}

/// An admin shuts one app out, so that the sets of those let in have nearly all pods; the rest are short.
fn policies() -> [Value; 3] {
    let app = |number: usize| json!({"podSelector": {"matchLabels": {"app": format!("app-{number}")}}});
    [
        json!({"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy", "metadata": {"name": "shut"},
            "spec": {"priority": 1, "subject": {"namespaces": {}}, "ingress": [{"action": "Deny", "from": [
                {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "app-1"}}}}]}]}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"namespace": "shop", "name": "in"},
            "spec": {"podSelector": {"matchLabels": {"app": "app-2"}}, "ingress": [{"from": [app(3)]}]}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"namespace": "shop", "name": "out"},
            "spec": {"podSelector": {"matchLabels": {"app": "app-3"}}, "policyTypes": ["Egress"],
                "egress": [{"to": [app(0), app(2)], "ports": [{"port": "http"}]}]}}),
    ]
}

#[test]
fn pods_that_come_change_and_go_leave_the_matrix_right() {
    let mut objects = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})];
    objects.extend(policies());
    objects.extend((0..PODS).map(|number| pod(number, number % 5)));
    let mut cluster = Cluster::from_objects(&objects);
    assert_eq!(cluster.unknowns(), [""; 0]);
    let mut matrix = cluster.matrix(&PORTS);
    let mut step = |changed: Option<Value>, removed: Option<ObjectRef>| {
        cluster = cluster.with_change(&changed, &removed);
        matrix = matrix.after(&cluster);
        let fresh = cluster.matrix(&PORTS);
        let pods = fresh.pods().len();
        for (from, to, port) in (0..pods).flat_map(|from| (0..pods * 2).map(move |at| (from, at / 2, at % 2))) {
            let names = || [from, to].map(|at| fresh.pods().nth(at).cloned());
            assert_eq!(
                matrix.cell(from, to, port),
                fresh.cell(from, to, port),
                "{:?}: {changed:?}, {removed:?}",
                names()
            );
        }
    };
    // The last words fill up, and there is another one.
    for number in PODS..PODS + 6 {
        step(Some(pod(number, 4)), None);
    }
    for app in 0..5 {
        step(Some(pod(7, app)), None);
        step(Some(pod(PODS + 5, app)), None);
    }
    for number in [3, PODS + 1, PODS + 5] {
        step(None, ObjectRef::of(&pod(number, 0)));
    }
    step(Some(pod(3, 2)), None);
    step(Some(pod(200, 1)), None);
}
