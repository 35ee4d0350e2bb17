//! `signalbox why --in-pod`: the command, the server and an enforcer's stream; the kernel is played.

use std::process::Stdio;

use futures::{SinkExt, StreamExt};
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use signalbox_api::cell::{Evidence, Outcome};
use signalbox_api::flow::{Decision, Direction, PolicyRef, Protocol, RuleRef};
use signalbox_api::kernel::FlowEvent;
use signalbox_api::probe::{Request, Response};
use signalbox_api::stream::{Order, Report, Role, SPOKEN};
use signalbox_enforcer::uplink::{Socket, dial};
use signalbox_server::Vantages;
use tokio_tungstenite::tungstenite::Message;

use crate::support::*;

/// Pods `shop/web` and `shop/db`, which run no probe.
async fn furnish(cluster: &Cluster) {
    cluster.namespace("shop").await;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "shop");
    for (name, address) in [("web", "10.244.0.2"), ("db", "10.244.0.3")] {
        let container = json!({"name": "c", "image": "none", "ports": [{"containerPort": 5432}]});
        cluster
            .pod("shop", json!({"metadata": {"name": name}, "spec": {"nodeName": "n1", "containers": [container]}}))
            .await;
        let status = json!({"status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.expect("the status is written");
    }
}

async fn send(socket: &mut Socket, report: &Report) {
    socket.send(Message::text(serde_json::to_string(report).expect("JSON"))).await.expect("it is taken");
}

/// Plays the enforcer of n1: each connection that is asked for is denied by the kernel.
async fn enforce(mut socket: Socket) {
    let role = Role::Enforcer { node: "n1".to_owned() };
    send(&mut socket, &Report::Hello { protocol: SPOKEN, version: "9".to_owned(), role, started_us: 1 }).await;
    let mut fallen = 0;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        match serde_json::from_str(&text).expect("an order") {
            Order::Probe { session, pod } => {
                assert_eq!(pod.as_deref(), Some("shop/web"));
                let hello = Response::Hello { version: "9".to_owned(), protocols: vec![Protocol::Tcp] };
                send(&mut socket, &Report::Lines { session, lines: vec![hello] }).await;
            }
            Order::Lines { session, lines } => {
                let line = match &lines[0] {
                    Request::Connect { id, host, port, .. } => {
                        let remote = format!("{host}:{port}").parse().expect("an address");
                        let local = "10.244.0.2:40000".parse().expect("an address");
                        let started = Response::Started { id: *id, local, remote };
                        send(&mut socket, &Report::Flows { events: vec![denial()], before: fallen }).await;
                        fallen += 1;
                        started
                    }
                    Request::Dropped { id } => Response::Done {
                        id: *id,
                        outcome: Outcome::Dropped,
                        evidence: Evidence::KernelEvent,
                        latency_us: None,
                        peer_name: None,
                        seen_source: None,
                        detail: None,
                    },
                    other => panic!("{other:?}"),
                };
                send(&mut socket, &Report::Lines { session, lines: vec![line] }).await;
            }
            _ => {}
        }
    }
}

fn denial() -> FlowEvent {
    let policy =
        PolicyRef { kind: "NetworkPolicy".to_owned(), namespace: Some("shop".to_owned()), name: "shut".to_owned() };
    FlowEvent {
        node: "n1".to_owned(),
        decision: Decision::Denied,
        direction: Some(Direction::Ingress),
        protocol: Protocol::Tcp.into(),
        source: "10.244.0.2:40000".parse().expect("an address"),
        destination: "10.244.0.3:5432".parse().expect("an address"),
        source_pod: Some("shop/web".to_owned()),
        destination_pod: Some("shop/db".to_owned()),
        rule: Some(RuleRef { policy, direction: Direction::Ingress, rule: 0, peer: None, port: None }),
        isolated_by: Vec::new(),
        reason: None,
        generation: 4,
        at_us: 5,
    }
}

/// Runs `signalbox why`, and gives back its standard output.
async fn why(cluster: &Cluster, server: &Running, more: &[&str]) -> String {
    why_at(cluster, &format!("http://{}", server.server.local_addr()), more).await
}

async fn why_at(cluster: &Cluster, server: &str, more: &[&str]) -> String {
    let (code, out, err) = ask(cluster, server, "shop/db:5432", more).await;
    assert_eq!(code, Some(0), "no policy is there, so it is allowed: {out}{err}");
    out
}

/// Runs `signalbox why shop/web TO`: exit status, standard output and standard error.
async fn ask(cluster: &Cluster, server: &str, to: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let file = |name: &str, text: &str| {
        let path = cluster.folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_signalbox"))
        .args(["why", "shop/web", to, "--kubeconfig"])
        .arg(file("kubeconfig", &cluster.api.kubeconfig(None)))
        .args(["--server", server, "--token-file"])
        .arg(file("server-token", TOKEN))
        .args(more)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("the binary runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("$ signalbox why … {to} {more:?}\n{out}{err}");
    (output.status.code(), out.into_owned(), err.into_owned())
}

/// Through a Service the pods behind it are judged and tried; its own address was judged as one outside.
#[tokio::test(flavor = "multi_thread")]
async fn why_asks_about_the_pods_behind_a_service() {
    let cluster = Cluster::start().await;
    furnish(&cluster).await;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "shop");
    let labels = json!({"metadata": {"labels": {"app": "db"}}});
    pods.patch("db", &PatchParams::default(), &Patch::Merge(&labels)).await.expect("a label");
    let services: Api<Service> = Api::namespaced(cluster.client.clone(), "shop");
    for (name, app) in [("sql", "db"), ("none", "nobody")] {
        let ports = json!([{"name": "sql", "port": 80, "targetPort": 5432}]);
        let service = json!({"metadata": {"name": name}, "spec": {"selector": {"app": app}, "ports": ports}});
        let service = serde_json::from_value(service).expect("a Service");
        services.create(&PostParams::default(), &service).await.expect("it is created");
    }
    let address = services.get("sql").await.expect("the Service").spec.and_then(|spec| spec.cluster_ip);
    let by_address = format!("{}:80", address.expect("an address of the cluster"));
    let server = cluster
        .serve_with(|config| {
            config.vantages = Vantages::Labelled;
            config.allow_real_pods = true;
        })
        .await;
    let token = cluster.enforcer_on("n1").await;
    let (socket, _token) = dial(&cluster.door(token), Some(&cluster.client)).await.expect("a stream");
    let playing = tokio::spawn(enforce(socket));
    server.until("the enforcer", |snapshot| snapshot.enforcers.iter().any(|one| one.node == "n1")).await;
    let url = format!("http://{}", server.server.local_addr());
    for to in [by_address.as_str(), "shop/service/sql:80", "svc/sql"] {
        let (code, out, err) = ask(&cluster, &url, to, &["--in-pod", "-n", "shop", "-o", "json"]).await;
        assert_eq!(code, Some(0), "{to}: {out}{err}");
        let value: Value = serde_json::from_str(&out).expect("JSON");
        let spec = &value["spec"];
        assert_eq!(spec["service"], json!({"name": "shop/sql", "verdict": "allowed"}), "{to}: {spec:#}");
        assert_eq!((&spec["answers"][0]["to"], &spec["answers"][0]["port"]), (&json!("shop/db"), &json!(5432)));
        let backends = value["live"]["backends"].as_array().expect("a list");
        assert_eq!(backends.len(), 1, "{to}: {backends:#?}");
        let report = &backends[0]["in_pod"];
        assert_eq!((&report["to"]["host"], &report["to"]["port"]), (&json!("pod:shop/db"), &json!(5432)), "{report:#}");
        assert_eq!(
            (&report["probe"]["outcome"], &report["kernels"][0]["decision"]),
            (&json!("dropped"), &json!("denied"))
        );
    }
    let (_, out, _) = ask(&cluster, &url, "shop/service/sql:80", &["--in-pod"]).await;
    for part in ["backend   shop/db port 5432: the policies say allowed", "kernel    denied", "contradicts itself"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (code, out, err) = ask(&cluster, &url, "shop/service/none:80", &[]).await;
    assert!(code == Some(2) && out.is_empty() && err.contains("Service shop/none selects no ready pod"), "{out}{err}");
    playing.abort();
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_tries_it_from_inside_of_the_pod_or_says_what_it_takes() {
    let cluster = Cluster::start().await;
    furnish(&cluster).await;
    let server = cluster
        .serve_with(|config| {
            config.vantages = Vantages::Labelled;
            config.allow_real_pods = true;
        })
        .await;
    // Nothing runs in the pod: what could be done is said, where it can.
    let told = why(&cluster, &server, &[]).await;
    assert!(told.contains("--stand-in deploys one with its labels, --in-pod tries it"), "{told}");
    let told = why(&cluster, &server, &["--in-pod"]).await;
    assert!(told.contains("the enforcer of node n1 is not connected"), "{told}");
    assert!(!told.contains("from inside the network namespace"), "{told}");

    let token = cluster.enforcer_on("n1").await;
    let (socket, _token) = dial(&cluster.door(token), Some(&cluster.client)).await.expect("a stream");
    let playing = tokio::spawn(enforce(socket));
    server.until("the enforcer", |snapshot| snapshot.enforcers.iter().any(|one| one.node == "n1")).await;
    let told = why(&cluster, &server, &["--in-pod"]).await;
    let line = told.lines().find(|line| line.starts_with("in pod")).unwrap_or_else(|| panic!("{told}"));
    assert!(line.contains("dropped from inside the network namespace of shop/web (by the kernel's event"), "{line}");
    assert!(told.contains("denied on the ingress side by shop/shut") && told.contains("on n1"), "{told}");
    assert!(!told.contains("nothing was tried") && told.contains("contradicts itself"), "{told}");
    let json = why(&cluster, &server, &["--in-pod", "-o", "json"]).await;
    let value: Value = serde_json::from_str(&json).expect("JSON");
    let report = &value["live"]["in_pod"];
    assert_eq!(
        (&report["probe"]["outcome"], &report["probe"]["evidence"]),
        (&json!("dropped"), &json!("kernel-event"))
    );
    assert_eq!(
        (&report["from"], &report["node"], &report["to"]["host"]),
        (&json!("shop/web"), &json!("n1"), &json!("pod:shop/db"))
    );
    assert_eq!(report["kernels"][0]["decision"], "denied");
    playing.abort();
    server.end().await;

    // A server that tries nothing there does not have it suggested, and says what it takes.
    let server = cluster.serve_with(|config| config.vantages = Vantages::Labelled).await;
    let told = why(&cluster, &server, &[]).await;
    assert!(told.contains("--stand-in deploys") && !told.contains("--in-pod"), "{told}");
    let told = why(&cluster, &server, &["--in-pod"]).await;
    assert!(told.contains("--allow-real-pods"), "{told}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_tls_is_asked_where_it_proves_itself() {
    let (cluster, stranger) = (Cluster::start().await, Cluster::start().await);
    furnish(&cluster).await;
    // The server's own certificate, which is for localhost, too; it is made with the streams.
    let first = cluster.serve().await;
    let authority = cluster.authority().await.display().to_string();
    stranger.serve().await.end().await;
    let strange = stranger.authority().await.display().to_string();
    first.end().await;
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let data = secrets.get("signalbox-server-tls").await.expect("the Secret").data.expect("data");
    let files = ["tls.crt", "tls.key"].map(|name| {
        let path = cluster.folder.path().join(name);
        std::fs::write(&path, &data[name].0).expect("written");
        path
    });
    let server = cluster
        .serve_with(|config| {
            config.vantages = Vantages::Labelled;
            config.allow_real_pods = true;
            config.tls = Some(signalbox_server::Tls::from_files(&files[0], &files[1]).expect("certificate and key"));
        })
        .await;
    let url = format!("https://localhost:{}", server.server.local_addr().port());
    let told = why_at(&cluster, &url, &["--in-pod", "--server-ca", &authority]).await;
    assert!(told.contains("the enforcer of node n1 is not connected"), "{told}");
    let told = why_at(&cluster, &url, &["--in-pod", "--server-ca", &strange]).await;
    assert!(told.contains("does not prove to be the server"), "{told}");
    let told = why_at(&cluster, &url, &["--in-pod"]).await;
    assert!(told.contains("name a file with --server-ca"), "{told}");
    server.end().await;
}
