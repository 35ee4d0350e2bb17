//! The smallest API server that can list and watch, on loopback; it can go away and be slow.

use std::{
    collections::HashMap,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{broadcast, watch},
};

use crate::support::Space;

/// A client without TLS.
pub fn client(url: &str) -> kube::Client {
    kube::Client::try_from(kube::Config::new(url.parse().expect("a URL"))).expect("a client without TLS")
}

/// Lists and watches.
#[derive(Clone)]
pub struct Api {
    objects: Arc<Mutex<HashMap<String, Vec<Value>>>>,
    /// What it answers when it is asked for the resources of a group; what is not there it does not serve.
    groups: Arc<Mutex<HashMap<String, Value>>>,
    /// Version, kind and event of all that was told.
    told: Arc<Mutex<Vec<(u64, String, Value)>>>,
    news: broadcast::Sender<(String, Value)>,
    /// Refuses to answer, and ends what it was answering.
    away: watch::Sender<bool>,
    /// How long it thinks before it answers a list.
    slow: Arc<Mutex<Duration>>,
    url: String,
}

impl Api {
    /// Serves on loopback, and gives a client for it.
    pub async fn start() -> (Self, kube::Client) {
        Self::serving(HashMap::new()).await
    }

    /// The same with kinds that are no part of Kubernetes, by group and version.
    pub async fn serving(groups: HashMap<String, Value>) -> (Self, kube::Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let api = Self {
            objects: Arc::default(),
            groups: Arc::new(Mutex::new(groups)),
            told: Arc::default(),
            news: broadcast::channel(4096).0,
            away: watch::channel(false).0,
            slow: Arc::default(),
            url: format!("http://{address}"),
        };
        let server = api.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut away = server.away.subscribe();
                let server = server.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        // Asked first: an answer that is ready at once must not get out.
                        biased;
                        // Dropping the connection is all that the other side sees.
                        _ = away.wait_for(|away| *away) => {}
                        _ = server.answer(stream) => {}
                    }
                });
            }
        });
        let client = client(&api.url);
        (api, client)
    }

    /// Where it serves.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Serves more kinds from now on, by group and version.
    pub fn serve(&self, group: &str, resources: Value) {
        self.groups.lock().expect("no panic").insert(group.to_owned(), resources);
    }

    /// Goes away: connections are dropped. Or comes back.
    pub fn set_away(&self, away: bool) {
        self.away.send_replace(away);
    }

    /// How long it thinks before it answers a list.
    pub fn set_slow(&self, pause: Duration) {
        *self.slow.lock().expect("no panic") = pause;
    }

    /// Changes what is listed, without telling those who watch.
    pub fn replace(&self, plural: &str, objects: Vec<Value>) {
        self.objects.lock().expect("no panic").insert(plural.to_owned(), objects);
    }

    /// Sends a line to all who watch a kind.
    pub fn tell_raw(&self, kind: &str, event: Value) {
        let _nobody_watches_yet = self.news.send((kind.to_owned(), event));
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
            let group = self.groups.lock().expect("no panic").get(&path["/apis/".len()..]).cloned();
            let (status, body) = match group {
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
        let pause = *self.slow.lock().expect("no panic");
        tokio::time::sleep(pause).await;
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
        Self::lasting(space, 120)
    }

    /// The same, for so many seconds at most.
    pub fn lasting(space: &Space, seconds: u32) -> Self {
        let child = space.enter(|| Command::new("sleep").arg(seconds.to_string()).stdin(Stdio::null()).spawn());
        Self(child.expect("sleep is installed"))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
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
