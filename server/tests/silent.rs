//! An agent whose stream stays open and carries nothing any more, as when a node is cut off: it is given up, and started anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use serde_json::json;
use signalbox_api::flow::Protocol;
use signalbox_api::probe::{Request, Response};
use signalbox_lab_streaming::runtime::{
    ExecRequest, ExecSession, ExitStatus, LogRequest, Output, PodRuntime, RuntimeError, Target,
};
use signalbox_server::agent::{Agent, Said, Word};
use signalbox_server::matrix::model::Place;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Says hello and answers its first two questions. The first session answers no other; the second answers all.
#[derive(Default)]
struct GoesSilent {
    sessions: AtomicUsize,
}

impl PodRuntime for GoesSilent {
    fn exec(&self, _: Target, _: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>> {
        let session = self.sessions.fetch_add(1, Ordering::Relaxed);
        let (stdin, questions) = tokio::io::duplex(4096);
        let (mut answers, stdout) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let mut questions = BufReader::new(questions).lines();
            let hello = Response::Hello { version: "1".to_owned(), protocols: vec![Protocol::Tcp] };
            let mut line = serde_json::to_string(&hello).expect("JSON");
            for answered in 0.. {
                answers.write_all(format!("{line}\n").as_bytes()).await.expect("it is taken");
                let Ok(Some(question)) = questions.next_line().await else { return };
                let Ok(Request::Resolve { id, .. }) = serde_json::from_str(&question) else { return };
                if session == 0 && answered > 1 {
                    // Both ends stay open.
                    while let Ok(Some(_)) = questions.next_line().await {}
                    return;
                }
                let resolved = Response::Resolved { id, addresses: Vec::new(), latency_us: 1, error: None };
                line = serde_json::to_string(&resolved).expect("JSON");
            }
        });
        let session = ExecSession {
            stdin: Some(Box::pin(stdin)),
            stdout: Box::pin(stdout),
            stderr: Some(Box::pin(tokio::io::empty())),
            resize: mpsc::channel(1).0,
            exit: Box::pin(std::future::pending::<ExitStatus>()),
        };
        Box::pin(async move { Ok(session) })
    }

    fn logs(&self, target: Target, _: LogRequest) -> BoxFuture<'_, Result<Output, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }
}

#[tokio::test]
async fn an_agent_that_answers_nothing_any_more_is_started_anew() {
    let state = tempfile::tempdir().expect("a directory");
    let shutdown = CancellationToken::new();
    let config = signalbox_lab_apiserver::Config {
        listen: ([127, 0, 0, 1], 0).into(),
        state_dir: state.path().join("api"),
        fresh: true,
    };
    let runtime = Arc::new(GoesSilent::default());
    let api = signalbox_lab_apiserver::start(config, runtime, shutdown.clone()).await.expect("the API");
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&api.kubeconfig(None)).expect("a kubeconfig");
    let kubeconfig = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await;
    let client = kube::Client::try_from(kubeconfig.expect("a configuration")).expect("a client");
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod = json!({
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod).expect("a pod")).await.expect("it is created");

    let (words, mut heard) = mpsc::channel::<Word>(16);
    let (requests, queue) = mpsc::channel(16);
    let agent = Agent {
        client,
        streams: None,
        place: Place::Pod { namespace: "default".to_owned(), name: "p".to_owned(), container: None },
        command: vec!["agent".to_owned()],
        at: "pod:default/p".to_owned(),
        epoch: 1,
        words,
    };
    let running = tokio::spawn(agent.run(queue, shutdown.clone()));
    let mut next = async || {
        let word = tokio::time::timeout(Duration::from_secs(15), heard.recv()).await;
        word.expect("a word within 15 s").expect("the agent runs").said
    };
    let ask = async |id| {
        let question = Request::Resolve { id, name: "n".to_owned(), timeout_ms: 100 };
        requests.send(vec![question]).await.expect("it is taken");
    };
    assert!(matches!(next().await, Said::Line(Response::Hello { .. })));
    ask(1).await;
    assert!(matches!(next().await, Said::Line(Response::Resolved { id: 1, .. })));
    // The answer to one of two is no answer to the other.
    let two = [2, 3].map(|id| Request::Resolve { id, name: "n".to_owned(), timeout_ms: 100 });
    requests.send(two.to_vec()).await.expect("it is taken");
    assert!(matches!(next().await, Said::Line(Response::Resolved { id: 2, .. })));
    let Said::Lost(why) = next().await else { panic!("it was silent") };
    assert!(why.contains("default/p") && why.ends_with("it answers nothing any more"), "{why}");
    assert!(matches!(next().await, Said::Line(Response::Hello { .. })), "started anew");
    ask(4).await;
    assert!(matches!(next().await, Said::Line(Response::Resolved { id: 4, .. })));
    // Whoever owes nothing may be silent as long as it likes.
    assert!(tokio::time::timeout(Duration::from_secs(4), heard.recv()).await.is_err());
    shutdown.cancel();
    running.await.expect("it ends");
}
