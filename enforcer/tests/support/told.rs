//! The smallest API server that can list and watch, on loopback, and what stands in it.

use std::{
    collections::HashMap,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use signalbox_api::kernel::EnforcerStatus;
use signalbox_enforcer::Enforcer;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::broadcast,
    time::timeout,
};

use super::Space;

/// Lists and watches.
#[derive(Clone)]
pub struct Api {
    objects: Arc<Mutex<HashMap<String, Vec<Value>>>>,
    /// What it answers when it is asked for the resources of a group; what is not there it does not serve.
    groups: HashMap<String, Value>,
    /// Version, kind and event of all that was told.
    told: Arc<Mutex<Vec<(u64, String, Value)>>>,
    news: broadcast::Sender<(String, Value)>,
}

impl Api {
    /// Serves on loopback, and gives a client for it.
    pub async fn start() -> (Self, kube::Client) {
        Self::serving(HashMap::new()).await
    }

    /// The same with kinds that are no part of Kubernetes, by group and version.
    pub async fn serving(groups: HashMap<String, Value>) -> (Self, kube::Client) {
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

    pub fn put(&self, plural: &str, object: Value) {
        self.objects.lock().expect("no panic").entry(plural.to_owned()).or_default().push(object);
    }

    pub fn tell(&self, kind: &str, what: &str, mut policy: Value, version: u64) {
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
pub struct Process(Child);

impl Process {
    pub fn new(space: &Space) -> Self {
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

pub fn pod(namespace: &str, name: &str, address: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}, "resourceVersion": "1"},
        "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    })
}

pub async fn until(enforcer: &Enforcer, what: &str, fits: impl Fn(&EnforcerStatus) -> bool) -> EnforcerStatus {
    let mut status = enforcer.status();
    let waited = timeout(Duration::from_secs(10), status.wait_for(|status| fits(status))).await;
    match waited {
        Ok(found) => found.expect("the enforcer lives").clone(),
        Err(_) => panic!("{what}: {:#?}", enforcer.status().borrow().clone()),
    }
}
