//! Stand-ins on demand.

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use signalbox_api::rest::{StandInReport, StandInWish};

use super::App;
use super::answer::Refusal;
use super::names;
use crate::standins::Error;

/// `POST /api/v1/stand-ins`.
pub async fn deploy(
    State(app): State<App>,
    Json(wish): Json<StandInWish>,
) -> Result<(StatusCode, Json<StandInReport>), Refusal> {
    if !names::is_label(&wish.namespace) {
        return Err(Refusal::BadRequest(format!("namespace: {}", names::LABEL)));
    }
    Ok((StatusCode::CREATED, Json(app.stand_ins.deploy(&wish).await?)))
}

/// `PUT /api/v1/stand-ins/{run}`: it lasts for another minute.
pub async fn renew(State(app): State<App>, Path(run): Path<String>) -> Result<StatusCode, Refusal> {
    if app.stand_ins.renew(&run).await { Ok(StatusCode::NO_CONTENT) } else { Err(no_run(&run)) }
}

/// `DELETE /api/v1/stand-ins/{run}`.
pub async fn end(State(app): State<App>, Path(run): Path<String>) -> Result<StatusCode, Refusal> {
    if app.stand_ins.end(&run).await { Ok(StatusCode::NO_CONTENT) } else { Err(no_run(&run)) }
}

fn no_run(run: &str) -> Refusal {
    Refusal::NotFound(format!("no run {run:?} has stand-ins"))
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Wish(_) => Self::BadRequest(error.to_string()),
            Error::NoModel { .. } => Self::NotFound(error.to_string()),
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
