//! What it costs to compile the tables of one node of a large cluster: 10,000 pods, 1,000 policies, 100 pods on the node.
//! Without optimisation a tenth of it is compiled, and only the result is checked.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_policy::{Cluster, IdentityAllocator};

struct Size {
    pods: usize,
    policies: usize,
    nodes: usize,
}

const NAMESPACES: usize = 100;
const APPS: usize = 20;

fn objects(size: &Size) -> Vec<Value> {
    let mut objects: Vec<Value> = (0..NAMESPACES)
        .map(|at| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("ns{at}"), "labels": {"team": format!("t{}", at % 10)}}}))
        .collect();
    for at in 0..size.pods {
        let (namespace, app) = (at % NAMESPACES, at / NAMESPACES % APPS);
        objects.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": format!("ns{namespace}"), "name": format!("pod-{at}"), "labels": {
                "app": format!("app{app}"), "tier": format!("tier{}", app % 3), "version": format!("v{}", at % 7),
                "pod-template-hash": format!("{at:x}"), "statefulset.kubernetes.io/pod-name": format!("pod-{at}"),
            }},
            "spec": {"nodeName": format!("node{}", at / NAMESPACES % size.nodes), "containers": [{"name": "c", "ports": [
                {"name": "http", "containerPort": 8080 + app % 3}, {"name": "dns", "protocol": "UDP", "containerPort": 53},
            ]}]},
            "status": {"phase": "Running", "podIPs": [
                {"ip": format!("10.{}.{}.{}", at / 65_536, at / 256 % 256, at % 256)}, {"ip": format!("fd00::{at:x}")},
            ]},
        }));
    }
    for at in 0..size.policies {
        let (namespace, app) = (at % NAMESPACES, at / NAMESPACES % APPS);
        let other = (app + 1) % APPS;
        objects.push(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": format!("ns{namespace}"), "name": format!("np-{at}")},
            "spec": {
                "podSelector": {"matchLabels": {"app": format!("app{app}")}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {"from": [{"podSelector": {"matchLabels": {"app": format!("app{other}")}}}], "ports": [{"port": "http"}]},
                    {"from": [{"namespaceSelector": {"matchLabels": {"team": format!("t{}", at % 10)}}, "podSelector": {"matchLabels": {"tier": "tier1"}}}], "ports": [{"port": 9090, "endPort": 9099}]},
                    {"from": [{"ipBlock": {"cidr": format!("10.0.{}.0/24", at % 40), "except": [format!("10.0.{}.128/25", at % 40)]}}]},
                ],
                "egress": [
                    {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": format!("app{other}")}}}], "ports": [{"port": "http"}, {"port": 443}]},
                    {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ns0"}}}], "ports": [{"port": 53, "protocol": "UDP"}]},
                    {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]},
                ],
            },
        }));
    }
    objects
}

/// A few policies of the other tiers, one of which passes on.
fn tiers() -> Vec<Value> {
    let rule =
        |action: &str, team: &str| json!({"action": action, "from": [{"namespaces": {"matchLabels": {"team": team}}}]});
    [("Admin", 1, ["Pass", "Deny"]), ("Admin", 2, ["Deny", "Pass"]), ("Baseline", 0, ["Deny", "Accept"])]
        .iter()
        .map(|(tier, priority, actions)| {
            json!({
                "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
                "metadata": {"name": format!("{}-{priority}", tier.to_lowercase())},
                "spec": {"tier": tier, "priority": priority, "subject": {"namespaces": {}}, "ingress": [rule(actions[0], "t1"), rule(actions[1], "t2")]},
            })
        })
        .collect()
}

/// What this thread has had of a processor: others on the machine do not count. Source: proc_pid_schedstat(5), Linux.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts it");
    Duration::from_nanos(text.split_whitespace().next().and_then(|ns| ns.parse().ok()).expect("a number"))
}

#[test]
fn one_node_of_a_large_cluster() {
    let size = if cfg!(debug_assertions) {
        Size { pods: 1000, policies: 100, nodes: 10 }
    } else {
        Size { pods: 10_000, policies: 1000, nodes: 100 }
    };
    let plain = objects(&size);
    let with_tiers: Vec<Value> = plain.iter().cloned().chain(tiers()).collect();
    for (what, objects) in [("NetworkPolicies", plain), ("all tiers", with_tiers)] {
        let cluster = Cluster::from_objects(&objects);
        assert_eq!(cluster.unknowns(), &[] as &[String]);
        let mut identities = IdentityAllocator::default();
        let first = cluster.compile_with("node7", &mut identities);
        let mut times: Vec<Duration> = (0..9)
            .map(|_| {
                let before = processor_time();
                let again = cluster.compile_with("node7", &mut identities);
                let took = processor_time() - before;
                assert_eq!(again, first);
                took
            })
            .collect();
        times.sort_unstable();
        let entries: usize = first.groups.iter().map(|it| it.ingress.entries.len() + it.egress.entries.len()).sum();
        println!(
            "{what}, {} pods, {} policies: {} local pods in {} groups, {entries} entries: processor time, median {:?}, from {:?} to {:?}",
            size.pods,
            size.policies,
            first.pods.len(),
            first.groups.len(),
            times[4],
            times[0],
            times[8],
        );
        assert_eq!((first.pods.len(), first.addresses.len()), (size.pods / size.nodes, size.pods * 2));
        assert!(cfg!(debug_assertions) || times[0] < Duration::from_millis(100), "{times:?}");
    }
}
