//! Who is isolated, and how policies add up: points 2, 3, 20 and 24.

use crate::common::{ask, check, cluster, objects, pod, policy};
use crate::two_pods;
use signalbox_policy::Side;

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

#[test]
fn semantics_20_each_protocol_is_allowed_by_itself() {
    for own in ["TCP", "UDP", "SCTP"] {
        let spec = format!("{{podSelector: {{}}, ingress: [{{ports: [{{protocol: {own}}}]}}]}}");
        let cluster = two_pods(&[policy("x/np", &spec)]);
        for other in ["TCP", "UDP", "SCTP"] {
            check(&cluster, &[("y/api", "x/web", &format!("{other} 80"), own == other)]);
        }
    }
}
