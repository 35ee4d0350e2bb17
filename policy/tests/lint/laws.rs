//! Laws: what lint says holds, whatever the cluster. `PROPTEST_CASES` sets how many clusters are tried.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use signalbox_policy::lint::{Finding, RuleId, lint};
use signalbox_policy::traffic::Traffic;
use signalbox_policy::{Cluster, Party, Route};

use crate::generate::{EXTERNAL, description};

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// What is open, and what is unknown. Why it is unknown may change with what says so twice.
type Open = (Traffic, Traffic);

fn open(cluster: &Cluster, from: &Party, to: &Party, route: Route) -> Open {
    let reach = cluster.reach(from, to, route, None);
    (reach.open, reach.unknown)
}

/// What some objects mean: for all pairs of pods, addresses outside and the node, all that is open.
fn meaning(objects: &[Value]) -> Vec<Open> {
    let cluster = Cluster::from_objects(objects);
    let mut parties: Vec<Party> = cluster.pods().cloned().map(Party::Pod).collect();
    parties.extend(EXTERNAL.map(|address| Party::Address(address.parse().unwrap())));
    parties.push(Party::LocalNode);
    let pairs = parties.iter().flat_map(|a| parties.iter().map(move |b| (a, b)));
    pairs.map(|(a, b)| open(&cluster, a, b, Route::Service)).collect()
}

/// The place of a finding's object in the list.
fn place(objects: &[Value], finding: &Finding) -> usize {
    let named = |value: &Value| {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        match text("/metadata/namespace") {
            "" => format!("{} {}", text("/kind"), text("/metadata/name")),
            namespace => format!("{} {namespace}/{}", text("/kind"), text("/metadata/name")),
        }
    };
    objects.iter().rposition(|value| named(value) == finding.object).expect("a finding names an object")
}

/// `spec.ingress[0].from[1]` as the list that holds the item, and the item's index.
fn item(path: &str) -> (String, usize) {
    let (list, index) = path.strip_suffix(']').unwrap().rsplit_once('[').unwrap();
    let pointer = format!("/{}", list.replace(['.', '['], "/").replace(']', ""));
    (pointer, index.parse().unwrap())
}

fn without_item(objects: &[Value], finding: &Finding) -> Vec<Value> {
    let mut objects = objects.to_vec();
    let at = place(&objects, finding);
    // Without rules a policy would no longer isolate egress: what it isolates is written out first.
    let spec = &objects[at]["spec"];
    let is_own = objects[at]["apiVersion"] == "networking.k8s.io/v1";
    if is_own && spec.get("policyTypes").is_none_or(|types| types.as_array().is_none_or(Vec::is_empty)) {
        let has_egress = spec["egress"].as_array().is_some_and(|rules| !rules.is_empty());
        objects[at]["spec"]["policyTypes"] = if has_egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    }
    let (list, index) = item(&finding.path);
    let list = objects[at].pointer_mut(&list).and_then(Value::as_array_mut).expect("a finding names an item");
    list.remove(index);
    objects
}

fn without_list(objects: &[Value], finding: &Finding) -> Vec<Value> {
    let mut objects = objects.to_vec();
    let at = place(&objects, finding);
    let list = finding.path.strip_prefix("spec.").unwrap();
    objects[at]["spec"].as_object_mut().unwrap().remove(list).expect("a finding names a list");
    objects
}

fn without_object(objects: &[Value], finding: &Finding) -> Vec<Value> {
    let mut objects = objects.to_vec();
    objects.remove(place(&objects, finding));
    objects
}

/// A few pods, NetworkPolicies, and policies of the tiers around them.
fn tiers() -> impl Strategy<Value = Vec<Value>> {
    let selector =
        || prop_oneof![Just(json!({})), "(red|blue)".prop_map(|team| json!({"matchLabels": {"team": team}}))];
    let ports = || {
        prop_oneof![
            Just(json!([])),
            Just(json!([{"tcp": {"destinationPort": {"number": 80}}}])),
            Just(
                json!([{"tcp": {"destinationPort": {"range": {"start": 79, "end": 90}}}}, {"udp": {"destinationPort": {"number": 53}}}])
            ),
        ]
    };
    let rule = move |list: &'static str| {
        (select(vec!["Accept", "Deny", "Pass"]), selector(), ports()).prop_map(move |(action, selector, ports)| {
            let mut rule = json!({"action": action, list: [{"namespaces": selector}]});
            if ports != json!([]) {
                rule["protocols"] = ports;
            }
            rule
        })
    };
    let around =
        (select(vec!["Admin", "Baseline"]), 0..4_u32, selector(), vec(rule("from"), 0..3), vec(rule("to"), 0..3));
    let around = around.prop_map(|(tier, priority, subject, mut ingress, mut egress)| {
        if tier == "Baseline" {
            for list in [&mut ingress, &mut egress] {
                list.retain(|rule| rule["action"] != "Pass");
            }
        }
        json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {},
            "spec": {"tier": tier, "priority": priority, "subject": {"namespaces": subject}, "ingress": ingress, "egress": egress}})
    });
    let calico =
        (0..3_u32, vec((select(vec!["Allow", "Deny", "Pass"]), prop::bool::ANY), 0..3)).prop_map(|(order, rules)| {
            let rule = |(action, is_udp): (&str, bool)| {
                if is_udp { json!({"action": action, "protocol": "UDP"}) } else { json!({"action": action}) }
            };
            let rules: Vec<Value> = rules.into_iter().map(rule).collect();
            json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {},
            "spec": {"order": order * 1000, "types": ["Ingress"], "ingress": rules}})
        });
    let own = (select(vec!["x", "y"]), selector(), prop::bool::ANY).prop_map(|(namespace, from, has_port)| {
        let ports = if has_port { json!([{"port": 80}]) } else { json!([]) };
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"namespace": namespace},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"namespaceSelector": from}], "ports": ports}]}})
    });
    (vec(around, 0..4), vec(own, 0..3), vec(calico, 0..2)).prop_map(|(around, own, calico)| {
        let mut policies: Vec<Value> = around.into_iter().chain(own).chain(calico).collect();
        for (at, policy) in policies.iter_mut().enumerate() {
            policy["metadata"]["name"] = format!("p{at}").into();
        }
        let pods = [("x", "red", "10.0.0.1"), ("y", "blue", "10.0.0.2"), ("y", "blue", "10.0.0.3")];
        let world = pods.iter().enumerate().flat_map(|(at, (namespace, team, address))| {
            [
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {"team": team}}}),
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": format!("pod{at}")},
                    "spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Running", "podIPs": [{"ip": address}]}}),
            ]
        });
        world.chain(policies).collect()
    })
}

/// The same between pods by their own addresses.
fn between_pods(objects: &[Value]) -> Vec<Open> {
    let cluster = Cluster::from_objects(objects);
    let pods: Vec<Party> = cluster.pods().cloned().map(Party::Pod).collect();
    let pairs = pods.iter().flat_map(|a| pods.iter().map(move |b| (a, b)));
    pairs.map(|(a, b)| open(&cluster, a, b, Route::Direct)).collect()
}

proptest! {
    #![proptest_config(config())]

    /// What adds nothing, matches nothing or does nothing can be deleted.
    #[test]
    fn what_is_said_to_do_nothing_can_be_deleted(description in description(false)) {
        let objects = description.objects();
        let cluster = Cluster::from_objects(&objects);
        let before = meaning(&objects);
        for finding in lint(&objects, &cluster) {
            let after = match finding.rule {
                RuleId::ShadowedRule | RuleId::RedundantItem => without_item(&objects, &finding),
                RuleId::SelectsNothing | RuleId::DuplicatePolicy => without_object(&objects, &finding),
                _ => continue,
            };
            prop_assert_eq!(&before, &meaning(&after), "{}\n{:#?}", finding, objects);
        }
    }

    /// A rule that only the other side could make work does nothing: without it the same connections are open.
    #[test]
    fn what_the_other_side_shuts_can_be_deleted(description in description(false)) {
        let objects = description.objects();
        let cluster = Cluster::from_objects(&objects);
        let before = between_pods(&objects);
        for finding in lint(&objects, &cluster) {
            let is_one_sided = matches!(finding.rule, RuleId::EgressWithoutIngress | RuleId::IngressWithoutEgress);
            if is_one_sided && finding.severity == finding.rule.severity() {
                let after = between_pods(&without_item(&objects, &finding));
                prop_assert_eq!(&before, &after, "{}\n{:#?}", finding, objects);
            }
        }
    }

    /// In tiers with an order: what is never reached, overruled or without effect can be deleted, too.
    #[test]
    fn what_is_never_reached_can_be_deleted(objects in tiers()) {
        let cluster = Cluster::from_objects(&objects);
        prop_assert_eq!(cluster.unknowns(), &[] as &[String]);
        let before = meaning(&objects);
        for finding in lint(&objects, &cluster) {
            let after = match finding.rule {
                RuleId::ShadowedRule | RuleId::UnreachableRule | RuleId::Overruled => without_item(&objects, &finding),
                RuleId::NoEffect if finding.path.ends_with(']') => without_item(&objects, &finding),
                RuleId::NoEffect => without_list(&objects, &finding),
                RuleId::DuplicatePolicy | RuleId::SelectsNothing => without_object(&objects, &finding),
                _ => continue,
            };
            prop_assert_eq!(&before, &meaning(&after), "{}\n{:#?}", finding, objects);
        }
    }

    /// Whatever is among the objects: no panic, each finding once and in order, and each names an object that is there.
    #[test]
    fn findings_are_in_order_and_name_objects(description in description(true)) {
        let objects = description.objects();
        let findings = lint(&objects, &Cluster::from_objects(&objects));
        prop_assert!(findings.is_sorted());
        for finding in &findings {
            prop_assert!(!finding.message.is_empty() && !finding.remedy.is_empty(), "{:?}", finding);
            prop_assert!(!finding.message.contains("0 pods"), "{}", finding);
            let name = finding.object.split_once([' ']).map_or("", |(_, name)| name);
            let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
            let metadata = |field: &str| objects.iter().any(|value| value["metadata"][field] == name);
            let is_there = metadata("name") || finding.object.starts_with("Namespace ") && metadata("namespace");
            prop_assert!(is_there, "{}", finding);
        }
    }

    /// Values of any shape in a policy's spec: findings, and no panic.
    #[test]
    fn odd_specs_do_no_harm(spec in "[a-z0-9{}:, \\[\\]]{0,40}") {
        let text = format!("{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: a}}, spec: {spec}}}");
        let objects: Vec<Value> =
            signalbox_policy::parse_documents(&text, "test").into_iter().filter_map(Result::ok).collect();
        lint(&objects, &Cluster::from_objects(&objects));
    }
}

/// The laws are about something: each kind of finding that they hold to account is made.
#[test]
fn the_laws_meet_findings_of_each_kind() {
    let mut runner = TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..400 {
        let around = tiers().new_tree(&mut runner).unwrap().current();
        let own = description(false).new_tree(&mut runner).unwrap().current().objects();
        for objects in [around, own] {
            let findings = lint(&objects, &Cluster::from_objects(&objects));
            seen.extend(findings.iter().filter(|it| it.severity == it.rule.severity()).map(|it| it.rule));
        }
    }
    for rule in [
        RuleId::SelectsNothing,
        RuleId::ShadowedRule,
        RuleId::UnreachableRule,
        RuleId::Overruled,
        RuleId::DuplicatePolicy,
        RuleId::RedundantItem,
        RuleId::NoEffect,
        RuleId::EgressWithoutIngress,
        RuleId::IngressWithoutEgress,
    ] {
        assert!(seen.contains(&rule), "{rule} was never found");
    }
}
