//! Finds the server that knows a cluster, or is one itself for as long as a command runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use kube::config::Kubeconfig;
use owo_colors::OwoColorize;
use signalbox_api::rest::{ProbeReport, ProbeWish, StandInReport, StandInWish};
use signalbox_api::session::Rights;
use signalbox_api::state::Snapshot;
use signalbox_server::{Vantages, Watching};
use tokio_util::sync::CancellationToken;

use super::cluster::{self, Cluster};
use super::remote::{self, Remote};
use super::{forward, request};
use crate::entry::{DEFAULT_STATE, ServerEntry};
use crate::install::names;

/// Rows of pods without a probe are not what a single command is for.
const MAX_CELLS: usize = 20_000;

/// Which server.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    pub cluster: cluster::Args,
    /// The server's URL, as its ready line shows it [default: a lab's, which the kubeconfig names; else the one that runs in the
    /// cluster, through the cluster's API; else one in this process]
    #[arg(long, value_name = "URL", requires = "token_file")]
    pub server: Option<String>,
    /// A file with the token for the server [default: that of the kubeconfig's user]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Whom to trust for --server https://…, a PEM file [default: the system's authorities]
    #[arg(long, value_name = "FILE", requires = "server")]
    pub server_ca: Option<PathBuf>,
    /// The namespace of the server that runs in the cluster [default: signalbox-system]
    #[arg(long, value_name = "NAME", conflicts_with = "server")]
    pub server_namespace: Option<String>,
    /// Ask no server: look at the cluster from this process
    #[arg(long, conflicts_with_all = ["server", "server_namespace", "token_file"])]
    pub no_server: bool,
    /// The image of a stand-in that a server in this process deploys
    #[arg(long, value_name = "IMAGE", default_value_t = signalbox_server::Config::default().probe_image)]
    pub probe_image: String,
}

/// Whoever knows the cluster.
pub(super) enum Source {
    /// A server that runs somewhere.
    Remote(Box<Remote>),
    /// One in this process.
    Here(Box<Watching>),
}

/// Why there is none, or no answer of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot read --token-file {}: {source}", path.display())]
    Token { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    Remote(#[from] remote::Error),
    #[error(transparent)]
    Request(#[from] request::Error),
    #[error(transparent)]
    StandIns(#[from] signalbox_server::standins::Error),
    #[error("no first round of probes within {} s; give it more with --timeout{}", after.as_secs(), told(problems))]
    Late { after: Duration, problems: Vec<String> },
    #[error("the server in this process has ended")]
    Ended,
    #[error(
        "no server is known for this cluster, so this command looks at it itself, and no enforcer reports to it: name a server that was started \
         with --streams and --allow-real-pods, by --server URL and --token-file FILE"
    )]
    NoEnforcers,
}

fn told(problems: &[String]) -> String {
    problems.iter().map(|problem| format!("; {problem}")).collect()
}

/// The kubeconfig to use where none is named: $KUBECONFIG, that of the lab of this machine, ~/.kube/config.
pub(super) fn kubeconfig(named: Option<&Path>) -> Option<PathBuf> {
    let lab = || Some(Path::new(DEFAULT_STATE).join("kubeconfig")).filter(|path| path.exists());
    match named {
        Some(path) => Some(path.to_owned()),
        None if std::env::var_os("KUBECONFIG").is_some() => None,
        None => lab(),
    }
}

/// Finds a server; where there is none, starts one in this process that listens nowhere, and waits for its first round.
pub(super) async fn find(args: &Args, timeout: Duration) -> Result<Source, Error> {
    let token = args.token_file.as_deref().map(read_token).transpose()?;
    if let (Some(server), Some(token)) = (&args.server, &token) {
        let server = server.split('?').next().unwrap_or_default().trim_end_matches('/').to_owned();
        let entry = ServerEntry { server, token: token.clone() };
        return Ok(Source::Remote(Box::new(Remote::new(&entry, args.server_ca.as_deref())?)));
    }
    let cluster_args =
        cluster::Args { kubeconfig: kubeconfig(args.cluster.kubeconfig.as_deref()), ..args.cluster.clone() };
    if !args.no_server
        && let Some(entry) = named(&cluster_args)
    {
        return Ok(Source::Remote(Box::new(Remote::new(&entry, None)?)));
    }
    let cluster = cluster::connect(&cluster_args).await?;
    if !args.no_server {
        let namespace = args.server_namespace.as_deref().unwrap_or(names::NAMESPACE);
        match forward::find(&cluster, namespace, token.as_deref()).await {
            Ok(Some(server)) => {
                let what = format!("asks the server in the namespace {namespace}, through the cluster's API");
                anstream::eprintln!("{} {what}", "·".dimmed());
                return Ok(Source::Remote(Box::new(server)));
            }
            Ok(None) => {}
            Err(error) => {
                anstream::eprintln!("{} the cluster's own server is not asked: {error}", "warning:".yellow().bold());
            }
        }
    }
    here(args, cluster, timeout).await
}

fn read_token(path: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Token { path: path.to_owned(), source })?;
    Ok(text.trim().to_owned())
}

/// The server that the kubeconfig's context names: a lab's.
fn named(args: &cluster::Args) -> Option<ServerEntry> {
    let kubeconfig = match &args.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let mut kubeconfig = kubeconfig.ok()?;
    if args.context.is_some() {
        kubeconfig.current_context.clone_from(&args.context);
    }
    ServerEntry::find(&kubeconfig)
}

async fn here(args: &Args, cluster: Cluster, timeout: Duration) -> Result<Source, Error> {
    let what = format!("this command looks at the cluster {} itself: it asks no server", cluster.name);
    anstream::eprintln!("{} {what}", "·".dimmed());
    let config = signalbox_server::Config {
        cluster: cluster.name.clone(),
        vantages: Vantages::Labelled,
        max_cells: MAX_CELLS,
        probe_image: args.probe_image.clone(),
        ..signalbox_server::Config::default()
    };
    let watching = signalbox_server::watch(config, cluster.client, None, CancellationToken::new());
    match tokio::time::timeout(timeout, watching.handle().first_round()).await {
        Ok(()) => Ok(Source::Here(Box::new(watching))),
        Err(_) => {
            let problems = watching.handle().snapshot().problems;
            watching.end().await;
            Err(Error::Late { after: timeout, problems })
        }
    }
}

impl Source {
    /// Has a round run and returns the picture after it.
    pub(super) async fn round(&self, timeout: Duration) -> Result<Snapshot, Error> {
        match self {
            Self::Remote(server) => Ok(request::round(server, timeout).await?),
            Self::Here(watching) => match tokio::time::timeout(timeout, watching.handle().round()).await {
                Ok(snapshot) => snapshot.ok_or(Error::Ended),
                Err(_) => Err(Error::Late { after: timeout, problems: watching.handle().snapshot().problems }),
            },
        }
    }

    /// Has one connection tried from inside of a real pod.
    pub(super) async fn probe(&self, wish: &ProbeWish, timeout: Duration) -> Result<ProbeReport, Error> {
        let Self::Remote(server) = self else { return Err(Error::NoEnforcers) };
        let body = serde_json::to_vec(wish).expect("strings are valid JSON");
        let asked = request::ask(server, Method::POST, "/api/v1/probes", Some(body));
        let late = |_| request::Error::Late { url: server.url.clone(), after: timeout };
        Ok(tokio::time::timeout(timeout, asked).await.map_err(late)??)
    }

    /// Whether one may be tried from inside of the pods of a namespace. Where that cannot be told: no.
    pub(super) async fn may_probe_in(&self, namespace: &str) -> bool {
        let Self::Remote(server) = self else { return false };
        let rights: Result<Rights, _> = request::ask(server, Method::GET, "/api/v1/rights", None).await;
        rights.is_ok_and(|rights| rights.probes_in_pods.contains(namespace))
    }

    /// Deploys probes in place of pods.
    pub(super) async fn deploy(&self, wish: &StandInWish) -> Result<StandInReport, Error> {
        match self {
            Self::Remote(server) => {
                let body = serde_json::to_vec(wish).expect("strings are valid JSON");
                Ok(request::ask(server, Method::POST, "/api/v1/stand-ins", Some(body)).await?)
            }
            Self::Here(watching) => Ok(watching.handle().stand_ins().deploy(wish).await?),
        }
    }

    /// Lets a run last on.
    pub(super) async fn renew(&self, run: &str) -> Result<(), Error> {
        match self {
            Self::Remote(server) => {
                request::send(server, Method::PUT, &format!("/api/v1/stand-ins/{run}"), None).await?;
            }
            Self::Here(watching) => {
                watching.handle().stand_ins().renew(run).await;
            }
        }
        Ok(())
    }

    /// Removes a run's probes.
    pub(super) async fn remove(&self, run: &str) -> Result<(), Error> {
        match self {
            Self::Remote(server) => {
                request::send(server, Method::DELETE, &format!("/api/v1/stand-ins/{run}"), None).await?;
            }
            Self::Here(watching) => {
                watching.handle().stand_ins().end(run).await;
            }
        }
        Ok(())
    }

    /// Ends what was started for the command.
    pub(super) async fn end(self) {
        match self {
            Self::Remote(_) => {}
            Self::Here(watching) => watching.end().await,
        }
    }
}
