//! What is kept of events for those who ask, and whom to ask.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use signalbox_api::node::NodeEvent;
use signalbox_enforcer_common::flow::Event;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{error::Error, run::Core};

/// How many events a reader of the stream may fall behind.
const EVENTS_KEPT: usize = 16_384;
/// How many denials are remembered.
const DENIALS_KEPT: usize = 1_000;
/// How many questions may wait.
const QUESTIONS: usize = 64;

/// All that the event reader told, cheap to clone.
#[derive(Clone, Debug)]
pub struct Told {
    events: broadcast::Sender<NodeEvent>,
    count: Arc<AtomicU64>,
    denials: Arc<Mutex<VecDeque<NodeEvent>>>,
}

impl Default for Told {
    fn default() -> Self {
        Self { events: broadcast::channel(EVENTS_KEPT).0, count: Arc::default(), denials: Arc::default() }
    }
}

impl Told {
    /// Takes an event. It is put into words only where somebody listens, or where it is a denial.
    pub fn take(&self, event: &Event, named: impl FnOnce() -> NodeEvent) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let is_denial = event.reason != 0;
        if !is_denial && self.events.receiver_count() == 0 {
            return;
        }
        let named = named();
        if is_denial {
            let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
            denials.truncate(DENIALS_KEPT - 1);
            denials.push_front(named.clone());
        }
        // An error means that nobody listens.
        let _nobody = self.events.send(named);
    }

    /// Events that were read from the kernel since the start.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The newest denials, the newest first.
    pub fn denials(&self) -> Vec<NodeEvent> {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// All events from now on.
    pub fn events(&self) -> broadcast::Receiver<NodeEvent> {
        self.events.subscribe()
    }
}

/// A question to the loop: it runs between two pieces of its work.
pub type Question = Box<dyn FnOnce(&mut Core) + Send>;

/// Where questions are put.
#[derive(Clone, Debug)]
pub struct Desk {
    questions: mpsc::Sender<Question>,
}

impl Desk {
    /// A desk, and where its questions come out.
    pub fn new() -> (Self, mpsc::Receiver<Question>) {
        let (questions, incoming) = mpsc::channel(QUESTIONS);
        (Self { questions }, incoming)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    ///
    /// When the loop has ended.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let question: Question = Box::new(move |core| {
            // An error means that whoever asked has gone.
            let _gone = answer.send(question(core));
        });
        self.questions.send(question).await.map_err(|_| Error::Worker)?;
        answered.await.map_err(|_| Error::Worker)
    }
}
