//! Whom policies select, in a cluster as large as the server shows one: it asks for each policy anew whenever something changes.

use std::time::Instant;

use common::{Size, objects};
use signalbox_policy::{Cluster, PodRef, PolicyRef};

#[path = "../benches/common/mod.rs"]
mod common;

/// Each policy once looked at all pods of the cluster, which took seconds where reading the objects takes a tenth of one.
#[test]
fn whom_a_thousand_policies_select_is_found_faster_than_the_objects_are_read() {
    let objects = objects(Size::of(10_000, 1_000));
    let begin = Instant::now();
    let cluster = Cluster::from_objects(&objects);
    let read = begin.elapsed();
    let policies: Vec<PolicyRef> = objects
        .iter()
        .filter(|object| object["kind"] == "NetworkPolicy")
        .map(|policy| {
            let text = |field: &str| policy["metadata"][field].as_str().expect("the bench names it").to_owned();
            PolicyRef::network_policy(&text("namespace"), &text("name"))
        })
        .collect();
    let begin = Instant::now();
    let selected: usize = policies.iter().map(|policy| cluster.selected_by(policy).len()).sum();
    let asked = begin.elapsed();
    assert!(selected > 10_000, "{selected} pods: the first policy of each namespace alone selects all of its pods");
    assert!(asked < read, "asked: {asked:?}, read: {read:?}");
}

/// Pods of one namespace are found as a stretch of all pods, in order of their names.
#[test]
fn neighbours_by_name_are_not_selected() {
    let namespaces = ["x", "x-1", "w", "xa", "y"];
    let pod = |namespace: &str, name: &str| serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": name}});
    let policy = |namespace: &str| {
        serde_json::json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": namespace, "name": "all"}, "spec": {"podSelector": {}}})
    };
    let pods = namespaces.iter().flat_map(|namespace| ["a", "b"].map(|name| pod(namespace, name)));
    let policies = namespaces.iter().chain(&["empty"]).map(|namespace| policy(namespace));
    let objects: Vec<_> = pods.chain(policies).collect();
    let cluster = Cluster::from_objects(&objects);
    for namespace in namespaces {
        let own = ["a", "b"].map(|name| PodRef { namespace: namespace.to_owned(), name: name.to_owned() });
        assert_eq!(cluster.selected_by(&PolicyRef::network_policy(namespace, "all")), own, "{namespace}");
    }
    assert_eq!(cluster.selected_by(&PolicyRef::network_policy("empty", "all")), []);
}
