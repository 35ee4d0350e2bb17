//! What a lab can be told.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use signalbox_enforcer::AttachPreference;

/// What a lab can be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the page is served.
    pub listen: SocketAddr,
    /// Serve the page to other machines, too.
    pub allow_remote: bool,
    /// The kubeconfig to write; `None`: `kubeconfig` in the state directory.
    pub kubeconfig: Option<PathBuf>,
    /// Overwrite the kubeconfig even if it is not from Signalbox.
    pub force: bool,
    /// The state directory, whose objects then survive the lab's end; `None`: [`DEFAULT_STATE`](crate::entry::DEFAULT_STATE), and a clean end forgets.
    pub state: Option<PathBuf>,
    /// Forget the objects of earlier runs.
    pub fresh: bool,
    /// Start without the lesson's cluster.
    pub empty: bool,
    /// Between the end of one round of probes and the start of the next.
    pub interval: Duration,
    /// Who enforces policies.
    pub enforcement: Enforcement,
}

/// Who enforces policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// Signalbox's enforcer, attached in this way.
    Enforcer(AttachPreference),
    /// Nobody: policies change nothing.
    Off,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            allow_remote: false,
            kubeconfig: None,
            force: false,
            state: None,
            fresh: false,
            empty: false,
            interval: Duration::from_secs(5),
            enforcement: Enforcement::Enforcer(AttachPreference::Auto),
        }
    }
}
