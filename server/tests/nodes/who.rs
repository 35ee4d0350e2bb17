//! Who may open a stream, and for whom it speaks.

use signalbox_api::stream::{Order, Refusal, Role, SPOKEN};
use signalbox_lab_apiserver::reviews::{Identity, Right};

use crate::support::*;

#[tokio::test]
async fn without_a_good_token_there_is_no_stream() {
    let bench = Bench::start().await;
    let identities = bench.cluster.identities();
    let good = bench.cluster.enforcer_on("n1").await;
    identities.admit("for-the-api", Identity { audiences: Vec::new(), ..enforcer() });
    identities.admit("for-another", Identity { audiences: vec!["vault".to_owned()], ..enforcer() });
    let long = "x".repeat(20_000);
    for (what, token) in [
        ("no token", None),
        ("an unknown one", Some("made-up")),
        ("one for the API", Some("for-the-api")),
        ("one for another audience", Some("for-another")),
        ("one that is too long", Some(long.as_str())),
    ] {
        assert_eq!(bench.open(token).await.map(|_| ()), Err(401), "{what}");
    }
    let mut peer = bench.welcome(&good, "n1").await;
    peer.send(&status("n1")).await;
    bench.until("the good one's status", |all| all.iter().any(|one| one.node == "n1" && one.enforcing)).await;
    assert_eq!(bench.enforcers().await.len(), 1, "the others had no effect");
    bench.end().await;
}

#[tokio::test]
async fn one_nodes_enforcer_cannot_speak_for_another_nor_anybody_else_for_any() {
    let bench = Bench::start().await;
    let identities = bench.cluster.identities();
    let n1 = bench.cluster.enforcer_on("n1").await;
    identities.admit("foreign", Identity { user: "system:serviceaccount:shop:web".to_owned(), ..enforcer() });
    identities.admit("unbound", enforcer());
    let claims = |claims: &[(&str, &str)]| {
        let claim =
            |(name, value): &(&str, &str)| (format!("authentication.kubernetes.io/{name}"), vec![(*value).to_owned()]);
        claims.iter().map(claim).collect()
    };
    let gone = claims(&[("pod-name", "signalbox-enforcer-n1"), ("pod-uid", "of-an-older-pod")]);
    identities.admit("of-a-pod-that-is-gone", Identity { extra: gone, ..enforcer() });
    let on_n2 = claims(&[("node-name", "n2")]);
    identities.admit("names-its-node", Identity { extra: on_n2, ..enforcer() });
    for (what, token, node, expected) in [
        ("another node", n1.as_str(), "n2", Some("bound to node n1, and may not speak for n2")),
        ("another account", "foreign", "n1", Some("is not the enforcers' account")),
        ("bound to nothing", "unbound", "n1", Some("bound to no pod")),
        ("bound to a pod that is gone", "of-a-pod-that-is-gone", "n1", Some("is gone, or on no node")),
        ("another node than the token names", "names-its-node", "n1", Some("bound to node n2")),
        ("its own node by its pod", n1.as_str(), "n1", None),
        ("its own node by its token", "names-its-node", "n2", None),
    ] {
        let mut peer = bench.open(Some(token)).await.expect("the token is good");
        match (peer.hello(node).await, expected) {
            (Order::Welcome { .. }, None) => {}
            (Order::Refused { reason, message }, Some(expected)) => {
                assert_eq!(reason, Refusal::NotYours, "{what}");
                assert!(message.contains(expected), "{what}: {message}");
            }
            (order, _) => panic!("{what}: {order:?}"),
        }
    }
    bench.end().await;
}

#[tokio::test]
async fn what_an_enforcer_says_of_another_node_ends_its_stream() {
    let bench = Bench::start().await;
    let n1 = bench.cluster.enforcer_on("n1").await;
    let mut peer = bench.welcome(&n1, "n1").await;
    peer.send(&status("n2")).await;
    let (reason, message) = peer.refused().await;
    assert_eq!(reason, Refusal::NotYours, "{message}");
    let enforcers = bench.until("the loss", |all| all.iter().any(|one| one.problems.len() == 1)).await;
    assert!(enforcers.iter().all(|one| one.node == "n1" && !one.enforcing), "{enforcers:?}");
    bench.end().await;
}

#[tokio::test]
async fn an_outside_host_needs_the_right_to_join() {
    let bench = Bench::start().await;
    let identities = bench.cluster.identities();
    for (token, user) in [("users", "system:serviceaccount:a:users"), ("nobody", "system:serviceaccount:a:nobody")] {
        identities.admit(token, Identity { user: user.to_owned(), ..enforcer() });
    }
    let right = Right {
        verb: "create".to_owned(),
        group: "signalbox.dev".to_owned(),
        resource: "externalhosts/exec".to_owned(),
        namespace: None,
    };
    identities.allow("system:serviceaccount:a:users", right);
    let role = || Role::Outside { host: "users".to_owned() };
    let mut allowed = bench.open(Some("users")).await.expect("a stream");
    assert!(matches!(allowed.hello_as(SPOKEN, role()).await, Order::Welcome { .. }));
    let mut refused = bench.open(Some("nobody")).await.expect("a stream");
    let Order::Refused { reason, message } = refused.hello_as(SPOKEN, role()).await else { panic!("it may not join") };
    assert_eq!(reason, Refusal::NotYours);
    assert!(message.contains("externalhosts/exec"), "{message}");
    // Whoever may join is no enforcer for that.
    allowed.send(&status("n1")).await;
    assert_eq!(allowed.refused().await.0, Refusal::NotYours);
    assert!(bench.enforcers().await.is_empty());
    bench.end().await;
}

#[tokio::test]
async fn a_token_that_is_no_longer_good_ends_its_stream_unless_a_newer_one_came() {
    let streams = signalbox_server::StreamsConfig {
        review: std::time::Duration::from_millis(100),
        ping: std::time::Duration::from_secs(60),
        ..Cluster::streams()
    };
    let bench = Bench::start_with(streams).await;
    let n1 = bench.cluster.enforcer_on("n1").await;
    let mut peer = bench.welcome(&n1, "n1").await;
    let other = bench.cluster.enforcer_on("n2").await;
    let token = signalbox_api::stream::Secret(other);
    peer.send(&signalbox_api::stream::Report::Token { token }).await;
    let (reason, message) = peer.refused().await;
    assert_eq!((reason, message.as_str()), (Refusal::Token, "the new token is somebody else's"));
    let mut peer = bench.welcome(&n1, "n1").await;
    let token = signalbox_api::stream::Secret("made-up".to_owned());
    peer.send(&signalbox_api::stream::Report::Token { token }).await;
    assert_eq!(peer.refused().await.0, Refusal::Token);
    bench.end().await;
}
