//! What an enforcer in the same process tells the server.

use std::sync::Arc;

use futures::future::BoxFuture;
use signalbox_api::kernel::{EnforcerStatus, FlowEvent, VerdictCount};
use tokio::sync::{broadcast, watch};

/// Asks the kernel for its counts of verdicts. The error is a sentence for people.
pub type CountVerdicts = Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<VerdictCount>, String>> + Send + Sync>;

/// What the enforcer tells, if there is one in this process.
pub struct KernelFeed {
    /// Verdicts on flows, as the kernel reports them.
    pub events: broadcast::Receiver<FlowEvent>,
    /// The enforcer's own condition.
    pub status: watch::Receiver<EnforcerStatus>,
    /// Asks for the counts of verdicts.
    pub counts: CountVerdicts,
}
