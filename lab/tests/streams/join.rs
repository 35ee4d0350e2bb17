//! A host outside the cluster that joins, and is tried from.

use std::sync::Mutex;

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;
use signalbox_api::cell::Outcome;
use signalbox_api::probe::Greeting;
use signalbox_enforcer::uplink::{Authority, Door};
use signalbox_lab::join;
use signalbox_lab_apiserver::reviews::{Identity, Right};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::*;

const USER: &str = "system:serviceaccount:signalbox-system:signalbox-outside";

/// An outside host `users` at loopback, and a pod `a/x` whose address is loopback, too, with this port.
async fn furnish(cluster: &Cluster, port: u16) {
    let kind = GroupVersionKind::gvk("signalbox.dev", "v1alpha1", "ExternalHost");
    let kind = ApiResource::from_gvk_with_plural(&kind, "externalhosts");
    let hosts: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &kind);
    let spec = json!({"addresses": ["127.0.0.1"], "vantage": true});
    let host = DynamicObject::new("users", &kind).data(json!({"spec": spec}));
    hosts.create(&PostParams::default(), &host).await.expect("it is created");
    cluster.namespace("a").await;
    let container = json!({"name": "c", "image": "none", "ports": [{"containerPort": port}]});
    let pod = json!({"metadata": {"name": "x"}, "spec": {"nodeName": "n1", "containers": [container]}});
    cluster.pod("a", pod).await;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(cluster.client.clone(), "a");
    let status = json!({"status": {
        "phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }});
    pods.patch_status("x", &PatchParams::default(), &Patch::Merge(&status)).await.expect("the status is written");
}

/// Says who it is to whoever connects, as the probe in a pod does.
async fn greet(listener: TcpListener) {
    loop {
        let (mut stream, peer) = listener.accept().await.expect("a connection");
        let greeting = Greeting { name: "x".to_owned(), peer };
        let mut line = serde_json::to_vec(&greeting).expect("JSON");
        line.push(b'\n');
        // Whoever connected may have gone.
        let _gone = stream.write_all(&line).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_joins_is_a_vantage_point_until_it_leaves() {
    let cluster = Cluster::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(greet(listener));
    furnish(&cluster, port).await;
    let server = cluster.serve().await;
    let outcome = |snapshot: &signalbox_api::state::Snapshot| {
        let cell = snapshot.cells.iter().find(|cell| cell.key.from == "outside:users" && cell.key.to == "pod:a/x")?;
        cell.probe.clone()
    };
    let before = server.until("a word on the host", |snapshot| outcome(snapshot).is_some()).await;
    let before = outcome(&before).expect("a fact");
    assert_eq!(before.outcome, Outcome::ProbeBroken, "{before:?}");
    assert!(before.detail.as_ref().is_some_and(|detail| detail.contains("nobody has joined as users")), "{before:?}");

    let token = cluster.token(USER, Identity::default());
    let door = Door { authority: Authority::File(cluster.authority().await), ..cluster.door(token) };
    let shutdown = CancellationToken::new();
    let told = Mutex::new(Vec::new());
    let tell = |what: &join::Told| told.lock().expect("no panic").push(what.to_string());
    let refused = join::run(&door, "users", tell, shutdown.clone()).await.expect_err("it has no right to join");
    assert!(refused.to_string().contains("externalhosts/exec"), "{refused}");

    let right = Right {
        verb: "create".to_owned(),
        group: "signalbox.dev".to_owned(),
        resource: "externalhosts/exec".to_owned(),
        namespace: None,
    };
    cluster.api.identities().allow(USER, right);
    let ending = shutdown.clone();
    let joined =
        tokio::spawn(async move { join::run(&door, "users", |_| {}, ending).await.map_err(|error| error.to_string()) });
    let is_open =
        |snapshot: &signalbox_api::state::Snapshot| outcome(snapshot).is_some_and(|fact| fact.outcome == Outcome::Open);
    let open = server.until("an open way", is_open).await;
    let fact = outcome(&open).expect("a fact");
    assert_eq!(fact.seen_source, Some("127.0.0.1".parse().expect("an address")), "the peer's own word came through");

    shutdown.cancel();
    assert_eq!(joined.await.expect("no panic"), Ok(()));
    let is_broken = |snapshot: &signalbox_api::state::Snapshot| {
        outcome(snapshot).is_some_and(|fact| fact.outcome == Outcome::ProbeBroken)
    };
    server.until("the host's absence", is_broken).await;
    server.end().await;
}
