//! The lab as a whole: starts all parts in the right order, as many at once as can be, and ends them.
//!
//! - [`options`]: what it can be told.
//! - [`error`]: why it does not start or go on.
//! - `kubeconfig`: the file that `kubectl` and `signalbox test` find it by.
//! - `preflight`: rights, kernel, address; `state`: the state directory; `manifests`: what a first start puts in;
//!   `runtime`: the node, before it is there.
//!
//! ```text
//! preflight, state ─┬─ node's network ─┬─┬─ controllers, node ────────┬─ first round ─ ready
//!                   └─ API server ─────┘ ├─ manifests ─┬─ server, page ┘
//!                                        └─ enforcer ──┘
//! ```

pub mod error;
mod kubeconfig;
mod manifests;
pub mod options;
mod preflight;
mod runtime;
mod state;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use signalbox_enforcer::Enforcer;
use signalbox_lab_apiserver::ApiServer;
use signalbox_lab_node::{Node, ProbeBinary};
use signalbox_server::{KernelFeed, Server};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::controllers::{self, Controllers};
use crate::entry::ServerEntry;
use error::Error;
use manifests::Furniture;
use options::{Enforcement, Options};
use state::State;

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/probe.rs"));
}

/// The node's name.
const NODE: &str = "lab";
/// How long the first round waits for pods: on a busy machine they take a moment.
const FIRST_ROUND_WAIT: Duration = Duration::from_secs(5);
/// The same where no pods may be expected.
const EMPTY_ROUND_WAIT: Duration = Duration::from_millis(200);
/// How long each part may take to end before the lab goes on without it.
const PATIENCE: Duration = Duration::from_millis(900);

/// A lab that runs.
pub struct RunningLab {
    url: String,
    kubeconfig: PathBuf,
    state: State,
    api: ApiServer,
    controllers: Controllers,
    node: JoinHandle<Result<(), signalbox_lab_node::Error>>,
    enforcer: Option<Enforcer>,
    server: Server,
    ends: Ends,
}

/// What ends each part. They end one after the other, so that nobody's ground goes before they do.
#[derive(Clone, Debug, Default)]
struct Ends {
    server: CancellationToken,
    controllers: CancellationToken,
    enforcer: CancellationToken,
    node: CancellationToken,
    api: CancellationToken,
}

impl Ends {
    fn all(&self) {
        for token in [&self.server, &self.controllers, &self.enforcer, &self.node, &self.api] {
            token.cancel();
        }
    }
}

/// Ends everything when a start fails half-way.
struct EndOnError(Option<Ends>);

impl Drop for EndOnError {
    fn drop(&mut self) {
        if let Some(ends) = self.0.take() {
            ends.all();
        }
    }
}

/// Starts a lab and returns once its first matrix stands. `progress` is told in a few words what has been reached.
///
/// # Errors
/// Whatever keeps it from running, with the remedy. Nothing is left behind then.
pub async fn start(options: Options, progress: impl Fn(&str, Duration) + Send + Sync) -> Result<RunningLab, Error> {
    let begin = Instant::now();
    let reached = |what: &str| {
        debug!(what, ms = begin.elapsed().as_millis(), "reached");
        progress(what, begin.elapsed());
    };
    preflight::machine()?;
    let state = State::open(&options)?;
    // After the lock: a predecessor that was killed a moment ago has let go of both by then.
    preflight::listen(&options)?;
    let kubeconfig = options.kubeconfig.clone().unwrap_or_else(|| state.kubeconfig());
    if !options.force {
        kubeconfig::check_ours(&kubeconfig)?;
    }
    let token = state.page_token()?;
    let probe = embedded::PROBE.ok_or(Error::NoProbe)?;

    let ends = Ends::default();
    let mut guard = EndOnError(Some(ends.clone()));
    let (late, node_is_here) = runtime::LateRuntime::new();

    let network = async {
        let config = signalbox_lab_node::Config::new(state.node(), ProbeBinary::Bytes(probe));
        let node = signalbox_lab_node::create(config).await?;
        node_is_here.send_replace(Some(node.clone()));
        reached("network namespaces");
        Ok::<_, Error>(node)
    };
    let cluster = async {
        let started = start_api(&state, late, &ends).await?;
        reached("Kubernetes API");
        Ok::<_, Error>(started)
    };
    let (node, (api, client)) = tokio::try_join!(network, cluster)?;

    let controllers = controllers::start(client.clone(), &ends.controllers);
    let running = tokio::spawn(node.clone().run(client.clone(), ends.node.clone()));
    let furniture = async {
        let furniture = if options.empty { Furniture::Base } else { Furniture::Lesson };
        manifests::furnish(&client, furniture).await?;
        reached("manifests");
        Ok::<_, Error>(())
    };
    let enforcing = async {
        let enforcer = start_enforcer(&options, &node, client.clone(), &ends).await?;
        if enforcer.is_some() {
            reached("enforcer");
        }
        Ok::<_, Error>(enforcer)
    };
    let ((), enforcer) = tokio::try_join!(furniture, enforcing)?;
    let config = signalbox_server::Config {
        listen: options.listen,
        // The command has asked whether that is wanted.
        allow_remote: options.allow_remote,
        token: token.clone(),
        cluster: "lab".to_owned(),
        interval: options.interval,
        first_round_wait: if options.empty { EMPTY_ROUND_WAIT } else { FIRST_ROUND_WAIT },
        ..signalbox_server::Config::default()
    };
    let feed = enforcer.as_ref().map(feed);
    let server = signalbox_server::start(config, client.clone(), feed, ends.server.clone()).await?;
    let entry = ServerEntry { server: server_url(server.local_addr()), token };
    let extension = serde_json::to_value(&entry).expect("two strings are valid JSON");
    kubeconfig::write(&kubeconfig, &api.kubeconfig(Some(extension)))?;
    reached("server");

    let mut lab = RunningLab {
        url: server.url(),
        kubeconfig: std::path::absolute(&kubeconfig).unwrap_or(kubeconfig),
        state,
        api,
        controllers,
        node: running,
        enforcer,
        server,
        ends,
    };
    // From here on the lab is ended in order, also where its first round never comes.
    guard.0 = None;
    tokio::select! {
        () = lab.server.first_round() => {}
        ended = &mut lab.node => {
            let error = node_ended(ended);
            lab.ends.all();
            return Err(error);
        }
    }
    reached("first matrix");
    info!(ms = begin.elapsed().as_millis(), "ready");
    Ok(lab)
}

impl RunningLab {
    /// The link that opens the page and lets it change things.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The kubeconfig that was written.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Resolves only where a part without which the lab is none has ended by itself.
    pub async fn failed(&mut self) -> Error {
        node_ended((&mut self.node).await)
    }

    /// Ends everything, in order: who uses a part ends before it.
    ///
    /// # Errors
    /// Where the state directory cannot be written.
    pub async fn end(self) -> Result<(), Error> {
        let begin = Instant::now();
        self.ends.server.cancel();
        self.ends.controllers.cancel();
        let both = async { tokio::join!(self.server.stopped(), self.controllers.stopped()) };
        within("server and controllers", both).await;
        self.ends.enforcer.cancel();
        if let Some(enforcer) = self.enforcer {
            within("enforcer", enforcer.stopped()).await;
        }
        self.ends.node.cancel();
        if !self.node.is_finished() {
            within("node", self.node.map(drop)).await;
        }
        self.ends.api.cancel();
        within("Kubernetes API", self.api.stopped()).await;
        self.state.ended()?;
        debug!(ms = begin.elapsed().as_millis(), "ended");
        Ok(())
    }
}

async fn within<T>(part: &'static str, end: impl Future<Output = T>) {
    let begin = Instant::now();
    match tokio::time::timeout(PATIENCE, end).await {
        Ok(_) => debug!(part, ms = begin.elapsed().as_millis(), "ended"),
        Err(_) => warn!(part, "did not end in time; the kernel ends it with the process"),
    }
}

fn node_ended(ended: Result<Result<(), signalbox_lab_node::Error>, tokio::task::JoinError>) -> Error {
    match ended {
        Ok(Err(error)) => Error::Node(error),
        Ok(Ok(())) | Err(_) => Error::NodeEnded,
    }
}

async fn start_api(
    state: &State,
    runtime: Arc<runtime::LateRuntime>,
    ends: &Ends,
) -> Result<(ApiServer, Client), Error> {
    let config = signalbox_lab_apiserver::Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        state_dir: state.api(),
        fresh: state.forgets(),
    };
    let api = signalbox_lab_apiserver::start(config, runtime, ends.api.clone()).await?;
    state.begun()?;
    let kubeconfig = Kubeconfig::from_yaml(&api.kubeconfig(None))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)
        .map_err(|answer| Error::Kube { action: "make the lab's own client".to_owned(), answer: Box::new(answer) })?;
    Ok((api, client))
}

async fn start_enforcer(
    options: &Options,
    node: &Node,
    client: Client,
    ends: &Ends,
) -> Result<Option<Enforcer>, Error> {
    let attach = match options.enforcement {
        Enforcement::Enforcer(attach) => attach,
        Enforcement::Off => return Ok(None),
    };
    let config = signalbox_enforcer::Config {
        node: NODE.to_owned(),
        netns: Some(node.netns()),
        uplinks: node.uplinks(),
        attach,
        ..signalbox_enforcer::Config::default()
    };
    Ok(Some(signalbox_enforcer::start(config, client, ends.enforcer.clone()).await?))
}

/// What the enforcer tells the server: neither knows the other.
fn feed(enforcer: &Enforcer) -> KernelFeed {
    let handle = enforcer.handle();
    let counts = move || {
        let handle = handle.clone();
        async move { handle.counts().await.map_err(|error| error.to_string()) }.boxed()
    };
    KernelFeed { events: enforcer.events(), status: enforcer.status(), counts: Arc::new(counts) }
}

/// The URL under which this machine's own commands reach the server.
fn server_url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}
