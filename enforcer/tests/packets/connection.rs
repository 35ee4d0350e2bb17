//! What belongs to a flow, and what only looks like it.

use crate::{
    bench::{A6, ACK, B6, Bench, From, OUTSIDE6, SCTP, SYN, TCP, UDP},
    shapes::{error, network, options, packet, packet_with, sctp, tcp, udp},
    support::{OUTSIDE, POD_A, POD_B, can_run},
};

#[test]
fn errors_about_allowed_flows_pass() {
    if !can_run() {
        return;
    }
    let bench = Bench::new(true);
    for (a, b, outside, icmp, kinds) in
        [(POD_A, POD_B, OUTSIDE, 1, [3_u8, 11, 12]), (A6, B6, OUTSIDE6, 58, [1_u8, 2, 3])]
    {
        let about = network(a, b, TCP, &tcp(41_000, 80, ACK));
        let reply = network(b, a, TCP, &tcp(80, 41_000, ACK));
        for kind in kinds {
            let of_router = packet(outside, a, icmp, &error(kind, &about));
            assert!(!bench.run(&of_router, From::BToA).passes, "{a}: before the flow");
        }
        assert!(bench.run(&packet(a, b, TCP, &tcp(41_000, 80, SYN)), From::AToB).passes);
        for kind in kinds {
            assert!(bench.run(&packet(b, a, icmp, &error(kind, &about)), From::BToA).passes, "{a}, type {kind}");
            assert!(bench.run(&packet(a, b, icmp, &error(kind, &reply)), From::AToB).passes, "{b}, type {kind}");
            // A router on the way says so, too: the error's own source is nobody's business.
            assert!(bench.run(&packet(outside, b, icmp, &error(kind, &reply)), From::OutsideToB).passes, "type {kind}");
            let other = network(a, b, TCP, &tcp(41_001, 80, ACK));
            assert!(!bench.run(&packet(b, a, icmp, &error(kind, &other)), From::BToA).passes, "another port");
        }
    }
}

/// A scan with ACK packets finds nothing and opens nothing.
#[test]
fn an_ack_scan_opens_nothing() {
    if !can_run() {
        return;
    }
    let bench = Bench::new(true);
    for (a, b, outside) in [(POD_A, POD_B, OUTSIDE), (A6, B6, OUTSIDE6)] {
        for port in [22, 80, 443, 9000] {
            let scan = packet(outside, b, TCP, &tcp(50_000, port, ACK));
            let arrived = bench.run(&scan, From::Outside);
            assert!(arrived.passes, "the uplink delivers nothing by itself");
            assert!(!bench.run_marked(&scan, From::OutsideToB, arrived.mark).passes, "{outside} to {b}:{port}");
            // Had it left an entry, the answer would be a reply.
            let answer = packet(b, outside, TCP, &tcp(port, 50_000, ACK));
            assert_eq!(bench.run(&answer, From::B).mark, 0, "{b}:{port} to {outside}");
            let opening = packet(outside, b, TCP, &tcp(50_000, port, SYN));
            assert!(!bench.run(&opening, From::OutsideToB).passes, "{outside} to {b}:{port}");
        }
        // From a pod that may use 80 only.
        for port in [22, 443] {
            let scan = packet(a, b, TCP, &tcp(50_000, port, ACK));
            let sent = bench.run(&scan, From::A);
            assert!(!bench.run_marked(&scan, From::AToB, sent.mark).passes, "{a} to {b}:{port}");
            let answer = packet(b, a, TCP, &tcp(port, 50_000, ACK));
            assert_eq!(bench.run(&answer, From::B).mark, 0);
            assert!(!bench.run(&answer, From::BToA).passes, "{b}:{port} to {a}");
        }
    }
}

/// A port that is used again is a new connection, whatever the table remembers of the one before.
#[test]
fn a_port_that_is_used_again_is_judged_again() {
    if !can_run() {
        return;
    }
    let bench = Bench::new(true);
    for (a, b) in [(POD_A, POD_B), (A6, B6)] {
        let there = |flags: u8| packet(a, b, TCP, &tcp(42_000, 80, flags));
        let back = |flags: u8| packet(b, a, TCP, &tcp(80, 42_000, flags));
        assert!(!bench.run(&back(ACK), From::BToA).passes, "no connection yet");
        assert!(bench.run(&there(SYN), From::AToB).passes);
        assert!(bench.run(&there(ACK), From::AToB).passes && bench.run(&back(SYN | ACK), From::BToA).passes);
        assert_ne!(bench.run(&back(ACK), From::B).mark, 0, "a reply");
        // The other side opens a connection between the very same ports: nobody allows that.
        assert!(!bench.run(&back(SYN), From::BToA).passes, "{b} to {a}");
        assert_eq!(bench.run(&back(SYN), From::B).mark, 0, "no reply");
        // From another interface than its own: no part of the flow.
        assert_eq!(bench.run(&back(ACK), From::Outside).mark, 0);
        // The first one again.
        assert!(bench.run(&there(SYN), From::AToB).passes && bench.run(&back(ACK), From::BToA).passes);
    }
}

/// Packets of the usual shape go a shorter way through the programs than those with options or extension headers: both must
/// come to the same.
#[test]
fn the_short_way_says_what_the_long_way_says() {
    if !can_run() {
        return;
    }
    for (a, b) in [(POD_A, POD_B), (A6, B6)] {
        let mut bench = Bench::new(true);
        let shape = |long: bool, from: &str, to: &str, protocol: u8, rest: &[u8]| match (long, from.contains(':')) {
            (false, _) => packet(from, to, protocol, rest),
            (true, true) => packet(from, to, 60, &options(1, protocol, rest)),
            (true, false) => packet_with(from, to, protocol, &[&[1, 1, 1, 0], rest].concat(), &[(0, 0x46)]),
        };
        let mut answers = |long: bool| {
            bench.next_generation();
            let port = if long { 43_000 } else { 44_000 };
            let there = |flags| shape(long, a, b, TCP, &tcp(port, 80, flags));
            let back = |flags| shape(long, b, a, TCP, &tcp(80, port, flags));
            let ask = shape(long, a, b, UDP, &udp(port, 53));
            let tell = shape(long, b, a, UDP, &udp(53, port));
            let say = shape(long, a, b, SCTP, &sctp(port, 5000));
            let mut all = Vec::new();
            let mut round = |bench: &Bench, opening: bool| {
                if opening {
                    bench.run(&there(SYN), From::AToB);
                    bench.run(&ask, From::AToB);
                    bench.run(&say, From::AToB);
                }
                let places = [
                    (there(ACK), From::A),
                    (there(ACK), From::AToB),
                    (back(ACK), From::B),
                    (back(ACK), From::BToA),
                    (back(SYN | ACK), From::B),
                    (there(ACK), From::Outside),
                    (back(SYN), From::BToA),
                    (ask.clone(), From::A),
                    (ask.clone(), From::AToB),
                    (tell.clone(), From::B),
                    (tell.clone(), From::BToA),
                    (say.clone(), From::AToB),
                ];
                all.push(places.map(|(packet, from)| bench.run(&packet, from)).map(|trial| (trial.passes, trial.mark)));
            };
            round(&bench, false);
            round(&bench, true);
            round(&bench, false);
            bench.next_generation();
            round(&bench, false);
            // The rules go, and come back: what was cut is judged anew.
            let rules = std::mem::take(&mut bench.policies[1]["spec"]["ingress"]);
            bench.next_generation();
            round(&bench, false);
            round(&bench, false);
            bench.policies[1]["spec"]["ingress"] = rules;
            bench.next_generation();
            round(&bench, false);
            all
        };
        let (short, long) = (answers(false), answers(true));
        assert_eq!(short, long, "{a} and {b}");
        let of = |round: usize, at: usize| short[round][at];
        assert!(of(2, 3).0 && !of(5, 1).0 && of(6, 1).0, "known, cut, allowed again: {short:?}");
        assert!(
            of(2, 2).1 != 0 && of(2, 9).1 != 0 && of(4, 2).1 == 0,
            "replies are marked while a flow lives: {short:?}"
        );
    }
}
