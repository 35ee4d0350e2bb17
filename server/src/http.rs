//! REST, events and the page.
//!
//! - [`listener`]: connections and their limits; [`tls`]: the page's certificate.
//! - [`routes`]: all paths, and what each needs; [`security`]: what every request has to pass; [`caller`]: who asks.
//! - [`answer`]: the one place that turns errors into statuses.
//! - [`state`], [`policies`], [`lesson`], [`session`]: the REST API; [`events`]: what changes, as it changes.
//! - [`standins`]: probes in place of pods that have none; [`probes`]: one connection from inside of a real pod.
//! - [`changes`]: what becomes of a wish to change something: judged, written down, done.
//! - [`yaml`]: manifests in, and lines for the fields at fault; [`names`]: what can be a name.
//! - [`page`]: the built page; [`metrics`]: for Prometheus.

pub mod answer;
pub mod caller;
pub mod changes;
pub mod events;
pub mod lesson;
pub mod listener;
pub mod metrics;
pub mod names;
pub mod page;
pub mod policies;
pub mod probes;
pub mod routes;
pub mod security;
pub mod session;
pub mod standins;
pub mod state;
pub mod tls;
pub mod yaml;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use signalbox_api::state::Snapshot;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::access::audit::Audit;
use crate::access::cut::{self, Around};
use crate::access::keeper::Keeper;
use crate::feed::CountVerdicts;
use crate::hub::Hub;
use crate::lesson::Lesson;
use crate::standins::StandIns;
use caller::Caller;

/// The largest body that is read: about what Kubernetes takes in one object.
const MAX_BODY: usize = 2 * 1024 * 1024;

/// What every handler can reach.
#[derive(Clone)]
pub struct App {
    /// The picture, whole. What of it someone may see [`App::picture`] gives.
    pub hub: Arc<Hub>,
    /// The cluster.
    pub client: kube::Client,
    /// The lesson.
    pub lesson: Arc<Lesson>,
    /// Who wants a round.
    pub asks: mpsc::Sender<oneshot::Sender<()>>,
    /// Probes in place of pods that have none.
    pub stand_ins: StandIns,
    /// Probes from inside of real pods.
    pub probes: Arc<probes::Probes>,
    /// The kernel's counts, if someone enforces in this process.
    pub counts: Option<CountVerdicts>,
    /// Which requests are for this server at all.
    pub gate: Arc<security::Gate>,
    /// Who its users are; absent where they are not told apart.
    pub keeper: Option<Arc<Keeper>>,
    /// Who changed what.
    pub audit: Audit,
    /// Room for browsers that follow the events.
    pub followers: Arc<Semaphore>,
    /// The first matrix stands.
    pub first_round: watch::Receiver<bool>,
    /// How long a body is waited for.
    pub body_time: Duration,
    /// Ends the event streams.
    pub shutdown: CancellationToken,
}

impl App {
    /// The picture as someone may see it.
    pub fn picture(&self, caller: &Caller) -> Snapshot {
        let mut snapshot = self.hub.snapshot(caller.writable);
        snapshot.viewer = caller.viewer();
        cut::snapshot(snapshot, &caller.view, &self.around())
    }

    /// What a cut has to know besides the view, but for the count of cells.
    pub fn around(&self) -> Around {
        Around { lesson: self.lesson.namespaces(), cells: 0 }
    }

    /// The same with the count of the cells that someone sees, which takes a walk over all of them.
    pub fn around_with_cells(&self, caller: &Caller) -> Around {
        Around { cells: self.hub.count_cells(|key| cut::cell(key, &caller.view)), ..self.around() }
    }

    /// The cluster's namespaces.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.hub.namespaces()
    }
}
