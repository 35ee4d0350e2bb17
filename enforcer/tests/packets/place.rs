//! At whose interface a packet is, and whose address it has.

use signalbox_enforcer_common::verdict::Reason;

use crate::{
    bench::{A6, ACK, B6, Bench, From, OUTSIDE6, SYN, TCP, UDP},
    shapes::{packet, tcp, udp},
    support::{OUTSIDE, POD_A, POD_B, can_run},
};

#[test]
fn spoofed_sources_of_both_families_are_dropped_with_and_without_policies() {
    if !can_run() {
        return;
    }
    let spoofed = Err(Reason::SpoofedSource);
    for judged in [true, false] {
        let mut bench = Bench::new(judged);
        // What is not at its own interface, and who it says that it is.
        let mut rows = vec![
            (From::A, "10.244.0.99", POD_B, spoofed),
            (From::A, POD_B, OUTSIDE, spoofed),
            (From::A, "fd00:244::99", B6, spoofed),
            (From::A, B6, OUTSIDE6, spoofed),
            // Link-local talk must stay on the link.
            (From::A, "fe80::5", OUTSIDE6, spoofed),
            (From::A, "::", B6, spoofed),
            (From::Outside, POD_A, POD_B, spoofed),
            (From::Outside, A6, B6, spoofed),
            (From::Outside, OUTSIDE, POD_B, Ok(())),
            (From::Outside, OUTSIDE6, B6, Ok(())),
        ];
        if !judged {
            rows.extend([
                (From::A, POD_A, OUTSIDE, Ok(())),
                (From::A, A6, OUTSIDE6, Ok(())),
                (From::A, "fe80::5", "fe80::1", Ok(())),
            ]);
        }
        for (from, source, destination, expected) in rows {
            let opening = packet(source, destination, TCP, &tcp(40_000, 80, SYN));
            assert_eq!(bench.verdict(&opening, from), expected, "{source} to {destination} by {from:?}");
        }
    }
}

/// A bridge floods what it does not know the place of: the pod that it is not for gets nothing of it, and no flow is made of it.
#[test]
fn what_is_flooded_to_another_pod_is_nobodys_flow() {
    if !can_run() {
        return;
    }
    for (judged, a, outside) in
        [(true, POD_A, OUTSIDE), (true, A6, OUTSIDE6), (false, POD_A, OUTSIDE), (false, A6, OUTSIDE6)]
    {
        let bench = Bench::new(judged);
        // Outside to pod a, at the interface of pod b.
        let flooded = packet(outside, a, UDP, &udp(40_000, 53));
        assert_eq!(bench.run(&flooded, From::OutsideToB).passes, !judged, "{a}");
        let answer = packet(a, outside, UDP, &udp(53, 40_000));
        assert_eq!(bench.run(&answer, From::A).mark, 0, "{a}: no flow was made");
        let own = packet(outside, if a == POD_A { POD_B } else { B6 }, TCP, &tcp(40_000, 80, SYN | ACK));
        assert_eq!(bench.run(&own, From::OutsideToB).passes, !judged, "judged as ever");
    }
}
