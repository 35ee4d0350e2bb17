//! The agent as the server drives it: real sockets, in network namespaces with no way out.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use signalbox_api::cell::{Evidence, Outcome};
use signalbox_api::flow::Protocol::{self, Sctp, Tcp, Udp};
use signalbox_api::probe::{PORT_RESTS_MS, Request, Response};

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
            Response::Asking { local, remote, .. } => {
                assert!(started.is_none() && local.port() != 0 && remote.port() == 53, "{local} {remote}");
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

/// The kernel tells of one flow's denials only now and then, and the server keeps what has ended for a while: a probe that left by the port of
/// one that had just ended, to the same place, waited its whole time for an event that had been told, or was taken for that one.
#[test]
fn no_port_is_used_again_at_once() {
    if !root("no_port_is_used_again_at_once") {
        return;
    }
    let namespace = namespace();
    let narrow = ["-c", "echo 40000 40127 > /proc/sys/net/ipv4/ip_local_port_range"];
    assert!(namespace.command("sh").args(narrow).status().unwrap().success());
    let mut agent = Agent::start(namespace.command(PROBE));
    let mut id = 0;
    for (protocol, connections) in [(Tcp, 28), (Udp, 40)] {
        let mut used = BTreeSet::new();
        let begun = Instant::now();
        for _ in 0..connections {
            id += 1;
            agent.send(&connect(id, protocol, "192.0.2.9", 80, 20_000));
            let Response::Started { local, .. } = agent.next() else { panic!("it starts") };
            assert!((40_000..40_128).contains(&local.port()), "{local}");
            assert!(used.insert(local.port()), "{protocol}: {local} is used again after {:?}", begun.elapsed());
            agent.send(&Request::Dropped { id });
            assert!(matches!(agent.next(), Response::Done { .. }));
        }
        assert!(begun.elapsed() < Duration::from_millis(PORT_RESTS_MS), "a busy machine: this says nothing");
    }
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
        let mut agent = asking(&namespace, &format!("nameserver {server}\nsearch x\noptions ndots:5 timeout:1\n"));
        let seen = one(&mut agent, &connect(1, Tcp, "web", 80, 200));
        agent.send(&Request::Resolve { id: 2, name: "web".into(), timeout_ms: 200 });
        let (addresses, error) = resolved(&agent, 2);
        let error = error.expect("an error");
        assert_eq!((seen.outcome, seen.evidence, seen.started), (Outcome::DnsFailed, evidence, None), "{seen:?}");
        let refused = words == "ECONNREFUSED" && seen.detail.contains("refused");
        assert!(refused || seen.detail.contains(words), "{seen:?}");
        assert!(addresses.is_empty() && (refused || error.contains(words)), "{error}");
    }
}

/// An agent in a namespace, with a resolv.conf of its own.
fn asking(namespace: &Namespace, resolv_conf: &str) -> Agent {
    let file = tempfile(resolv_conf);
    let mut command = namespace.command("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$1\" agent"]);
    command.arg(&file).arg(PROBE);
    let agent = Agent::start(command);
    // What is mounted stays.
    std::fs::remove_file(&file).unwrap();
    agent
}

fn tempfile(text: &str) -> std::path::PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let file = std::env::temp_dir().join(format!("signalbox-probe-{}-{count}", std::process::id()));
    std::fs::write(&file, text).unwrap();
    file
}

/// What came of a look-up, after its questions.
fn resolved(agent: &Agent, id: u64) -> (Vec<std::net::IpAddr>, Option<String>) {
    loop {
        match agent.next() {
            Response::Asking { id: of, .. } => assert_eq!(of, id),
            Response::Resolved { id: of, addresses, error, .. } if of == id => return (addresses, error),
            other => panic!("{other:?}"),
        }
    }
}

/// The next line, which tells of a question.
fn question(agent: &Agent) -> (u64, SocketAddr, SocketAddr) {
    match agent.next() {
        Response::Asking { id, local, remote } => (id, local, remote),
        other => panic!("no question: {other:?}"),
    }
}

/// A look-up waited for its whole time-out although the kernel's event had said at once that the question was dropped.
#[test]
fn a_question_that_the_kernel_dropped_is_waited_for_no_longer() {
    if !root("a_question_that_the_kernel_dropped_is_waited_for_no_longer") {
        return;
    }
    let namespace = namespace();
    // What is sent there vanishes. Without the word of the kernel each question would take ten seconds.
    let mut agent = asking(&namespace, "nameserver 192.0.2.9\noptions timeout:30 attempts:2\n");
    let begun = Instant::now();
    let words = "the question to 192.0.2.9:53 for web. was dropped on its way";
    for id in [1, 2] {
        agent.send(&match id {
            1 => connect(1, Tcp, "web.", 80, 20_000),
            _ => Request::Resolve { id, name: "web.".into(), timeout_ms: 20_000 },
        });
        // For both families of addresses; each from a port of its own, which is known before the packet leaves.
        let asked = [question(&agent), question(&agent)];
        assert_ne!(asked[0].1, asked[1].1);
        for (of, local, remote) in asked {
            assert_eq!((of, remote.to_string().as_str()), (id, "192.0.2.9:53"));
            assert_eq!(local.ip().to_string(), "192.0.2.1");
            // Another's, and one that never was: neither does harm, nor has an answer.
            agent.send(&Request::QuestionDropped { id: 99, local });
            agent.send(&Request::QuestionDropped { id, local: "192.0.2.1:1".parse().unwrap() });
            agent.send(&Request::QuestionDropped { id, local });
            // Known already.
            agent.send(&Request::QuestionDropped { id, local });
        }
        // It has not asked this server again.
        match agent.next() {
            Response::Done { id: 1, outcome, evidence, latency_us: None, detail, .. } => {
                assert_eq!((outcome, evidence), (Outcome::DnsFailed, Evidence::KernelEvent));
                assert_eq!(detail.as_deref(), Some(words));
            }
            Response::Resolved { id: 2, addresses, error, .. } => {
                assert_eq!((addresses, error.as_deref()), (vec![], Some(words)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let (rest, well) = agent.finish();
    assert_eq!((rest, well), (vec![], true));
}

#[test]
fn where_a_question_was_dropped_the_next_server_is_asked() {
    if !root("where_a_question_was_dropped_the_next_server_is_asked") {
        return;
    }
    let namespace = namespace();
    let _server = serve(namespace.command(PROBE), "web-1", &["TCP/9000"]);
    // A DNS server for which every name has the address 127.0.0.1, and no other.
    let script = "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(('127.0.0.1',53))\nprint('up',flush=True)\n\
                  while True:\n  q,a=s.recvfrom(512);v4=q[-3]==1\n  \
                  s.sendto(q[:2]+b'\\x81\\x80\\0\\1\\0'+bytes([v4])+b'\\0\\0\\0\\0'+q[12:]+(b'\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\5\\0\\4\\x7f\\0\\0\\1' if v4 else b''),a)\n";
    let mut python = namespace.command("python3");
    let mut python = common::Running(python.args(["-c", script]).stdout(std::process::Stdio::piped()).spawn().unwrap());
    std::io::Read::read_exact(python.0.stdout.as_mut().unwrap(), &mut [0; 3]).unwrap();
    let mut agent = asking(&namespace, "nameserver 192.0.2.9\nnameserver 127.0.0.1\noptions timeout:30 attempts:2\n");
    let begun = Instant::now();
    for id in [1, 2] {
        agent.send(&match id {
            1 => connect(1, Tcp, "web.", 9000, 20_000),
            _ => Request::Resolve { id, name: "web.".into(), timeout_ms: 20_000 },
        });
        for (of, local, remote) in [question(&agent), question(&agent)] {
            assert_eq!((of, remote.to_string().as_str()), (id, "192.0.2.9:53"));
            agent.send(&Request::QuestionDropped { id, local });
        }
        for (of, _, remote) in [question(&agent), question(&agent)] {
            assert_eq!((of, remote.to_string().as_str()), (id, "127.0.0.1:53"));
        }
        if id == 2 {
            assert_eq!(resolved(&agent, id), (vec!["127.0.0.1".parse().unwrap()], None));
            continue;
        }
        assert!(matches!(agent.next(), Response::Started { id: 1, .. }));
        let Response::Done { id: 1, outcome, evidence, .. } = agent.next() else { panic!("not done") };
        assert_eq!((outcome, evidence), (Outcome::Open, Evidence::Answer));
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
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
