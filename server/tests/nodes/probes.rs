//! Probes from inside of real pods: what the server asks of a node's enforcer, and what it makes of the answer.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use signalbox_api::cell::{Evidence, Outcome};
use signalbox_api::flow::{Decision, Protocol};
use signalbox_api::kernel::FlowEvent;
use signalbox_api::probe::{Request, Response};
use signalbox_api::rest::ProbeReport;
use signalbox_api::stream::{Order, Report};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

const POD: &str = "signalbox-system/web";

/// A server that tries things from inside of pods, with the pod `web` on node n1.
async fn bench(spec: Value) -> Bench {
    let cluster = Cluster::start().await;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let mut all = json!({"nodeName": "n1", "containers": [{"name": "c", "image": "none"}]});
    all.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    let pod = serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": all})).expect("a pod");
    pods.create(&PostParams::default(), &pod).await.expect("it is created");
    let status = json!({"status": {"phase": "Running", "podIP": "10.244.0.2", "podIPs": [{"ip": "10.244.0.2"}]}});
    pods.patch_status("web", &PatchParams::default(), &Patch::Merge(&status)).await.expect("the status is written");
    let server = cluster.serve_with(Cluster::streams(), |config| config.allow_real_pods = true).await;
    Bench { cluster, server }
}

/// Asks with the server's own token; status and body.
async fn ask(address: SocketAddr, token: &str, body: Value) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let body = body.to_string();
    let request = format!(
        "POST /api/v1/probes HTTP/1.0\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("the request is taken");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    (status, text.split_once("\r\n\r\n").expect("an answer").1.to_owned())
}

fn wish(protocol: &str) -> Value {
    json!({"from": POD, "to": {"host": "10.96.0.7", "port": 80, "protocol": protocol}, "timeout_ms": 700})
}

/// Plays an enforcer up to the connection's start.
async fn begin(peer: &mut Peer) -> u64 {
    let Some(Order::Probe { session, pod }) = peer.order().await else { panic!("a probe is asked for") };
    assert_eq!(pod.as_deref(), Some(POD));
    let hello = Response::Hello { version: "9".to_owned(), protocols: vec![Protocol::Tcp] };
    peer.send(&Report::Lines { session, lines: vec![hello] }).await;
    let Some(Order::Lines { session: of, lines }) = peer.order().await else { panic!("a connection is asked for") };
    assert_eq!(of, session);
    let [Request::Connect { id: 1, host, port: 80, timeout_ms: 700, .. }] = lines.as_slice() else {
        panic!("one connection: {lines:?}")
    };
    assert_eq!(host, "10.96.0.7");
    let (local, remote) = ("10.244.0.2:40000".parse().expect("one"), "10.96.0.7:80".parse().expect("one"));
    peer.send(&Report::Lines { session, lines: vec![Response::Started { id: 1, local, remote }] }).await;
    session
}

fn done(outcome: Outcome, evidence: Evidence) -> Response {
    let detail = Some("its own words".to_owned());
    Response::Done { id: 1, outcome, evidence, latency_us: Some(70), peer_name: None, seen_source: None, detail }
}

fn denial(node: &str) -> FlowEvent {
    FlowEvent {
        node: node.to_owned(),
        decision: Decision::Denied,
        direction: Some(signalbox_api::flow::Direction::Ingress),
        protocol: Protocol::Tcp.into(),
        source: "10.244.0.2:40000".parse().expect("an address"),
        destination: "10.244.1.3:8080".parse().expect("an address"),
        source_pod: None,
        destination_pod: Some("b/db".to_owned()),
        rule: None,
        isolated_by: Vec::new(),
        reason: None,
        generation: 7,
        at_us: 9_000,
    }
}

#[tokio::test]
async fn a_connection_is_tried_by_the_enforcer_of_the_pods_node_and_the_answer_comes_back() {
    let bench = bench(json!({})).await;
    let n1 = bench.cluster.enforcer_on("n1").await;
    let mut peer = bench.welcome(&n1, "n1").await;
    let asked = tokio::spawn(ask(bench.server.local_addr(), TOKEN, wish("TCP")));
    let session = begin(&mut peer).await;
    peer.send(&Report::Lines { session, lines: vec![done(Outcome::Open, Evidence::Answer)] }).await;
    let (status, body) = asked.await.expect("an answer");
    assert_eq!(status, 200, "{body}");
    let report: ProbeReport = serde_json::from_str(&body).expect("a report");
    assert_eq!((report.from.as_str(), report.node.as_str()), (POD, "n1"));
    assert_eq!((report.probe.outcome, report.probe.latency_us), (Outcome::Open, Some(70)));
    assert_eq!(report.remote, Some("10.96.0.7:80".parse().expect("an address")));
    assert!(report.kernels.is_empty() && report.elapsed_us > 0, "{report:?}");
    assert_eq!(peer.order().await, Some(Order::End { session }), "and it is ended");

    // A kernel's word, be it another node's, ends it at once.
    let n2 = bench.cluster.enforcer_on("n2").await;
    let mut other = bench.welcome(&n2, "n2").await;
    let asked = tokio::spawn(ask(bench.server.local_addr(), TOKEN, wish("TCP")));
    let session = begin(&mut peer).await;
    other.send(&Report::Flows { events: vec![denial("n2")], before: 0 }).await;
    let Some(Order::Lines { lines, .. }) = peer.order().await else { panic!("it is told") };
    assert_eq!(lines, [Request::Dropped { id: 1 }]);
    peer.send(&Report::Lines { session, lines: vec![done(Outcome::Dropped, Evidence::KernelEvent)] }).await;
    let (status, body) = asked.await.expect("an answer");
    let report: ProbeReport = serde_json::from_str(&body).expect("a report");
    assert_eq!((status, report.probe.outcome, report.probe.evidence), (200, Outcome::Dropped, Evidence::KernelEvent));
    assert_eq!(report.probe.backend.as_deref(), Some("pod:b/db"), "the kernel knows whom it was for");
    let [word] = report.kernels.as_slice() else { panic!("one word: {report:?}") };
    assert_eq!((word.decision, word.generation, word.nodes[0].node.as_str()), (Decision::Denied, 7, "n2"));
    assert_eq!(peer.order().await, Some(Order::End { session }));

    // Silence over UDP is no denial, and a reset is no listener.
    let told = "silence says nothing";
    for (protocol, line, outcome, words) in [
        ("UDP", done(Outcome::Dropped, Evidence::Timeout), Outcome::ProbeBroken, told),
        ("TCP", done(Outcome::Dropped, Evidence::Timeout), Outcome::Dropped, "its own words"),
        ("TCP", done(Outcome::Refused, Evidence::Answer), Outcome::Refused, "nobody there was asked"),
    ] {
        let asked = tokio::spawn(ask(bench.server.local_addr(), TOKEN, wish(protocol)));
        let session = begin(&mut peer).await;
        peer.send(&Report::Lines { session, lines: vec![line] }).await;
        let report: ProbeReport = serde_json::from_str(&asked.await.expect("an answer").1).expect("a report");
        assert_eq!(report.probe.outcome, outcome, "{report:?}");
        assert!(report.probe.detail.as_ref().is_some_and(|detail| detail.contains(words)), "{report:?}");
        assert_eq!(peer.order().await, Some(Order::End { session }));
    }
    bench.end().await;
}

#[tokio::test]
async fn what_keeps_it_from_being_tried_is_said() {
    let bench = bench(json!({})).await;
    let address = bench.server.local_addr();
    let (status, body) = ask(address, "another-token-entirely", wish("TCP")).await;
    assert_eq!(status, 401, "{body}");
    let (status, body) = ask(address, TOKEN, wish("TCP")).await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("nothing was tried: the enforcer of node n1 is not connected"), "{body}");
    let n1 = bench.cluster.enforcer_on("n1").await;
    let mut peer = bench.welcome(&n1, "n1").await;
    // Its own words.
    let asked = tokio::spawn(ask(address, TOKEN, wish("TCP")));
    let Some(Order::Probe { session, .. }) = peer.order().await else { panic!("a probe is asked for") };
    peer.send(&Report::Ended { session, why: "start it with --allow-probes-in-pods".to_owned() }).await;
    let (status, body) = asked.await.expect("an answer");
    assert!(status == 503 && body.contains("--allow-probes-in-pods"), "{status} {body}");
    assert_eq!(peer.order().await, Some(Order::End { session }));
    // It goes in the middle.
    let asked = tokio::spawn(ask(address, TOKEN, wish("TCP")));
    begin(&mut peer).await;
    drop(peer);
    let (status, body) = asked.await.expect("an answer");
    assert!(status == 503 && body.contains("the enforcer of node n1 ended"), "{status} {body}");
    // It says nothing.
    let mut peer = bench.welcome(&n1, "n1").await;
    let asked = tokio::spawn(ask(address, TOKEN, wish("TCP")));
    let session = begin(&mut peer).await;
    let (status, body) = asked.await.expect("an answer");
    assert!(status == 503 && body.contains("does not answer in time"), "{status} {body}");
    assert_eq!(peer.order().await, Some(Order::End { session }));
    bench.end().await;
}

#[tokio::test]
async fn a_pod_that_is_the_node_and_a_server_without_the_switch_try_nothing() {
    let bench = bench(json!({"hostNetwork": true})).await;
    let n1 = bench.cluster.enforcer_on("n1").await;
    let _peer = bench.welcome(&n1, "n1").await;
    let (status, body) = ask(bench.server.local_addr(), TOKEN, wish("TCP")).await;
    assert!(status == 409 && body.contains("hostNetwork"), "{status} {body}");
    let plain = bench.cluster.serve(Cluster::streams()).await;
    let (status, body) = ask(plain.local_addr(), TOKEN, wish("TCP")).await;
    assert!(status == 403 && body.contains("--allow-real-pods"), "{status} {body}");
    bench.end().await;
}
