//! Stand-ins on demand.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use signalbox_api::rest::{StandInReport, StandInWish};
use tokio::sync::oneshot;

use super::App;
use super::answer::Refusal;
use super::caller::Caller;
use super::changes::{self, Deed, Done};
use super::names;
use crate::standins::Error;

/// `POST /api/v1/stand-ins`.
pub async fn deploy(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Json(wish): Json<StandInWish>,
) -> Result<(StatusCode, Json<StandInReport>), Refusal> {
    if !names::is_label(&wish.namespace) {
        return Err(Refusal::BadRequest(format!("namespace: {}", names::LABEL)));
    }
    let deed = Deed::StandIns { verb: "create", namespace: wish.namespace.clone(), run: wish.run.clone() };
    changes::judge(&app, &caller, &deed).await?;
    let (teller, told) = oneshot::channel();
    let stand_ins = app.stand_ins.clone();
    let work = async move {
        let report = stand_ins.deploy(&wish).await?;
        // Where the asker has gone, the run ends by itself.
        let _gone = teller.send(report);
        Ok(NOTHING)
    };
    changes::carry_out(&app, &caller, deed, work).await?;
    let report = told.await.map_err(|_closed| Refusal::Ending)?;
    Ok((StatusCode::CREATED, Json(report)))
}

/// `PUT /api/v1/stand-ins/{run}`: it lasts for another minute.
pub async fn renew(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
) -> Result<StatusCode, Refusal> {
    may(&app, &caller, "update", &run).await?;
    // It changes nothing that the line in the audit log for its creation does not tell.
    if app.stand_ins.renew(&run).await { Ok(StatusCode::NO_CONTENT) } else { Err(no_run(&run)) }
}

/// `DELETE /api/v1/stand-ins/{run}`.
pub async fn end(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
) -> Result<StatusCode, Refusal> {
    let deed = may(&app, &caller, "delete", &run).await?;
    let stand_ins = app.stand_ins.clone();
    let work = async move { if stand_ins.end(&run).await { Ok(NOTHING) } else { Err(no_run(&run)) } };
    changes::carry_out(&app, &caller, deed, work).await?;
    Ok(StatusCode::NO_CONTENT)
}

const NOTHING: Done = Done { change: None, before: None, outcome: None };

/// Judges in each namespace that the run is in. Whoever may not is not told whether there is such a run.
async fn may(app: &App, caller: &Caller, verb: &'static str, run: &str) -> Result<Deed, Refusal> {
    let namespaces = app.stand_ins.namespaces(run).await;
    let deed = |namespace: String| Deed::StandIns { verb, namespace, run: run.to_owned() };
    for namespace in &namespaces {
        match changes::judge(app, caller, &deed(namespace.clone())).await {
            Err(Refusal::Forbidden(_)) => return Err(no_run(run)),
            judged => judged?,
        }
    }
    namespaces.into_iter().next().map(deed).ok_or_else(|| no_run(run))
}

fn no_run(run: &str) -> Refusal {
    Refusal::NotFound(format!("no run {run:?} has stand-ins"))
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Wish(_) => Self::BadRequest(error.to_string()),
            Error::NoModel { .. } | Error::NoJobs => Self::NotFound(error.to_string()),
            Error::NotAlike { .. } => Self::Conflict(error.to_string()),
            Error::TooMany => Self::Busy("there may be 64 stand-ins at a time; wait until other runs have ended"),
            Error::Cluster { source: kube::Error::Api(status), what } => Self::Cluster {
                status: status.code,
                message: format!("cannot {what}: {}", status.message),
                causes: Vec::new(),
            },
            Error::Cluster { .. } => Self::ClusterAway(error.to_string()),
            Error::Ending => Self::Ending,
        }
    }
}
