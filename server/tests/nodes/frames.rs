//! What goes over a stream, and what ends it.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use signalbox_api::kernel::VerdictCount;
use signalbox_api::stream::{LONGEST_FRAME, Order, Refusal, Report, Role, SPOKEN, Versions};
use signalbox_server::StreamsConfig;
use tokio_tungstenite::tungstenite::Message;

use crate::support::*;

#[tokio::test]
async fn an_enforcer_is_shown_as_it_says_and_lost_when_it_goes() {
    let bench = Bench::start().await;
    let (n1, n2) = (bench.cluster.enforcer_on("n1").await, bench.cluster.enforcer_on("n2").await);
    let mut one = bench.welcome(&n1, "n1").await;
    let mut two = bench.welcome(&n2, "n2").await;
    one.send(&status("n1")).await;
    two.send(&status("n2")).await;
    let shown = bench.until("both", |all| all.len() == 2 && all.iter().all(|one| one.enforcing)).await;
    let link = shown[0].link.as_ref().expect("how it is heard");
    assert_eq!((link.version.as_str(), link.lost.as_deref(), shown[0].generation), ("9.9.9", None, 3));
    drop(two);
    let shown = bench.until("the loss of n2", |all| all.iter().any(|one| !one.enforcing)).await;
    assert!(shown[0].enforcing && !shown[1].enforcing, "{shown:?}");
    assert!(shown[1].link.as_ref().is_some_and(|link| link.lost.is_some()));
    // It ends in order, and enforces on: that is no more than lost. Else it is gone.
    one.send(&Report::Goodbye { enforces_on: false }).await;
    let shown = bench.until("the end of n1", |all| all.len() == 1).await;
    assert_eq!(shown[0].node, "n2");
    bench.end().await;
}

#[tokio::test]
async fn a_newer_stream_takes_the_place_of_an_older_one() {
    let bench = Bench::start().await;
    let n1 = bench.cluster.enforcer_on("n1").await;
    let mut old = bench.welcome(&n1, "n1").await;
    old.send(&status("n1")).await;
    bench.until("the old one", |all| all.iter().any(|one| one.enforcing)).await;
    let mut new = bench.welcome(&n1, "n1").await;
    assert_eq!(old.refused().await.0, Refusal::Replaced);
    new.send(&status("n1")).await;
    bench.until("the new one", |all| all.iter().any(|one| one.enforcing)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(bench.enforcers().await[0].enforcing, "the end of the old one is no news");
    bench.end().await;
}

#[tokio::test]
async fn versions_that_have_nothing_in_common_are_told_who_is_behind() {
    let bench = Bench::start().await;
    let n1 = bench.cluster.enforcer_on("n1").await;
    let role = || Role::Enforcer { node: "n1".to_owned() };
    let after = SPOKEN.newest + 1;
    for (protocol, expected) in [
        (Versions { oldest: 0, newest: SPOKEN.oldest - 1 }, Some((Refusal::TooOld, "upgrade it"))),
        (Versions { oldest: after, newest: after }, Some((Refusal::TooNew, "upgrade the server first"))),
        (Versions { oldest: SPOKEN.newest, newest: after }, None),
    ] {
        let mut peer = bench.open(Some(&n1)).await.expect("a stream");
        match (peer.hello_as(protocol, role()).await, expected) {
            (Order::Welcome { protocol, .. }, None) => assert_eq!(protocol, SPOKEN.newest),
            (Order::Refused { reason, message }, Some((expected, advice))) => {
                assert_eq!(reason, expected);
                assert!(message.contains(advice) && message.contains("9.9.9"), "{message}");
            }
            (order, _) => panic!("{protocol:?}: {order:?}"),
        }
    }
    bench.end().await;
}

#[tokio::test]
async fn frames_that_are_not_known_are_passed_over_and_broken_ones_end_the_stream() {
    let bench = Bench::start().await;
    let n1 = bench.cluster.enforcer_on("n1").await;
    let mut peer = bench.welcome(&n1, "n1").await;
    peer.send_text(r#"{"type":"weather","sunny":true}"#).await;
    peer.send(&status("n1")).await;
    bench.until("what came after it", |all| all.iter().any(|one| one.enforcing)).await;
    for (what, frame) in [
        ("no JSON", Message::text("{")),
        ("another shape", Message::text(r#"{"type":"flows","events":7}"#)),
        ("a second hello", Message::text(hello_text())),
        ("binary", Message::binary(vec![1, 2, 3])),
    ] {
        let mut peer = bench.welcome(&n1, "n1").await;
        peer.socket.send(frame).await.expect("the frame is taken");
        assert_eq!(peer.refused().await.0, Refusal::Protocol, "{what}");
    }
    let mut peer = bench.open(Some(&n1)).await.expect("a stream");
    peer.send(&status("n1")).await;
    assert_eq!(peer.refused().await.0, Refusal::Protocol, "no hello first");
    bench.end().await;
}

fn hello_text() -> String {
    let role = Role::Enforcer { node: "n1".to_owned() };
    serde_json::to_string(&Report::Hello { protocol: SPOKEN, version: "1".to_owned(), role, started_us: 1 })
        .expect("JSON")
}

#[tokio::test]
async fn a_frame_that_is_too_long_ends_the_stream() {
    let bench = Bench::start().await;
    let n1 = bench.cluster.enforcer_on("n1").await;
    let mut peer = bench.welcome(&n1, "n1").await;
    peer.send(&status("n1")).await;
    bench.until("its status", |all| all.iter().any(|one| one.enforcing)).await;
    let long = format!(r#"{{"type":"weather","text":"{}"}}"#, "x".repeat(LONGEST_FRAME));
    // The server may close before it has taken all of it.
    let _closed = peer.socket.send(Message::text(long)).await;
    let shown = bench.until("the loss", |all| all.iter().all(|one| !one.enforcing)).await;
    assert!(shown[0].link.as_ref().is_some_and(|link| link.lost.is_some()), "{shown:?}");
    bench.end().await;
}

#[tokio::test]
async fn a_peer_that_is_silent_is_lost_and_one_that_says_nothing_at_first_is_refused() {
    let quick =
        StreamsConfig { ping: Duration::from_millis(50), greeting: Duration::from_millis(300), ..Cluster::streams() };
    let bench = Bench::start_with(quick).await;
    let n1 = bench.cluster.enforcer_on("n1").await;
    let mut peer = bench.open(Some(&n1)).await.expect("a stream");
    assert_eq!(peer.refused().await.0, Refusal::Protocol, "no hello in time");
    let mut peer = bench.welcome(&n1, "n1").await;
    peer.send(&status("n1")).await;
    bench.until("its status", |all| all.iter().any(|one| one.enforcing)).await;
    // Whoever does not read answers no ping.
    let shown = bench.until("the loss", |all| all.iter().all(|one| !one.enforcing)).await;
    let lost = shown[0].link.as_ref().and_then(|link| link.lost.clone()).expect("lost");
    assert!(lost.contains("nothing was heard of it"), "{lost}");
    // One that reads answers pings by that, and stays; how long it takes is told.
    let mut peer = bench.welcome(&n1, "n1").await;
    peer.send(&status("n1")).await;
    let reading = tokio::spawn(async move { while peer.socket.next().await.is_some_and(|next| next.is_ok()) {} });
    let measured = |all: &[signalbox_api::kernel::EnforcerStatus]| {
        all.iter().any(|one| one.link.as_ref().is_some_and(|link| link.round_trip_us.is_some()))
    };
    bench.until("a round trip", measured).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(bench.enforcers().await[0].enforcing);
    reading.abort();
    bench.end().await;
}

#[tokio::test]
async fn connections_are_bounded_and_a_slot_comes_back() {
    let few = StreamsConfig { max_connections: 2, ..Cluster::streams() };
    let bench = Bench::start_with(few).await;
    let n1 = bench.cluster.enforcer_on("n1").await;
    let n2 = bench.cluster.enforcer_on("n2").await;
    let one = bench.welcome(&n1, "n1").await;
    let _two = bench.welcome(&n2, "n2").await;
    let maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> =
        kube::Api::namespaced(bench.cluster.client.clone(), NAMESPACE);
    let pem = maps.get("signalbox-ca").await.expect("the ConfigMap").data.expect("data")["ca.crt"].clone();
    assert!(bench.connect_trusting(&pem).await.is_err(), "the third");
    drop(one);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while bench.connect_trusting(&pem).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the slot did not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bench.end().await;
}

#[tokio::test]
async fn verdicts_that_were_left_out_are_counted_and_counts_are_asked_of_every_node() {
    let bench = Bench::start().await;
    let n1 = bench.cluster.enforcer_on("n1").await;
    let mut peer = bench.welcome(&n1, "n1").await;
    peer.send(&status("n1")).await;
    for before in [3, 3, 7] {
        peer.send(&Report::Flows { events: Vec::new(), before }).await;
    }
    let sum = |wanted| {
        move |all: &[signalbox_api::kernel::EnforcerStatus]| {
            all.iter().any(|one| one.link.as_ref().is_some_and(|link| link.left_out == wanted))
        }
    };
    bench.until("the sum, without what fell before the first of them", sum(4)).await;
    // Another stream of the same process goes on where the first one was, whatever that still had under way.
    let mut peer = bench.welcome(&n1, "n1").await;
    peer.send(&status("n1")).await;
    peer.send(&Report::Flows { events: Vec::new(), before: 9 }).await;
    bench.until("the sum over both", sum(6)).await;
    let asked = tokio::spawn(counts(bench.server.local_addr()));
    let Some(Order::Counts { id }) = peer.order().await else { panic!("it is asked for its counts") };
    let count = VerdictCount {
        source: "a/x".to_owned(),
        destination: "a/y".to_owned(),
        protocol: signalbox_api::flow::IpProtocol::Transport(signalbox_api::flow::Protocol::Tcp),
        port: 80,
        allowed: 5,
        denied: 0,
    };
    peer.send(&Report::Counts { id, counts: Ok(vec![count]) }).await;
    let answer = asked.await.expect("an answer");
    assert!(answer.contains("200 OK") && answer.contains(r#""allowed":5"#), "{answer}");
    // A sum without one of the nodes would be wrong: then there is none.
    let asked = tokio::spawn(counts(bench.server.local_addr()));
    let Some(Order::Counts { id }) = peer.order().await else { panic!("it is asked again") };
    peer.send(&Report::Counts { id, counts: Err("the map cannot be read".to_owned()) }).await;
    let answer = asked.await.expect("an answer");
    assert!(!answer.contains("200 OK") && answer.contains("n1: the map cannot be read"), "{answer}");
    bench.end().await;
}

async fn counts(address: std::net::SocketAddr) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET /api/v1/kernel/counts HTTP/1.0\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the request is taken");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    text
}
