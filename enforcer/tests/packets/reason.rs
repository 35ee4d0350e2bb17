//! Each reason for which a packet is refused, at the programs' entry: the table of `Reason::action` row by row.

use serde_json::json;
use signalbox_enforcer::{Config, Limits, Mode};
use signalbox_enforcer_common::verdict::{Action, Reason};

use crate::{
    bench::{A6, B6, Bench, From, SYN, TCP, UDP},
    shapes::{options, packet, packet_with, tcp},
    support::{OUTSIDE, POD_A, POD_B, can_run, policy},
};

/// A packet that is refused for this reason, where it is seen, and who judges there.
fn case(reason: Reason, judged: bool) -> (Bench, Vec<u8>, From) {
    let to = |port: u16| packet(POD_A, POD_B, TCP, &tcp(40_000, port, SYN));
    let plain = || Bench::new(judged);
    match reason {
        Reason::Isolated => (plain(), to(81), From::AToB),
        Reason::SpoofedSource => (plain(), packet(OUTSIDE, POD_B, TCP, &tcp(40_000, 80, SYN)), From::A),
        Reason::MapFull => {
            let limits = Limits { policies: 4, ..Limits::default() };
            let mut bench = Bench::with(judged, Config { limits, ..Config::default() });
            if judged {
                let ports: Vec<_> = (1..100).map(|port| json!({"port": port})).collect();
                bench.policies = vec![policy("two/p", &["Ingress"], json!({"ingress": [{"ports": ports}]}))];
            }
            (bench, to(80), From::AToB)
        }
        Reason::Unparsable => (plain(), packet(POD_A, POD_B, TCP, &tcp(40_000, 80, SYN)[..12]), From::AToB),
        Reason::Fragment => (plain(), packet_with(POD_A, POD_B, UDP, &[0; 24], &[(7, 9)]), From::AToB),
        Reason::TooManyHeaders => (plain(), packet(A6, B6, 60, &options(7, TCP, &tcp(40_000, 80, SYN))), From::AToB),
        Reason::Denied => {
            let mut bench = plain();
            if judged {
                let denial = json!({
                    "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
                    "metadata": {"name": "denial"},
                    "spec": {
                        "tier": "Admin", "priority": 1, "subject": {"namespaces": {}},
                        "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}],
                    },
                });
                bench.policies.push(denial);
            }
            (bench, to(80), From::AToB)
        }
        // Nobody asks for judgement of a pod that nobody knows: the mode does.
        Reason::NotYetKnown => {
            let mode = if judged { Mode::Strict } else { Mode::Standard };
            let mut bench = Bench::with(judged, Config { mode, ..Config::default() });
            bench.forget("two/b", "vb");
            (bench, to(80), From::AToB)
        }
    }
}

#[test]
fn every_reason_has_the_verdict_of_its_row() {
    if !can_run() {
        return;
    }
    for reason in Reason::ALL {
        for judged in [true, false] {
            let (mut bench, packet, from) = case(reason, judged);
            // Where nobody judges, these do not arise.
            let arises =
                judged || !matches!(reason, Reason::Isolated | Reason::MapFull | Reason::Denied | Reason::NotYetKnown);
            let expected = match reason.action(judged) {
                Action::Drop if arises => Err(reason),
                Action::Drop | Action::Pass => Ok(()),
            };
            assert_eq!(bench.verdict(&packet, from), expected, "{reason:?}, judged: {judged}");
        }
    }
}
