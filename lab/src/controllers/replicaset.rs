//! ReplicaSet -> Pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::cluster::Cluster;
use super::command::Command;
use super::events::{Note, Recorder};
use super::owner::{controlled_by, controller_uid, controls, selects};
use super::pod;
use super::rollout::wanted;
use super::store::key_of;
use super::worker::{Controller, Inputs, Pass};

/// Pods that one pass creates or deletes for one set: a large set grows in bites, and others get their turn.
const BITE: usize = 64;

/// Runs [`decide`] for every ReplicaSet.
pub(crate) struct ReplicaSets {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) events: Recorder,
}

/// What one set needs.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Decision {
    /// Pods to create, delete, adopt or release.
    pub pods: Vec<Command<Pod>>,
    /// The set's own status, where it changes.
    pub status: Option<Command<ReplicaSet>>,
    /// When to look again though nothing has changed: a pod becomes available by mere waiting.
    pub wake_in: Option<Duration>,
}

impl Controller for ReplicaSets {
    const NAME: &'static str = "replicaset";

    fn inputs(&self) -> Inputs {
        Inputs::default().and(&self.cluster.replica_sets).and(&self.cluster.pods)
    }

    async fn pass(&mut self) -> Pass {
        let cluster = self.cluster.clone();
        let mut by_namespace: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in cluster.pods.list() {
            by_namespace.entry(pod.namespace().unwrap_or_default()).or_default().push(pod);
        }
        let mut pass = Pass::default();
        let (mut pods, mut statuses) = (Vec::new(), Vec::new());
        for set in cluster.replica_sets.list() {
            let near = by_namespace.get(&set.namespace().unwrap_or_default()).map_or(&[][..], Vec::as_slice);
            let decision = decide(&set, near, Timestamp::now());
            pass.wake_in = [pass.wake_in, decision.wake_in].into_iter().flatten().min();
            pods.extend(decision.pods.into_iter().map(|command| (set.clone(), command)));
            statuses.extend(decision.status);
        }
        let (pods, statuses) = tokio::join!(
            cluster
                .pods
                .carry_out_and_tell(&cluster.client, pods, |set, command, answer| self.tell(set, command, answer)),
            cluster.replica_sets.carry_out(&cluster.client, statuses),
        );
        pass.failed = pods + statuses;
        pass
    }
}

impl ReplicaSets {
    fn tell(&self, set: &ReplicaSet, command: &Command<Pod>, answer: Option<&Pod>) {
        let note = match (command, answer) {
            (Command::Create(_), Some(pod)) => {
                Note::normal("SuccessfulCreate", format!("Created pod: {}", pod.name_any()))
            }
            (Command::Delete((_, name), _), _) => Note::normal("SuccessfulDelete", format!("Deleted pod: {name}")),
            (Command::Create(_), None)
            | (Command::Replace(_) | Command::ReplaceStatus(_) | Command::Patch(..) | Command::PatchStatus(..), _) => {
                return;
            }
        };
        self.events.record(set, note);
    }
}

/// Decides for one set, given all pods of its namespace.
pub(crate) fn decide(set: &ReplicaSet, pods: &[Arc<Pod>], now: Timestamp) -> Decision {
    let Some(spec) = &set.spec else { return Decision::default() };
    if set.metadata.deletion_timestamp.is_some() {
        return Decision::default();
    }
    let mut decision = Decision::default();
    let mut active = Vec::new();
    for pod in pods {
        let selected = selects(&spec.selector, pod.metadata.labels.as_ref());
        let ours = controls(set, &pod.metadata);
        if ours && !selected {
            // Someone has changed its labels: it lives on by itself, and gets a successor.
            if pod.metadata.deletion_timestamp.is_none() {
                decision.pods.push(release(set, pod));
            }
            continue;
        }
        if pod::is_finished(pod) || pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        if ours {
            active.push(pod);
        } else if selected && controller_uid(&pod.metadata).is_none() {
            decision.pods.push(adopt(set, pod));
            active.push(pod);
        }
    }
    let desired = usize::try_from(wanted(set)).unwrap_or(0);
    if active.len() < desired {
        let missing = (desired - active.len()).min(BITE);
        decision.pods.extend(std::iter::repeat_with(|| Command::Create(Box::new(new_pod(set)))).take(missing));
    } else if active.len() > desired {
        let mut victims = active.clone();
        victims.sort_by_key(|pod| std::cmp::Reverse(worth(pod)));
        let surplus = victims.split_off(desired);
        let gone = surplus.into_iter().rev().take(BITE);
        decision.pods.extend(gone.map(|pod| Command::Delete(key_of(pod.as_ref()), pod.uid().unwrap_or_default())));
    }
    let (status, wake_in) = status(set, &active, now);
    decision.wake_in = wake_in;
    if set.status.as_ref() != Some(&status) {
        decision.status = Some(Command::ReplaceStatus(Box::new(ReplicaSet { status: Some(status), ..set.clone() })));
    }
    decision
}

/// What a pod is worth when one has to go: assigned, running, ready, and the older the better.
fn worth(pod: &Pod) -> (bool, bool, bool, std::cmp::Reverse<Option<Timestamp>>, String) {
    let assigned = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let age = pod.creation_timestamp().map(|time| time.0);
    (assigned, pod::is_running(pod), pod::is_ready(pod), std::cmp::Reverse(age), pod.name_any())
}

fn new_pod(set: &ReplicaSet) -> Pod {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let from = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name_any())),
            namespace: set.namespace(),
            labels: from.labels,
            annotations: from.annotations,
            finalizers: from.finalizers,
            owner_references: Some(vec![controlled_by(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

fn adopt(set: &ReplicaSet, pod: &Pod) -> Command<Pod> {
    let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
    owners.push(controlled_by(set));
    owned_by(pod, &owners)
}

fn release(set: &ReplicaSet, pod: &Pod) -> Command<Pod> {
    let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
    owners.retain(|owner| Some(owner.uid.as_str()) != set.metadata.uid.as_deref());
    owned_by(pod, &owners)
}

fn owned_by(pod: &Pod, owners: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference]) -> Command<Pod> {
    // The uid in the patch keeps it from a successor of the same name.
    Command::Patch(key_of(pod), json!({"metadata": {"uid": pod.metadata.uid, "ownerReferences": owners}}))
}

fn status(set: &ReplicaSet, active: &[&Arc<Pod>], now: Timestamp) -> (ReplicaSetStatus, Option<Duration>) {
    let before = set.status.clone().unwrap_or_default();
    let spec = set.spec.as_ref();
    let min_ready = Duration::from_secs(
        spec.and_then(|spec| spec.min_ready_seconds).and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0),
    );
    let template_labels =
        spec.and_then(|spec| spec.template.as_ref()?.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    let labelled =
        active.iter().filter(|pod| template_labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value)));
    let waits: Vec<_> = active.iter().filter_map(|pod| pod::available_in(pod, min_ready, now)).collect();
    let available = waits.iter().filter(|wait| wait.is_zero()).count();
    let status = ReplicaSetStatus {
        observed_generation: set.metadata.generation,
        replicas: count(active.len()),
        fully_labeled_replicas: some(labelled.count()),
        ready_replicas: some(active.iter().filter(|pod| pod::is_ready(pod)).count()),
        available_replicas: some(available),
        ..before
    };
    (status, waits.into_iter().filter(|wait| !wait.is_zero()).min())
}

fn count(pods: usize) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}

/// Kubernetes leaves out counts of nothing.
fn some(pods: usize) -> Option<i32> {
    (pods != 0).then(|| count(pods))
}

#[cfg(test)]
#[path = "replicaset_tests.rs"]
mod tests;
