//! The whole picture, rounds on demand, the kernel's counts, and the server's own condition.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use signalbox_api::kernel::VerdictCount;
use signalbox_api::rest::RoundReport;
use signalbox_api::state::Snapshot;
use tokio::sync::oneshot;

use super::App;
use super::answer::Refusal;

/// `GET /api/v1/state`.
pub async fn snapshot(State(app): State<App>, headers: HeaderMap) -> Json<Snapshot> {
    Json(app.hub.snapshot(app.gate.has_token(&headers) || app.gate.has_opened_link(&headers)))
}

/// `POST /api/v1/rounds`: answers when the round has ended.
pub async fn round(State(app): State<App>) -> Result<Json<RoundReport>, Refusal> {
    let (asker, answer) = oneshot::channel();
    app.asks.send(asker).await.map_err(|_closed| Refusal::Ending)?;
    tokio::select! {
        () = app.shutdown.cancelled() => return Err(Refusal::Ending),
        answer = answer => answer.map_err(|_closed| Refusal::Ending)?,
    }
    let Snapshot { round, cells, endpoints, dns, .. } = app.hub.snapshot(false);
    Ok(Json(RoundReport { round, cells, endpoints, dns }))
}

/// `GET /api/v1/kernel/counts`.
pub async fn kernel_counts(State(app): State<App>) -> Result<Json<Vec<VerdictCount>>, Refusal> {
    let Some(counts) = &app.counts else { return Ok(Json(Vec::new())) };
    counts().await.map(Json).map_err(Refusal::Kernel)
}

/// `GET /healthz`: the process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the first matrix stands. What is wrong with the server's sight is told, and shown on the page, which has to be
/// reached for that.
pub async fn readyz(State(app): State<App>) -> Response {
    let problems = app.hub.snapshot(false).problems;
    if !*app.first_round.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the first matrix does not stand yet\n").into_response();
    }
    std::iter::once("ok")
        .chain(problems.iter().map(String::as_str))
        .map(|line| format!("{line}\n"))
        .collect::<String>()
        .into_response()
}

/// `GET /api/v1/openapi.json`.
pub async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json"))
}
