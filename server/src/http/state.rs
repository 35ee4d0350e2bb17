//! The whole picture, rounds on demand, the kernel's counts, and the server's own condition.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{StatusCode, header};
use signalbox_api::kernel::VerdictCount;
use signalbox_api::rest::RoundReport;
use signalbox_api::state::Snapshot;
use tokio::sync::oneshot;

use super::App;
use super::answer::Refusal;
use super::caller::Caller;
use super::changes::{self, Deed, Done};
use crate::access::cut;

/// `GET /api/v1/state`.
pub async fn snapshot(State(app): State<App>, Extension(caller): Extension<Caller>) -> Json<Snapshot> {
    Json(app.picture(&caller))
}

/// `POST /api/v1/rounds`: answers when the round has ended.
pub async fn round(State(app): State<App>, Extension(caller): Extension<Caller>) -> Result<Json<RoundReport>, Refusal> {
    changes::judge(&app, &caller, &Deed::Round).await?;
    let (asks, shutdown) = (app.asks.clone(), app.shutdown.clone());
    let work = async move {
        let (asker, answer) = oneshot::channel();
        asks.send(asker).await.map_err(|_closed| Refusal::Ending)?;
        tokio::select! {
            () = shutdown.cancelled() => return Err(Refusal::Ending),
            answer = answer => answer.map_err(|_closed| Refusal::Ending)?,
        }
        Ok(Done::default())
    };
    changes::carry_out(&app, &caller, Deed::Round, work).await?;
    let Snapshot { round, cells, endpoints, dns, .. } = app.picture(&caller);
    Ok(Json(RoundReport { round, cells, endpoints, dns }))
}

/// `GET /api/v1/kernel/counts`.
pub async fn kernel_counts(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<VerdictCount>>, Refusal> {
    let Some(counts) = &app.counts else { return Ok(Json(Vec::new())) };
    let counts = counts().await.map_err(|why| Refusal::Kernel(caller.view.told(&why)))?;
    if caller.view.is_everything() {
        return Ok(Json(counts));
    }
    let seen = app.picture(&caller).endpoints;
    Ok(Json(cut::counts(counts, &caller.view, &seen)))
}

/// `GET /healthz`: the process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the first matrix stands. What is wrong with the server's sight is told, and shown on the page, which has to be
/// reached for that.
pub async fn readyz(State(app): State<App>) -> Response {
    let problems = app.hub.problems();
    if !*app.first_round.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the first matrix does not stand yet\n").into_response();
    }
    if problems.is_empty() {
        return "ok\n".into_response();
    }
    // Whoever asks here need not say who they are.
    if app.keeper.is_some() {
        return "ok\nthere are problems; the page shows them\n".into_response();
    }
    format!("ok\n{}\n", problems.join("\n")).into_response()
}

/// `GET /api/v1/openapi.json`.
pub async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json"))
}
