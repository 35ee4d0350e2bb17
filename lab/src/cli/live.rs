//! Lists a live cluster's objects for the offline commands.

use std::path::{Path, PathBuf};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::Value;
use signalbox_analysis::input::Live;

/// Group and version, and the kinds of it that bear on policies. Pods stand for themselves: workloads are left out, since
/// one that is scaled to nothing would count as a pod.
const KINDS: &[(&str, &str, &[&str])] = &[
    ("", "v1", &["Namespace", "Node", "Pod", "Service"]),
    ("networking.k8s.io", "v1", &["NetworkPolicy"]),
    ("policy.networking.k8s.io", "v1alpha1", &["AdminNetworkPolicy", "BaselineAdminNetworkPolicy"]),
    ("policy.networking.k8s.io", "v1alpha2", &["ClusterNetworkPolicy"]),
    ("crd.projectcalico.org", "v1", &["GlobalNetworkPolicy", "NetworkPolicy"]),
    ("projectcalico.org", "v3", &["GlobalNetworkPolicy", "NetworkPolicy"]),
    ("cilium.io", "v2", &["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"]),
];

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
    #[error("cannot list {what}: {source}; check that the cluster can be reached and that your user may list them")]
    List { what: String, source: Box<kube::Error> },
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
    let client = Client::try_from(config).map_err(|error| Error::Client(Box::new(error)))?;
    let mut objects = Vec::new();
    for (group, version, kinds) in KINDS {
        let Some(offered) = offered(&client, group, version).await? else { continue };
        for resource in
            offered.resources.iter().filter(|it| kinds.contains(&it.kind.as_str()) && !it.name.contains('/'))
        {
            let kind = GroupVersionKind::gvk(group, version, &resource.kind);
            list(&client, &ApiResource::from_gvk_with_plural(&kind, &resource.name), &mut objects).await?;
        }
    }
    Ok(objects)
}

/// The kinds of a group and version; `None` where the cluster does not have it.
async fn offered(client: &Client, group: &str, version: &str) -> Result<Option<APIResourceList>, Error> {
    let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let answer = match group {
        "" => client.list_core_api_resources(version).await,
        _ => client.list_api_group_resources(&name).await,
    };
    match answer {
        Ok(list) => Ok(Some(list)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(source) => Err(Error::List { what: format!("the kinds of {name}"), source: Box::new(source) }),
    }
}

async fn list(client: &Client, resource: &ApiResource, objects: &mut Vec<Value>) -> Result<(), Error> {
    let failed = |source| Error::List { what: resource.plural.clone(), source: Box::new(source) };
    let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await.map_err(failed)?;
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
