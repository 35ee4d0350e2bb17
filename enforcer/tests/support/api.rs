//! The smallest API server that the agent can live with: it lists, watches, and takes Events, on loopback.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::{StreamExt, stream};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::broadcast};

#[derive(Clone)]
pub struct Api {
    state: Arc<Mutex<Objects>>,
    news: broadcast::Sender<(String, Value)>,
    /// What a POST of an Event is answered with.
    pub refuses_events: Arc<std::sync::atomic::AtomicBool>,
    pub url: String,
}

#[derive(Default)]
struct Objects {
    by_plural: HashMap<String, Vec<Value>>,
    told: Vec<(u64, String, Value)>,
    version: u64,
    events: Vec<Value>,
}

impl Api {
    /// Serves on loopback until the runtime ends.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let api = Self {
            state: Arc::new(Mutex::new(Objects { version: 1, ..Objects::default() })),
            news: broadcast::channel(4096).0,
            refuses_events: Arc::default(),
            url,
        };
        let router = Router::new()
            .route("/api/v1/{plural}", get(list_core))
            .route("/apis/{group}/{version}", get(missing))
            .route("/apis/{group}/{version}/{plural}", get(list))
            .route("/apis/events.k8s.io/v1/namespaces/{namespace}/events", post(take_event))
            .route("/apis/events.k8s.io/v1/namespaces/{namespace}/events/{name}", axum::routing::patch(take_event))
            .with_state(api.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        api
    }

    pub fn client(&self) -> kube::Client {
        let config = kube::Config::new(self.url.parse().expect("a URL"));
        kube::Client::try_from(config).expect("a client without TLS")
    }

    /// A kubeconfig for programs.
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "t",
            "clusters": [{"name": "t", "cluster": {"server": self.url}}],
            "users": [{"name": "t", "user": {}}],
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
        })
        .to_string()
    }

    /// Makes or replaces an object, and tells those who watch.
    pub fn put(&self, plural: &str, mut object: Value) -> u64 {
        let mut state = self.state.lock().expect("no panic");
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        object["metadata"]["uid"] = format!("uid-{}", name(&object)).into();
        let objects = state.by_plural.entry(plural.to_owned()).or_default();
        let before = objects.len();
        objects.retain(|other| name(other) != name(&object));
        let kind = if objects.len() == before { "ADDED" } else { "MODIFIED" };
        objects.push(object.clone());
        self.tell(&mut state, plural, kind, object);
        version
    }

    pub fn remove(&self, plural: &str, namespace: &str, of: &str) -> u64 {
        let mut state = self.state.lock().expect("no panic");
        state.version += 1;
        let version = state.version;
        let objects = state.by_plural.entry(plural.to_owned()).or_default();
        let at = objects.iter().position(|it| name(it) == format!("{namespace}/{of}")).expect("it is there");
        let mut object = objects.remove(at);
        object["metadata"]["resourceVersion"] = version.to_string().into();
        self.tell(&mut state, plural, "DELETED", object);
        version
    }

    /// The Events that were posted or patched.
    pub fn events(&self) -> Vec<Value> {
        self.state.lock().expect("no panic").events.clone()
    }

    fn tell(&self, state: &mut Objects, plural: &str, kind: &str, object: Value) {
        let event = json!({"type": kind, "object": object});
        state.told.push((state.version, plural.to_owned(), event.clone()));
        let _nobody_watches_yet = self.news.send((plural.to_owned(), event));
    }
}

fn name(object: &Value) -> String {
    let part = |part: &str| object["metadata"][part].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", part("namespace"), part("name"))
}

async fn missing() -> (StatusCode, Json<Value>) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
    (StatusCode::NOT_FOUND, Json(status))
}

async fn list_core(api: State<Api>, Path(plural): Path<String>, query: Query<HashMap<String, String>>) -> Response {
    answer(&api, &plural, &query)
}

async fn list(
    api: State<Api>,
    Path((_, _, plural)): Path<(String, String, String)>,
    query: Query<HashMap<String, String>>,
) -> Response {
    answer(&api, &plural, &query)
}

fn answer(api: &Api, plural: &str, query: &HashMap<String, String>) -> Response {
    let state = api.state.lock().expect("no panic");
    if query.get("watch").map(String::as_str) != Some("true") {
        let items = state.by_plural.get(plural).cloned().unwrap_or_default();
        let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": state.version.to_string()}, "items": items});
        return Json(list).into_response();
    }
    let seen: u64 = query.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
    let missed: Vec<Value> = state
        .told
        .iter()
        .filter(|(version, kind, _)| *version > seen && kind == plural)
        .map(|(_, _, event)| event.clone())
        .collect();
    let plural = plural.to_owned();
    let later = stream::unfold(api.news.subscribe(), |mut news| async move { Some((news.recv().await.ok()?, news)) });
    let later = later.filter_map(move |(kind, event)| futures::future::ready((kind == plural).then_some(event)));
    let lines = stream::iter(missed).chain(later).map(|event| Ok::<_, Infallible>(format!("{event}\n")));
    Body::from_stream(lines).into_response()
}

async fn take_event(State(api): State<Api>, Json(event): Json<Value>) -> (StatusCode, Json<Value>) {
    if api.refuses_events.load(std::sync::atomic::Ordering::Relaxed) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "message": "events is forbidden", "code": 403});
        return (StatusCode::FORBIDDEN, Json(status));
    }
    api.state.lock().expect("no panic").events.push(event.clone());
    (StatusCode::CREATED, Json(event))
}
