//! Pods without a node -> pods with one.
//!
//! What decides: `nodeSelector`, required node affinity, taints, `unschedulable`, the node's readiness and how many pods it takes. Requests for
//! CPU and memory do not: the lab's pods are processes of a few megabytes, and nothing is reserved for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::cluster::Cluster;
use super::command::Command;
use super::events::{Note, Recorder};
use super::pod;
use super::store::key_of;
use super::worker::{Controller, Inputs, Pass};

/// The name that a pod's `schedulerName` has where nobody sets another.
const NAME: &str = "default-scheduler";

/// Runs [`decide`].
pub(crate) struct Scheduler {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) events: Recorder,
}

/// What becomes of the pods that wait.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    /// Pod and node.
    pub bind: Vec<(Arc<Pod>, String)>,
    /// Pods that fit nowhere, and why; only those that do not say so yet.
    pub unschedulable: Vec<(Arc<Pod>, String)>,
}

impl Controller for Scheduler {
    const NAME: &'static str = "scheduler";

    fn inputs(&self) -> Inputs {
        Inputs::default().and(&self.cluster.pods).and(&self.cluster.nodes)
    }

    async fn pass(&mut self) -> Pass {
        let decision = decide(&self.cluster.pods.list(), &self.cluster.nodes.list());
        let mut commands: Vec<_> =
            decision.bind.into_iter().map(|(pod, node)| (Some(node.clone()), bind(&pod, &node))).collect();
        let mut pass = Pass::default();
        for (pod, why) in decision.unschedulable {
            if age(&pod) < GRACE {
                pass.wake_in = Some(GRACE);
                continue;
            }
            commands.push((None, Command::PatchStatus(key_of(pod.as_ref()), unschedulable_status(&pod, &why))));
            self.events.record(pod.as_ref(), Note::warning("FailedScheduling", why));
        }
        let cluster = &self.cluster;
        pass.failed = cluster
            .pods
            .carry_out_and_tell(&cluster.client, commands, |node, _, answer| {
                let (Some(node), Some(pod)) = (node, answer) else { return };
                let (namespace, name) = key_of(pod);
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                self.events.record(pod, Note::normal("Scheduled", message));
            })
            .await;
        pass
    }
}

/// How long a pod may wait before it is said that it fits nowhere: at the start of a lab, the node is a moment behind.
const GRACE: Duration = Duration::from_secs(2);

fn age(pod: &Pod) -> Duration {
    let created = pod.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Duration::try_from(Timestamp::now().duration_since(created)).unwrap_or_default()
}

/// The uid keeps the patch from a successor of the same name; the API server refuses it if the pod has a node by now.
fn bind(pod: &Pod, node: &str) -> Command<Pod> {
    Command::Patch(key_of(pod), json!({"metadata": {"uid": pod.metadata.uid}, "spec": {"nodeName": node}}))
}

/// Finds a node for each pod that waits for this scheduler.
pub(crate) fn decide(pods: &[Arc<Pod>], nodes: &[Arc<Node>]) -> Decision {
    let mut load: BTreeMap<String, usize> = nodes.iter().map(|node| (node.name_any(), 0)).collect();
    for pod in pods.iter().filter(|pod| !pod::is_finished(pod)) {
        if let Some(count) = node_name(pod).and_then(|node| load.get_mut(node)) {
            *count += 1;
        }
    }
    let mut decision = Decision::default();
    for pod in pods.iter().filter(|pod| waits(pod)) {
        let full = |node: &Node| load.get(&node.name_any()).is_some_and(|pods| *pods >= room(node));
        let misfits: Vec<_> = nodes
            .iter()
            .map(|node| misfit(pod, node).or_else(|| full(node).then(|| "Too many pods".to_owned())))
            .collect();
        let fitting =
            nodes.iter().zip(&misfits).filter(|(_, misfit)| misfit.is_none()).map(|(node, _)| node.name_any());
        if let Some(node) = fitting.min_by_key(|node| load.get(node).copied()) {
            *load.entry(node.clone()).or_default() += 1;
            decision.bind.push((pod.clone(), node));
            continue;
        }
        let why = explain(&misfits);
        let said = pod::condition(pod, "PodScheduled").and_then(|condition| condition.message.as_ref());
        if said != Some(&why) {
            decision.unschedulable.push((pod.clone(), why));
        }
    }
    decision
}

fn waits(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.node_name.is_none()
        && pod.metadata.deletion_timestamp.is_none()
        && !pod::is_finished(pod)
        && spec.scheduler_name.as_deref().is_none_or(|name| name == NAME)
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
}

fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// Why a pod cannot run on a node, in the words of Kubernetes' scheduler; `None` where it can.
fn misfit(pod: &Pod, node: &Node) -> Option<String> {
    let spec = node.spec.as_ref();
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    if spec.and_then(|spec| spec.unschedulable) == Some(true) {
        let cordoned =
            Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
        if !tolerations.iter().any(|toleration| tolerates(toleration, &cordoned)) {
            return Some("node(s) were unschedulable".into());
        }
    }
    let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    for taint in taints.iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")) {
        if !tolerations.iter().any(|toleration| tolerates(toleration, taint)) {
            let value = taint.value.as_deref().unwrap_or_default();
            return Some(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key));
        }
    }
    if !selects_node(pod, node) {
        return Some("node(s) didn't match Pod's node affinity/selector".into());
    }
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    (!ready).then(|| "node(s) were not ready".into())
}

/// How many pods a node takes. One that does not say, or in no plain number, takes any.
fn room(node: &Node) -> usize {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let text = allocatable.and_then(|resources| resources.get("pods")).map_or("", |pods| pods.0.as_str());
    match text.strip_suffix('k') {
        Some(thousands) => thousands.parse::<usize>().map_or(usize::MAX, |pods| pods.saturating_mul(1000)),
        None => text.parse().unwrap_or(usize::MAX),
    }
}

fn selects_node(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| node.labels().get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    // Terms are alternatives; what stands inside of one must hold together. A term without anything matches nothing.
    selected && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| term_holds(term, node)))
}

fn term_holds(term: &NodeSelectorTerm, node: &Node) -> bool {
    let (labels, fields) =
        (term.match_expressions.as_deref().unwrap_or_default(), term.match_fields.as_deref().unwrap_or_default());
    // The only field that the API allows here.
    let field = |name: &str| (name == "metadata.name").then(|| node.name_any());
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|requirement| holds(requirement, node.labels().get(&requirement.key).cloned()))
        && fields.iter().all(|requirement| holds(requirement, field(&requirement.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<String>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let compared = |order: std::cmp::Ordering| {
        let number = |text: &str| text.parse::<i64>().ok();
        match (value.as_deref().and_then(number), values.first().and_then(|text| number(text))) {
            (Some(value), Some(bound)) => value.cmp(&bound) == order,
            (None, _) | (_, None) => false,
        }
    };
    match requirement.operator.as_str() {
        "In" => value.as_ref().is_some_and(|value| values.contains(value)),
        "NotIn" => value.as_ref().is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(std::cmp::Ordering::Greater),
        "Lt" => compared(std::cmp::Ordering::Less),
        // The API refuses any other operator; one that we do not know keeps the pod waiting, visibly.
        _ => false,
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    let key = toleration.key.as_deref().unwrap_or_default();
    match toleration.operator.as_deref() {
        Some("Exists") => key.is_empty() || key == taint.key,
        Some(_) | None => {
            key == taint.key
                && toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
    }
}

fn explain(misfits: &[Option<String>]) -> String {
    if misfits.is_empty() {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for misfit in misfits.iter().flatten() {
        *counts.entry(misfit).or_default() += 1;
    }
    let reasons: Vec<_> = counts.iter().map(|(why, count)| format!("{count} {why}")).collect();
    format!("0/{} nodes are available: {}.", misfits.len(), reasons.join(", "))
}

fn unschedulable_status(pod: &Pod, why: &str) -> serde_json::Value {
    let now = Time(Timestamp::now());
    // A merge patch replaces a list as a whole: the pod's other conditions have to stand in it.
    let mut conditions: Vec<serde_json::Value> = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .filter(|condition| condition.type_ != "PodScheduled")
        .map(|condition| json!(condition))
        .collect();
    conditions.push(json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why, "lastTransitionTime": now,
    }));
    json!({"status": {"conditions": conditions}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec})).unwrap())
    }

    fn node(name: &str, labels: serde_json::Value, spec: serde_json::Value) -> Arc<Node> {
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let node = json!({"metadata": {"name": name, "labels": labels}, "spec": spec, "status": ready});
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn spec(extra: serde_json::Value) -> serde_json::Value {
        let mut spec = json!({"containers": [{"name": "c"}]});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        spec
    }

    fn affinity(key: &str, operator: &str, values: serde_json::Value) -> serde_json::Value {
        let expressions = json!([{"key": key, "operator": operator, "values": values}]);
        let terms = json!({"nodeSelectorTerms": [{"matchExpressions": expressions}]});
        spec(json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}))
    }

    #[test]
    fn a_pod_goes_where_it_fits() {
        let plain = || node("lab", json!({"disk": "ssd", "cores": "4"}), json!({}));
        let tainted =
            || node("lab", json!({}), json!({"taints": [{"key": "only", "value": "gpu", "effect": "NoSchedule"}]}));
        let cordoned = || node("lab", json!({}), json!({"unschedulable": true}));
        let unready = || Arc::new(Node { status: None, ..node("lab", json!({}), json!({})).as_ref().clone() });
        let misfit = |why: &str| Err(format!("0/1 nodes are available: 1 {why}."));
        let affine = "node(s) didn't match Pod's node affinity/selector";
        // What, the pod's spec, the nodes, and the node or the reason.
        type Case = (&'static str, serde_json::Value, Vec<Arc<Node>>, Result<&'static str, String>);
        let cases: Vec<Case> = vec![
            ("plain", spec(json!({})), vec![plain()], Ok("lab")),
            ("selector holds", spec(json!({"nodeSelector": {"disk": "ssd"}})), vec![plain()], Ok("lab")),
            ("selector fails", spec(json!({"nodeSelector": {"disk": "hdd"}})), vec![plain()], misfit(affine)),
            ("affinity In", affinity("disk", "In", json!(["ssd"])), vec![plain()], Ok("lab")),
            ("affinity NotIn without the key", affinity("zone", "NotIn", json!(["a"])), vec![plain()], Ok("lab")),
            ("affinity DoesNotExist", affinity("disk", "DoesNotExist", json!([])), vec![plain()], misfit(affine)),
            ("affinity Gt", affinity("cores", "Gt", json!(["3"])), vec![plain()], Ok("lab")),
            ("affinity Lt", affinity("cores", "Lt", json!(["4"])), vec![plain()], misfit(affine)),
            ("taint", spec(json!({})), vec![tainted()], misfit("node(s) had untolerated taint {only: gpu}")),
            (
                "tolerated taint",
                spec(json!({"tolerations": [{"key": "only", "operator": "Equal", "value": "gpu"}]})),
                vec![tainted()],
                Ok("lab"),
            ),
            ("cordoned", spec(json!({})), vec![cordoned()], misfit("node(s) were unschedulable")),
            ("not ready", spec(json!({})), vec![unready()], misfit("node(s) were not ready")),
            ("no node", spec(json!({})), vec![], Err("no nodes available to schedule pods".into())),
            (
                "the emptier node",
                spec(json!({"nodeSelector": {"disk": "ssd"}})),
                vec![node("a", json!({}), json!({})), node("b", json!({"disk": "ssd"}), json!({}))],
                Ok("b"),
            ),
        ];
        for (name, spec, nodes, expected) in cases {
            let decision = decide(&[pod(spec)], &nodes);
            let bound = decision.bind.first().map(|(_, node)| node.as_str());
            let why = decision.unschedulable.first().map(|(_, why)| why.clone());
            match expected {
                Ok(node) => assert_eq!((bound, why), (Some(node), None), "{name}"),
                Err(message) => assert_eq!((bound, why), (None, Some(message)), "{name}"),
            }
        }
    }

    #[test]
    fn a_full_node_takes_no_more_pods() {
        for (pods, bound) in [("1", 1), ("2", 2), ("1k", 3), ("many", 3)] {
            let mut small = node("lab", json!({}), json!({})).as_ref().clone();
            small.status.as_mut().unwrap().allocatable = Some(serde_json::from_value(json!({"pods": pods})).unwrap());
            let waiting = [pod(spec(json!({}))), pod(spec(json!({}))), pod(spec(json!({})))];
            let decision = decide(&waiting, &[Arc::new(small)]);
            assert_eq!((decision.bind.len(), decision.unschedulable.len()), (bound, 3 - bound), "{pods}");
            for (_, why) in decision.unschedulable {
                assert_eq!(why, "0/1 nodes are available: 1 Too many pods.");
            }
        }
    }

    #[test]
    fn pods_that_do_not_wait_are_left_alone() {
        let nodes = [node("lab", json!({}), json!({}))];
        for extra in [
            json!({"nodeName": "elsewhere"}),
            json!({"schedulerName": "another"}),
            json!({"schedulingGates": [{"name": "not-yet"}]}),
        ] {
            let decision = decide(&[pod(spec(extra.clone()))], &nodes);
            assert!(decision.bind.is_empty() && decision.unschedulable.is_empty(), "{extra}");
        }
    }

    #[test]
    fn the_reason_is_written_once() {
        let waiting = pod(spec(json!({})));
        let why = decide(std::slice::from_ref(&waiting), &[]).unschedulable.remove(0).1;
        let mut patched = json!(waiting.as_ref());
        patched.as_object_mut().unwrap().extend(unschedulable_status(&waiting, &why).as_object().unwrap().clone());
        let patched = Arc::new(serde_json::from_value(patched).unwrap());
        assert!(decide(&[patched], &[]).unschedulable.is_empty());
    }
}
