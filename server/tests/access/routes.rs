//! Every path: whom it lets in, and what it tells one who sees one namespace.

use signalbox_api::error::ApiError;
use signalbox_api::state::Snapshot;
use signalbox_server::http::routes::{Need, ROUTES, Route};

use crate::bench::{ANN, BOB, Bench, EVE, ROOT, WRONG, policy, told_of_backend};

const JSON: &str = "content-type: application/json\r\n";
const PROBE: &str = r#"{"from": "backend/hush-pod", "to": {"host": "198.51.100.20", "port": 3306}}"#;
const STAND_IN: &str = r#"{"run": "hush", "namespace": "backend", "labels": {"app": "x"}}"#;

/// A request for each path. One without has no test, and that fails.
fn sample(route: &Route) -> (String, String) {
    let hush = "/api/v1/policies/backend/hush-policy".to_owned();
    let none = String::new();
    match (route.method, route.path) {
        (
            "GET",
            path @ ("/api/v1/session"
            | "/api/v1/openapi.json"
            | "/healthz"
            | "/readyz"
            | "/api/v1/rights"
            | "/api/v1/state"
            | "/api/v1/events"
            | "/api/v1/kernel/counts"
            | "/api/v1/policies"
            | "/api/v1/lesson"
            | "/metrics"),
        ) => (path.to_owned(), none),
        ("GET", "/api/v1/policies/{namespace}/{name}") => (hush, none),
        ("POST", "/api/v1/rounds") => ("/api/v1/rounds".to_owned(), none),
        ("POST", "/api/v1/policies") => ("/api/v1/policies".to_owned(), policy("backend", "new")),
        ("PUT", "/api/v1/policies/{namespace}/{name}") => (hush, policy("backend", "hush-policy")),
        ("DELETE", "/api/v1/policies/{namespace}/{name}") => (hush, none),
        ("POST", "/api/v1/lesson/steps/{number}") => ("/api/v1/lesson/steps/0".to_owned(), none),
        ("POST", "/api/v1/probes") => ("/api/v1/probes".to_owned(), PROBE.to_owned()),
        ("POST", "/api/v1/stand-ins") => ("/api/v1/stand-ins".to_owned(), STAND_IN.to_owned()),
        ("PUT" | "DELETE", "/api/v1/stand-ins/{run}") => ("/api/v1/stand-ins/hush".to_owned(), none),
        (method, path) => panic!("{method} {path} has no test: what does it tell one who sees one namespace?"),
    }
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

/// An unsigned token that says that it ended in 1970.
fn expired() -> String {
    use base64::Engine;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    format!("{}.{}.x", engine.encode("{\"alg\":\"none\"}"), engine.encode("{\"exp\":17}"))
}

#[tokio::test]
async fn no_path_lets_in_whom_it_should_not() {
    let bench = Bench::start().await;
    let before = bench.policies().await;
    let mut checked = 0;
    for route in &ROUTES {
        let (path, body) = sample(route);
        let free = route.need == Need::Nothing;
        let own = format!("origin: http://{}\r\n", bench.server.local_addr());
        let cases = [
            ("no token", String::new(), 401),
            ("a wrong token", bearer(WRONG), 401),
            ("an expired token", bearer(&expired()), 401),
            ("a token for another audience", bearer(EVE), 401),
            ("no bearer token", "authorization: Basic cm9vdDpyb290\r\n".to_owned(), 403),
            ("two tokens", format!("{}{}", bearer(WRONG), bearer(ROOT)), 403),
            ("a foreign host", format!("host: evil.example\r\n{}", bearer(ROOT)), 403),
            ("a foreign origin", format!("origin: http://evil.example\r\n{}", bearer(ROOT)), 403),
            ("another page", format!("sec-fetch-site: cross-site\r\n{own}{}", bearer(ROOT)), 403),
            ("a proxy's word", "x-remote-user: root\r\nx-remote-group: system:masters\r\n".to_owned(), 403),
            ("a proxy's word and a token", format!("x-remote-user: root\r\n{}", bearer(ANN)), 403),
        ];
        for (what, headers, status) in cases {
            let answer = bench.ask(route.method, &path, &headers, &body).await;
            let told = format!("{} {path} with {what}: {answer:?}", route.method);
            let is_health = matches!(route.path, "/healthz" | "/readyz");
            let about_page = what.contains("foreign") || what.contains("page");
            match (free, route.path) {
                // Asked for by kubelets under any name, without a word on who they are.
                (true, _) if is_health && (status == 401 || !what.contains("proxy")) => {
                    assert!(matches!(answer.status, 200 | 503), "{told}");
                }
                (true, "/api/v1/session") if what == "no token" => assert_eq!(answer.status, 200, "{told}"),
                (true, "/api/v1/openapi.json") if !about_page && !what.contains("proxy") => {
                    assert_eq!(answer.status, 200, "{told}");
                }
                (_, _) => assert_eq!(answer.status, status, "{told}"),
            }
            assert!(!answer.body.contains("hush"), "{told}");
            if what.contains("expired") && answer.status == 401 {
                let error: ApiError = serde_json::from_str(&answer.body).expect("an ApiError");
                assert!(error.message.contains("has expired"), "{told}");
                assert!(answer.head.contains("www-authenticate: bearer"), "{told}");
            }
            checked += 1;
        }
    }
    assert_eq!(bench.policies().await, before, "nothing of it had effect");
    println!("{checked} requests, none let in");
    bench.end().await;
}

#[tokio::test]
async fn every_path_tells_one_who_sees_one_namespace_of_that_alone() {
    let bench = Bench::start().await;
    let before = bench.policies().await;
    // That the word is there at all: otherwise its absence shows nothing.
    let mut told_to_owner = Vec::new();
    for route in &ROUTES {
        let (path, body) = sample(route);
        let headers = format!("{}{JSON}", bearer(ANN));
        let ann = bench.ask(route.method, &path, &headers, &body).await;
        let told = format!("{} {path}: {ann:?}", route.method);
        match route.need {
            Need::Nothing | Need::See if route.path == "/api/v1/policies/{namespace}/{name}" => {
                assert_eq!(ann.status, 404, "{told}");
                continue;
            }
            Need::See if route.path == "/api/v1/lesson" => {
                assert_eq!(ann.status, 404, "whether it is there is not told: {told}");
                continue;
            }
            Need::Nothing | Need::See => assert!(matches!(ann.status, 200 | 503), "{told}"),
            Need::Change if route.path.ends_with("/{run}") => {
                assert_eq!(ann.status, 404, "whether there is such a run is not told: {told}");
                continue;
            }
            Need::Change | Need::Metrics => {
                assert_eq!(ann.status, 403, "{told}");
                assert!(ann.body.contains("ann may not"), "the missing right is named: {told}");
                continue;
            }
        }
        // The same for everyone, and about no cluster.
        if route.path == "/api/v1/openapi.json" {
            continue;
        }
        assert_eq!(told_of_backend(&ann.body), None, "{told}");
        let owner = bench.ask(route.method, &path, &bearer(ROOT), &body).await;
        if told_of_backend(&owner.body).is_some() {
            told_to_owner.push(route.path);
        }
        let bob = bench.ask(route.method, &path, &bearer(BOB), &body).await;
        for word in ["plain", "hush", "database"] {
            assert!(!bob.body.contains(word), "{word:?} in {path}: {bob:?}");
        }
    }
    assert_eq!(bench.policies().await, before, "nothing of it had effect");
    for path in ["/api/v1/state", "/api/v1/events", "/api/v1/policies", "/api/v1/rights"] {
        assert!(told_to_owner.contains(&path), "{path} tells the owner what it keeps from others: {told_to_owner:?}");
    }
    bench.end().await;
}

#[tokio::test]
async fn what_is_seen_of_one_namespace() {
    let bench = Bench::start().await;
    let snapshot = |answer: &str| serde_json::from_str::<Snapshot>(answer).expect("a snapshot");
    let whole = snapshot(&bench.get("/api/v1/state", ROOT).await.body);
    let part = snapshot(&bench.get("/api/v1/state", ANN).await.body);
    let ids = |snapshot: &Snapshot| snapshot.endpoints.iter().map(|it| it.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&part), ["pod:frontend/plain-pod", "service:frontend/plain-svc", "outside:database"]);
    assert_eq!(ids(&whole).len(), 5);
    let service = &part.endpoints[1];
    assert_eq!(service.backends, ["pod:frontend/plain-pod"], "a backend of another namespace is not told");
    assert_eq!(part.namespaces.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["frontend"]);
    assert_eq!(part.policies.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["plain-policy"]);
    let own = |id: &str| id.contains("frontend/") || id.starts_with("outside:");
    assert!(!part.cells.is_empty() && part.cells.iter().all(|cell| own(&cell.key.from) && own(&cell.key.to)));
    assert_eq!(part.cells.len(), whole.cells.iter().filter(|cell| own(&cell.key.from) && own(&cell.key.to)).count());
    assert!(part.cells.len() < whole.cells.len());
    assert!(part.round.cells as usize <= part.cells.len());
    let viewer = part.viewer.expect("a viewer");
    assert_eq!((viewer.name.as_str(), viewer.all_namespaces), ("ann", false));
    assert!(whole.viewer.expect("a viewer").all_namespaces);
    bench.put_lesson().await;
    let lesson = || async { snapshot(&bench.get("/api/v1/state", ROOT).await.body).lesson.len() == 5 };
    bench.until("the lesson", lesson).await;
    let part = snapshot(&bench.get("/api/v1/state", ANN).await.body);
    assert!(part.lesson.is_empty(), "the lesson is about a namespace that ann does not see");
    assert_eq!(bench.get("/api/v1/lesson", ROOT).await.status, 200);
    assert_eq!(bench.get("/api/v1/lesson", ANN).await.status, 404);
    bench.end().await;
}

#[tokio::test]
async fn metrics_are_for_those_who_may_read_them() {
    let bench = Bench::start().await;
    assert_eq!(bench.get("/metrics", ANN).await.status, 403);
    let answer = bench.get("/metrics", ROOT).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("signalbox_cells"), "{answer:?}");
    bench.end().await;
}
