//! `signalbox-enforcer run`: the agent.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{SOCKET, complain};
use crate::{
    AttachPreference, Config, Error, Limits, Mode, answer, exits,
    inside::{Bounds, Inside},
    netns::Netns,
    rights, uplink,
};

const EXAMPLES: &str = "\
Examples:
  signalbox-enforcer --node worker-1 --uplink eth0
      enforce on this node; the cluster's API is that of the pod this runs in
  signalbox-enforcer --node worker-1 --kubeconfig /etc/kubernetes/kubelet.conf --uplink eth0 --uplink eth1
      the same on a host with two uplinks
  signalbox-enforcer --node worker-1 --address 192.0.2.7
      the uplinks are what has this address, what default routes take, and tunnels
  signalbox-enforcer --node worker-1 --uplink eth0 --mode strict
      shut new pods until their policies are in
  signalbox-enforcer --node worker-1 --uplink eth0 --audit
      see what the policies would deny, before they do
  signalbox-enforcer --node worker-1 --uplink eth0 --server https://signalbox.signalbox-system:9443
      tell a server as well; without it, or while it is away, enforcement goes on
  signalbox-enforcer --node worker-1 --uplink eth0 --server https://signalbox.signalbox-system:9443 --allow-probes-in-pods
      the same, and let that server try connections from inside of this node's pods
  signalbox-enforcer --node worker-1 --attach clsact --flows 262144
      with filters instead of tcx links, and room for more connections";

/// Enforce the cluster's policies on this node
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The node's name, as in `spec.nodeName` of its pods
    #[arg(long, value_name = "NAME", env = "NODE_NAME", required = true)]
    node: Option<String>,
    /// How to reach the cluster's API [default: as a pod of the cluster does]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// An interface that leads out of the node, as `ip link` shows it; may be given several times
    #[arg(long = "uplink", value_name = "INTERFACE")]
    uplinks: Vec<String>,
    /// An address of the node: where no uplinks are named, they are found by it
    #[arg(long = "address", value_name = "IP", env = "NODE_ADDRESS")]
    addresses_of_node: Vec<IpAddr>,
    /// The network namespace of the node [default: the one this runs in]
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// How the programs are attached
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Attach::Auto)]
    attach: Attach,
    /// What becomes of a new pod until its policies are in
    #[arg(long, value_name = "MODE", value_enum, default_value_t = NewPods::Standard)]
    mode: NewPods,
    /// Where programs and tables are pinned, so that they outlive the agent, on a bpf file system
    #[arg(long, value_name = "PATH", default_value = Config::PINS, conflicts_with = "no_pins")]
    pins: PathBuf,
    /// Pin nothing: enforcement ends with the agent
    #[arg(long)]
    no_pins: bool,
    /// Let everything pass, and only report what would be denied
    #[arg(long)]
    audit: bool,
    /// Room for pods of this node
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().pods, value_parser = clap::value_parser!(u32).range(1..))]
    pods: u32,
    /// Room for addresses of pods
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().addresses)]
    addresses: u32,
    /// Room for address blocks that rules name
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().blocks)]
    blocks: u32,
    /// Room for entries of policies, two generations of them
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().policies)]
    policies: u32,
    /// Room for connections; the least recently used make room
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().flows)]
    flows: u32,
    /// Where Prometheus finds /metrics, and the kubelet /healthz and /readyz
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9464")]
    listen: SocketAddr,
    /// Where the other commands ask
    #[arg(long, value_name = "PATH", default_value = SOCKET, env = "SIGNALBOX_ENFORCER_SOCKET")]
    socket: PathBuf,
    #[command(flatten)]
    uplink: Uplink,
}

/// The stream to the server.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Server")]
struct Uplink {
    /// The server that is told of verdicts and of this node, https://HOST:PORT; without it nobody is
    #[arg(long, value_name = "URL", env = "SIGNALBOX_SERVER")]
    server: Option<uplink::Server>,
    /// The name that the server's certificate is for, where it is reached by another [default: the host of --server]
    #[arg(long, value_name = "NAME", env = "SIGNALBOX_SERVER_NAME")]
    server_name: Option<uplink::CertificateName>,
    /// Whom to trust for the server: a file with certificates, or configmap:NAMESPACE/NAME
    #[arg(long, value_name = "FILE", default_value = "configmap:signalbox-system/signalbox-ca")]
    server_ca: uplink::Authority,
    /// The token for the audience `signalbox`; read anew for each connection
    #[arg(long, value_name = "FILE", default_value = "/var/run/secrets/signalbox/token")]
    token_file: PathBuf,
    /// Try connections from inside of this node's pods where the server asks for it: from their network namespaces, without touching their
    /// containers
    #[arg(long, requires = "server")]
    allow_probes_in_pods: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Attach {
    /// tcx where the kernel has it, else clsact
    Auto,
    /// tcx links, kernel 6.6 and newer
    Tcx,
    /// Filters on the clsact qdisc, kernel 5.10 and newer
    Clsact,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum NewPods {
    /// It is open, and what passes is counted
    Standard,
    /// It is shut, but for its own node; see docs/adr/0009 for what else on the node that shuts
    Strict,
}

/// The exit status where kernel or rights do not suffice: to start it again does not help.
const NOT_SUFFICIENT: u8 = 3;

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot use the kubeconfig {}: {source}; check the path and what stands in it", path.display())]
    Kubeconfig { path: PathBuf, source: Box<kube::config::KubeconfigError> },
    #[error("this does not run in a cluster's pod ({0}); name a kubeconfig with --kubeconfig")]
    InCluster(Box<kube::config::InClusterError>),
    #[error("cannot make a client for the cluster: {}", crate::watch::words(.0.as_ref()))]
    Client(Box<kube::Error>),
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    #[error(transparent)]
    Rights(#[from] rights::Error),
    #[error(transparent)]
    Enforcer(#[from] Error),
}

impl Args {
    fn config(&self) -> Config {
        Config {
            node: self.node.clone().unwrap_or_default(),
            netns: self.netns.clone(),
            uplinks: self.uplinks.clone(),
            attach: match self.attach {
                Attach::Auto => AttachPreference::Auto,
                Attach::Tcx => AttachPreference::Tcx,
                Attach::Clsact => AttachPreference::Clsact,
            },
            mode: match self.mode {
                NewPods::Standard => Mode::Standard,
                NewPods::Strict => Mode::Strict,
            },
            pins: (!self.no_pins).then(|| self.pins.clone()),
            audit: self.audit,
            limits: Limits {
                pods: self.pods,
                addresses: self.addresses,
                blocks: self.blocks,
                policies: self.policies,
                flows: self.flows,
                ..Limits::default()
            },
            ..Config::default()
        }
    }
}

impl Args {
    /// Starts to tell a server, where one is named.
    fn uplink(
        &self,
        handle: crate::Handle,
        client: kube::Client,
        shutdown: &CancellationToken,
    ) -> Option<(tokio::sync::watch::Receiver<signalbox_api::node::UplinkReport>, tokio::task::JoinHandle<()>)> {
        let config = uplink::Config {
            node: self.node.clone().unwrap_or_default(),
            door: uplink::Door {
                server: self.uplink.server.clone()?,
                name: self.uplink.server_name.clone(),
                authority: self.uplink.server_ca.clone(),
                token: self.uplink.token_file.clone(),
            },
            enforces_on: !self.no_pins,
        };
        let inside =
            self.uplink.allow_probes_in_pods.then(|| Inside::new(&handle, self.netns.clone(), Bounds::default()));
        let feed = uplink::Feed { inside, ..handle.into() };
        Some(uplink::start(config, feed, client, shutdown.clone()))
    }
}

pub(super) fn run(args: Args) -> ExitCode {
    log();
    // There are no other threads yet: those that come have no more rights than this one.
    let lowered = rights::check(args.config().attach).and_then(|()| rights::keep_only_what_is_needed());
    if let Err(error) = lowered {
        complain(&Failure::Rights(error));
        return ExitCode::from(NOT_SUFFICIENT);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&Failure::Runtime(error));
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(enforce(args));
    runtime.shutdown_timeout(Duration::from_secs(2));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::FAILURE
        }
    }
}

async fn enforce(args: Args) -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    end_when_told(&shutdown).map_err(Failure::Runtime)?;
    let mut config = args.config();
    let netns = Netns::open(config.netns.as_deref())?;
    let found = match config.uplinks.is_empty() {
        true if !args.addresses_of_node.is_empty() => Some(exits::find(&netns, &args.addresses_of_node)?),
        _ => None,
    };
    if let Some(found) = &found {
        tracing::info!(uplinks = ?found, "what leaves the node is judged there");
        config.uplinks = found.iter().cloned().collect();
    } else if config.uplinks.is_empty() {
        tracing::warn!("neither --uplink nor --address: what pods send out of the node is not judged");
    }
    let client = client(args.kubeconfig.as_deref()).await?;
    // What may fail for reasons of this machine comes before anything is attached.
    let socket = answer::listen_at(args.socket.clone()).await?;
    let monitor = answer::listen_for_monitor(args.listen).await?;
    let enforcer = crate::start(config, client.clone(), shutdown.clone()).await?;
    if let Err(error) = rights::confine() {
        shutdown.cancel();
        enforcer.stopped().await;
        return Err(error.into());
    }
    let mut answers = enforcer.handle().answers();
    let uplinked = args.uplink(enforcer.handle(), client, &shutdown);
    let uplinked = uplinked.map(|(report, told)| {
        answers.uplink = Some(report);
        told
    });
    let monitored = tokio::spawn(answers.clone().serve_monitor(monitor, shutdown.clone()));
    if let Some(found) = found {
        tokio::spawn(end_when_uplinks_change(netns, args.addresses_of_node, found, shutdown.clone()));
    }
    let answered = answers.serve_socket(socket, shutdown.clone()).await;
    // Without its socket it would enforce unseen: it ends instead, and says why.
    shutdown.cancel();
    enforcer.stopped().await;
    if let Some(uplinked) = uplinked {
        uplinked.await.map_err(|_| Error::Worker)?;
    }
    let monitored = monitored.await.map_err(|_| Error::Worker)?;
    Ok(answered.and(monitored)?)
}

/// How often it is looked for other uplinks.
const LOOK: Duration = Duration::from_secs(5);

/// Ends the agent where other interfaces lead out of the node than when it began: a CNI's tunnel may come later than the agent. It is started
/// again then; programs and tables that are pinned stand meanwhile.
async fn end_when_uplinks_change(
    netns: Netns,
    addresses: Vec<IpAddr>,
    began_with: BTreeSet<String>,
    shutdown: CancellationToken,
) {
    while shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        match exits::find(&netns, &addresses) {
            Ok(found) if found == began_with => {}
            Ok(found) => {
                tracing::warn!(uplinks = ?found, ?began_with, "other interfaces lead out of the node now: ending, to begin with these");
                shutdown.cancel();
            }
            // It may be on its way from one address to another: what stands goes on.
            Err(error) => tracing::warn!(%error, "the node's uplinks cannot be looked for"),
        }
    }
}

async fn client(kubeconfig: Option<&std::path::Path>) -> Result<kube::Client, Failure> {
    let config = match kubeconfig {
        Some(path) => {
            let unusable = |source| Failure::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
            let kubeconfig = kube::config::Kubeconfig::read_from(path).map_err(unusable)?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.map_err(unusable)?
        }
        None => kube::Config::incluster().map_err(|error| Failure::InCluster(Box::new(error)))?,
    };
    kube::Client::try_from(config).map_err(|error| Failure::Client(Box::new(error)))
}

/// Ends the agent in order at SIGTERM and SIGINT.
fn end_when_told(shutdown: &CancellationToken) -> std::io::Result<()> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to end");
        shutdown.cancel();
    });
    Ok(())
}

/// Logs go to standard error, `SIGNALBOX_LOG` chooses them as `RUST_LOG` does elsewhere.
fn log() {
    use std::io::IsTerminal;

    use tracing_subscriber::EnvFilter;
    let filter =
        EnvFilter::try_from_env("SIGNALBOX_LOG").unwrap_or_else(|_| EnvFilter::new("info,netlink_proto=error"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}
