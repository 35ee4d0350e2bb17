//! Law: the tables say what the verdict says with policies of all tiers, with node peers, and with policies, rules, labels
//! and nodes that were not understood. What the engine cannot tell, the tables deny.

use proptest::prelude::*;
use signalbox_policy::evaluate::Outcome;
use signalbox_policy::tables::Tables;
use signalbox_policy::{Cluster, Connection, Family, IdentityAllocator, Route, Side};

use super::generate_tiers::{Tiered, tiered};
use super::{cases, questions};

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn tables_say_what_the_verdict_says_with_all_tiers(all in tiered(false)) {
        tables_equal_verdict(&all)?;
    }

    #[test]
    fn tables_deny_what_is_not_understood(all in tiered(true)) {
        tables_equal_verdict(&all)?;
    }

    #[test]
    fn tables_of_all_tiers_hold_over_a_chain_of_changes(first in tiered(true), second in tiered(true)) {
        let mut identities = IdentityAllocator::default();
        for all in [&first, &second, &first] {
            let cluster = Cluster::from_objects(&all.objects());
            let tables = cluster.compile_with("n1", &mut identities);
            for_all_connections(all, &cluster, &[("n1", tables)])?;
        }
    }
}

fn tables_equal_verdict(all: &Tiered) -> Result<(), TestCaseError> {
    let cluster = Cluster::from_objects(&all.objects());
    let tables = ["n1", "n2"].map(|node| (node, cluster.compile(node)));
    for_all_connections(all, &cluster, &tables)
}

fn for_all_connections(all: &Tiered, cluster: &Cluster, tables: &[(&str, Tables)]) -> Result<(), TestCaseError> {
    let places = all.places();
    for from in &places {
        for to in &places {
            let Some(to_address) = to.address else { continue };
            let family = Family::of(to_address);
            match from.address {
                Some(address) if Family::of(address) != family => continue,
                None if to.pod_on.is_none() => continue,
                Some(_) | None => {}
            }
            for (protocol, port) in questions() {
                let connection = Connection {
                    from: &from.party,
                    to: &to.party,
                    protocol,
                    port,
                    route: Route::Service,
                    family: Some(family),
                };
                let verdict = cluster.judge(&connection);
                let mut passes = true;
                let mut covered = true;
                for (place, side, expected) in [(from, 0, &verdict.egress), (to, 1, &verdict.ingress)] {
                    let Some(node) = &place.pod_on else { continue };
                    let Some((_, tables)) = tables.iter().find(|(name, _)| name == node) else {
                        covered = false;
                        continue;
                    };
                    let judged = tables.judge(from.endpoint, to.endpoint, protocol, port);
                    let judged = if side == 0 { judged.egress } else { judged.ingress };
                    let judged = judged.expect("the pod is local there");
                    // A packet of the node itself is known by its way, not by its address.
                    if side == 1 && from.host.as_ref() == Some(node) {
                        let is_always = matches!(expected, Some(Side::AlwaysAllowed(..)));
                        prop_assert!(is_always || !verdict.unknown.is_empty(), "{:?}: {:?}", connection, expected);
                        covered = false;
                        continue;
                    }
                    passes &= judged.is_allowed();
                    let is_in_doubt = matches!(judged, Outcome::NotUnderstood(_));
                    // Where one side is certainly shut, the engine does not say that the other one is in doubt.
                    if verdict.unknown.is_empty() && !(is_in_doubt && verdict.allowed() == Some(false)) {
                        let expected = expected.as_ref().expect("a pod of its own network has a side");
                        same(tables, judged, expected, &connection)?;
                    }
                }
                let is_judged = from.pod_on.is_some() || to.pod_on.is_some();
                if verdict.allowed() != Some(true) && covered && is_judged {
                    prop_assert!(!passes, "{:?} passes: {:#?}", connection, verdict);
                }
            }
        }
    }
    Ok(())
}

fn same(tables: &Tables, judged: Outcome, expected: &Side, connection: &Connection<'_>) -> Result<(), TestCaseError> {
    match (judged, expected) {
        (Outcome::NotIsolated, Side::NotIsolated(_))
        | (Outcome::FromLocalNode, Side::AlwaysAllowed(..))
        | (Outcome::Denied, Side::Denied { .. }) => Ok(()),
        (Outcome::AllowedBy(id), Side::AllowedBy(rule, _)) | (Outcome::DeniedBy(id), Side::DeniedBy(rule)) => {
            prop_assert_eq!(&tables.rules[id.0 as usize], rule, "{:?}", connection);
            Ok(())
        }
        (judged, expected) => {
            prop_assert!(false, "{connection:?}: tables say {judged:?}, the engine {expected:?}");
            Ok(())
        }
    }
}
