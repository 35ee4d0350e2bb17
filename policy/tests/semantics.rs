//! One test or more for each point of the list of what others get wrong; the number in a test's name is the point's.
//! Points 12, 17, 18, 19 and 22 concern the kernel alone, 23 the tiers around NetworkPolicy.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod common;

use std::net::IpAddr;

use common::{ask, check, cluster, namespace, objects, party, pod, pod_on, policy, sound};
use signalbox_policy::evaluate::{Endpoint, Outcome};
use signalbox_policy::tables::Identity;
use signalbox_policy::{Cluster, Connection, Family, PolicyRef, Protocol, Route, Side};

/// Pods `x/web` and `y/api`, on their own nodes, and some policies.
fn two_pods(policies: &[String]) -> Cluster {
    let mut text = namespace("x", "team=x") + &namespace("y", "team=y");
    text += &pod_on("n1", "x/web", "app=web", "10.0.0.1", "http=TCP 8080");
    text += &pod_on("n2", "y/api", "app=api", "10.0.1.1", "http=TCP 9090");
    sound(&(text + &policies.concat()))
}

#[test]
fn semantics_01_not_in_matches_absent_key() {
    let spec = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [back]}]}}]}]}";
    let text = pod("x/web", "", "10.0.0.1", "")
        + &pod("y/none", "", "10.0.0.2", "")
        + &pod("y/front", "tier=front", "10.0.0.3", "")
        + &pod("y/back", "tier=back", "10.0.0.4", "");
    let cluster = sound(&(text + &policy("x/np", spec)));
    check(
        &cluster,
        &[
            ("y/none", "x/web", "TCP 80", true),
            ("y/front", "x/web", "TCP 80", true),
            ("y/back", "x/web", "TCP 80", false),
        ],
    );
}

#[test]
fn semantics_01_does_not_exist_matches_absent_key() {
    let spec = "{podSelector: {matchExpressions: [{key: open, operator: DoesNotExist}]}}";
    let text = pod("x/shut", "", "10.0.0.1", "") + &pod("x/open", "open=", "10.0.0.2", "");
    let cluster = sound(&(text + &policy("x/np", spec)));
    check(&cluster, &[("x/open", "x/shut", "TCP 80", false), ("x/shut", "x/open", "TCP 80", true)]);
}

#[test]
fn semantics_01_empty_value_is_not_an_absent_key() {
    let spec =
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {mark: ''}}}]}]}";
    let text = pod("x/web", "", "10.0.0.1", "")
        + &pod("y/empty", "mark=", "10.0.0.2", "")
        + &pod("y/absent", "", "10.0.0.3", "")
        + &pod("y/other", "mark=1", "10.0.0.4", "");
    let cluster = sound(&(text + &policy("x/np", spec)));
    check(
        &cluster,
        &[
            ("y/empty", "x/web", "TCP 80", true),
            ("y/absent", "x/web", "TCP 80", false),
            ("y/other", "x/web", "TCP 80", false),
        ],
    );
}

#[test]
fn semantics_02_unset_types_isolate_ingress_always_and_egress_with_a_rule_only() {
    // (spec, ingress to x/web open, egress of x/web open)
    for (spec, ingress, egress) in [
        ("{podSelector: {}}", false, true),
        ("{podSelector: {}, policyTypes: []}", false, true),
        ("{podSelector: {}, egress: []}", false, true),
        ("{podSelector: {}, egress: [{ports: [{port: 1}]}]}", false, false),
        ("{podSelector: {}, ingress: [{}], egress: [{}]}", true, true),
        ("{podSelector: {}, policyTypes: [Egress], ingress: [{}]}", true, false),
        ("{podSelector: {}, policyTypes: [Egress], ingress: []}", true, false),
        ("{podSelector: {}, policyTypes: [Ingress], egress: [{ports: [{port: 1}]}]}", false, true),
        ("{podSelector: {}, policyTypes: [Ingress, Egress]}", false, false),
    ] {
        let cluster = two_pods(&[policy("x/np", spec)]);
        let into = ask(&cluster, "y/api", "x/web", "TCP 80").allowed();
        let out = ask(&cluster, "x/web", "y/api", "TCP 80").allowed();
        assert_eq!((into, out), (Some(ingress), Some(egress)), "{spec}");
    }
}

#[test]
fn semantics_03_empty_list_allows_nothing_and_empty_rule_everything() {
    for (ingress, open) in [
        ("", false),
        (", ingress: []", false),
        (", ingress: null", false),
        (", ingress: [{}]", true),
        (", ingress: [{from: [], ports: []}]", true),
        (", ingress: [{from: []}]", true),
        (", ingress: [{ports: []}]", true),
        (", ingress: [{from: [], ports: [{port: 80}]}]", true),
        (", ingress: [{from: [], ports: [{port: 81}]}]", false),
    ] {
        let cluster = two_pods(&[policy("x/np", &format!("{{podSelector: {{}}{ingress}}}"))]);
        assert_eq!(ask(&cluster, "y/api", "x/web", "TCP 80").allowed(), Some(open), "{ingress}");
        assert_eq!(ask(&cluster, "192.0.2.1", "x/web", "TCP 80").allowed(), Some(open), "{ingress}");
    }
}

#[test]
fn semantics_04_peers_are_in_the_own_namespace_unless_they_say_otherwise() {
    let text = namespace("x", "team=x")
        + &namespace("y", "team=y")
        + &pod("x/web", "", "10.0.0.1", "")
        + &pod("x/a", "app=a", "10.0.0.2", "")
        + &pod("x/b", "app=b", "10.0.0.3", "")
        + &pod("y/a", "app=a", "10.0.0.4", "")
        + &pod("y/b", "app=b", "10.0.0.5", "");
    let peers = [
        ("[{podSelector: {matchLabels: {app: a}}}]", [true, false, false, false]),
        ("[{podSelector: {}}]", [true, true, false, false]),
        ("[{namespaceSelector: {}}]", [true, true, true, true]),
        ("[{namespaceSelector: {matchLabels: {team: y}}}]", [false, false, true, true]),
        // In one item: both must hold. In two items: either.
        (
            "[{namespaceSelector: {matchLabels: {team: y}}, podSelector: {matchLabels: {app: a}}}]",
            [false, false, true, false],
        ),
        (
            "[{namespaceSelector: {matchLabels: {team: y}}}, {podSelector: {matchLabels: {app: a}}}]",
            [true, false, true, true],
        ),
    ];
    for (from, expected) in peers {
        let spec = format!("{{podSelector: {{}}, ingress: [{{from: {from}}}]}}");
        let cluster = sound(&(text.clone() + &policy("x/np", &spec)));
        let open =
            ["x/a", "x/b", "y/a", "y/b"].map(|pod| ask(&cluster, pod, "x/web", "TCP 80").allowed() == Some(true));
        assert_eq!(open, expected, "{from}");
    }
}

#[test]
fn semantics_05_every_namespace_carries_its_name() {
    let spec =
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}}]}]}";
    let pods = pod("x/web", "", "10.0.0.1", "") + &pod("y/a", "", "10.0.0.2", "") + &pod("z/a", "", "10.0.0.3", "");
    // With namespaces that lack the label, and without namespaces.
    for namespaces in [namespace("x", "") + &namespace("y", "a=b") + &namespace("z", ""), String::new()] {
        let cluster = sound(&(namespaces + &pods + &policy("x/np", spec)));
        check(&cluster, &[("y/a", "x/web", "TCP 80", true), ("z/a", "x/web", "TCP 80", false)]);
    }
}

#[test]
fn semantics_06_protocol_defaults_to_tcp_and_no_port_means_all_of_it() {
    for (ports, tcp80, udp80, tcp9) in [
        ("[{port: 80}]", true, false, false),
        ("[{}]", true, false, true),
        ("[{protocol: UDP}]", false, true, false),
        ("[{protocol: UDP, port: 80}]", false, true, false),
        ("[{protocol: UDP}, {port: 9}]", false, true, true),
    ] {
        let cluster = two_pods(&[policy("x/np", &format!("{{podSelector: {{}}, ingress: [{{ports: {ports}}}]}}"))]);
        check(
            &cluster,
            &[
                ("y/api", "x/web", "TCP 80", tcp80),
                ("y/api", "x/web", "UDP 80", udp80),
                ("y/api", "x/web", "TCP 9", tcp9),
                ("y/api", "x/web", "SCTP 80", false),
            ],
        );
    }
}

#[test]
fn semantics_07_named_ports_are_resolved_per_destination_and_protocol() {
    let text = pod("x/web", "", "10.0.0.1", "")
        + &pod("x/a", "", "10.0.0.2", "http=TCP 8080,dns=UDP 53,dns=TCP 5353")
        + &pod("x/b", "", "10.0.0.3", "http=TCP 9090")
        + &pod("x/c", "", "10.0.0.4", "http=UDP 8080");
    let to = ["", "to: [{podSelector: {}}], ", "to: [{ipBlock: {cidr: 10.0.0.0/24}}], "];
    for to in to {
        let spec = format!(
            "{{podSelector: {{}}, policyTypes: [Egress], egress: [{{{to}ports: [{{port: http}}, {{port: dns, protocol: UDP}}]}}]}}"
        );
        let cluster = sound(&(text.clone() + &policy("x/np", &spec)));
        check(
            &cluster,
            &[
                ("x/web", "x/a", "TCP 8080", true),
                ("x/web", "x/a", "TCP 9090", false),
                ("x/web", "x/b", "TCP 9090", true),
                ("x/web", "x/b", "TCP 8080", false),
                // This pod has the name for another protocol only.
                ("x/web", "x/c", "TCP 8080", false),
                ("x/web", "x/c", "UDP 8080", false),
                ("x/web", "x/a", "UDP 53", true),
                ("x/web", "x/a", "TCP 5353", false),
                // This pod lacks the name.
                ("x/a", "x/web", "TCP 8080", false),
                // What is no pod has no names, also inside a block.
                ("x/web", "10.0.0.200", "TCP 8080", false),
            ],
        );
    }
}

#[test]
fn semantics_07_named_ports_of_ingress_are_the_selected_pods_own() {
    let text = pod("x/web", "", "10.0.0.1", "http=TCP 1")
        + &pod("x/a", "", "10.0.0.2", "http=TCP 8080")
        + &pod("x/b", "", "10.0.0.3", "http=TCP 9090");
    let cluster = sound(&(text + &policy("x/np", "{podSelector: {}, ingress: [{ports: [{port: http}]}]}")));
    check(
        &cluster,
        &[
            ("x/web", "x/a", "TCP 8080", true),
            ("x/web", "x/b", "TCP 9090", true),
            ("x/web", "x/b", "TCP 8080", false),
            ("x/web", "x/a", "TCP 1", false),
        ],
    );
    let tables = cluster.compile("n1");
    assert_eq!(tables.groups.len(), 3, "pods with other numbers behind a name cannot share a group");
}

#[test]
fn semantics_07_ports_of_sidecars_count_and_those_of_other_init_containers_do_not() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {namespace: x, name: web}
spec:
  containers: [{name: main, ports: [{name: main, containerPort: 1}]}]
  initContainers:
    - {name: proxy, restartPolicy: Always, ports: [{name: proxy, containerPort: 2}]}
    - {name: setup, ports: [{name: setup, containerPort: 3}]}
status: {podIP: 10.0.0.1}
";
    let spec = "{podSelector: {}, ingress: [{ports: [{port: main}, {port: proxy}, {port: setup}]}]}";
    let cluster = sound(&(text.to_owned() + &policy("x/np", spec)));
    check(
        &cluster,
        &[
            ("192.0.2.1", "x/web", "TCP 1", true),
            ("192.0.2.1", "x/web", "TCP 2", true),
            ("192.0.2.1", "x/web", "TCP 3", false),
        ],
    );
}

#[test]
fn semantics_08_end_port_is_inclusive() {
    let cluster = two_pods(&[policy("x/np", "{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 90}]}]}")]);
    check(
        &cluster,
        &[
            ("y/api", "x/web", "TCP 79", false),
            ("y/api", "x/web", "TCP 80", true),
            ("y/api", "x/web", "TCP 90", true),
            ("y/api", "x/web", "TCP 91", false),
            ("y/api", "x/web", "UDP 85", false),
        ],
    );
}

#[test]
fn semantics_08_end_port_is_refused_where_the_api_refuses_it() {
    for (port, path) in [
        ("{port: 90, endPort: 80}", "endPort: 80 is smaller than port 90"),
        ("{port: http, endPort: 80}", "endPort: needs a numeric port"),
        ("{endPort: 80}", "endPort: needs a numeric port"),
        ("{port: 80, endPort: 65536}", "endPort: must be between 1 and 65535"),
    ] {
        let spec = format!("{{podSelector: {{}}, ingress: [{{ports: [{port}]}}]}}");
        let cluster = cluster(&(pod("x/web", "", "10.0.0.1", "") + &policy("x/np", &spec)));
        let expected = format!("NetworkPolicy x/np: spec.ingress[0].ports[0].{path}");
        assert!(cluster.unknowns()[0].starts_with(&expected), "{:?}", cluster.unknowns());
        assert_eq!(ask(&cluster, "192.0.2.1", "x/web", "TCP 85").allowed(), None);
    }
}

#[test]
fn semantics_09_except_subtracts_within_its_own_block_only() {
    let spec = "{podSelector: {}, ingress: [
        {from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: 80}]},
        {from: [{ipBlock: {cidr: 10.1.2.0/24}}]}]}";
    let cluster = two_pods(&[policy("x/np", spec)]);
    check(
        &cluster,
        &[
            ("10.2.0.1", "x/web", "TCP 80", true),
            ("10.1.0.1", "x/web", "TCP 80", false),
            ("10.1.2.1", "x/web", "TCP 80", true),
            ("10.1.2.1", "x/web", "TCP 81", true),
            ("10.2.0.1", "x/web", "TCP 81", false),
        ],
    );
}

#[test]
fn semantics_09_blocks_are_read_in_canonical_form() {
    let spec = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.5/24, except: [192.0.2.129/25]}}]}]}";
    let cluster = two_pods(&[policy("x/np", spec)]);
    check(&cluster, &[("192.0.2.1", "x/web", "TCP 80", true), ("192.0.2.128", "x/web", "TCP 80", false)]);
}

#[test]
fn semantics_10_blocks_match_pods_too() {
    let spec = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.1.0/24}}]}]}";
    let cluster = two_pods(&[policy("x/np", spec)]);
    check(&cluster, &[("y/api", "x/web", "TCP 80", true), ("10.0.1.1", "x/web", "TCP 80", true)]);
}

#[test]
fn semantics_11_a_service_is_judged_by_its_pods_port() {
    // The Service has 443, its pods listen on 6443: the port that the policy must name is the pods'.
    let spec = "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 443}]}]}";
    let cluster = two_pods(&[policy("x/np", spec)]);
    let (from, to) = (party("x/web"), party("y/api"));
    let verdict = cluster.verdict_through_service(&from, &to, Protocol::Tcp, 6443);
    assert_eq!(verdict.allowed(), Some(false), "{verdict:?}");
}

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

fn common_pod(namespace: &str, name: &str) -> signalbox_policy::PodRef {
    signalbox_policy::PodRef { namespace: namespace.to_owned(), name: name.to_owned() }
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
fn semantics_20_a_rule_for_sctp_isolates_for_the_others_too() {
    let cluster = two_pods(&[policy("x/np", "{podSelector: {}, ingress: [{ports: [{protocol: SCTP, port: 80}]}]}")]);
    check(
        &cluster,
        &[
            ("y/api", "x/web", "SCTP 80", true),
            ("y/api", "x/web", "TCP 80", false),
            ("y/api", "x/web", "UDP 80", false),
        ],
    );
}

#[test]
fn semantics_21_every_address_of_a_pod_and_no_block_across_families() {
    let text = pod("x/web", "", "10.0.0.1,fd00::1", "") + &pod("y/api", "", "10.0.0.2,fd00::2", "");
    let by_v4 = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}";
    let cluster = sound(&(text + &policy("x/np", by_v4)));
    let (from, to) = (party("y/api"), party("x/web"));
    for (family, open) in [(Family::V4, true), (Family::V6, false)] {
        let connection = Connection {
            from: &from,
            to: &to,
            protocol: Protocol::Tcp,
            port: 80,
            route: Route::Direct,
            family: Some(family),
        };
        assert_eq!(cluster.judge(&connection).allowed(), Some(open), "{family:?}");
    }
    check(
        &cluster,
        &[
            ("192.0.2.1", "x/web", "TCP 80", true),
            ("2001:db8::1", "x/web", "TCP 80", false),
            ("fd00::2", "x/web", "TCP 80", false),
        ],
    );
    let tables = cluster.compile("n1");
    assert_eq!(tables.addresses.len(), 4, "both addresses of both pods");
    assert_eq!(tables.identity_of("2001:db8::1".parse().unwrap()), Identity::WORLD);
    assert_ne!(tables.identity_of("192.0.2.1".parse().unwrap()), Identity::WORLD);
}

#[test]
fn semantics_21_without_a_family_the_first_common_one_counts() {
    let text = pod("x/web", "", "fd00::1,10.0.0.1", "") + &pod("y/api", "", "10.0.0.2", "");
    let by_v4 = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.2/32}}]}]}";
    check(&sound(&(text + &policy("x/np", by_v4))), &[("y/api", "x/web", "TCP 80", true)]);
}

#[test]
fn semantics_24_policies_add_up() {
    let shut = policy("x/a-shut", "{podSelector: {}}");
    let open = policy("x/b-open", "{podSelector: {matchLabels: {app: web}}, ingress: [{}]}");
    let cluster = two_pods(&[shut, open]);
    check(&cluster, &[("y/api", "x/web", "TCP 80", true)]);
    let Some(Side::AllowedBy(rule, isolating)) = ask(&cluster, "y/api", "x/web", "TCP 80").ingress else {
        panic!("a rule decides")
    };
    assert_eq!(rule.policy.name, "b-open");
    assert_eq!((rule.rule, rule.peer, rule.port), (0, None, None));
    assert_eq!(isolating.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["a-shut", "b-open"]);
}

#[test]
fn semantics_24_a_broken_policy_takes_nothing_away() {
    // What was not understood can isolate or open, but cannot shut what another policy allows.
    let broken = policy("x/a-broken", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: nonsense}}]}]}");
    let open = policy("x/b-open", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}");
    let text = pod("x/web", "", "10.0.0.1", "") + &broken + &open;
    let cluster = cluster(&text);
    assert_eq!(ask(&cluster, "192.0.2.1", "x/web", "TCP 80").allowed(), Some(true));
    assert_eq!(ask(&cluster, "192.0.2.1", "x/web", "TCP 81").allowed(), None);
}

#[test]
fn semantics_25_an_empty_pod_selector_selects_the_own_namespace_and_only_that() {
    for spec in ["{podSelector: {}}", "{}", "{podSelector: {matchLabels: {}, matchExpressions: []}}"] {
        let cluster = two_pods(&[policy("x/np", spec)]);
        check(&cluster, &[("y/api", "x/web", "TCP 80", false), ("x/web", "y/api", "TCP 80", true)]);
        assert_eq!(cluster.selected_by(&PolicyRef::network_policy("x", "np")), [common_pod("x", "web")]);
        assert_eq!(cluster.selected_by(&PolicyRef::network_policy("y", "np")), []);
    }
}

#[test]
fn the_first_rule_peer_and_port_decide() {
    let spec = "{podSelector: {}, ingress: [
        {ports: [{port: 1}]},
        {from: [{podSelector: {}}, {namespaceSelector: {}}, {ipBlock: {cidr: 0.0.0.0/0}}], ports: [{port: 1}, {port: 80}, {}]},
        {}]}";
    let cluster = two_pods(&[policy("x/np", spec)]);
    let Some(Side::AllowedBy(rule, _)) = ask(&cluster, "y/api", "x/web", "TCP 80").ingress else {
        panic!("a rule decides")
    };
    assert_eq!((rule.rule, rule.peer, rule.port), (1, Some(1), Some(1)));
    assert_eq!(objects(&policy("x/np", spec)).len(), 1);
}
