//! Laws that hold for any cluster: the engine agrees with a naive evaluator that was written from the API's text, and
//! the tables agree with the engine. `PROPTEST_CASES` sets how many clusters are tried.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod full;
mod generate;
mod generate_tiers;
mod naive;
mod tiers;

use std::collections::HashMap;
use std::net::IpAddr;

use generate::{Description, EXTERNAL, PORTS, description};
use proptest::prelude::*;
use signalbox_policy::evaluate::{Endpoint, Outcome};
use signalbox_policy::tables::Tables;
use signalbox_policy::{
    Cluster, Connection, Family, IdentityAllocator, Party, PodRef, PolicyRef, Protocol, Route, Side,
};

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn verdict_is_what_the_naive_evaluator_says(description in description(false)) {
        verdict_equals_naive(&description)?;
    }

    #[test]
    fn tables_say_what_the_verdict_says(description in description(true)) {
        let cluster = Cluster::from_objects(&description.objects());
        for node in ["n1", "n2"] {
            tables_equal_verdict(&description, &cluster, &cluster.compile(node), node)?;
        }
    }

    #[test]
    fn tables_hold_over_a_chain_of_changes(first in description(true), second in description(true)) {
        let mut identities = IdentityAllocator::default();
        // The same cluster, then with fewer policies, then another one, and back.
        let fewer = Description { policies: first.policies.iter().skip(1).cloned().collect(), ..first.clone() };
        for description in [&first, &fewer, &second, &first] {
            let cluster = Cluster::from_objects(&description.objects());
            let tables = cluster.compile_with("n1", &mut identities);
            tables_equal_verdict(description, &cluster, &tables, "n1")?;
            prop_assert_eq!(&tables, &cluster.compile_with("n1", &mut identities), "nothing changed");
        }
    }

    #[test]
    fn pods_of_one_kind_reach_the_same(description in description(true)) {
        pods_stand_for_their_kind(&Cluster::from_objects(&description.objects()))?;
    }

    #[test]
    fn policies_only_add_up(description in description(false), extra in generate::policy(false)) {
        // 24: among pods that are isolated in both directions already, one more policy opens or leaves, and shuts nothing.
        let mut with_base = description.clone();
        with_base.policies.extend(generate::isolating_all());
        let mut with_extra = with_base.clone();
        with_extra.policies.push(generate::renamed(extra, "extra"));
        let (before, after) = (Cluster::from_objects(&with_base.objects()), Cluster::from_objects(&with_extra.objects()));
        for (from, to) in with_base.pairs() {
            for (protocol, port) in questions() {
                if before.verdict(&from, &to, protocol, port).allowed() == Some(true) {
                    prop_assert_eq!(after.verdict(&from, &to, protocol, port).allowed(), Some(true));
                }
            }
        }
    }
}

fn questions() -> impl Iterator<Item = (Protocol, u16)> {
    PROTOCOLS.into_iter().flat_map(|protocol| PORTS.into_iter().map(move |port| (protocol, port)))
}

/// Each pair of pods, and each pod with the outside, against the first pair of the same kinds.
fn pods_stand_for_their_kind(cluster: &Cluster) -> Result<(), TestCaseError> {
    let ask = |from: &Party, to: &Party| {
        let found = cluster.reach_by_family(from, to, Route::Direct);
        found.into_iter().map(|(family, reach)| (family, reach.open, reach.unknown)).collect::<Vec<_>>()
    };
    let mut parties: Vec<(usize, Party)> = Vec::new();
    parties.extend(cluster.kinds().into_iter().zip(cluster.pods().cloned().map(Party::Pod)));
    for (number, outside) in cluster.outside(None).iter().enumerate() {
        let kind = usize::MAX - number;
        parties.push((kind, Party::Address(outside.sample)));
        let externals =
            EXTERNAL.iter().map(|address| address.parse::<IpAddr>().expect("the test's addresses are sound"));
        let lies_there =
            |address: &IpAddr| outside.ranges.iter().any(|it| it.first() <= *address && *address <= it.last());
        parties.extend(externals.filter(lies_there).map(|address| (kind, Party::Address(address))));
    }
    let mut known = HashMap::new();
    for (from_kind, from) in &parties {
        for (to_kind, to) in &parties {
            // A pod to itself is a matter of its own.
            if from == to {
                continue;
            }
            let found = ask(from, to);
            let first = known.entry((*from_kind, *to_kind)).or_insert_with(|| found.clone());
            prop_assert_eq!(&*first, &found, "{:?} -> {:?}", from, to);
        }
    }
    Ok(())
}

fn verdict_equals_naive(description: &Description) -> Result<(), TestCaseError> {
    let objects = description.objects();
    let cluster = Cluster::from_objects(&objects);
    prop_assert_eq!(cluster.unknowns(), &[] as &[String]);
    for (from, to) in description.pairs() {
        for family in [Family::V4, Family::V6] {
            for route in [Route::Direct, Route::Service] {
                for (protocol, port) in questions() {
                    let connection = Connection { from: &from, to: &to, protocol, port, route, family: Some(family) };
                    let Some(expected) = naive::judge(&objects, &connection) else { continue };
                    let verdict = cluster.judge(&connection);
                    prop_assert_eq!(&verdict.unknown, &Vec::<String>::new());
                    let sides =
                        (verdict.egress.as_ref().map(Side::is_allowed), verdict.ingress.as_ref().map(Side::is_allowed));
                    prop_assert_eq!(sides, expected, "{:?}: {:#?}", connection, verdict);
                }
            }
        }
    }
    Ok(())
}

/// An end of a connection that the tables of a node can be asked about.
struct Place {
    party: Party,
    address: Option<IpAddr>,
    endpoint: Endpoint,
}

fn places(description: &Description) -> Vec<Place> {
    let mut places = Vec::new();
    for (pod, addresses) in description.running_pods() {
        places.extend(addresses.into_iter().map(|address| Place {
            party: Party::Pod(pod.clone()),
            address: Some(address),
            endpoint: Endpoint::Address(address),
        }));
    }
    for address in EXTERNAL {
        let address: IpAddr = address.parse().expect("the test's addresses are sound");
        places.push(Place {
            party: Party::Address(address),
            address: Some(address),
            endpoint: Endpoint::Address(address),
        });
    }
    places.push(Place { party: Party::LocalNode, address: None, endpoint: Endpoint::LocalNode });
    places
}

fn tables_equal_verdict(
    description: &Description,
    cluster: &Cluster,
    tables: &Tables,
    node: &str,
) -> Result<(), TestCaseError> {
    prop_assert!(tables.rules.is_sorted());
    let places = places(description);
    let local = |party: &Party| matches!(party, Party::Pod(pod) if description.node_of(pod) == Some(node));
    for from in &places {
        for to in &places {
            // A node as a destination is an address like any other: asked for by its address.
            if to.address.is_none() || (from.address.is_none() && !local(&to.party)) {
                continue;
            }
            let family = to.address.map(Family::of);
            if from.address.is_some_and(|from| Some(Family::of(from)) != family) {
                continue;
            }
            for (protocol, port) in questions() {
                let (party_from, party_to) = (&from.party, &to.party);
                let connection =
                    Connection { from: party_from, to: party_to, protocol, port, route: Route::Service, family };
                let verdict = cluster.judge(&connection);
                let judged = tables.judge(from.endpoint, to.endpoint, protocol, port);
                let expected_egress = verdict.egress.filter(|_| local(party_from));
                let expected_ingress = verdict.ingress.filter(|_| local(party_to));
                same_side(
                    tables,
                    judged.egress,
                    expected_egress.as_ref(),
                    from,
                    |pod| isolated_by(tables, pod).1,
                    &connection,
                )?;
                same_side(
                    tables,
                    judged.ingress,
                    expected_ingress.as_ref(),
                    to,
                    |pod| isolated_by(tables, pod).0,
                    &connection,
                )?;
            }
        }
    }
    Ok(())
}

fn isolated_by<'t>(tables: &'t Tables, pod: &PodRef) -> (&'t [PolicyRef], &'t [PolicyRef]) {
    let pod = tables.pods.iter().find(|it| it.pod == *pod).expect("the pod is local");
    let group = &tables.groups[pod.group.0 as usize];
    (&group.ingress.isolated_by, &group.egress.isolated_by)
}

fn same_side<'t>(
    tables: &'t Tables,
    judged: Option<Outcome>,
    expected: Option<&Side>,
    subject: &Place,
    isolated_by: impl Fn(&PodRef) -> &'t [PolicyRef],
    connection: &Connection<'_>,
) -> Result<(), TestCaseError> {
    let isolating = || match &subject.party {
        Party::Pod(pod) => isolated_by(pod),
        Party::Address(_) | Party::LocalNode => &[],
    };
    match (judged, expected) {
        (None, None) | (Some(Outcome::NotIsolated), Some(Side::NotIsolated(_))) => {}
        (Some(Outcome::FromLocalNode), Some(Side::AlwaysAllowed(..))) => {}
        (Some(Outcome::AllowedBy(id)), Some(Side::AllowedBy(rule, policies))) => {
            prop_assert_eq!(&tables.rules[id.0 as usize], rule, "{:?}", connection);
            prop_assert_eq!(isolating(), policies.as_slice());
        }
        (Some(Outcome::Denied), Some(Side::Denied { isolated_by, .. })) => {
            prop_assert_eq!(isolating(), isolated_by.as_slice());
        }
        (Some(Outcome::DeniedBy(id)), Some(Side::DeniedBy(rule))) => {
            prop_assert_eq!(&tables.rules[id.0 as usize], rule, "{:?}", connection);
        }
        (judged, expected) => {
            prop_assert!(false, "{connection:?}: tables say {judged:?}, the engine {expected:?}");
        }
    }
    Ok(())
}
