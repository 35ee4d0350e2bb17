//! Pods behind a bridge or with a route each, and addresses that are translated at the node: ClusterIP, node port, load balancer,
//! the node's own address as an external one, and a pod's own Service. SEMANTICS.md, points 11, 12, 13 and 15. Every criterion is
//! one of packets sent and received.

mod support;

use serde_json::{Value, json};
use signalbox_enforcer::AttachPreference;
use support::{
    Echo, Gate, Lab, NODE, OUTSIDE, POD_A, POD_B, SERVICE, Space,
    bridge::{BRIDGE, BRIDGE6, EXTERNAL, NODE_PORT, Netfilter},
    can_run, policy,
};

/// How the pods are connected.
const ROUTED: Option<Netfilter> = None;
const BRIDGED: [Option<Netfilter>; 2] = [Some(Netfilter::Routed), Some(Netfilter::Bridged)];

fn set_up(netfilter: Option<Netfilter>) -> (Lab, Vec<Echo>, Gate) {
    let lab = match netfilter {
        Some(netfilter) => Lab::bridged(netfilter),
        None => Lab::new(),
    };
    lab.proxy();
    let servers = [&lab.a, &lab.b, &lab.outside, &lab.node].map(|space: &Space| Echo::new(space, 9000));
    let mut gate = Gate::new(&lab, AttachPreference::Auto);
    gate.datapath.set_node(lab.proxied()).expect("written");
    (lab, servers.into(), gate)
}

fn all() -> impl Iterator<Item = Option<Netfilter>> {
    [ROUTED].into_iter().chain(BRIDGED)
}

fn of(namespace: &str) -> Value {
    json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}])
}

#[test]
fn pods_on_one_bridge_are_isolated_in_both_directions() {
    if !can_run() {
        return;
    }
    for netfilter in BRIDGED {
        let (lab, _servers, mut gate) = set_up(netfilter);
        assert!(lab.a.reaches(POD_B, 9000) && lab.b.reaches(POD_A, 9000) && lab.a.reaches("fd00:244::3", 9000));
        gate.policies(&[policy("two/p", &["Ingress"], json!({}))]);
        assert!(!lab.a.reaches(POD_B, 9000) && !lab.a.reaches_udp(POD_B, 9000), "{netfilter:?}: ingress");
        let event = gate.denial(9000);
        assert_eq!((event.source_pod.as_deref(), event.destination_pod.as_deref()), (Some("one/a"), Some("two/b")));
        assert!(!lab.a.reaches("fd00:244::3", 9000) && !lab.outside.reaches(POD_B, 9000) && !lab.a.pings(POD_B));
        assert!(lab.b.reaches(POD_A, 9000) && lab.a.reaches(NODE, 9000) && lab.b.reaches_udp(POD_A, 9000));
        gate.policies(&[policy("two/p", &["Ingress"], json!({"ingress": [{"from": of("one")}]}))]);
        assert!(lab.a.reaches(POD_B, 9000) && lab.a.reaches("fd00:244::3", 9000), "{netfilter:?}: allowed");
        assert!(!lab.outside.reaches(POD_B, 9000));
        gate.policies(&[policy("one/p", &["Egress"], json!({}))]);
        for to in [POD_B, OUTSIDE, NODE, BRIDGE, BRIDGE6, "fd00:244::3"] {
            assert!(!lab.a.reaches(to, 9000), "{netfilter:?}: egress to {to}");
        }
        assert!(lab.b.reaches(POD_A, 9000) && lab.a.reaches("127.0.0.1", 9000));
        assert!(lab.a.reaches(POD_A, 9000), "a pod always reaches itself");
    }
}

/// Its node always reaches a pod, whichever of its addresses it sends from: kubelet's probes come from the pod's gateway.
#[test]
fn the_gateway_of_a_pod_is_its_node() {
    if !can_run() {
        return;
    }
    for netfilter in all() {
        let (lab, _servers, mut gate) = set_up(netfilter);
        gate.policies(&[policy("two/p", &["Ingress", "Egress"], json!({}))]);
        assert!(lab.node.reaches(POD_B, 9000) && lab.node.reaches_udp(POD_B, 9000), "{netfilter:?}");
        assert!(lab.node.reaches("fd00:244::3", 9000) && lab.node.pings(POD_B), "{netfilter:?}");
        assert!(lab.node.reaches(SERVICE, 80), "{netfilter:?}: translated");
        assert!(!lab.b.reaches(NODE, 9000), "{netfilter:?}: and not the other way round");
        assert!(!lab.a.reaches(POD_B, 9000));
    }
}

/// What is masqueraded on its way out has the node's address where it is judged: it is the pod's all the same.
#[test]
fn what_leaves_by_a_masquerade_is_the_pods() {
    if !can_run() {
        return;
    }
    for netfilter in all() {
        let (lab, _servers, mut gate) = set_up(netfilter);
        assert!(lab.a.reaches(OUTSIDE, 9000));
        gate.policies(&[policy("one/p", &["Egress"], json!({}))]);
        assert!(!lab.a.reaches(OUTSIDE, 9000) && !lab.a.reaches_udp(OUTSIDE, 9000), "{netfilter:?}");
        let event = gate.denial(9000);
        assert_eq!(event.source_pod.as_deref(), Some("one/a"), "{netfilter:?}: {event:?}");
        let block = json!([{"ipBlock": {"cidr": format!("{OUTSIDE}/32")}}]);
        gate.policies(&[policy("one/p", &["Egress"], json!({"egress": [{"to": block, "ports": [{"port": 9000}]}]}))]);
        let mut stream = lab.a.connect(OUTSIDE, 9000, std::time::Duration::from_secs(1)).expect("allowed");
        assert!(support::echo(&mut stream) && lab.b.reaches(OUTSIDE, 9000), "{netfilter:?}");
        assert!(!lab.a.reaches_udp(OUTSIDE, 9000), "{netfilter:?}: TCP only");
        gate.policies(&[policy("one/p", &["Egress"], json!({}))]);
        assert!(!support::echo_soon(&mut stream), "{netfilter:?}: cut");
    }
}

#[test]
fn every_address_of_a_service_is_judged_behind_its_translation() {
    if !can_run() {
        return;
    }
    for netfilter in all() {
        let (lab, _servers, mut gate) = set_up(netfilter);
        // Without br_netfilter a pod's answer takes the short way over the bridge, around the translation.
        let works = netfilter != Some(Netfilter::Routed);
        for to in [SERVICE, EXTERNAL, NODE] {
            assert_eq!(lab.a.reaches(to, 80), works, "{netfilter:?}: {to}");
            assert!(lab.outside.reaches(to, 80), "{netfilter:?}: {to}");
        }
        gate.policies(&[policy("two/p", &["Ingress"], json!({"ingress": [{"ports": [{"port": 80}]}]}))]);
        for to in [SERVICE, EXTERNAL, NODE] {
            assert!(!lab.a.reaches(to, 80) && !lab.outside.reaches(to, 80), "{netfilter:?}: {to} is not port 80 there");
        }
        gate.policies(&[policy("two/p", &["Ingress"], json!({"ingress": [{"ports": [{"port": 9000}]}]}))]);
        for to in [SERVICE, EXTERNAL, NODE] {
            assert_eq!(lab.a.reaches(to, 80), works, "{netfilter:?}: {to}");
            assert!(lab.outside.reaches(to, 80), "{netfilter:?}: {to}");
        }
        let egress =
            |port: u16| policy("one/p", &["Egress"], json!({"egress": [{"to": of("two"), "ports": [{"port": port}]}]}));
        gate.policies(&[egress(80)]);
        for to in [SERVICE, EXTERNAL, NODE] {
            assert!(!lab.a.reaches(to, 80), "{netfilter:?}: {to}, egress to port 80 only");
        }
        gate.policies(&[egress(9000)]);
        for to in [SERVICE, EXTERNAL, NODE] {
            assert_eq!(lab.a.reaches(to, 80), works, "{netfilter:?}: {to}, egress to port 9000");
        }
        assert!(!lab.a.reaches(NODE, 9000), "{netfilter:?}: the node itself is no pod of the namespace");
    }
}

/// A node port gives its clients the node's address: they are not the node, and a pod is still the pod.
#[test]
fn a_node_port_is_no_way_round_the_policy() {
    if !can_run() {
        return;
    }
    for netfilter in all() {
        let (lab, _servers, mut gate) = set_up(netfilter);
        assert!(lab.outside.reaches(NODE, NODE_PORT) && lab.a.reaches(NODE, NODE_PORT), "{netfilter:?}");
        gate.policies(&[policy("two/p", &["Ingress"], json!({}))]);
        assert!(!lab.outside.reaches(NODE, NODE_PORT), "{netfilter:?}: from outside");
        assert!(!lab.a.reaches(NODE, NODE_PORT), "{netfilter:?}: from a pod");
        assert!(lab.node.reaches(NODE, NODE_PORT), "{netfilter:?}: the node itself always reaches it");
        gate.policies(&[policy("two/p", &["Ingress"], json!({"ingress": [{"from": of("one")}]}))]);
        assert!(!lab.outside.reaches(NODE, NODE_PORT), "{netfilter:?}: from outside");
        assert!(lab.a.reaches(NODE, NODE_PORT), "{netfilter:?}: a pod is itself");
        gate.policies(&[policy("one/p", &["Egress"], json!({"egress": [{"to": of("one")}]}))]);
        assert!(!lab.a.reaches(NODE, NODE_PORT), "{netfilter:?}: egress");
    }
}

#[test]
fn a_pod_reaches_itself_through_its_own_service_where_policy_allows() {
    if !can_run() {
        return;
    }
    for netfilter in all() {
        let (lab, _servers, mut gate) = set_up(netfilter);
        assert!(lab.a.reaches(SERVICE, 81), "{netfilter:?}: without policies");
        gate.policies(&[policy("one/p", &["Ingress"], json!({}))]);
        assert!(!lab.a.reaches(SERVICE, 81), "{netfilter:?}: ingress");
        gate.policies(&[policy(
            "one/p",
            &["Ingress", "Egress"],
            json!({"ingress": [{"from": of("one")}], "egress": [{"to": of("one")}]}),
        )]);
        assert!(lab.a.reaches(SERVICE, 81), "{netfilter:?}: it is a pod of its namespace");
        gate.policies(&[policy("one/p", &["Egress"], json!({"egress": [{"to": of("two")}]}))]);
        assert!(!lab.a.reaches(SERVICE, 81), "{netfilter:?}: egress");
    }
}
