//! `signalbox serve`: the server in front of any cluster.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use owo_colors::OwoColorize;
use rand::Rng;
use signalbox_server::{Server, StreamsConfig, Vantages};
use tokio_util::sync::CancellationToken;

use super::cluster::{self, Cluster, Right};
use super::signals::Asked;
use super::{complain, duration};
use crate::access::AccessArgs;
use crate::install::names;

const EXAMPLES: &str = "\
Examples:
  signalbox serve                                       the cluster of the current kubeconfig, on loopback
  signalbox serve --kubeconfig prod.yaml --context eu   another one
  signalbox serve --listen 127.0.0.1:0                  on any free port
  signalbox serve --listen 0.0.0.0:8443 --streams 0.0.0.0:9443 --users    in a cluster, as `signalbox install` starts it
  signalbox serve --streams 0.0.0.0:9443 --allow-real-pods    on loopback, with the nodes' enforcers, which may try things from inside of pods
  signalbox serve --probe-image registry.example/signalbox/probe:0.1.0    where stand-ins get their image from

Probes start from pods with the label signalbox.dev/probe. Then, in another terminal:
  signalbox test --like deployment/web -n frontend      deploys one in place of a pod that has none

Standard output has one line, when the first matrix stands: ready URL cluster=NAME";

/// What the server cannot do without.
const NEEDED: &[Right] = &[
    ("", "namespaces", "list"),
    ("", "namespaces", "watch"),
    ("", "pods", "list"),
    ("", "pods", "watch"),
    ("", "services", "list"),
    ("", "services", "watch"),
    ("", "nodes", "list"),
    ("", "nodes", "watch"),
    ("discovery.k8s.io", "endpointslices", "list"),
    ("discovery.k8s.io", "endpointslices", "watch"),
    ("networking.k8s.io", "networkpolicies", "list"),
    ("networking.k8s.io", "networkpolicies", "watch"),
];
/// Without this it watches, and tries nothing.
const TO_PROBE: &[Right] = &[("", "pods/exec", "create")];
/// What takes longer is told.
const PATIENCE: Duration = Duration::from_secs(1);

/// Show, test and explain who can talk to whom in a cluster
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: cluster::Args,
    /// Where the page is served; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where the nodes' enforcers and hosts outside the cluster open their streams, with TLS [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT")]
    streams: Option<SocketAddr>,
    /// Have the nodes' enforcers try connections from inside of real pods, for who may `create` `probes.signalbox.dev` in the pod's namespace;
    /// with --streams, and enforcers that were started with --allow-probes-in-pods
    #[arg(long)]
    allow_real_pods: bool,
    /// The namespace that the server runs in, where it keeps its certificates; with --streams
    #[arg(long, value_name = "NAME", default_value = names::NAMESPACE)]
    namespace: String,
    /// The Secret with the certificates; made where it is not there; with --streams
    #[arg(long, value_name = "NAME", default_value = names::TLS_SECRET)]
    tls_secret: String,
    #[command(flatten)]
    access: AccessArgs,
    /// Allow --listen to name an address that other machines reach, and everyone who has the token to use it
    #[arg(long)]
    allow_remote: bool,
    /// A file with the token that the page asks for [default: a new one at each start]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// What the page calls the cluster [default: what the kubeconfig calls it]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A namespace whose pods and Services are left out; several times if need be
    #[arg(long, value_name = "NAME", default_values_t = ["kube-system".to_owned()])]
    skip_namespace: Vec<String>,
    /// The domain that Services are resolved under
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Pause between two rounds of probes
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration::parse)]
    interval: Duration,
    /// Up to how many cells pods without a probe are rows, too
    #[arg(long, value_name = "NUMBER", default_value_t = 40_000)]
    max_cells: usize,
    /// The image of the probes that are deployed as stand-ins
    #[arg(long, value_name = "IMAGE", default_value_t = signalbox_server::Config::default().probe_image)]
    probe_image: String,
}

/// Why it does not serve.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    Server(#[from] signalbox_server::Error),
    #[error(
        "--listen {0}: other machines reach this address; tell users apart with --users, or add --allow-remote to trust the token alone"
    )]
    Remote(SocketAddr),
    #[error("cannot read --token-file {}: {source}", path.display())]
    Token { path: PathBuf, source: std::io::Error },
    #[error("--token-file {}: a token has at least 16 characters and no spaces", .0.display())]
    WeakToken(PathBuf),
    #[error(
        "--allow-real-pods: what is tried from inside of pods is tried by the nodes' enforcers, and this server takes no streams of any; add \
         --streams ADDRESS:PORT, and start the enforcers with --server and --allow-probes-in-pods"
    )]
    NoEnforcers,
    #[error(
        "--allow-real-pods: with --users it is written down who had what tried, and no audit log is kept; name a file, or - for standard \
         output, with --audit-log"
    )]
    NoAudit,
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}

pub(super) fn run(args: Args) -> ExitCode {
    super::log();
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let code = match runtime.block_on(serve(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    };
    runtime.shutdown_background();
    code
}

async fn serve(args: &Args) -> Result<(), Error> {
    if !args.listen.ip().is_loopback() && !args.allow_remote && !args.access.users {
        return Err(Error::Remote(args.listen));
    }
    may_use_real_pods(args)?;
    let mut asked = Asked::listen().map_err(Error::Signals)?;
    let begin = Instant::now();
    let token = token(args)?;
    let cluster = tokio::select! {
        cluster = patiently("the cluster's API server", connect(args)) => cluster?,
        () = asked.received() => return Ok(()),
    };
    reached(&format!("Kubernetes {} at {}", cluster.version, cluster.url), begin);
    let shutdown = CancellationToken::new();
    let config = config(args, &cluster, token)?;
    let (name, client) = (config.cluster.clone(), cluster.client.clone());
    let server = signalbox_server::start(config, client, None, shutdown.clone()).await?;
    tokio::select! {
        () = first_round(&server) => {}
        () = asked.received() => {
            end(server, &shutdown, &mut asked).await;
            return Ok(());
        }
    }
    reached("first matrix", begin);
    // Scripts wait for this line: it goes out alone and plain.
    println!("ready {} cluster={name}", server.url());
    announce(&server);
    asked.received().await;
    anstream::eprintln!("{} ends; Ctrl-C again ends it at once", "·".dimmed());
    end(server, &shutdown, &mut asked).await;
    Ok(())
}

/// What the switch needs besides itself. Without --users it is the token's owner who asks, and what they ask for is in the server's own log where
/// no audit log is kept.
fn may_use_real_pods(args: &Args) -> Result<(), Error> {
    match (args.allow_real_pods, args.streams) {
        (true, None) => Err(Error::NoEnforcers),
        (true, Some(_)) if args.access.users && args.access.audit_log.is_none() => Err(Error::NoAudit),
        (true, Some(_)) | (false, _) => Ok(()),
    }
}

async fn connect(args: &Args) -> Result<Cluster, Error> {
    let cluster = cluster::connect(&args.cluster).await?;
    let lacking = cluster::lacking(&cluster.client, NEEDED).await;
    if !lacking.is_empty() {
        return Err(cluster::Error::Rights(lacking).into());
    }
    for right in cluster::lacking(&cluster.client, TO_PROBE).await {
        let warning = format!("the user may not {right}: nothing can be tried, and no cell is more than judged");
        anstream::eprintln!("{} {warning}", "warning:".yellow().bold());
    }
    Ok(cluster)
}

/// What the server is told.
fn config(args: &Args, cluster: &Cluster, token: String) -> Result<signalbox_server::Config, Error> {
    let streams = args
        .streams
        .map(|listen| StreamsConfig { secret: args.tls_secret.clone(), ..StreamsConfig::new(listen, &args.namespace) });
    let service = format!("{}.{}", names::SERVICE, args.namespace);
    let hosts = streams.iter().flat_map(|_| {
        let names = [service.clone(), format!("{service}.svc"), format!("{service}.svc.{}", args.cluster_domain)];
        names.into_iter()
    });
    let mut config = signalbox_server::Config {
        hosts: hosts.collect(),
        streams,
        allow_real_pods: args.allow_real_pods,
        allow_remote: args.allow_remote,
        listen: args.listen,
        token,
        cluster: args.name.clone().unwrap_or_else(|| cluster.name.clone()),
        cluster_domain: args.cluster_domain.clone(),
        interval: args.interval,
        skip_namespaces: args.skip_namespace.clone(),
        vantages: Vantages::Labelled,
        max_cells: args.max_cells,
        probe_image: args.probe_image.clone(),
        ..signalbox_server::Config::default()
    };
    args.access.configure(&mut config)?;
    Ok(config)
}

fn token(args: &Args) -> Result<String, Error> {
    let Some(path) = &args.token_file else {
        return Ok(format!("{:032x}", rand::rng().random::<u128>()));
    };
    let text = std::fs::read_to_string(path).map_err(|source| Error::Token { path: path.clone(), source })?;
    let token = text.trim();
    if token.len() < 16 || token.contains(char::is_whitespace) {
        return Err(Error::WeakToken(path.clone()));
    }
    Ok(token.to_owned())
}

/// Waits for the first matrix, and tells what it waits for.
async fn first_round(server: &Server) {
    let handle = server.handle();
    let waiting = async {
        let mut told = Vec::new();
        tokio::time::sleep(PATIENCE).await;
        anstream::eprintln!("{} waits for the cluster's objects, and for the probes in its pods", "·".dimmed());
        loop {
            let problems = handle.snapshot().problems;
            if problems != told {
                problems.iter().for_each(|problem| anstream::eprintln!("{} {problem}", "problem:".yellow().bold()));
                told = problems;
            }
            tokio::time::sleep(PATIENCE).await;
        }
    };
    tokio::select! {
        () = server.first_round() => {}
        () = waiting => {}
    }
}

/// Says what is waited for, where it takes a while.
async fn patiently<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let told = async {
        tokio::time::sleep(PATIENCE).await;
        anstream::eprintln!("{} waits for {what}", "·".dimmed());
        std::future::pending().await
    };
    tokio::select! {
        done = wait => done,
        () = told => unreachable!("it only tells"),
    }
}

fn reached(what: &str, begin: Instant) {
    anstream::eprintln!("{} {what} {}", "·".dimmed(), format!("{} ms", begin.elapsed().as_millis()).dimmed());
}

fn announce(server: &Server) {
    let picture = server.handle().snapshot();
    let probes = picture.endpoints.iter().filter(|endpoint| endpoint.vantage).count();
    anstream::eprintln!();
    anstream::eprintln!("  page      {}", server.url().bold());
    if probes == 0 {
        let remedy = "no pod carries a probe: `signalbox test --like deployment/NAME` deploys one for a run";
        anstream::eprintln!("  probes    {}", remedy.yellow());
    } else {
        anstream::eprintln!("  probes    {probes}");
    }
    anstream::eprintln!("  end       {}", "Ctrl-C".bold());
}

async fn end(server: Server, shutdown: &CancellationToken, asked: &mut Asked) {
    shutdown.cancel();
    tokio::select! {
        () = server.stopped() => {}
        () = asked.received() => {}
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn real_pods_need_enforcers_and_with_users_an_audit_log() {
        let check = |flags: &[&str], missing: Option<&str>| {
            let line = Line::try_parse_from([&["serve"], flags].concat()).unwrap();
            let told = may_use_real_pods(&line.args).err().map(|error| error.to_string());
            assert_eq!(told.is_some(), missing.is_some(), "{flags:?}: {told:?}");
            assert!(missing.is_none_or(|missing| told.is_some_and(|told| told.contains(missing))), "{flags:?}");
        };
        check(&[], None);
        check(&["--allow-real-pods"], Some("--streams"));
        check(&["--allow-real-pods", "--streams", "127.0.0.1:0"], None);
        check(&["--allow-real-pods", "--streams", "127.0.0.1:0", "--users"], Some("--audit-log"));
        check(&["--allow-real-pods", "--streams", "127.0.0.1:0", "--users", "--audit-log", "-"], None);
    }
}
