//! What a packet is by its headers, and what cannot be read.

use signalbox_enforcer_common::verdict::Reason;

use crate::{
    bench::{A6, ACK, B6, Bench, From, SCTP, SYN, TCP, UDP},
    shapes::{error, ethernet, fragment, network, options, packet, packet_with, sctp, tcp, udp},
    support::{POD_A, POD_B, can_run},
};

/// There is room to spare: a change that doubles what the verifier has to follow is noticed before a kernel refuses it.
#[test]
fn the_verifier_accepts_the_programs_with_room_to_spare() {
    if !can_run() {
        return;
    }
    let bench = Bench::new(false);
    let counts = bench.datapath.verified_instructions().expect("the kernel tells");
    println!("{counts:?}");
    assert!(counts.len() >= 4, "kernels since 5.16 tell it for each program: {counts:?}");
    for (program, count) in counts {
        assert!(count <= 500_000, "{program}: the verifier looked at {count} instructions of at most 1,000,000");
    }
}

#[test]
fn what_cannot_be_read_is_denied_where_a_policy_speaks_and_nowhere_else() {
    if !can_run() {
        return;
    }
    let (mut judged, mut open) = (Bench::new(true), Bench::new(false));
    let rows = unreadable();
    for (what, packet, reason) in &rows {
        assert_eq!(judged.verdict(packet, From::AToB), Err(*reason), "{what}, for a judged pod");
        assert_eq!(open.verdict(packet, From::AToB), Ok(()), "{what}, for a pod that nobody judges");
        // A later fragment is judged where it is delivered: not at its sender's interface.
        let expected = if *reason == Reason::Fragment { Ok(()) } else { Err(*reason) };
        assert_eq!(judged.verdict(packet, From::A), expected, "{what}, of a judged pod");
        assert_eq!(open.verdict(packet, From::A), Ok(()), "{what}, of a pod that nobody judges");
    }
    println!("{} shapes, each in four places", rows.len());
}

#[test]
fn headers_of_every_shape_are_judged_by_what_they_say() {
    if !can_run() {
        return;
    }
    let mut bench = Bench::new(true);
    let with_options = |port: u16| {
        let mut rest = vec![1, 1, 1, 0];
        rest.extend(udp(40_000, port));
        packet_with(POD_A, POD_B, UDP, &rest, &[(0, 0x46)])
    };
    let in_chain = |count: usize, port: u16| packet(A6, B6, 60, &options(count, TCP, &tcp(40_000, port, SYN)));
    let authenticated = |port: u16| {
        let mut rest = vec![TCP, 4, 0, 0];
        rest.extend([0; 20]);
        rest.extend(tcp(40_000, port, SYN));
        packet(A6, B6, 51, &rest)
    };
    let denied = Err(Reason::Isolated);
    let neighbour = |kind: u8| packet(A6, B6, 58, &[kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let rows: Vec<(&str, Vec<u8>, Result<(), Reason>)> = vec![
        ("IPv4 options, an allowed port", with_options(53), Ok(())),
        ("IPv4 options, another port", with_options(54), denied),
        ("five extension headers, an allowed port", in_chain(5, 80), Ok(())),
        ("five extension headers, another port", in_chain(5, 81), denied),
        ("an authentication header, an allowed port", authenticated(80), Ok(())),
        ("an authentication header, another port", authenticated(81), denied),
        ("SCTP, an allowed port", packet(POD_A, POD_B, SCTP, &sctp(40_000, 5000)), Ok(())),
        ("SCTP, another port", packet(POD_A, POD_B, SCTP, &sctp(40_000, 80)), denied),
        ("SCTP over IPv6, an allowed port", packet(A6, B6, SCTP, &sctp(40_000, 5000)), Ok(())),
        ("SCTP over IPv6, another port", packet(A6, B6, SCTP, &sctp(40_000, 80)), denied),
        ("TCP on a port that is SCTP's", packet(POD_A, POD_B, TCP, &tcp(40_000, 5000, SYN)), denied),
        ("a protocol without ports", packet(POD_A, POD_B, 47, &[0; 8]), denied),
        ("a next header that nobody knows", packet(A6, B6, 253, &[0; 8]), denied),
        ("no next header", packet(A6, B6, 59, &[]), denied),
        ("an echo request", packet(POD_A, POD_B, 1, &[8, 0, 0, 0, 0, 1, 0, 1]), denied),
        ("an IPv6 echo request", packet(A6, B6, 58, &[128, 0, 0, 0, 0, 1, 0, 1]), denied),
        ("an error about no flow", packet(POD_A, POD_B, 1, &error(3, &network(POD_B, POD_A, UDP, &udp(1, 2)))), denied),
        ("an IPv6 error about no flow", packet(A6, B6, 58, &error(1, &network(B6, A6, UDP, &udp(1, 2)))), denied),
        ("address resolution", [ethernet(0x0806), vec![0; 28]].concat(), Ok(())),
        ("a neighbour's solicitation", neighbour(135), Ok(())),
        ("a neighbour's advertisement", neighbour(136), Ok(())),
        ("a router's advertisement", neighbour(134), Ok(())),
        ("a listener's report", neighbour(143), Ok(())),
    ];
    for (what, packet, expected) in rows {
        assert_eq!(bench.verdict(&packet, From::AToB), expected, "{what}");
    }
}

#[test]
fn later_fragments_follow_their_first() {
    if !can_run() {
        return;
    }
    let mut bench = Bench::new(true);
    // Identification and flags in the IPv4 header; the first says that more follow.
    let v4 = |id: u8, offset: u8, more: bool, rest: &[u8]| {
        packet_with(POD_A, POD_B, UDP, rest, &[(5, id), (6, if more { 0x20 } else { 0 }), (7, offset)])
    };
    let v6 = |id: u8, offset: u16, more: bool, rest: &[u8]| {
        let mut rest = fragment(UDP, offset, more, rest);
        rest[7] = id;
        packet(A6, B6, 44, &rest)
    };
    let refused = Err(Reason::Fragment);
    for (family, allowed, denied, other) in [
        (
            "IPv4",
            [v4(1, 0, true, &udp(40_000, 53)), v4(1, 2, true, &[0; 16]), v4(1, 4, false, &[0; 16])],
            [v4(2, 0, true, &udp(40_000, 54)), v4(2, 2, true, &[0; 16]), v4(2, 4, false, &[0; 16])],
            v4(3, 2, false, &[0; 16]),
        ),
        (
            "IPv6",
            [v6(1, 0, true, &udp(40_000, 53)), v6(1, 16, true, &[0; 16]), v6(1, 32, false, &[0; 16])],
            [v6(2, 0, true, &udp(40_000, 54)), v6(2, 16, true, &[0; 16]), v6(2, 32, false, &[0; 16])],
            v6(3, 16, false, &[0; 16]),
        ),
    ] {
        assert_eq!(bench.verdict(&allowed[1], From::AToB), refused, "{family}: before its first");
        for part in &allowed {
            assert_eq!(bench.verdict(part, From::AToB), Ok(()), "{family}: of a datagram that is allowed");
        }
        assert_eq!(bench.verdict(&denied[0], From::AToB), Err(Reason::Isolated), "{family}");
        for part in &denied[1..] {
            assert_eq!(bench.verdict(part, From::AToB), refused, "{family}: of a datagram that is denied");
        }
        assert_eq!(bench.verdict(&other, From::AToB), refused, "{family}: of another datagram");
    }
}

/// What nobody can judge, and the reason that is given. An outer IP header that is cut short cannot be run by hand, since the
/// kernel refuses such a packet; the same reads find it in the packet that an ICMP error is about.
fn unreadable() -> Vec<(&'static str, Vec<u8>, Reason)> {
    let (a, b) = (POD_A, POD_B);
    let allowed = tcp(40_000, 80, SYN);
    let inner = network(b, a, TCP, &tcp(80, 40_000, ACK));
    let bad_inner = |at: usize, byte: u8| {
        let mut inner = inner.clone();
        inner[at] = byte;
        packet(a, b, 1, &error(3, &inner))
    };
    let tagged = [ethernet(0x8100), vec![0, 5, 0x08, 0x00], network(a, b, TCP, &allowed)].concat();
    let ok6 = packet(A6, B6, TCP, &allowed);
    let inner6 = network(B6, A6, TCP, &tcp(80, 40_000, ACK));
    let mut version6 = ok6.clone();
    version6[14] = 0x40;
    vec![
        ("a header length below 20", packet_with(a, b, TCP, &allowed, &[(0, 0x44)]), Reason::Unparsable),
        ("IPv6's version behind IPv4's type", packet_with(a, b, TCP, &allowed, &[(0, 0x65)]), Reason::Unparsable),
        ("options longer than the packet", packet_with(a, b, UDP, &udp(40_000, 53), &[(0, 0x4f)]), Reason::Unparsable),
        ("a TCP header cut short", packet(a, b, TCP, &allowed[..12]), Reason::Unparsable),
        ("UDP ports cut short", packet(a, b, UDP, &udp(40_000, 53)[..3]), Reason::Unparsable),
        ("SCTP ports cut short", packet(a, b, SCTP, &sctp(40_000, 5000)[..2]), Reason::Unparsable),
        ("an ICMP header cut short", packet(a, b, 1, &[8, 0, 0, 0]), Reason::Unparsable),
        ("an ICMP error about a header cut short", packet(a, b, 1, &error(3, &inner[..12])), Reason::Unparsable),
        ("an ICMP error about ports cut short", packet(a, b, 1, &error(3, &inner[..22])), Reason::Unparsable),
        ("an ICMP error about a later fragment", bad_inner(7, 9), Reason::Unparsable),
        ("an ICMP error about a header that contradicts itself", bad_inner(0, 0x41), Reason::Unparsable),
        ("a later fragment whose first was not seen", packet_with(a, b, UDP, &[0; 24], &[(7, 9)]), Reason::Fragment),
        ("a VLAN tag", tagged, Reason::Unparsable),
        ("a type that nobody here reads", [ethernet(0x88cc), vec![0; 40]].concat(), Reason::Unparsable),
        ("IPv4's version behind IPv6's type", version6, Reason::Unparsable),
        ("an IPv6 TCP header cut short", packet(A6, B6, TCP, &allowed[..12]), Reason::Unparsable),
        ("an extension header cut short", packet(A6, B6, 60, &[TCP]), Reason::Unparsable),
        ("an extension header that leads out of the packet", packet(A6, B6, 60, &[TCP, 200, 1, 4]), Reason::Unparsable),
        ("a fragment header cut short", packet(A6, B6, 44, &[UDP, 0, 0]), Reason::Unparsable),
        ("an authentication header that leads out", packet(A6, B6, 51, &[TCP, 90, 0, 0]), Reason::Unparsable),
        ("too many extension headers", packet(A6, B6, 60, &options(7, TCP, &allowed)), Reason::TooManyHeaders),
        ("a later IPv6 fragment", packet(A6, B6, 44, &fragment(UDP, 8, false, &[0; 24])), Reason::Fragment),
        ("an ICMPv6 error about a header cut short", packet(A6, B6, 58, &error(1, &inner6[..39])), Reason::Unparsable),
        ("an ICMPv6 error about ports cut short", packet(A6, B6, 58, &error(1, &inner6[..42])), Reason::Unparsable),
    ]
}
