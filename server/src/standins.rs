//! Stand-ins: probes that the server deploys in place of pods that have none (docs/adr/0010).
//!
//! - [`labels`]: which labels they carry; [`plan`]: what one is like; [`job`]: its manifest. All pure.
//! - This file: deploys them, pushes their deadlines on, and removes them.
//!
//! Three things end a stand-in: whoever asked for it, its run when nobody renews it, and its Job's deadline when no server pushes it.

pub mod job;
pub mod labels;
pub mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::batch::v1::Job;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use serde::Deserialize;
use signalbox_api::flow::Protocol;
use signalbox_api::rest::{StandInReport, StandInWish};
use signalbox_api::state::EndpointPort;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::http::names::{SUBDOMAIN, is_subdomain};
use crate::kube_error::sentence;
use job::Style;
use labels::ServiceLabels;
use plan::{Plan, Template};

/// How long a run lasts after it was renewed last.
const RUN_LASTS: Duration = Duration::from_secs(60);
/// Between two pushes of the deadlines.
const PUSH: Duration = Duration::from_secs(20);
/// How much later than its own word a server counts as dead: clocks differ.
const GRACE_S: u64 = 30;
/// Stand-ins at a time.
const MOST: usize = 64;
/// Where workloads are found by the kind that people write.
const WORKLOADS: &[(&str, &str, &str, &str)] = &[
    ("deployment", "apps", "v1", "Deployment"),
    ("statefulset", "apps", "v1", "StatefulSet"),
    ("daemonset", "apps", "v1", "DaemonSet"),
    ("replicaset", "apps", "v1", "ReplicaSet"),
    ("job", "batch", "v1", "Job"),
    ("pod", "", "v1", "Pod"),
];

/// Why there are no stand-ins.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Wish(String),
    /// The model is not there.
    #[error("there is no {kind} {namespace}/{name}")]
    NoModel {
        /// As it was asked for.
        kind: String,
        /// `metadata.namespace`.
        namespace: String,
        /// `metadata.name`.
        name: String,
    },
    /// It would answer for another pod than the one that was meant.
    #[error(
        "a stand-in for {model} without the labels {dropped} would be treated otherwise by the policies: {differences}; ask for one \
         that keeps the labels (--keep-service-labels): it is never ready, so that Services send it nothing"
    )]
    NotAlike {
        /// The model.
        model: String,
        /// What it would lack.
        dropped: String,
        /// What the engine found.
        differences: String,
    },
    /// Too many already.
    #[error("there may be 64 stand-ins at a time; wait until other runs have ended")]
    TooMany,
    /// What stand-ins are made of is not there.
    #[error(
        "this cluster has no Jobs (batch/v1), and a stand-in is one; in a lab each pod has a probe, so that none is needed: run `signalbox test` without \
         --like, which tries from every pod, or `signalbox why` without --stand-in"
    )]
    NoJobs,
    /// The API server refused.
    #[error("cannot {what}: {}", sentence(.source))]
    Cluster {
        /// What was tried.
        what: String,
        /// Its answer.
        source: kube::Error,
    },
    /// The server is ending.
    #[error("the server is ending")]
    Ending,
}

/// A question to whoever knows the objects.
pub type Question = (Template, ServiceLabels, oneshot::Sender<Plan>);

/// Deploys and removes stand-ins. Cheap to clone.
#[derive(Clone)]
pub struct StandIns {
    client: kube::Client,
    style: Style,
    questions: mpsc::Sender<Question>,
    runs: Arc<Mutex<BTreeMap<String, Run>>>,
}

/// What one client asked for.
struct Run {
    until: Instant,
    jobs: Vec<(String, String)>,
}

impl StandIns {
    /// None are there yet.
    pub fn new(client: kube::Client, style: Style, questions: mpsc::Sender<Question>) -> Self {
        Self { client, style, questions, runs: Arc::default() }
    }

    /// Deploys what a client wishes. They last until [`Self::end`], or until the run is not renewed for a minute.
    ///
    /// # Errors
    /// Where the model is not there, the API server refuses, or the policies would not treat the stand-in as its model. Nothing is
    /// left behind then.
    pub async fn deploy(&self, wish: &StandInWish) -> Result<StandInReport, Error> {
        if wish.run.is_empty()
            || wish.run.len() > 40
            || !wish.run.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        {
            return Err(Error::Wish("run: 1 to 40 small letters and digits".to_owned()));
        }
        let template = self.template(wish).await?;
        let service_labels = if wish.keep_service_labels { ServiceLabels::Keep } else { ServiceLabels::Drop };
        let (asker, answer) = oneshot::channel();
        self.questions.send((template, service_labels, asker)).await.map_err(|_closed| Error::Ending)?;
        let plan = answer.await.map_err(|_closed| Error::Ending)?;
        let choice = &plan.choice;
        if !choice.differences.is_empty() && !choice.dropped.is_empty() {
            let model = format!("{}/{}", plan.template.kind, plan.template.name);
            let (dropped, differences) = (choice.dropped.join(", "), choice.differences.join("; "));
            return Err(Error::NotAlike { model, dropped, differences });
        }
        let nodes: Vec<Option<String>> =
            if wish.on_every_node { plan.nodes.iter().cloned().map(Some).collect() } else { vec![None] };
        let jobs = self.create(wish, &plan, &nodes).await?;
        Ok(StandInReport {
            run: wish.run.clone(),
            namespace: plan.template.namespace.clone(),
            jobs,
            stands_in_for: format!("{}.{}", plan.template.kind, plan.template.name),
            labels: choice.labels.clone(),
            dropped: choice.dropped.clone(),
            never_ready: choice.hold_back,
            differences: choice.differences.clone(),
        })
    }

    async fn create(&self, wish: &StandInWish, plan: &Plan, nodes: &[Option<String>]) -> Result<Vec<String>, Error> {
        let namespace = &plan.template.namespace;
        let mut runs = self.runs.lock().await;
        if runs.values().map(|run| run.jobs.len()).sum::<usize>() + nodes.len() > MOST {
            return Err(Error::TooMany);
        }
        let api: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        let run = runs.entry(wish.run.clone()).or_insert_with(|| Run { until: Instant::now(), jobs: Vec::new() });
        run.until = Instant::now() + RUN_LASTS;
        let mut names = Vec::new();
        for node in nodes {
            let short: String = plan.template.name.chars().filter(|c| *c != '.').take(24).collect();
            let name = format!("signalbox-{}-{}-{}", short.trim_end_matches('-'), tail(&wish.run), run.jobs.len());
            let manifest = job::job(plan, &self.style, &name, &wish.run, node.as_deref(), now_s() + job::LIFE_S);
            let refused = |source| Error::Cluster { what: format!("create the Job {namespace}/{name}"), source };
            let job: Job = serde_json::from_value(manifest).map_err(|error| refused(kube::Error::SerdeError(error)))?;
            if let Err(source) = api.create(&PostParams::default(), &job).await {
                let error = if lacks_the_kind(&source) { Error::NoJobs } else { refused(source) };
                let jobs = runs.remove(&wish.run).map(|run| run.jobs).unwrap_or_default();
                drop(runs);
                self.delete(&jobs).await;
                return Err(error);
            }
            run.jobs.push((namespace.clone(), name.clone()));
            names.push(name);
        }
        Ok(names)
    }

    /// The namespaces that a run has stand-ins in; none where there is no such run.
    pub async fn namespaces(&self, run: &str) -> BTreeSet<String> {
        let runs = self.runs.lock().await;
        runs.get(run).into_iter().flat_map(|run| &run.jobs).map(|(namespace, _)| namespace.clone()).collect()
    }

    /// Lets a run last for another minute. `false`: there is none of that name.
    pub async fn renew(&self, run: &str) -> bool {
        let mut runs = self.runs.lock().await;
        let found = runs.get_mut(run);
        let is_there = found.is_some();
        if let Some(found) = found {
            found.until = Instant::now() + RUN_LASTS;
        }
        is_there
    }

    /// Removes the stand-ins of a run. `false`: there is none of that name.
    pub async fn end(&self, run: &str) -> bool {
        let removed = self.runs.lock().await.remove(run);
        match removed {
            Some(run) => {
                self.delete(&run.jobs).await;
                true
            }
            None => false,
        }
    }

    /// Pushes deadlines on and removes what nobody wants any longer, until `shutdown`; then removes all of its own.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            self.sweep().await;
            self.push().await;
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(PUSH) => {}
            }
        }
        let runs = std::mem::take(&mut *self.runs.lock().await);
        for run in runs.values() {
            self.delete(&run.jobs).await;
        }
    }

    async fn push(&self) {
        let now = Instant::now();
        let ended: Vec<String> =
            self.runs.lock().await.iter().filter(|(_, run)| run.until < now).map(|(name, _)| name.clone()).collect();
        for run in ended {
            tracing::info!(run, "nobody renews the run: its stand-ins go");
            self.end(&run).await;
        }
        let jobs: Vec<(String, String)> = self.runs.lock().await.values().flat_map(|run| run.jobs.clone()).collect();
        for (namespace, name) in jobs {
            let api: Api<Job> = Api::namespaced(self.client.clone(), &namespace);
            let pushed = async {
                let started = api.get(&name).await?.status.and_then(|status| status.start_time);
                let started = started.and_then(|time| u64::try_from(time.0.as_second()).ok());
                api.patch(&name, &PatchParams::default(), &Patch::Merge(job::push(started, now_s()))).await
            };
            if let Err(error) = pushed.await {
                tracing::warn!(namespace, name, error = sentence(&error), "a stand-in's deadline cannot be pushed on");
            }
        }
    }

    /// Removes what dead servers left over.
    async fn sweep(&self) {
        let all: Api<Job> = Api::all(self.client.clone());
        let jobs = match all.list(&ListParams::default().labels(job::SELECTOR)).await {
            Ok(jobs) => jobs,
            Err(error) => {
                tracing::debug!(error = sentence(&error), "left-over stand-ins cannot be looked for");
                return;
            }
        };
        let own: Vec<(String, String)> = self.runs.lock().await.values().flat_map(|run| run.jobs.clone()).collect();
        let dead = jobs.into_iter().filter_map(|job| {
            let until: u64 = job.metadata.annotations.as_ref()?.get(job::ALIVE_UNTIL)?.parse().ok()?;
            let id = (job.metadata.namespace?, job.metadata.name?);
            (until + GRACE_S < now_s() && !own.contains(&id)).then_some(id)
        });
        let dead: Vec<_> = dead.collect();
        if !dead.is_empty() {
            tracing::info!(jobs = ?dead, "stand-ins of a server that is gone are removed");
            self.delete(&dead).await;
        }
    }

    async fn delete(&self, jobs: &[(String, String)]) {
        for (namespace, name) in jobs {
            let api: Api<Job> = Api::namespaced(self.client.clone(), namespace);
            match api.delete(name, &DeleteParams::background()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                // Its deadline ends it, and the next server removes the Job.
                Err(error) => tracing::warn!(namespace, name, error = sentence(&error), "a stand-in cannot be removed"),
            }
        }
    }

    /// What is to be stood in for.
    async fn template(&self, wish: &StandInWish) -> Result<Template, Error> {
        let Some(like) = &wish.like else {
            if wish.labels.is_empty() {
                return Err(Error::Wish("give `like`, or labels".to_owned()));
            }
            return Ok(Template {
                namespace: wish.namespace.clone(),
                kind: "labels".to_owned(),
                name: "chosen".to_owned(),
                labels: wish.labels.clone(),
                service_account: "default".to_owned(),
                ports: Vec::new(),
            });
        };
        let known = || WORKLOADS.iter().map(|(kind, ..)| *kind).collect::<Vec<_>>().join(", ");
        let (kind, name) = like.split_once('/').unwrap_or(("deployment", like));
        let kind = kind.to_ascii_lowercase();
        let kind = kind.strip_suffix('s').unwrap_or(&kind);
        let kind = match kind {
            "deploy" => "deployment",
            "st" => "statefulset",
            "d" => "daemonset",
            "po" => "pod",
            other => other,
        };
        let Some((kind, group, version, title)) = WORKLOADS.iter().find(|(known, ..)| *known == kind) else {
            return Err(Error::Wish(format!("like: {like:?} is of no kind of {}", known())));
        };
        if !is_subdomain(name) {
            return Err(Error::Wish(format!("like: a name has {SUBDOMAIN}")));
        }
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, title));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &wish.namespace, &resource);
        let gone =
            || Error::NoModel { kind: (*kind).to_owned(), namespace: wish.namespace.clone(), name: name.to_owned() };
        let what = format!("read the {kind} {}/{name}", wish.namespace);
        let object = api.get_opt(name).await.map_err(|source| Error::Cluster { what, source })?.ok_or_else(gone)?;
        let read = if *kind == "pod" {
            PodTemplate {
                metadata: Meta { labels: object.metadata.labels.unwrap_or_default() },
                spec: pod_spec(&object.data["spec"]),
            }
        } else {
            serde_json::from_value(object.data["spec"]["template"].clone()).unwrap_or_default()
        };
        Ok(read.into_template(&wish.namespace, kind, name))
    }
}

/// Whether there is no such kind, rather than no such namespace.
fn lacks_the_kind(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 && !status.message.starts_with("namespaces "))
}

/// As much of a pod's template as matters.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PodTemplate {
    metadata: Meta,
    spec: PodSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    service_account_name: Option<String>,
    containers: Vec<Container>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    ports: Vec<Port>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    container_port: u16,
    #[serde(default)]
    protocol: Option<Protocol>,
    #[serde(default)]
    name: Option<String>,
}

fn pod_spec(value: &serde_json::Value) -> PodSpec {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

impl PodTemplate {
    fn into_template(self, namespace: &str, kind: &str, name: &str) -> Template {
        let ports = self.spec.containers.into_iter().flat_map(|container| container.ports);
        let port = |port: Port| EndpointPort {
            port: port.container_port,
            protocol: port.protocol.unwrap_or(Protocol::Tcp),
            name: port.name,
        };
        Template {
            namespace: namespace.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            labels: self.metadata.labels,
            service_account: self.spec.service_account_name.unwrap_or_else(|| "default".to_owned()),
            ports: ports.map(port).collect(),
        }
    }
}

fn tail(run: &str) -> &str {
    &run[run.len().saturating_sub(8)..]
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
