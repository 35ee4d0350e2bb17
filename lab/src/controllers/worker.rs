//! The loop that every controller runs in: wait for news, decide, write, and back off where a write failed.

use std::time::Duration;

use futures::FutureExt;
use futures::future::select_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// The shortest wait after a failed write, news or no news: it bounds a quarrel over one object to 50 writes a second.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(20);
/// The longest wait after a failed write.
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// What one pass came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Writes that failed.
    pub failed: usize,
    /// Decide again after this long even without news.
    pub wake_in: Option<Duration>,
}

/// Watches some stores, and makes the cluster as it should be.
pub(crate) trait Controller: Send + 'static {
    /// For logs.
    const NAME: &'static str;

    /// What wakes it.
    fn inputs(&self) -> Inputs;

    /// Decides on everything that it sees, and writes.
    fn pass(&mut self) -> impl Future<Output = Pass> + Send;
}

/// The stores that a controller reads.
#[derive(Default)]
pub(crate) struct Inputs {
    synced: Vec<watch::Receiver<bool>>,
    changes: Vec<watch::Receiver<u64>>,
}

impl Inputs {
    /// Adds a store.
    pub(crate) fn and<K: super::store::Object>(mut self, store: &super::store::Store<K>) -> Self {
        self.synced.push(store.synced());
        self.changes.push(store.changes());
        self
    }

    /// Resolves once every store has its first list: before that, what is missing may just not be known yet.
    async fn ready(&mut self) {
        for synced in &mut self.synced {
            // The stores outlive the controllers, so that the sender cannot be gone.
            let _ = synced.wait_for(|synced| *synced).await;
        }
    }

    fn mark_seen(&mut self) {
        self.changes.iter_mut().for_each(watch::Receiver::mark_unchanged);
    }

    async fn news(&mut self) {
        // An error would mean that the store has gone, and stores outlive the controllers.
        let _ = select_all(self.changes.iter_mut().map(|change| change.changed().boxed())).await;
    }
}

/// Runs a controller until `shutdown`.
pub(crate) async fn run<C: Controller>(mut controller: C, shutdown: CancellationToken) {
    let mut inputs = controller.inputs();
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = inputs.ready() => {}
    }
    let mut backoff = SHORTEST_BACKOFF;
    loop {
        inputs.mark_seen();
        let pass = controller.pass().await;
        let rest = async {
            if pass.failed == 0 {
                match pass.wake_in {
                    Some(wake_in) => drop(timeout_at(Instant::now() + wake_in, inputs.news()).await),
                    None => inputs.news().await,
                }
                return;
            }
            debug!(controller = C::NAME, failed = pass.failed, ?backoff, "backs off");
            sleep(SHORTEST_BACKOFF).await;
            drop(timeout_at(Instant::now() + backoff, inputs.news()).await);
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = rest => {}
        }
        backoff = if pass.failed == 0 { SHORTEST_BACKOFF } else { (backoff * 2).min(LONGEST_BACKOFF) };
    }
}
