//! The tiers around NetworkPolicy: point 23.

use crate::common::{ask, check, cluster, namespace, pod, pod_on, policy, sound};
use crate::two_pods;
use signalbox_policy::{Problem, Side};

/// A ClusterNetworkPolicy of everything, with the rest of its spec.
fn cluster_policy(name: &str, tier: &str, priority: u32, rules: &str) -> String {
    format!(
        "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{tier: {tier}, priority: {priority}, subject: {{namespaces: {{}}}}, {rules}}}\n"
    )
}

/// One rule for all ingress from pods.
fn ingress(action: &str) -> String {
    format!("ingress: [{{action: {action}, from: [{{namespaces: {{}}}}]}}]")
}

#[test]
fn semantics_23_tiers_are_asked_in_order_and_pass_leaves_one() {
    let admin = |action: &str| cluster_policy("a", "Admin", 10, &ingress(action));
    let baseline = |action: &str| cluster_policy("b", "Baseline", 10, &ingress(action));
    let open = policy("x/np", "{podSelector: {}, ingress: [{}]}");
    let shut = policy("x/np", "{podSelector: {}}");
    let none = String::new();
    // (Admin, NetworkPolicy, Baseline, whether y/api reaches x/web)
    for (admin, middle, baseline, expected) in [
        (&admin("Deny"), &open, &baseline("Accept"), false),
        (&admin("Accept"), &shut, &baseline("Deny"), true),
        (&admin("Pass"), &shut, &baseline("Accept"), false),
        (&admin("Pass"), &open, &baseline("Deny"), true),
        (&admin("Pass"), &none, &baseline("Deny"), false),
        (&admin("Pass"), &none, &baseline("Accept"), true),
        (&admin("Pass"), &none, &baseline("Pass"), true),
        (&admin("Pass"), &none, &none, true),
        (&none, &shut, &baseline("Accept"), false),
        (&none, &open, &baseline("Deny"), true),
        (&none, &none, &baseline("Deny"), false),
        (&none, &none, &none, true),
    ] {
        let cluster = two_pods(&[admin.clone(), middle.clone(), baseline.clone()]);
        check(&cluster, &[("y/api", "x/web", "TCP 80", expected)]);
    }
}

#[test]
fn semantics_23_lower_priority_numbers_come_first_and_the_first_rule_that_matches_decides() {
    let deny = |name: &str, priority| cluster_policy(name, "Admin", priority, &ingress("Deny"));
    let accept = |name: &str, priority| cluster_policy(name, "Admin", priority, &ingress("Accept"));
    for (policies, expected) in [
        ([deny("z", 1), accept("a", 2)], false),
        ([deny("a", 2), accept("z", 1)], true),
        ([deny("a", 1000), accept("z", 0)], true),
        // Nine is less than ten, whatever their texts are.
        ([deny("a", 10), accept("z", 9)], true),
    ] {
        check(&two_pods(&policies), &[("y/api", "x/web", "TCP 80", expected)]);
    }
    let rules = "ingress: [
        {action: Pass, from: [{namespaces: {matchLabels: {team: z}}}]},
        {name: low, action: Accept, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {range: {start: 80, end: 90}}}}]},
        {action: Deny, from: [{namespaces: {}}]},
        {action: Accept, from: [{namespaces: {}}]}]";
    let cluster = two_pods(&[cluster_policy("a", "Admin", 1, rules)]);
    check(
        &cluster,
        &[
            ("y/api", "x/web", "TCP 80", true),
            ("y/api", "x/web", "TCP 90", true),
            ("y/api", "x/web", "TCP 91", false),
            ("y/api", "x/web", "UDP 80", false),
            // No peer of ingress is an address: nothing matches, and the pod is not isolated by this tier.
            ("192.0.2.1", "x/web", "TCP 91", true),
        ],
    );
    let Some(Side::DeniedBy(rule)) = ask(&cluster, "y/api", "x/web", "UDP 80").ingress else {
        panic!("a rule decides")
    };
    assert_eq!((rule.policy.to_string().as_str(), rule.rule, rule.peer), ("ClusterNetworkPolicy a", 2, Some(0)));
}

#[test]
fn semantics_23_a_pod_isolated_in_one_direction_meets_the_baseline_in_the_other() {
    let baseline = cluster_policy(
        "b",
        "Baseline",
        1,
        "ingress: [{action: Deny, from: [{namespaces: {}}]}], egress: [{action: Deny, to: [{namespaces: {}}]}]",
    );
    let ingress_only = policy("x/np", "{podSelector: {}, ingress: [{}]}");
    let cluster = two_pods(&[baseline, ingress_only, policy("y/np", "{podSelector: {}, ingress: [{}], egress: [{}]}")]);
    check(&cluster, &[("y/api", "x/web", "TCP 80", true), ("x/web", "y/api", "TCP 80", false)]);
}

#[test]
fn semantics_23_what_the_outer_tiers_do_not_match_is_left_to_the_others() {
    let rules = "ingress: [{action: Accept, from: [{namespaces: {matchLabels: {team: y}}}]}]";
    for tier in ["Admin", "Baseline"] {
        let text = pod("z/other", "", "10.0.2.1", "") + &cluster_policy("c", tier, 1, rules);
        let cluster = two_pods(std::slice::from_ref(&text));
        check(&cluster, &[("y/api", "x/web", "TCP 80", true), ("z/other", "x/web", "TCP 80", true)]);
        let cluster = two_pods(&[text, policy("x/np", "{podSelector: {}}")]);
        check(&cluster, &[("y/api", "x/web", "TCP 80", tier == "Admin"), ("z/other", "x/web", "TCP 80", false)]);
    }
}

#[test]
fn semantics_23_ports_peers_and_subjects_of_all_versions() {
    let nodes = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n2, labels: {zone: b}}\nstatus: {addresses: [{type: InternalIP, address: 172.16.0.2}]}\n";
    let subject =
        "subject: {pods: {namespaceSelector: {matchLabels: {team: x}}, podSelector: {matchLabels: {app: web}}}}";
    for (version, kind, allow, ports) in [
        (
            "v1alpha2",
            "ClusterNetworkPolicy",
            "Accept",
            "protocols: [{destinationNamedPort: http}, {udp: {destinationPort: {number: 53}}}]",
        ),
        (
            "v1beta1",
            "ClusterNetworkPolicy",
            "Accept",
            "protocols: [{destinationNamedPort: http}, {udp: {destinationPort: {number: 53}}}]",
        ),
        (
            "v1alpha1",
            "AdminNetworkPolicy",
            "Allow",
            "ports: [{namedPort: http}, {portNumber: {protocol: UDP, port: 53}}]",
        ),
        (
            "v1alpha1",
            "BaselineAdminNetworkPolicy",
            "Allow",
            "ports: [{namedPort: http}, {portNumber: {protocol: UDP, port: 53}}]",
        ),
    ] {
        let (name, place) = match kind {
            "ClusterNetworkPolicy" => ("c", "tier: Admin, priority: 5, "),
            "AdminNetworkPolicy" => ("c", "priority: 5, "),
            _ => ("default", ""),
        };
        let spec = format!(
            "{{{place}{subject}, egress: [
                {{action: {allow}, to: [{{namespaces: {{matchLabels: {{team: y}}}}}}], {ports}}},
                {{action: {allow}, to: [{{nodes: {{matchLabels: {{zone: b}}}}}}, {{networks: [192.0.2.0/24, '2001:db8::/32']}}]}},
                {{action: Deny, to: [{{networks: [0.0.0.0/0, '::/0']}}]}}]}}"
        );
        let text = format!(
            "---\napiVersion: policy.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"
        );
        let cluster = two_pods(&[nodes.to_owned(), text]);
        check(
            &cluster,
            &[
                // The port that y/api calls so.
                ("x/web", "y/api", "TCP 9090", true),
                ("x/web", "y/api", "TCP 8080", false),
                ("x/web", "y/api", "UDP 53", true),
                ("x/web", "y/api", "TCP 53", false),
                ("x/web", "172.16.0.2", "TCP 1", true),
                ("x/web", "172.16.0.3", "TCP 1", false),
                ("x/web", "192.0.2.1", "TCP 1", true),
                ("x/web", "192.0.3.1", "TCP 1", false),
                // Not the subject.
                ("y/api", "192.0.3.1", "TCP 1", true),
            ],
        );
    }
}

#[test]
fn semantics_23_host_network_pods_are_no_subject_and_no_pods() {
    let host = "---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: y, name: host}\nspec: {nodeName: n3, hostNetwork: true}\nstatus: {podIP: 172.16.0.3}\n";
    let rules = "ingress: [{action: Deny, from: [{namespaces: {}}]}], egress: [{action: Deny, to: [{namespaces: {}}]}]";
    let cluster = two_pods(&[host.to_owned(), cluster_policy("a", "Admin", 1, rules)]);
    check(
        &cluster,
        &[
            ("y/host", "x/web", "TCP 80", true),
            ("x/web", "y/host", "TCP 80", true),
            ("y/host", "192.0.2.1", "TCP 80", true),
            ("y/api", "x/web", "TCP 80", false),
        ],
    );
}

#[test]
fn semantics_23_the_own_node_and_the_pod_itself_are_above_all_tiers() {
    let rules =
        "ingress: [{action: Deny, from: [{namespaces: {}}]}], egress: [{action: Deny, to: [{networks: [0.0.0.0/0]}]}]";
    let cluster = two_pods(&[cluster_policy("a", "Admin", 1, rules)]);
    check(&cluster, &[("node", "x/web", "TCP 80", true), ("x/web", "x/web", "TCP 80", true)]);
}

#[test]
fn semantics_23_a_rule_in_doubt_leaves_what_comes_before_it() {
    let text = namespace("x", "team=x")
        + &namespace("y", "team=y")
        + &pod_on("n1", "x/web", "app=web", "10.0.0.1", "")
        + &pod_on("n2", "y/api", "app=api", "10.0.1.1", "");
    let rules = "egress: [
        {action: Accept, to: [{namespaces: {matchLabels: {team: y}}}]},
        {action: Accept, to: [{domainNames: ['*.example.org']}], protocols: [{tcp: {destinationPort: {number: 443}}}]},
        {action: Deny, to: [{networks: [0.0.0.0/0]}]}]";
    let cluster = cluster(&(text + &cluster_policy("a", "Admin", 1, rules)));
    let problems: Vec<String> = cluster.problems().iter().map(Problem::to_string).collect();
    let expected = "ClusterNetworkPolicy a: spec.egress[1].to[0].domainNames: depends on what the names resolve to; name networks instead to have it judged";
    assert_eq!(problems, [expected]);
    assert_eq!(ask(&cluster, "x/web", "y/api", "TCP 443").allowed(), Some(true));
    let verdict = ask(&cluster, "x/web", "192.0.2.1", "TCP 443");
    assert_eq!((verdict.allowed(), verdict.unknown), (None, problems));
    // It speaks of another port only.
    assert_eq!(ask(&cluster, "x/web", "192.0.2.1", "TCP 80").allowed(), Some(false));
    assert_eq!(ask(&cluster, "192.0.2.1", "x/web", "TCP 443").allowed(), Some(true));
}

#[test]
fn semantics_23_an_unknown_peer_is_in_doubt_and_an_unknown_subject_breaks_the_policy() {
    let text = namespace("x", "team=x") + &pod("x/web", "app=web", "10.0.0.1", "") + &pod("y/api", "", "10.0.1.1", "");
    let open = policy("x/open", "{podSelector: {}, ingress: [{}]}");
    let of = |spec: &str| {
        let kind = "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}";
        cluster(&(text.clone() + &open + &format!("---\n{kind}\nspec: {spec}\n")))
    };
    let web = "subject: {pods: {podSelector: {matchLabels: {app: web}}}}";
    for (spec, web, api) in [
        // (spec, what is said of y/api -> x/web, and of x/web -> y/api)
        (
            format!("{{tier: Admin, priority: 1, {web}, ingress: [{{action: Accept, from: [{{galaxies: {{}}}}]}}]}}"),
            None,
            Some(true),
        ),
        (format!("{{tier: Admin, priority: 1, {web}, ingress: [{{action: Deny, from: [{{}}]}}]}}"), None, Some(true)),
        (
            format!("{{tier: Middle, priority: 1, {web}, ingress: [{{action: Deny, from: [{{namespaces: {{}}}}]}}]}}"),
            None,
            Some(true),
        ),
        (format!("{{tier: Admin, priority: 1, {web}, egress: [{{action: Deny, to: [{{}}]}}]}}"), Some(true), None),
        (
            "{tier: Admin, priority: 1, subject: {galaxies: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}"
                .to_owned(),
            None,
            None,
        ),
        ("{tier: Admin, priority: 1, subject: {namespaces: {}}, ingres: []}".to_owned(), None, None),
    ] {
        let cluster = of(&spec);
        assert_eq!(ask(&cluster, "y/api", "x/web", "TCP 80").allowed(), web, "{spec}");
        assert_eq!(ask(&cluster, "x/web", "y/api", "TCP 80").allowed(), api, "{spec}");
    }
    // A sound one with no rules says nothing of any direction.
    let silent = "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: []}\n";
    check(&sound(&(text + silent)), &[("y/api", "x/web", "TCP 80", true)]);
}
