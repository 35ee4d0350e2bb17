//! Packets of every shape through the programs, by `BPF_PROG_TEST_RUN`: each row of the table from errors to verdicts, at
//! the programs' entry, where a policy has a word and where none has. SEMANTICS.md, points 19, 20 and 22.

#[path = "support/shapes.rs"]
mod shapes;
mod support;

use aya::maps::{MapData, RingBuf};
use serde_json::{Value, json};
use shapes::{error, ethernet, fragment, ip, network, options, packet, packet_with, sctp, tcp, udp};
use signalbox_enforcer::{
    Config,
    datapath::{Datapath, NodeAddresses, Trial, Way},
};
use signalbox_enforcer_common::{flow::Event, plain, verdict::Reason};
use signalbox_policy::{Cluster, IdentityAllocator};
use support::{Lab, NODE, OUTSIDE, POD_A, POD_B, can_run, pod_ref, policy};

const A6: &str = "fd00:244::2";
const B6: &str = "fd00:244::3";
const OUTSIDE6: &str = "2001:db8::100";
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A node whose pods' packets are made up here.
struct Bench {
    lab: Lab,
    datapath: Datapath,
    /// As the kernel writes them: not every reason and protocol has a word outside.
    events: RingBuf<MapData>,
    identities: IdentityAllocator,
    policies: Vec<Value>,
    changes: u32,
}

/// Where a packet comes from and goes to.
#[derive(Clone, Copy, Debug)]
enum From {
    /// Of pod a, at its own interface.
    A,
    /// Of pod a, at the interface of pod b.
    AToB,
    /// Of pod b, at its own interface.
    B,
    /// Of pod b, at the interface of pod a.
    BToA,
    /// From outside, at the uplink.
    Outside,
    /// From outside, at the interface of pod b.
    OutsideToB,
}

impl Bench {
    /// Pods `one/a` and `two/b` talk on TCP 80, UDP 53 and SCTP 5000 of `two/b`, if `judged`; else no policy speaks of them.
    fn new(judged: bool) -> Self {
        let lab = Lab::new();
        let config = Config {
            node: "n".to_owned(),
            netns: Some(lab.node.path()),
            uplinks: vec!["up0".to_owned()],
            ..Config::default()
        };
        let mut datapath = Datapath::load(&config).unwrap_or_else(|error| panic!("{error:#?}"));
        let (events, _) = datapath.take_events().expect("the object has the ring buffer");
        for (pod, veth) in [("one/a", "va"), ("two/b", "vb")] {
            datapath.bind(pod_ref(pod), lab.node.interface(veth)).unwrap_or_else(|error| panic!("{error:#?}"));
        }
        let addresses = [NODE, "fe80::1"].map(ip).into();
        datapath.set_node(NodeAddresses { addresses, ..NodeAddresses::default() }).expect("written");
        let ports = json!([
            {"port": 80}, {"port": 53, "protocol": "UDP"}, {"port": 5000, "protocol": "SCTP"},
        ]);
        let namespace =
            |name: &str| json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}]);
        let policies = vec![
            policy("one/p", &["Ingress", "Egress"], json!({"egress": [{"to": namespace("two"), "ports": ports}]})),
            policy("two/p", &["Ingress", "Egress"], json!({"ingress": [{"from": namespace("one"), "ports": ports}]})),
        ];
        let policies = if judged { policies } else { Vec::new() };
        let identities = IdentityAllocator::default();
        let mut bench = Self { lab, datapath, events, identities, policies, changes: 0 };
        bench.next_generation();
        bench
    }

    /// Denials of a flow are told once per generation: a rule about an address that nobody has makes another one, where
    /// there are policies.
    fn next_generation(&mut self) {
        self.changes += 1;
        let mut policies = self.policies.clone();
        let nobody = json!([{"ipBlock": {"cidr": format!("203.0.113.{}/32", self.changes)}}]);
        for policy in &mut policies {
            if let Some(rules) = policy["spec"]["egress"].as_array_mut() {
                rules.push(json!({"to": nobody, "ports": [{"port": 9}]}));
            }
        }
        let objects = [namespace("one"), namespace("two"), pod("one", "a", [POD_A, A6]), pod("two", "b", [POD_B, B6])];
        let cluster = Cluster::from_objects(objects.iter().chain(&policies));
        assert_eq!(cluster.unknowns(), &[] as &[String]);
        let before = self.datapath.generation();
        let applied = self.datapath.apply(&cluster.compile_with("n", &mut self.identities)).expect("written");
        assert_eq!(applied.problems, [] as [String; 0]);
        self.datapath.settle().expect("cleared away");
        assert!(policies.is_empty() || self.datapath.generation() != before);
    }

    fn run(&self, packet: &[u8], from: From) -> Trial {
        self.run_marked(packet, from, 0)
    }

    fn run_marked(&self, packet: &[u8], from: From, mark: u32) -> Trial {
        let node = &self.lab.node;
        let [a, b, uplink] = ["va", "vb", "up0"].map(|name| node.interface(name));
        let (program, interface, came_by) = match from {
            From::A => ("from_pod", a, a),
            From::AToB => ("to_pod", b, a),
            From::B => ("from_pod", b, b),
            From::BToA => ("to_pod", a, b),
            From::Outside => ("from_uplink", uplink, uplink),
            From::OutsideToB => ("to_pod", b, uplink),
        };
        let way = Way { program, interface, came_by, mark };
        let trial = node.enter(|| self.datapath.try_packet(packet, way, 1));
        trial.unwrap_or_else(|error| panic!("{error:#?}"))
    }

    /// Whether it passes; if not, the reason that the event has.
    fn verdict(&mut self, packet: &[u8], from: From) -> Result<(), Reason> {
        self.next_generation();
        while self.events.next().is_some() {}
        let passes = self.run(packet, from).passes;
        let event = self.events.next().map(|item| plain::from_bytes::<Event>(&item).expect("a whole event"));
        let reason = event.and_then(|event| Reason::from_byte(event.reason));
        match (passes, reason) {
            (true, None) => Ok(()),
            (false, Some(reason)) => Err(reason),
            other => panic!("{other:?}: what is denied, and nothing else, is told as denied"),
        }
    }
}

fn namespace(name: &str) -> Value {
    let labels = json!({"kubernetes.io/metadata.name": name});
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn pod(namespace: &str, name: &str, [v4, v6]: [&str; 2]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": v4, "podIPs": [{"ip": v4}, {"ip": v6}]},
    })
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
