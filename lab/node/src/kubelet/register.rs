//! The Node object.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::network::{NODE_COMPANY, NODE_INTERNET, PODS};
use crate::node::Node;

/// How often the node says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// Makes the Node object, or takes over the one of an earlier run.
pub(super) async fn register(node: &Arc<Node>, client: &Client) -> Result<(), Error> {
    let nodes: Api<NodeObject> = Api::all(client.clone());
    let name = node.name();
    let object = object(name);
    match nodes.create(&PostParams::default(), &object).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let patch = json!({"metadata": {"labels": object.metadata.labels}, "spec": object.spec});
            nodes
                .patch(name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .map_err(Error::kube(format!("take over node {name}")))?;
        }
        Err(error) => return Err(Error::kube(format!("register node {name}"))(error)),
    }
    report(&nodes, name).await.map_err(Error::kube(format!("write the status of node {name}")))
}

/// Says from time to time that the node is there.
pub(super) async fn heartbeat(node: &Arc<Node>, client: &Client, stop: CancellationToken) {
    let nodes: Api<NodeObject> = Api::all(client.clone());
    while stop.run_until_cancelled(tokio::time::sleep(HEARTBEAT)).await.is_some() {
        if let Err(error) = report(&nodes, node.name()).await {
            tracing::warn!(%error, "the node's heartbeat was not accepted");
        }
    }
}

async fn report(nodes: &Api<NodeObject>, name: &str) -> Result<(), kube::Error> {
    let patch = json!({"status": status(name)});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

fn object(name: &str) -> NodeObject {
    let labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("node-role.kubernetes.io/lab", ""),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let mut object = NodeObject::default();
    object.metadata.name = Some(name.to_owned());
    object.metadata.labels = Some(labels);
    let spec = object.spec.get_or_insert_default();
    spec.pod_cidr = Some(PODS.to_string());
    spec.pod_cidrs = Some(vec![PODS.to_string()]);
    spec.provider_id = Some(format!("signalbox://{name}"));
    object
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn status(name: &str) -> Value {
    let now = Timestamp::now();
    let now = format!("{now:.0}");
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
               "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    let resources = json!({"cpu": cpus, "memory": memory(), "pods": "1000"});
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let os_image = fs::read_to_string("/etc/os-release")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME=").map(|name| name.trim_matches('"').to_owned()))
        .unwrap_or_else(|| "Linux".to_owned());
    json!({
        "addresses": [
            {"type": "InternalIP", "address": NODE_COMPANY.addr()},
            {"type": "ExternalIP", "address": NODE_INTERNET.addr()},
            {"type": "Hostname", "address": name},
        ],
        "capacity": resources,
        "allocatable": resources,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "the lab's node has enough memory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "the lab's node writes to no disk"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "the lab's node has enough process ids"),
            condition("Ready", "True", "KubeletReady", "the lab's node runs pods"),
        ],
        "nodeInfo": {
            "architecture": architecture(),
            "operatingSystem": "linux",
            "osImage": os_image,
            "kernelVersion": read("/proc/sys/kernel/osrelease"),
            "bootID": read("/proc/sys/kernel/random/boot_id"),
            "machineID": "",
            "systemUUID": "",
            "containerRuntimeVersion": concat!("signalbox://", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": concat!("v1.33.0-signalbox.", env!("CARGO_PKG_VERSION")),
            "kubeProxyVersion": concat!("v1.33.0-signalbox.", env!("CARGO_PKG_VERSION")),
        },
    })
}

/// The machine's memory as a quantity; the kernel's kB are KiB.
fn memory() -> String {
    fs::read_to_string("/proc/meminfo")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB").map(|kib| format!("{kib}Ki")))
        .unwrap_or_else(|| "0".to_owned())
}
