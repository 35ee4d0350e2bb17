//! Workloads: Deployment and the like, which stand for their pods when only manifests are at hand.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use crate::label::Labels;
use crate::names::PodRef;
use crate::parse::node::{Node, Problems};
use crate::parse::problem::{Problem, Reason};
use crate::parse::{object, pod, selector};
use crate::pod::Pod;
use crate::selector::Selector;

/// Labels that a Job gives its pods: Kubernetes, `pkg/controller/job`, and its list of well-known labels.
const JOB_NAME: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// What a workload says of its pods.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    id: Id,
    /// Whose it is: a ReplicaSet is a Deployment's, a Job is a CronJob's.
    owners: Vec<Owner>,
    /// Absent where there is none, or where it selects everything, or cannot be read.
    selector: Option<Selector>,
    /// One pod as its template has it.
    pod: Pod,
    problems: Vec<Problem>,
}

/// Whose a pod is.
#[derive(Debug)]
pub(crate) struct Owned {
    namespace: String,
    labels: Arc<Labels>,
    owners: Vec<Owner>,
}

/// One pod in the name of a workload.
pub(crate) struct StandIn {
    pub pod: Pod,
    pub problems: Vec<Problem>,
    kind: &'static str,
}

/// Names a workload: in order of these fields, the first of a name keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Id {
    namespace: String,
    name: String,
    kind: &'static str,
}

/// One of `metadata.ownerReferences`.
#[derive(Clone, Debug)]
struct Owner {
    kind: String,
    name: String,
}

impl Owned {
    pub(crate) fn of(value: &Value, pod: &Pod) -> Self {
        Self { namespace: pod.id.namespace.clone(), labels: pod.labels.clone(), owners: owners(value) }
    }
}

impl StandIn {
    /// Two workloads of one namespace may have one name: the later one adds its kind.
    pub(crate) fn named_apart_from(mut self, taken: &HashSet<PodRef>) -> Self {
        let (name, kind) = (self.pod.id.name.clone(), self.kind.to_ascii_lowercase());
        let mut number = 1;
        while taken.contains(&self.pod.id) {
            self.pod.id.name = if number == 1 { format!("{name}-{kind}") } else { format!("{name}-{kind}-{number}") };
            number += 1;
        }
        self
    }
}

/// Reads a workload and what was not understood of it. `None`: not even its name.
pub(crate) fn workload(value: &Value, kind: &'static str) -> (Option<Workload>, Vec<Problem>) {
    let api = value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let mut problems = Problems::new(object::title(value, kind, true), api);
    let root = Node::root(value);
    let namespace = object::namespace(&root, &mut problems);
    let name = object::name(&root, &mut problems);
    let empty = Value::Object(serde_json::Map::new());
    let spec = root.field("spec").unwrap_or(Node::root(&empty));
    let job_template = spec.field("jobTemplate").unwrap_or(Node::root(&empty));
    let job_spec = job_template.field("spec").unwrap_or(Node::root(&empty));
    let (holder, template_path) =
        if kind == "CronJob" { (&job_spec, "spec.jobTemplate.spec.template") } else { (&spec, "spec.template") };
    let template = holder.field("template");
    if template.is_none() {
        problems.add_at(&root, template_path, Reason::Missing);
    }
    let metadata = template.as_ref().and_then(|template| template.field("metadata"));
    let labels = match metadata.as_ref().and_then(|metadata| metadata.field("labels")) {
        Some(labels) => selector::labels(&labels, &mut problems),
        None => template.as_ref().map(|_| Labels::new()),
    };
    let pod_spec = pod::spec(template.as_ref().and_then(|template| template.field("spec")).as_ref(), &mut problems);
    let selector = selector_of(&spec, kind, labels.as_ref(), &mut problems);
    let problems = problems.into_list();
    let workload = namespace.zip(name).map(|(namespace, name)| {
        let is_understood = labels.is_some();
        let mut labels = labels.unwrap_or_default();
        if kind == "Job" {
            for key in JOB_NAME {
                labels.entry(key.to_owned()).or_insert_with(|| name.clone());
            }
        }
        let id = PodRef { namespace: namespace.clone(), name: name.clone() };
        let pod = pod_spec.into_pod(id, labels, is_understood, Vec::new());
        let id = Id { namespace, name, kind };
        Workload { id, owners: owners(value), selector, pod, problems: problems.clone() }
    });
    (workload, problems)
}

/// `spec.selector`, which must select the template's labels. A ReplicationController's is a plain map.
fn selector_of(
    spec: &Node<'_>,
    kind: &'static str,
    template: Option<&Labels>,
    problems: &mut Problems,
) -> Option<Selector> {
    let field = spec.field("selector")?;
    let selector = if kind == "ReplicationController" {
        selector::plain(&field, problems)?
    } else {
        selector::selector(&field, problems)?
    };
    // A Job's selector asks for labels that Kubernetes adds.
    if kind != "Job" && template.is_some_and(|labels| !selector.matches(labels)) {
        problems.add(&field, Reason::SelectorMismatch);
    }
    (!selector.is_empty()).then_some(selector)
}

fn owners(value: &Value) -> Vec<Owner> {
    let references = value.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let owner = |reference: &Value| {
        let text = |field: &str| reference.get(field).and_then(Value::as_str).map(str::to_owned);
        Some(Owner { kind: text("kind")?, name: text("name")? })
    };
    references.into_iter().flatten().filter_map(owner).collect()
}

/// One pod for each workload that has none.
pub(crate) fn stand_ins(workloads: Vec<Workload>, owned: &[&Owned]) -> Vec<StandIn> {
    // The same name twice: the later object is the newer one.
    let workloads: BTreeMap<Id, Workload> = workloads.into_iter().map(|it| (it.id.clone(), it)).collect();
    let with_pods = with_pods(&workloads, owned);
    let stands_for_itself =
        |workload: &Workload| !workload.owners.iter().any(|it| stands_behind(&workloads, workload, it));
    let standing: HashSet<Id> = workloads
        .values()
        .filter(|workload| !with_pods.contains(&workload.id) && stands_for_itself(workload))
        .map(|workload| workload.id.clone())
        .collect();
    let standing = workloads.into_values().filter(|workload| standing.contains(&workload.id));
    standing.map(|it| StandIn { pod: it.pod, problems: it.problems, kind: it.id.kind }).collect()
}

/// Whether this owner is among the workloads: a Deployment speaks for its ReplicaSets, a CronJob for its Jobs.
fn stands_behind(workloads: &BTreeMap<Id, Workload>, workload: &Workload, owner: &Owner) -> bool {
    let kind = match (workload.id.kind, owner.kind.as_str()) {
        ("ReplicaSet", "Deployment") => "Deployment",
        ("Job", "CronJob") => "CronJob",
        (_, _) => return false,
    };
    workloads.contains_key(&Id { namespace: workload.id.namespace.clone(), name: owner.name.clone(), kind })
}

/// The workloads that have pods: by their owners, or by their selectors and templates.
fn with_pods(workloads: &BTreeMap<Id, Workload>, owned: &[&Owned]) -> HashSet<Id> {
    let mut found = HashSet::new();
    for pod in owned {
        for owner in &pod.owners {
            for id in named(&pod.namespace, owner) {
                let above = workloads.get(&id).into_iter().flat_map(|workload| &workload.owners);
                found.extend(above.flat_map(|owner| named(&pod.namespace, owner)));
                found.insert(id);
            }
        }
    }
    let mut by_namespace: HashMap<&str, Vec<&Labels>> = HashMap::new();
    for pod in owned {
        by_namespace.entry(&pod.namespace).or_default().push(&pod.labels);
    }
    for (id, workload) in workloads {
        let Some(selector) = workload.selector.as_ref().filter(|_| !found.contains(id)) else { continue };
        let pods = by_namespace.get(id.namespace.as_str()).map_or(&[][..], Vec::as_slice);
        // A pod that the selector happens to select is not this workload's, if it lacks a label of the template's: with a
        // hash among its selector's labels a Deployment adopts nobody else's pods.
        let template = &workload.pod.labels;
        let is_of_template = |labels: &Labels| template.iter().all(|(key, value)| labels.get(key) == Some(value));
        if pods.iter().any(|labels| selector.matches(labels) && is_of_template(labels)) {
            found.insert(id.clone());
        }
    }
    found
}

/// The workloads that an owner's name stands for. ReplicaSets and Jobs carry the name of what made them, and a suffix.
fn named(namespace: &str, owner: &Owner) -> Vec<Id> {
    let id = |kind, name: &str| Id { namespace: namespace.to_owned(), name: name.to_owned(), kind };
    let maker = owner.name.rsplit_once('-').map(|(maker, _)| maker);
    match owner.kind.as_str() {
        "Deployment" => vec![id("Deployment", &owner.name)],
        "StatefulSet" => vec![id("StatefulSet", &owner.name)],
        "DaemonSet" => vec![id("DaemonSet", &owner.name)],
        "CronJob" => vec![id("CronJob", &owner.name)],
        "ReplicationController" => vec![id("ReplicationController", &owner.name)],
        "ReplicaSet" => {
            let made = maker.map(|maker| id("Deployment", maker));
            made.into_iter().chain([id("ReplicaSet", &owner.name)]).collect()
        }
        "Job" => {
            let made = maker.map(|maker| id("CronJob", maker));
            made.into_iter().chain([id("Job", &owner.name)]).collect()
        }
        _ => Vec::new(),
    }
}
