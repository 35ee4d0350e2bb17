//! What is told, and what is known then.

use proptest::prelude::*;
use signalbox_policy::Problem;

use super::*;

const CALICO: [Kind; 5] = [
    Kind::CalicoGlobalNetworkPolicy,
    Kind::CalicoNetworkPolicy,
    Kind::CalicoGlobalNetworkSet,
    Kind::CalicoNetworkSet,
    Kind::CalicoHostEndpoint,
];

fn policy(name: &str, version: &str) -> Value {
    json!({"metadata": {"namespace": "n", "name": name, "resourceVersion": version}})
}

fn names(store: &Store) -> Vec<String> {
    store.objects().map(key).collect()
}

#[test]
fn nothing_is_concluded_before_the_first_lists_end() {
    let mut store = Store::default();
    for kind in [Kind::Namespace, Kind::Pod, Kind::NetworkPolicy] {
        assert!(!store.is_ready());
        store.take(Update::Began(kind));
        store.take(Update::Ended(kind));
    }
    assert!(!store.is_ready(), "kinds that not every API serves are asked for first");
    store.take(Update::Began(Kind::ClusterNetworkPolicy));
    store.take(Update::Ended(Kind::ClusterNetworkPolicy));
    for kind in CALICO {
        store.take(Update::Began(kind));
        store.take(Update::Ended(kind));
    }
    store.take(Update::Trouble(Kind::AdminNetworkPolicy, "forbidden".to_owned()));
    store.take(Update::Trouble(Kind::BaselineAdminNetworkPolicy, "forbidden".to_owned()));
    assert!(store.is_ready(), "what it may not read is told; Services and nodes are not waited for");
    assert_eq!(store.problems().count(), 2);
}

#[test]
fn all_kinds_are_waited_for_where_older_tables_are_in_force() {
    let mut store = Store::default();
    let all = [Kind::Namespace, Kind::Pod, Kind::NetworkPolicy, Kind::ClusterNetworkPolicy, Kind::AdminNetworkPolicy];
    for kind in all.into_iter().chain(CALICO).chain([Kind::Service]) {
        store.take(Update::Began(kind));
        store.take(Update::Ended(kind));
    }
    store.take(Update::Trouble(Kind::BaselineAdminNetworkPolicy, "reset".to_owned()));
    assert!(store.is_ready() && !store.is_complete(), "it may have been in force, and come back");
    store.take(Update::Began(Kind::BaselineAdminNetworkPolicy));
    store.take(Update::Ended(Kind::BaselineAdminNetworkPolicy));
    assert!(store.is_complete());
}

#[test]
fn a_new_list_replaces_the_old_one_when_it_ends() {
    let mut store = Store::default();
    let kind = Kind::NetworkPolicy;
    store.take(Update::Began(kind));
    store.take(Update::Listed(kind, policy("a", "1")));
    store.take(Update::Ended(kind));
    store.take(Update::Began(kind));
    store.take(Update::Listed(kind, policy("b", "2")));
    assert_eq!(names(&store), ["n/a"], "the old one counts until the new one is complete");
    store.take(Update::Trouble(kind, "refused".to_owned()));
    assert_eq!(names(&store), ["n/a"], "trouble forgets nothing");
    assert_eq!(store.problems().count(), 1);
    store.take(Update::Ended(kind));
    assert_eq!(names(&store), ["n/b"]);
    assert_eq!(store.problems().count(), 0);
}

#[test]
fn the_version_of_policies_counts_deletions() {
    let mut store = Store::default();
    store.take(Update::Changed(Kind::NetworkPolicy, policy("a", "7")));
    store.take(Update::Deleted(Kind::NetworkPolicy, policy("a", "9")));
    store.take(Update::Changed(Kind::NetworkPolicy, policy("b", "8")));
    store.take(Update::Changed(Kind::Pod, policy("p", "50")));
    assert_eq!(store.policies_version(), 9);
}

#[test]
fn what_nobody_reads_of_a_node_changes_nothing() {
    let mut store = Store::default();
    let node = |label: &str, heartbeat: u32| json!({"metadata": {"name": "n", "labels": {"a": label}}, "status": {"addresses": [], "conditions": [heartbeat]}});
    assert!(store.take(Update::Changed(Kind::Node, node("1", 1))));
    assert!(!store.take(Update::Changed(Kind::Node, node("1", 2))));
    assert!(store.take(Update::Changed(Kind::Node, node("2", 2))));
    assert_eq!(store.objects().next().map(|object| object["kind"].clone()), Some(json!("Node")));
}

#[test]
fn an_address_that_was_found_counts_until_the_api_tells_one() {
    let pod = |uid: &str, version: u32, status: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "n", "name": "p", "uid": uid, "resourceVersion": version.to_string()},
            "spec": {"nodeName": "m", "containers": [{"name": "c"}]}, "status": status,
        })
    };
    let uids = |text: &str| text.split(' ').map(str::to_owned).collect();
    let found: Vec<IpAddr> = ["10.0.0.1", "fd00::1"].map(|text| text.parse().expect("an address")).into();
    let addresses = |store: &mut Store| -> Vec<String> {
        let tables = store.cluster().compile("m");
        tables.pods.iter().flat_map(|pod| &pod.addresses).map(ToString::to_string).collect()
    };
    let mut store = Store::default();
    store.take(Update::Changed(Kind::Pod, pod("u", 1, json!({"phase": "Pending", "podIP": ""}))));
    assert_eq!(addresses(&mut store), [""; 0]);
    assert_eq!(store.find_pod("m", &uids("v"), &found), None, "another pod's");
    assert_eq!(store.find_pod("other", &uids("u"), &found), None, "on another node");
    let mut second = pod("y", 1, json!({}));
    second["metadata"]["name"] = "q".into();
    store.take(Update::Changed(Kind::Pod, second.clone()));
    assert_eq!(store.find_pod("m", &uids("u y"), &found), None, "it may be either");
    second["spec"]["hostNetwork"] = true.into();
    store.take(Update::Changed(Kind::Pod, second));
    assert_eq!(store.find_pod("m", &uids("y"), &found), None, "its network is the node's");
    // An address of somebody else's is left to the API to tell.
    let other = |phase: &str| {
        let mut other = pod("z", 1, json!({"phase": phase, "podIP": "10.0.0.1"}));
        other["metadata"]["name"] = "o".into();
        Update::Changed(Kind::Pod, other)
    };
    store.take(other("Running"));
    assert_eq!(store.find_pod("m", &uids("u"), &found), None, "another pod has it");
    store.take(other("Succeeded"));
    let node =
        json!({"metadata": {"name": "m"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
    store.take(Update::Changed(Kind::Node, node.clone()));
    assert_eq!(store.find_pod("m", &uids("u"), &found), None, "a node has it");
    store.take(Update::Deleted(Kind::Node, node));
    let service = json!({"metadata": {"namespace": "n", "name": "s"}, "spec": {"clusterIP": "fd00::1"}});
    store.take(Update::Changed(Kind::Service, service.clone()));
    assert_eq!(store.find_pod("m", &uids("u"), &found), None, "a Service has it");
    store.take(Update::Deleted(Kind::Service, service));
    assert_eq!(store.find_pod("m", &uids("x u"), &found).as_deref(), Some("n/p"));
    assert_eq!(addresses(&mut store), ["10.0.0.1", "fd00::1"]);
    assert_eq!(store.find_pod("m", &uids("u"), &found), None, "known");
    // It is told again without an address, by itself and in a list.
    store.take(Update::Changed(Kind::Pod, pod("u", 2, json!({"phase": "Pending"}))));
    assert_eq!(addresses(&mut store), ["10.0.0.1", "fd00::1"]);
    store.take(Update::Began(Kind::Pod));
    store.take(Update::Listed(Kind::Pod, pod("u", 3, json!({"phase": "Pending", "podIPs": []}))));
    store.take(Update::Ended(Kind::Pod));
    assert_eq!(addresses(&mut store), ["10.0.0.1", "fd00::1"]);
    // It is found while a list comes in.
    store.forget_pod("n/p");
    assert_eq!(addresses(&mut store), [""; 0]);
    store.take(Update::Began(Kind::Pod));
    store.take(Update::Listed(Kind::Pod, pod("u", 3, json!({"phase": "Pending"}))));
    assert!(store.find_pod("m", &uids("u"), &found).is_some());
    store.take(Update::Ended(Kind::Pod));
    assert_eq!(addresses(&mut store), ["10.0.0.1", "fd00::1"]);
    assert_eq!(store.found_pods().collect::<Vec<_>>(), ["n/p"]);
    store.take(Update::Changed(Kind::Pod, pod("u", 4, json!({"phase": "Running", "podIP": "10.0.0.2"}))));
    assert_eq!(addresses(&mut store), ["10.0.0.2"]);
    // From then on it is the API's word that counts.
    store.take(Update::Changed(Kind::Pod, pod("u", 5, json!({"phase": "Pending"}))));
    assert_eq!(addresses(&mut store), [""; 0]);
    assert!(store.find_pod("m", &uids("u"), &found).is_some());
    store.take(Update::Changed(Kind::Pod, pod("w", 6, json!({"phase": "Pending"}))));
    assert_eq!(addresses(&mut store), [""; 0], "another one of the same name");
    assert!(store.find_pod("m", &uids("w"), &found).is_some());
    store.take(Update::Deleted(Kind::Pod, pod("w", 7, json!({"phase": "Pending"}))));
    store.take(Update::Changed(Kind::Pod, pod("w", 8, json!({"phase": "Pending"}))));
    assert_eq!(addresses(&mut store), [""; 0]);
}

#[test]
fn older_news_change_nothing() {
    let mut store = Store::default();
    let kind = Kind::NetworkPolicy;
    assert!(store.take(Update::Changed(kind, policy("a", "7"))));
    assert!(!store.take(Update::Changed(kind, policy("a", "6"))), "out of order");
    assert!(!store.take(Update::Deleted(kind, policy("a", "5"))), "of an object of the same name before it");
    assert_eq!(names(&store), ["n/a"]);
    assert!(store.take(Update::Deleted(kind, policy("a", "9"))));
    assert!(!store.take(Update::Changed(kind, policy("a", "8"))), "told after its end");
    assert_eq!(names(&store), [""; 0]);
    assert!(store.take(Update::Changed(kind, policy("a", "10"))), "made again");
    assert_eq!(names(&store), ["n/a"]);
    assert!(store.take(Update::Changed(kind, policy("b", "x"))) && store.take(Update::Changed(kind, policy("b", "w"))));
}

#[test]
fn services_tell_what_is_translated() {
    let mut store = Store::default();
    let service = json!({
        "metadata": {"namespace": "n", "name": "s"},
        "spec": {
            "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "externalIPs": ["192.0.2.9"],
            "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP", "nodePort": 30053}, {"port": 1}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.200"}]}},
    });
    store.take(Update::Changed(Kind::Service, service));
    let addresses = ["10.96.0.1", "192.0.2.9", "198.51.100.200"].map(|text| text.parse().expect("an address"));
    assert_eq!(store.service_addresses(), addresses.into());
    let here = |port: &(IpAddr, u8, u16)| port.0 == IpAddr::from([192, 0, 2, 9]);
    let ports: Vec<_> =
        store.service_ports().into_iter().filter(here).map(|(_, protocol, port)| (protocol, port)).collect();
    assert_eq!(ports, [(6, 1), (6, 80), (17, 53)]);
    assert_eq!(store.node_ports(), [(6, 30080), (17, 30053)].into());
    assert_eq!(store.objects().count(), 0, "the engine does not read Services here");
}

/// Whatever is told, in whatever order, and however much of it at once.
#[derive(Clone, Debug)]
enum News {
    Pod { name: u8, label: u8, address: u8, deleted: bool },
    Policy { kind: Kind, name: u8, shape: u8, audit: bool, deleted: bool },
    Namespace { label: u8 },
    PodList { names: Vec<u8> },
}

fn news() -> impl Strategy<Value = News> {
    let kind = prop_oneof![Just(Kind::NetworkPolicy), Just(Kind::ClusterNetworkPolicy)];
    prop_oneof![
        4 => (0..4u8, 0..3u8, 0..3u8, any::<bool>())
            .prop_map(|(name, label, address, deleted)| News::Pod { name, label, address, deleted }),
        4 => (kind, 0..3u8, 0..4u8, prop::bool::weighted(0.3), any::<bool>())
            .prop_map(|(kind, name, shape, audit, deleted)| News::Policy { kind, name, shape, audit, deleted }),
        1 => (0..2u8).prop_map(|label| News::Namespace { label }),
        1 => prop::collection::vec(0..4u8, 0..3).prop_map(|names| News::PodList { names }),
    ]
}

fn pod(name: u8, label: u8, address: u8) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "n", "name": format!("p{name}"), "labels": {"app": format!("a{label}")}},
        "spec": {"nodeName": if name.is_multiple_of(2) { "here" } else { "elsewhere" }},
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.0.{name}.{address}")}]},
    })
}

fn some_policy(kind: Kind, name: u8, shape: u8) -> Value {
    let peer = json!({"podSelector": {"matchLabels": {"app": format!("a{shape}")}}});
    let spec = match (kind, shape) {
        // Not to be understood.
        (_, 3) => json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Near"}]}}),
        (Kind::NetworkPolicy, _) => json!({"podSelector": {}, "ingress": [{"from": [peer]}]}),
        _ => json!({
            "priority": 10 + name, "tier": "Admin",
            "subject": {"namespaces": {}},
            "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}],
        }),
    };
    match kind {
        Kind::NetworkPolicy => json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": "n", "name": format!("x{name}")}, "spec": spec,
        }),
        _ => json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
            "metadata": {"name": format!("x{name}")}, "spec": spec,
        }),
    }
}

fn tell(store: &mut Store, news: &News) {
    let told = |kind, object, deleted| match deleted {
        true => Update::Deleted(kind, object),
        false => Update::Changed(kind, object),
    };
    match news {
        News::Pod { name, label, address, deleted } => {
            store.take(told(Kind::Pod, pod(*name, *label, *address), *deleted));
        }
        News::Policy { kind, name, shape, audit, deleted } => {
            let mut policy = some_policy(*kind, *name, *shape);
            if *audit {
                policy["metadata"]["annotations"] = json!({"signalbox.dev/audit": "true"});
            }
            store.take(told(*kind, policy, *deleted));
        }
        News::Namespace { label } => {
            let labels = json!({"team": format!("t{label}")});
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": labels}});
            store.take(Update::Changed(Kind::Namespace, object));
        }
        News::PodList { names } => {
            store.take(Update::Began(Kind::Pod));
            for name in names {
                store.take(Update::Listed(Kind::Pod, pod(*name, 0, 0)));
            }
            store.take(Update::Ended(Kind::Pod));
        }
    }
}

proptest! {
    #[test]
    fn what_is_read_piece_by_piece_is_what_is_read_at_once(rounds in prop::collection::vec(prop::collection::vec(news(), 0..4), 1..12)) {
        let mut store = Store::default();
        for round in rounds {
            round.iter().for_each(|news| tell(&mut store, news));
            let at_once = Cluster::from_objects(store.objects());
            let cluster = store.cluster();
            prop_assert_eq!(cluster.compile("here"), at_once.compile("here"), "after {:?}", round);
            // In which order they were read is nothing that anybody here asks for.
            let unknowns = |cluster: &Cluster| BTreeSet::from_iter(cluster.unknowns().to_vec());
            prop_assert_eq!(unknowns(cluster), unknowns(&at_once));
            let problems = |cluster: &Cluster| -> BTreeSet<String> {
                let without = |problem: &Problem| format!("{:?}", Problem { index: None, ..problem.clone() });
                cluster.problems().iter().map(without).collect()
            };
            prop_assert_eq!(problems(cluster), problems(&at_once));
            let is_enforced = |object: &&Value| object["metadata"]["annotations"]["signalbox.dev/audit"] != "true";
            let enforced = Cluster::from_objects(store.objects().filter(is_enforced));
            let found = store.enforced();
            prop_assert_eq!(found.is_some(), store.objects().any(|object| !is_enforced(&object)));
            if let Some(found) = found {
                prop_assert_eq!(found.compile("here"), enforced.compile("here"), "without those in audit, after {:?}", round);
            }
        }
    }
}
