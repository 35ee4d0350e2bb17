//! Remedies: what is proposed reads well, opens the connection, and says what else it opens.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod common;
#[path = "laws/generate.rs"]
#[allow(dead_code, reason = "the laws use all of it")]
mod generate;

use std::collections::BTreeMap;
use std::net::IpAddr;

use common::{namespace, party, pod, policy, port, sound};
use generate::{Description, EXTERNAL, PORTS, description};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use signalbox_policy::analyze::Place;
use signalbox_policy::patch::Remedy;
use signalbox_policy::traffic::{PortSet, Traffic};
use signalbox_policy::{Cluster, Connection, Family, Party, Protocol, Route, parse_documents};

fn pods() -> String {
    namespace("front", "tier=front")
        + &namespace("back", "tier=back")
        + &pod("front/web-7d4-a", "app=web,pod-template-hash=7d4", "10.0.0.1", "")
        + &pod("front/web-7d4-b", "app=web,pod-template-hash=7d4", "10.0.0.2", "")
        + &pod("front/admin", "app=admin", "10.0.0.3", "")
        + &pod("back/api", "app=api", "10.0.0.4", "http=TCP 8080")
        + &pod("back/db", "app=db", "10.0.0.5", "")
}

fn remedy(text: &str, from: &str, to: &str, at: &str) -> Option<Remedy> {
    let (protocol, port) = port(at);
    let (from, to) = (party(from), party(to));
    sound(text).remedy(&Connection { from: &from, to: &to, protocol, port, route: Route::Direct, family: None })
}

#[test]
fn what_is_open_needs_no_remedy() {
    assert_eq!(remedy(&pods(), "front/admin", "back/api", "TCP 80"), None);
}

/// A policy that isolates, a question, and what is proposed: what it does, and what it opens besides.
#[test]
fn the_patch_that_opens_least_else_is_chosen() {
    let cases = [
        (
            "a policy of its own, where any change to one that is there would open more",
            "{podSelector: {}}",
            ("front/admin", "back/api", "TCP 80"),
            "new NetworkPolicy back/api-allow-from-admin: allows pods with app=api of back from pods with app=admin",
            "",
        ),
        (
            "one more peer, where that opens nothing else",
            "{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}]}",
            ("front/admin", "back/api", "TCP 80"),
            "NetworkPolicy back/np: spec.ingress[0] allows from pods with app=admin",
            "",
        ),
        (
            "one more port, where the peer is right",
            "{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: 80}]}]}",
            ("back/db", "back/api", "TCP 81"),
            "NetworkPolicy back/np: spec.ingress[0] allows TCP 81, too",
            "",
        ),
        (
            "replicas are opened together, and it says so",
            "{podSelector: {matchLabels: {app: api}}, policyTypes: [Ingress]}",
            ("front/web-7d4-a", "back/api", "TCP 80"),
            "NetworkPolicy back/np: gets a rule that allows from pods with app=web",
            "front/web-7d4-b -> back/api: TCP 80",
        ),
        (
            "addresses outside",
            "{podSelector: {matchLabels: {app: api}}}",
            ("203.0.113.10", "back/api", "UDP 53"),
            "NetworkPolicy back/np: gets a rule that allows from 203.0.113.10/32 on UDP 53",
            "",
        ),
    ];
    for (why, spec, (from, to, at), summary, also) in cases {
        let text = pods() + &policy("back/np", spec);
        let remedy = remedy(&text, from, to, at).expect("it is shut");
        assert!(remedy.patches[0].summary.starts_with(summary), "{why}: {remedy:#?}");
        assert_eq!(listed(&remedy), also, "{why}");
        assert_eq!((remedy.patches.len(), remedy.obstacles.len()), (1, 0), "{why}");
    }
}

#[test]
fn a_patch_reads_as_a_person_would_write_it() {
    let text = pods()
        + &policy("back/np", "{podSelector: {}}")
        + &policy("front/np", "{podSelector: {}, policyTypes: [Egress]}");
    let remedy = remedy(&text, "front/web-7d4-a", "back/api", "TCP 8080").expect("it is shut");
    let expected = "\
# new NetworkPolicy front/web-allow-to-api: allows pods with app=web of front to pods with app=api of namespaces with kubernetes.io/metadata.name=back on TCP 8080
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web-allow-to-api
  namespace: front
spec:
  podSelector:
    matchLabels: {app: web}
  policyTypes: [Egress]
  egress:
    - to:
        - namespaceSelector:
            matchLabels: {kubernetes.io/metadata.name: back}
          podSelector:
            matchLabels: {app: api}
      ports:
        - {port: 8080, protocol: TCP}
---
# new NetworkPolicy back/api-allow-from-web: allows pods with app=api of back from pods with app=web of namespaces with kubernetes.io/metadata.name=front on TCP 8080
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: api-allow-from-web
  namespace: back
spec:
  podSelector:
    matchLabels: {app: api}
  policyTypes: [Ingress]
  ingress:
    - from:
        - namespaceSelector:
            matchLabels: {kubernetes.io/metadata.name: front}
          podSelector:
            matchLabels: {app: web}
      ports:
        - {port: 8080, protocol: TCP}
";
    assert_eq!(remedy.yaml(), expected);
    assert_eq!(listed(&remedy), "front/web-7d4-b -> back/api: TCP 8080");
}

/// However many replicas are opened with the pod, a port for anyone opens more.
#[test]
fn a_port_for_anyone_is_no_small_change() {
    let spec = "{podSelector: {matchLabels: {app: api}}, ingress: [{ports: [{port: 81}]}]}";
    let third = pod("front/web-7d4-c", "app=web,pod-template-hash=7d4", "10.0.0.6", "");
    let found = remedy(&(pods() + &third + &policy("back/np", spec)), "front/web-7d4-a", "back/api", "TCP 80");
    let expected = "front/web-7d4-b -> back/api: TCP 80\nfront/web-7d4-c -> back/api: TCP 80";
    assert_eq!(listed(&found.expect("it is shut")), expected);
}

/// A new policy isolates whom it selects: it must not select a replica that no policy isolates yet.
#[test]
fn a_patch_isolates_nobody_else() {
    let one = "{podSelector: {matchLabels: {app: db, statefulset.kubernetes.io/pod-name: db-0}}}";
    let db = |name: &str, address: &str| {
        pod(&format!("back/{name}"), &format!("app=db,statefulset.kubernetes.io/pod-name={name}"), address, "")
    };
    let text = namespace("back", "") + &db("db-0", "10.0.0.1") + &db("db-1", "10.0.0.2") + &policy("back/np", one);
    let remedy = remedy(&text, "back/db-1", "back/db-0", "TCP 80").expect("it is shut");
    let after = patched(&common::objects(&text), &remedy);
    assert_eq!(common::ask(&after, "back/db-1", "back/db-0", "TCP 80").allowed(), Some(true));
    assert_eq!(common::ask(&after, "back/db-0", "back/db-1", "TCP 9").allowed(), Some(true), "{remedy:#?}");
}

/// A policy of another tier that denies, a question, and what is proposed.
#[test]
fn a_rule_that_denies_is_preceded_by_one_that_accepts() {
    let deny = |tier: &str, priority: u32| {
        format!(
            "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: cnp}}\nspec: {{tier: {tier}, priority: {priority}, subject: {{namespaces: {{}}}}, ingress: [{{action: Deny, from: [{{namespaces: {{}}}}]}}]}}\n"
        )
    };
    let expected = "\
# new ClusterNetworkPolicy api-accept-from-tcp-80, asked before ClusterNetworkPolicy cnp: accepts pods with app=api of namespaces with kubernetes.io/metadata.name=back from pods with app=admin of namespaces with kubernetes.io/metadata.name=front on TCP 80
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata:
  name: api-accept-from-tcp-80
spec:
  tier: Admin
  priority: 9
  subject:
    pods:
      namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: back}
      podSelector:
        matchLabels: {app: api}
  ingress:
    - action: Accept
      from:
        - pods:
            namespaceSelector:
              matchLabels: {kubernetes.io/metadata.name: front}
            podSelector:
              matchLabels: {app: admin}
      protocols:
        - {tcp: {destinationPort: {number: 80}}}
";
    let found = remedy(&(pods() + &deny("Admin", 10)), "front/admin", "back/api", "TCP 80").expect("it is shut");
    assert_eq!(found.yaml(), expected);
    // None can be asked before it: then a rule in front.
    for tier in ["Admin", "Baseline"] {
        let text = pods() + &deny(tier, 0);
        let found = remedy(&text, "front/admin", "back/api", "TCP 80").expect("it is shut");
        let start =
            "ClusterNetworkPolicy cnp: gets a rule in front of spec.ingress[0] that accepts from pods with app=admin";
        assert!(found.patches[0].summary.starts_with(start), "{found:#?}");
        assert!(found.is_complete());
        let others = "front/admin -> back/db: TCP 80\nfront/admin -> front/web-7d4-a: TCP 80\nfront/admin -> front/web-7d4-b: TCP 80";
        let without_itself: Vec<_> = found.also_opens.iter().filter(|it| it.from != it.to).collect();
        let lines: Vec<String> =
            without_itself.iter().map(|it| format!("{} -> {}: {}", it.from, it.to, it.traffic)).collect();
        assert_eq!(lines.join("\n"), others);
    }
}

#[test]
fn what_cannot_be_patched_is_said() {
    let calico = "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: gnp}\nspec: {order: 10, selector: all(), types: [Ingress], ingress: [{action: Deny}]}\n";
    let found = remedy(&(pods() + calico), "front/admin", "back/api", "TCP 80").expect("it is shut");
    let expected = "GlobalNetworkPolicy gnp: spec.ingress[0] denies it, which no patch can be written for; a NetworkPolicy cannot open it";
    assert_eq!((found.patches.len(), found.obstacles), (0, vec![expected.to_owned()]));
}

fn listed(remedy: &Remedy) -> String {
    let lines = remedy.also_opens.iter().map(|it| format!("{} -> {}: {}", it.from, it.to, it.traffic));
    lines.collect::<Vec<_>>().join("\n")
}

fn patched(objects: &[Value], remedy: &Remedy) -> Cluster {
    let mut objects = objects.to_vec();
    objects.extend(parse_documents(&remedy.yaml(), "patch").into_iter().map(|it| it.expect("a patch is YAML")));
    let cluster = Cluster::from_objects(&objects);
    assert_eq!(cluster.unknowns(), &[] as &[String], "{}", remedy.yaml());
    cluster
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    /// Law: applying a remedy's text opens the connection, shuts nothing, and opens besides exactly what it lists.
    #[test]
    fn a_remedy_opens_what_it_says(
        description in description(false),
        isolates_all in any::<bool>(),
        tiers in prop_oneof![Just(Vec::new()), tiers()],
        pairs in prop::collection::vec(any::<Index>(), 6),
        at in (select(Protocol::ALL.to_vec()), select(PORTS.to_vec())),
        route in select(vec![Route::Direct, Route::Service]),
    ) {
        let mut description = description;
        if isolates_all {
            description.policies.extend(generate::isolating_all());
        }
        description.policies.extend(tiers);
        let all = description.pairs();
        for pair in pairs {
            let (from, to) = &all[pair.index(all.len())];
            let connection = Connection { from, to, protocol: at.0, port: at.1, route, family: None };
            holds(&description, &connection)?;
        }
    }
}

/// Some policies of the other tiers.
fn tiers() -> impl Strategy<Value = Vec<Value>> {
    let labels = || {
        prop_oneof![
            Just(json!({})),
            select(vec!["", "1", "2"]).prop_map(|value| json!({"matchLabels": {"a": value}})),
            select(vec!["x", "y"]).prop_map(|name| json!({"matchLabels": {"kubernetes.io/metadata.name": name}})),
        ]
    };
    let pods = move || {
        prop_oneof![
            labels().prop_map(|it| json!({"namespaces": it})),
            (labels(), labels()).prop_map(|(a, b)| json!({"pods": {"namespaceSelector": a, "podSelector": b}})),
        ]
    };
    let port = prop_oneof![
        select(PORTS.to_vec()).prop_map(|port| json!({"tcp": {"destinationPort": {"number": port}}})),
        Just(json!({"udp": {"destinationPort": {"range": {"start": 1, "end": 100}}}})),
        Just(json!({"destinationNamedPort": "http"})),
    ];
    let rule = move |field: &'static str| {
        let action = prop_oneof![3 => Just("Deny"), 1 => Just("Accept"), 1 => Just("Pass")];
        (action, pods(), prop::collection::vec(port.clone(), 0..2), any::<bool>()).prop_map(
            move |(action, peer, ports, is_outside)| {
                let networks = json!({"networks": ["192.0.2.0/24", "10.0.0.0/30", "::/0"]});
                let peer = if is_outside && ports.is_empty() && field == "to" { networks } else { peer };
                let mut rule = json!({"action": action, field: [peer]});
                if !ports.is_empty() {
                    rule["protocols"] = json!(ports);
                }
                rule
            },
        )
    };
    let rules = move |field| prop::collection::vec(rule(field), 0..3);
    let one = (select(vec!["Admin", "Baseline"]), 0..3_u32, pods(), rules("from"), rules("to"));
    prop::collection::vec(one, 1..4).prop_map(|all| {
        let named = all.into_iter().enumerate().map(|(at, (tier, priority, subject, ingress, egress))| {
            let mut spec = json!({"tier": tier, "priority": priority, "subject": subject});
            for (field, rules) in [("ingress", ingress), ("egress", egress)] {
                if !rules.is_empty() {
                    spec[field] = json!(rules);
                }
            }
            json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
                "metadata": {"name": format!("cnp{at}")}, "spec": spec})
        });
        named.collect()
    })
}

fn holds(description: &Description, connection: &Connection<'_>) -> Result<(), TestCaseError> {
    let objects = description.objects();
    let before = Cluster::from_objects(&objects);
    let verdict = before.judge(connection);
    let remedy = before.remedy(connection);
    prop_assert_eq!(remedy.is_some(), verdict.allowed() == Some(false));
    let Some(remedy) = remedy else { return Ok(()) };
    prop_assert!(remedy.is_complete(), "{:#?}\n{:?}\n{:?}", remedy, connection, verdict);
    let after = patched(&objects, &remedy);
    prop_assert_eq!(after.judge(connection).allowed(), Some(true), "{:?}\n{}", connection, remedy.yaml());

    let mut parties: Vec<(Party, Option<IpAddr>)> = before.pods().map(|pod| (Party::Pod(pod.clone()), None)).collect();
    let addresses = EXTERNAL.iter().map(|text| text.parse().unwrap());
    parties.extend(addresses.map(|address: IpAddr| (Party::Address(address), Some(address))));
    for (from, from_address) in &parties {
        for (to, to_address) in &parties {
            let (mut opened, mut shut) = (Traffic::default(), Traffic::default());
            for family in [Family::V4, Family::V6] {
                let has = |party: &Party| match party {
                    Party::Pod(pod) => description
                        .running_pods()
                        .iter()
                        .find(|(id, _)| id == pod)
                        .is_none_or(|(_, ips)| ips.iter().any(|ip| Family::of(*ip) == family)),
                    Party::Address(address) => Family::of(*address) == family,
                    Party::LocalNode => false,
                };
                if !has(from) || !has(to) {
                    continue;
                }
                let open = |cluster: &Cluster| cluster.reach(from, to, Route::Service, Some(family)).open;
                opened = opened.union(&open(&after).difference(&open(&before)));
                shut = shut.union(&open(&before).difference(&open(&after)));
            }
            prop_assert!(shut.is_empty(), "{from:?} -> {to:?} lost {shut}: {}", remedy.yaml());
            if (from, to) == (connection.from, connection.to) {
                let asked = PortSet::range(connection.port, connection.port);
                opened = opened.difference(&Traffic::of(connection.protocol, asked));
            }
            let says = said(&remedy, (from, *from_address), (to, *to_address));
            prop_assert_eq!(says, opened, "{:?} -> {:?}: {}\n{:?}", from, to, remedy.yaml(), connection);
        }
    }
    Ok(())
}

/// What a remedy says of a pair.
fn said(remedy: &Remedy, from: (&Party, Option<IpAddr>), to: (&Party, Option<IpAddr>)) -> Traffic {
    let is = |place: &Place, (party, address): (&Party, Option<IpAddr>)| match place {
        Place::Pod(pod) => *party == Party::Pod(pod.clone()),
        Place::Range(range) => address.is_some_and(|address| {
            Family::of(range.first()) == Family::of(address) && range.first() <= address && address <= range.last()
        }),
    };
    let found: BTreeMap<_, _> = remedy
        .also_opens
        .iter()
        .filter(|it| is(&it.from, from) && is(&it.to, to))
        .map(|it| ((&it.from, &it.to), &it.traffic))
        .collect();
    found.into_values().fold(Traffic::default(), |all, it| all.union(it))
}
