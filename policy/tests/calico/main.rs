//! Calico's policies, as its documentation and its API's comments have them: see `src/parse/calico.rs` for the sources. Cases
//! are here; `law` holds random clusters against a second evaluator.

#[path = "../common/mod.rs"]
mod common;
mod law;
mod naive;

use common::{ask, check, cluster, namespace, pod, policy, sound};
use signalbox_policy::{Cluster, Connection, Family, PolicyRef, Problem, Protocol, Route, Side};

fn global(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

fn namespaced(name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("a policy is written namespace/name");
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{namespace: {namespace}, name: {name}}}\nspec: {spec}\n"
    )
}

/// Pods `x/web`, `x/db`, `y/web` and `y/job`, the last one with a service account of its own.
fn pods() -> String {
    namespace("x", "team=x")
        + &namespace("y", "team=y")
        + &pod("x/web", "app=web", "10.0.0.1", "http=TCP 8080,dns=UDP 53")
        + &pod("x/db", "app=db", "10.0.0.2", "http=TCP 9090")
        + &pod("y/web", "app=web", "10.0.1.1", "http=TCP 8080")
        + "---\napiVersion: v1\nkind: Pod\nmetadata: {namespace: y, name: job}\nspec: {nodeName: n1, serviceAccountName: batch}\nstatus: {podIP: 10.0.1.2}\n"
}

const SOURCES: [&str; 5] = ["x/db", "y/web", "y/job", "192.0.2.1", "10.0.1.77"];

/// Which of [`SOURCES`] reach `x/web` at this port.
fn reaching(cluster: &Cluster, at: &str) -> Vec<&'static str> {
    SOURCES.into_iter().filter(|from| ask(cluster, from, "x/web", at).allowed().expect("all is understood")).collect()
}

#[test]
fn peers_of_a_global_policy() {
    for (source, expected) in [
        ("{}", &SOURCES[..]),
        ("{selector: all()}", &["x/db", "y/web", "y/job"]),
        ("{selector: \"app == 'web'\"}", &["y/web"]),
        ("{selector: \"app != 'web'\"}", &["x/db", "y/job"]),
        ("{selector: \"has(app) && app not in {'db'}\"}", &["y/web"]),
        ("{selector: \"!has(app)\"}", &["y/job"]),
        ("{namespaceSelector: \"team == 'y'\"}", &["y/web", "y/job"]),
        ("{namespaceSelector: \"projectcalico.org/name == 'y'\"}", &["y/web", "y/job"]),
        ("{namespaceSelector: \"kubernetes.io/metadata.name == 'y'\"}", &["y/web", "y/job"]),
        ("{namespaceSelector: all()}", &["x/db", "y/web", "y/job"]),
        ("{namespaceSelector: global()}", &[]),
        ("{namespaceSelector: \"team == 'y'\", selector: \"app == 'web'\"}", &["y/web"]),
        ("{selector: \"projectcalico.org/namespace == 'y'\"}", &["y/web", "y/job"]),
        ("{selector: \"projectcalico.org/orchestrator == 'k8s'\"}", &["x/db", "y/web", "y/job"]),
        ("{selector: \"projectcalico.org/serviceaccount == 'batch'\"}", &["y/job"]),
        ("{serviceAccounts: {names: [batch, other]}}", &["y/job"]),
        ("{serviceAccounts: {names: [default]}, selector: \"app == 'db'\"}", &["x/db"]),
        ("{selector: has(app), notSelector: \"app == 'web'\"}", &["x/db"]),
        ("{namespaceSelector: all(), notSelector: \"app == 'web'\"}", &["x/db", "y/job"]),
        ("{nets: [10.0.1.0/24]}", &["y/web", "y/job", "10.0.1.77"]),
        ("{nets: [10.0.0.0/8], notNets: [10.0.1.0/24]}", &["x/db"]),
        ("{nets: [10.0.1.77]}", &["10.0.1.77"]),
        ("{notNets: [10.0.1.0/24]}", &["x/db", "192.0.2.1"]),
        ("{notNets: [0.0.0.0/0]}", &[]),
        ("{nets: [10.0.1.1/24]}", &["y/web", "y/job", "10.0.1.77"]),
        ("{selector: all(), nets: [10.0.1.0/24]}", &["y/web", "y/job"]),
        ("{selector: \"app == 'web' || app == 'db'\", notNets: [10.0.1.0/24]}", &["x/db"]),
    ] {
        let spec = format!("{{selector: \"app == 'web'\", ingress: [{{action: Allow, source: {source}}}]}}");
        let cluster = sound(&(pods() + &global("g", &spec)));
        assert_eq!(reaching(&cluster, "TCP 80"), expected, "{source}");
        assert_eq!(reaching(&cluster, "UDP 80"), expected, "{source}");
    }
}

#[test]
fn peers_of_a_namespaced_policy_are_in_its_namespace_unless_they_say_otherwise() {
    for (source, expected) in [
        ("{}", &SOURCES[..]),
        ("{selector: all()}", &["x/db"]),
        ("{selector: \"app == 'web'\"}", &[]),
        ("{namespaceSelector: \"team == 'y'\"}", &["y/web", "y/job"]),
        ("{namespaceSelector: \"team == 'y'\", selector: \"app == 'web'\"}", &["y/web"]),
        ("{namespaceSelector: all(), selector: \"app == 'web'\"}", &["y/web"]),
        ("{notSelector: \"app == 'web'\"}", &["x/db"]),
        ("{notSelector: \"app == 'db'\"}", &[]),
        ("{serviceAccounts: {names: [batch]}}", &[]),
        ("{serviceAccounts: {names: [default]}}", &["x/db"]),
        ("{nets: [10.0.1.0/24]}", &["y/web", "y/job", "10.0.1.77"]),
    ] {
        let spec = format!("{{selector: \"app == 'web'\", ingress: [{{action: Allow, source: {source}}}]}}");
        let cluster = sound(&(pods() + &namespaced("x/n", &spec)));
        assert_eq!(reaching(&cluster, "TCP 80"), expected, "{source}");
        // It selects in its own namespace only.
        assert_eq!(ask(&cluster, "x/db", "y/web", "TCP 80").allowed(), Some(true), "{source}");
    }
}

#[test]
fn networks_of_sets_are_among_the_peers_that_selectors_select() {
    let sets = "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: partners, labels: {role: partner}}\nspec: {nets: [192.0.2.0/24, 198.51.100.1]}\n\
        ---\napiVersion: crd.projectcalico.org/v1\nkind: NetworkSet\nmetadata: {namespace: x, name: local, labels: {role: local}}\nspec: {nets: [10.0.1.64/26]}\n";
    for (kind, source, expected) in [
        ("global", "{selector: \"role == 'partner'\"}", &["192.0.2.1"][..]),
        ("global", "{selector: has(role)}", &["192.0.2.1", "10.0.1.77"]),
        ("global", "{selector: \"has(role) || app == 'db'\"}", &["x/db", "192.0.2.1", "10.0.1.77"]),
        ("global", "{selector: all(), nets: [192.0.0.0/8, 10.0.0.0/24]}", &["x/db", "192.0.2.1"]),
        ("global", "{selector: has(role), nets: [192.0.2.128/25]}", &[]),
        ("global", "{selector: has(role), notNets: [192.0.0.0/16]}", &["10.0.1.77"]),
        ("global", "{namespaceSelector: global()}", &["192.0.2.1"]),
        ("global", "{namespaceSelector: global(), selector: \"role == 'local'\"}", &[]),
        ("global", "{namespaceSelector: all(), selector: has(role)}", &["10.0.1.77"]),
        ("namespaced", "{selector: has(role)}", &["10.0.1.77"]),
        ("namespaced", "{namespaceSelector: global(), selector: has(role)}", &["192.0.2.1"]),
        // Pods by their addresses, if those lie in a set that is left out.
        ("global", "{selector: has(app), notSelector: \"role == 'local'\"}", &["x/db", "y/web"]),
    ] {
        let spec = format!("{{selector: \"app == 'web'\", ingress: [{{action: Allow, source: {source}}}]}}");
        let policy = if kind == "global" { global("g", &spec) } else { namespaced("x/n", &spec) };
        let cluster = sound(&(pods() + &policy + sets));
        assert_eq!(reaching(&cluster, "TCP 80"), expected, "{kind} {source}");
        // The set's other network, an address: as the first one, unless the rule has networks of its own.
        if !source.contains("ets: ") {
            let open = ask(&cluster, "198.51.100.1", "x/web", "TCP 80").allowed();
            assert_eq!(open, Some(expected.contains(&"192.0.2.1")), "{kind} {source}");
        }
    }
}

#[test]
fn ports_and_protocols() {
    // (what the rule asks for, what it lets through to x/web)
    let questions = ["TCP 80", "TCP 85", "TCP 8080", "UDP 53", "UDP 8080", "SCTP 80"];
    for (rule, expected) in [
        ("", &questions[..]),
        ("protocol: TCP", &["TCP 80", "TCP 85", "TCP 8080"]),
        ("protocol: 6", &["TCP 80", "TCP 85", "TCP 8080"]),
        ("protocol: 132", &["SCTP 80"]),
        ("protocol: ICMP", &[]),
        ("protocol: ICMP, icmp: {type: 8}", &[]),
        ("protocol: ICMPv6", &[]),
        ("protocol: UDPLite", &[]),
        ("protocol: 47", &[]),
        ("notProtocol: TCP", &["UDP 53", "UDP 8080", "SCTP 80"]),
        ("notProtocol: ICMP", &questions[..]),
        ("protocol: UDP, notProtocol: UDP", &[]),
        ("protocol: TCP, destination: {ports: [80]}", &["TCP 80"]),
        ("protocol: TCP, destination: {ports: ['80']}", &["TCP 80"]),
        ("protocol: TCP, destination: {ports: ['80:90', 8080]}", &["TCP 80", "TCP 85", "TCP 8080"]),
        ("protocol: TCP, destination: {ports: ['0:84']}", &["TCP 80"]),
        ("protocol: TCP, destination: {ports: []}", &["TCP 80", "TCP 85", "TCP 8080"]),
        ("protocol: TCP, destination: {ports: [http]}", &["TCP 8080"]),
        ("protocol: UDP, destination: {ports: [http, dns]}", &["UDP 53"]),
        ("protocol: TCP, destination: {notPorts: [80]}", &["TCP 85", "TCP 8080"]),
        ("protocol: TCP, destination: {notPorts: ['1:65535']}", &[]),
        ("protocol: TCP, destination: {ports: ['80:90'], notPorts: [80]}", &["TCP 85"]),
        // Names alone stand for numbers of any protocol.
        ("destination: {ports: [http, dns]}", &["TCP 8080", "UDP 53"]),
        ("notProtocol: TCP, destination: {ports: [http, dns]}", &["UDP 53"]),
    ] {
        let comma = if rule.is_empty() { "" } else { ", " };
        let spec = format!("{{selector: \"app == 'web'\", ingress: [{{action: Allow{comma}{rule}}}]}}");
        let cluster = sound(&(pods() + &global("g", &spec)));
        let open: Vec<&str> = questions
            .into_iter()
            .filter(|at| ask(&cluster, "y/job", "x/web", at).allowed().expect("all is understood"))
            .collect();
        assert_eq!(open, expected, "{rule}");
    }
}

#[test]
fn egress_ports_are_the_destinations() {
    let spec = "{selector: \"app == 'db'\", types: [Egress], egress: [
        {action: Allow, protocol: TCP, destination: {selector: \"app == 'web'\", ports: [http]}},
        {action: Deny, destination: {nets: [192.0.2.0/24]}},
        {action: Allow, destination: {nets: [192.0.0.0/16]}}]}";
    check(
        &sound(&(pods() + &global("g", spec))),
        &[
            ("x/db", "x/web", "TCP 8080", true),
            ("x/db", "x/web", "TCP 9090", false),
            ("x/db", "y/web", "TCP 8080", true),
            ("x/db", "y/job", "TCP 8080", false),
            ("x/db", "192.0.2.1", "TCP 80", false),
            ("x/db", "192.0.3.1", "TCP 80", true),
            ("y/job", "x/db", "TCP 80", true),
        ],
    );
}

#[test]
fn types_default_by_the_rules_there_are() {
    // (spec, into x/web from y/job, from x/web to y/job)
    for (spec, into, out) in [
        ("{}", false, true),
        ("{ingress: [], egress: []}", false, true),
        ("{ingress: [{action: Deny}]}", false, true),
        ("{egress: [{action: Deny}]}", true, false),
        ("{ingress: [{action: Deny}], egress: [{action: Deny}]}", false, false),
        ("{types: [Ingress], egress: [{action: Deny}]}", false, true),
        ("{types: [Egress]}", true, false),
        ("{types: [Ingress, Egress]}", false, false),
        ("{types: [], egress: [{action: Deny}]}", true, false),
    ] {
        let cluster = sound(&(pods() + &namespaced("x/n", spec)));
        check(&cluster, &[("y/job", "x/web", "TCP 80", into), ("x/web", "y/job", "TCP 80", out)]);
    }
}

#[test]
fn order_comes_before_kind_and_name() {
    let allow = "ingress: [{action: Allow}]";
    let deny = "ingress: [{action: Deny}]";
    let kubernetes = policy("x/m", "{podSelector: {}, ingress: [{}]}");
    for (policies, open) in [
        (global("a", &format!("{{order: 1, {deny}}}")) + &kubernetes, false),
        (global("a", &format!("{{order: 999.5, {deny}}}")) + &kubernetes, false),
        (global("a", &format!("{{order: 1001, {deny}}}")) + &kubernetes, true),
        (global("a", &format!("{{{deny}}}")) + &kubernetes, true),
        // With NetworkPolicy's order: by name.
        (global("a", &format!("{{order: 1000, {deny}}}")) + &kubernetes, false),
        (namespaced("x/a", &format!("{{order: 1000, {deny}}}")) + &kubernetes, false),
        // Names as stored carry the tier's.
        (global("default.a", &format!("{{order: 1000, {deny}}}")) + &kubernetes, false),
        (global("b", &format!("{{order: 2, {allow}}}")) + &global("a", &format!("{{order: 10, {deny}}}")), true),
        (global("b", &format!("{{order: -1, {allow}}}")) + &global("a", &format!("{{order: 0, {deny}}}")), true),
        (global("b", &format!("{{{allow}}}")) + &global("a", &format!("{{{deny}}}")), false),
        (namespaced("x/b", &format!("{{{allow}}}")) + &global("a", &format!("{{{deny}}}")), false),
    ] {
        let cluster = sound(&(pods() + &policies));
        check(&cluster, &[("y/job", "x/web", "TCP 80", open)]);
    }
    // By the name alone "m" comes first, with its namespace in front of it "x/…" comes behind "default.z": versions differ.
    let cluster = sound(&(pods() + &global("z", &format!("{{order: 1000, {deny}}}")) + &kubernetes));
    let verdict = common::ask(&cluster, "y/job", "x/web", "TCP 80");
    let [text] = verdict.unknown.as_slice() else { panic!("{verdict:?}") };
    assert!(text.starts_with("GlobalNetworkPolicy z: spec.order: is the same as that of NetworkPolicy x/m"), "{text}");
}

#[test]
fn actions_and_what_follows_them() {
    let shut = policy("x/shut", "{podSelector: {}}");
    let baseline = "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: base}\nspec: {tier: Baseline, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}\n";
    for (rules, others, open) in [
        ("{action: Allow}", &shut[..], true),
        ("{action: Deny}, {action: Allow}", "", false),
        // Log goes on to the next rule.
        ("{action: Log}, {action: Allow}", "", true),
        ("{action: Log}", "", false),
        // Pass leaves the tier, and with it what NetworkPolicies say: the namespace's profile allows.
        ("{action: Pass}", &shut, true),
        ("{action: Pass}", baseline, false),
        ("{action: Allow}", baseline, true),
        ("{action: Pass, protocol: UDP}", "", false),
    ] {
        let spec = format!("{{order: 10, ingress: [{rules}]}}");
        let cluster = sound(&(pods() + &global("g", &spec) + others));
        check(&cluster, &[("y/job", "x/web", "TCP 80", open)]);
    }
    // Rules that match no connection keep their place.
    let spec = "{ingress: [{action: Log}, {action: Allow, protocol: ICMP}, {action: Allow, protocol: TCP}]}";
    let verdict = ask(&sound(&(pods() + &global("g", spec))), "y/job", "x/web", "TCP 80");
    let Some(Side::AllowedBy(rule, _)) = verdict.ingress else { panic!("a rule decides") };
    assert_eq!((rule.policy.to_string().as_str(), rule.rule), ("GlobalNetworkPolicy g", 2));
    let summary = sound(&(pods() + &global("g", spec))).summary(&rule.policy).expect("it is there");
    assert!(summary.contains("in: left to the next tier: no connection of TCP, UDP or SCTP; or"), "{summary}");
}

#[test]
fn the_tiers_of_cluster_network_policy_take_calicos_policies_in() {
    let cluster_policy = |tier: &str, priority: u32, action: &str| {
        format!(
            "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: m}}\nspec: {{tier: {tier}, priority: {priority}, subject: {{namespaces: {{}}}}, ingress: [{{action: {action}, from: [{{namespaces: {{}}}}]}}]}}\n"
        )
    };
    let in_tier = |name: &str, rest: &str, action: &str| {
        global(
            name,
            &format!(
                "{{{rest}, selector: \"app == 'web'\", ingress: [{{action: {action}, source: {{selector: all()}}}}]}}"
            ),
        )
    };
    let (open, shut) = (policy("x/np", "{podSelector: {}, ingress: [{}]}"), policy("x/np", "{podSelector: {}}"));
    for (policies, expected) in [
        (in_tier("g", "tier: kube-admin, order: 1", "Deny") + &open, false),
        (in_tier("g", "tier: adminnetworkpolicy", "Allow") + &shut, true),
        (in_tier("g", "tier: kube-admin, order: 1", "Pass") + &shut, false),
        (in_tier("g", "tier: kube-admin, order: 1", "Allow") + &cluster_policy("Admin", 2, "Deny"), true),
        (in_tier("g", "tier: kube-admin, order: 3", "Allow") + &cluster_policy("Admin", 2, "Deny"), false),
        // Of one priority it does not matter where both do the same, and is left open where they do not.
        (in_tier("kube-admin.z", "tier: kube-admin, order: 2", "Deny") + &cluster_policy("Admin", 2, "Deny"), false),
        (in_tier("g", "tier: kube-baseline, order: 1", "Deny") + &open, true),
        (in_tier("g", "tier: kube-baseline, order: 1", "Deny"), false),
        (in_tier("g", "tier: baselineadminnetworkpolicy", "Deny") + &cluster_policy("Baseline", 2, "Accept"), true),
    ] {
        let cluster = sound(&(pods() + &policies));
        // What these tiers do not match is left to the others: the pod is not isolated by them.
        check(&cluster, &[("y/job", "x/web", "TCP 80", expected)]);
    }
    for name in ["kube-admin.a", "kube-admin.z"] {
        let own = in_tier(name, "tier: kube-admin, order: 2", "Allow");
        let cluster = sound(&(pods() + &own + &cluster_policy("Admin", 2, "Deny")));
        assert_eq!(common::ask(&cluster, "y/job", "x/web", "TCP 80").allowed(), None);
    }
    let cluster = sound(&(pods() + &in_tier("g", "tier: kube-admin, order: 1", "Deny")));
    check(&cluster, &[("192.0.2.1", "x/web", "TCP 80", true), ("x/web", "192.0.2.1", "TCP 80", true)]);
}

#[test]
fn ip_version_is_the_family_of_the_other_ends_address() {
    let text = pod("x/web", "app=web", "10.0.0.1,fd00::1", "") + &pod("x/db", "app=db", "10.0.0.2,fd00::2", "");
    for (rule, v4, v6) in [
        ("ipVersion: 4", true, false),
        ("ipVersion: 6", false, true),
        ("ipVersion: 6, source: {selector: \"app == 'db'\"}", false, true),
        ("source: {nets: ['fd00::/8']}", false, true),
        ("source: {notNets: ['fd00::/8']}", true, false),
        ("ipVersion: 4, source: {nets: [10.0.0.0/8]}", true, false),
    ] {
        let spec = format!("{{selector: \"app == 'web'\", ingress: [{{action: Allow, {rule}}}]}}");
        let cluster = sound(&(text.clone() + &global("g", &spec)));
        let (from, to) = (common::party("x/db"), common::party("x/web"));
        for (family, open) in [(Family::V4, v4), (Family::V6, v6)] {
            let (protocol, port, route, family) = (Protocol::Tcp, 80, Route::Direct, Some(family));
            let connection = Connection { from: &from, to: &to, protocol, port, route, family };
            assert_eq!(cluster.judge(&connection).allowed(), Some(open), "{rule} {family:?}");
        }
    }
}

#[test]
fn what_has_no_effect_on_pods_is_passed_over() {
    let deny = "ingress: [{action: Deny}]";
    let staged = |kind: &str| {
        format!(
            "---\napiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{namespace: x, name: s}}\nspec: {{{deny}}}\n"
        )
    };
    for text in [
        global("g", &format!("{{doNotTrack: true, applyOnForward: true, {deny}}}")),
        global("g", &format!("{{preDNAT: true, applyOnForward: true, {deny}}}")),
        global("g", &format!("{{{deny}}}")) + &global("g", &format!("{{preDNAT: true, {deny}}}")),
        staged("StagedGlobalNetworkPolicy"),
        staged("StagedNetworkPolicy"),
        staged("StagedKubernetesNetworkPolicy"),
    ] {
        let cluster = sound(&(pods() + &text));
        check(&cluster, &[("y/job", "x/web", "TCP 80", true)]);
    }
    let cluster = sound(&(pods() + &global("g", &format!("{{applyOnForward: true, doNotTrack: false, {deny}}}"))));
    check(&cluster, &[("y/job", "x/web", "TCP 80", false)]);
}

#[test]
fn stored_objects_are_the_same_policies() {
    let stored = "---\napiVersion: crd.projectcalico.org/v1\nkind: GlobalNetworkPolicy\nmetadata: {name: default.g}\nspec: {tier: default, types: [Ingress], performanceHints: [AssumeNeededOnEveryNode]}\n";
    let cluster = sound(&(pods() + stored));
    check(&cluster, &[("y/job", "x/web", "TCP 80", false)]);
    let id = PolicyRef { kind: "GlobalNetworkPolicy", namespace: None, name: "g".to_owned() };
    assert_eq!(cluster.selected_by(&id).len(), 4);
}

#[test]
fn a_pod_cannot_claim_another_namespace_by_a_label() {
    let liar = pod("y/liar", "projectcalico.org/namespace=x,projectcalico.org/serviceaccount=batch", "10.0.1.9", "");
    let spec = "{selector: \"app == 'web'\", ingress: [
        {action: Allow, source: {selector: \"projectcalico.org/namespace == 'x'\"}},
        {action: Allow, source: {serviceAccounts: {names: [batch]}}}]}";
    let cluster = sound(&(pods() + &liar + &global("g", spec)));
    check(&cluster, &[("y/liar", "x/web", "TCP 80", false), ("y/job", "x/web", "TCP 80", true)]);
}

#[test]
fn what_cannot_be_said_exactly_leaves_the_rule_in_doubt_and_others_as_they_are() {
    let set = "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: partners, labels: {role: partner}}\nspec: {nets: [192.0.2.0/24]}\n\
        ---\napiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: {namespace: y, name: local, labels: {role: local}}\nspec: {nets: [192.0.2.0/24]}\n\
        ---\napiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: n1, labels: {host: 'yes'}}\nspec: {node: n1, expectedIPs: [172.16.0.1]}\n";
    let source = "spec.ingress[1].source";
    for (rule, expected) in [
        ("source: {ports: [1024]}, protocol: TCP", format!("{source}.ports: a source port cannot be judged; ")),
        ("source: {selector: 'app =='}", format!("{source}.selector: a text in quotes should stand at character 7; ")),
        (
            "source: {namespaceSelector: \"team == 'y'\"}",
            format!("{source}: may also select NetworkSet y/local, whose place or addresses cannot be told; "),
        ),
        ("source: {selector: has(host)}", format!("{source}: may also select HostEndpoint n1, ")),
        (
            "source: {selector: has(role), notSelector: has(app)}",
            format!("{source}.notSelector: a notSelector beside "),
        ),
        (
            "source: {namespaceSelector: all(), notSelector: has(host)}",
            format!("{source}.notSelector: may also select "),
        ),
        (
            "source: {notSelector: \"app == 'web'\"}",
            format!("{source}.notSelector: all that a notSelector leaves, be it a pod or not, cannot be judged; "),
        ),
        (
            "source: {serviceAccounts: {selector: has(x)}}",
            format!("{source}.serviceAccounts.selector: a selector of service accounts cannot be judged; "),
        ),
        ("source: {services: {name: web}}", format!("{source}.services: a Service's endpoints cannot be judged; ")),
        ("source: {nets: [10.0.0.1-10]}", format!("{source}.nets[0]: \"10.0.0.1-10\" is no CIDR; ")),
        (
            "source: {nets: [10.0.0.0/8], notNets: ['fd00::/8']}",
            format!("{source}.notNets: holds IPv4 and IPv6 blocks in one rule"),
        ),
        ("ipVersion: 6, source: {nets: [10.0.0.0/8]}", format!("{source}.nets: is of another family than the rule's ")),
        (
            "destination: {selector: \"app == 'web'\"}",
            "spec.ingress[1].destination.selector: a rule that narrows the policy's own pods cannot be judged; "
                .to_owned(),
        ),
        (
            "destination: {ports: [80]}",
            "spec.ingress[1].destination.ports: needs the rule's protocol to be TCP, UDP or SCTP; ".to_owned(),
        ),
        (
            "protocol: TCP, destination: {notPorts: [http]}",
            "spec.ingress[1].destination.notPorts: leaving out a port by its name cannot be judged; ".to_owned(),
        ),
        ("http: {methods: [GET]}", "spec.ingress[1].http: a match on HTTP requests cannot be judged; ".to_owned()),
        (
            "protocol: GRE",
            "spec.ingress[1].protocol: must be one of TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite, ".to_owned(),
        ),
        ("icmp: {type: 8}", "spec.ingress[1].icmp: a match on ICMP without protocol ICMP or ICMPv6 ".to_owned()),
        ("srouce: {}", "spec.ingress[1].srouce: is no field of projectcalico.org/v3; ".to_owned()),
        (
            "source: {selector: \"pcns.team == 'y'\"}",
            format!("{source}.selector: a key that starts with pcns. or pcsa. cannot be judged; "),
        ),
    ] {
        let spec = format!(
            "{{selector: \"app == 'web'\", order: 1, ingress: [{{action: Deny, source: {{nets: [198.51.100.0/24]}}}}, {{action: Allow, {rule}}}]}}"
        );
        let cluster = cluster(&(pods() + set + &global("g", &spec)));
        let problems: Vec<String> = cluster.problems().iter().map(Problem::to_string).collect();
        assert_eq!(problems.len(), 1, "{rule}: {problems:?}");
        assert!(problems[0].starts_with(&format!("GlobalNetworkPolicy g: {expected}")), "{rule}: {problems:?}");
        // The rule before still decides; other pods are not concerned.
        assert_eq!(ask(&cluster, "198.51.100.1", "x/web", "TCP 80").allowed(), Some(false), "{rule}");
        assert_eq!(ask(&cluster, "192.0.2.1", "x/db", "TCP 80").allowed(), Some(true), "{rule}");
        let verdict = ask(&cluster, "192.0.2.1", "x/web", "TCP 80");
        let verdicts = [verdict, ask(&cluster, "y/web", "x/web", "TCP 80")];
        assert!(verdicts.iter().any(|verdict| verdict.allowed().is_none()), "{rule}: {verdicts:?}");
        for verdict in verdicts.iter().filter(|verdict| verdict.allowed().is_none()) {
            assert_eq!(verdict.unknown, problems, "{rule}");
        }
    }
}

#[test]
fn what_leaves_the_subject_or_the_place_unknown_breaks_the_policy() {
    for (spec, expected, elsewhere) in [
        ("{tier: security, selector: \"app == 'web'\"}", "spec.tier: tier \"security\" cannot be judged, ", true),
        ("{order: first, selector: \"app == 'web'\"}", "spec.order: must be a number, not the string \"first\"", true),
        ("{selector: 'app = web'}", "spec.selector: one of ==, !=, in, not in, contains, ", false),
        ("{selector: global()}", "spec.selector: global() here cannot be judged; ", false),
        ("{serviceAccountSelector: has(x)}", "spec.serviceAccountSelector: a selector of service accounts ", false),
        ("{namespaceSelector: has(}", "spec.namespaceSelector: a label's key, ", false),
        ("{types: [ingress], selector: \"app == 'web'\"}", "spec.types[0]: must be one of Ingress, Egress, ", true),
        ("{ingress: {}, selector: \"app == 'web'\"}", "spec.ingress: must be a list, ", true),
        ("{seletcor: \"app == 'web'\"}", "spec.seletcor: is no field of projectcalico.org/v3; ", false),
    ] {
        let open = policy("x/open", "{podSelector: {}, ingress: [{}]}");
        let cluster = cluster(&(pods() + &open + &global("g", &spec.replace("has(}", "'has('}"))));
        let problems: Vec<String> = cluster.problems().iter().map(Problem::to_string).collect();
        assert!(problems[0].starts_with(&format!("GlobalNetworkPolicy g: {expected}")), "{spec}: {problems:?}");
        // It may take away what a NetworkPolicy allows.
        assert_eq!(ask(&cluster, "192.0.2.1", "x/web", "TCP 80").allowed(), None, "{spec}");
        assert_eq!(ask(&cluster, "192.0.2.1", "y/job", "TCP 80").allowed().is_some(), elsewhere, "{spec}");
    }
}
