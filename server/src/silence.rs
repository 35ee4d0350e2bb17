//! How long an agent may owe an answer. A stream whose other end has gone without a word (a node cut off, a kubelet killed) stays open for
//! many minutes: what is asked over it is not refused, only never answered.

use std::collections::HashSet;
use std::time::Duration;

use signalbox_api::probe::{Request, Response};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What may pass beyond the time that was given to what was asked, on a busy machine and a slow network.
const SLACK: Duration = Duration::from_secs(3);

/// What an agent still owes, and how long it may be silent.
#[derive(Debug)]
pub struct Silence {
    owed: watch::Sender<Owed>,
}

#[derive(Debug, Default)]
struct Owed {
    /// What has no answer yet.
    open: HashSet<u64>,
    /// The longest time that was given to any of it.
    given: Duration,
    /// Until when a line must have come, while anything is open.
    until: Option<Instant>,
}

impl Silence {
    /// Nothing has been asked.
    pub fn new() -> Self {
        Self { owed: watch::Sender::new(Owed::default()) }
    }

    /// This is about to be asked. What was asked before and is not answered yet keeps its time.
    pub fn asked(&self, batch: &[Request]) {
        let given = batch.iter().filter_map(|request| match request {
            Request::Connect { id, timeout_ms, .. } | Request::Resolve { id, timeout_ms, .. } => {
                Some((*id, *timeout_ms))
            }
            Request::Control { id, .. } => Some((*id, 0)),
            // These are of what was asked before.
            Request::Dropped { .. } | Request::QuestionDropped { .. } => None,
        });
        let given: Vec<(u64, u32)> = given.collect();
        let Some(longest) = given.iter().map(|(_, timeout)| *timeout).max() else { return };
        self.owed.send_modify(|owed| {
            owed.open.extend(given.iter().map(|(id, _)| *id));
            owed.given = owed.given.max(Duration::from_millis(longest.into()));
            owed.until = owed.until.or(Some(Instant::now() + owed.given + SLACK));
        });
    }

    /// A line came. What is still owed has its time again.
    pub fn heard(&self, line: &Response) {
        self.owed.send_modify(|owed| {
            match line {
                Response::Done { id, .. } | Response::Resolved { id, .. } | Response::Controlled { id, .. } => {
                    owed.open.remove(id);
                }
                // Of what it could not read nothing will come, and which that was it does not say.
                Response::Rejected { .. } => owed.open.clear(),
                Response::Hello { .. } | Response::Asking { .. } | Response::Started { .. } => {}
            }
            if owed.open.is_empty() {
                *owed = Owed::default();
            } else {
                owed.until = Some(Instant::now() + owed.given + SLACK);
            }
        });
    }

    /// Ends when it has lasted too long.
    pub async fn too_long(&self) {
        let mut changes = self.owed.subscribe();
        loop {
            let until = changes.borrow_and_update().until;
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
