//! Policies and the lesson through REST, against the lab's Kubernetes API on loopback. No pod runs there.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use signalbox_api::error::ApiError;
use signalbox_api::rest::{ChangeAction, PolicyChange};
use signalbox_api::state::Snapshot;
use signalbox_lab_apiserver::ApiServer;
use signalbox_lab_streaming::runtime::{
    ExecRequest, ExecSession, LogRequest, Output, PodRuntime, RuntimeError, Target,
};
use signalbox_server::{Config, Server, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "0123456789abcdef";

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

struct Bench {
    server: Server,
    api: ApiServer,
    client: kube::Client,
    shutdown: CancellationToken,
    _state: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let shutdown = CancellationToken::new();
        let loopback = ([127, 0, 0, 1], 0).into();
        let config =
            signalbox_lab_apiserver::Config { listen: loopback, state_dir: state.path().join("api"), fresh: true };
        let api = signalbox_lab_apiserver::start(config, Arc::new(Empty), shutdown.clone()).await.expect("the API");
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&api.kubeconfig(None)).expect("a kubeconfig");
        let kubeconfig = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await;
        let client = kube::Client::try_from(kubeconfig.expect("a configuration")).expect("a client");
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
        for (name, tier) in [("frontend", "front"), ("backend", "back")] {
            let namespace = json!({"metadata": {"name": name, "labels": {"tier": tier}}});
            let namespace = serde_json::from_value(namespace).expect("a namespace");
            namespaces.create(&PostParams::default(), &namespace).await.expect("it is created");
        }
        let config = Config { listen: loopback, token: TOKEN.to_owned(), ..Config::default() };
        let server = start(config, client.clone(), None, shutdown.clone()).await.expect("the server");
        Self { server, api, client, shutdown, _state: state }
    }

    /// What the lesson's cluster has besides its namespaces, as far as the server asks for it.
    async fn put_services(&self) {
        for (namespace, name) in [("frontend", "web"), ("backend", "dbsvc"), ("backend", "extsvc")] {
            let services: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(self.client.clone(), namespace);
            let service =
                json!({"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 9000}]}});
            let service = serde_json::from_value(service).expect("a Service");
            services.create(&PostParams::default(), &service).await.expect("it is created");
        }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.server.local_addr()).await.expect("a connection");
        let json = if body.starts_with('{') { "content-type: application/json\r\n" } else { "" };
        let request = format!(
            "{method} {path} HTTP/1.0\r\nhost: {}\r\nauthorization: Bearer {TOKEN}\r\n{json}content-length: {}\r\n\r\n{body}",
            self.server.local_addr(),
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("the request is taken");
        let mut text = String::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut text)).await;
        read.expect("an answer within 20 s").expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {head}\n{body}")))
    }

    async fn change(&self, method: &str, path: &str, body: &str) -> Vec<(String, ChangeAction)> {
        let (status, answer) = self.ask(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        let changes = if answer.is_array() { answer } else { json!([answer]) };
        let changes: Vec<PolicyChange> = serde_json::from_value(changes).expect("changes");
        changes.into_iter().map(|change| (format!("{}/{}", change.namespace, change.name), change.action)).collect()
    }

    /// Waits until the picture is as `wanted`.
    async fn until(&self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let (_, snapshot) = self.ask("GET", "/api/v1/state", "").await;
            let snapshot: Snapshot = serde_json::from_value(snapshot).expect("a snapshot");
            if wanted(&snapshot) {
                return snapshot;
            }
            assert!(tokio::time::Instant::now() < deadline, "{what} did not come: {snapshot:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.server.stopped().await;
        self.api.stopped().await;
    }
}

const POLICY: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: mine, namespace: frontend}
spec:
  podSelector: {}
  policyTypes: [Ingress]
";

#[tokio::test]
async fn policies_are_applied_replaced_and_deleted() {
    let bench = Bench::start().await;
    let mine = |action| vec![("frontend/mine".to_owned(), action)];
    let path = "/api/v1/policies/frontend/mine";
    assert_eq!(bench.change("POST", "/api/v1/policies?dry_run=true", POLICY).await, mine(ChangeAction::Created));
    assert_eq!(bench.ask("GET", path, "").await.0, 404, "a dry run keeps nothing");
    assert_eq!(bench.change("POST", "/api/v1/policies", POLICY).await, mine(ChangeAction::Created));
    assert_eq!(bench.change("POST", "/api/v1/policies", POLICY).await, mine(ChangeAction::Unchanged));
    let snapshot = bench.until("the policy", |snapshot| snapshot.policies.len() == 1).await;
    assert!(snapshot.writable);
    assert!(!snapshot.policies[0].yaml.contains("managedFields"), "{}", snapshot.policies[0].yaml);
    let with_egress = format!("{POLICY}  egress: [{{}}]\n");
    assert_eq!(bench.change("PUT", path, &with_egress).await, mine(ChangeAction::Configured));
    assert_eq!(bench.change("PUT", path, POLICY).await, mine(ChangeAction::Configured));
    let snapshot = bench.until("the edit", |snapshot| !snapshot.policies[0].yaml.contains("egress")).await;
    assert_eq!(bench.change("PUT", path, &snapshot.policies[0].yaml).await, mine(ChangeAction::Unchanged));
    assert_eq!(bench.change("DELETE", path, "").await, mine(ChangeAction::Deleted));
    bench.until("the end of it", |snapshot| snapshot.policies.is_empty()).await;
    assert_eq!(bench.ask("DELETE", path, "").await.0, 404);
    bench.end().await;
}

#[tokio::test]
async fn the_api_servers_refusal_comes_with_lines() {
    let bench = Bench::start().await;
    let bad = format!("{POLICY}  ingress:\n    - ports:\n        - port: 99999\n          protocol: TCP\n");
    let (status, answer) = bench.ask("POST", "/api/v1/policies", &format!("{POLICY}---\n{bad}")).await;
    let error: ApiError = serde_json::from_value(answer).expect("an error");
    assert_eq!((status, error.status), (422, 422), "{error:?}");
    let cause = error.causes.first().expect("a cause");
    assert_eq!(cause.field, "spec.ingress[0].ports[0].port");
    assert_eq!(cause.line, Some(7 + 9), "{cause:?}");
    assert_eq!(bench.ask("GET", "/api/v1/policies/frontend/mine", "").await.0, 404, "nothing of it was kept");
    bench.end().await;
}

#[tokio::test]
async fn a_misspelled_field_is_refused_where_it_stands() {
    let bench = Bench::start().await;
    let misspelled = format!("{POLICY}  igress: []\n");
    let path = "/api/v1/policies/frontend/mine";
    for (method, path) in [("POST", "/api/v1/policies"), ("POST", "/api/v1/policies?dry_run=true"), ("PUT", path)] {
        let (status, answer) = bench.ask(method, path, &misspelled).await;
        let error: ApiError = serde_json::from_value(answer).expect("an error");
        let cause = error.causes.first().unwrap_or_else(|| panic!("no cause: {error:?}"));
        assert_eq!(
            (status, cause.field.as_str(), cause.line),
            (400, "spec.igress", Some(7)),
            "{method} {path}: {error:?}"
        );
        assert!(error.message.contains("unknown field"), "{error:?}");
    }
    let in_metadata = POLICY.replace("name: mine,", "name: mine, lables: {a: b},");
    for (method, path) in [("POST", "/api/v1/policies"), ("PUT", path)] {
        let (status, answer) = bench.ask(method, path, &in_metadata).await;
        assert_eq!(
            (status, answer["causes"][0]["field"].as_str()),
            (400, Some("metadata.lables")),
            "{method}: {answer}"
        );
    }
    assert_eq!(bench.ask("GET", path, "").await.0, 404, "nothing was kept");
    bench.end().await;
}

#[tokio::test]
async fn an_edit_of_a_policy_that_is_gone_does_not_bring_it_back() {
    let bench = Bench::start().await;
    let path = "/api/v1/policies/frontend/mine";
    let edited = POLICY.replace("name: mine,", "name: mine, resourceVersion: \"7\",");
    let (status, answer) = bench.ask("PUT", path, &edited).await;
    assert_eq!(status, 409, "{answer}");
    bench.change("PUT", path, POLICY).await;
    let (status, answer) = bench.ask("PUT", path, &edited).await;
    assert_eq!(status, 409, "{answer}");
    bench.end().await;
}

#[tokio::test]
async fn names_that_are_none_never_reach_the_cluster() {
    let bench = Bench::start().await;
    let climbing = POLICY.replace("name: mine", "name: ../networkpolicies/mine");
    let (status, answer) = bench.ask("POST", "/api/v1/policies", &climbing).await;
    assert_eq!((status, answer["causes"][0]["field"].as_str()), (400, Some("metadata.name")), "{answer}");
    bench.change("POST", "/api/v1/policies", POLICY).await;
    for path in [
        "/api/v1/policies/frontend/..%2Fnetworkpolicies%2Fmine",
        "/api/v1/policies/frontend%2Fnetworkpolicies%2Fmine%3F/x",
        "/api/v1/policies/frontend/mine%3FdryRun=All",
    ] {
        let (status, answer) = bench.ask("DELETE", path, "").await;
        assert_eq!(status, 404, "{path}: {answer}");
        assert!(answer["message"].as_str().is_some_and(|text| text.contains("no name")), "{path}: {answer}");
    }
    assert_eq!(bench.ask("GET", "/api/v1/policies/frontend/mine", "").await.0, 200);
    bench.end().await;
}

#[tokio::test]
async fn a_cluster_that_is_not_the_lessons_has_no_lesson() {
    let bench = Bench::start().await;
    bench.change("POST", "/api/v1/policies", POLICY).await;
    let snapshot = bench.until("the policy", |snapshot| snapshot.policies.len() == 1).await;
    assert_eq!(snapshot.lesson, [], "namespaces of these names are not the lesson's cluster");
    for (method, path) in [("GET", "/api/v1/lesson"), ("POST", "/api/v1/lesson/steps/1?only_lesson=false")] {
        let (status, answer) = bench.ask(method, path, "").await;
        let error: ApiError = serde_json::from_value(answer).expect("an error");
        assert!(status == 404 && error.message.contains("no lesson here"), "{method} {path}: {status} {error:?}");
    }
    let (_, snapshot) = bench.ask("GET", "/api/v1/state", "").await;
    assert_eq!(snapshot["policies"].as_array().map(Vec::len), Some(1), "nothing was applied or deleted");
    bench.end().await;
}

#[tokio::test]
async fn the_lessons_steps_go_forth_and_back() {
    let bench = Bench::start().await;
    bench.put_services().await;
    bench.until("the lesson", |snapshot| !snapshot.lesson.is_empty()).await;
    assert_eq!(bench.ask("GET", "/api/v1/lesson", "").await.1.as_array().map(Vec::len), Some(5));
    bench.change("POST", "/api/v1/policies", POLICY).await;
    let highest =
        |snapshot: &Snapshot| snapshot.lesson.iter().filter(|step| step.applied).map(|step| step.number).max();
    for (step, policies) in [(4, 6), (2, 4), (0, 1), (1, 3)] {
        bench.change("POST", &format!("/api/v1/lesson/steps/{step}"), "").await;
        let there = |snapshot: &Snapshot| highest(snapshot) == Some(step) && snapshot.policies.len() == policies;
        bench.until(&format!("step {step}"), there).await;
    }
    bench.change("POST", "/api/v1/lesson/steps/1?only_lesson=false", "").await;
    bench.until("the lesson alone", |snapshot| snapshot.policies.len() == 2).await;
    assert_eq!(bench.ask("POST", "/api/v1/lesson/steps/5", "").await.0, 404);
    bench.end().await;
}

/// `test --like` in a lab said "the server could not find the requested resource".
#[tokio::test]
async fn a_cluster_without_jobs_says_so_where_a_stand_in_is_asked_for() {
    let bench = Bench::start().await;
    let wish = r#"{"run": "one", "namespace": "frontend", "labels": {"app": "x"}}"#;
    let (status, answer) = bench.ask("POST", "/api/v1/stand-ins", wish).await;
    let error: ApiError = serde_json::from_value(answer).expect("an error");
    assert!(status == 404 && error.message.contains("no Jobs (batch/v1)"), "{status} {error:?}");
    bench.end().await;
}
