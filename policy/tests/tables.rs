//! The tables: what shares an identity or a group, and what stays the same from one compile to the next.

mod common;

use common::{cluster, namespace, pod, pod_on, policy, sound};
use signalbox_policy::evaluate::{Endpoint, Outcome};
use signalbox_policy::tables::{Decision, DecisionId, Entry, Identity, Rest, RuleId, Tables};
use signalbox_policy::{IdentityAllocator, Protocol};

fn identity(tables: &Tables, address: &str) -> Identity {
    tables.identity_of(address.parse().expect("an address"))
}

#[test]
fn without_policies_nothing_is_isolated_and_all_share_one_identity() {
    let tables =
        sound(&(pod("x/a", "app=a", "10.0.0.1", "") + &pod_on("n2", "y/b", "app=b", "10.0.0.2", ""))).compile("n1");
    assert_eq!(tables.groups.len(), 1);
    assert!(tables.groups[0].ingress.isolated_by.is_empty() && tables.groups[0].egress.isolated_by.is_empty());
    assert_eq!(tables.addresses.len(), 2, "pods of other nodes are peers, too");
    assert_eq!(identity(&tables, "10.0.0.1"), identity(&tables, "10.0.0.2"));
    assert_eq!(identity(&tables, "10.0.0.1"), Identity::FIRST);
    assert_eq!(tables.pods.len(), 1, "of its own pods only");
    assert_eq!((tables.rules, tables.blocks), (vec![], vec![]));
}

#[test]
fn only_what_a_rule_of_this_node_tells_apart_is_told_apart() {
    let text = namespace("x", "")
        + &pod("x/web-1", "app=web,hash=1", "10.0.0.1", "")
        + &pod("x/web-2", "app=web,hash=2", "10.0.0.2", "")
        + &pod("x/db", "app=db", "10.0.0.3", "")
        + &pod_on("n2", "y/far", "", "10.0.1.1", "")
        + &policy(
            "x/db",
            "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}",
        )
        + &policy(
            "y/far",
            "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {hash: '1'}}}]}]}",
        );
    let cluster = sound(&text);
    let here = cluster.compile("n1");
    assert_eq!(identity(&here, "10.0.0.1"), identity(&here, "10.0.0.2"), "the other node's rule does not count here");
    assert_ne!(identity(&here, "10.0.0.1"), identity(&here, "10.0.0.3"));
    assert_eq!(here.groups.len(), 2, "both web pods share a group");
    assert_eq!(here.rules.len(), 1);
    let there = cluster.compile("n2");
    assert_ne!(identity(&there, "10.0.0.1"), identity(&there, "10.0.0.2"));
}

#[test]
fn blocks_and_exceptions_are_all_named_and_the_longest_prefix_wins() {
    let spec = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}, {ipBlock: {cidr: 10.1.2.0/24}}]}]}";
    let tables = sound(&(pod("x/a", "", "10.9.9.9", "") + &policy("x/np", spec))).compile("n1");
    let nets: Vec<String> = tables.blocks.iter().map(|(net, _)| net.to_string()).collect();
    assert_eq!(nets, ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24"]);
    let allowed: Vec<Identity> = tables.groups[0].ingress.entries.iter().filter_map(|entry| entry.peer).collect();
    for (address, open) in
        [("10.2.0.1", true), ("10.1.0.1", false), ("10.1.2.3", true), ("11.0.0.1", false), ("10.9.9.9", true)]
    {
        assert_eq!(allowed.contains(&identity(&tables, address)), open, "{address}");
    }
    assert_eq!(identity(&tables, "11.0.0.1"), Identity::WORLD);
}

#[test]
fn entries_say_each_thing_once_and_name_the_first_rule() {
    let spec = "{podSelector: {}, ingress: [{ports: [{port: 80}, {port: 443, protocol: UDP}]}, {ports: [{port: 80}, {protocol: SCTP}]}, {from: [], ports: []}]}";
    let tables = sound(&(pod("x/a", "", "10.0.0.1", "") + &policy("x/np", spec))).compile("n1");
    let entry = |protocol, ports, decision| Entry { peer: None, protocol, ports, decision: DecisionId(decision) };
    assert_eq!(
        tables.groups[0].ingress.entries,
        [
            entry(Some(Protocol::Tcp), Some((80, 80)), 0),
            entry(Some(Protocol::Udp), Some((443, 443)), 1),
            entry(Some(Protocol::Sctp), None, 2),
            entry(None, None, 3),
        ]
    );
    assert_eq!(tables.groups[0].ingress.decisions, [0, 1, 2, 3].map(|rule| Decision::Allow(RuleId(rule))));
    assert_eq!(
        tables.rules.iter().map(|rule| (rule.rule, rule.port)).collect::<Vec<_>>(),
        [(0, Some(0)), (0, Some(1)), (1, Some(1)), (2, None)]
    );
}

#[test]
fn unchanged_peers_keep_their_identities() {
    let base = pod("x/a", "app=a", "10.0.0.1", "")
        + &pod("x/b", "app=b", "10.0.0.2", "")
        + &pod("x/c", "app=c", "10.0.0.3", "");
    let from = |app: &str| {
        format!("{{podSelector: {{}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: {app}}}}}}}]}}]}}")
    };
    let mut identities = IdentityAllocator::default();
    let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
    let mut compile = |text: &str| {
        let tables = sound(text).compile_with("n1", &mut identities);
        addresses.map(|address| identity(&tables, address).0)
    };
    // All alike; then one is told apart, and the most keep the number; then another one; then none again.
    assert_eq!(compile(&base), [2, 2, 2]);
    assert_eq!(compile(&(base.clone() + &policy("x/np1", &from("a")))), [3, 2, 2]);
    assert_eq!(compile(&(base.clone() + &policy("x/np1", &from("a")) + &policy("x/np0", &from("b")))), [3, 2, 4]);
    // A pod comes, and one goes: nobody else changes.
    let grown = base.clone() + &pod("x/d", "app=a", "10.0.0.4", "");
    assert_eq!(compile(&(grown.clone() + &policy("x/np1", &from("a")) + &policy("x/np0", &from("b")))), [3, 2, 4]);
    // Numbers that are given up do not come back at once with another meaning.
    assert_eq!(compile(&(base.clone() + &policy("x/np1", &from("a")))), [3, 2, 2]);
    assert_eq!(compile(&(base.clone() + &policy("x/np1", &from("a")) + &policy("x/np0", &from("c")))), [3, 2, 5]);
}

#[test]
fn compiling_twice_gives_the_same() {
    let text = pod("x/a", "app=a", "10.0.0.1,fd00::1", "http=TCP 80")
        + &pod("x/b", "app=b", "10.0.0.2", "http=TCP 81")
        + &policy(
            "x/np",
            "{podSelector: {}, egress: [{ports: [{port: http}]}, {to: [{ipBlock: {cidr: 10.0.0.0/8}}]}], ingress: [{ports: [{port: http}]}]}",
        );
    let cluster = sound(&text);
    assert_eq!(cluster.compile("n1"), cluster.compile("n1"));
    let mut identities = IdentityAllocator::default();
    let first = cluster.compile_with("n1", &mut identities);
    assert_eq!(first, cluster.compile_with("n1", &mut identities));
    assert_eq!(first, cluster.compile("n1"));
    // The order of the objects does not matter.
    let mut objects = common::objects(&text);
    objects.reverse();
    assert_eq!(signalbox_policy::Cluster::from_objects(&objects).compile("n1"), first);
}

#[test]
fn a_pod_without_an_address_has_a_group_already() {
    let text = pod("x/new", "", "", "") + &policy("x/np", "{podSelector: {}}");
    let tables = sound(&text).compile("n1");
    assert!(tables.pods[0].addresses.is_empty());
    assert_eq!(tables.groups[tables.pods[0].group.0 as usize].ingress.isolated_by.len(), 1);
}

/// A ClusterNetworkPolicy for all pods of `x`.
fn cluster_policy(tier: &str, priority: u32, rules: &str) -> String {
    format!(
        "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {}-{priority}}}\nspec: {{tier: {tier}, priority: {priority}, subject: {{namespaces: {{matchLabels: {{kubernetes.io/metadata.name: x}}}}}}, {rules}}}\n",
        tier.to_lowercase()
    )
}

fn into(tables: &Tables, from: &str, port: u16) -> Outcome {
    let end = |text: &str| Endpoint::Address(text.parse().expect("an address"));
    tables.judge(end(from), end("10.0.0.1"), Protocol::Tcp, port).ingress.expect("the pod is local")
}

#[test]
fn what_a_rule_passes_on_stands_in_its_place() {
    let pods = namespace("x", "") + &pod("x/a", "", "10.0.0.1", "") + &pod("y/b", "app=b", "10.0.0.2", "");
    let admin = cluster_policy(
        "Admin",
        1,
        "ingress: [{action: Pass, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {range: {start: 80, end: 90}}}}]}, {action: Deny, from: [{namespaces: {}}]}]",
    );
    let baseline = cluster_policy("Baseline", 1, "ingress: [{action: Deny, from: [{namespaces: {}}]}]");
    let allow = policy(
        "x/np",
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}], ports: [{port: 85, endPort: 99}]}]}",
    );

    let tables = sound(&(pods.clone() + &admin)).compile("n1");
    assert_eq!(into(&tables, "10.0.0.2", 80), Outcome::NotIsolated, "passed on, and nobody behind has a word");
    assert!(matches!(into(&tables, "10.0.0.2", 79), Outcome::DeniedBy(_)));
    assert_eq!(into(&tables, "192.0.2.1", 79), Outcome::NotIsolated, "judged and open");
    assert_eq!(tables.groups[0].ingress.decisions[0], Decision::Rest(Rest::Open));

    let tables = sound(&(pods.clone() + &admin + &baseline)).compile("n1");
    let named = |outcome| match outcome {
        Outcome::DeniedBy(rule) | Outcome::AllowedBy(rule) => tables.rules[rule.0 as usize].policy.name.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(named(into(&tables, "10.0.0.2", 80)), "baseline-1");
    assert_eq!(named(into(&tables, "10.0.0.2", 79)), "admin-1");

    let tables = sound(&(pods + &admin + &baseline + &allow)).compile("n1");
    assert_eq!(
        into(&tables, "10.0.0.2", 80),
        Outcome::Denied,
        "the NetworkPolicy isolates: the Baseline tier is not asked"
    );
    assert!(matches!(into(&tables, "10.0.0.2", 85), Outcome::AllowedBy(_)));
    assert!(matches!(into(&tables, "10.0.0.2", 91), Outcome::DeniedBy(_)), "allowed, but not passed on");
    let passed: Vec<_> = tables.groups[0].ingress.entries.iter().map(|entry| entry.ports).take(2).collect();
    assert_eq!(
        passed,
        [Some((85, 90)), Some((80, 90))],
        "cut down to what both match, and the rest of what is passed on"
    );
}

#[test]
fn a_pod_of_two_families_is_two_peers_where_a_block_tells_them_apart() {
    let spec = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}";
    let tables = sound(&(pod("x/a", "", "10.0.0.1,fd00::1", "") + &policy("x/np", spec))).compile("n1");
    assert_eq!(tables.pods[0].identities, [identity(&tables, "10.0.0.1"), identity(&tables, "fd00::1")]);
    assert_ne!(tables.pods[0].identities[0], tables.pods[0].identities[1]);
}

#[test]
fn nodes_are_told_apart_where_a_rule_names_nodes() {
    let node = |name: &str, address: &str, label: &str| {
        format!(
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{role: {label}}}}}\nstatus: {{addresses: [{{type: InternalIP, address: {address}}}]}}\n"
        )
    };
    let objects = namespace("x", "")
        + &pod("x/a", "", "10.0.0.1", "")
        + &node("n1", "198.51.100.1", "worker")
        + &node("n2", "198.51.100.2", "control")
        + &node("n3", "198.51.100.3", "worker");
    let tables = sound(&objects).compile("n1");
    assert_eq!(tables.addresses.len(), 1, "nobody asks");
    let out = cluster_policy("Admin", 1, "egress: [{action: Deny, to: [{nodes: {matchLabels: {role: control}}}]}]");
    let tables = sound(&(objects + &out)).compile("n1");
    let end = |text: &str| Endpoint::Address(text.parse().expect("an address"));
    let outcomes = ["198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4"]
        .map(|to| tables.judge(end("10.0.0.1"), end(to), Protocol::Tcp, 6443).egress.expect("local").is_allowed());
    assert_eq!(outcomes, [true, false, true, true]);
    assert_eq!(identity(&tables, "198.51.100.1"), identity(&tables, "198.51.100.3"));
}

#[test]
fn what_is_not_understood_denies_no_more_than_it_may() {
    let pods = namespace("x", "") + &pod("x/a", "", "10.0.0.1", "") + &pod("y/b", "app=b", "10.0.0.2", "");
    // One rule: what it speaks of, behind those that come before it.
    let rules = "ingress: [{action: Accept, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 80}}}]}, {action: Accept, from: [{namespaces: {}}], schedule: never}]";
    let tables = cluster(&(pods.clone() + &cluster_policy("Admin", 1, rules))).compile("n1");
    assert!(matches!(into(&tables, "10.0.0.2", 80), Outcome::AllowedBy(_)));
    assert!(matches!(into(&tables, "10.0.0.2", 81), Outcome::NotUnderstood(Some(_))));
    assert_eq!(into(&tables, "192.0.2.1", 81), Outcome::NotIsolated);
    // A whole policy: the pods that it bears on, in the directions that it speaks of.
    let broken = cluster_policy("Middle", 1, "ingress: [{action: Accept, from: [{namespaces: {}}]}]");
    let tables = cluster(&(pods.clone() + &broken)).compile("n1");
    assert_eq!(into(&tables, "192.0.2.1", 81), Outcome::NotUnderstood(None));
    let [a, b] = [0, 1].map(|at| &tables.groups[tables.pods[at].group.0 as usize]);
    assert_eq!((a.ingress.rest, a.egress.rest), (Rest::NotUnderstood, Rest::Open));
    assert!(!b.ingress.is_judged() && !b.egress.is_judged(), "y is none of its business");
    // An address of two pods: nothing is opened for it, and who judges nothing goes on doing so.
    let twin = pod("y/twin", "app=b", "10.0.0.2", "");
    let allow = policy("x/np", "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}");
    let tables = cluster(&(pods + &twin + &allow)).compile("n1");
    assert_eq!(into(&tables, "10.0.0.2", 81), Outcome::NotUnderstood(None));
    assert!(matches!(into(&tables, "10.0.0.3", 81), Outcome::AllowedBy(_)));
}

/// A pod in its node's network is in no set, whatever its labels: whoever has the same labels is not taken for it. What may be denied is,
/// whichever of the two is read first.
#[test]
fn a_pod_in_the_network_of_its_node_says_nothing_of_others() {
    let tables = |host: &str| {
        cluster(
            &("---\napiVersion: v1\nkind: Namespace\nmetadata: {name: x, labels: {team: [a]}}\n".to_owned()
                + &namespace("y", "team=y")
                + &format!(
                    "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: x, name: {host}}}\nspec: {{nodeName: n2, hostNetwork: true}}\nstatus: {{podIP: 198.51.100.2}}\n"
                )
                + &pod_on("n2", "x/m", "", "10.0.1.1", "")
                + &pod_on("n1", "y/api", "app=api", "10.0.0.1", "")
                + "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: deny}\nspec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {matchLabels: {team: b}}}]}]}\n"),
        )
        .compile("n1")
    };
    let (first, last) = (tables("a"), tables("z"));
    let doubted = |tables: &Tables| {
        tables.groups[0].ingress.decisions.iter().any(|decision| matches!(decision, Decision::NotUnderstood(_)))
    };
    assert!(doubted(&first) && doubted(&last), "x/m may be one that is denied: {first:#?}");
    assert_eq!(first, last);
}
