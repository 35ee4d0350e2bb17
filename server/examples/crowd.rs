//! A Kubernetes API on loopback with many pods and policies, for measuring what a server takes to watch them:
//! `cargo run -p signalbox-server --example crowd -- 10000 1000 /tmp/crowd`, then `signalbox serve --kubeconfig /tmp/crowd/kubeconfig`.
//!
//! The pods look as a kubelet leaves them, with what servers drop: annotations, environment, volumes, conditions. None of them runs.

use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use signalbox_lab_streaming::runtime::{
    ExecRequest, ExecSession, LogRequest, Output, PodRuntime, RuntimeError, Target,
};
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Pods in one namespace.
const IN_ONE: usize = 100;
/// Requests at a time.
const AT_ONCE: usize = 32;

struct Nothing;

impl PodRuntime for Nothing {
    fn exec(&self, target: Target, _: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }

    fn logs(&self, target: Target, _: LogRequest) -> BoxFuture<'_, Result<Output, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [pods, policies, folder] = arguments.as_slice() else {
        return Err("crowd PODS POLICIES FOLDER".into());
    };
    let (pods, policies, folder): (usize, usize, PathBuf) = (pods.parse()?, policies.parse()?, folder.into());
    let shutdown = CancellationToken::new();
    let config = signalbox_lab_apiserver::Config {
        listen: ([127, 0, 0, 1], 0).into(),
        state_dir: folder.join("api"),
        fresh: true,
    };
    let api = signalbox_lab_apiserver::start(config, Arc::new(Nothing), shutdown.clone()).await?;
    let kubeconfig = api.kubeconfig(None);
    let config = kube::config::Kubeconfig::from_yaml(&kubeconfig)?;
    let client = kube::Client::try_from(kube::Config::from_custom_kubeconfig(config, &Default::default()).await?)?;

    let namespaces = pods.div_ceil(IN_ONE);
    let of = |number: usize| format!("team-{}", number % namespaces);
    each(0..namespaces, |number| {
        let name = of(number);
        let labels = json!({"team": name, "stage": ["dev", "prod"][number % 2]});
        create(&client, "", "Namespace", "", json!({"metadata": {"name": name, "labels": labels}}))
    })
    .await?;
    each(0..pods, |number| pod(&client, of(number), number)).await?;
    each(0..policies, |number| {
        let apps = |shift: usize| json!({"matchLabels": {"app": format!("app-{}", (number + shift) % 50)}});
        let spec = json!({"podSelector": apps(0), "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"stage": "prod"}}, "podSelector": apps(1)}], "ports": [{"port": 8080}]}],
            "egress": [{"to": [{"podSelector": apps(2)}]}, {"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "ports": [{"port": 443}]}]});
        let metadata = json!({"name": format!("policy-{number}"), "namespace": of(number)});
        create(&client, "networking.k8s.io", "NetworkPolicy", &of(number), json!({"metadata": metadata, "spec": spec}))
    })
    .await?;
    let path = folder.join("kubeconfig");
    std::fs::write(&path, kubeconfig)?;
    println!("ready {pods} pods, {policies} policies: {}", path.display());
    tokio::signal::ctrl_c().await?;
    shutdown.cancel();
    api.stopped().await;
    Ok(())
}

async fn each<F: Future<Output = Result<(), Failure>>>(
    numbers: std::ops::Range<usize>,
    task: impl Fn(usize) -> F,
) -> Result<(), Failure> {
    let mut running = futures::stream::iter(numbers.map(task)).buffer_unordered(AT_ONCE);
    while let Some(done) = running.next().await {
        done?;
    }
    Ok(())
}

fn api(client: &kube::Client, group: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    if namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    }
}

async fn create(client: &kube::Client, group: &str, kind: &str, namespace: &str, value: Value) -> Result<(), Failure> {
    let object: DynamicObject = serde_json::from_value(value)?;
    api(client, group, kind, namespace).create(&PostParams::default(), &object).await?;
    Ok(())
}

async fn pod(client: &kube::Client, namespace: String, number: usize) -> Result<(), Failure> {
    let name = format!("app-{}-{number}", number % 50);
    let environment: Vec<Value> =
        (0..20).map(|n| json!({"name": format!("SETTING_{n}"), "value": "some value of a usual length"})).collect();
    let value = json!({
        "metadata": {
            "name": name,
            "labels": {"app": format!("app-{}", number % 50), "pod-template-hash": "5c9f", "release": "stable"},
            "annotations": {"checksum/config": "0".repeat(64), "prometheus.io/scrape": "true"},
        },
        "spec": {"nodeName": format!("node-{}", number % 100), "containers": [{
            "name": "app", "image": "registry.example/app:1", "env": environment,
            "ports": [{"containerPort": 8080, "name": "http"}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        }]},
    });
    create(client, "", "Pod", &namespace, value).await?;
    let ip = format!("10.{}.{}.{}", 128 + number / 65_536, number / 256 % 256, number % 256);
    let condition = |name: &str| json!({"type": name, "status": "True"});
    let status = json!({"status": {
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition),
        "containerStatuses": [{"name": "app", "ready": true, "restartCount": 0, "image": "registry.example/app:1",
            "imageID": "sha256:00", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}],
    }});
    api(client, "", "Pod", &namespace).patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}
