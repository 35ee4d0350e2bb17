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

fn listed(remedy: &Remedy) -> String {
    let lines = remedy.also_opens.iter().map(|it| format!("{} -> {}: {}", it.from, it.to, it.traffic));
    lines.collect::<Vec<_>>().join("\n")
}

fn patched(objects: &[serde_json::Value], remedy: &Remedy) -> Cluster {
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
        pairs in prop::collection::vec(any::<Index>(), 6),
        at in (select(Protocol::ALL.to_vec()), select(PORTS.to_vec())),
        route in select(vec![Route::Direct, Route::Service]),
    ) {
        let mut description = description;
        if isolates_all {
            description.policies.extend(generate::isolating_all());
        }
        let all = description.pairs();
        for pair in pairs {
            let (from, to) = &all[pair.index(all.len())];
            let connection = Connection { from, to, protocol: at.0, port: at.1, route, family: None };
            holds(&description, &connection)?;
        }
    }
}

fn holds(description: &Description, connection: &Connection<'_>) -> Result<(), TestCaseError> {
    let objects = description.objects();
    let before = Cluster::from_objects(&objects);
    let verdict = before.judge(connection);
    let remedy = before.remedy(connection);
    prop_assert_eq!(remedy.is_some(), verdict.allowed() == Some(false));
    let Some(remedy) = remedy else { return Ok(()) };
    prop_assert!(remedy.is_complete(), "{:#?}", remedy);
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
