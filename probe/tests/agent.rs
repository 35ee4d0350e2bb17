//! The agent as the server drives it: real sockets, in network namespaces with no way out.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod common;

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use signalbox_api::cell::{Evidence, Outcome};
use signalbox_api::flow::Protocol::{self, Sctp, Tcp, Udp};
use signalbox_api::probe::{Request, Response};

use common::{Agent, Namespace, PROBE, root, serve};

fn connect(id: u64, protocol: Protocol, host: &str, port: u16, timeout_ms: u32) -> Request {
    Request::Connect { id, protocol, host: host.into(), port, timeout_ms }
}

/// Everything that a connection says, with the latency only as present or absent.
#[derive(Debug, PartialEq)]
struct Seen {
    started: Option<(SocketAddr, SocketAddr)>,
    outcome: Outcome,
    evidence: Evidence,
    has_latency: bool,
    peer: Option<String>,
    source: Option<String>,
    detail: String,
}

fn one(agent: &mut Agent, request: &Request) -> Seen {
    agent.send(request);
    let mut started = None;
    loop {
        match agent.next() {
            Response::Started { local, remote: to, .. } => {
                assert_ne!(local.port(), 0);
                assert!(!local.ip().is_unspecified());
                started = Some((local, to));
            }
            Response::Done { outcome, evidence, latency_us, peer_name, seen_source, detail, .. } => {
                return Seen {
                    started,
                    outcome,
                    evidence,
                    has_latency: latency_us.is_some(),
                    peer: peer_name,
                    source: seen_source.map(|source| source.to_string()),
                    detail: detail.unwrap_or_default(),
                };
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A namespace in which 192.0.2.1 and .2 are one's own addresses, packets to .9 vanish, and two routes say no in other
/// ways.
fn namespace() -> Namespace {
    Namespace::new(
        "ip link add void type veth peer name hole\nip link set hole up\n\
         ip addr add 192.0.2.1/24 dev void\nip addr add 192.0.2.2/24 dev void\n\
         ip -6 addr add 2001:db8::1/64 dev void nodad\nip link set void up\n\
         ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev void\n\
         ip neigh add 2001:db8::9 lladdr 02:00:00:00:00:09 dev void\nip route add unreachable 198.51.100.0/24\nip route add prohibit 203.0.113.0/24",
    )
}

#[test]
fn each_outcome_is_told_apart() {
    if !root("each_outcome_is_told_apart") {
        return;
    }
    let namespace = namespace();
    let _server = serve(namespace.command(PROBE), "web-1", &["TCP/9000", "UDP/9000", "UDP/53"]);
    let mut agent = Agent::start(namespace.command(PROBE));
    let mut id = 0;
    let mut check = |protocol, host: &str, port, outcome, evidence, detail: &str| {
        id += 1;
        let seen = one(&mut agent, &connect(id, protocol, host, port, 300));
        assert_eq!((seen.outcome, seen.evidence), (outcome, evidence), "{protocol} {host}:{port}: {seen:?}");
        assert!(seen.detail.contains(detail), "{protocol} {host}:{port}: {seen:?}");
        let open = outcome == Outcome::Open;
        assert_eq!(seen.has_latency, open, "{seen:?}");
        assert_eq!(seen.peer.is_some(), open, "{seen:?}");
        seen
    };
    for host in ["127.0.0.1", "::1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "localhost"] {
        for (protocol, port) in [(Tcp, 9000), (Udp, 9000), (Udp, 53)] {
            let seen = check(protocol, host, port, Outcome::Open, Evidence::Answer, "");
            assert_eq!(seen.peer.as_deref(), Some("web-1"));
            let (local, _) = seen.started.expect("started");
            assert_eq!(seen.source, Some(local.ip().to_string()), "{host}");
        }
        check(Tcp, host, 9001, Outcome::Refused, Evidence::Answer, "ECONNREFUSED");
        check(Udp, host, 9001, Outcome::Refused, Evidence::Answer, "ECONNREFUSED");
    }
    for host in ["192.0.2.9", "2001:db8::9"] {
        check(Udp, host, 9000, Outcome::Dropped, Evidence::Timeout, "no answer within");
        let seen = check(Tcp, host, 9000, Outcome::Dropped, Evidence::Timeout, "no answer within");
        assert!(seen.started.is_some());
    }
    check(Tcp, "198.51.100.1", 80, Outcome::Unreachable, Evidence::Answer, "EHOSTUNREACH");
    check(Udp, "198.51.100.1", 80, Outcome::Unreachable, Evidence::Answer, "EHOSTUNREACH");
    check(Tcp, "10.9.9.9", 80, Outcome::Unreachable, Evidence::Answer, "ENETUNREACH");
    check(Tcp, "203.0.113.1", 80, Outcome::ProbeBroken, Evidence::Answer, "EACCES");
    if !signalbox_probe::system::supported(Sctp) {
        check(Sctp, "127.0.0.1", 80, Outcome::ProbeBroken, Evidence::Answer, "not supported by this kernel");
    }
}

#[test]
fn a_kernel_event_ends_a_connection_at_once() {
    if !root("a_kernel_event_ends_a_connection_at_once") {
        return;
    }
    let namespace = namespace();
    let mut agent = Agent::start(namespace.command(PROBE));
    let begun = Instant::now();
    for (id, protocol) in [(1, Tcp), (2, Udp)] {
        agent.send(&connect(id, protocol, "192.0.2.9", 9000, 10_000));
        assert!(matches!(agent.next(), Response::Started { .. }));
        agent.send(&Request::Dropped { id });
        let Response::Done { id: of, outcome, evidence, .. } = agent.next() else { panic!("not done") };
        assert_eq!((of, outcome, evidence), (id, Outcome::Dropped, Evidence::KernelEvent));
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // Too late, or never heard of: no answer and no harm.
    agent.send(&Request::Dropped { id: 1 });
    agent.send(&Request::Dropped { id: 99 });
    let (rest, well) = agent.finish();
    assert_eq!((rest, well), (vec![], true));
}

#[test]
fn names_that_do_not_resolve_say_why() {
    if !root("names_that_do_not_resolve_say_why") {
        return;
    }
    // Where the resolver's server is loopback and nobody listens, or where nothing answers at all: the machine's own
    // resolv.conf must not matter, so it is replaced in a mount namespace.
    for (server, evidence, words) in [
        ("127.0.0.1", Evidence::Answer, "ECONNREFUSED"),
        ("192.0.2.9", Evidence::Timeout, "timeout: no answer for web.x. from 192.0.2.9:53"),
    ] {
        let namespace = namespace();
        let file = std::env::temp_dir().join(format!("signalbox-probe-{}-{server}", std::process::id()));
        std::fs::write(&file, format!("nameserver {server}\nsearch x\noptions ndots:5 timeout:1\n")).unwrap();
        let mut command = namespace.command("unshare");
        command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$1\" agent"]);
        command.arg(&file).arg(PROBE);
        let mut agent = Agent::start(command);
        let seen = one(&mut agent, &connect(1, Tcp, "web", 80, 200));
        agent.send(&Request::Resolve { id: 2, name: "web".into(), timeout_ms: 200 });
        let Response::Resolved { id: 2, addresses, error: Some(error), .. } = agent.next() else { panic!("not 2") };
        std::fs::remove_file(&file).unwrap();
        assert_eq!((seen.outcome, seen.evidence, seen.started), (Outcome::DnsFailed, evidence, None), "{seen:?}");
        let refused = words == "ECONNREFUSED" && seen.detail.contains("refused");
        assert!(refused || seen.detail.contains(words), "{seen:?}");
        assert!(addresses.is_empty() && (refused || error.contains(words)), "{error}");
    }
}

#[test]
fn a_bad_line_is_rejected_and_the_next_one_served() {
    let mut agent = Agent::start(Command::new(PROBE));
    let long = format!("{{\"type\":\"resolve\",\"name\":\"{}\"", "x".repeat(300_000));
    for (line, words) in [
        ("not json", "expected ident"),
        ("{\"type\":\"reboot\",\"id\":1}", "unknown variant"),
        ("{\"type\":\"connect\",\"id\":-1}", "invalid value"),
        ("{\"type\":\"dropped\"}", "missing field `id`"),
        (&long, "EOF while parsing"),
    ] {
        agent.send_line(line);
        let Response::Rejected { error } = agent.next() else { panic!("{line} was taken") };
        assert!(error.contains(words) && error.len() < 300, "{error}");
    }
    agent.send_line("");
    agent.send(&Request::Resolve { id: 7, name: "127.0.0.1".into(), timeout_ms: 100 });
    let Response::Resolved { id: 7, addresses, error: None, .. } = agent.next() else { panic!("not resolved") };
    assert_eq!(addresses, ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    let (rest, well) = agent.finish();
    assert_eq!((rest, well), (vec![], true));
}

#[test]
fn control_tells_who_listens() {
    if !root("control_tells_who_listens") {
        return;
    }
    let namespace = namespace();
    let _server = serve(namespace.command(PROBE), "web-1", &["TCP/9000", "UDP/53"]);
    // A listener on the pod's address alone, which is no probe and says nothing.
    let script = "import socket,sys,time\ns=socket.socket();s.bind(('192.0.2.1',7));s.listen()\nprint('up',flush=True)\ntime.sleep(60)";
    let mut python = namespace.command("python3");
    let mut python = common::Running(python.args(["-c", script]).stdout(std::process::Stdio::piped()).spawn().unwrap());
    std::io::Read::read_exact(python.0.stdout.as_mut().unwrap(), &mut [0; 3]).unwrap();
    let mut agent = Agent::start(namespace.command(PROBE));
    let ports = vec![(Tcp, 9000), (Udp, 9000), (Udp, 53), (Tcp, 7), (Tcp, 8)];
    agent.send(&Request::Control { id: 3, ports });
    assert_eq!(agent.next(), Response::Controlled { id: 3, listening: vec![(Tcp, 9000), (Udp, 53), (Tcp, 7)] });
    // A peer that says nothing is open by its handshake.
    let seen = one(&mut agent, &connect(4, Tcp, "192.0.2.1", 7, 1000));
    assert_eq!((seen.outcome, seen.has_latency, seen.peer), (Outcome::Open, true, None));
}

#[test]
fn thousands_at_once_and_few_descriptors() {
    if !root("thousands_at_once_and_few_descriptors") {
        return;
    }
    const HOW_MANY: u64 = 3000;
    let namespace = namespace();
    let _server = serve(namespace.command(PROBE), "web-1", &["TCP/9000"]);
    // A hard limit far below the number of requests: the rest wait for their turn, none fails.
    let mut command = namespace.command("sh");
    command.args(["-c", "ulimit -n 256; exec \"$0\" agent", PROBE]);
    for command in [namespace.command(PROBE), command] {
        let mut agent = Agent::start(command);
        let begun = Instant::now();
        agent.send_all((0..HOW_MANY).map(|id| connect(id, Tcp, "127.0.0.1", 9000, 10_000)).collect());
        let (rest, well) = agent.finish();
        let took = begun.elapsed();
        let greeted = |response: &&Response| {
            matches!(response, Response::Done { outcome: Outcome::Open, peer_name: Some(_), .. })
        };
        assert_eq!((rest.iter().filter(greeted).count() as u64, well), (HOW_MANY, true));
        println!("{HOW_MANY} connections in {took:?}: {:.0} a second", HOW_MANY as f64 / took.as_secs_f64());
    }
}
