//! Lists a live cluster's objects for the offline commands.

use std::path::{Path, PathBuf};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::Value;
use signalbox_analysis::input::Live;

use super::cause::{self, Cause};

/// A group, its versions, and the kinds of it that bear on policies; of a kind that several versions have, the first one that is
/// served is read. Pods stand for themselves: workloads are left out, since one that is scaled to nothing would count as a pod.
const KINDS: &[(&str, &[&str], &[&str])] = &[
    ("", &["v1"], &["Namespace", "Node", "Pod", "Service"]),
    ("networking.k8s.io", &["v1"], &["NetworkPolicy"]),
    (
        "policy.networking.k8s.io",
        &["v1beta1", "v1alpha2", "v1alpha1"],
        &["ClusterNetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"],
    ),
    ("crd.projectcalico.org", &["v1"], CALICO),
    ("projectcalico.org", &["v3"], CALICO),
    ("cilium.io", &["v2"], &["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"]),
];

/// Policies, and what their selectors select besides pods.
const CALICO: &[&str] = &["GlobalNetworkPolicy", "NetworkPolicy", "GlobalNetworkSet", "NetworkSet", "HostEndpoint"];

/// Objects in one answer.
const PAGE: u32 = 500;

/// Whatever a kubeconfig names.
pub(super) struct Kubernetes;

/// Why a cluster's objects are not at hand.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot use the kubeconfig {}: {source}; check the path, and the name after --context", path.display())]
    Kubeconfig { path: PathBuf, source: Box<kube::config::KubeconfigError> },
    #[error("cannot make a client for the cluster: {0}")]
    Client(Box<kube::Error>),
    #[error("cannot list {what} of the cluster at {server}: {cause}")]
    Cause { what: String, server: String, cause: Cause },
    #[error(
        "cannot list {what}: the cluster at {server} does not accept the credentials of the kubeconfig ({reason}); log in again, or \
         correct the user there"
    )]
    Unauthorized { what: String, server: String, reason: String },
    #[error(
        "cannot list {what}: the user of the kubeconfig may not ({reason}); give it a role with the verb list on {what} in all \
         namespaces, as without them the analysis would be wrong"
    )]
    Forbidden { what: String, reason: String },
    #[error(
        "cannot list {what}: the cluster at {server} answered {reason}; try again, or look at its API server's log"
    )]
    Refused { what: String, server: String, reason: String },
    #[error(
        "cannot list {what}: the cluster at {server} cannot be reached ({reason}); check that its API server runs, and that the \
         address in the kubeconfig is right"
    )]
    Unreachable { what: String, server: String, reason: String },
    #[error("the runtime cannot start: {0}")]
    Runtime(std::io::Error),
}

impl Live for Kubernetes {
    fn objects(
        &self,
        kubeconfig: &Path,
        context: Option<&str>,
    ) -> Result<Vec<Value>, Box<dyn std::error::Error + Send + Sync>> {
        let runtime = super::runtime().map_err(Error::Runtime)?;
        Ok(runtime.block_on(objects(kubeconfig, context))?)
    }
}

async fn objects(path: &Path, context: Option<&str>) -> Result<Vec<Value>, Error> {
    let unusable = |source| Error::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(unusable)?;
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable)?;
    let server = config.cluster_url.to_string();
    let plugin = cause::plugin(&config);
    let client = Client::try_from(config).map_err(|error| match Cause::of(&error, plugin.as_deref()) {
        Some(cause) => Error::Cause { what: "the objects".to_owned(), server: server.clone(), cause },
        None => Error::Client(Box::new(error)),
    })?;
    let mut reader = Reader { client, server, plugin, objects: Vec::new() };
    for (group, versions, kinds) in KINDS {
        let mut wanted = kinds.to_vec();
        for version in *versions {
            let read = reader.read(group, version, &wanted).await?;
            wanted.retain(|kind| !read.iter().any(|read| read == kind));
        }
    }
    // A name for an address is a convenience: who may not list them names addresses.
    match reader.read("signalbox.dev", "v1alpha1", &["ExternalHost"]).await {
        Ok(_) | Err(Error::Forbidden { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(reader.objects)
}

/// Lists one cluster's objects.
struct Reader {
    client: Client,
    server: String,
    plugin: Option<String>,
    objects: Vec<Value>,
}

impl Reader {
    /// Lists those of some kinds of one version, and gives back the kinds that there are.
    async fn read(&mut self, group: &str, version: &str, kinds: &[&str]) -> Result<Vec<String>, Error> {
        let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let offered = offered(&self.client, group, version).await;
        let offered = offered.map_err(|error| self.failed(format!("the kinds of {name}"), error))?;
        let mut read = Vec::new();
        // Names with a slash are parts of a resource, such as its status.
        let resources = offered.into_iter().flat_map(|list| list.resources).filter(|it| !it.name.contains('/'));
        for resource in resources.filter(|it| kinds.contains(&it.kind.as_str())) {
            let kind = GroupVersionKind::gvk(group, version, &resource.kind);
            let found = ApiResource::from_gvk_with_plural(&kind, &resource.name);
            if let Err(error) = list(&self.client, &found, &mut self.objects).await {
                let dot = if group.is_empty() { "" } else { "." };
                return Err(self.failed(format!("{}{dot}{group}", found.plural), error));
            }
            read.push(resource.kind);
        }
        Ok(read)
    }

    /// What an error means for whoever asked.
    fn failed(&self, what: String, error: kube::Error) -> Error {
        let server = self.server.clone();
        let kube::Error::Api(status) = error else {
            return match Cause::of(&error, self.plugin.as_deref()) {
                Some(cause) => Error::Cause { what, server, cause },
                None => Error::Unreachable { what, server, reason: innermost(&error) },
            };
        };
        let reason = status.message;
        match status.code {
            401 => Error::Unauthorized { what, server, reason },
            403 => Error::Forbidden { what, reason },
            code => Error::Refused { what, server, reason: format!("{code}: {reason}") },
        }
    }
}

/// The cause of an error that has no cause itself: what the operating system, or TLS, says.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// The kinds of a group and version; `None` where the cluster does not have it.
async fn offered(client: &Client, group: &str, version: &str) -> kube::Result<Option<APIResourceList>> {
    let answer = match group {
        "" => client.list_core_api_resources(version).await,
        _ => client.list_api_group_resources(&format!("{group}/{version}")).await,
    };
    match answer {
        Ok(list) => Ok(Some(list)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

async fn list(client: &Client, resource: &ApiResource, objects: &mut Vec<Value>) -> kube::Result<()> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        for object in page.items {
            let mut value = serde_json::to_value(object).expect("an object that was JSON can be JSON again");
            // A list says once for all what its items are.
            value["apiVersion"] = resource.api_version.clone().into();
            value["kind"] = resource.kind.clone().into();
            objects.push(value);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}
