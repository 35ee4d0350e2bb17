//! Finds a cluster, and says in words what keeps anybody out of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::client::ConfigExt;
use kube::client::middleware::AuthLayer;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::cause::{self, Cause};

/// Where a pod finds its own credentials.
const IN_CLUSTER: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// How long the API server may take to be reached.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which cluster.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// The kubeconfig [default: the pod's own credentials inside a cluster, else $KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// A cluster that was found.
pub(super) struct Cluster {
    pub client: Client,
    /// The API server's URL.
    pub url: String,
    /// What the kubeconfig calls it.
    pub name: String,
    /// The API server's version.
    pub version: String,
    /// What the user shows to the API, where that is no certificate.
    pub auth: Option<AuthLayer>,
    /// The command of that user's credential plug-in, where it has one.
    pub plugin: Option<String>,
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot use the kubeconfig {what}: {source}; check the path, and the name after --context")]
    Kubeconfig { what: String, source: Box<kube::config::KubeconfigError> },
    #[error("cannot use the pod's own credentials: {0}; give the pod a ServiceAccount, or name a --kubeconfig")]
    InCluster(Box<kube::config::InClusterError>),
    #[error("the cluster at {url} is not asked: {cause}")]
    Cause { url: String, cause: Cause },
    #[error("cannot make a client for the cluster at {url}: {reason}")]
    Client { url: String, reason: String },
    #[error(
        "the cluster at {url} cannot be reached: {reason}; check that its API server runs, and that the address in the kubeconfig \
         (clusters[].cluster.server) is right"
    )]
    Unreachable { url: String, reason: String },
    #[error(
        "the cluster at {url} does not accept the credentials (users[].user of the kubeconfig): {reason}; they may have expired: log in \
         again"
    )]
    Unauthorized { url: String, reason: String },
    #[error("the cluster at {url} answered {reason}; look at its API server's log")]
    Refused { url: String, reason: String },
    #[error("the user may not {}; bind a ClusterRole with these verbs to it (docs/serve.md lists them)", .0.join(", "))]
    Rights(Vec<String>),
}

/// A verb on a resource: group, resource with subresource, verb.
pub(super) type Right = (&'static str, &'static str, &'static str);

/// Finds the cluster, and asks it for its version.
pub(super) async fn connect(args: &Args) -> Result<Cluster, Error> {
    let inside = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && Path::new(IN_CLUSTER).exists();
    let (mut config, name) = if args.kubeconfig.is_none() && inside {
        let config = Config::incluster().map_err(|source| Error::InCluster(Box::new(source)))?;
        (config, "kubernetes".to_owned())
    } else {
        from_file(args).await?
    };
    config.connect_timeout = Some(PATIENCE);
    let url = config.cluster_url.to_string();
    let auth = config.auth_layer().ok().flatten();
    let plugin = cause::plugin(&config);
    let because = |error: &kube::Error| {
        let cause = Cause::of(error, plugin.as_deref())?;
        Some(Error::Cause { url: url.clone(), cause })
    };
    let unusable = |error: &kube::Error| Error::Client { url: url.clone(), reason: innermost(error) };
    let client = Client::try_from(config).map_err(|error| because(&error).unwrap_or_else(|| unusable(&error)))?;
    let version = match tokio::time::timeout(PATIENCE, client.apiserver_version()).await {
        Ok(answer) => answer.map_err(|error| because(&error).unwrap_or_else(|| failed(&url, error)))?.git_version,
        Err(_) => return Err(Error::Unreachable { url, reason: format!("no answer within {} s", PATIENCE.as_secs()) }),
    };
    Ok(Cluster { client, url, name, version, auth, plugin })
}

async fn from_file(args: &Args) -> Result<(Config, String), Error> {
    let what = || {
        args.kubeconfig
            .as_ref()
            .map_or_else(|| "of $KUBECONFIG or ~/.kube/config".to_owned(), |path| path.display().to_string())
    };
    let unusable = |source| Error::Kubeconfig { what: what(), source: Box::new(source) };
    let kubeconfig = match &args.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let kubeconfig = kubeconfig.map_err(unusable)?;
    let context = args.context.clone().or_else(|| kubeconfig.current_context.clone());
    let named = kubeconfig.contexts.iter().find(|named| Some(&named.name) == context.as_ref());
    let name =
        named.and_then(|named| named.context.as_ref()).map_or("kubernetes", |context| &context.cluster).to_owned();
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable)?;
    Ok((config, name))
}

/// What an error means for whoever asked.
fn failed(url: &str, error: kube::Error) -> Error {
    let url = url.to_owned();
    let kube::Error::Api(status) = error else { return Error::Unreachable { url, reason: innermost(&error) } };
    match status.code {
        401 => Error::Unauthorized { url, reason: status.message },
        code => Error::Refused { url, reason: format!("{code}: {}", status.message) },
    }
}

/// Those of some rights that the user lacks, in words: `list pods`. None where the cluster does not tell.
pub(super) async fn lacking(client: &Client, rights: &[Right]) -> Vec<String> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let asked = rights.iter().map(|(group, resource, verb)| {
        let (resource, subresource) = resource.split_once('/').map_or((*resource, None), |(one, two)| (one, Some(two)));
        let attributes = ResourceAttributes {
            group: Some((*group).to_owned()),
            resource: Some(resource.to_owned()),
            subresource: subresource.map(str::to_owned),
            verb: Some((*verb).to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let api = api.clone();
        async move {
            let answer = api.create(&PostParams::default(), &review).await.ok()?;
            let sub = subresource.map_or(String::new(), |sub| format!("/{sub}"));
            let dot = if group.is_empty() { "" } else { "." };
            (!answer.status?.allowed).then(|| format!("{verb} {resource}{sub}{dot}{group}"))
        }
    });
    futures::future::join_all(asked).await.into_iter().flatten().collect()
}

/// The cause of an error that has no cause itself: what the operating system, or TLS, says.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
