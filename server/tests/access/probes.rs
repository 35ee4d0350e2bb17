//! Probes from inside of real pods: who may have them tried, and that it is written down, whoever tries.

use signalbox_api::error::ApiError;
use signalbox_api::session::Rights;

use crate::bench::{ANN, Answer, BOB, Bench, PAT, ROOT, kubernetes, right};

async fn probe(bench: &Bench, token: &str, from: &str, to: &str) -> Answer {
    let body = format!(r#"{{"from": "{from}", "to": {{"host": "{to}", "port": 3306}}}}"#);
    let headers = format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n");
    bench.ask("POST", "/api/v1/probes", &headers, &body).await
}

fn message(answer: &Answer) -> String {
    serde_json::from_str::<ApiError>(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}")).message
}

/// One line of the audit log, in short.
fn row(line: &serde_json::Value) -> String {
    let text = |pointer: &str| line.pointer(pointer).and_then(|it| it.as_str()).unwrap_or("-").to_owned();
    let words = ["/user/name", "/stage", "/by", "/verb", "/object/kind", "/object/namespace", "/object/name", "/to"];
    words.map(text).join(" ")
}

const DATABASE: &str = "198.51.100.20";

#[tokio::test]
async fn it_takes_a_right_of_its_own_and_a_pod_that_one_sees_and_all_of_it_is_written_down() {
    let bench = Bench::with(|config, _| kubernetes(config).allow_apply = false).await;
    let pod = "frontend/plain-pod";
    // Who may change policies may not do this, nor may who sees the pod.
    for (token, name) in [(ANN, "ann"), (PAT, "pat")] {
        let refused = probe(&bench, token, pod, DATABASE).await;
        assert_eq!(refused.status, 403, "{refused:?}");
        let wanted = format!("{name} may not create probes.signalbox.dev in the namespace frontend");
        assert!(message(&refused).contains(&wanted), "{refused:?}");
    }
    bench.people.allow("pat", right("create", "signalbox.dev", "probes", "frontend"));
    bench.people.allow("bob", right("create", "signalbox.dev", "probes", "backend"));
    // It is as far as it gets here: nobody's enforcer reports to this server.
    for to in [DATABASE, "outside:database", "service:frontend/plain-svc", "database.example"] {
        let tried = probe(&bench, PAT, pod, to).await;
        assert_eq!(tried.status, 503, "{tried:?}");
        assert!(message(&tried).contains("--streams"), "{tried:?}");
    }
    // The right is not one to see: neither a pod to start from, nor one to go to.
    for (token, from, to) in [
        (BOB, "backend/hush-pod", DATABASE),
        (PAT, pod, "pod:backend/hush-pod"),
        (PAT, pod, "service:backend/hush-svc"),
        (PAT, "frontend/nobody", DATABASE),
    ] {
        let refused = probe(&bench, token, from, to).await;
        assert_eq!(refused.status, 404, "{from} {to}: {refused:?}");
        assert!(message(&refused).contains("that you may see"), "{refused:?}");
        assert!(!refused.body.contains("10.244.0.2"), "{refused:?}");
    }
    let log: Vec<String> = bench.audit_log().iter().map(row).collect();
    let tried = |to: &str| {
        let end = format!("create Probe frontend plain-pod {to}:3306/TCP");
        [format!("pat allowed SubjectAccessReview {end}"), format!("pat failed enforcer {end}")]
    };
    let refused = |who: &str, by: &str, from: &str, to: &str| {
        format!("{who} refused {by} create Probe {} {to}:3306/TCP", from.replace('/', " "))
    };
    let mut expected = vec![
        refused("ann", "SubjectAccessReview", pod, DATABASE),
        refused("pat", "SubjectAccessReview", pod, DATABASE),
    ];
    for to in [DATABASE, "outside:database", "service:frontend/plain-svc", "database.example"] {
        expected.extend(tried(to));
    }
    expected.extend([
        refused("bob", "view", "backend/hush-pod", DATABASE),
        refused("pat", "view", pod, "pod:backend/hush-pod"),
        refused("pat", "view", pod, "service:backend/hush-svc"),
        refused("pat", "view", "frontend/nobody", DATABASE),
    ]);
    assert_eq!(log, expected);
    let reasons =
        bench.audit_log().iter().filter(|line| line["stage"] != "allowed" && line["reason"].is_null()).count();
    assert_eq!(reasons, 0, "each refusal and failure has its reason");

    // What they may is told before they try.
    for (token, namespaces) in [(PAT, &["frontend"][..]), (ANN, &[]), (BOB, &[]), (ROOT, &["backend", "frontend"])] {
        let answer = bench.get("/api/v1/rights", token).await;
        let rights: Rights = serde_json::from_str(&answer.body).expect("rights");
        let told: Vec<&str> =
            rights.probes_in_pods.iter().map(String::as_str).filter(|it| !it.contains("system")).collect();
        assert!(
            namespaces.iter().all(|name| told.contains(name)) && (token == ROOT || told == namespaces),
            "{answer:?}"
        );
        assert!(!rights.changes, "changes are taken from nobody");
    }
    bench.end().await;
}

#[tokio::test]
async fn without_the_switch_nobody_may_whatever_their_rights() {
    let bench = Bench::with(|config, _| config.allow_real_pods = false).await;
    let refused = probe(&bench, ROOT, "frontend/plain-pod", DATABASE).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(message(&refused).contains("--allow-real-pods"), "{refused:?}");
    let log: Vec<String> = bench.audit_log().iter().map(row).collect();
    assert_eq!(log, ["root refused --allow-real-pods create Probe frontend plain-pod 198.51.100.20:3306/TCP"]);
    let rights: Rights = serde_json::from_str(&bench.get("/api/v1/rights", ROOT).await.body).expect("rights");
    assert!(rights.changes && rights.probes_in_pods.is_empty(), "{rights:?}");
    bench.end().await;
}

#[tokio::test]
async fn what_cannot_be_a_question_is_no_question_and_more_than_enough_are_refused() {
    let bench = Bench::start().await;
    for (from, to) in [
        ("plain-pod", DATABASE),
        ("frontend/../x", DATABASE),
        ("frontend/plain-pod", "a b"),
        ("frontend/plain-pod", ""),
    ] {
        assert_eq!(probe(&bench, ROOT, from, to).await.status, 400, "{from} {to}");
    }
    let bare = bench.ask("POST", "/api/v1/probes", &format!("authorization: Bearer {ROOT}\r\n"), "{}").await;
    assert!(matches!(bare.status, 415 | 422), "{bare:?}");
    assert!(bench.audit_log().is_empty());
    for _ in 0..30 {
        assert_eq!(probe(&bench, ROOT, "frontend/plain-pod", DATABASE).await.status, 503);
    }
    let refused = probe(&bench, ROOT, "frontend/plain-pod", DATABASE).await;
    assert_eq!((refused.status, message(&refused).contains("30 probes")), (503, true), "{refused:?}");
    let last = bench.audit_log().last().map(row).expect("a line");
    assert!(last.starts_with("root refused limit create Probe"), "{last}");
    bench.end().await;
}

#[tokio::test]
async fn with_a_full_disk_nothing_is_tried() {
    let full = signalbox_server::access::audit::AuditLog::File("/dev/full".into());
    let bench = Bench::with(|config, _| config.audit = full).await;
    let answer = probe(&bench, ROOT, "frontend/plain-pod", DATABASE).await;
    assert_eq!((answer.status, message(&answer).contains("audit log cannot be written")), (503, true), "{answer:?}");
    bench.end().await;
}
