//! A server that takes enforcers' streams on loopback, by TLS with a certificate of its own, and asks what a test tells it to.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::{SinkExt, StreamExt};
use signalbox_api::{
    probe::{Request, Response},
    stream::{Order, Report},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

const PATIENCE: Duration = Duration::from_secs(15);

pub struct Server {
    port: u16,
    folder: tempfile::TempDir,
    streams: mpsc::Receiver<Stream>,
}

/// A stream whose hello was answered.
pub struct Stream {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    /// Verdicts that came while something else was waited for.
    pub flows: Vec<signalbox_api::kernel::FlowEvent>,
}

impl Server {
    /// Listens until the runtime ends.
    pub async fn start() -> Self {
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.crt"), own.cert.pem()).expect("written");
        std::fs::write(folder.path().join("token"), "a-token").expect("written");
        let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .expect("certificate and key go together");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, streams) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { continue };
                let mut stream = Stream { socket, flows: Vec::new() };
                let hello = stream.report().await;
                assert!(matches!(hello, Some(Report::Hello { .. })), "{hello:?}");
                stream.send(&Order::Welcome { protocol: 1, version: "9".to_owned() }).await;
                if sender.send(stream).await.is_err() {
                    return;
                }
            }
        });
        Self { port, folder, streams }
    }

    /// What an agent is told of it.
    pub fn options(&self) -> [String; 8] {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let server = format!("https://127.0.0.1:{}", self.port);
        [
            "--server".to_owned(),
            server,
            "--server-name".to_owned(),
            "localhost".to_owned(),
            "--server-ca".to_owned(),
            file("ca.crt"),
            "--token-file".to_owned(),
            file("token"),
        ]
    }

    /// The same for an enforcer in this process.
    pub fn door(&self) -> signalbox_enforcer::uplink::Door {
        let file = |name: &str| -> PathBuf { self.folder.path().join(name) };
        signalbox_enforcer::uplink::Door {
            server: format!("https://127.0.0.1:{}", self.port).parse().expect("a server"),
            name: Some("localhost".parse().expect("a name")),
            authority: signalbox_enforcer::uplink::Authority::File(file("ca.crt")),
            token: file("token"),
        }
    }

    /// The next stream.
    pub async fn stream(&mut self) -> Stream {
        let next = tokio::time::timeout(PATIENCE, self.streams.recv()).await;
        next.expect("a stream within 15 s").expect("it listens")
    }
}

impl Stream {
    pub async fn send(&mut self, order: &Order) {
        let text = serde_json::to_string(order).expect("JSON");
        self.socket.send(Message::text(text)).await.expect("the frame is taken");
    }

    /// The next report; `None`: the stream has ended.
    async fn report(&mut self) -> Option<Report> {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).expect("a report")),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(_) | Err(_)) | None => return None,
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("something within 15 s")
    }

    /// The next report about probes; verdicts are put aside, and conditions passed over.
    pub async fn about_probes(&mut self) -> Report {
        loop {
            match self.report().await.expect("the stream goes on") {
                Report::Flows { events, .. } => self.flows.extend(events),
                Report::Status(_) => {}
                report => return report,
            }
        }
    }

    /// The next line of a session.
    pub async fn line(&mut self, session: u64) -> Response {
        match self.about_probes().await {
            Report::Lines { session: of, mut lines } if of == session && lines.len() == 1 => lines.remove(0),
            other => panic!("no line of session {session}: {other:?}"),
        }
    }

    /// Reads until a session ends. Why it did.
    pub async fn ended(&mut self, session: u64) -> String {
        loop {
            match self.about_probes().await {
                Report::Ended { session: of, why } if of == session => return why,
                Report::Lines { .. } | Report::Ended { .. } => {}
                other => panic!("session {session} does not end: {other:?}"),
            }
        }
    }

    /// Starts a session, and waits for its hello.
    pub async fn begin(&mut self, session: u64, pod: &str) {
        self.send(&Order::Probe { session, pod: Some(pod.to_owned()) }).await;
        let hello = self.line(session).await;
        assert!(matches!(hello, Response::Hello { .. }), "{hello:?}");
    }

    /// Starts one that must not be. Why it is not.
    pub async fn refused(&mut self, session: u64, pod: Option<&str>) -> String {
        self.send(&Order::Probe { session, pod: pod.map(str::to_owned) }).await;
        match self.about_probes().await {
            Report::Ended { session: of, why } if of == session => why,
            other => panic!("{pod:?} is not refused: {other:?}"),
        }
    }

    pub async fn ask(&mut self, session: u64, request: Request) {
        self.send(&Order::Lines { session, lines: vec![request] }).await;
    }
}
