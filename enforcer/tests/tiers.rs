//! Policies of all tiers in a real kernel, between real namespaces: SEMANTICS.md, points 23 and 24.

mod support;

use serde_json::{Value, json};
use signalbox_api::flow::Direction;
use signalbox_enforcer::AttachPreference;
use support::{Echo, Gate, Lab, NODE, OUTSIDE, POD_A, POD_B, Space, can_run, echo, echo_soon, policy};

fn set_up() -> (Lab, Vec<Echo>, Gate) {
    let lab = Lab::new();
    let servers = [&lab.a, &lab.b, &lab.outside, &lab.node].map(|space: &Space| Echo::new(space, 9000));
    let gate = Gate::new(&lab, AttachPreference::Auto);
    (lab, servers.into(), gate)
}

/// A ClusterNetworkPolicy for all pods of `two`; rules are `(action, from, port)`.
fn into_two(tier: &str, priority: u32, rules: &[(&str, &str, Option<u16>)]) -> Value {
    let rules: Vec<Value> = rules
        .iter()
        .map(|(action, from, port)| {
            let mut rule = json!({"action": action, "from": [{"namespaces": of(from)}]});
            if let Some(port) = port {
                rule["protocols"] = json!([{"tcp": {"destinationPort": {"number": port}}}]);
            }
            rule
        })
        .collect();
    cluster_policy(
        &format!("{}-{priority}", tier.to_lowercase()),
        tier,
        priority,
        json!({"namespaces": of("two")}),
        "ingress",
        json!(rules),
    )
}

fn cluster_policy(name: &str, tier: &str, priority: u32, subject: Value, direction: &str, rules: Value) -> Value {
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name},
        "spec": {"tier": tier, "priority": priority, "subject": subject, direction: rules},
    })
}

/// Pods of a namespace, or of all where the name is `*`.
fn of(namespace: &str) -> Value {
    if namespace == "*" { json!({}) } else { json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}}) }
}

fn allow_all_into_two() -> Value {
    policy("two/open", &["Ingress"], json!({"ingress": [{}]}))
}

#[test]
fn admin_denies_what_a_network_policy_allows_and_the_event_names_the_rule() {
    if !can_run() {
        return;
    }
    let (lab, _servers, mut gate) = set_up();
    gate.policies(&[allow_all_into_two()]);
    let mut old = lab.a.connect(POD_B, 9000, std::time::Duration::from_secs(1)).expect("a NetworkPolicy allows it");
    assert!(echo(&mut old));
    gate.policies(&[allow_all_into_two(), into_two("Admin", 5, &[("Deny", "*", Some(1)), ("Deny", "one", None)])]);
    assert!(!echo_soon(&mut old), "what was open is cut");
    assert!(!lab.a.reaches(POD_B, 9000));
    let event = gate.denial(9000);
    assert_eq!(event.rule.as_ref().expect("a rule denies").to_string(), "admin-5 ingress[1].from[0]");
    assert_eq!(event.rule.expect("as above").policy.kind, "ClusterNetworkPolicy");
    assert_eq!((event.direction, event.reason, event.isolated_by), (Some(Direction::Ingress), None, vec![]));
    assert!(!lab.a.reaches("fd00:244::3", 9000), "IPv6 alike");
    assert!(!lab.a.reaches_udp(POD_B, 9000) && !lab.a.pings(POD_B), "all protocols");
    assert!(lab.outside.reaches(POD_B, 9000), "the rule speaks of pods only");
    assert!(lab.node.reaches(POD_B, 9000), "its node always reaches a pod");
    assert!(lab.b.reaches(POD_A, 9000), "replies need no rule");
    let counts = gate.counts();
    let denied = counts.iter().find(|it| it.source == "one/a" && it.destination == "two/b" && it.port == 9000);
    assert!(denied.is_some_and(|count| count.denied > 0), "{counts:#?}");
}

#[test]
fn a_rule_that_denies_shuts_nothing_else() {
    if !can_run() {
        return;
    }
    let (lab, _servers, mut gate) = set_up();
    let _other = Echo::new(&lab.b, 9001);
    // No NetworkPolicy selects b: what no rule denies is open.
    gate.policies(&[into_two("Admin", 5, &[("Deny", "one", Some(9000))])]);
    assert!(!lab.a.reaches(POD_B, 9000));
    assert!(lab.a.reaches(POD_B, 9001) && lab.a.reaches_udp(POD_B, 9000) && lab.outside.reaches(POD_B, 9000));
    let event = gate.event(|event| event.destination.port() == 9001);
    assert_eq!(event.rule, None, "no rule was needed");
    // What cannot be judged is denied where any policy has a word: a later fragment is not the way round a rule.
    let large = |space: &Space| {
        let socket = space.enter(|| std::net::UdpSocket::bind("0.0.0.0:0")).expect("a socket");
        socket.set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("a time-out");
        socket.send_to(&[0; 2000], (POD_B, 9000)).expect("a route") == 2000 && socket.recv_from(&mut [0; 16]).is_ok()
    };
    assert!(large(&lab.a), "fragments of what is allowed pass");
}

#[test]
fn the_lower_priority_number_comes_first_and_the_first_rule_wins() {
    if !can_run() {
        return;
    }
    let (lab, _servers, mut gate) = set_up();
    let deny_later = into_two("Admin", 7, &[("Deny", "*", None)]);
    gate.policies(&[deny_later.clone(), into_two("Admin", 3, &[("Accept", "one", Some(9000)), ("Deny", "one", None)])]);
    assert!(lab.a.reaches(POD_B, 9000));
    let rule = gate.allowance(9000).rule.expect("a rule allows");
    assert_eq!(rule.to_string(), "admin-3 ingress[0].from[0]");
    assert!(!lab.a.reaches_udp(POD_B, 9000));
    gate.policies(&[deny_later, into_two("Admin", 9, &[("Accept", "one", Some(9000))])]);
    assert!(!lab.a.reaches(POD_B, 9000));
}

#[test]
fn an_admin_accept_opens_what_a_network_policy_shuts() {
    if !can_run() {
        return;
    }
    let (lab, _servers, mut gate) = set_up();
    gate.policies(&[
        policy("two/shut", &["Ingress"], json!({})),
        into_two("Admin", 5, &[("Accept", "one", Some(9000))]),
    ]);
    assert!(lab.a.reaches(POD_B, 9000));
    assert!(!lab.outside.reaches(POD_B, 9000));
    let event = gate.denial(9000);
    assert_eq!(event.isolated_by[0].to_string(), "two/shut");
    assert_eq!(event.rule, None);
}

#[test]
fn pass_leaves_it_to_the_network_policies_and_these_to_the_baseline() {
    if !can_run() {
        return;
    }
    let (lab, _servers, mut gate) = set_up();
    let _other = Echo::new(&lab.b, 9001);
    let admin = into_two("Admin", 5, &[("Pass", "one", Some(9000)), ("Deny", "one", None)]);
    let baseline = into_two("Baseline", 0, &[("Deny", "one", None)]);
    // Passed to the NetworkPolicies: none selects b, and so to the Baseline tier: none there, and so open.
    gate.policies(std::slice::from_ref(&admin));
    assert!(lab.a.reaches(POD_B, 9000), "nothing behind denies");
    assert!(!lab.a.reaches(POD_B, 9001), "the rule behind denies what is not passed");
    gate.policies(&[admin.clone(), baseline.clone()]);
    assert!(!lab.a.reaches(POD_B, 9000));
    let rule = gate.denial(9000).rule.expect("a rule denies");
    assert_eq!(rule.to_string(), "baseline-0 ingress[0].from[0]");
    // A NetworkPolicy that allows ends it before the Baseline tier; one that does not shuts it there.
    gate.policies(&[admin.clone(), baseline.clone(), allow_all_into_two()]);
    assert!(lab.a.reaches(POD_B, 9000));
    assert_eq!(gate.allowance(9000).rule.expect("a rule allows").to_string(), "two/open ingress[0]");
    assert!(!lab.a.reaches(POD_B, 9001), "what Admin denies stays denied");
    gate.policies(&[admin, baseline, policy("two/shut", &["Ingress"], json!({}))]);
    assert!(!lab.a.reaches(POD_B, 9000));
    let event = gate.denial(9000);
    assert_eq!((event.isolated_by[0].to_string(), event.rule), ("two/shut".to_owned(), None));
}

#[test]
fn the_baseline_tier_denies_where_no_network_policy_isolates() {
    if !can_run() {
        return;
    }
    let (lab, _servers, mut gate) = set_up();
    let subject = json!({"namespaces": of("one")});
    let networks = json!([{"action": "Deny", "to": [{"networks": ["198.51.100.96/27"]}]}]);
    let baseline = cluster_policy("base", "Baseline", 0, subject, "egress", networks);
    gate.policies(std::slice::from_ref(&baseline));
    assert!(!lab.a.reaches(OUTSIDE, 9000));
    let event = gate.denial(9000);
    assert_eq!(event.direction, Some(Direction::Egress));
    assert_eq!(event.rule.expect("a rule denies").to_string(), "base egress[0].to[0]");
    assert!(lab.a.reaches(NODE, 9000) && lab.a.reaches(POD_B, 9000));
    // Isolated for ingress only: the Baseline tier still counts in the other direction.
    gate.policies(&[baseline.clone(), policy("one/shut", &["Ingress"], json!({}))]);
    assert!(!lab.a.reaches(OUTSIDE, 9000));
    gate.policies(&[baseline, policy("one/out", &["Egress"], json!({"egress": [{}]}))]);
    assert!(lab.a.reaches(OUTSIDE, 9000), "a NetworkPolicy that allows comes before the Baseline tier");
}

#[test]
fn a_rule_that_is_not_understood_denies_what_it_speaks_of_and_says_so() {
    if !can_run() {
        return;
    }
    let (lab, _servers, mut gate) = set_up();
    let mut policy = into_two("Admin", 5, &[("Accept", "one", Some(9000))]);
    policy["spec"]["ingress"][0]["schedule"] = json!("weekends");
    gate.policies_with_unknowns(&[policy]);
    assert!(!lab.a.reaches(POD_B, 9000));
    let event = gate.denial(9000);
    assert_eq!(event.reason.as_deref(), Some("not-understood"));
    assert_eq!(event.rule.expect("it is a rule").to_string(), "admin-5 ingress[0].from[0]");
    assert!(lab.outside.reaches(POD_B, 9000) && lab.a.reaches_udp(POD_B, 9000), "what it does not speak of is open");
}
