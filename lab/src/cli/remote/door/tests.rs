use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use kube::{Client, Config};
use signalbox_lab_streaming::runtime::{
    ExecRequest, ExecSession, LogRequest, Output, PodRuntime, RuntimeError, Target,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use super::*;
use crate::cli::cause;

/// What the API answers to the request for a port, and to the list of pods.
#[derive(Clone, Copy)]
enum Answer {
    Status(u16, &'static str),
    /// It is forwarded, and this is told of it.
    Told(&'static str),
    /// It is forwarded, and nothing comes.
    Silence,
}

const READY: &str = r#"{"metadata": {"name": "server-1"}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}"#;
const PENDING: &str = r#"{"metadata": {"name": "server-1"}, "status": {"phase": "Pending"}}"#;

/// Answers as an API server does, one connection after another.
async fn api(listener: TcpListener, answer: Answer, pods: &'static str, asked: Arc<Mutex<Vec<String>>>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        tokio::spawn(serve(stream, answer, pods, asked.clone()));
    }
}

async fn serve(mut stream: TcpStream, answer: Answer, pods: &'static str, asked: Arc<Mutex<Vec<String>>>) {
    let mut head = [0; 4096];
    let length = stream.peek(&mut head).await.expect("a request");
    let line = String::from_utf8_lossy(&head[..length]).lines().next().unwrap_or_default().to_owned();
    asked.lock().expect("nobody panicked").push(line.clone());
    if !line.contains("portforward") {
        let body = format!(r#"{{"kind": "PodList", "apiVersion": "v1", "metadata": {{}}, "items": [{pods}]}}"#);
        return respond(&mut stream, 200, &body).await;
    }
    let told = match answer {
        Answer::Status(code, message) => {
            let body = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code});
            return respond(&mut stream, code, &body.to_string()).await;
        }
        Answer::Told(told) => Some(told),
        Answer::Silence => None,
    };
    #[allow(clippy::result_large_err, reason = "the type is the library's")]
    let accept = |_: &Request, mut response: Response| {
        response.headers_mut().insert("sec-websocket-protocol", "v4.channel.k8s.io".parse().expect("a value"));
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, accept).await.expect("a WebSocket");
    let [low, high] = 8443_u16.to_le_bytes();
    for channel in [0, 1] {
        socket.send(Message::binary(vec![channel, low, high])).await.expect("it is taken");
    }
    if let Some(told) = told {
        let frame = [&[1], told.as_bytes()].concat();
        socket.send(Message::binary(frame)).await.expect("it is taken");
    }
    while let Some(Ok(_)) = socket.next().await {}
}

async fn respond(stream: &mut TcpStream, code: u16, body: &str) {
    let mut request = [0; 4096];
    let _length = stream.read(&mut request).await.expect("the request");
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.expect("it is taken");
}

/// What is said where the API answers so, and the pods are these; and what the API was asked.
async fn said(answer: Answer, pods: &'static str) -> (String, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address")).parse().expect("a URL");
    let asked = Arc::default();
    let serving = tokio::spawn(api(listener, answer, pods, Arc::clone(&asked)));
    let error = open(Config::new(url)).await;
    serving.abort();
    let asked = asked.lock().expect("nobody panicked").clone();
    (error.to_string(), asked)
}

async fn open(config: Config) -> Error {
    let plugin = cause::plugin(&config);
    let client = Client::try_from(config).expect("a client");
    let door = Door {
        pods: Box::new(Api::namespaced(client, "signalbox-system")),
        pod: "server-1".to_owned(),
        port: 8443,
        plugin,
        wait: Duration::from_millis(1_500),
    };
    let read = |mut stream: DuplexStream| async move { stream.read_u8().await };
    match door.open(read).await {
        Err(error) => error,
        Ok(read) => panic!("it stands: {read:?}"),
    }
}

/// Each of these was "this needs `create pods/portforward`".
#[tokio::test]
async fn each_failure_is_told_by_its_cause() {
    let get = "pods \"server-1\" is forbidden: User \"ann\" cannot get resource \"pods/portforward\"";
    let create = "pods \"server-1\" is forbidden: User \"ann\" cannot create resource \"pods/portforward\"";
    let refused =
        "error forwarding port 8443 to pod server-1: failed to connect to localhost:8443: connect: connection refused";
    for (answer, pods, expected) in [
        (
            Answer::Status(403, get),
            READY,
            &[
                "may not forward ports",
                "resources: [pods/portforward], verbs: [get]",
                "namespace signalbox-system",
                "User \"ann\"",
            ][..],
        ),
        (Answer::Status(403, create), READY, &["verbs: [create]"]),
        (Answer::Status(403, "no"), READY, &["verbs: [get, create]"]),
        (Answer::Status(401, "Unauthorized"), READY, &["does not accept the credentials"]),
        (Answer::Status(404, "pods \"server-1\" not found"), READY, &["signalbox-system/server-1 is gone"]),
        (
            Answer::Status(400, "pod is not running"),
            PENDING,
            &[
                "server-1 is not ready (Pending; pod is not running)",
                "kubectl describe pod -n signalbox-system server-1",
            ],
        ),
        (Answer::Status(500, "dial tcp: lookup n1"), READY, &["did not forward port 8443", "dial tcp: lookup n1"]),
        (Answer::Status(500, "dial tcp: lookup n1"), "", &["signalbox-system/server-1 is gone"]),
        (
            Answer::Told(refused),
            READY,
            &[
                "nothing listens on port 8443 of the pod signalbox-system/server-1",
                "kubectl logs -n signalbox-system server-1",
            ],
        ),
        (Answer::Told(refused), PENDING, &["is not ready (Pending"]),
        (Answer::Told("network is down"), READY, &["did not forward port 8443", "network is down"]),
        (Answer::Silence, READY, &["no answer from port 8443", "within 1500 ms"]),
    ] {
        let (error, asked) = said(answer, pods).await;
        assert!(asked[0].contains("/pods/server-1/portforward"), "{asked:?}");
        for part in expected {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!(error.contains("apiGroups"), matches!(answer, Answer::Status(403, _)), "a right is blamed: {error}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let error = open(Config::new(format!("http://{nobody}").parse().expect("a URL"))).await.to_string();
    assert!(error.contains("the cluster's API cannot be reached"), "{error}");
}

/// What a client of this kubeconfig's is told, who asks for nothing else.
async fn configured(text: &str) -> Config {
    let kubeconfig = kube::config::Kubeconfig::from_yaml(text).expect("it is a kubeconfig");
    Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
        .await
        .expect("it can be used")
}

/// Whatever kept a credential plug-in from giving a token was "cannot be reached", with the API server's address to check.
#[tokio::test]
async fn a_credential_plug_in_that_fails_is_named_with_what_it_said() {
    let folder = tempfile::tempdir().expect("a directory");
    let plugin = folder.path().join("log-in");
    for (second, expected) in [
        ("echo a-secret; echo 'no such profile' >&2; exit 3", "failed with exit status: 3 (no such profile)"),
        ("exit 1", "failed with exit status: 1: run it by hand"),
        ("echo a-secret", "wrote what is no ExecCredential"),
        (
            "echo '{\"kind\": \"ExecCredential\", \"apiVersion\": \"client.authentication.k8s.io/v1\"}'",
            "without a status",
        ),
    ] {
        // The token that it gives at first has expired already.
        let text = format!(
            "if mkdir '{0}.asked' 2>/dev/null; then echo '{{\"kind\": \"ExecCredential\", \"apiVersion\": \"client.authentication.k8s.io/v1\", \
             \"status\": {{\"token\": \"t\", \"expirationTimestamp\": \"2020-01-01T00:00:00Z\"}}}}'; else {second}; fi\n",
            plugin.display()
        );
        std::fs::write(&plugin, text).expect("it can be written");
        let kubeconfig = format!(
            "{{apiVersion: v1, kind: Config, current-context: a, clusters: [{{name: a, cluster: {{server: 'http://127.0.0.1:1'}}}}], \
             contexts: [{{name: a, context: {{cluster: a, user: a}}}}], users: [{{name: a, user: {{exec: {{apiVersion: \
             client.authentication.k8s.io/v1, command: sh, args: ['{}'], interactiveMode: Never}}}}}}]}}",
            plugin.display()
        );
        let error = open(configured(&kubeconfig).await).await.to_string();
        for part in ["credential plug-in \"sh\"", expected, "run it by hand", "users[].user.exec"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("cannot be reached") && !error.contains("a-secret"), "{error}");
        std::fs::remove_dir(format!("{}.asked", plugin.display())).expect("it was asked");
    }
}

struct NoPods;

impl PodRuntime for NoPods {
    fn exec(&self, target: Target, _: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }

    fn logs(&self, target: Target, _: LogRequest) -> BoxFuture<'_, Result<Output, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }
}

/// A certificate that proves nothing was "cannot be reached", with the API server's address to check.
#[tokio::test]
async fn a_certificate_that_proves_nothing_is_told_with_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().expect("a directory");
    let shutdown = tokio_util::sync::CancellationToken::new();
    let _ended = shutdown.clone().drop_guard();
    let api = async |name: &str| {
        let listen = "127.0.0.1:0".parse().expect("an address");
        let config = signalbox_lab_apiserver::Config { listen, state_dir: folder.path().join(name), fresh: true };
        signalbox_lab_apiserver::start(config, Arc::new(NoPods), shutdown.clone()).await.expect("it starts")
    };
    let (own, other) = (api("own").await, api("other").await);
    let right = configured(&own.kubeconfig(None)).await;
    let (mut stranger, mut misnamed) = (right.clone(), right.clone());
    stranger.root_cert = configured(&other.kubeconfig(None)).await.root_cert;
    misnamed.tls_server_name = Some("elsewhere.example".to_owned());
    let cases = [
        (stranger, ["is not signed by an authority", "correct certificate-authority-data"]),
        (misnamed, ["is not for the host that was asked", "tls-server-name"]),
    ];
    for (config, expected) in cases {
        let error = open(config).await.to_string();
        for part in expected {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("cannot be reached"), "{error}");
    }
    // With the right one it is the API that answers.
    let error = open(right).await.to_string();
    assert!(error.contains("signalbox-system/server-1 is gone"), "{error}");
}
