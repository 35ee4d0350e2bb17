//! The API that is watched: the lab's, in this process, with the objects written through it by a client.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::discovery::ApiResource;
use serde_json::{Value, json};
use signalbox_lab_apiserver::ApiServer;
use signalbox_lab_streaming::runtime::{
    ExecRequest, ExecSession, LogRequest, Output, PodRuntime, RuntimeError, Target,
};
use tokio_util::sync::CancellationToken;

use super::objects::{Size, objects};

/// Writes under way at a time.
const AT_ONCE: usize = 8;

/// Nothing runs in these pods.
struct Nobody;

impl PodRuntime for Nobody {
    fn exec(&self, target: Target, _: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }

    fn logs(&self, target: Target, _: LogRequest) -> BoxFuture<'_, Result<Output, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }
}

/// An API with a whole cluster in it.
pub struct Cluster {
    client: kube::Client,
    /// A kubeconfig that reaches it.
    pub kubeconfig: PathBuf,
    /// Namespace and name of each pod.
    pods: Vec<(String, String)>,
    /// Namespace and name of each policy.
    policies: Vec<(String, String)>,
    /// What a server has to show.
    pub shown: Shown,
    /// Bytes of JSON of the pods, as the API answers.
    pub pod_bytes: usize,
    api: ApiServer,
    shutdown: CancellationToken,
    _state: tempfile::TempDir,
}

/// How much of it there is to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Pods and Services.
    pub endpoints: usize,
    /// NetworkPolicies.
    pub policies: usize,
    /// Namespaces of the bench, without the API's own.
    pub namespaces: usize,
}

impl Cluster {
    /// Starts the API on loopback, and writes the objects.
    pub async fn start(size: Size) -> Result<Self> {
        let state = tempfile::tempdir()?;
        let shutdown = CancellationToken::new();
        let config = signalbox_lab_apiserver::Config {
            listen: ([127, 0, 0, 1], 0).into(),
            state_dir: state.path().join("api"),
            fresh: true,
        };
        let api = signalbox_lab_apiserver::start(config, Arc::new(Nobody), shutdown.clone()).await?;
        let kubeconfig = state.path().join("kubeconfig");
        fs::write(&kubeconfig, api.kubeconfig(None))?;
        let read = kube::config::Kubeconfig::read_from(&kubeconfig)?;
        let client = kube::Client::try_from(kube::Config::from_custom_kubeconfig(read, &Default::default()).await?)?;
        let objects = objects(size);
        let of = |kind: &str| -> Vec<(String, String)> {
            let of_kind = objects.iter().filter(|object| object["kind"] == *kind);
            of_kind.map(|object| (text(object, "namespace"), text(object, "name"))).collect()
        };
        let (pods, policies, namespaces) = (of("Pod"), of("NetworkPolicy"), of("Namespace").len());
        let endpoints = pods.len() + of("Service").len();
        let shown = Shown { endpoints, policies: policies.len(), namespaces };
        // Namespaces come first, and have to be there for the rest.
        let (first, rest): (Vec<Value>, Vec<Value>) =
            objects.into_iter().partition(|object| object["kind"] == "Namespace");
        for part in [first, rest] {
            let writes = futures::stream::iter(part).map(|object| write(&client, object));
            writes.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        }
        let mut cluster =
            Self { client, kubeconfig, pods, policies, shown, pod_bytes: 0, api, shutdown, _state: state };
        cluster.pod_bytes = cluster.weigh().await?;
        Ok(cluster)
    }

    async fn weigh(&self) -> Result<usize> {
        let all: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource("v1", "Pod"));
        let mut bytes = 0;
        let mut parameters = ListParams::default().limit(500);
        loop {
            let page = all.list(&parameters).await?;
            bytes +=
                page.items.iter().map(|pod| serde_json::to_string(pod).map_or(0, |text| text.len())).sum::<usize>();
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(bytes),
            }
        }
    }

    /// Gives `count` pods another value of one label.
    pub async fn label_pods(&self, count: usize, value: &str) -> Result<()> {
        let patch = json!({"metadata": {"labels": {LABEL: value}}});
        let changes = self.pods.iter().take(count).map(|(namespace, name)| {
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource("v1", "Pod"));
            let patch = Patch::Merge(patch.clone());
            async move {
                api.patch(name, &PatchParams::default(), &patch)
                    .await
                    .with_context(|| format!("pod {namespace}/{name}"))?;
                anyhow::Ok(())
            }
        });
        futures::stream::iter(changes).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Has the first policy let everybody in by one port more or another one.
    pub async fn open_port(&self, port: u16) -> Result<()> {
        let (namespace, name) = self.policies.first().context("the cluster has policies")?;
        let policies = resource("networking.k8s.io/v1", "NetworkPolicy");
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &policies);
        let patch = Patch::Merge(json!({"spec": {"ingress": [{"ports": [{"port": port, "protocol": "TCP"}]}]}}));
        api.patch(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Ends the API.
    pub async fn end(self) {
        self.shutdown.cancel();
        self.api.stopped().await;
    }
}

/// The label that changes.
pub const LABEL: &str = "signalbox.dev/bench";

/// Creates an object and, where it has one, reports its status, as controller and kubelet do: each is an owner of fields of its own.
async fn write(client: &kube::Client, object: Value) -> Result<()> {
    let (kind, name) = (object["kind"].as_str().unwrap_or_default().to_owned(), text(&object, "name"));
    let resource = resource(object["apiVersion"].as_str().unwrap_or_default(), &kind);
    let api: Api<DynamicObject> = match text(&object, "namespace").as_str() {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let status = json!({"status": object["status"]});
    let object: DynamicObject = serde_json::from_value(object)?;
    let controller = PostParams { field_manager: Some("kube-controller-manager".to_owned()), ..PostParams::default() };
    api.create(&controller, &object).await.with_context(|| format!("{kind} {name}"))?;
    if kind == "Pod" {
        let kubelet = PatchParams { field_manager: Some("kubelet".to_owned()), ..PatchParams::default() };
        api.patch_status(&name, &kubelet, &Patch::Merge(status)).await.with_context(|| format!("status of {name}"))?;
    }
    Ok(())
}

fn text(object: &Value, field: &str) -> String {
    object["metadata"][field].as_str().unwrap_or_default().to_owned()
}

fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, version, kind))
}
