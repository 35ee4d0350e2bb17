//! Takes out of a cluster what [`crate::install`] puts in, and what has come of it: certificates, stand-ins, and what enforcers have
//! in the kernels of the nodes.
//!
//! The order: whatever would make something again ends first; then the nodes are cleaned, while there is still a namespace for the pods that do
//! it; then everything with our label goes. The namespace goes last, since it holds what a second run needs to know.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, ListParams, LogParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::{ApiResource, GroupVersionKind, NamespaceResourceScope};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::install::{cleaning_pod, names};

/// Between two looks whether something has gone.
const PAUSE: Duration = Duration::from_millis(200);

/// Why the cluster could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none to ask.
    #[error("cannot use the kubeconfig: {0}; name one with --kubeconfig, and one of its contexts with --context")]
    Kubeconfig(Box<kube::config::KubeconfigError>),
    /// It does not answer, or refuses.
    #[error(
        "cannot {what}: {source}; see that the cluster is reached and that you may, then run this again: it goes on where it ended"
    )]
    Api {
        /// What was tried.
        what: String,
        /// What came of it.
        source: Box<kube::Error>,
    },
}

/// What is still there, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum Leftover {
    /// It does not go.
    #[error("{0} is still there: something holds it (see its finalizers); run this again when it has gone")]
    Object(String),
    /// A node's kernel may still have the enforcer's programs.
    #[error("node {node}: {reason}; when that is mended run this again, or `signalbox-enforcer uninstall` on the node")]
    Node {
        /// The node's name.
        node: String,
        /// Why it could not be cleaned.
        reason: String,
    },
}

/// How it ended.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing is left in the cluster.
    NothingLeft,
    /// This is.
    Left(Vec<Leftover>),
}

/// Takes everything away; `say` is told each thing that was done. To run it again does no harm.
///
/// # Errors
///
/// When the cluster does not answer, or refuses. What was done by then stays done.
pub async fn run(
    client: &Client,
    namespace: &str,
    timeout: Duration,
    say: &mut dyn FnMut(String),
) -> Result<Outcome, Error> {
    let mut work = Work { client, namespace, timeout, say, left: Vec::new(), done: 0 };
    let found = work.api("read the namespace", Api::<Namespace>::all(client.clone()).get_opt(namespace)).await?;
    let ours = found.as_ref().is_some_and(is_ours);
    let image = found.as_ref().and_then(|found| found.annotations().get(names::ENFORCER_IMAGE).cloned());
    work.remove_what_runs().await?;
    if !work.left.is_empty() {
        // Where a node is slow to end a pod, what owns the pod goes as late as that.
        work.left.clear();
        work.remove_what_runs().await?;
    }
    if let Some(image) = image {
        work.clean_nodes(&image).await?;
        if !work.left.is_empty() {
            // The namespace says which image cleans a node: without it the next run would know nothing of them.
            return Ok(Outcome::Left(work.left));
        }
    }
    work.remove::<Service>().await?;
    work.remove::<NetworkPolicy>().await?;
    work.remove_named::<Secret>(names::TLS_SECRET).await?;
    work.remove_named::<ConfigMap>(names::AUTHORITY).await?;
    work.remove_everywhere::<RoleBinding>().await?;
    work.remove_everywhere::<Role>().await?;
    work.remove::<ServiceAccount>().await?;
    work.remove_from_cluster::<ClusterRoleBinding>().await?;
    work.remove_from_cluster::<ClusterRole>().await?;
    work.remove_hosts().await?;
    if ours {
        work.remove_from_cluster::<Namespace>().await?;
    }
    if work.done == 0 && work.left.is_empty() {
        (work.say)(format!("nothing of Signalbox is in this cluster, nor in its namespace {namespace}"));
    }
    Ok(if work.left.is_empty() { Outcome::NothingLeft } else { Outcome::Left(work.left) })
}

fn is_ours(namespace: &Namespace) -> bool {
    namespace.labels().get("app.kubernetes.io/part-of").is_some_and(|part| part == "signalbox")
}

struct Work<'w> {
    client: &'w Client,
    namespace: &'w str,
    timeout: Duration,
    say: &'w mut dyn FnMut(String),
    left: Vec<Leftover>,
    done: usize,
}

impl Work<'_> {
    async fn api<T>(&self, what: &str, answer: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
        answer.await.map_err(|source| Error::Api { what: what.to_owned(), source: Box::new(source) })
    }

    /// Pods, and before them what would make them again.
    async fn remove_what_runs(&mut self) -> Result<(), Error> {
        self.remove::<Deployment>().await?;
        self.remove::<DaemonSet>().await?;
        self.remove_everywhere::<Job>().await?;
        self.remove_everywhere::<Pod>().await
    }

    /// Ours of a kind, in our namespace.
    async fn remove<K>(&mut self) -> Result<(), Error>
    where
        K: Kind + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let found = self.list(&api).await?;
        self.delete_all(found, |_| api.clone()).await
    }

    /// Ours of a kind, in all namespaces.
    async fn remove_everywhere<K>(&mut self) -> Result<(), Error>
    where
        K: Kind + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let found = self.list(&Api::<K>::all(self.client.clone())).await?;
        let client = self.client.clone();
        self.delete_all(found, |object| Api::namespaced(client.clone(), &object.namespace().unwrap_or_default())).await
    }

    /// Ours of a kind that lies in no namespace.
    async fn remove_from_cluster<K>(&mut self) -> Result<(), Error>
    where
        K: Kind + Resource<DynamicType = ()>,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let mut found = self.list(&api).await?;
        if K::kind(&()) == "Namespace" {
            found.retain(|object| object.name_any() == self.namespace);
        }
        self.delete_all(found, |_| api.clone()).await
    }

    /// What the server has made for itself, whose labels may be anything.
    async fn remove_named<K>(&mut self, name: &str) -> Result<(), Error>
    where
        K: Kind + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let found = self.api(&format!("read the {} {name}", K::kind(&())), api.get_opt(name)).await?;
        self.delete_all(found.into_iter().collect(), |_| api.clone()).await
    }

    async fn list<K: Kind + Resource<DynamicType = ()>>(&self, api: &Api<K>) -> Result<Vec<K>, Error> {
        let ours = ListParams::default().labels(names::PART);
        let what = format!("list the objects of kind {}", K::kind(&()));
        match api.list(&ours).await {
            Ok(list) => Ok(list.items),
            // The cluster does not know the kind, in this version.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(source) => Err(Error::Api { what, source: Box::new(source) }),
        }
    }

    async fn delete_all<K>(&mut self, found: Vec<K>, api: impl Fn(&K) -> Api<K>) -> Result<(), Error>
    where
        K: Kind + Resource<DynamicType = ()>,
    {
        // Its pods go first, so that what is gone is gone with all that belongs to it.
        let how = DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
        for object in &found {
            let what = describe(object);
            // The very one that was found, not one of the same name that came since.
            let its = Preconditions { uid: object.uid(), resource_version: None };
            match api(object).delete(&object.name_any(), &how.clone().preconditions(its)).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
                Err(source) => return Err(Error::Api { what: format!("delete {what}"), source: Box::new(source) }),
            }
        }
        for object in found {
            let what = describe(&object);
            if self.has_gone(&api(&object), &object).await? {
                self.done += 1;
                (self.say)(format!("deleted {what}"));
            } else {
                self.left.push(Leftover::Object(what));
            }
        }
        Ok(())
    }

    async fn has_gone<K: Kind + Resource<DynamicType = ()>>(&self, api: &Api<K>, object: &K) -> Result<bool, Error> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let what = format!("see whether {} has gone", describe(object));
            let now = self.api(&what, api.get_opt(&object.name_any())).await?;
            if now.is_none_or(|now| now.uid() != object.uid()) {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Outside hosts are objects of a kind that goes with us.
    async fn remove_hosts(&mut self) -> Result<(), Error> {
        let resource = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk("signalbox.dev", "v1alpha1", "ExternalHost"),
            "externalhosts",
        );
        let hosts = Api::<DynamicObject>::all_with(self.client.clone(), &resource);
        let count = match hosts.list(&ListParams::default()).await {
            Ok(list) => list.items.len(),
            Err(kube::Error::Api(status)) if status.code == 404 => 0,
            Err(source) => return Err(Error::Api { what: "list outside hosts".to_owned(), source: Box::new(source) }),
        };
        if count > 0 {
            (self.say)(format!("{count} ExternalHost objects go with their definition"));
        }
        self.remove_from_cluster::<CustomResourceDefinition>().await
    }

    /// Programs, tables and pins, on each node that there is.
    async fn clean_nodes(&mut self, image: &str) -> Result<(), Error> {
        let all = Api::<Node>::all(self.client.clone());
        let nodes = self.api("list the nodes", all.list(&ListParams::default())).await?.items;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace);
        for node in &nodes {
            let pod = serde_json::from_value(cleaning_pod(self.namespace, &node.name_any(), image))
                .expect("a pod is written as a pod");
            let what = format!("start a pod that cleans the node {}", node.name_any());
            self.api(&what, pods.create(&PostParams::default(), &pod)).await?;
        }
        let deadline = Instant::now() + self.timeout;
        for node in &nodes {
            let name = node.name_any();
            let result = self.cleaned(&pods, &name, deadline).await?;
            match result {
                Ok(report) => {
                    self.done += 1;
                    (self.say)(format!("node {name}: {}", report.trim().replace('\n', &format!("\nnode {name}: "))));
                }
                Err(reason) => self.left.push(Leftover::Node { node: name, reason }),
            }
        }
        self.remove::<Pod>().await
    }

    /// What the pod on a node has printed, or why it did not come to it.
    async fn cleaned(&self, pods: &Api<Pod>, node: &str, deadline: Instant) -> Result<Result<String, String>, Error> {
        let name = format!("signalbox-uninstall-{node}");
        loop {
            let pod = self.api("read the pod that cleans a node", pods.get_opt(&name)).await?;
            let Some(pod) = pod else { return Ok(Err("the pod that cleans it was deleted".to_owned())) };
            let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
            if phase == "Succeeded" || phase == "Failed" {
                let printed = pods.logs(&name, &LogParams::default()).await;
                return Ok(match (phase.as_str(), printed) {
                    ("Succeeded", printed) => Ok(printed.unwrap_or_else(|error| format!("cleaned ({error})"))),
                    (_, Ok(printed)) => Err(printed.trim().to_owned()),
                    (_, Err(error)) => {
                        Err(format!("the pod that cleans it failed, and its log cannot be read ({error})"))
                    }
                });
            }
            if Instant::now() > deadline {
                return Ok(Err(format!("the pod that cleans it is {}", why_it_waits(&pod))));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// All that is asked of a kind here.
trait Kind: Clone + Debug + DeserializeOwned + Send + 'static {}
impl<K: Clone + Debug + DeserializeOwned + Send + 'static> Kind for K {}

fn describe<K: Resource<DynamicType = ()>>(object: &K) -> String {
    let namespace = object.namespace().map_or(String::new(), |namespace| format!("{namespace}/"));
    format!("{} {namespace}{}", K::kind(&()), object.name_any())
}

/// Why a pod has not ended: its container's reason, or its phase.
fn why_it_waits(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let waiting = status.container_statuses.unwrap_or_default().into_iter().find_map(|it| it.state?.waiting);
    match waiting.map(|waiting| (waiting.reason, waiting.message)) {
        Some((Some(reason), Some(message))) => format!("waiting: {reason}, {message}"),
        Some((Some(reason), None)) => format!("waiting: {reason}"),
        _ => status.phase.unwrap_or_else(|| "not started".to_owned()),
    }
}
