//! What the API shows of a pod and its containers.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::container::{Container, Now, Run};
use crate::channel::End;
use crate::network::NODE_COMPANY;

/// Where the images come from that no registry has.
const IMAGE_ID: &str = concat!("signalbox.dev/probe:v", env!("CARGO_PKG_VERSION"));

/// When the conditions of a pod changed last.
#[derive(Clone, Debug)]
pub(super) struct Since {
    pub(super) initialized: Option<Timestamp>,
    ready: bool,
    ready_since: Timestamp,
    pub(super) started: Timestamp,
}

impl Since {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { initialized: None, ready: false, ready_since: now, started: now }
    }
}

/// A pod's phase, by its containers.
pub(super) fn phase(containers: &[Container]) -> &'static str {
    let ended = |container: &Container| match &container.now {
        Now::Ended(run) => Some(run.exit_code()),
        _ => None,
    };
    if !containers.is_empty() && containers.iter().all(|container| ended(container).is_some()) {
        let failed = containers.iter().any(|container| ended(container) != Some(0));
        return if failed { "Failed" } else { "Succeeded" };
    }
    let began = |container: &Container| !matches!(container.now, Now::Waiting { .. }) || container.last.is_some();
    if containers.iter().all(began) { "Running" } else { "Pending" }
}

/// The whole status.
pub(super) fn status(
    pod: &Pod,
    address: Option<Ipv4Addr>,
    containers: &[Container],
    since: &mut Since,
    now: Timestamp,
) -> Value {
    let phase = phase(containers);
    let over = matches!(phase, "Succeeded" | "Failed");
    let ready = !over && !containers.is_empty() && containers.iter().all(|container| container.ready);
    if ready != since.ready {
        since.ready = ready;
        since.ready_since = now;
    }
    let (reason, message) = if ready {
        (None, None)
    } else if phase == "Succeeded" {
        (Some("PodCompleted"), None)
    } else if phase == "Failed" {
        (Some("PodFailed"), None)
    } else {
        let names: Vec<&str> = names(pod).zip(containers).filter(|(_, c)| !c.ready).map(|(name, _)| name).collect();
        (Some("ContainersNotReady"), Some(format!("containers with unready status: [{}]", names.join(" "))))
    };
    let condition = |kind: &str, status: bool, at: Timestamp| {
        let mut condition = json!({
            "type": kind,
            "status": if status { "True" } else { "False" },
            "lastProbeTime": null,
            "lastTransitionTime": time(at),
        });
        if !status {
            condition["reason"] = json!(reason);
            if message.is_some() {
                condition["message"] = json!(message);
            }
        }
        condition
    };
    let bound = scheduled(pod).unwrap_or(since.started);
    let statuses: Vec<Value> = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .zip(containers)
        .map(|(spec, container)| container_status(&spec.name, spec.image.as_deref().unwrap_or_default(), container))
        .collect();
    let mut status = json!({
        "phase": phase,
        "conditions": [
            condition("PodReadyToStartContainers", address.is_some(), since.initialized.unwrap_or(since.started)),
            condition("Initialized", true, since.started),
            condition("Ready", ready, since.ready_since),
            condition("ContainersReady", ready, since.ready_since),
            condition("PodScheduled", true, bound),
        ],
        "hostIP": NODE_COMPANY.addr(),
        "hostIPs": [{"ip": NODE_COMPANY.addr()}],
        "startTime": time(since.started),
        "containerStatuses": statuses,
        "qosClass": "BestEffort",
    });
    if let Some(address) = address {
        status["podIP"] = json!(address);
        status["podIPs"] = json!([{"ip": address}]);
    }
    status
}

/// When the scheduler bound it.
fn scheduled(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    scheduled.last_transition_time.as_ref().map(|time| time.0)
}

fn names(pod: &Pod) -> impl Iterator<Item = &str> {
    pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| container.name.as_str())
}

fn container_status(name: &str, image: &str, container: &Container) -> Value {
    let state = match &container.now {
        Now::Waiting { reason, message } if message.is_empty() => json!({"waiting": {"reason": reason}}),
        Now::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
        Now::Running { since, .. } => json!({"running": {"startedAt": time(*since)}}),
        Now::Ended(run) => json!({"terminated": terminated(run)}),
    };
    let id = match &container.now {
        Now::Running { id, .. } => id.clone(),
        Now::Ended(run) => run.id.clone(),
        Now::Waiting { .. } => container.last.as_ref().map(|run| run.id.clone()).unwrap_or_default(),
    };
    json!({
        "name": name,
        "image": image,
        "imageID": IMAGE_ID,
        "containerID": id,
        "ready": container.ready,
        "started": matches!(container.now, Now::Running { .. }),
        "restartCount": container.restarts,
        "state": state,
        "lastState": container.last.as_ref().map_or_else(|| json!({}), |run| json!({"terminated": terminated(run)})),
    })
}

fn terminated(run: &Run) -> Value {
    let mut value = json!({
        "exitCode": run.exit_code(),
        "reason": if run.exit_code() == 0 { "Completed" } else { "Error" },
        "startedAt": time(run.started),
        "finishedAt": time(run.finished),
        "containerID": run.id,
    });
    if let End::Signal(signal) = run.end {
        value["signal"] = json!(signal);
    }
    value
}

/// Whole seconds, as the API writes times.
pub(super) fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// The name that `kubectl` and people use.
pub(super) fn who(pod: &Pod) -> String {
    format!("pod {}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}
