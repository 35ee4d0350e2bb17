//! How long an agent may owe an answer. A stream whose other end has gone without a word (a node cut off, a kubelet killed) stays open for
//! many minutes: what is asked over it is not refused, only never answered.

use std::time::Duration;

use signalbox_api::probe::Request;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What may pass beyond the time that was given to what was asked, on a busy machine and a slow network.
const SLACK: Duration = Duration::from_secs(3);

/// Since something was asked nothing has been heard.
#[derive(Debug)]
pub struct Silence {
    /// Until when a line must have come.
    until: watch::Sender<Option<Instant>>,
}

impl Silence {
    /// Nothing has been asked.
    pub fn new() -> Self {
        Self { until: watch::Sender::new(None) }
    }

    /// This is about to be asked. What was asked before and is not answered yet keeps its time.
    pub fn asked(&self, batch: &[Request]) {
        let given = batch.iter().filter_map(|request| match request {
            Request::Connect { timeout_ms, .. } | Request::Resolve { timeout_ms, .. } => Some(*timeout_ms),
            Request::Control { .. } => Some(0),
            // It may have ended by itself, and then has no answer.
            Request::Dropped { .. } | Request::QuestionDropped { .. } => None,
        });
        let Some(longest) = given.max() else { return };
        let until = Instant::now() + Duration::from_millis(longest.into()) + SLACK;
        self.until.send_if_modified(|at| at.is_none() && at.replace(until).is_none());
    }

    /// A line came.
    pub fn heard(&self) {
        self.until.send_if_modified(|at| at.take().is_some());
    }

    /// Ends when it has lasted too long.
    pub async fn too_long(&self) {
        let mut changes = self.until.subscribe();
        loop {
            let until = *changes.borrow_and_update();
            let passed = async {
                match until {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = passed => return,
                // The sender is this one.
                _ = changes.changed() => {}
            }
        }
    }
}
