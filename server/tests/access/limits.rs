//! How much of the listener anyone can take up, and where it may listen at all.

use std::time::{Duration, Instant};

use signalbox_server::{Access, Config, Error, Kubernetes, Proxy, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::bench::{ANN, Bench, PAT, policy, read};

/// Whether the other end closes within this time.
async fn closes(stream: &mut TcpStream, within: Duration) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(within, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn slow_requests_and_idle_connections_end() {
    let bench = Bench::with(|config, _| {
        config.limits.head_time = Duration::from_millis(400);
        config.limits.body_time = Duration::from_secs(1);
    })
    .await;
    let before = bench.policies().await;
    for begun in ["", "G", "GET /api/v1/state HTTP/1.1\r\nhost: localhost\r\n"] {
        let mut stream = TcpStream::connect(bench.server.local_addr()).await.expect("a connection");
        stream.write_all(begun.as_bytes()).await.expect("it is taken");
        let since = Instant::now();
        assert!(closes(&mut stream, Duration::from_secs(10)).await, "after {begun:?} the connection stays open");
        assert!(since.elapsed() >= Duration::from_millis(300), "{begun:?}");
    }
    // One header after the other, each in time, is too slow, too.
    let mut stream = TcpStream::connect(bench.server.local_addr()).await.expect("a connection");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n").await.expect("it is taken");
    let drip = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if stream.write_all(b"x-drip: 1\r\n").await.is_err() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), drip).await.expect("the slow one is cut off");
    // A body that does not come.
    let request = format!(
        "POST /api/v1/policies HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {PAT}\r\nconnection: close\r\ncontent-length: 400\r\n\r\n{{",
        bench.server.local_addr()
    );
    let mut stream = TcpStream::connect(bench.server.local_addr()).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("it is taken");
    let answer = read(&mut stream, 10_000).await;
    assert_eq!(answer.status, 408, "{answer:?}");
    assert_eq!(bench.policies().await, before);
    bench.end().await;
}

#[tokio::test]
async fn an_oversized_body_is_refused_whoever_sends_it() {
    let bench = Bench::start().await;
    let before = bench.policies().await;
    let long = format!("{}\n#{}", policy("frontend", "mine"), "x".repeat(3 * 1024 * 1024));
    let answer = bench.ask("POST", "/api/v1/policies", &format!("authorization: Bearer {PAT}\r\n"), "").await;
    assert_eq!(answer.status, 400, "an empty one is read: {answer:?}");
    for (what, head) in [
        ("announced", format!("content-length: {}\r\n\r\n", long.len())),
        ("in chunks", format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n", long.len())),
    ] {
        let head = format!(
            "POST /api/v1/policies HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {PAT}\r\nconnection: close\r\n{head}",
            bench.server.local_addr()
        );
        let mut stream = TcpStream::connect(bench.server.local_addr()).await.expect("a connection");
        stream.write_all(head.as_bytes()).await.expect("it is taken");
        // The server may close before all is sent.
        let _cut = stream.write_all(long.as_bytes()).await;
        let mut status = [0; 12];
        let answered = stream.read_exact(&mut status).await;
        assert!(answered.is_err() || &status == b"HTTP/1.1 413", "{what}: {:?}", String::from_utf8_lossy(&status));
    }
    let huge = format!("authorization: Bearer {ANN}\r\nx-long: {}\r\n", "x".repeat(128 * 1024));
    let answer = bench.ask("GET", "/api/v1/state", &huge, "").await;
    assert!(matches!(answer.status, 431 | 0), "{answer:?}");
    assert_eq!(bench.policies().await, before);
    bench.end().await;
}

#[tokio::test]
async fn connections_are_bounded() {
    let bench = Bench::with(|config, _| config.limits.per_address = 3).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(TcpStream::connect(bench.server.local_addr()).await.expect("a connection"));
    }
    // The server has to have taken them before the next one comes.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut refused = TcpStream::connect(bench.server.local_addr()).await.expect("a connection");
    assert!(closes(&mut refused, Duration::from_secs(2)).await, "a fourth one is closed at once");
    open.pop();
    bench.until("room", || async { bench.get("/api/v1/state", ANN).await.status == 200 }).await;
    bench.end().await;
}

#[tokio::test]
async fn one_user_does_not_take_all_places_at_the_events() {
    let bench = Bench::start().await;
    let request = |token: &str| {
        format!(
            "GET /api/v1/events HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n\r\n",
            bench.server.local_addr()
        )
    };
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(bench.server.local_addr()).await.expect("a connection");
        stream.write_all(request(ANN).as_bytes()).await.expect("it is taken");
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.expect("an answer");
        assert_eq!(&head, b"HTTP/1.1 200");
        open.push(stream);
    }
    let third = bench.get("/api/v1/events", ANN).await;
    assert_eq!(third.status, 503, "{third:?}");
    assert_eq!(bench.get("/api/v1/events", PAT).await.status, 200, "others have their own");
    drop(open);
    bench.until("a place", || async { bench.get("/api/v1/events", ANN).await.status == 200 }).await;
    bench.end().await;
}

#[tokio::test]
async fn what_would_be_open_to_others_is_not_served() {
    let nowhere = kube::Config::new("http://127.0.0.1:9".parse().expect("a URI"));
    let client = kube::Client::try_from(nowhere).expect("a client");
    let kubernetes = |adapt: fn(&mut Kubernetes)| {
        let mut kubernetes = Kubernetes::default();
        adapt(&mut kubernetes);
        Access::Kubernetes(kubernetes)
    };
    let remote = ([0, 0, 0, 0], 0).into();
    let local = ([127, 0, 0, 1], 0).into();
    let token = || "0123456789abcdef".to_owned();
    let cases: [(Config, &str); 7] = [
        (Config { listen: remote, token: token(), ..Config::default() }, "can be reached from other machines"),
        (
            Config { listen: remote, access: kubernetes(|_| {}), ..Config::default() },
            "can be reached from other machines",
        ),
        (Config { listen: local, ..Config::default() }, "no token is set"),
        (Config { listen: local, access: kubernetes(|it| it.allow_apply = true), ..Config::default() }, "no audit log"),
        (
            Config { listen: local, access: kubernetes(|it| it.proxy = Some(Proxy::default())), ..Config::default() },
            "a proxy is believed",
        ),
        (
            Config {
                listen: local,
                access: kubernetes(|it| {
                    it.proxy = Some(Proxy { secret: Some("/nonexistent/secret".into()), ..Proxy::default() });
                }),
                ..Config::default()
            },
            "/nonexistent/secret",
        ),
        (
            Config {
                listen: local,
                access: kubernetes(|it| {
                    it.proxy = Some(Proxy { secret: Some("/dev/null".into()), ..Proxy::default() })
                }),
                ..Config::default()
            },
            "fewer than 16 bytes",
        ),
    ];
    for (config, words) in cases {
        let shutdown = CancellationToken::new();
        let started = start(config, client.clone(), None, shutdown.clone()).await;
        let error: Error = started.err().unwrap_or_else(|| panic!("it serves: {words}"));
        assert!(error.to_string().contains(words), "{error}");
        shutdown.cancel();
    }
}
