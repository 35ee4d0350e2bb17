//! Changes: made by those who may, and written down, whoever tries.

use signalbox_api::error::ApiError;
use signalbox_server::access::audit::AuditLog;

use crate::bench::{ANN, Bench, PAT, policy};

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

#[tokio::test]
async fn each_change_is_written_down_before_and_after() {
    let bench = Bench::start().await;
    let path = "/api/v1/policies/frontend/mine";
    let mine = policy("frontend", "mine");
    for (method, path, body, status) in [
        ("POST", "/api/v1/policies", mine.as_str(), 200),
        ("PUT", path, &mine.replace("Ingress", "Egress"), 200),
        ("POST", "/api/v1/policies?dry_run=true", &mine, 200),
        ("DELETE", path, "", 200),
        ("DELETE", path, "", 404),
    ] {
        let answer = bench.ask(method, path, &bearer(PAT), body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
    }
    let id = bench.ask("POST", "/api/v1/policies", &bearer(ANN), &mine).await;
    assert_eq!(id.status, 403);
    let log = bench.audit_log();
    let row = |line: &serde_json::Value| {
        let text = |pointer: &str| line.pointer(pointer).and_then(|it| it.as_str()).unwrap_or("-").to_owned();
        format!(
            "{} {} {} {} {}",
            text("/user/name"),
            text("/stage"),
            text("/verb"),
            text("/object/name"),
            text("/action")
        )
    };
    assert_eq!(
        log.iter().map(row).collect::<Vec<_>>(),
        [
            "pat allowed patch mine -",
            "pat done patch mine created",
            "pat allowed update mine -",
            "pat done update mine configured",
            "pat allowed patch mine -",
            "pat done patch mine configured",
            "pat allowed delete mine -",
            "pat done delete mine deleted",
            "pat allowed delete mine -",
            "pat failed delete mine -",
            "ann refused patch mine -",
        ]
    );
    let field = |at: usize, pointer: &str| log[at].pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(field(1, "/requestId"), field(0, "/requestId"));
    assert_ne!(field(2, "/requestId"), field(0, "/requestId"));
    assert_eq!(field(3, "/before"), field(1, "/after"), "resourceVersions join the lines");
    assert_eq!(field(7, "/before"), field(3, "/after"));
    assert_eq!(field(5, "/dryRun"), true);
    assert_eq!(field(0, "/by"), "SubjectAccessReview");
    assert!(field(10, "/reason").as_str().is_some_and(|why| why.contains("may not patch")));
    assert_eq!(field(10, "/user/address"), "127.0.0.1");
    let id = id.head.lines().find_map(|line| line.strip_prefix("x-request-id: ").map(str::to_owned)).expect("an id");
    assert_eq!(field(10, "/requestId"), id);
    bench.end().await;
}

#[tokio::test]
async fn with_a_full_disk_nothing_is_changed_unseen() {
    let bench = Bench::with(|config, _| config.audit = AuditLog::File("/dev/full".into())).await;
    let before = bench.policies().await;
    let answer = bench.ask("POST", "/api/v1/policies", &bearer(PAT), &policy("frontend", "mine")).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    let error: ApiError = serde_json::from_str(&answer.body).expect("an ApiError");
    assert!(error.message.contains("audit log cannot be written"), "{error:?}");
    let refused = bench.ask("POST", "/api/v1/policies", &bearer(ANN), &policy("frontend", "mine")).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(bench.policies().await, before);
    assert_eq!(bench.get("/api/v1/state", ANN).await.status, 200, "reading goes on");
    bench.end().await;
}

#[tokio::test]
async fn who_may_not_make_all_changes_of_a_request_makes_none() {
    let bench = Bench::start().await;
    let before = bench.policies().await;
    let both = format!("{}\n---\n{}", policy("frontend", "mine"), policy("backend", "mine"));
    let answer = bench.ask("POST", "/api/v1/policies", &bearer(PAT), &both).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(answer.body.contains("in the namespace backend"), "{answer:?}");
    let answer = bench.ask("POST", "/api/v1/lesson/steps/4?only_lesson=false", &bearer(PAT), "").await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(bench.policies().await, before);
    bench.end().await;
}
