//! An enforcer and the server: reports, absence, loss.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use signalbox_api::flow::{Decision, Protocol};
use signalbox_api::kernel::{EnforcerStatus, FlowEvent, VerdictCount};
use signalbox_api::node::UplinkReport;
use signalbox_enforcer::uplink::{self, Authority, Door, Feed};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::support::*;

/// What stands for a kernel and the enforcer over it.
struct Node {
    events: broadcast::Sender<FlowEvent>,
    status: watch::Sender<EnforcerStatus>,
    report: watch::Receiver<UplinkReport>,
    ended: tokio::task::JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Node {
    fn start(cluster: &Cluster, name: &str, door: Door) -> Self {
        let events = broadcast::channel(64).0;
        let status = EnforcerStatus {
            node: name.to_owned(),
            enforcing: true,
            generation: 5,
            policies_version: 1_000,
            ..EnforcerStatus::default()
        };
        let status = watch::channel(status).0;
        let counts = || {
            let count = VerdictCount {
                source: "a/x".to_owned(),
                destination: "a/y".to_owned(),
                protocol: Protocol::Tcp.into(),
                port: 80,
                allowed: 41,
                denied: 0,
            };
            async move { Ok(vec![count]) }.boxed()
        };
        let counts = Arc::new(counts);
        let feed = Feed { events: events.subscribe(), status: status.subscribe(), counts, inside: None };
        let shutdown = CancellationToken::new();
        let config = uplink::Config { node: name.to_owned(), door, enforces_on: false };
        let (report, ended) = uplink::start(config, feed, cluster.client.clone(), shutdown.clone());
        Self { events, status, report, ended, shutdown }
    }

    /// So many verdicts fall.
    fn judge(&self, count: u16) {
        let node = self.status.borrow().node.clone();
        for port in 1..=count {
            let address = std::net::SocketAddr::from(([10, 244, 0, 5], port));
            let event = FlowEvent {
                node: node.clone(),
                decision: Decision::Allowed,
                direction: None,
                protocol: Protocol::Tcp.into(),
                source: address,
                destination: address,
                source_pod: None,
                destination_pod: None,
                rule: None,
                isolated_by: Vec::new(),
                reason: None,
                generation: 5,
                at_us: 0,
            };
            self.events.send(event).map(drop).expect("the uplink listens");
        }
    }

    async fn until(&mut self, what: &str, wanted: impl Fn(&UplinkReport) -> bool) -> UplinkReport {
        let waiting = self.report.wait_for(wanted);
        let report = tokio::time::timeout(PATIENCE, waiting).await;
        report.unwrap_or_else(|_| panic!("{what} did not come")).expect("the uplink lives").clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enforcer_reports_and_outlives_its_servers() {
    let cluster = Cluster::start().await;
    let token = cluster.enforcer_on("n1").await;
    let mut node = Node::start(&cluster, "n1", cluster.door(token));
    let away = node.until("the first failure", |report| {
        report.trouble.as_ref().is_some_and(|trouble| trouble.contains("whom to trust"))
    });
    assert!(!away.await.connected, "there was never a server, so no authority either");
    node.judge(3);

    let server = cluster.serve().await;
    let report = node.until("the stream", |report| report.connected).await;
    assert_eq!((report.trouble, report.connections), (None, 1));
    let is_shown = |snapshot: &signalbox_api::state::Snapshot| {
        snapshot.enforcers.iter().any(|one| one.node == "n1" && one.enforcing && one.generation == 5)
    };
    let shown = server.until("its status", is_shown).await;
    let link = shown.enforcers[0].link.as_ref().expect("how it is heard");
    assert_eq!((link.version.as_str(), link.lost.as_deref()), (env!("CARGO_PKG_VERSION"), None));
    node.judge(2);
    let report = node.until("what was told", |report| report.sent == 2).await;
    assert_eq!((report.left_out, report.waiting), (3, 0));
    assert!(server.get("/api/v1/kernel/counts").await.contains(r#""allowed":41"#));
    node.status.send_modify(|status| status.generation = 6);
    server.until("the new generation", |snapshot| snapshot.enforcers[0].generation == 6).await;

    server.end().await;
    node.until("the loss of the server", |report| !report.connected).await;
    node.judge(4);
    let server = cluster.serve().await;
    let report = node.until("the next stream", |report| report.connected && report.left_out == 7).await;
    assert_eq!(report.connections, 2);
    server.until("its status, of itself", |snapshot| snapshot.enforcers.iter().any(|one| one.generation == 6)).await;

    // It ends in order and enforces no more without its process: the server says that nobody enforces there.
    node.shutdown.cancel();
    tokio::time::timeout(PATIENCE, &mut node.ended).await.expect("it ends").expect("in order");
    server.until("its end", |snapshot| snapshot.enforcers.is_empty()).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_prove_itself_is_told_nothing() {
    let (cluster, stranger) = (Cluster::start().await, Cluster::start().await);
    let server = cluster.serve().await;
    stranger.serve().await;
    let token = cluster.enforcer_on("n1").await;
    let door = Door { authority: Authority::File(stranger.authority().await), ..cluster.door(token) };
    let mut node = Node::start(&cluster, "n1", door);
    let report = node
        .until("the refusal", |report| {
            report.connections == 0 && report.trouble.as_ref().is_some_and(|why| why.contains("does not prove"))
        })
        .await;
    assert!(!report.connected);
    assert!(server.snapshot().await.enforcers.is_empty());
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_shown_and_tried_again() {
    let cluster = Cluster::start().await;
    let server = cluster.serve().await;
    let token = cluster.enforcer_on("n1").await;
    // The token is of n1's pod, and this says that it is n2.
    let mut node = Node::start(&cluster, "n2", cluster.door(token.clone()));
    let refused =
        |report: &UplinkReport| report.trouble.as_ref().is_some_and(|why| why.contains("may not speak for n2"));
    node.until("the refusal", refused).await;
    node.shutdown.cancel();
    std::fs::write(&token, "made-up").expect("the file is written");
    let mut node = Node::start(&cluster, "n1", cluster.door(token.clone()));
    let refused = |report: &UplinkReport| report.trouble.as_ref().is_some_and(|why| why.contains("401"));
    node.until("the refusal of the token", refused).await;
    // The file is read anew for each connection.
    std::fs::write(&token, "token-of-system:serviceaccount:signalbox-system:signalbox-enforcer")
        .expect("it is written");
    node.until("the stream", |report| report.connected).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(server.snapshot().await.enforcers.len(), 1);
    node.shutdown.cancel();
    server.end().await;
}
