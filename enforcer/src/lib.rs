//! The enforcer of one node: watches policies and pods, compiles them to tables, keeps the kernel's maps equal to the
//! tables, attaches the kernel programs, and tells what they decided.
//!
//! - [`config`]: how it is started.
//! - [`error`]: what can go wrong, and what helps.
//! - [`datapath`]: the kernel's side: programs, maps, links.
//! - [`plan`]: from the state that the kernel has to the one that it should have; [`group`]: one set of policies. Pure.
//! - [`links`]: programs on interfaces, and [`filters`] where they are filters; [`netns`]: work inside a namespace.
//! - [`pins`]: what outlives the process; [`adopt`]: how the next one takes it over; [`uninstall`]: how it ends.
//! - [`exits`]: interfaces that lead out of the node, where nobody names them.
//! - [`interfaces`] and [`newcomers`]: interfaces that appear, and may be a new pod's.
//! - [`lanes`]: pods behind bridges.
//! - [`exposures`]: how long new pods had to wait.
//! - [`events`] and [`names`]: what the kernel decided, in words.
//! - [`store`], [`watch`] and [`discover`]: what the cluster wants and the node has; [`run`]: the loop over all of it.
//! - [`telling`]: what is kept for those who ask; [`answer`]: what they are answered; [`frame`]: packets to ask about.
//! - [`uplink`]: the stream to the server, which tells it all of that.
//! - [`inside`]: probes from inside of this node's pods, where the server asks for one and they are allowed.
//! - [`conditions`]: policies that are not enforced entirely, as Kubernetes Events.
//! - [`metrics`]: the same for Prometheus.
//! - [`cli`]: the command line of the agent.
//! - [`rights`]: what the agent needs of the kernel, and gives up.
//! - [`object`]: the kernel programs as built; [`sys`]: bpf(2).

mod adopt;
pub mod answer;
pub mod cli;
pub mod conditions;
pub mod config;
pub mod datapath;
mod discover;
pub mod error;
pub mod events;
mod exits;
mod exposures;
mod filters;
mod frame;
mod group;
pub mod inside;
mod interfaces;
mod lanes;
mod links;
pub mod metrics;
pub mod names;
pub mod netns;
mod newcomers;
mod object;
mod pins;
mod plan;
pub mod rights;
pub mod run;
mod store;
mod sys;
pub mod telling;
mod uninstall;
pub mod uplink;
mod watch;

use std::borrow::Cow;

use exposures::Exposures;
use signalbox_api::kernel::{EnforcerStatus, Exposure, FlowEvent, VerdictCount};
use tokio::{
    sync::{broadcast, watch as channel},
    task,
};
use tokio_util::sync::CancellationToken;

pub use answer::Answers;
pub use config::{AttachPreference, Config, Limits, Mode};
pub use error::Error;
pub use object::object as built_in_object;
pub use uninstall::{Report, uninstall};

/// How many events a listener may fall behind.
const EVENTS_KEPT: usize = 16_384;

/// Starts to enforce. Returns once the programs are loaded and the uplinks are attached; pods follow as they are found,
/// see [`Enforcer::status`]. Ends when `shutdown` is cancelled.
///
/// # Errors
///
/// When the kernel programs are missing or refused, or when the node's namespace or an uplink does not exist.
pub async fn start(config: Config, client: kube::Client, shutdown: CancellationToken) -> Result<Enforcer, Error> {
    start_object(config, built_in_object().ok_or(Error::ObjectMissing)?.into(), client, shutdown).await
}

/// The same with another object than the one that is built in: of another version, say.
///
/// # Errors
///
/// As [`start`].
pub async fn start_object(
    config: Config,
    object: Cow<'static, [u8]>,
    client: kube::Client,
    shutdown: CancellationToken,
) -> Result<Enforcer, Error> {
    let (events, _) = broadcast::channel(EVENTS_KEPT);
    let (status_sender, status) =
        channel::channel(EnforcerStatus { node: config.node.clone(), ..EnforcerStatus::default() });
    let node = config.node.clone();
    let (resync, audit) = (config.resync, config.audit);
    let (desk, questions) = telling::Desk::new();
    let told = telling::Told::default();
    let telling = told.clone();
    let sender = events.clone();
    let exposures = Exposures::default();
    let kept = exposures.clone();
    let loaded = task::spawn_blocking(move || -> Result<_, Error> {
        let mut datapath = datapath::Datapath::load_object(&config, &object)?;
        let (ring, names) = datapath.take_events()?;
        let reader = events::EventReader::start_telling(ring, names, config.node.clone(), sender, telling)?;
        let (counts, sight) = (datapath.counts()?, datapath.sight()?);
        Ok((run::Core::new(config, datapath, reader, status_sender, kept), counts, sight))
    });
    let (mut core, counts, sight) = loaded.await.map_err(|_| Error::Worker)??;
    let meters = metrics::Meters::default();
    (core.meters, core.is_audit) = (meters.clone(), audit);
    let silence = conditions::Silence::default();
    let told_of = (silence.clone(), meters.clone());
    tokio::spawn(conditions::write(client.clone(), node, core.noted.subscribe(), told_of, shutdown.clone()));
    let answers = Answers {
        desk,
        told,
        meters,
        silence,
        exposures: exposures.clone(),
        sight,
        status: status.clone(),
        audit,
        uplink: None,
        shutdown: shutdown.clone(),
    };
    let news = run::News { updates: watch::updates(&client), interfaces: interfaces::news(core.netns())?, questions };
    let running = tokio::spawn(run::run(core, news, resync, shutdown));
    Ok(Enforcer { handle: Handle { events, status, counts, exposures, answers }, running })
}

/// A running enforcer.
pub struct Enforcer {
    handle: Handle,
    running: task::JoinHandle<()>,
}

impl Enforcer {
    /// What the server needs, cheap to clone.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Verdicts as they fall: the first packet of each flow, and denied packets (limited per flow).
    pub fn events(&self) -> broadcast::Receiver<FlowEvent> {
        self.handle.events()
    }

    /// Its condition.
    pub fn status(&self) -> channel::Receiver<EnforcerStatus> {
        self.handle.status()
    }

    /// The kernel's counts of verdicts.
    ///
    /// # Errors
    ///
    /// When the kernel's map cannot be read.
    pub async fn counts(&self) -> Result<Vec<VerdictCount>, Error> {
        self.handle.counts().await
    }

    /// Waits until, after the shutdown, it has ended: everything is detached, unless it is pinned.
    pub async fn stopped(self) {
        if let Err(error) = self.running.await {
            tracing::error!(%error, "the enforcer ended by a panic; the kernel detaches its programs");
        }
    }
}

/// What the server needs of an enforcer, cheap to clone.
#[derive(Clone)]
pub struct Handle {
    events: broadcast::Sender<FlowEvent>,
    status: channel::Receiver<EnforcerStatus>,
    counts: datapath::CountsReader,
    exposures: Exposures,
    answers: Answers,
}

impl Handle {
    /// What it answers to those who ask about this node.
    pub fn answers(&self) -> Answers {
        self.answers.clone()
    }

    /// Verdicts as they fall: the first packet of each flow, and denied packets (limited per flow).
    pub fn events(&self) -> broadcast::Receiver<FlowEvent> {
        self.events.subscribe()
    }

    /// Its condition.
    pub fn status(&self) -> channel::Receiver<EnforcerStatus> {
        self.status.clone()
    }

    /// How long the newest pods had to wait for their policies, the latest last.
    pub fn exposures(&self) -> Vec<Exposure> {
        self.exposures.latest()
    }

    /// The kernel's counts of verdicts.
    ///
    /// # Errors
    ///
    /// When the kernel's map cannot be read.
    pub async fn counts(&self) -> Result<Vec<VerdictCount>, Error> {
        let counts = self.counts.clone();
        task::spawn_blocking(move || counts.read()).await.map_err(|_| Error::Worker)?
    }
}
