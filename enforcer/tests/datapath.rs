//! The datapath in a real kernel, between real namespaces.

#[path = "support/calls.rs"]
mod calls;
#[path = "support/shapes.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod shapes;
mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::Instant;

use serde_json::json;
use signalbox_api::flow::{Decision, Direction, IpProtocol, Protocol};
use signalbox_enforcer::{AttachPreference, datapath::Way};
use support::{
    Echo, Gate, Lab, NODE, OUTSIDE, POD_A, POD_B, SERVICE, SERVICE_V6, Space, can_run, echo, echo_soon,
    faults::load::Server, policy,
};

/// Namespaces with servers on 9000 in each, and a gate.
fn set_up(attach: AttachPreference) -> (Lab, Vec<Echo>, Gate) {
    let lab = Lab::new();
    let servers = [&lab.a, &lab.b, &lab.outside, &lab.node].map(|space: &Space| Echo::new(space, 9000));
    let gate = Gate::new(&lab, attach);
    (lab, servers.into(), gate)
}

#[test]
fn without_policies_everything_is_open() {
    if !can_run() {
        return;
    }
    let (lab, _servers, mut gate) = set_up(AttachPreference::Auto);
    assert!(lab.a.reaches(POD_B, 9000));
    assert!(lab.a.reaches(OUTSIDE, 9000));
    assert!(lab.outside.reaches(POD_A, 9000));
    assert!(lab.node.reaches(POD_A, 9000));
    assert!(lab.a.reaches(NODE, 9000));
    assert!(lab.a.reaches("fd00:244::3", 9000));
    assert!(lab.a.reaches_udp(POD_B, 9000));
    let event = gate.allowance(9000);
    assert_eq!((event.source_pod.as_deref(), event.destination_pod.as_deref()), (Some("one/a"), Some("two/b")));
    assert_eq!((event.rule, event.protocol), (None, Protocol::Tcp.into()));
}

#[test]
fn isolation_denies_and_names_the_policy() {
    if !can_run() {
        return;
    }
    let (lab, _servers, mut gate) = set_up(AttachPreference::Auto);
    gate.policies(&[policy("two/shut", &["Ingress"], json!({}))]);
    let began = Instant::now();
    let watcher = std::thread::spawn(move || {
        let event = gate.denial(9000);
        (event, Instant::now(), gate)
    });
    assert!(!lab.a.reaches(POD_B, 9000));
    let (event, told, gate) = watcher.join().expect("the event comes");
    println!("connect to event: {:?}", told - began);
    assert_eq!(event.direction, Some(Direction::Ingress));
    assert_eq!(event.isolated_by[0].to_string(), "two/shut");
    assert_eq!(event.source_pod.as_deref(), Some("one/a"));
    assert_eq!(event.reason, None);
    assert!(!lab.outside.reaches(POD_B, 9000));
    assert!(!lab.a.reaches("fd00:244::3", 9000), "IPv6 alike");
    // SEMANTICS.md, point 13: its node always reaches a pod. And what b opens is answered.
    assert!(lab.node.reaches(POD_B, 9000));
    assert!(lab.b.reaches(POD_A, 9000));
    let counts = gate.counts();
    let count = counts.iter().find(|count| count.source == "one/a" && count.destination == "two/b" && count.denied > 0);
    assert!(count.is_some_and(|count| count.allowed == 0 && count.port == 9000), "{counts:#?}");
}

#[test]
fn egress_isolation_denies_pods_the_outside_and_the_node() {
    if !can_run() {
        return;
    }
    let (lab, _servers, mut gate) = set_up(AttachPreference::Auto);
    gate.policies(&[policy("one/shut", &["Egress"], json!({}))]);
    for to in [POD_B, OUTSIDE, NODE] {
        assert!(!lab.a.reaches(to, 9000), "{to}");
        let event = gate.event(|event| event.decision == Decision::Denied && event.destination.ip().to_string() == to);
        assert_eq!(event.direction, Some(Direction::Egress));
        assert_eq!(event.isolated_by[0].to_string(), "one/shut");
    }
    // Replies need no rule.
    assert!(lab.node.reaches(POD_A, 9000));
    assert!(lab.outside.reaches(POD_A, 9000));
    assert!(lab.b.reaches(POD_A, 9000));
}

#[test]
fn rules_allow_and_are_named() {
    if !can_run() {
        return;
    }
    let (lab, _servers, mut gate) = set_up(AttachPreference::Auto);
    let from_one = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "one"}}});
    gate.policies(&[policy(
        "two/some",
        &["Ingress"],
        json!({"ingress": [
            {"from": [{"ipBlock": {"cidr": "198.51.100.0/24", "except": ["198.51.100.64/26"]}}]},
            {"from": [from_one], "ports": [{"port": 8999, "endPort": 9003}]},
        ]}),
    )]);
    assert!(lab.a.reaches(POD_B, 9000));
    let rule = gate.allowance(9000).rule.expect("a rule allows");
    assert_eq!(rule.to_string(), "two/some ingress[1].from[0]");
    assert!(!lab.a.reaches_udp(POD_B, 9000), "the range is TCP's");
    assert!(!lab.outside.reaches(POD_B, 9000), "an exception of the block");
    gate.policies(&[policy(
        "two/some",
        &["Ingress"],
        json!({"ingress": [{"from": [{"ipBlock": {"cidr": "198.51.100.100/32"}}], "ports": [{"port": "web"}]}]}),
    )]);
    assert!(lab.outside.reaches(POD_B, 9000), "a named port");
    assert!(!lab.a.reaches(POD_B, 9000));
}

/// SEMANTICS.md, point 17.
#[test]
fn a_removed_rule_cuts_and_a_kept_one_does_not() {
    if !can_run() {
        return;
    }
    let (lab, _servers, mut gate) = set_up(AttachPreference::Auto);
    let from = |namespace: &str| json!({"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}]});
    let outside = json!({"from": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]});
    let patience = std::time::Duration::from_secs(1);
    gate.policies(&[policy("two/p", &["Ingress"], json!({"ingress": [from("one"), outside]}))]);
    let mut cut = lab.a.connect(POD_B, 9000, patience).expect("the rule allows it");
    let mut kept = lab.outside.connect(POD_B, 9000, patience).expect("the rule allows it");
    assert!(echo(&mut cut) && echo(&mut kept));
    for round in 0..3 {
        let unrelated = policy(&format!("one/p{round}"), &["Ingress"], json!({"ingress": [{}]}));
        gate.policies(&[policy("two/p", &["Ingress"], json!({"ingress": [from("one"), outside]})), unrelated]);
        assert!(echo_soon(&mut cut) && echo_soon(&mut kept), "survives generation {round}");
    }
    gate.policies(&[policy("two/p", &["Ingress"], json!({"ingress": [outside]}))]);
    assert!(!echo_soon(&mut cut), "its rule is gone");
    let event = gate.denial(9000);
    assert_eq!(event.isolated_by[0].to_string(), "two/p");
    assert!(echo_soon(&mut kept), "its rule is still there");
    gate.policies(&[
        policy("one/other", &["Ingress"], json!({})),
        policy("two/p", &["Ingress"], json!({"ingress": [outside]})),
    ]);
    assert!(!echo_soon(&mut cut), "stays cut, although it would pass for a reply");
    assert!(echo_soon(&mut kept));
}

/// SEMANTICS.md, point 11.
#[test]
fn a_service_is_judged_on_the_port_of_its_backend() {
    if !can_run() {
        return;
    }
    let (lab, _servers, mut gate) = set_up(AttachPreference::Auto);
    lab.translate();
    assert!(lab.a.reaches(SERVICE, 80));
    let event = gate.allowance(9000);
    assert_eq!(event.destination.to_string(), format!("{POD_B}:9000"));
    for (port, open) in [(80, false), (9000, true)] {
        gate.policies(&[
            policy("one/out", &["Ingress", "Egress"], json!({"egress": [{"ports": [{"port": port}]}]})),
            policy("two/in", &["Ingress", "Egress"], json!({"ingress": [{"ports": [{"port": port}]}]})),
        ]);
        assert_eq!(lab.a.reaches(SERVICE, 80), open, "egress from a pod, port {port}");
        assert_eq!(lab.outside.reaches(SERVICE, 80), open, "ingress from outside, port {port}");
        assert_eq!(lab.a.reaches(SERVICE_V6, 80), open, "the same over IPv6, port {port}");
        assert_eq!(lab.outside.reaches(SERVICE_V6, 80), open, "the same over IPv6, port {port}");
    }
    for (port, open) in [(80, false), (9000, true)] {
        let ports = json!([{"port": port, "protocol": "UDP"}]);
        gate.policies(&[
            policy("one/out", &["Ingress", "Egress"], json!({"egress": [{"ports": ports}]})),
            policy("two/in", &["Ingress", "Egress"], json!({"ingress": [{"ports": ports}]})),
        ]);
        for to in [SERVICE, SERVICE_V6] {
            assert_eq!(lab.a.reaches_udp(to, 80), open, "UDP to {to}, port {port}");
            assert_eq!(lab.outside.reaches_udp(to, 80), open, "UDP from outside to {to}, port {port}");
            assert!(!lab.a.reaches(to, 80), "TCP is another protocol");
        }
    }
    gate.policies(&[policy("two/in", &["Ingress"], json!({"ingress": [{"ports": [{"port": 9000}]}]}))]);
    let patience = std::time::Duration::from_secs(1);
    let mut stream = lab.a.connect(SERVICE, 80, patience).expect("open");
    assert!(echo(&mut stream));
    gate.policies(&[policy("two/in", &["Ingress"], json!({}))]);
    assert!(!echo_soon(&mut stream), "a translated flow is cut as well");
}

#[test]
fn spoofed_sources_are_dropped() {
    if !can_run() {
        return;
    }
    let (lab, _servers, mut gate) = set_up(AttachPreference::Auto);
    lab.a.run("ip addr add 10.244.0.99/32 dev lo");
    lab.outside.run(&format!("ip addr add {POD_A}/32 dev lo"));
    let send = |space: &Space, from: &str| {
        let socket = space.enter(|| std::net::UdpSocket::bind((from, 0))).expect("a socket");
        socket.send_to(b"x", (POD_B, 9000)).expect("the route exists");
    };
    send(&lab.a, "10.244.0.99");
    let event = gate.denial(9000);
    assert_eq!(event.reason.as_deref(), Some("spoofed-source"));
    assert_eq!(event.source_pod.as_deref(), Some("one/a"));
    lab.node.enter(|| std::fs::write("/proc/sys/net/ipv4/conf/up0/rp_filter", "0")).expect("a setting");
    send(&lab.outside, POD_A);
    let event = gate.denial(9000);
    assert_eq!((event.reason.as_deref(), event.source_pod), (Some("spoofed-source"), None));
}

#[test]
fn connections_older_than_the_enforcer_live_on_where_policy_allows() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let _servers = [&lab.a, &lab.b, &lab.outside].map(|space: &Space| Echo::new(space, 9000));
    // The kernel opens a fresh veth's queue within a second, and drops until then.
    let patience = std::time::Duration::from_secs(5);
    let mut allowed = lab.a.connect(POD_B, 9000, patience).expect("nobody enforces");
    let mut denied = lab.outside.connect(POD_B, 9000, patience).expect("nobody enforces");
    assert!(echo(&mut allowed) && echo(&mut denied));
    let mut gate = Gate::new(&lab, AttachPreference::Auto);
    let from_one = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "one"}}});
    gate.policies(&[
        policy("one/shut", &["Ingress"], json!({})),
        policy("two/some", &["Ingress", "Egress"], json!({"ingress": [{"from": [from_one]}]})),
    ]);
    assert!(echo_soon(&mut allowed), "its replies reach an isolated pod");
    // Without isolation of b's egress it could be a reply of something that b opened, and would be let pass.
    assert!(!echo_soon(&mut denied));
}

/// Its first packet that the enforcer sees comes from the other end: whoever takes that for the one who opened it cuts it when the
/// pod's ingress is shut. A watch that a server has on its cluster is such a connection: it opens it as soon as it runs, and then only hears.
#[test]
fn a_connection_that_nobody_saw_being_opened_is_cut_only_where_neither_end_may_open_it() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let listener = lab.outside.enter(|| std::net::TcpListener::bind((OUTSIDE, 9100))).expect("a free port");
    let patience = std::time::Duration::from_secs(5);
    let mut pod = lab.a.connect(OUTSIDE, 9100, patience).expect("nobody enforces");
    let (mut other, _) = listener.accept().expect("it was opened");
    let mut hears = |text: &[u8; 1]| {
        pod.set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("a time-out");
        let mut read = [0];
        other.write_all(text).is_ok() && pod.read_exact(&mut read).is_ok() && read == *text
    };
    let mut gate = Gate::new(&lab, AttachPreference::Auto);
    assert!(hears(b"1"), "no policy is there");
    gate.policies(&[policy("one/shut", &["Ingress"], json!({}))]);
    assert!(hears(b"2"), "the pod may have opened it: its egress is open");
    gate.policies(&[policy("one/shut", &["Ingress"], json!({})), policy("two/other", &["Ingress"], json!({}))]);
    assert!(hears(b"3"), "and in the next generation");
    gate.policies(&[policy("one/shut", &["Ingress", "Egress"], json!({}))]);
    assert!(!hears(b"4"), "neither end may have opened it");
}

/// SEMANTICS.md, points 19 and 22.
#[test]
fn icmp_and_fragments() {
    if !can_run() {
        return;
    }
    let (lab, _servers, mut gate) = set_up(AttachPreference::Auto);
    let pings = |space: &Space, to: &str| space.pings(to);
    let sends_large = |space: &Space, to: &str| {
        let socket = space.enter(|| std::net::UdpSocket::bind("0.0.0.0:0")).expect("a socket");
        socket.set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("a time-out");
        socket.send_to(&[0; 2000], (to, 9000)).expect("a route") == 2000 && socket.recv_from(&mut [0; 16]).is_ok()
    };
    assert!(pings(&lab.a, POD_B) && sends_large(&lab.a, POD_B));
    gate.policies(&[policy(
        "two/web",
        &["Ingress"],
        json!({"ingress": [{"ports": [{"port": 9000, "protocol": "UDP"}]}]}),
    )]);
    assert!(!pings(&lab.a, POD_B), "a rule with ports allows no ICMP");
    let event = gate.event(|event| event.protocol == IpProtocol::Icmp && event.decision == Decision::Denied);
    assert_eq!(event.isolated_by[0].to_string(), "two/web", "{event:?}");
    assert_eq!((event.source_pod.as_deref(), event.destination_pod.as_deref()), (Some("one/a"), Some("two/b")));
    let request = shapes::packet("fd00:244::2", "fd00:244::3", 58, &[128, 0, 0, 0, 0x12, 0x34, 0, 1]);
    let (came_by, interface) = (lab.node.interface("va"), lab.node.interface("vb"));
    let way = Way { program: "to_pod", interface, came_by, mark: 0 };
    let trial = lab.node.enter(|| gate.datapath.try_packet(&request, way, 1)).expect("it runs");
    assert!(!trial.passes);
    gate.event(|event| event.protocol == IpProtocol::Icmpv6 && event.decision == Decision::Denied);
    let counts = gate.counts();
    for protocol in [IpProtocol::Icmp, IpProtocol::Icmpv6] {
        let mut rows = counts.iter().filter(|count| count.protocol == protocol && count.denied == 1);
        let row = rows.next().unwrap_or_else(|| panic!("{protocol} is counted: {counts:#?}"));
        assert_eq!((row.source.as_str(), row.destination.as_str(), row.port), ("one/a", "two/b", 0));
    }
    assert!(pings(&lab.node, POD_B), "the node does");
    assert!(pings(&lab.b, POD_A), "echo replies are replies");
    assert!(sends_large(&lab.a, POD_B), "later fragments follow the first");
    gate.policies(&[policy("two/any", &["Ingress"], json!({"ingress": [{}]}))]);
    assert!(pings(&lab.a, POD_B));
    gate.policies(&[policy("two/shut", &["Ingress"], json!({}))]);
    assert!(!sends_large(&lab.a, POD_B));
    // An error about an allowed flow comes back: b asks a port where nobody listens.
    let socket = lab.b.enter(|| std::net::UdpSocket::bind("0.0.0.0:0")).expect("a socket");
    socket.set_read_timeout(Some(std::time::Duration::from_secs(1))).expect("a time-out");
    socket.connect((POD_A, 9999)).expect("an address");
    socket.send(b"x").expect("a route");
    let error = socket.recv(&mut [0; 1]).expect_err("nobody listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn policies_that_do_not_fit_deny_and_say_so() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let _servers = [&lab.a, &lab.b].map(|space: &Space| Echo::new(space, 9000));
    let limits = signalbox_enforcer::Limits { policies: 16, ..Default::default() };
    let mut gate = Gate::with(&lab, AttachPreference::Auto, limits);
    let ports: Vec<_> = (9000..9100).map(|port| json!({"port": port})).collect();
    let large = policy("two/large", &["Ingress"], json!({"ingress": [{"ports": ports}]}));
    let applied = gate.policies(&[large]);
    assert!(applied.problems.iter().any(|problem| problem.starts_with("two/b: ")), "{applied:?}");
    assert!(!lab.a.reaches(POD_B, 9000));
    assert_eq!(gate.denial(9000).reason.as_deref(), Some("map-full"));
    assert!(lab.b.reaches(POD_A, 9000), "nobody else suffers");
    let applied =
        gate.policies(&[policy("two/small", &["Ingress"], json!({"ingress": [{"ports": [{"port": 9000}]}]}))]);
    assert_eq!(applied.problems, [] as [String; 0]);
    assert!(lab.a.reaches(POD_B, 9000));
}

/// What comes and goes at once takes some calls of the kernel, not one for each entry.
#[test]
fn a_bulk_load_is_written_in_batches() {
    const UPDATE: u32 = 2;
    const DELETE: u32 = 3;
    const UPDATE_BATCH: u32 = 26;
    const DELETE_BATCH: u32 = 27;
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let mut gate = Gate::new(&lab, AttachPreference::Auto);
    let elsewhere = (0..3000).map(|at| {
        let address = format!("10.245.{}.{}", at / 250, at % 250 + 1);
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "two", "name": format!("p{at}"), "labels": {"app": format!("a{at}")}},
            "spec": {"nodeName": "m", "containers": [{"name": "c"}]},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
        })
    });
    // 1,000 ports, 1,000 ranges of ports, 1,000 blocks: with the pods each of the large tables gets its share.
    let single = (0..1000).map(|at| json!({"port": 2000 + 7 * at}));
    let ranges = (0..1000).map(|at| json!({"port": 20_000 + 4 * at, "endPort": 20_001 + 4 * at, "protocol": "UDP"}));
    let blocks = (0..1000).map(|at| json!({"ipBlock": {"cidr": format!("172.16.{}.{}/32", at / 250, at % 250)}}));
    let (ports, blocks): (Vec<_>, Vec<_>) = (single.chain(ranges).collect(), blocks.collect());
    let ingress = json!({"ingress": [{"ports": ports}, {"from": blocks, "ports": [{"port": 80}]}]});
    let all: Vec<_> = elsewhere.chain([policy("two/bulk", &["Ingress"], ingress)]).collect();
    let calls_for = |gate: &mut Gate, objects: &[serde_json::Value]| {
        let calls = calls::Calls::of("bulk-load");
        std::thread::scope(|scope| {
            let load = || {
                assert_eq!(gate.policies(objects).problems, [] as [String; 0]);
                gate.datapath.settle().expect("the kernel takes it");
            };
            std::thread::Builder::new().name("bulk-load".to_owned()).spawn_scoped(scope, load).expect("a thread");
        });
        calls.by_command()
    };
    let of = |calls: &BTreeMap<u32, usize>, command: u32| calls.get(&command).copied().unwrap_or_default();
    let comes = calls_for(&mut gate, &all);
    let entries = gate.datapath.policy_entries().expect("the kernel tells");
    let goes = calls_for(&mut gate, &[]);
    println!("{entries} entries of policy, 3,000 addresses, 1,000 blocks: {comes:?}, {goes:?}");
    assert!(entries >= 2000, "{entries}");
    assert!((4..40).contains(&of(&comes, UPDATE_BATCH)), "{comes:?}");
    assert!((3..40).contains(&of(&goes, DELETE_BATCH)), "{goes:?}");
    assert!(
        of(&comes, UPDATE) + of(&goes, UPDATE) + of(&comes, DELETE) + of(&goes, DELETE) < 40,
        "{comes:?}, {goes:?}"
    );
}

/// Nothing raised the limit that the status said to raise, and it named no pod.
#[test]
fn a_pod_that_finds_no_room_is_named_with_what_becomes_of_it() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let _servers = [&lab.a, &lab.b].map(|space: &Space| Echo::new(space, 9000));
    let shut = [policy("one/shut", &["Ingress"], json!({})), policy("two/shut", &["Ingress"], json!({}))];
    let limits = signalbox_enforcer::Limits { pods: 1, ..Default::default() };
    let mut gate = Gate::with(&lab, AttachPreference::Auto, limits);
    let applied = gate.policies(&shut);
    let named =
        |pod: &str| applied.problems.iter().any(|problem| problem.starts_with(pod) && problem.contains("--pods"));
    // One of the two has the room. The other is open: what is said of it has to be so.
    for (pod, is_open) in [("one/a: ", lab.b.reaches(POD_A, 9000)), ("two/b: ", lab.a.reaches(POD_B, 9000))] {
        assert_eq!(named(pod), is_open, "{pod}{applied:?}");
    }
    assert_eq!(applied.problems.len(), 1, "{applied:?}");
    drop(gate);
    let mut gate = Gate::with(&lab, AttachPreference::Auto, signalbox_enforcer::Limits { pods: 2, ..limits });
    assert_eq!(gate.policies(&shut).problems, [] as [String; 0]);
    assert!(!lab.b.reaches(POD_A, 9000) && !lab.a.reaches(POD_B, 9000));
}

/// More connections than the table of flows has room for: the least recently used are forgotten, and judged again.
#[test]
fn a_full_table_of_flows_cuts_nothing_and_opens_nothing() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let _servers = [&lab.a, &lab.b, &lab.outside].map(|space: &Space| Server::new(space, 9000));
    let limits = signalbox_enforcer::Limits { flows: 256, ..Default::default() };
    let mut gate = Gate::with(&lab, AttachPreference::Auto, limits);
    let from_one = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "one"}}});
    gate.policies(&[policy("two/some", &["Ingress", "Egress"], json!({"ingress": [{"from": [from_one]}]}))]);
    let patience = std::time::Duration::from_secs(5);
    let mut kept: Vec<_> =
        (0..1000).map(|_| lab.a.connect(POD_B, 9000, patience).expect("the rule allows it")).collect();
    let known = gate.datapath.flows().expect("the kernel tells");
    println!("{known} flows in the table, 1000 connections");
    assert!(known < 1000, "they do not fit: {known}");
    for (at, stream) in kept.iter_mut().enumerate() {
        assert!(echo(stream), "connection {at} lives on");
    }
    assert!(!lab.outside.reaches(POD_B, 9000) && lab.b.connect(OUTSIDE, 9000, patience / 20).is_err());
    gate.policies(&[policy("two/some", &["Ingress", "Egress"], json!({}))]);
    for (at, stream) in kept.iter_mut().enumerate().step_by(100) {
        assert!(!echo_soon(stream), "connection {at}: its rule is gone");
    }
}

#[test]
fn clsact_does_the_same() {
    if !can_run() {
        return;
    }
    let (lab, _servers, mut gate) = set_up(AttachPreference::Clsact);
    lab.translate();
    assert_eq!(gate.datapath.attach_mode(), Some(signalbox_api::kernel::AttachMode::Clsact));
    assert!(lab.a.reaches(SERVICE, 80));
    gate.policies(&[policy("two/shut", &["Ingress"], json!({}))]);
    assert!(!lab.a.reaches(SERVICE, 80));
    assert_eq!(gate.denial(9000).isolated_by[0].to_string(), "two/shut");
    assert!(lab.b.reaches(OUTSIDE, 9000));
    gate.datapath.detach().expect("detached");
    assert!(lab.a.reaches(SERVICE, 80), "nothing is left on the interfaces");
}
