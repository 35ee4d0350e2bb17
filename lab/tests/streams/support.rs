//! A cluster whose API reviews tokens as it is told, and servers that take streams.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use signalbox_api::state::Snapshot;
use signalbox_enforcer::uplink::{Authority, Door};
use signalbox_lab_apiserver::ApiServer;
use signalbox_lab_apiserver::reviews::Identity;
use signalbox_lab_streaming::runtime::{
    ExecRequest, ExecSession, LogRequest, Output, PodRuntime, RuntimeError, Target,
};
use signalbox_server::{Config, Server, StreamsConfig, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

pub const TOKEN: &str = "0123456789abcdef";
pub const NAMESPACE: &str = "signalbox-system";
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A node that runs nothing.
struct Empty;

impl PodRuntime for Empty {
    fn exec(&self, target: Target, _: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }

    fn logs(&self, target: Target, _: LogRequest) -> BoxFuture<'_, Result<Output, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }
}

pub struct Cluster {
    pub api: ApiServer,
    pub client: kube::Client,
    pub folder: tempfile::TempDir,
    /// Where servers take streams, one after the other.
    pub streams: SocketAddr,
    _end: tokio_util::sync::DropGuard,
}

/// A server and its end.
pub struct Running {
    pub server: Server,
    pub shutdown: CancellationToken,
}

impl Running {
    pub async fn end(self) {
        self.shutdown.cancel();
        self.server.stopped().await;
    }

    pub async fn snapshot(&self) -> Snapshot {
        serde_json::from_str(&self.get("/api/v1/state").await).expect("a snapshot")
    }

    pub async fn get(&self, path: &str) -> String {
        let address = self.server.local_addr();
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("the request is taken");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        text.split_once("\r\n\r\n").expect("an answer").1.to_owned()
    }

    pub async fn until(&self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let snapshot = self.snapshot().await;
            if wanted(&snapshot) {
                return snapshot;
            }
            assert!(tokio::time::Instant::now() < deadline, "{what} did not come: {snapshot:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Cluster {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let shutdown = CancellationToken::new();
        let listen = ([127, 0, 0, 1], 0).into();
        let config = signalbox_lab_apiserver::Config { listen, state_dir: folder.path().join("api"), fresh: true };
        let api = signalbox_lab_apiserver::start(config, Arc::new(Empty), shutdown.clone()).await.expect("the API");
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&api.kubeconfig(None)).expect("a kubeconfig");
        let kubeconfig = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await;
        let client = kube::Client::try_from(kubeconfig.expect("a configuration")).expect("a client");
        // A port that nothing listens at, and that servers can have.
        let streams = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let cluster = Self { api, client, folder, streams, _end: shutdown.drop_guard() };
        cluster.namespace(NAMESPACE).await;
        cluster
    }

    pub async fn namespace(&self, name: &str) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace");
        namespaces.create(&PostParams::default(), &namespace).await.expect("it is created");
    }

    pub async fn serve(&self) -> Running {
        self.serve_with(|_| {}).await
    }

    pub async fn serve_with(&self, adapt: impl FnOnce(&mut Config)) -> Running {
        let shutdown = CancellationToken::new();
        let mut config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            token: TOKEN.to_owned(),
            interval: Duration::from_millis(200),
            first_round_wait: Duration::from_millis(200),
            streams: Some(StreamsConfig::new(self.streams, NAMESPACE)),
            ..Config::default()
        };
        adapt(&mut config);
        let server = start(config, self.client.clone(), None, shutdown.clone()).await.expect("the server");
        Running { server, shutdown }
    }

    pub async fn pod(&self, namespace: &str, pod: Value) -> Pod {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pod = serde_json::from_value(pod).expect("a pod");
        pods.create(&PostParams::default(), &pod).await.expect("it is created")
    }

    /// An enforcer's pod on a node; the file with the token that is bound to it.
    pub async fn enforcer_on(&self, node: &str) -> PathBuf {
        let name = format!("signalbox-enforcer-{node}");
        let spec = json!({"nodeName": node, "containers": [{"name": "enforcer", "image": "none"}]});
        let pod = self.pod(NAMESPACE, json!({"metadata": {"name": name}, "spec": spec})).await;
        let extra = [("pod-name", name), ("pod-uid", pod.metadata.uid.expect("a uid"))];
        let extra = extra.map(|(claim, value)| (format!("authentication.kubernetes.io/{claim}"), vec![value]));
        self.token(
            "system:serviceaccount:signalbox-system:signalbox-enforcer",
            Identity { extra: extra.into(), ..Identity::default() },
        )
    }

    /// A file with a token of somebody's.
    pub fn token(&self, user: &str, identity: Identity) -> PathBuf {
        let token = format!("token-of-{user}");
        let file = self.folder.path().join(token.replace(':', "-"));
        std::fs::write(&file, &token).expect("the file is written");
        let audiences = vec!["signalbox".to_owned()];
        self.api.identities().admit(&token, Identity { user: user.to_owned(), audiences, ..identity });
        file
    }

    pub fn door(&self, token: PathBuf) -> Door {
        let server = format!("https://{}", self.streams).parse().expect("a server");
        let authority = Authority::ConfigMap { namespace: NAMESPACE.to_owned(), name: "signalbox-ca".to_owned() };
        // As where there is no DNS: the address of the Service, and the name that the certificate is for.
        let name = Some("signalbox.signalbox-system.svc".parse().expect("a name"));
        Door { server, name, authority, token }
    }

    /// The server's authority as a file.
    pub async fn authority(&self) -> PathBuf {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), NAMESPACE);
        let data = maps.get("signalbox-ca").await.expect("the ConfigMap").data.expect("data");
        let file = self.folder.path().join("ca.crt");
        std::fs::write(&file, &data["ca.crt"]).expect("the file is written");
        file
    }
}
