//! The whole enforcer against an API server: the smallest one that can list and watch, on loopback.

mod support;

use std::{
    collections::HashMap,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use signalbox_api::{flow::Decision, kernel::EnforcerStatus};
use signalbox_enforcer::{Config, Enforcer};
use support::{Echo, Lab, NODE, OUTSIDE, POD_A, POD_B, Space, can_run, policy};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::broadcast,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Lists and watches.
#[derive(Clone)]
struct Api {
    objects: Arc<Mutex<HashMap<String, Vec<Value>>>>,
    /// What it answers when it is asked for the resources of a group; what is not there it does not serve.
    groups: HashMap<String, Value>,
    /// Version, kind and event of all that was told.
    told: Arc<Mutex<Vec<(u64, String, Value)>>>,
    news: broadcast::Sender<(String, Value)>,
}

impl Api {
    /// Serves on loopback, and gives a client for it.
    async fn start() -> (Self, kube::Client) {
        Self::serving(HashMap::new()).await
    }

    /// The same with kinds that are no part of Kubernetes, by group and version.
    async fn serving(groups: HashMap<String, Value>) -> (Self, kube::Client) {
        let api = Self { objects: Arc::default(), groups, told: Arc::default(), news: broadcast::channel(1024).0 };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let server = api.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().answer(stream));
            }
        });
        let url = format!("http://{address}").parse().expect("a URL");
        let client = kube::Client::try_from(kube::Config::new(url)).expect("a client without TLS");
        (api, client)
    }

    async fn answer(self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut first = String::new();
        stream.read_line(&mut first).await?;
        let mut line = String::new();
        while stream.read_line(&mut line).await? > 2 {
            line.clear();
        }
        let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let plural = path.rsplit('/').next().unwrap_or_default().to_owned();
        if query.contains("watch=true") {
            let seen =
                query.split('&').find_map(|part| part.strip_prefix("resourceVersion=")?.parse().ok()).unwrap_or(0);
            let (mut news, told) = {
                // What was told before somebody watched is told then.
                let told = self.told.lock().expect("no panic");
                let later = told.iter().filter(|(version, kind, _)| *version > seen && *kind == plural);
                (self.news.subscribe(), later.map(|(_, _, event)| event.clone()).collect::<Vec<_>>())
            };
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n").await?;
            for event in told {
                stream.write_all(format!("{event}\n").as_bytes()).await?;
            }
            while let Ok((kind, event)) = news.recv().await {
                if kind == plural {
                    stream.write_all(format!("{event}\n").as_bytes()).await?;
                }
            }
            return Ok(());
        }
        if path.matches('/').count() == 3 && path.starts_with("/apis/") {
            let (status, body) = match self.groups.get(&path["/apis/".len()..]) {
                Some(resources) => (
                    "200 OK",
                    json!({"kind": "APIResourceList", "groupVersion": &path["/apis/".len()..], "resources": resources}),
                ),
                None => (
                    "404 Not Found",
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}),
                ),
            };
            return respond(stream, status, &body.to_string()).await;
        }
        let items = self.objects.lock().expect("no panic").get(&plural).cloned().unwrap_or_default();
        let kind = "List";
        let body =
            json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}).to_string();
        respond(stream, "200 OK", &body).await
    }

    fn put(&self, plural: &str, object: Value) {
        self.objects.lock().expect("no panic").entry(plural.to_owned()).or_default().push(object);
    }

    fn tell(&self, kind: &str, what: &str, mut policy: Value, version: u64) {
        policy["metadata"]["resourceVersion"] = version.to_string().into();
        let event = json!({"type": what, "object": policy});
        let mut told = self.told.lock().expect("no panic");
        told.push((version, kind.to_owned(), event.clone()));
        let _nobody_watches_yet = self.news.send((kind.to_owned(), event));
    }
}

async fn respond(mut stream: BufReader<TcpStream>, status: &str, body: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}

/// A process that stands for a pod's, in its namespace.
struct Process(Child);

impl Process {
    fn new(space: &Space) -> Self {
        let child = space.enter(|| Command::new("sleep").arg("60").stdin(Stdio::null()).spawn());
        Self(child.expect("sleep is installed"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn pod(namespace: &str, name: &str, address: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}, "resourceVersion": "1"},
        "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    })
}

async fn until(enforcer: &Enforcer, what: &str, fits: impl Fn(&EnforcerStatus) -> bool) -> EnforcerStatus {
    let mut status = enforcer.status();
    let waited = timeout(Duration::from_secs(10), status.wait_for(|status| fits(status))).await;
    match waited {
        Ok(found) => found.expect("the enforcer lives").clone(),
        Err(_) => panic!("{what}: {:#?}", enforcer.status().borrow().clone()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_reach_the_kernel_and_leave_it() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let _servers = [&lab.a, &lab.b, &lab.outside, &lab.node].map(|space: &Space| Echo::new(space, 9000));
    let processes = [&lab.a, &lab.b].map(Process::new);
    let (api, client) = Api::start().await;
    for name in ["one", "two"] {
        api.put("namespaces", json!({"metadata": {"name": name, "resourceVersion": "1"}}));
    }
    api.put("pods", pod("one", "a", POD_A));
    api.put("pods", pod("two", "b", POD_B));
    let config = Config {
        node: "n".to_owned(),
        netns: Some(lab.node.path()),
        uplinks: vec!["up0".to_owned()],
        ..Config::default()
    };
    let shutdown = CancellationToken::new();
    let enforcer =
        signalbox_enforcer::start(config, client, shutdown.clone()).await.unwrap_or_else(|e| panic!("{e:#?}"));
    let status = until(&enforcer, "both pods are found", |status| status.enforcing && status.pods == 2).await;
    assert_eq!(status.problems, [] as [String; 0]);
    assert!(lab.a.reaches(POD_B, 9000) && lab.a.reaches(NODE, 9000) && lab.outside.reaches(POD_A, 9000));

    let mut events = enforcer.events();
    let mut took = Vec::new();
    for round in 0..25 {
        let version = 100 + 2 * round;
        let what = if round == 0 { "ADDED" } else { "MODIFIED" };
        let rules = if round % 2 == 0 { json!({}) } else { json!({"ingress": [{}]}) };
        api.tell("networkpolicies", what, policy("two/p", &["Ingress"], rules), version);
        let status = until(&enforcer, "the policy is in force", |status| status.policies_version == version).await;
        assert!(status.enforcing, "{status:#?}");
        took.push(status.last_apply_us);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    took.sort_unstable();
    println!("policy to kernel: median {} us, worst {} us", took[took.len() / 2], took[took.len() - 1]);
    assert!(took[took.len() / 2] <= 10_000, "median of policy to kernel: {took:?}");

    assert!(!lab.a.reaches(POD_B, 9000));
    let denied = timeout(Duration::from_secs(2), async {
        loop {
            let event = events.recv().await.expect("the enforcer lives");
            if event.decision == Decision::Denied {
                return event;
            }
        }
    });
    let event = denied.await.expect("an event");
    assert_eq!(event.isolated_by[0].to_string(), "two/p");
    let counts = enforcer.counts().await.expect("counts");
    assert!(counts.iter().any(|count| count.source == "one/a" && count.destination == "two/b" && count.denied > 0));

    api.tell("networkpolicies", "DELETED", policy("two/p", &["Ingress"], json!({})), 200);
    until(&enforcer, "the deletion is in force", |status| status.policies_version == 200).await;
    assert!(lab.a.reaches(POD_B, 9000));

    // An address of the node that a Service has is translated, and judged behind the translation only.
    let shut = policy("one/shut", &["Egress"], json!({"egress": [{"ports": [{"port": 9000}]}]}));
    api.tell("networkpolicies", "ADDED", shut, 201);
    until(&enforcer, "the policy is in force", |status| status.policies_version == 201).await;
    assert!(lab.a.reaches(NODE, 9000) && lab.a.reaches(OUTSIDE, 9000));

    api.tell("networkpolicies", "ADDED", policy("two/p", &["Ingress"], json!({})), 202);
    until(&enforcer, "the policy is in force", |status| status.policies_version == 202).await;
    api.tell("pods", "DELETED", pod("one", "a", POD_A), 203);
    until(&enforcer, "the pod is gone", |status| status.pods == 1).await;
    assert!(!lab.outside.reaches(POD_B, 9000));

    shutdown.cancel();
    timeout(Duration::from_secs(5), enforcer.stopped()).await.expect("it ends");
    assert!(lab.outside.reaches(POD_B, 9000), "nothing is left behind");
    drop(processes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_of_all_tiers_are_watched_where_the_api_serves_them() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let _servers = [&lab.a, &lab.b].map(|space: &Space| Echo::new(space, 9000));
    let processes = [&lab.a, &lab.b].map(Process::new);
    let resources = json!([
        {"name": "clusternetworkpolicies", "singularName": "", "namespaced": false, "kind": "ClusterNetworkPolicy", "verbs": ["list", "watch"]},
        {"name": "clusternetworkpolicies/status", "singularName": "", "namespaced": false, "kind": "ClusterNetworkPolicy", "verbs": ["get"]},
    ]);
    let (api, client) = Api::serving([("policy.networking.k8s.io/v1alpha2".to_owned(), resources)].into()).await;
    for name in ["one", "two"] {
        api.put("namespaces", json!({"metadata": {"name": name, "resourceVersion": "1"}}));
    }
    api.put("pods", pod("one", "a", POD_A));
    api.put("pods", pod("two", "b", POD_B));
    api.put("nodes", json!({"metadata": {"name": "n", "labels": {"role": "worker"}, "resourceVersion": "1"}, "status": {"addresses": [{"type": "InternalIP", "address": NODE}]}}));
    let denial = |name: &str| {
        json!({
            "metadata": {"name": name, "resourceVersion": "1"},
            "spec": {
                "tier": "Admin", "priority": 1, "subject": {"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "two"}}},
                "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}],
            },
        })
    };
    // It is there when the enforcer starts: the first tables must have it.
    api.put("clusternetworkpolicies", denial("first"));
    let config = Config {
        node: "n".to_owned(),
        netns: Some(lab.node.path()),
        uplinks: vec!["up0".to_owned()],
        ..Config::default()
    };
    let shutdown = CancellationToken::new();
    let enforcer =
        signalbox_enforcer::start(config, client, shutdown.clone()).await.unwrap_or_else(|e| panic!("{e:#?}"));
    let status = until(&enforcer, "both pods are found", |status| status.enforcing && status.pods == 2).await;
    assert_eq!(status.problems, [] as [String; 0], "kinds that are not served are no problem");
    let mut events = enforcer.events();
    assert!(!lab.a.reaches(POD_B, 9000));
    let event = timeout(Duration::from_secs(2), events.recv()).await.expect("an event").expect("the enforcer lives");
    assert_eq!(event.rule.expect("a rule denies").to_string(), "first ingress[0].from[0]");
    let generation = enforcer.status().borrow().generation;
    let mut object = denial("first");
    object["apiVersion"] = json!("policy.networking.k8s.io/v1alpha2");
    object["kind"] = json!("ClusterNetworkPolicy");
    api.tell("clusternetworkpolicies", "DELETED", object.clone(), 5);
    until(&enforcer, "the deletion is in force", |status| status.generation > generation).await;
    assert!(lab.a.reaches(POD_B, 9000));
    let generation = enforcer.status().borrow().generation;
    api.tell("clusternetworkpolicies", "ADDED", object, 6);
    until(&enforcer, "the policy is in force", |status| status.generation > generation).await;
    assert!(!lab.a.reaches(POD_B, 9000));
    shutdown.cancel();
    timeout(Duration::from_secs(5), enforcer.stopped()).await.expect("it ends");
    drop(processes);
}
