//! Who may ask what, on a real listener. No cluster: nothing here gets as far as one.

use std::time::Duration;

use signalbox_api::error::ApiError;
use signalbox_server::{Config, Server, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "0123456789abcdef";

async fn server(max_followers: usize) -> (Server, CancellationToken) {
    // Port 9 on loopback: nobody listens, so the cluster is away.
    let nowhere = kube::Config::new("http://127.0.0.1:9".parse().expect("a URI"));
    let client = kube::Client::try_from(nowhere).expect("a client");
    let config =
        Config { listen: ([127, 0, 0, 1], 0).into(), token: TOKEN.to_owned(), max_followers, ..Config::default() };
    let shutdown = CancellationToken::new();
    (start(config, client, None, shutdown.clone()).await.expect("the server starts"), shutdown)
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// One request; reads what comes within a second, at most until the end of the headers for streams.
async fn ask(server: &Server, request: &str) -> Answer {
    let mut stream = TcpStream::connect(server.local_addr()).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("the request is taken");
    let mut text = Vec::new();
    let _until_then = tokio::time::timeout(Duration::from_secs(1), stream.read_to_end(&mut text)).await;
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: 0\r\n\r\n")
}

#[tokio::test]
async fn who_may_ask_what() {
    let (server, shutdown) = server(8).await;
    let host = format!("host: {}\r\n", server.local_addr());
    let own = format!("origin: http://{}\r\n", server.local_addr());
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    let cookie = format!("cookie: signalbox={TOKEN}\r\n");
    let evil = "origin: http://evil.example\r\n";
    let step = "/api/v1/lesson/steps/99";
    let cases: [(&str, &str, String, u16); 22] = [
        ("GET", "/api/v1/state", host.clone(), 200),
        ("GET", "/api/v1/state", format!("{host}{own}"), 200),
        ("GET", "/api/v1/state", format!("{host}{evil}"), 403),
        ("GET", "/api/v1/state", "host: evil.example\r\n".to_owned(), 403),
        ("GET", "/api/v1/state", String::new(), 403),
        ("GET", "/api/v1/state", format!("{host}host: evil.example\r\n"), 403),
        ("GET", "/", format!("host: evil.example\r\n{bearer}"), 403),
        ("GET", "/metrics", "host: evil.example\r\n".to_owned(), 403),
        ("POST", step, host.clone(), 401),
        ("POST", step, format!("{host}authorization: Bearer wrong\r\n"), 401),
        ("POST", step, format!("{host}{bearer}"), 404),
        ("POST", step, format!("{host}{bearer}{own}"), 404),
        ("POST", step, format!("{host}{bearer}{evil}"), 403),
        // A cookie opens nothing: browsers send it to every port of the host.
        ("POST", step, format!("{host}{cookie}{own}"), 401),
        ("POST", step, format!("{host}{cookie}{evil}"), 403),
        ("POST", "/api/v1/rounds", host.clone(), 401),
        ("DELETE", "/api/v1/policies/a/b", host.clone(), 401),
        ("PUT", "/api/v1/policies/a/b", host.clone(), 401),
        ("GET", "/api/v1/nothing", host.clone(), 404),
        ("GET", "/readyz", host.clone(), 503),
        // Nobody is believed to be a proxy.
        ("GET", "/api/v1/state", format!("{host}x-remote-user: root\r\n"), 403),
        ("GET", "/metrics", format!("{host}{bearer}x-remote-group: system:masters\r\n"), 403),
    ];
    for (method, path, headers, status) in cases {
        let answer = ask(&server, &request(method, path, &headers)).await;
        assert_eq!(answer.status, status, "{method} {path} with {headers:?}: {}", answer.body);
        for mark in ["nosniff", "no-referrer", "frame-ancestors 'none'"] {
            assert!(answer.head.contains(mark), "{method} {path}: {mark} is missing");
        }
        if status >= 400 && path.starts_with("/api/") {
            let error: ApiError = serde_json::from_str(&answer.body).expect("an ApiError");
            assert_eq!(error.status, status);
        }
    }
    shutdown.cancel();
    server.stopped().await;
}

fn error(answer: &Answer) -> ApiError {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
}

#[tokio::test]
async fn errors_have_one_shape_whoever_finds_them() {
    let (server, shutdown) = server(8).await;
    let headers = format!("host: {}\r\nauthorization: Bearer {TOKEN}\r\n", server.local_addr());
    for (method, path, status, words) in [
        ("POST", "/api/v1/lesson/steps/abc", 400, "abc"),
        ("POST", "/api/v1/lesson/steps/1?only_lesson=maybe", 400, "only_lesson"),
        ("GET", "/api/v1/events?after=x", 400, "after"),
        ("TRACE", "/api/v1/state", 405, "/api/v1/state does not take TRACE"),
    ] {
        let answer = ask(&server, &request(method, path, &headers)).await;
        let error = error(&answer);
        assert_eq!((answer.status, error.status), (status, status), "{method} {path}: {error:?}");
        assert!(error.message.contains(words), "{method} {path}: {error:?}");
    }
    shutdown.cancel();
    server.stopped().await;
}

#[tokio::test]
async fn the_link_opens_the_page_which_sends_the_token_itself() {
    let (server, shutdown) = server(8).await;
    let host = format!("host: {}\r\n", server.local_addr());
    assert_eq!(server.url(), format!("http://{}/?token={TOKEN}", server.local_addr()));
    let answer = ask(&server, &request("GET", &format!("/?token={TOKEN}"), &host)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
    // Browsers send cookies to every port of a host: there is none.
    assert!(!answer.head.contains("set-cookie") && !answer.head.contains(TOKEN), "{}", answer.head);
    for (headers, writable) in [(format!("{host}authorization: Bearer {TOKEN}\r\n"), true), (host.clone(), false)] {
        let state = ask(&server, &request("GET", "/api/v1/state", &headers)).await;
        assert!(state.body.contains(&format!("\"writable\":{writable}")), "{}", state.body);
        assert!(!state.body.contains("viewer"), "users are not told apart: {}", state.body);
    }
    let answer = ask(&server, &request("GET", "/?token=wrong", &host)).await;
    assert_eq!(answer.status, 403);
    shutdown.cancel();
    server.stopped().await;
}

#[tokio::test]
async fn events_begin_with_the_picture_and_followers_are_bounded() {
    let (server, shutdown) = server(1).await;
    let host = format!("host: {}\r\n", server.local_addr());
    let first = request("GET", "/api/v1/events", &host);
    let mut stream = TcpStream::connect(server.local_addr()).await.expect("a connection");
    stream.write_all(first.as_bytes()).await.expect("the request is taken");
    let mut text = String::new();
    while !text.contains("\"type\":\"snapshot\"") {
        let mut part = [0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut part)).await;
        let read = read.expect("an event within 5 s").expect("the stream is open");
        assert!(read > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&part[..read]));
    }
    assert!(text.contains("text/event-stream"), "{text}");
    assert!(text.contains("id: "), "{text}");
    let second = ask(&server, &first).await;
    assert_eq!(second.status, 503, "one follower is the bound: {}", second.body);
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), server.stopped()).await.expect("open streams do not hold the end up");
}

#[tokio::test]
async fn bodies_are_bounded() {
    let (server, shutdown) = server(1).await;
    // The length alone is enough to be refused: no byte of the body is waited for.
    let length = 3 * 1024 * 1024;
    let request = format!(
        "POST /api/v1/policies HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n",
        server.local_addr(),
    );
    let answer = ask(&server, &request).await;
    assert_eq!(answer.status, 413);
    // A body that does not announce its length is read up to the bound.
    let chunk = "x".repeat(1024 * 1024);
    let chunked = format!(
        "POST /api/v1/policies HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\n\r\n{2:x}\r\n{1}\r\n{2:x}\r\n{1}\r\n{2:x}\r\n{1}\r\n0\r\n\r\n",
        server.local_addr(),
        chunk,
        chunk.len(),
    );
    let answer = ask(&server, &chunked).await;
    assert_eq!((answer.status, error(&answer).status), (413, 413), "{}", answer.body);
    shutdown.cancel();
    server.stopped().await;
}
