//! Differences between two states: what they say is what the engine says of both states, port for port.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod common;
#[path = "laws/generate.rs"]
#[allow(dead_code, reason = "the laws use the rest")]
mod generate;

use std::collections::BTreeSet;
use std::net::IpAddr;

use generate::{Description, EXTERNAL, PORTS, description};
use proptest::prelude::*;
use signalbox_policy::analyze::{External, Loopback, Options, Place};
use signalbox_policy::diff::{Access, Change, Effect, State, diff};
use signalbox_policy::{Cluster, Connection, Family, Party, PodRef, Protocol, Route};

const ALL: Options = Options { loopback: Loopback::Allow, external: External::Ranges };

fn state(cluster: &Cluster) -> State {
    State { pods: cluster.families(), links: cluster.analyze(ALL) }
}

fn differences(before: &str, after: &str) -> Vec<String> {
    let [before, after] = [before, after].map(common::cluster);
    let changes = diff(&state(&before), &state(&after));
    let streamed: Vec<Change> = before.differences(&after, ALL).flatten().collect();
    assert_eq!(changes, streamed, "one source at a time or all at once");
    let line = |change: &Change| {
        let family = change.family.map_or(String::new(), |family| format!(" {family:?}"));
        let Change { from, to, before, after, traffic, .. } = change;
        format!("{from} -> {to}{family}: {before:?} -> {after:?}: {traffic}")
    };
    changes.iter().map(line).collect()
}

fn two_pods() -> String {
    common::namespace("x", "")
        + &common::pod("x/a", "app=a", "10.0.0.1", "")
        + &common::pod("x/b", "app=b", "10.0.0.2", "")
}

#[test]
fn a_policy_closes_and_opens_ranges_of_ports() {
    let only = |ports: &str| {
        two_pods()
            + &common::policy(
                "x/p",
                &format!(
                    "{{podSelector: {{matchLabels: {{app: b}}}}, ingress: [{{from: [{{podSelector: {{}}}}], ports: [{ports}]}}]}}"
                ),
            )
    };
    let wide = only("{port: 80, endPort: 90}");
    let shifted = only("{port: 85, endPort: 95}");
    assert_eq!(
        differences(&wide, &shifted),
        ["x/a -> x/b: Shut -> Open: TCP 91-95", "x/a -> x/b: Open -> Shut: TCP 80-84"]
    );
    assert_eq!(differences(&wide, &wide), [] as [&str; 0]);
}

#[test]
fn pods_that_come_and_go_are_named_as_such() {
    let shut = two_pods() + &common::policy("x/p", "{podSelector: {}, policyTypes: [Ingress]}");
    let third = shut.clone() + &common::namespace("y", "") + &common::pod("y/c", "", "10.0.0.3", "");
    let lines = differences(&shut, &third);
    // Nothing reaches x, but the new pod takes part otherwise.
    assert!(lines.contains(&"x/a -> y/c: Absent -> Open: everything".to_owned()), "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("Absent -> Open") && line.contains("y/c")), "{lines:#?}");
    let back = differences(&third, &shut);
    assert_eq!(back.len(), lines.len());
    assert!(back.iter().all(|line| line.contains("Open -> Absent")), "{back:#?}");
}

#[test]
fn what_is_not_understood_is_neither_open_nor_shut() {
    let shut = two_pods() + &common::policy("x/p", "{podSelector: {matchLabels: {app: b}}, policyTypes: [Ingress]}");
    let broken = shut.clone() + &common::policy("x/q", "{podSelector: {matchLabels: {app: b}}, ingress: [{port: 80}]}");
    let lines = differences(&shut, &broken);
    assert!(lines.contains(&"x/a -> x/b: Shut -> Unknown: everything".to_owned()), "{lines:#?}");
    let changes = diff(&state(&common::cluster(&shut)), &state(&common::cluster(&broken)));
    let says_why =
        |change: &Change| change.reasons.iter().any(|why| why.contains("NetworkPolicy x/q: spec.ingress[0].port"));
    assert!(changes.iter().all(says_why), "{changes:#?}");
    let change = |before, after| Change {
        from: Place::Pod(PodRef { namespace: "x".into(), name: "a".into() }),
        to: Place::Pod(PodRef { namespace: "x".into(), name: "b".into() }),
        family: None,
        before,
        after,
        traffic: signalbox_policy::traffic::Traffic::all(),
        reasons: BTreeSet::new(),
    };
    for (before, after, effect) in [
        (Access::Shut, Access::Open, Effect::Opens),
        (Access::Shut, Access::Unknown, Effect::Opens),
        (Access::Unknown, Access::Open, Effect::Opens),
        (Access::Open, Access::Unknown, Effect::Closes),
        (Access::Unknown, Access::Shut, Effect::Closes),
        (Access::Absent, Access::Open, Effect::Comes),
        (Access::Open, Access::Absent, Effect::Goes),
    ] {
        assert_eq!(change(before, after).effect(), effect, "{before:?} -> {after:?}");
    }
}

#[test]
fn ranges_that_the_states_cut_differently_are_compared_piece_by_piece() {
    let to = |cidr: &str| {
        two_pods()
            + &common::policy(
                "x/p",
                &format!(
                    "{{podSelector: {{matchLabels: {{app: a}}}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: {cidr}}}}}]}}]}}"
                ),
            )
    };
    let lines = differences(&to("198.51.100.0/24"), &to("198.51.100.128/25"));
    assert_eq!(lines, ["x/a -> 198.51.100.0-198.51.100.127: Open -> Shut: everything"]);
}

#[test]
fn families_are_told_apart_where_they_differ() {
    let pods = common::namespace("x", "")
        + &common::pod("x/a", "app=a", "10.0.0.1,fd00::1", "")
        + &common::pod("x/b", "app=b", "10.0.0.2,fd00::2", "");
    let v4 = pods.clone()
        + &common::policy(
            "x/p",
            "{podSelector: {matchLabels: {app: b}}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}",
        );
    let pods_only =
        |lines: Vec<String>| lines.into_iter().filter(|line| line.starts_with("x/a -> x/b")).collect::<Vec<_>>();
    assert_eq!(pods_only(differences(&pods, &v4)), ["x/a -> x/b V6: Open -> Shut: everything"]);
    assert_eq!(pods_only(differences(&v4, &pods)), ["x/a -> x/b V6: Shut -> Open: everything"]);
}

/// Who a question can be about, and how changes name it.
#[derive(Clone, Debug)]
enum End {
    Pod(PodRef),
    Outside(IpAddr),
}

impl End {
    fn party(&self) -> Party {
        match self {
            Self::Pod(pod) => Party::Pod(pod.clone()),
            Self::Outside(address) => Party::Address(*address),
        }
    }

    fn is(&self, place: &Place) -> bool {
        match (self, place) {
            (Self::Pod(pod), Place::Pod(other)) => pod == other,
            (Self::Outside(address), Place::Range(range)) => (range.first()..=range.last()).contains(address),
            (Self::Pod(_), Place::Range(_)) | (Self::Outside(_), Place::Pod(_)) => false,
        }
    }

    fn families(&self, cluster: &Cluster) -> Option<BTreeSet<Family>> {
        match self {
            Self::Pod(pod) => cluster.families().get(pod).cloned(),
            Self::Outside(address) => Some(BTreeSet::from([Family::of(*address)])),
        }
    }
}

fn access(cluster: &Cluster, from: &End, to: &End, family: Family, protocol: Protocol, port: u16) -> Access {
    let (from, to) = (&from.party(), &to.party());
    let connection = Connection { from, to, protocol, port, route: Route::Direct, family: Some(family) };
    match cluster.judge(&connection).allowed() {
        Some(true) => Access::Open,
        Some(false) => Access::Shut,
        None => Access::Unknown,
    }
}

fn differences_are_what_changed(first: &Description, second: &Description) -> Result<(), TestCaseError> {
    let clusters = [first, second].map(|description| Cluster::from_objects(&description.objects()));
    let changes = diff(&state(&clusters[0]), &state(&clusters[1]));
    let streamed: Vec<Change> = clusters[0].differences(&clusters[1], ALL).flatten().collect();
    prop_assert_eq!(&changes, &streamed);
    let pods: BTreeSet<PodRef> = clusters.iter().flat_map(|cluster| cluster.pods().cloned()).collect();
    let taken: BTreeSet<IpAddr> =
        [first, second].into_iter().flat_map(Description::running_pods).flat_map(|it| it.1).collect();
    let outside = EXTERNAL.iter().map(|address| address.parse::<IpAddr>().unwrap()).filter(|it| !taken.contains(it));
    let ends: Vec<End> = pods.into_iter().map(End::Pod).chain(outside.map(End::Outside)).collect();
    for from in &ends {
        for to in &ends {
            if let (End::Outside(_), End::Outside(_)) = (from, to) {
                continue;
            }
            let of_pair: Vec<&Change> = changes.iter().filter(|it| from.is(&it.from) && to.is(&it.to)).collect();
            let [before, after] = [0, 1].map(|at| {
                let (from, to) = (from.families(&clusters[at]), to.families(&clusters[at]));
                Some(from?.intersection(&to?).copied().collect::<BTreeSet<_>>())
            });
            for family in [Family::V4, Family::V6] {
                let has = |families: &Option<BTreeSet<Family>>| families.as_ref().map(|it| it.contains(&family));
                // A family that only one of the states has is no question to both of them.
                if [has(&before), has(&after)].contains(&Some(false)) || (before.is_none() && after.is_none()) {
                    continue;
                }
                for protocol in Protocol::ALL {
                    for port in PORTS {
                        let at = |index: usize, families: &Option<_>| match families {
                            Some(_) => access(&clusters[index], from, to, family, protocol, port),
                            None => Access::Absent,
                        };
                        let words = (at(0, &before), at(1, &after));
                        let covering = of_pair.iter().filter(|it| {
                            it.family.is_none_or(|own| own == family) && it.traffic.contains(protocol, port)
                        });
                        let found: Vec<_> = covering.map(|it| (it.before, it.after)).collect();
                        let is_nothing = words.0 == words.1
                            || matches!(words, (Access::Absent, Access::Shut) | (Access::Shut, Access::Absent));
                        let expected = if is_nothing { vec![] } else { vec![words] };
                        prop_assert_eq!(found, expected, "{:?} -> {:?} {} {} {:?}", from, to, protocol, port, family);
                    }
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(24),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Law: a difference is listed if and only if the engine's word changes from one state to the other.
    #[test]
    fn differences_of_any_two_states_are_what_changed(first in description(true), second in description(true)) {
        differences_are_what_changed(&first, &second)?;
    }

    /// The same for one edit, which is what people ask about.
    #[test]
    fn differences_of_one_edit_are_what_changed(first in description(true), extra in generate::policy(true)) {
        let mut second = first.clone();
        second.policies.push(generate::renamed(extra, "extra"));
        differences_are_what_changed(&first, &second)?;
        differences_are_what_changed(&second, &first)?;
    }
}
