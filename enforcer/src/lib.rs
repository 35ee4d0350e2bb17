//! The enforcer of one node: watches policies and pods, compiles them to tables, keeps the kernel's maps equal to the
//! tables, attaches the kernel programs, and tells what they decided.
//!
//! - [`config`]: how it is started.
//! - [`error`]: what can go wrong, and what helps.
//! - [`datapath`]: the kernel's side: programs, maps, links.
//! - [`plan`]: from the state that the kernel has to the one that it should have; [`group`]: one set of policies. Pure.
//! - [`links`]: programs on interfaces; [`netns`]: work inside a namespace.
//! - [`events`] and [`names`]: what the kernel decided, in words.
//! - [`object`]: the kernel programs as built; [`sys`]: bpf(2).

pub mod config;
pub mod datapath;
pub mod error;
pub mod events;
mod group;
mod links;
pub mod names;
pub mod netns;
mod object;
mod plan;
mod sys;

use signalbox_api::kernel::{EnforcerStatus, FlowEvent, VerdictCount};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

pub use config::{AttachPreference, Config, Limits};
pub use error::Error;

/// Starts to enforce. Returns once the programs are loaded and the uplinks are attached; pods follow as they are found,
/// see [`Enforcer::status`]. Ends when `shutdown` is cancelled.
///
/// # Errors
///
/// When the kernel programs are missing or refused, or when the node's namespace or an uplink does not exist.
pub async fn start(
    _config: Config,
    _client: kube::Client,
    _shutdown: CancellationToken,
) -> Result<Enforcer, Error> {
    Err(Error::ObjectMissing)
}

/// A running enforcer.
pub struct Enforcer {
    handle: Handle,
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
    pub fn status(&self) -> watch::Receiver<EnforcerStatus> {
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

    /// Waits until, after the shutdown, everything is detached.
    pub async fn stopped(self) {}
}

/// What the server needs of an enforcer, cheap to clone.
#[derive(Clone)]
pub struct Handle {
    events: broadcast::Sender<FlowEvent>,
    status: watch::Receiver<EnforcerStatus>,
}

impl Handle {
    /// Verdicts as they fall: the first packet of each flow, and denied packets (limited per flow).
    pub fn events(&self) -> broadcast::Receiver<FlowEvent> {
        self.events.subscribe()
    }

    /// Its condition.
    pub fn status(&self) -> watch::Receiver<EnforcerStatus> {
        self.status.clone()
    }

    /// The kernel's counts of verdicts.
    ///
    /// # Errors
    ///
    /// When the kernel's map cannot be read.
    pub async fn counts(&self) -> Result<Vec<VerdictCount>, Error> {
        Ok(Vec::new())
    }
}
