//! A server that takes streams, and peers that open them.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, PostParams};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use signalbox_api::kernel::EnforcerStatus;
use signalbox_api::state::Snapshot;
use signalbox_api::stream::{Order, PATH, Report, Role, SPOKEN, Versions};
use signalbox_lab_apiserver::ApiServer;
use signalbox_lab_apiserver::reviews::{Identities, Identity};
use signalbox_lab_streaming::runtime::{
    ExecRequest, ExecSession, LogRequest, Output, PodRuntime, RuntimeError, Target,
};
use signalbox_server::{Config, Server, StreamsConfig, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_util::sync::CancellationToken;

/// The server's own.
pub const TOKEN: &str = "0123456789abcdef";
pub const NAMESPACE: &str = "signalbox-system";
pub const ENFORCER: &str = "system:serviceaccount:signalbox-system:signalbox-enforcer";
const PATIENCE: Duration = Duration::from_secs(20);

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

/// The API alone.
pub struct Cluster {
    pub api: ApiServer,
    pub client: kube::Client,
    pub shutdown: CancellationToken,
    _state: tempfile::TempDir,
}

impl Cluster {
    pub async fn start() -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let shutdown = CancellationToken::new();
        let listen = ([127, 0, 0, 1], 0).into();
        let config = signalbox_lab_apiserver::Config { listen, state_dir: state.path().join("api"), fresh: true };
        let api = signalbox_lab_apiserver::start(config, Arc::new(Empty), shutdown.clone()).await.expect("the API");
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&api.kubeconfig(None)).expect("a kubeconfig");
        let kubeconfig = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await;
        let client = kube::Client::try_from(kubeconfig.expect("a configuration")).expect("a client");
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).expect("a namespace");
        namespaces.create(&PostParams::default(), &namespace).await.expect("it is created");
        Self { api, client, shutdown, _state: state }
    }

    pub fn identities(&self) -> Identities {
        self.api.identities()
    }

    pub fn streams() -> StreamsConfig {
        StreamsConfig::new(([127, 0, 0, 1], 0).into(), NAMESPACE)
    }

    pub async fn serve(&self, streams: StreamsConfig) -> Server {
        self.serve_with(streams, |_| {}).await
    }

    pub async fn serve_with(&self, streams: StreamsConfig, adapt: impl FnOnce(&mut Config)) -> Server {
        let listen = ([127, 0, 0, 1], 0).into();
        let mut config = Config { listen, token: TOKEN.to_owned(), streams: Some(streams), ..Config::default() };
        adapt(&mut config);
        start(config, self.client.clone(), None, self.shutdown.clone()).await.expect("the server")
    }

    /// An enforcer's pod on a node, and the token that is bound to it.
    pub async fn enforcer_on(&self, node: &str) -> String {
        let name = format!("signalbox-enforcer-{node}");
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let pod = json!({
            "metadata": {"name": name},
            "spec": {"nodeName": node, "containers": [{"name": "enforcer", "image": "none"}]},
        });
        let pod = serde_json::from_value(pod).expect("a pod");
        let pod = pods.create(&PostParams::default(), &pod).await.expect("it is created");
        let token = format!("token-of-{node}");
        let extra = [("pod-name", name), ("pod-uid", pod.metadata.uid.expect("a uid"))];
        let extra = extra.map(|(claim, value)| (format!("authentication.kubernetes.io/{claim}"), vec![value]));
        self.identities().admit(&token, Identity { extra: extra.into(), ..enforcer() });
        token
    }
}

/// The enforcers' account, bound to nothing.
pub fn enforcer() -> Identity {
    Identity { user: ENFORCER.to_owned(), audiences: vec!["signalbox".to_owned()], ..Identity::default() }
}

pub struct Bench {
    pub cluster: Cluster,
    pub server: Server,
}

impl Bench {
    pub async fn start() -> Self {
        Self::start_with(Cluster::streams()).await
    }

    pub async fn start_with(streams: StreamsConfig) -> Self {
        let cluster = Cluster::start().await;
        let server = cluster.serve(streams).await;
        Self { cluster, server }
    }

    /// TLS to the listener, trusting what the ConfigMap says.
    pub async fn connect(&self) -> TlsStream<TcpStream> {
        let maps: Api<ConfigMap> = Api::namespaced(self.cluster.client.clone(), NAMESPACE);
        let pem = maps.get("signalbox-ca").await.expect("the ConfigMap").data.expect("data")["ca.crt"].clone();
        self.connect_trusting(&pem).await.expect("TLS")
    }

    pub async fn connect_trusting(&self, pem: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.expect("a certificate")).expect("an authority");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = self.server.streams_addr().expect("it takes streams");
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("signalbox.signalbox-system.svc").expect("a name");
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Opens a stream; the error is the status of the answer.
    pub async fn open(&self, token: Option<&str>) -> Result<Peer, u16> {
        let mut request = format!("wss://signalbox{PATH}").into_client_request().expect("a request");
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().expect("a header");
            request.headers_mut().insert("authorization", value);
        }
        match tokio_tungstenite::client_async(request, self.connect().await).await {
            Ok((socket, _)) => Ok(Peer { socket }),
            Err(WsError::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("neither a stream nor an answer: {error}"),
        }
    }

    /// Opens a stream for a node's enforcer, which must be welcome.
    pub async fn welcome(&self, token: &str, node: &str) -> Peer {
        let mut peer = self.open(Some(token)).await.expect("a stream");
        let order = peer.hello(node).await;
        assert!(matches!(order, Order::Welcome { .. }), "{order:?}");
        peer
    }

    /// Waits until the server's enforcers are as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&[EnforcerStatus]) -> bool) -> Vec<EnforcerStatus> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let enforcers = self.enforcers().await;
            if wanted(&enforcers) {
                return enforcers;
            }
            assert!(tokio::time::Instant::now() < deadline, "{what} did not come: {enforcers:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn enforcers(&self) -> Vec<EnforcerStatus> {
        let mut stream = TcpStream::connect(self.server.local_addr()).await.expect("a connection");
        let request = format!("GET /api/v1/state HTTP/1.0\r\nhost: {}\r\n\r\n", self.server.local_addr());
        stream.write_all(request.as_bytes()).await.expect("the request is taken");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        let (_, body) = text.split_once("\r\n\r\n").expect("an answer");
        serde_json::from_str::<Snapshot>(body).expect("a snapshot").enforcers
    }

    pub async fn end(self) {
        self.cluster.shutdown.cancel();
        self.server.stopped().await;
        self.cluster.api.stopped().await;
    }
}

pub struct Peer {
    pub socket: WebSocketStream<TlsStream<TcpStream>>,
}

impl Peer {
    pub async fn hello(&mut self, node: &str) -> Order {
        self.hello_as(SPOKEN, Role::Enforcer { node: node.to_owned() }).await
    }

    pub async fn hello_as(&mut self, protocol: Versions, role: Role) -> Order {
        self.send(&Report::Hello { protocol, version: "9.9.9".to_owned(), role, started_us: 1 }).await;
        self.order().await.expect("an order")
    }

    pub async fn send(&mut self, report: &Report) {
        self.send_text(&serde_json::to_string(report).expect("JSON")).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("the frame is taken");
    }

    /// The next order; `None`: the stream has ended.
    pub async fn order(&mut self) -> Option<Order> {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).expect("an order")),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(_) | Err(_)) | None => return None,
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("something within 20 s")
    }

    /// Reads until the stream is refused. Why.
    pub async fn refused(&mut self) -> (signalbox_api::stream::Refusal, String) {
        loop {
            match self.order().await.expect("a refusal before the end") {
                Order::Refused { reason, message } => return (reason, message),
                _ => continue,
            }
        }
    }
}

pub fn status(node: &str) -> Report {
    let status = EnforcerStatus { node: node.to_owned(), enforcing: true, generation: 3, ..EnforcerStatus::default() };
    Report::Status(Box::new(status))
}
