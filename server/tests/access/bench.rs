//! A server with users.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::discovery::ApiResource;
use serde_json::{Value, json};
use signalbox_lab_apiserver::ApiServer;
use signalbox_lab_apiserver::reviews::{Identities, Identity, Right};
use signalbox_lab_streaming::runtime::{
    ExecRequest, ExecSession, LogRequest, Output, PodRuntime, RuntimeError, Target,
};
use signalbox_server::access::audit::AuditLog;
use signalbox_server::{Access, Config, Kubernetes, Server, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Sees `frontend`, and changes nothing.
pub const ANN: &str = "token-of-ann-5f2c";
/// May do everything with policies of `frontend`, and sees it.
pub const PAT: &str = "token-of-pat-77a1";
/// Sees nothing.
pub const BOB: &str = "token-of-bob-91d0";
/// For another audience.
pub const EVE: &str = "token-of-eve-02bb";
/// May do everything.
pub const ROOT: &str = "token-of-root-c4e9";
/// Nobody's.
pub const WRONG: &str = "token-of-nobody-6d6d";

/// A node without pods.
struct Empty;

impl PodRuntime for Empty {
    fn exec(&self, target: Target, _: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }

    fn logs(&self, target: Target, _: LogRequest) -> BoxFuture<'_, Result<Output, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }
}

pub struct Bench {
    pub server: Server,
    pub people: Identities,
    pub client: kube::Client,
    api: ApiServer,
    shutdown: CancellationToken,
    pub folder: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// As the tests want it, with a file for the audit log.
pub fn config(folder: &Path) -> Config {
    let kubernetes = Kubernetes {
        allow_apply: true,
        tokens_kept: Duration::from_millis(300),
        rights_kept: Duration::from_millis(300),
        followers_each: 2,
        ..Kubernetes::default()
    };
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        access: Access::Kubernetes(kubernetes),
        audit: AuditLog::File(folder.join("audit.log")),
        allow_real_pods: true,
        ..Config::default()
    }
}

pub fn kubernetes(config: &mut Config) -> &mut Kubernetes {
    match &mut config.access {
        Access::Kubernetes(kubernetes) => kubernetes,
        Access::Loopback => panic!("the tests' servers have users"),
    }
}

impl Bench {
    pub async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    /// The same; the picture is waited for.
    pub async fn with(adapt: impl FnOnce(&mut Config, &Path)) -> Self {
        let bench = Self::with_tls(adapt).await;
        // It is whole once the owner sees the last of it.
        let whole = || async { bench.get("/api/v1/state", ROOT).await.body.contains("hush-policy") };
        bench.until("the picture", whole).await;
        bench
    }

    /// The same, with a server that [`Self::ask`] may not be able to ask: nothing is waited for.
    pub async fn with_tls(adapt: impl FnOnce(&mut Config, &Path)) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let shutdown = CancellationToken::new();
        let loopback = ([127, 0, 0, 1], 0).into();
        let api =
            signalbox_lab_apiserver::Config { listen: loopback, state_dir: folder.path().join("api"), fresh: true };
        let api = signalbox_lab_apiserver::start(api, Arc::new(Empty), shutdown.clone()).await.expect("the API");
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&api.kubeconfig(None)).expect("a kubeconfig");
        let kubeconfig = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await;
        let client = kube::Client::try_from(kubeconfig.expect("a configuration")).expect("a client");
        fill(&client).await;
        let people = api.identities();
        let person = |user: &str| Identity { user: user.to_owned(), ..Identity::default() };
        people.admit(ANN, person("ann"));
        people.admit(PAT, person("pat"));
        people.admit(BOB, person("bob"));
        people.admit(EVE, Identity { audiences: vec!["signalbox".to_owned()], ..person("eve") });
        people.admit(ROOT, Identity { groups: vec!["system:masters".to_owned()], ..person("root") });
        for user in ["ann", "pat"] {
            people.allow(user, right("list", "", "pods", "frontend"));
            people.allow(user, right("list", "networking.k8s.io", "networkpolicies", "frontend"));
        }
        for verb in ["create", "patch", "update", "delete"] {
            people.allow("pat", right(verb, "networking.k8s.io", "networkpolicies", "frontend"));
        }
        let mut config = config(folder.path());
        adapt(&mut config, folder.path());
        let server = start(config, client.clone(), None, shutdown.clone()).await.expect("the server");
        Self { server, people, client, api, shutdown, folder }
    }

    /// The Services that make the cluster the lesson's.
    pub async fn put_lesson(&self) {
        for (namespace, name) in [("frontend", "web"), ("backend", "dbsvc"), ("backend", "extsvc")] {
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), namespace, &resource("", "v1", "Service"));
            let object = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"selector": {"app": name}, "ports": [{"port": 9000}]},
            });
            let object: DynamicObject = serde_json::from_value(object).expect("a Service");
            api.create(&PostParams::default(), &object).await.expect("it is created");
        }
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.ask("GET", path, &format!("authorization: Bearer {token}\r\n"), "").await
    }

    /// One request with these headers, each with its line's end, besides `Host`.
    pub async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let host =
            if headers.contains("host:") { String::new() } else { format!("host: {}\r\n", self.server.local_addr()) };
        let request =
            format!("{method} {path} HTTP/1.0\r\n{host}{headers}content-length: {}\r\n\r\n{body}", body.len());
        let mut stream = TcpStream::connect(self.server.local_addr()).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("the request is taken");
        // A stream of events does not end: what comes within a moment is read.
        let patience = if path.starts_with("/api/v1/events") { 1_500 } else { 30_000 };
        read(&mut stream, patience).await
    }

    /// Waits until it holds.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, holds: impl Fn() -> F) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !holds().await {
            assert!(tokio::time::Instant::now() < deadline, "{what} did not come");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// All policies, as the API has them.
    pub async fn policies(&self) -> Vec<String> {
        let api: Api<DynamicObject> =
            Api::all_with(self.client.clone(), &resource("networking.k8s.io", "v1", "NetworkPolicy"));
        let list = api.list(&Default::default()).await.expect("a list");
        let row = |policy: DynamicObject| {
            let meta = policy.metadata;
            format!("{:?}/{:?} {:?}", meta.namespace, meta.name, meta.resource_version)
        };
        list.items.into_iter().map(row).collect()
    }

    pub fn audit_log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("audit.log")).expect("the audit log");
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    pub async fn end(self) {
        self.shutdown.cancel();
        self.server.stopped().await;
        self.api.stopped().await;
    }
}

pub async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin), patience_ms: u64) -> Answer {
    let mut text = Vec::new();
    let _until_then = tokio::time::timeout(Duration::from_millis(patience_ms), stream.read_to_end(&mut text)).await;
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// What a text tells of the namespace `backend`, or of what is in it.
pub fn told_of_backend(text: &str) -> Option<&'static str> {
    // Two fields of the wire are called so, and what is behind a Service.
    let text =
        text.replace("\"backends\":", "").replace("\"backend\":\"pod:frontend/", "").replace("ready backend", "");
    ["hush", "backend", "10.244.0.2"].into_iter().find(|word| text.contains(word))
}

pub fn right(verb: &str, group: &str, resource: &str, namespace: &str) -> Right {
    Right {
        verb: verb.to_owned(),
        group: group.to_owned(),
        resource: resource.to_owned(),
        namespace: Some(namespace.to_owned()),
    }
}

pub fn policy(namespace: &str, name: &str) -> String {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    })
    .to_string()
}

fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, version, kind))
}

/// Two namespaces, each with a pod that has an address, a Service with that pod behind it, and a policy; and a host outside.
async fn fill(client: &kube::Client) {
    let create = async |group: &str, version: &str, kind: &str, namespace: Option<&str>, object: Value| {
        let resource = resource(group, version, kind);
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let mut object = object;
        object["apiVersion"] = resource.api_version.clone().into();
        object["kind"] = kind.into();
        let status = object.get("status").cloned();
        let parsed: DynamicObject = serde_json::from_value(object).expect("an object");
        let name = parsed.metadata.name.clone().expect("a name");
        api.create(&PostParams::default(), &parsed).await.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
        if let Some(status) = status {
            let patch = Patch::Merge(json!({"status": status}));
            api.patch_status(&name, &PatchParams::default(), &patch).await.expect("its status is taken");
        }
    };
    for (namespace, word, at) in [("frontend", "plain", 1), ("backend", "hush", 2)] {
        create("", "v1", "Namespace", None, json!({"metadata": {"name": namespace, "labels": {"is": word}}})).await;
        let labels = json!({"app": word});
        let address = format!("10.244.0.{at}");
        let pod = json!({
            "metadata": {"name": format!("{word}-pod"), "labels": labels},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 8080}]}]},
            "status": {
                "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{
                    "name": "c", "image": "x", "imageID": "x", "ready": true, "restartCount": 0,
                    "containerID": "x://1", "state": {"running": {}},
                }],
            },
        });
        create("", "v1", "Pod", Some(namespace), pod).await;
        let service = format!("{word}-svc");
        let object = json!({"metadata": {"name": service}, "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}});
        create("", "v1", "Service", Some(namespace), object).await;
        // The plain Service leads to the hushed pod as well.
        let mut ends = vec![json!({
            "addresses": [address], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": format!("{word}-pod")},
        })];
        if word == "plain" {
            ends.push(json!({
                "addresses": ["10.244.0.2"], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "namespace": "backend", "name": "hush-pod"},
            }));
        }
        let slice = json!({
            "metadata": {"name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": "TCP"}], "endpoints": ends,
        });
        create("discovery.k8s.io", "v1", "EndpointSlice", Some(namespace), slice).await;
    }
    let host =
        json!({"metadata": {"name": "database"}, "spec": {"addresses": ["198.51.100.20"], "ports": [{"port": 3306}]}});
    create("signalbox.dev", "v1alpha1", "ExternalHost", None, host).await;
    for (namespace, word) in [("frontend", "plain"), ("backend", "hush")] {
        let policy: Value = serde_json::from_str(&policy(namespace, &format!("{word}-policy"))).expect("a policy");
        create("networking.k8s.io", "v1", "NetworkPolicy", Some(namespace), policy).await;
    }
}
