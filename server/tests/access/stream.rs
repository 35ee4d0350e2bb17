//! The stream of events: cut to what its follower sees, and following what that is.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bench::{ANN, Bench, ROOT, kubernetes, policy, right, told_of_backend};

struct Follower {
    stream: TcpStream,
    text: String,
}

impl Follower {
    async fn new(bench: &Bench, token: &str, after: Option<&str>) -> Self {
        let query = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let request = format!(
            "GET /api/v1/events{query} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\n\r\n",
            bench.server.local_addr()
        );
        let mut stream = TcpStream::connect(bench.server.local_addr()).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("it is taken");
        Self { stream, text: String::new() }
    }

    /// Reads on until the word has come. `false`: the stream ended without.
    async fn until(&mut self, word: &str) -> bool {
        let read = async {
            while !self.text.contains(word) {
                let mut part = [0; 16 * 1024];
                match self.stream.read(&mut part).await {
                    Ok(0) | Err(_) => return false,
                    Ok(length) => self.text.push_str(&String::from_utf8_lossy(&part[..length])),
                }
            }
            true
        };
        tokio::time::timeout(Duration::from_secs(20), read).await.unwrap_or_else(|_| panic!("{word:?} did not come"))
    }

    /// The id of the last event.
    fn id(&self) -> String {
        let id = self.text.rsplit("id: ").next().and_then(|rest| rest.lines().next());
        id.expect("an event has an id").trim().to_owned()
    }
}

#[tokio::test]
async fn a_follower_is_told_of_their_own_namespace_and_of_new_rights() {
    let bench = Bench::with(|config, _| kubernetes(config).followers_each = 8).await;
    let headers = format!("authorization: Bearer {ROOT}\r\n");
    let mut ann = Follower::new(&bench, ANN, None).await;
    assert!(ann.until("\"type\":\"snapshot\"").await);
    for (namespace, name) in [("backend", "hush-later"), ("frontend", "plain-later")] {
        let answer = bench.ask("POST", "/api/v1/policies", &headers, &policy(namespace, name)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert!(ann.until("plain-later").await);
    assert_eq!(told_of_backend(&ann.text), None, "{}", ann.text);
    let before = ann.id();
    bench.people.allow("ann", right("list", "", "pods", "backend"));
    assert!(ann.until("hush-pod").await, "with the right comes the namespace");
    assert!(!ann.text.contains("hush-policy"), "its policies are another right");
    bench.people.allow("ann", right("list", "networking.k8s.io", "networkpolicies", "backend"));
    assert!(ann.until("hush-policy").await);
    // Who comes back with what was told before the change of rights starts anew; who comes back as they were goes on.
    let mut back = Follower::new(&bench, ANN, Some(&before)).await;
    assert!(back.until("\"type\":\"").await && back.text.contains("\"type\":\"snapshot\""), "{}", back.text);
    let now = back.id();
    let mut on = Follower::new(&bench, ANN, Some(&now)).await;
    assert!(on.until("HTTP/1.1 ").await);
    let answer = bench.ask("POST", "/api/v1/policies", &headers, &policy("frontend", "plain-last")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(on.until("plain-last").await && !on.text.contains("\"type\":\"snapshot\""), "{}", on.text);
    bench.end().await;
}

#[tokio::test]
async fn the_stream_of_a_revoked_token_ends() {
    let bench = Bench::start().await;
    let mut ann = Follower::new(&bench, ANN, None).await;
    assert!(ann.until("\"type\":\"snapshot\"").await);
    bench.people.dismiss(ANN);
    assert!(!ann.until("never said").await, "the stream ends");
    assert_eq!(bench.get("/api/v1/events", ANN).await.status, 401);
    bench.end().await;
}
