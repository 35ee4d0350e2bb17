//! Probes from inside of pods: the agent's own binary, confined as it is on a node, and a server that asks it by TLS.

mod support;

use std::{
    collections::HashMap,
    net::UdpSocket,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::json;
use signalbox_api::{
    cell::{Evidence, Outcome},
    flow::{Decision, Protocol},
    probe::{Request, Response},
    stream::Order,
};
use signalbox_enforcer::{
    inside::{Bounds, Inside},
    uplink,
};
use support::{
    Echo, Lab, OUTSIDE, POD_A, POD_B, Space,
    agent::{Agent, Process, furnish, pod},
    api::Api,
    can_run, config, policy,
    server::{Server, Stream},
};
use tokio_util::sync::CancellationToken;

/// A node with the pods `one/a`, which listens nowhere, and `two/b`; its agent; and the stream that it has opened.
struct Bench {
    lab: Lab,
    _servers: [Echo; 2],
    _pods: [Process; 2],
    api: Api,
    server: Server,
    agent: Agent,
    stream: Stream,
}

impl Bench {
    async fn start(more: &[&str]) -> Self {
        let lab = Lab::new();
        let servers = [&lab.b, &lab.outside].map(|space: &Space| Echo::new(space, 9000));
        let pods = [&lab.a, &lab.b].map(Process::sleeping);
        let api = Api::start().await;
        furnish(&api);
        let mut server = Server::start().await;
        let options = server.options();
        let options: Vec<&str> = options.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let agent = Agent::start(&lab, &api, &options);
        let stream = server.stream().await;
        Self { lab, _servers: servers, _pods: pods, api, server, agent, stream }
    }

    async fn allowing() -> Self {
        Self::start(&["--allow-probes-in-pods"]).await
    }

    /// Tries a connection, from its start to its end; where it left from and to, where it did.
    async fn attempt(&mut self, session: u64, id: u64, host: &str, port: u16) -> Tried {
        let timeout_ms = 500;
        let host = host.to_owned();
        self.stream.ask(session, Request::Connect { id, protocol: Protocol::Tcp, host, port, timeout_ms }).await;
        let mut way = None;
        loop {
            match self.stream.line(session).await {
                Response::Started { id: of, local, remote } if of == id => way = Some((local, remote)),
                Response::Done { id: of, outcome, evidence, detail, .. } if of == id => {
                    return Tried { way, outcome, evidence, detail: detail.unwrap_or_default() };
                }
                other => panic!("port {port}: {other:?}"),
            }
        }
    }

    /// Threads of the agent that are in a pod's namespace.
    fn threads_in(&self, space: &Space) -> usize {
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).ok()?).into();
        let of_pod: Option<u64> = inode(&space.path());
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.agent.process.0.id())).expect("it lives");
        tasks.flatten().filter(|task| inode(&task.path().join("ns/net")) == of_pod).count()
    }
}

struct Tried {
    way: Option<(std::net::SocketAddr, std::net::SocketAddr)>,
    outcome: Outcome,
    evidence: Evidence,
    detail: String,
}

/// Sockets in a namespace: how many listen, and how many there are.
fn sockets(space: &Space) -> (usize, usize) {
    let texts = space.enter(|| {
        let read = |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).expect("the kernel tells");
        ["tcp", "tcp6", "udp", "udp6"].map(|name| (name, read(name)))
    });
    let mut counts = (0, 0);
    for (name, text) in texts {
        for line in text.lines().skip(1) {
            let state = line.split_whitespace().nth(3).expect("a state");
            // TCP_LISTEN; a UDP socket that is connected to nobody takes what comes from anybody.
            counts.0 += usize::from(if name.starts_with("tcp") { state == "0A" } else { state == "07" });
            counts.1 += 1;
        }
    }
    counts
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_tried_from_inside_of_a_pod_is_judged_as_the_pods_own_and_leaves_no_listener() {
    if !can_run() {
        return;
    }
    let mut bench = Bench::allowing().await;
    assert_eq!(bench.threads_in(&bench.lab.a), 0);
    bench.stream.begin(7, "one/a").await;
    assert_eq!(bench.threads_in(&bench.lab.a), 1, "one thread, and no more");

    let open = bench.attempt(7, 1, POD_B, 9000).await;
    assert_eq!((open.outcome, open.evidence), (Outcome::Open, Evidence::Answer), "{}", open.detail);
    let (local, remote) = open.way.expect("it left");
    assert_eq!((local.ip().to_string(), remote.ip().to_string()), (POD_A.to_owned(), POD_B.to_owned()));
    let refused = bench.attempt(7, 2, OUTSIDE, 9001).await;
    assert_eq!(refused.outcome, Outcome::Refused, "{}", refused.detail);

    let version = bench.api.put("networkpolicies", policy("two/shut", &["Ingress"], json!({})));
    bench.agent.until_in_force(version);
    let dropped = bench.attempt(7, 3, POD_B, 9000).await;
    assert_eq!((dropped.outcome, dropped.evidence), (Outcome::Dropped, Evidence::Timeout), "{}", dropped.detail);
    let local = dropped.way.expect("it left").0;
    // The kernel judged this very connection, as the pod's.
    let word = bench.stream.flows.iter().find(|event| event.source == local).expect("the kernel's word");
    assert_eq!((word.decision, word.source_pod.as_deref()), (Decision::Denied, Some("one/a")));

    // Its word ends a connection at once.
    let connect =
        |id| Request::Connect { id, protocol: Protocol::Tcp, host: POD_B.to_owned(), port: 9000, timeout_ms: 9_000 };
    let began = Instant::now();
    bench.stream.ask(7, connect(4)).await;
    assert!(matches!(bench.stream.line(7).await, Response::Started { id: 4, .. }));
    let (listening, all) = sockets(&bench.lab.a);
    assert_eq!((listening, all), (0, 1), "only the connection itself is in the pod's namespace");
    bench.stream.ask(7, Request::Dropped { id: 4 }).await;
    let done = bench.stream.line(7).await;
    let by_kernel =
        matches!(done, Response::Done { id: 4, outcome: Outcome::Dropped, evidence: Evidence::KernelEvent, .. });
    assert!(by_kernel && began.elapsed() < Duration::from_secs(5), "{done:?} after {:?}", began.elapsed());

    // What is the pod's own is not looked at, and nobody's names are taken for the pod's.
    for (id, host, why) in [
        (5, "127.0.0.1", "leads to no other host"),
        (6, "::1", "leads to no other host"),
        (8, "localhost", "is not known"),
    ] {
        let broken = bench.attempt(7, id, host, 9000).await;
        assert_eq!((broken.outcome, broken.way), (Outcome::ProbeBroken, None), "{host}: {}", broken.detail);
        assert!(broken.detail.contains(why), "{host}: {}", broken.detail);
    }
    let control = Request::Control { id: 9, ports: vec![(Protocol::Tcp, 9000)] };
    bench.stream.ask(7, control).await;
    let rejected = bench.stream.line(7).await;
    assert!(matches!(&rejected, Response::Rejected { error } if error.contains("only connections")), "{rejected:?}");

    bench.stream.send(&Order::End { session: 7 }).await;
    bench.stream.ended(7).await;
    until("nothing of it is left", || bench.threads_in(&bench.lab.a) == 0 && sockets(&bench.lab.a) == (0, 0));
    assert!(bench.agent.process.end().success(), "it ends in order");
}

/// Answers every question for an IPv4 address with this one, and tells the names that were asked for.
fn dns(space: &Space, answer: [u8; 4]) -> Arc<Mutex<Vec<String>>> {
    let socket = space.enter(|| UdpSocket::bind("0.0.0.0:53")).expect("a free port");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let names = asked.clone();
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let (mut at, mut labels) = (12, Vec::new());
            while bytes[at] != 0 {
                let label = usize::from(bytes[at]);
                labels.push(String::from_utf8_lossy(&bytes[at + 1..=at + label]).into_owned());
                at += label + 1;
            }
            let is_v4 = bytes[at + 2] == 1;
            names.lock().expect("no panic").push(labels.join("."));
            let mut reply = bytes[..(at + 5).min(length)].to_vec();
            // A reply, recursion available, no error; one question, and as many answers, and nothing else.
            reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0]);
            if is_v4 {
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
                reply.extend(answer);
            }
            // Whoever asked may have gone.
            let _gone = socket.send_to(&reply, from);
        }
    });
    asked
}

/// A process in a pod's namespace that sees other files than the node does, as one of a container.
fn contained(space: &Space, folder: &Path, files: &[(&str, &str)]) -> Process {
    let mut script = String::new();
    for (index, (path, text)) in files.iter().enumerate() {
        let file = folder.join(index.to_string());
        std::fs::write(&file, text).expect("written");
        script.push_str(&format!("mount --bind {} {path} && ", file.display()));
    }
    script.push_str("exec sleep 120");
    let child = space.enter(|| {
        Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .stdin(Stdio::null())
            .spawn()
            .expect("it is installed")
    });
    let comm = format!("/proc/{}/comm", child.id());
    until("its files are there", || std::fs::read_to_string(&comm).is_ok_and(|name| name.trim() == "sleep"));
    Process(child)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn names_are_resolved_as_the_pod_does_and_not_as_the_node_or_a_guest_does() {
    if !can_run() {
        return;
    }
    let mut bench = Bench::allowing().await;
    let asked = dns(&bench.lab.b, [10, 244, 0, 3]);
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let own = format!("search one.svc.cluster.local\nnameserver {POD_B}\noptions ndots:5\n");
    let hosts = format!("{POD_B} known.example\n127.0.0.1 sly.example\n");
    let _own = contained(&bench.lab.a, folders[0].path(), &[("/etc/resolv.conf", &own), ("/etc/hosts", &hosts)]);
    // Somebody who looks into the pod's network from elsewhere, later. The kernel counts by hundredths of a second.
    std::thread::sleep(Duration::from_millis(50));
    let _guest = contained(&bench.lab.a, folders[1].path(), &[("/etc/resolv.conf", "nameserver 192.0.2.99\n")]);

    bench.stream.begin(1, "one/a").await;
    let open = bench.attempt(1, 1, "db", 9000).await;
    assert_eq!(open.outcome, Outcome::Open, "{}", open.detail);
    assert_eq!(open.way.expect("it left").1.to_string(), format!("{POD_B}:9000"));
    let names = asked.lock().expect("no panic").clone();
    assert!(names.contains(&"db.one.svc.cluster.local".to_owned()), "{names:?}");
    let open = bench.attempt(1, 2, "known.example", 9000).await;
    assert_eq!(open.outcome, Outcome::Open, "{}", open.detail);
    // A name for loopback is loopback.
    let broken = bench.attempt(1, 3, "sly.example", 9000).await;
    assert_eq!((broken.outcome, broken.way), (Outcome::ProbeBroken, None), "{}", broken.detail);
    // Where policies cut DNS, that is what is said.
    let version = bench
        .api
        .put("networkpolicies", policy("two/shut", &["Ingress"], json!({"ingress": [{"ports": [{"port": 9000}]}]})));
    bench.agent.until_in_force(version);
    let failed = bench.attempt(1, 4, "db", 9000).await;
    assert_eq!((failed.outcome, failed.evidence), (Outcome::DnsFailed, Evidence::Timeout), "{}", failed.detail);
    assert!(failed.detail.contains(POD_B), "{}", failed.detail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_no_pod_of_this_node_is_refused_with_a_reason() {
    if !can_run() {
        return;
    }
    let mut bench = Bench::allowing().await;
    let mut host = pod("one", "host", support::NODE);
    host["spec"]["hostNetwork"] = true.into();
    bench.api.put("pods", host);
    let mut elsewhere = pod("one", "elsewhere", "10.244.9.9");
    elsewhere["spec"]["nodeName"] = "m".into();
    bench.api.put("pods", elsewhere);
    bench.api.put("pods", pod("one", "lost", "10.244.0.77"));
    // The pods above are known once this one is.
    let version = bench.api.put("networkpolicies", policy("one/open", &["Ingress"], json!({"ingress": [{}]})));
    bench.agent.until_in_force(version);
    for (session, pod, why) in [
        (1, Some("one/nobody"), "no pod one/nobody on the node n"),
        (2, Some("one/host"), "hostNetwork"),
        (3, Some("one/elsewhere"), "no pod one/elsewhere on the node n"),
        (4, Some("one/lost"), "no network namespace with the address"),
        (5, Some("a"), "no namespace/name"),
        (6, Some("../../proc/1"), "no pod ../../proc/1"),
        (7, Some("/a"), "no namespace/name"),
        (8, None, "none on the node itself"),
    ] {
        let told = bench.stream.refused(session, pod).await;
        assert!(told.contains(why), "{pod:?}: {told}");
    }
    assert_eq!(bench.threads_in(&bench.lab.a) + bench.threads_in(&bench.lab.b), 0);
    // The positive control: it is the pods that are refused, and not everything.
    bench.stream.begin(9, "one/a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_the_switch_nothing_is_started() {
    if !can_run() {
        return;
    }
    let mut bench = Bench::start(&[]).await;
    let told = bench.stream.refused(1, Some("one/a")).await;
    assert!(told.contains("--allow-probes-in-pods"), "{told}");
    assert_eq!(bench.threads_in(&bench.lab.a), 0);
    // Without a server there is nobody who could ask: that is said at the start.
    let output = Command::new(support::agent::BINARY)
        .args(["--node", "n", "--uplink", "up0", "--allow-probes-in-pods"])
        .env_remove("SIGNALBOX_SERVER")
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--server"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_and_connections_are_bounded_and_places_come_back() {
    if !can_run() {
        return;
    }
    let mut bench = Bench::allowing().await;
    for session in 1..=4 {
        bench.stream.begin(session, if session % 2 == 0 { "one/a" } else { "two/b" }).await;
    }
    let told = bench.stream.refused(5, Some("one/a")).await;
    assert!(told.contains("4 probes run inside"), "{told}");
    assert_eq!(bench.threads_in(&bench.lab.a), 2);
    bench.stream.send(&Order::End { session: 2 }).await;
    bench.stream.ended(2).await;
    bench.stream.begin(6, "one/a").await;

    // 32 connections are tried in a session, eight at a time, and those after them are not.
    let connect =
        |id| Request::Connect { id, protocol: Protocol::Tcp, host: POD_B.to_owned(), port: 9000, timeout_ms: 2_000 };
    bench.stream.send(&Order::Lines { session: 6, lines: (1..=34).map(connect).collect() }).await;
    let mut outcomes: HashMap<Outcome, usize> = HashMap::new();
    while outcomes.values().sum::<usize>() < 34 {
        if let Response::Done { outcome, detail, .. } = bench.stream.line(6).await {
            *outcomes.entry(outcome).or_default() += 1;
            let is_told = detail.is_some_and(|detail| detail.contains("32 connections at most"));
            assert_eq!(outcome == Outcome::ProbeBroken, is_told);
        }
    }
    assert_eq!(outcomes, HashMap::from([(Outcome::Open, 32), (Outcome::ProbeBroken, 2)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_left_when_the_stream_breaks_or_the_pod_goes() {
    if !can_run() {
        return;
    }
    let mut bench = Bench::allowing().await;
    let version = bench.api.put("networkpolicies", policy("two/shut", &["Ingress"], json!({})));
    bench.agent.until_in_force(version);
    let connect =
        || Request::Connect { id: 1, protocol: Protocol::Tcp, host: POD_B.to_owned(), port: 9000, timeout_ms: 9_000 };
    for session in 1..=4 {
        bench.stream.begin(session, "one/a").await;
    }
    bench.stream.ask(4, connect()).await;
    assert!(matches!(bench.stream.line(4).await, Response::Started { .. }));
    assert_eq!((bench.threads_in(&bench.lab.a), sockets(&bench.lab.a).1), (4, 1));
    // The server is gone without a word, and comes back.
    drop(bench.stream);
    bench.stream = bench.server.stream().await;
    until("nothing of it is left", || bench.threads_in(&bench.lab.a) == 0 && sockets(&bench.lab.a) == (0, 0));
    // Places come back: all four of them.
    for session in 1..=4 {
        bench.stream.begin(session, "one/a").await;
    }
    bench.stream.ask(4, connect()).await;
    assert!(matches!(bench.stream.line(4).await, Response::Started { .. }));
    bench.api.remove("pods", "one", "a");
    let told = bench.stream.ended(4).await;
    assert!(told.contains("one/a is gone"), "{told}");
    until("nothing of it is left", || bench.threads_in(&bench.lab.a) == 0 && sockets(&bench.lab.a) == (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_ends_by_itself_and_no_more_begin_within_a_minute_than_may() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let _pods = [&lab.a, &lab.b].map(Process::sleeping);
    let api = Api::start().await;
    furnish(&api);
    let mut server = Server::start().await;
    let shutdown = CancellationToken::new();
    let enforcer = signalbox_enforcer::start(config(&lab), api.client(), shutdown.clone()).await.expect("it starts");
    support::told::until(&enforcer, "both pods are found", |status| status.enforcing && status.pods == 2).await;
    let bounds = Bounds { life: Duration::from_millis(700), each_minute: 2, ..Bounds::default() };
    let inside = Some(Inside::new(&enforcer.handle(), Some(lab.node.path()), bounds));
    let feed = uplink::Feed { inside, ..enforcer.handle().into() };
    let door = uplink::Config { node: "n".to_owned(), door: server.door(), enforces_on: false };
    let (_report, told) = uplink::start(door, feed, api.client(), shutdown.clone());
    let mut stream = server.stream().await;
    for session in 1..=2 {
        let began = Instant::now();
        stream.begin(session, "one/a").await;
        let why = stream.ended(session).await;
        assert!(why.contains("lasts for 0.7 s at most"), "{why}");
        assert!(
            (Duration::from_millis(700)..Duration::from_secs(4)).contains(&began.elapsed()),
            "{:?}",
            began.elapsed()
        );
    }
    let why = stream.refused(3, Some("one/a")).await;
    assert!(why.contains("2 probes inside of pods within a minute"), "{why}");
    shutdown.cancel();
    told.await.expect("it ends in order");
    enforcer.stopped().await;
}
