//! Tokens: whose they are, for how long, and that nobody finds one in a log.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use signalbox_api::session::{AccessMode, PolicyVerb, Rights, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bench::{ANN, BOB, Bench, PAT, ROOT, WRONG, kubernetes, policy};

#[tokio::test]
async fn the_page_is_told_how_to_log_in_and_whom_it_is_taken_for() {
    let bench = Bench::start().await;
    let session = |body: &str| serde_json::from_str::<Session>(body).expect("a session");
    let nobody = bench.ask("GET", "/api/v1/session", "", "").await;
    assert_eq!(session(&nobody.body), Session { access: AccessMode::Kubernetes, viewer: None });
    let ann = session(&bench.get("/api/v1/session", ANN).await.body);
    assert_eq!(ann.viewer.map(|viewer| viewer.name).as_deref(), Some("ann"));
    assert_eq!(bench.get("/api/v1/session", WRONG).await.status, 401);
    // The page itself is there for whoever is to log in, and sets no cookie.
    let page = bench.ask("GET", "/", "", "").await;
    assert_eq!(page.status, 200);
    assert!(!page.head.contains("set-cookie"), "{}", page.head);
    let in_address = bench.ask("GET", &format!("/?token={ROOT}"), "", "").await;
    assert_eq!(in_address.status, 403, "a token in an address opens nothing");
    assert!(!bench.server.url().contains("token"), "{}", bench.server.url());
    bench.end().await;
}

#[tokio::test]
async fn a_revoked_token_opens_nothing_after_a_moment() {
    let bench = Bench::start().await;
    assert_eq!(bench.get("/api/v1/state", ANN).await.status, 200);
    bench.people.dismiss(ANN);
    let since = tokio::time::Instant::now();
    bench.until("the end of ann's rights", || async { bench.get("/api/v1/state", ANN).await.status == 401 }).await;
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    bench.end().await;
}

#[tokio::test]
async fn rights_are_listed_and_the_missing_one_is_named() {
    let bench = Bench::start().await;
    let rights = async |token: &str| {
        serde_json::from_str::<Rights>(&bench.get("/api/v1/rights", token).await.body).expect("rights")
    };
    let ann = rights(ANN).await;
    assert!(ann.changes && !ann.rounds);
    assert!(ann.missing("frontend", &[PolicyVerb::Patch]).is_some_and(|told| told.contains("may not patch")));
    let pat = rights(PAT).await;
    assert_eq!(pat.missing("frontend", &PolicyVerb::ALL), None);
    assert!(!pat.policies.contains_key("backend") && pat.missing_for_rounds().is_some());
    let root = rights(ROOT).await;
    assert_eq!((root.missing("backend", &PolicyVerb::ALL), root.missing_for_rounds()), (None, None));
    assert!(rights(BOB).await.policies.is_empty());
    bench.end().await;
}

#[tokio::test]
async fn without_the_switch_nobody_changes_anything() {
    let bench = Bench::with(|config, _| kubernetes(config).allow_apply = false).await;
    let before = bench.policies().await;
    for (method, path) in [
        ("POST", "/api/v1/policies"),
        ("DELETE", "/api/v1/policies/frontend/plain-policy"),
        ("POST", "/api/v1/lesson/steps/1"),
        ("POST", "/api/v1/rounds"),
    ] {
        let headers = format!("authorization: Bearer {ROOT}\r\n");
        let answer = bench.ask(method, path, &headers, &policy("frontend", "new")).await;
        assert_eq!(answer.status, 403, "{method} {path}: {answer:?}");
        assert!(answer.body.contains("--allow-apply"), "{answer:?}");
    }
    assert_eq!(bench.policies().await, before);
    let state = bench.get("/api/v1/state", ROOT).await;
    assert!(state.body.contains("\"writable\":false"), "{state:?}");
    bench.end().await;
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_what_was_refused_and_no_token() {
    let log = Log::default();
    let to = log.clone();
    // Everything that the server and what it is made of have to say; of the client of the Kubernetes API, which sends the
    // review itself, what people switch on to look for errors.
    let filter = tracing_subscriber::EnvFilter::new("trace,h2=debug,hyper_util=debug,tower=debug,rustls=debug");
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || to.clone()).with_ansi(false).finish();
    tracing::subscriber::set_global_default(subscriber).expect("this test's process has no other");
    let bench = Bench::start().await;
    let headers = |token: &str| format!("authorization: Bearer {token}\r\n");
    for token in [ANN, PAT, WRONG] {
        for (method, path) in [("GET", "/api/v1/state"), ("GET", "/api/v1/events"), ("GET", "/metrics")] {
            bench.ask(method, path, &headers(token), "").await;
        }
        bench.ask("POST", "/api/v1/policies", &headers(token), &policy("frontend", "new")).await;
        bench.ask("POST", "/api/v1/policies", &headers(token), "no manifest").await;
        bench.ask("GET", &format!("/?token={token}"), &headers(token), "").await;
        bench.ask("GET", "/api/v1/state", &format!("authorization: Basic {token}\r\n"), "").await;
    }
    for foreign in ["host: evil.example\r\n", "origin: https://evil.example\r\n"] {
        bench.ask("POST", "/api/v1/policies", &format!("{}{foreign}", headers(ANN)), "").await;
    }
    // It is answered from its head alone.
    let large = format!(
        "POST /api/v1/policies HTTP/1.1\r\nhost: {}\r\n{}content-length: {}\r\n\r\n",
        bench.server.local_addr(),
        headers(PAT),
        64 << 20
    );
    let mut stream = TcpStream::connect(bench.server.local_addr()).await.expect("a connection");
    stream.write_all(large.as_bytes()).await.expect("the head is taken");
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 413");
    let audit = std::fs::read_to_string(bench.folder.path().join("audit.log")).expect("the audit log");
    bench.end().await;
    let text = String::from_utf8_lossy(&log.0.lock().expect("nobody panicked")).into_owned();
    assert!(text.contains("refused") && text.contains("policy applied"), "the log has what happened: {text}");
    // At the level that is logged where nobody says.
    for (status, word) in [
        ("401", "does not accept the token"),
        ("403", "for another host"),
        ("403", "from another page"),
        ("413", "larger than"),
    ] {
        let is_it = |line: &&str| {
            let of_the_page =
                line.contains(" INFO ") && line.contains("signalbox_server::http") && line.contains("refused");
            of_the_page && line.contains(&format!("status={status}")) && line.contains(word)
        };
        assert!(text.lines().any(|line| is_it(&line)), "{status} {word}: {text}");
    }
    for token in [ANN, PAT, WRONG, ROOT] {
        let found = text.lines().find(|line| line.contains(token));
        assert_eq!(found, None, "{token}");
        assert!(!audit.contains(token), "{audit}");
    }
}
