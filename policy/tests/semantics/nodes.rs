//! Nodes, their traffic, and the lives of pods: points 13 to 16.

use std::net::IpAddr;

use crate::common::{ask, check, party, policy};
use crate::{common_pod, two_pods};
use signalbox_policy::evaluate::{Endpoint, Outcome};
use signalbox_policy::tables::Identity;
use signalbox_policy::{PolicyRef, Protocol, Side};

#[test]
fn semantics_13_the_own_node_always_reaches_a_pod_and_others_do_not() {
    let host = "
---
apiVersion: v1
kind: Pod
metadata: {namespace: z, name: agent, labels: {app: agent}}
spec: {nodeName: n1, hostNetwork: true, containers: [{name: c}]}
status: {podIP: 172.16.0.1, hostIP: 172.16.0.1}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
status: {addresses: [{type: Hostname, address: n2}, {type: InternalIP, address: 172.16.0.2}]}
";
    let cluster =
        two_pods(&[host.to_owned(), policy("x/np", "{podSelector: {}}"), policy("y/np", "{podSelector: {}}")]);
    check(
        &cluster,
        &[
            ("node", "x/web", "TCP 80", true),
            ("node", "y/api", "TCP 80", true),
            ("z/agent", "x/web", "TCP 80", true),
            ("z/agent", "y/api", "TCP 80", false),
            ("172.16.0.1", "x/web", "TCP 80", true),
            ("172.16.0.1", "y/api", "TCP 80", false),
            ("172.16.0.2", "x/web", "TCP 80", false),
            ("172.16.0.2", "y/api", "TCP 80", true),
        ],
    );
    let verdict = ask(&cluster, "node", "x/web", "TCP 80");
    assert!(matches!(verdict.ingress, Some(Side::AlwaysAllowed(..))), "{verdict:?}");
    assert_eq!(verdict.egress, None, "no policy judges a node");
    let web = Endpoint::Address("10.0.0.1".parse().unwrap());
    let judged = cluster.compile("n1").judge(Endpoint::LocalNode, web, Protocol::Tcp, 80);
    assert_eq!(judged.ingress, Some(Outcome::FromLocalNode));
}

#[test]
fn semantics_13_egress_to_the_own_node_is_judged_by_its_address() {
    let node = "
---
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 172.16.0.1}]}
";
    for (cidr, open) in [("172.16.0.0/24", true), ("10.0.0.0/8", false)] {
        let spec =
            format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: {cidr}}}}}]}}]}}");
        let cluster = two_pods(&[node.to_owned(), policy("x/np", &spec)]);
        check(&cluster, &[("x/web", "node", "TCP 80", open), ("x/web", "172.16.0.1", "TCP 80", open)]);
    }
    // Without the node's address nobody can tell.
    let spec = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}";
    let cluster = two_pods(&[policy("x/np", spec)]);
    assert_eq!(ask(&cluster, "x/web", "node", "TCP 80").allowed(), None);
}

#[test]
fn semantics_14_host_network_pods_are_node_traffic() {
    let host = "
---
apiVersion: v1
kind: Pod
metadata: {namespace: x, name: host, labels: {app: web}}
spec: {nodeName: n3, hostNetwork: true, containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}
status: {podIP: 172.16.0.3}
";
    let isolate = policy("x/shut", "{podSelector: {}}");
    let by_label = policy("y/np", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}");
    let by_block = policy("y/np", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 172.16.0.0/24}}]}]}");
    let cluster = two_pods(&[host.to_owned(), isolate.clone(), by_label]);
    check(&cluster, &[("y/api", "x/host", "TCP 80", true), ("x/host", "y/api", "TCP 80", false)]);
    assert_eq!(ask(&cluster, "y/api", "x/host", "TCP 80").ingress, None, "no policy selects it");
    assert!(!cluster.selected_by(&PolicyRef::network_policy("x", "shut")).contains(&common_pod("x", "host")));
    let cluster = two_pods(&[host.to_owned(), isolate, by_block]);
    check(&cluster, &[("x/host", "y/api", "TCP 80", true)]);
    let tables = cluster.compile("n3");
    assert_eq!(tables.pods, [], "it is no pod to the tables");
    let address: IpAddr = "172.16.0.3".parse().unwrap();
    assert!(!tables.addresses.iter().any(|(it, _)| *it == address));
}

#[test]
fn semantics_15_a_pod_reaches_itself_but_not_through_its_service() {
    let cluster = two_pods(&[policy("x/np", "{podSelector: {}, policyTypes: [Ingress, Egress]}")]);
    check(&cluster, &[("x/web", "x/web", "TCP 80", true), ("10.0.0.1", "x/web", "TCP 80", true)]);
    let web = party("x/web");
    let through = cluster.verdict_through_service(&web, &web, Protocol::Tcp, 80);
    assert_eq!(through.allowed(), Some(false));
    assert!(
        matches!(through.egress, Some(Side::Denied { .. })) && matches!(through.ingress, Some(Side::Denied { .. }))
    );
}

#[test]
fn semantics_16_ended_pods_leave_every_set_and_terminating_ones_stay() {
    let spec = "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: job}}}]}]}";
    let with = |status: &str, metadata: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: x, name: job, labels: {{app: job}}{metadata}}}\nspec: {{nodeName: n1}}\nstatus: {{{status}, podIP: 10.0.0.9}}\n"
        )
    };
    for phase in ["Succeeded", "Failed"] {
        let cluster = two_pods(&[with(&format!("phase: {phase}"), ""), policy("x/np", spec)]);
        let verdict = ask(&cluster, "x/job", "x/web", "TCP 80");
        assert_eq!(verdict.allowed(), None, "there is no such connection");
        assert!(verdict.unknown[0].contains(phase), "{verdict:?}");
        // Its address may be anybody's now.
        check(&cluster, &[("10.0.0.9", "x/web", "TCP 80", false)]);
        assert!(!cluster.selected_by(&PolicyRef::network_policy("x", "np")).contains(&common_pod("x", "job")));
        let tables = cluster.compile("n1");
        assert_eq!(tables.identity_of("10.0.0.9".parse().unwrap()), Identity::WORLD);
        assert_eq!(tables.pods.len(), 1);
    }
    let terminating = with("phase: Running", ", deletionTimestamp: '2026-01-01T00:00:00Z'");
    let cluster = two_pods(&[terminating, policy("x/np", spec)]);
    check(&cluster, &[("x/job", "x/web", "TCP 80", true), ("y/api", "x/job", "TCP 80", false)]);
}

#[test]
fn semantics_16_a_pod_that_waits_or_is_unknown_stays_in_every_set() {
    let spec = "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: job}}}]}]}";
    for phase in ["Pending", "Running", "Unknown"] {
        let job = format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: x, name: job, labels: {{app: job}}}}\nstatus: {{phase: {phase}, podIP: 10.0.0.9}}\n"
        );
        let cluster = two_pods(&[job, policy("x/np", spec)]);
        check(&cluster, &[("x/job", "x/web", "TCP 80", true), ("y/api", "x/job", "TCP 80", false)]);
    }
}
