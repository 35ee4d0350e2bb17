//! What cannot be known is neither open nor shut: equal priorities that contradict each other, nodes and addresses that
//! nobody knows, names of domains. Each case by verdict, reach, matrix and tables.

mod common;

use common::{ask, cluster, namespace, party, pod, pod_on, policy, port, sound};
use signalbox_policy::analyze::{External, Options, Place};
use signalbox_policy::{Cell, Cluster, Family, Party, Route, Side, Verdict};

/// The verdict, which reach, matrix and counts must agree with.
fn judged(cluster: &Cluster, from: &str, to: &str, at: &str) -> Verdict {
    let verdict = ask(cluster, from, to, at);
    let (protocol, number) = port(at);
    let (source, destination) = (party(from), party(to));
    let reach = cluster.reach(&source, &destination, Route::Direct, None);
    let reached = match (reach.open.contains(protocol, number), reach.unknown.contains(protocol, number)) {
        (true, _) => Some(true),
        (false, true) => None,
        (false, false) => Some(false),
    };
    assert_eq!(reached, verdict.allowed(), "reach of {from} -> {to} at {at}: {verdict:?}");
    if reached.is_none() {
        let told = verdict.unknown.iter().all(|text| reach.reasons.contains(text));
        assert!(told, "{from} -> {to} at {at}: {verdict:?}, {reach:?}");
    }
    if let (Party::Pod(a), Party::Pod(b)) = (&source, &destination) {
        let matrix = cluster.matrix(&[(protocol, number)]);
        let cell = match matrix.get(a, b, protocol, number).expect("both are pods") {
            Cell::Open => Some(true),
            Cell::Shut => Some(false),
            Cell::Unknown => None,
        };
        assert_eq!(cell, verdict.allowed(), "cell of {from} -> {to} at {at}");
        let all: Vec<Cell> =
            matrix.rows(0).flat_map(|(_, row)| row.map(|(_, cell)| cell).collect::<Vec<_>>()).collect();
        let count = |wanted| all.iter().filter(|cell| **cell == wanted).count() as u64;
        let counts = matrix.counts(0);
        assert_eq!((counts.open, counts.unknown), (count(Cell::Open), count(Cell::Unknown)));
    }
    verdict
}

fn check(cluster: &Cluster, cases: &[(&str, &str, &str, Option<bool>)]) {
    for (from, to, at, expected) in cases {
        let verdict = judged(cluster, from, to, at);
        assert_eq!(verdict.allowed(), *expected, "{from} -> {to} at {at}: {verdict:?}");
    }
}

/// `x/web` on n1 and `y/api` on n2.
fn two_pods() -> String {
    namespace("x", "team=x")
        + &namespace("y", "team=y")
        + &pod_on("n1", "x/web", "app=web", "10.0.0.1", "http=TCP 8080")
        + &pod_on("n2", "y/api", "app=api", "10.0.1.1", "http=TCP 9090")
}

fn cluster_policy(name: &str, tier: &str, priority: u32, rules: &str) -> String {
    format!(
        "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{tier: {tier}, priority: {priority}, subject: {{namespaces: {{}}}}, {rules}}}\n"
    )
}

fn admin_policy(name: &str, priority: u32, rules: &str) -> String {
    format!(
        "---\napiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{priority: {priority}, subject: {{namespaces: {{}}}}, {rules}}}\n"
    )
}

fn ingress(action: &str) -> String {
    format!("ingress: [{{action: {action}, from: [{{namespaces: {{}}}}]}}]")
}

fn ingress_at(action: &str, port: u16) -> String {
    let ports = format!("protocols: [{{tcp: {{destinationPort: {{number: {port}}}}}}}]");
    format!("ingress: [{{action: {action}, from: [{{namespaces: {{}}}}], {ports}}}]")
}

/// What the tables of n1 say of y/api -> x/web.
fn passes(cluster: &Cluster, at: &str) -> bool {
    use signalbox_policy::evaluate::Endpoint::Address;
    let tables = cluster.compile("n1");
    let address = |text: &str| Address(text.parse().expect("sound"));
    let (protocol, number) = port(at);
    tables.judge(address("10.0.1.1"), address("10.0.0.1"), protocol, number).is_allowed()
}

#[test]
fn equal_priorities_that_contradict_each_other_leave_the_port_unknown() {
    let open = policy("x/np", "{podSelector: {}, ingress: [{}]}");
    let shut = policy("x/np", "{podSelector: {}}");
    let none = String::new();
    for tier in ["Admin", "Baseline"] {
        let of = |name: &str, action: &str| cluster_policy(name, tier, 5, &ingress(action));
        // (first, second, what stands behind, what is said of y/api -> x/web)
        let cases = [
            ("Accept", "Deny", &none, None),
            ("Deny", "Accept", &none, None),
            ("Accept", "Accept", &none, Some(true)),
            ("Deny", "Deny", &none, Some(false)),
            ("Pass", "Deny", &none, None),
            ("Deny", "Pass", &none, None),
            ("Pass", "Accept", &none, Some(true)),
            ("Accept", "Pass", &none, Some(true)),
        ];
        let of_admin = [
            ("Accept", "Deny", &open, None),
            ("Accept", "Deny", &shut, None),
            ("Pass", "Deny", &shut, Some(false)),
            ("Deny", "Pass", &shut, Some(false)),
            ("Pass", "Deny", &open, None),
            ("Pass", "Accept", &open, Some(true)),
            ("Pass", "Accept", &shut, None),
            ("Accept", "Pass", &shut, None),
        ];
        for (first, second, behind, expected) in cases.iter().chain(of_admin.iter().filter(|_| tier == "Admin")) {
            let cluster = sound(&(two_pods() + &of("a", first) + &of("b", second) + behind));
            let verdict = judged(&cluster, "y/api", "x/web", "TCP 80");
            assert_eq!(verdict.allowed(), *expected, "{tier}: {first}, {second}, {behind}: {verdict:?}");
            assert_eq!(passes(&cluster, "TCP 80"), *expected == Some(true), "{tier}: {first}, {second}, {behind}");
            if expected.is_none() {
                let [text] = verdict.unknown.as_slice() else { panic!("{verdict:?}") };
                assert!(text.contains("ClusterNetworkPolicy a") && text.contains("ClusterNetworkPolicy b"), "{text}");
            }
        }
    }
}

#[test]
fn equal_priorities_are_in_doubt_where_both_match_and_nowhere_else() {
    let cluster = sound(
        &(two_pods()
            + &cluster_policy("a", "Admin", 5, &ingress_at("Deny", 80))
            + &admin_policy(
                "b",
                5,
                "ingress: [{action: Allow, from: [{namespaces: {}}], ports: [{portRange: {start: 70, end: 90}}]}]",
            )
            + &cluster_policy("c", "Admin", 5, &ingress_at("Deny", 81))
            + &cluster_policy("later", "Admin", 6, &ingress("Deny"))),
    );
    for (at, expected) in
        [("TCP 80", None), ("TCP 81", None), ("TCP 82", Some(true)), ("TCP 91", Some(false)), ("UDP 80", Some(false))]
    {
        check(&cluster, &[("y/api", "x/web", at, expected)]);
        assert_eq!(passes(&cluster, at), expected == Some(true), "{at}");
    }
    // Different numbers decide.
    let cluster = sound(
        &(two_pods()
            + &cluster_policy("a", "Admin", 6, &ingress("Deny"))
            + &cluster_policy("b", "Admin", 5, &ingress("Accept"))),
    );
    check(&cluster, &[("y/api", "x/web", "TCP 80", Some(true))]);
    // Whoever comes first, the first rule of each that matches is its word.
    let two_rules = "ingress: [{action: Accept, from: [{namespaces: {matchLabels: {team: y}}}]}, {action: Deny, from: [{namespaces: {}}]}]";
    let cluster = sound(
        &(two_pods()
            + &cluster_policy("a", "Admin", 5, two_rules)
            + &cluster_policy("b", "Admin", 5, &ingress("Accept"))),
    );
    check(&cluster, &[("y/api", "x/web", "TCP 80", Some(true)), ("x/web", "y/api", "TCP 80", None)]);
}

#[test]
fn calicos_order_at_1000_is_known_where_all_its_versions_agree() {
    let calico = |name: &str| {
        format!(
            "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{order: 1000, types: [Ingress], ingress: [{{action: Deny}}]}}\n"
        )
    };
    let in_namespace = |namespace: &str, name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: {namespace}, name: it}}\nstatus: {{podIP: 10.0.2.1}}\n"
        ) + &policy(&format!("{namespace}/{name}"), "{podSelector: {}, ingress: [{}]}")
    };
    for (global, own, name, expected) in [
        // By name alone the second comes first; with the namespace in front of it, too: "a/…" before "default.z".
        ("z", "a", "m", Some(true)),
        // By name alone the first, with the namespace in front as well: "default.b" before "x/…".
        ("b", "x", "m", Some(false)),
        // By name alone the NetworkPolicy, with the namespace in front the other one.
        ("z", "x", "m", None),
        ("b", "a", "m", None),
    ] {
        let text = namespace("y", "") + &pod("y/api", "", "10.0.1.1", "") + &calico(global) + &in_namespace(own, name);
        let cluster = sound(&text);
        check(&cluster, &[("y/api", &format!("{own}/it"), "TCP 80", expected)]);
    }
}

#[test]
fn a_node_that_nobody_knows_may_be_the_pods_own() {
    let host = |node: &str, status: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: x, name: host}}\nspec: {{hostNetwork: true{node}}}\nstatus: {{{status}}}\n"
        )
    };
    let web = |node: &str, status: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: x, name: web}}\nspec: {{{node}}}\nstatus: {{podIP: 10.0.0.1{status}}}\n"
        )
    };
    let node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: [{type: InternalIP, address: 172.16.0.1}]}\n";
    let second = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n2}\nstatus: {addresses: [{type: InternalIP, address: 172.16.0.2}]}\n";
    let shut = policy("x/np", "{podSelector: {}}");
    let open = policy("x/np", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}");
    let (on_n1, on_n2) = (", nodeName: n1", ", nodeName: n2");
    for (host, web, expected) in [
        (host("", ""), web("", ""), None),
        (host(on_n1, ""), web("", ""), None),
        (host("", ""), web("nodeName: n1", ""), None),
        (host(on_n1, ""), web("nodeName: n1", ""), Some(true)),
        (host(on_n2, ""), web("nodeName: n1", ""), Some(false)),
        // The address of the node says which it is.
        (host("", "hostIP: 172.16.0.1"), web("nodeName: n1", ""), Some(true)),
        (host("", "podIP: 172.16.0.1"), web("nodeName: n1", ""), Some(true)),
        (host("", "hostIP: 172.16.0.2"), web("nodeName: n1", ""), Some(false)),
        (host("", "hostIP: 172.16.0.9"), web("nodeName: n1", ""), None),
        (host(on_n1, ""), web("", ", hostIP: 172.16.0.1"), Some(true)),
        (host(on_n1, ""), web("", ", hostIP: 172.16.0.2"), Some(false)),
        // Of a node that nobody names they have the same.
        (host("", "hostIP: 172.16.0.9"), web("", ", hostIP: 172.16.0.9"), Some(true)),
    ] {
        let text = namespace("x", "") + &host + &web + node + second;
        let cluster = sound(&(text.clone() + &shut));
        check(&cluster, &[("x/host", "x/web", "TCP 80", expected)]);
        if expected.is_none() {
            let verdict = ask(&cluster, "x/host", "x/web", "TCP 80");
            assert!(verdict.unknown[0].starts_with("Pod x/web: spec.nodeName: "), "{verdict:?}");
            assert!(matches!(verdict.ingress, Some(Side::Denied { .. })));
        }
        // What a policy allows is open whatever the node, and what it does not is as before.
        let cluster = sound(&(text + &open));
        check(&cluster, &[("x/host", "x/web", "TCP 80", Some(true)), ("x/host", "x/web", "UDP 80", expected)]);
    }
}

#[test]
fn a_node_may_be_that_of_a_pod_of_which_it_is_not_known() {
    let node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: [{type: InternalIP, address: 172.16.0.1}]}\n";
    let text = namespace("x", "") + &bare("x/web") + node + &policy("x/np", "{podSelector: {}}");
    let cluster = sound(&text);
    check(&cluster, &[("172.16.0.1", "x/web", "TCP 80", None), ("172.16.0.9", "x/web", "TCP 80", Some(false))]);
    // Its own node reaches it, whatever that is called.
    check(&cluster, &[("node", "x/web", "TCP 80", Some(true))]);
}

#[test]
fn a_workload_on_every_node_is_on_the_pods_own_node_and_on_others() {
    let text = namespace("x", "")
        + &pod_on("n1", "x/web", "", "10.0.0.1", "")
        + "---\napiVersion: apps/v1\nkind: DaemonSet\nmetadata: {namespace: x, name: agent}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {hostNetwork: true}}}\n"
        + &policy("x/np", "{podSelector: {}, ingress: [{ports: [{port: 81}]}]}");
    let cluster = sound(&text);
    check(&cluster, &[("x/agent", "x/web", "TCP 80", None), ("x/agent", "x/web", "TCP 81", Some(true))]);
}

/// A pod without an address.
fn bare(name: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: {namespace}, name: {name}}}\n")
}

fn dual(name: &str, number: u8) -> String {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: {namespace}, name: {name}}}\nstatus: {{podIPs: [{{ip: 10.0.0.{number}}}, {{ip: 'fd00::{number}'}}]}}\n"
    )
}

fn from_block(cidr: &str) -> String {
    policy("x/np", &format!("{{podSelector: {{}}, ingress: [{{from: [{{ipBlock: {{cidr: '{cidr}'}}}}]}}]}}"))
}

/// Families, with whether all is open.
fn by_family(cluster: &Cluster, from: &str, to: &str) -> Vec<(Option<Family>, Option<bool>)> {
    let links = cluster.analyze(Options::default());
    let by_links: Vec<_> = links
        .iter()
        .filter(|link| {
            let is = |place: &Place, text: &str| {
                *place
                    == Place::Pod(match party(text) {
                        Party::Pod(pod) => pod,
                        Party::Address(_) | Party::LocalNode => panic!("{text} is no pod"),
                    })
            };
            is(&link.from, from) && is(&link.to, to)
        })
        .map(|link| (link.family, link.reach.clone()))
        .collect();
    let asked = cluster.reach_by_family(&party(from), &party(to), Route::Direct);
    let asked: Vec<_> =
        asked.into_iter().filter(|(_, reach)| !reach.open.is_empty() || !reach.unknown.is_empty()).collect();
    assert_eq!(by_links, asked, "{from} -> {to}");
    asked.into_iter().map(|(family, reach)| (family, (!reach.open.is_empty()).then_some(true))).collect()
}

#[test]
fn a_pod_without_an_address_is_judged_for_each_family_of_the_other_end() {
    let text = namespace("x", "") + &dual("x/web", 1) + &bare("x/bare");
    let (v4, v6) = (Some(Family::V4), Some(Family::V6));
    let cluster = sound(&(text.clone() + &from_block("::/0")));
    assert_eq!(by_family(&cluster, "x/bare", "x/web"), [(v6, Some(true))]);
    let cluster = sound(&(text.clone() + &from_block("0.0.0.0/0")));
    assert_eq!(by_family(&cluster, "x/bare", "x/web"), [(v4, Some(true))]);
    let cluster = sound(&(text.clone() + &from_block("10.0.0.0/8")));
    assert_eq!(by_family(&cluster, "x/bare", "x/web"), [(v4, None)]);
    let both = policy(
        "x/np",
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}}]}]}",
    );
    let cluster = sound(&(text + &both));
    assert_eq!(by_family(&cluster, "x/bare", "x/web"), [(None, Some(true))]);
}

#[test]
fn two_pods_without_addresses_are_not_open_by_a_block_of_ipv6() {
    let text = namespace("x", "") + &bare("x/a") + &bare("x/b");
    let cluster = sound(&(text.clone() + &from_block("::/0")));
    check(&cluster, &[("x/a", "x/b", "TCP 80", None)]);
    assert_eq!(by_family(&cluster, "x/a", "x/b"), [(Some(Family::V6), Some(true))]);
    // Where nothing speaks of IPv6 it is IPv4.
    let cluster = sound(&(text.clone() + &from_block("0.0.0.0/0")));
    check(&cluster, &[("x/a", "x/b", "TCP 80", Some(true))]);
    assert_eq!(by_family(&cluster, "x/a", "x/b"), [(None, Some(true))]);
    // Both together are everyone.
    let both = policy(
        "x/np",
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}}]}]}",
    );
    let cluster = sound(&(text.clone() + &both));
    check(&cluster, &[("x/a", "x/b", "TCP 80", Some(true))]);
    // In a cluster of IPv6 alone it is certain.
    let cluster = sound(&(text + &pod("x/c", "", "fd00::1", "") + &from_block("::/0")));
    check(&cluster, &[("x/a", "x/b", "TCP 80", Some(true))]);
}

#[test]
fn the_outside_has_ipv4_although_policies_speak_of_ipv6_alone() {
    let cluster = sound(&(namespace("x", "") + &bare("x/a") + &from_block("2001:db8::/32")));
    let options = Options { external: External::Ranges, ..Options::default() };
    let outside = |place: &Place| matches!(place, Place::Range(range) if range.first().is_ipv4());
    assert!(cluster.analyze(options).iter().any(|link| outside(&link.to)), "egress to IPv4 is open");
}

#[test]
fn names_of_domains_are_in_doubt_only_where_they_could_open() {
    let policies = |first: &str, last: &str| {
        cluster_policy(
            "a",
            "Admin",
            1,
            &format!(
                "egress: [{first}{{action: Accept, to: [{{domainNames: ['*.example.org']}}], protocols: [{{tcp: {{destinationPort: {{number: 443}}}}}}]}}{last}]"
            ),
        )
    };
    let of = |first: &str, last: &str| cluster(&(two_pods() + &policies(first, last)));
    // Nothing behind shuts it.
    check(&of("", ""), &[("x/web", "192.0.2.1", "TCP 443", Some(true)), ("x/web", "y/api", "TCP 443", Some(true))]);
    // Allowed again behind it.
    let accept = ", {action: Accept, to: [{networks: [0.0.0.0/0]}]}";
    check(&of("", accept), &[("x/web", "192.0.2.1", "TCP 443", Some(true))]);
    let deny = ", {action: Deny, to: [{networks: [0.0.0.0/0]}]}";
    // A name may stand for any address, that of a pod as well.
    check(
        &of("", deny),
        &[
            ("x/web", "192.0.2.1", "TCP 443", None),
            ("x/web", "192.0.2.1", "TCP 80", Some(false)),
            ("x/web", "y/api", "TCP 443", None),
        ],
    );
    // Decided before.
    let first = "{action: Deny, to: [{networks: [192.0.2.0/24]}]}, {action: Accept, to: [{namespaces: {}}]}, ";
    check(
        &of(first, deny),
        &[
            ("x/web", "192.0.2.1", "TCP 443", Some(false)),
            ("x/web", "y/api", "TCP 443", Some(true)),
            ("x/web", "203.0.113.1", "TCP 443", None),
        ],
    );
    // Beside a peer that is certain.
    let mixed = cluster_policy(
        "a",
        "Admin",
        1,
        "egress: [{action: Accept, to: [{domainNames: [example.org]}, {networks: [192.0.2.0/24]}]}, {action: Deny, to: [{networks: [0.0.0.0/0]}]}]",
    );
    let cluster = cluster(&(two_pods() + &mixed));
    check(&cluster, &[("x/web", "192.0.2.1", "TCP 443", Some(true)), ("x/web", "203.0.113.1", "TCP 443", None)]);
    let verdict = ask(&cluster, "x/web", "192.0.2.1", "TCP 443");
    let Some(Side::AllowedBy(rule, _)) = verdict.egress else { panic!("{verdict:?}") };
    assert_eq!(rule.peer, Some(1), "its place in the manifest");
}
