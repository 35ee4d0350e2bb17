//! The smallest API that lists and watches kinds of which the lab's knows nothing, refuses some, and learns others while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

/// What it holds and who may see it.
#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<State>>,
    /// The resource's path, and the event.
    news: broadcast::Sender<(String, Value)>,
}

#[derive(Default)]
struct State {
    /// By path, such as `api/v1/pods`.
    objects: BTreeMap<String, Vec<Value>>,
    /// Group and version, and the resources of it: plural and kind.
    served: BTreeMap<String, Vec<(String, String)>>,
    refused: BTreeSet<String>,
    version: u64,
}

impl Api {
    /// Serves on loopback, and gives a client for it.
    pub async fn start() -> (Self, kube::Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let api = Self { state: Arc::default(), news: broadcast::channel(256).0 };
        let server = api.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().answer(stream));
            }
        });
        let url = format!("http://{address}").parse().expect("a URL");
        (api, kube::Client::try_from(kube::Config::new(url)).expect("a client without TLS"))
    }

    /// From now on it serves a kind that is no part of Kubernetes.
    pub fn serve(&self, group_version: &str, plural: &str, kind: &str) {
        let mut state = self.state.lock().expect("no panic");
        state.served.entry(group_version.to_owned()).or_default().push((plural.to_owned(), kind.to_owned()));
    }

    /// Whether it lets nobody list and watch a resource.
    pub fn refuse(&self, path: &str, is_refused: bool) {
        let mut state = self.state.lock().expect("no panic");
        if is_refused {
            state.refused.insert(path.to_owned())
        } else {
            state.refused.remove(path)
        };
    }

    /// Keeps an object, and tells those who watch.
    pub fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state.lock().expect("no panic");
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        state.objects.entry(path.to_owned()).or_default().push(object.clone());
        let _nobody_watches_yet = self.news.send((path.to_owned(), json!({"type": "ADDED", "object": object})));
    }

    async fn answer(self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut first = String::new();
        stream.read_line(&mut first).await?;
        let mut line = String::new();
        while stream.read_line(&mut line).await? > 2 {
            line.clear();
        }
        let target = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut news = self.news.subscribe();
        let (code, body) = self.state.lock().expect("no panic").answer(path);
        if code == 200 && query.contains("watch=true") {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            while let Ok((of, event)) = news.recv().await {
                if of == path {
                    stream.write_all(format!("{event}\n").as_bytes()).await?;
                }
            }
            return Ok(());
        }
        let body = body.to_string();
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await
    }
}

impl State {
    fn answer(&self, path: &str) -> (u16, Value) {
        let failure = |code: u16, reason: &str, message: String| {
            (
                code,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code}),
            )
        };
        if self.refused.contains(path) {
            let plural = path.rsplit('/').next().unwrap_or_default();
            return failure(
                403,
                "Forbidden",
                format!("{plural} is forbidden: User \"signalbox\" cannot list resource \"{plural}\""),
            );
        }
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["apis", group, version] => {
                let group_version = format!("{group}/{version}");
                let Some(resources) = self.served.get(&group_version) else {
                    return failure(404, "NotFound", "the server could not find the requested resource".to_owned());
                };
                let resource = |(plural, kind): &(String, String)| json!({"name": plural, "singularName": "", "namespaced": false, "kind": kind, "verbs": ["list", "watch"]});
                let resources: Vec<Value> = resources.iter().map(resource).collect();
                (200, json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": resources}))
            }
            _ => {
                let items = self.objects.get(path).cloned().unwrap_or_default();
                let version = self.version.max(1).to_string();
                (
                    200,
                    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}),
                )
            }
        }
    }
}
