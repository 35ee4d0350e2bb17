//! Pods whose policies are not in yet: `Mode::Strict` shuts them, `Mode::Standard` counts what passes.
//!
//! - [`early`]: they are known before the API tells their addresses.

mod early;
#[path = "../support/mod.rs"]
mod support;

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use signalbox_api::{flow::Decision, kernel::Exposure};
use signalbox_enforcer::{Config, Enforcer, Mode};
use support::{
    Echo, Lab, OUTSIDE, OUTSIDE_V6, POD_A, POD_B, POD_B_V6, Space, can_run,
    faults::api::{Api, Process, pod},
    policy,
    told::until,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Where nobody answers, but whoever gets something can tell.
const PORT: u16 = 7000;

/// Sockets of `two/b` and of the host outside: what arrives there was let pass.
struct Ears(Vec<UdpSocket>);

impl Ears {
    fn new(lab: &Lab) -> Self {
        Self(
            [&lab.b, &lab.outside]
                .map(|space| {
                    // It hears both families.
                    let socket = space.enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT))).expect("a free port");
                    socket.set_nonblocking(true).expect("a socket can be non-blocking");
                    socket
                })
                .into(),
        )
    }

    /// Who was heard since the last time.
    fn heard(&self) -> Vec<SocketAddr> {
        let mut buffer = [0; 16];
        self.0
            .iter()
            .flat_map(|socket| std::iter::from_fn(|| socket.recv_from(&mut buffer).ok()).collect::<Vec<_>>())
            .map(|(_, from)| from)
            .collect()
    }
}

/// A pod that has just been made: it talks at once, for a while, to whoever it can.
fn talk(space: &Space, lasting: Duration) {
    let [v4, v6] = ["0.0.0.0:0", "[::]:0"].map(|any| space.enter(|| UdpSocket::bind(any)).expect("a socket"));
    let end = Instant::now() + lasting;
    while Instant::now() < end {
        for (socket, to) in [(&v4, POD_B), (&v4, OUTSIDE), (&v6, POD_B_V6), (&v6, OUTSIDE_V6)] {
            // Its interface may still have no neighbour.
            let _lost = socket.send_to(b"x", (to, PORT));
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Waits until what it sends is on its way: a fresh veth drops for up to a second, and that would prove nothing.
fn settle(lab: &Lab, address: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    while !lab.node.pings(address) {
        assert!(Instant::now() < end, "its node always reaches {address}, and gets an answer");
    }
}

async fn started(lab: &Lab, api: &Api, client: kube::Client, mode: Mode) -> (Enforcer, CancellationToken) {
    let (enforcer, shutdown) = starting(lab, api, client, mode).await;
    until(&enforcer, "both pods are found", |status| status.enforcing && status.pods == 2).await;
    (enforcer, shutdown)
}

/// The same, as soon as it runs.
async fn starting(lab: &Lab, api: &Api, client: kube::Client, mode: Mode) -> (Enforcer, CancellationToken) {
    furnish(api);
    begun(in_mode(lab, mode), client).await
}

/// The API knows the lab's pods.
fn furnish(api: &Api) {
    for name in ["one", "two"] {
        api.put("namespaces", json!({"metadata": {"name": name, "resourceVersion": "1"}}));
    }
    api.put("pods", pod("one", "a", POD_A));
    api.put("pods", pod("two", "b", POD_B));
}

fn in_mode(lab: &Lab, mode: Mode) -> Config {
    Config {
        node: "n".to_owned(),
        netns: Some(lab.node.path()),
        uplinks: vec!["up0".to_owned()],
        mode,
        ..Config::default()
    }
}

async fn begun(config: Config, client: kube::Client) -> (Enforcer, CancellationToken) {
    let shutdown = CancellationToken::new();
    let enforcer =
        signalbox_enforcer::start(config, client, shutdown.clone()).await.unwrap_or_else(|e| panic!("{e:#?}"));
    (enforcer, shutdown)
}

async fn exposure(enforcer: &Enforcer, pod: &str) -> Exposure {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let latest = enforcer.handle().exposures();
        if let Some(found) = latest.into_iter().find(|exposure| exposure.pod == pod) {
            return found;
        }
        assert!(Instant::now() < end, "{pod} has an exposure");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_pod_is_shut_until_its_policies_are_in() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let _servers = [&lab.a, &lab.b, &lab.outside, &lab.node].map(|space: &Space| Echo::new(space, 9000));
    let _processes = [&lab.a, &lab.b].map(Process::new);
    let (api, client) = Api::start().await;
    let (enforcer, shutdown) = started(&lab, &api, client, Mode::Strict).await;
    assert!(lab.a.reaches(POD_B, 9000) && lab.a.reaches(OUTSIDE, 9000), "who was there before is not shut");

    let mut events = enforcer.events();
    let fresh = Space::new();
    lab.pod(&fresh, "vc", "10.244.0.4", "fd00:244::4");
    let _process = Process::new(&fresh);
    let _server = Echo::new(&fresh, 9000);
    let end = Instant::now() + Duration::from_secs(10);
    while !lab.node.reaches("10.244.0.4", 9000) {
        assert!(Instant::now() < end, "its node always reaches it, and gets an answer");
    }
    assert!(!fresh.reaches(POD_B, 9000) && !fresh.reaches(OUTSIDE, 9000) && !fresh.reaches_udp(OUTSIDE, 9000));
    assert!(!lab.a.reaches("10.244.0.4", 9000) && !lab.outside.reaches("10.244.0.4", 9000));
    assert!(lab.a.reaches(POD_B, 9000), "nobody else suffers");
    let denied = timeout(Duration::from_secs(2), async {
        loop {
            let event = events.recv().await.expect("the enforcer lives");
            if event.decision == Decision::Denied {
                return event;
            }
        }
    });
    assert_eq!(denied.await.expect("an event").reason.as_deref(), Some("not-yet-known"));

    let known = pod("one", "c", "10.244.0.4");
    let shut = policy("one/shut", &["Egress"], json!({"egress": [{"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]}]}));
    api.tell("networkpolicies", "ADDED", shut, 10);
    until(&enforcer, "the policy is in force", |status| status.policies_version == 10).await;
    api.tell("pods", "ADDED", known, 11);
    until(&enforcer, "the pod is found", |status| status.pods == 3).await;
    assert!(fresh.reaches(OUTSIDE, 9000) && lab.outside.reaches("10.244.0.4", 9000), "now its policies count");
    assert!(!fresh.reaches(POD_B, 9000));
    let exposure = exposure(&enforcer, "one/c").await;
    println!("{exposure:?}");
    assert!(exposure.shut && exposure.passed == 0 && exposure.dropped > 0 && exposure.us > 0, "{exposure:?}");
    shutdown.cancel();
    timeout(Duration::from_secs(5), enforcer.stopped()).await.expect("it ends");
    assert!(fresh.reaches(POD_B, 9000), "nothing is left behind");
}

/// The API does not answer for a while when the enforcer starts for the first time: whoever was there before talks on, and who is made
/// meanwhile is shut until it answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_is_slow_at_the_first_start_opens_nobody_new() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let ears = Ears::new(&lab);
    let _server = Echo::new(&lab.b, 9000);
    let _processes = [&lab.a, &lab.b].map(Process::new);
    let (api, client) = Api::start().await;
    let mut shut = policy("one/shut", &["Egress"], json!({}));
    shut["metadata"]["resourceVersion"] = "1".into();
    api.put("networkpolicies", shut);
    api.set_slow(Duration::from_secs(4));
    let (enforcer, shutdown) = starting(&lab, &api, client, Mode::Strict).await;
    let fresh = Fresh::new(&lab, 0);
    api.tell("pods", "ADDED", fresh.known(), 10);
    settle(&lab, &fresh.address);
    let _process = Process::new(&fresh.space);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        talk(&fresh.space, Duration::from_millis(20));
    }
    assert!(lab.a.reaches(POD_B, 9000), "no policy is known yet, and it was there before");
    let status = enforcer.handle().status().borrow().clone();
    assert!(!status.enforcing && status.pods == 0, "the API has not answered: {status:?}");
    assert_eq!(ears.heard(), [], "it was made while nobody knew of any policy");
    until(&enforcer, "all pods are found", |status| status.enforcing && status.pods == 3).await;
    talk(&fresh.space, Duration::from_millis(20));
    assert_eq!(ears.heard(), [], "its policy isolates it");
    assert!(!lab.a.reaches(POD_B, 9000));
    let exposure = exposure(&enforcer, "one/c0").await;
    assert!(exposure.shut && exposure.passed == 0 && exposure.dropped >= 40, "{exposure:?}");
    shutdown.cancel();
    timeout(Duration::from_secs(5), enforcer.stopped()).await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_standard_mode_a_new_pod_is_open_and_what_passes_is_counted() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let ears = Ears::new(&lab);
    let _processes = [&lab.a, &lab.b].map(Process::new);
    let (api, client) = Api::start().await;
    let (enforcer, shutdown) = started(&lab, &api, client, Mode::Standard).await;
    api.tell("networkpolicies", "ADDED", policy("one/shut", &["Egress"], json!({})), 10);
    until(&enforcer, "the policy is in force", |status| status.policies_version == 10).await;
    let fresh = Space::new();
    lab.pod(&fresh, "vc", "10.244.0.4", "fd00:244::4");
    settle(&lab, "10.244.0.4");
    let _process = Process::new(&fresh);
    talk(&fresh, Duration::from_millis(20));
    let open = ears.heard();
    assert!(!open.is_empty(), "a policy isolates it, but the pod is not known yet");
    api.tell("pods", "ADDED", pod("one", "c", "10.244.0.4"), 11);
    until(&enforcer, "the pod is found", |status| status.pods == 3).await;
    ears.heard();
    talk(&fresh, Duration::from_millis(20));
    assert_eq!(ears.heard(), [], "its policies are in");
    let exposure = exposure(&enforcer, "one/c").await;
    println!("{exposure:?}");
    assert!(!exposure.shut && exposure.dropped == 0, "{exposure:?}");
    assert!(exposure.passed >= open.len() as u64, "{exposure:?}, but {} packets were heard", open.len());
    shutdown.cancel();
    timeout(Duration::from_secs(5), enforcer.stopped()).await.expect("it ends");
}

/// The same from an agent of its own: how long the pod was shut stands in its status, and in its metrics.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_exports_how_long_a_new_pod_was_shut() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let _processes = [&lab.a, &lab.b].map(Process::new);
    let api = support::api::Api::start().await;
    support::agent::furnish(&api);
    let agent = support::agent::Agent::start(&lab, &api, &["--mode", "strict"]);
    let fresh = Fresh::new(&lab, 0);
    settle(&lab, &fresh.address);
    talk(&fresh.space, Duration::from_millis(1));
    let _process = Process::new(&fresh.space);
    api.put("pods", support::agent::pod("one", &fresh.name, &fresh.address));
    let status = agent.until("the pod is found", |status| status["exposures"][0]["pod"] == "one/c0");
    let exposure = &status["exposures"][0];
    assert_eq!((&exposure["shut"], &exposure["passed"]), (&json!(true), &json!(0)), "{exposure}");
    let dropped = exposure["dropped"].as_u64().expect("a count");
    assert!(dropped >= 2 && exposure["us"].as_u64() > Some(0), "{exposure}");
    let (_, metrics) = agent.get("/metrics");
    for line in [
        "signalbox_node_exposure_seconds_count 1".to_owned(),
        "signalbox_node_unjudged_passed_total 0".to_owned(),
        format!("signalbox_node_unjudged_dropped_total {dropped}"),
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line}: {metrics}");
    }
}

/// A pod of the crowd.
struct Fresh {
    space: Space,
    name: String,
    address: String,
    address_v6: String,
}

impl Fresh {
    fn new(lab: &Lab, number: usize) -> Self {
        let (high, low) = (1 + number / 250, 2 + number % 250);
        let address = format!("10.244.{high}.{low}");
        let address_v6 = format!("fd00:244::{high}:{low}");
        let fresh = Self { space: Space::new(), name: format!("c{number}"), address, address_v6 };
        lab.pod(&fresh.space, &format!("v{number}"), &fresh.address, &fresh.address_v6);
        fresh
    }

    /// What the API tells of it.
    fn known(&self) -> Value {
        let mut pod = pod("one", &self.name, &self.address);
        pod["status"]["podIPs"] = json!([{"ip": self.address}, {"ip": self.address_v6}]);
        pod
    }
}

/// They come in crowds, and talk from their first moment on, over IPv4 and IPv6; then the whole crowd becomes pods, while they talk, and
/// is isolated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_pods_start_and_no_packet_leaks() {
    const CROWDS: usize = 20;
    const CROWD: usize = 50;
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let ears = Ears::new(&lab);
    let _processes = [&lab.a, &lab.b].map(Process::new);
    let (api, client) = Api::start().await;
    let (enforcer, shutdown) = started(&lab, &api, client, Mode::Strict).await;
    api.tell("networkpolicies", "ADDED", policy("one/shut", &["Egress"], json!({})), 10);
    until(&enforcer, "the policy is in force", |status| status.policies_version == 10).await;
    let (mut dropped, mut version) = (0, 100);
    for crowd in 0..CROWDS {
        let pods: Vec<Fresh> = (0..CROWD)
            .map(|number| {
                let fresh = Fresh::new(&lab, crowd * CROWD + number);
                talk(&fresh.space, Duration::from_millis(1));
                fresh
            })
            .collect();
        for fresh in &pods {
            settle(&lab, &fresh.address);
            talk(&fresh.space, Duration::from_millis(1));
        }
        assert_eq!(ears.heard(), [], "the pods of crowd {crowd} are shut");
        // Many at once, as where a node has been empty.
        let processes: Vec<Process> = pods.iter().map(|fresh| Process::new(&fresh.space)).collect();
        for fresh in &pods {
            version += 1;
            api.tell("pods", "ADDED", fresh.known(), version);
            talk(&fresh.space, Duration::from_millis(1));
        }
        until(&enforcer, "all pods are found", |status| status.pods == 2 + CROWD as u32).await;
        for fresh in &pods {
            talk(&fresh.space, Duration::from_millis(1));
        }
        assert_eq!(ears.heard(), [], "the pods of crowd {crowd} are isolated");
        for fresh in &pods {
            let before = exposure(&enforcer, &format!("one/{}", fresh.name)).await.dropped;
            assert!(before >= 2, "{} did talk, to two hosts: {before} packets", fresh.name);
            dropped += before;
            version += 1;
            api.tell("pods", "DELETED", fresh.known(), version);
        }
        until(&enforcer, "the pods are gone", |status| status.pods == 2).await;
        drop(processes);
    }
    println!("{} pods; {dropped} of their packets were dropped before they were known", CROWDS * CROWD);
    // It was for the policy alone that they got nowhere: without it the next pod is heard, over both families.
    version += 1;
    api.tell("networkpolicies", "DELETED", policy("one/shut", &["Egress"], json!({})), version);
    let open = Fresh::new(&lab, CROWDS * CROWD);
    settle(&lab, &open.address);
    let _process = Process::new(&open.space);
    api.tell("pods", "ADDED", open.known(), version + 1);
    until(&enforcer, "the pod is found", |status| status.pods == 3).await;
    let end = Instant::now() + Duration::from_secs(5);
    let mut heard = [false; 2];
    while heard != [true; 2] {
        assert!(Instant::now() < end, "over IPv4 and IPv6: {heard:?}");
        talk(&open.space, Duration::from_millis(1));
        for from in ears.heard() {
            let IpAddr::V6(from) = from.ip() else { panic!("the sockets are of IPv6") };
            heard[usize::from(from.to_ipv4_mapped().is_none())] = true;
        }
    }
    shutdown.cancel();
    timeout(Duration::from_secs(5), enforcer.stopped()).await.expect("it ends");
}
