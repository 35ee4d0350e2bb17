//! REST, events and the page.
//!
//! - [`security`]: who may ask, and what browsers are told to forbid.
//! - [`answer`]: the one place that turns errors into statuses.
//! - [`state`], [`policies`], [`lesson`]: the REST API; [`events`]: what changes, as it changes.
//! - [`standins`]: probes in place of pods that have none.
//! - [`yaml`]: manifests in, and lines for the fields at fault; [`names`]: what can be a name.
//! - [`page`]: the built page; [`metrics`]: for Prometheus.

pub mod answer;
pub mod events;
pub mod lesson;
pub mod metrics;
pub mod names;
pub mod page;
pub mod policies;
pub mod security;
pub mod standins;
pub mod state;
pub mod yaml;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::feed::CountVerdicts;
use crate::hub::Hub;
use crate::lesson::Lesson;
use crate::standins::StandIns;

/// The largest body that is read: about what Kubernetes takes in one object.
const MAX_BODY: usize = 2 * 1024 * 1024;

/// What every handler can reach.
#[derive(Clone)]
pub struct App {
    /// The picture.
    pub hub: Arc<Hub>,
    /// The cluster.
    pub client: kube::Client,
    /// The lesson.
    pub lesson: Arc<Lesson>,
    /// Who wants a round.
    pub asks: mpsc::Sender<oneshot::Sender<()>>,
    /// Probes in place of pods that have none.
    pub stand_ins: StandIns,
    /// The kernel's counts, if someone enforces in this process.
    pub counts: Option<CountVerdicts>,
    /// Who may ask what.
    pub gate: Arc<security::Gate>,
    /// Room for browsers that follow the events.
    pub followers: Arc<Semaphore>,
    /// The first matrix stands.
    pub first_round: watch::Receiver<bool>,
    /// Ends the event streams.
    pub shutdown: CancellationToken,
}

/// All routes, with everything that guards them.
pub fn router(app: App) -> Router {
    let changes = Router::new()
        .route("/rounds", post(state::round))
        .route("/policies", post(policies::apply))
        .route("/policies/{namespace}/{name}", axum::routing::put(policies::replace).delete(policies::delete))
        .route("/lesson/steps/{number}", post(lesson::go_to))
        .route("/stand-ins", post(standins::deploy))
        .route("/stand-ins/{run}", axum::routing::put(standins::renew).delete(standins::end))
        .route_layer(middleware::from_fn_with_state(app.clone(), security::need_token));
    let reads = Router::new()
        .route("/state", get(state::snapshot))
        .route("/events", get(events::follow))
        .route("/kernel/counts", get(state::kernel_counts))
        .route("/policies", get(policies::list))
        .route("/policies/{namespace}/{name}", get(policies::one))
        .route("/lesson", get(lesson::steps))
        .route("/openapi.json", get(state::openapi));
    Router::new()
        .nest(
            "/api/v1",
            reads.merge(changes).fallback(answer::no_such_path).method_not_allowed_fallback(answer::no_such_method),
        )
        // Anything else there is no page either.
        .route("/api", axum::routing::any(answer::no_such_path))
        .route("/api/{*rest}", axum::routing::any(answer::no_such_path))
        .route("/healthz", get(state::healthz))
        .route("/readyz", get(state::readyz))
        .route("/metrics", get(metrics::metrics))
        .fallback(page::page)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(app.clone(), security::guard))
        .layer(tower_http::catch_panic::CatchPanicLayer::new())
        .with_state(app)
}
