//! The controllers against the lab's real API server. Pods run nowhere here: a few lines below say what a kubelet would.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use signalbox_lab::controllers;
use signalbox_lab_streaming::runtime::{
    ExecRequest, ExecSession, LogRequest, Output, PodRuntime, RuntimeError, Target,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Far above what anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct NoPods;

impl PodRuntime for NoPods {
    fn exec(&self, target: Target, _: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }

    fn logs(&self, target: Target, _: LogRequest) -> BoxFuture<'_, Result<Output, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }
}

struct Cluster {
    client: Client,
    _controllers: controllers::Controllers,
    _state: tempfile::TempDir,
    _shutdown: DropGuard,
}

impl Cluster {
    /// An API server with controllers, a namespace `n` and a ready node.
    async fn start() -> Self {
        let state = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new();
        let config = signalbox_lab_apiserver::Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            state_dir: state.path().join("api"),
            fresh: true,
        };
        let api = signalbox_lab_apiserver::start(config, Arc::new(NoPods), shutdown.clone()).await.unwrap();
        let kubeconfig = Kubeconfig::from_yaml(&api.kubeconfig(None)).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let _controllers = controllers::start(client.clone(), &shutdown);
        let cluster = Self { client, _controllers, _state: state, _shutdown: shutdown.drop_guard() };
        let namespaces = Api::<Namespace>::all(cluster.client.clone());
        namespaces.create(&PostParams::default(), &from(json!({"metadata": {"name": "n"}}))).await.unwrap();
        let nodes = Api::<Node>::all(cluster.client.clone());
        nodes.create(&PostParams::default(), &from(json!({"metadata": {"name": "lab"}}))).await.unwrap();
        let ready =
            json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Test", "message": ""}]}});
        nodes.patch_status("lab", &PatchParams::default(), &Patch::Merge(ready)).await.unwrap();
        cluster
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "n")
    }

    async fn create<K>(&self, value: Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        self.api::<K>().create(&PostParams::default(), &from(value)).await.unwrap()
    }

    /// Does a kubelet's part: pods that have a node run and are ready, pods that are told to go are gone.
    async fn kubelet(&self) {
        let pods = self.api::<Pod>();
        for pod in pods.list(&ListParams::default()).await.unwrap() {
            let name = pod.name_any();
            let bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
            let started = pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some());
            if pod.metadata.deletion_timestamp.is_some() {
                // Somebody else may have been faster.
                let _ = pods.delete(&name, &DeleteParams::default().grace_period(0)).await;
            } else if bound && !started {
                let octet = name.bytes().fold(7_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
                let ip = format!("10.244.0.{octet}");
                let status = json!({"status": {
                    "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                }});
                let _ = pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await;
            }
        }
    }

    /// Waits for something that `look` finds, while the kubelet works.
    async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = look(self).await {
                return found;
            }
            self.kubelet().await;
            assert!(begin.elapsed() < PATIENCE, "{what}; pods: {:#?}", self.pods().await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// `name phase node`
    async fn pods(&self) -> Vec<String> {
        let pods = self.api::<Pod>().list(&ListParams::default()).await.unwrap();
        let word = |text: Option<&String>| text.cloned().unwrap_or("-".into());
        pods.iter()
            .map(|pod| {
                let phase = word(pod.status.as_ref().and_then(|status| status.phase.as_ref()));
                format!(
                    "{} {phase} {}",
                    pod.name_any(),
                    word(pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()))
                )
            })
            .collect()
    }

    async fn rolled_out(&self, name: &str) -> Deployment {
        self.until("the rollout completes", async |cluster| {
            let deployment = cluster.api::<Deployment>().get(name).await.unwrap();
            let (spec, status) = (deployment.spec.as_ref()?, deployment.status.as_ref()?);
            let all = spec.replicas;
            let complete = status.observed_generation == deployment.metadata.generation
                && [status.replicas, status.updated_replicas, status.available_replicas]
                    .iter()
                    .all(|count| *count == all);
            complete.then(|| deployment.clone())
        })
        .await
    }

    /// Versions of everything that the controllers write.
    async fn versions(&self) -> BTreeSet<String> {
        let mut versions = BTreeSet::new();
        let all = ListParams::default();
        let version = |name: String, version: Option<String>| format!("{name}@{}", version.unwrap_or_default());
        for object in self.api::<Deployment>().list(&all).await.unwrap() {
            versions.insert(version(object.name_any(), object.resource_version()));
        }
        for object in self.api::<ReplicaSet>().list(&all).await.unwrap() {
            versions.insert(version(object.name_any(), object.resource_version()));
        }
        for object in self.api::<EndpointSlice>().list(&all).await.unwrap() {
            versions.insert(version(object.name_any(), object.resource_version()));
        }
        for object in self.api::<Service>().list(&all).await.unwrap() {
            versions.insert(version(object.name_any(), object.resource_version()));
        }
        versions
    }
}

fn from<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"run": name}},
            "template": {
                "metadata": {"labels": {"run": name}},
                "spec": {"containers": [{"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 9000}]}]},
            },
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_becomes_pods_and_comes_to_rest() {
    let cluster = Cluster::start().await;
    cluster
        .create::<Service>(json!({
            "metadata": {"name": "web"},
            "spec": {"type": "LoadBalancer", "selector": {"run": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
        }))
        .await;
    cluster.create::<Deployment>(deployment("web", 3, "one")).await;
    let done = cluster.rolled_out("web").await;
    let conditions = done.status.unwrap().conditions.unwrap();
    for (type_, reason) in [("Available", "MinimumReplicasAvailable"), ("Progressing", "NewReplicaSetAvailable")] {
        let condition = conditions.iter().find(|condition| condition.type_ == type_).unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_deref()), ("True", Some(reason)));
    }
    let pods = cluster.pods().await;
    assert!(pods.len() == 3 && pods.iter().all(|pod| pod.ends_with("Running lab")), "{pods:?}");
    let service = cluster
        .until("an address", async |cluster| {
            let service = cluster.api::<Service>().get("web").await.unwrap();
            service.status?.load_balancer?.ingress?.first()?.ip.clone()
        })
        .await;
    assert_eq!(service, "198.51.100.200");
    cluster
        .until("three endpoints on the named port", async |cluster| {
            let slices = cluster.api::<EndpointSlice>().list(&ListParams::default()).await.unwrap().items;
            let [slice] = slices.as_slice() else { return None };
            let ready =
                slice.endpoints.iter().filter(|endpoint| endpoint.conditions.as_ref().unwrap().ready == Some(true));
            (ready.count() == 3 && slice.ports.as_ref()?[0].port == Some(9000)).then_some(())
        })
        .await;
    // Nothing changes any more: what a controller writes compares equal to what the API server gives back.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = cluster.versions().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(cluster.versions().await, before);
    let events = cluster.api::<Event>().list(&ListParams::default()).await.unwrap();
    let reasons: BTreeSet<_> = events.iter().filter_map(|event| event.reason.as_deref()).collect();
    for reason in ["ScalingReplicaSet", "SuccessfulCreate", "Scheduled", "EnsuredLoadBalancer"] {
        assert!(reasons.contains(reason), "{reason} is not among {reasons:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_rolls_and_a_scale_scales() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(deployment("web", 2, "one")).await;
    cluster.rolled_out("web").await;
    let deployments = cluster.api::<Deployment>();
    let template = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
    deployments.patch("web", &PatchParams::default(), &Patch::Strategic(template)).await.unwrap();
    let done = cluster.rolled_out("web").await;
    assert_eq!(done.annotations()["deployment.kubernetes.io/revision"], "2");
    let images: Vec<_> = cluster
        .until("the old pods have gone", async |cluster| {
            let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap();
            let images: Vec<_> = pods.iter().filter_map(|pod| pod.spec.as_ref()?.containers[0].image.clone()).collect();
            (images.len() == 2).then_some(images)
        })
        .await;
    assert_eq!(images, ["two", "two"]);
    for replicas in [5, 0, 1] {
        let scale = json!({"spec": {"replicas": replicas}});
        deployments.patch_scale("web", &PatchParams::default(), &Patch::Merge(scale)).await.unwrap();
        cluster
            .until("as many pods as asked for", async |cluster| (cluster.pods().await.len() == replicas).then_some(()))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_deleted_or_relabelled_gets_a_successor() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(deployment("web", 1, "one")).await;
    cluster.rolled_out("web").await;
    let pods = cluster.api::<Pod>();
    let only = |pods: Vec<Pod>| pods.first().map(|pod| pod.name_any()).unwrap();
    let first = only(pods.list(&ListParams::default()).await.unwrap().items);
    pods.delete(&first, &DeleteParams::default()).await.unwrap();
    let second = cluster
        .until("a successor", async |cluster| {
            let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
            (pods.len() == 1 && only(pods.clone()) != first).then(|| only(pods))
        })
        .await;
    let aside = json!({"metadata": {"labels": {"run": "aside"}}});
    pods.patch(&second, &PatchParams::default(), &Patch::Merge(aside)).await.unwrap();
    cluster
        .until("the pod is let go and replaced", async |cluster| {
            let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
            let released = pods.iter().find(|pod| pod.name_any() == second)?.owner_references().is_empty();
            (pods.len() == 2 && released).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_fits_nowhere_says_so_and_starts_when_it_fits() {
    let cluster = Cluster::start().await;
    let mut picky = deployment("web", 1, "one");
    picky["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
    cluster.create::<Deployment>(picky).await;
    cluster
        .until("it says why", async |cluster| {
            let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
            let conditions = pods.first()?.status.as_ref()?.conditions.clone()?;
            let scheduled = conditions.into_iter().find(|condition| condition.type_ == "PodScheduled")?;
            (scheduled.status == "False" && scheduled.message?.starts_with("0/1 nodes are available")).then_some(())
        })
        .await;
    let label = json!({"metadata": {"labels": {"disk": "ssd"}}});
    Api::<Node>::all(cluster.client.clone()).patch("lab", &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    cluster.rolled_out("web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_namespace_has_its_account_and_takes_its_contents_along() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(deployment("web", 2, "one")).await;
    cluster.rolled_out("web").await;
    cluster
        .until("the account", async |cluster| cluster.api::<ServiceAccount>().get_opt("default").await.unwrap())
        .await;
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    namespaces.delete("n", &DeleteParams::default()).await.unwrap();
    cluster
        .until("the namespace is gone", async |_| namespaces.get_opt("n").await.unwrap().is_none().then_some(()))
        .await;
    let left = Api::<Pod>::all(cluster.client.clone()).list(&ListParams::default()).await.unwrap().items;
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_follow_a_deployment_quickly() {
    let cluster = Cluster::start().await;
    let mut took = Vec::new();
    for round in 0..10 {
        let name = format!("web{round}");
        let begin = Instant::now();
        cluster.create::<Deployment>(deployment(&name, 1, "one")).await;
        loop {
            let pods = cluster.api::<Pod>().list(&ListParams::default().labels(&format!("run={name}"))).await.unwrap();
            if pods.iter().any(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())) {
                break;
            }
            assert!(begin.elapsed() < PATIENCE);
        }
        took.push(begin.elapsed());
    }
    took.sort();
    println!("Deployment created -> pod bound: median {:?}, worst {:?}", took[5], took[9]);
    // The goal is 20 ms on an idle machine; a build that is not optimised on a busy one is given more.
    assert!(took[5] < Duration::from_millis(500), "{took:?}");
}
