//! The nearest miss and the summary: sentences for people.

mod common;

use common::{ask, namespace, pod, policy, sound};
use signalbox_policy::{PolicyRef, Side};

/// The nearest miss of `from -> to`, on the side that denies: `policy rule peer port: sentence`.
fn nearest(text: &str, from: &str, to: &str, at: &str) -> Option<String> {
    let verdict = ask(&sound(text), from, to, at);
    let denied = [verdict.egress, verdict.ingress].into_iter().flatten().find(|side| !side.is_allowed());
    let Some(Side::Denied { nearest, .. }) = denied else { panic!("one side denies") };
    nearest.map(|miss| {
        let index = |index: Option<u32>| index.map_or("-".to_owned(), |index| index.to_string());
        let rule = miss.rule;
        format!("{} {} {} {}: {}", rule.policy.name, rule.rule, index(rule.peer), index(rule.port), miss.difference)
    })
}

fn pods() -> String {
    namespace("x", "tier=front")
        + &namespace("y", "tier=back")
        + &pod("x/web", "app=web,mark=", "10.0.0.1", "http=TCP 8080")
        + &pod("y/api", "app=api", "10.0.0.2", "http=TCP 9090")
}

#[test]
fn sentences_say_what_differs() {
    let cases = [
        // (ingress rules of y/np, question, sentence)
        ("[{ports: [{port: 8080}]}]", "TCP 9000", "np 0 - 0: allows TCP 8080, not TCP 9000"),
        (
            "[{ports: [{port: 80}, {port: 443}, {protocol: UDP}]}]",
            "TCP 9000",
            "np 0 - 0: allows TCP 80, TCP 443 and UDP, not TCP 9000",
        ),
        ("[{ports: [{port: 80, endPort: 90}]}]", "TCP 91", "np 0 - 0: allows TCP 80-90, not TCP 91"),
        ("[{ports: [{port: 53, protocol: UDP}]}]", "TCP 53", "np 0 - 0: allows UDP 53, not TCP 53"),
        ("[{ports: [{port: http}]}]", "TCP 80", "np 0 - 0: allows TCP \"http\" (which is 9090 on api), not TCP 80"),
        ("[{ports: [{port: dns}]}]", "TCP 80", "np 0 - 0: allows TCP \"dns\" (which api does not have), not TCP 80"),
        ("[{from: [{podSelector: {}}]}]", "TCP 80", "np 0 0 -: its peer must be in namespace y, web is in x"),
        (
            "[{from: [{namespaceSelector: {matchLabels: {tier: back}}}]}]",
            "TCP 80",
            "np 0 0 -: its peer's namespace needs tier=back, namespace x has tier=front",
        ),
        (
            "[{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: db}}}]}]",
            "TCP 80",
            "np 0 0 -: its peer needs app=db, web has app=web",
        ),
        (
            "[{from: [{namespaceSelector: {}, podSelector: {matchLabels: {team: red}}}]}]",
            "TCP 80",
            "np 0 0 -: its peer needs team=red, web has no label team",
        ),
        (
            "[{from: [{namespaceSelector: {}, podSelector: {matchLabels: {mark: red}}}]}]",
            "TCP 80",
            "np 0 0 -: its peer needs mark=red, web has it with an empty value: mark=\"\"",
        ),
        (
            "[{from: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web, db]}]}}]}]",
            "TCP 80",
            "np 0 0 -: its peer needs app not in (db, web), web has app=web",
        ),
        (
            "[{from: [{ipBlock: {cidr: 192.0.2.0/24}}]}]",
            "TCP 80",
            "np 0 0 -: its ipBlock 192.0.2.0/24 does not contain 10.0.0.1 (x/web)",
        ),
        (
            "[{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/24]}}]}]",
            "TCP 80",
            "np 0 0 -: its ipBlock 10.0.0.0/8 leaves out 10.0.0.0/24, and with it 10.0.0.1 (x/web)",
        ),
        (
            "[{from: [{podSelector: {}}], ports: [{port: 1}]}]",
            "TCP 80",
            "np 0 0 0: its peer must be in namespace y, web is in x; allows TCP 1, not TCP 80",
        ),
        // The one with the fewest differences, and among equals the first.
        (
            "[{from: [{podSelector: {}}], ports: [{port: 1}]}, {ports: [{port: 2}]}, {ports: [{port: 3}]}]",
            "TCP 80",
            "np 1 - 0: allows TCP 2, not TCP 80",
        ),
        // Another protocol and another port are two differences.
        ("[{ports: [{port: 1, protocol: UDP}]}, {ports: [{port: 1}]}]", "TCP 80", "np 1 - 0: allows TCP 1, not TCP 80"),
        (
            "[{from: [{namespaceSelector: {matchLabels: {a: b, c: d}}}, {namespaceSelector: {matchLabels: {a: b}}}]}]",
            "TCP 80",
            "np 0 1 -: its peer's namespace needs a=b, namespace x has no label a",
        ),
    ];
    for (rules, at, expected) in cases {
        let text = pods() + &policy("y/np", &format!("{{podSelector: {{}}, ingress: {rules}}}"));
        assert_eq!(nearest(&text, "x/web", "y/api", at).as_deref(), Some(expected), "{rules}");
    }
}

#[test]
fn outside_addresses_are_no_pods() {
    let spec = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}, {from: [{ipBlock: {cidr: 198.51.100.0/24}}], ports: [{port: 9000}]}]}";
    let text = pods() + &policy("y/np", spec);
    let expected = "np 1 0 -: its ipBlock 198.51.100.0/24 does not contain 203.0.113.10";
    let found = nearest(&text, "203.0.113.10", "y/api", "TCP 9000");
    assert_eq!(found.as_deref(), Some(expected.replace("0 -", "0 0").as_str()));
    let only_pods = pods() + &policy("y/np", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}");
    let expected = "np 0 0 -: its peer is all pods of all namespaces, 203.0.113.10 is no such pod";
    assert_eq!(nearest(&only_pods, "203.0.113.10", "y/api", "TCP 80").as_deref(), Some(expected));
}

#[test]
fn without_a_rule_there_is_no_nearest_miss() {
    let text = pods() + &policy("y/np", "{podSelector: {}}");
    assert_eq!(nearest(&text, "x/web", "y/api", "TCP 80"), None);
}

#[test]
fn summaries_say_whom_and_what() {
    let cases = [
        ("{podSelector: {}}", "selects all pods of y (1 now). in: nothing. out: not judged"),
        (
            "{podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress, Egress], ingress: [{from: [{ipBlock: {cidr: 198.51.100.0/24}}], ports: [{port: 9000}]}], egress: [{ports: [{port: 53, protocol: UDP}]}, {to: [{namespaceSelector: {matchLabels: {tier: back}}}]}]}",
            "selects pods with app=api of y (1 now). in: from 198.51.100.0/24 on TCP 9000. out: to anyone on UDP 53; or to all pods of namespaces with tier=back",
        ),
    ];
    for (spec, expected) in cases {
        let cluster = sound(&(pods() + &policy("y/np", spec)));
        assert_eq!(cluster.summary(&PolicyRef::network_policy("y", "np")).as_deref(), Some(expected));
        assert_eq!(cluster.summary(&PolicyRef::network_policy("y", "other")), None);
    }
    let broken = common::cluster(&policy("y/np", "{podSelector: 1}"));
    let expected = "not understood: NetworkPolicy y/np: spec.podSelector: must be an object, not the number 1";
    assert_eq!(broken.summary(&PolicyRef::network_policy("y", "np")).as_deref(), Some(expected));
}
