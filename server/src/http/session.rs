//! Whom the server takes somebody for, and what they may change.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::{Extension, Json};
use http::HeaderMap;
use signalbox_api::session::{AccessMode, PolicyVerb, Rights, Session};

use super::App;
use super::answer::Refusal;
use super::caller::{Caller, Who};
use super::security;
use crate::access::proxy::Peer;

/// `GET /api/v1/session`: who does not say who they are is told how to.
pub async fn session(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Extension(id): Extension<security::RequestId>,
    headers: HeaderMap,
) -> Result<Json<Session>, Refusal> {
    if app.keeper.is_none() {
        return Ok(Json(Session { access: AccessMode::Loopback, viewer: None }));
    }
    let viewer = match security::identify(&app, &peer, id, &headers).await {
        Ok(caller) => caller.viewer(),
        Err(Refusal::NoToken(_)) if !headers.contains_key(http::header::AUTHORIZATION) => None,
        Err(refusal) => return Err(refusal),
    };
    Ok(Json(Session { access: AccessMode::Kubernetes, viewer }))
}

/// `GET /api/v1/rights`.
pub async fn rights(State(app): State<App>, Extension(caller): Extension<Caller>) -> Result<Json<Rights>, Refusal> {
    let namespaces: Vec<String> =
        app.namespaces().into_iter().filter(|namespace| caller.view.namespace(namespace)).collect();
    match (&app.keeper, &caller.who) {
        (Some(keeper), Who::User(person, _)) => {
            let mut rights = keeper.rights(person, &namespaces).await?;
            if app.probes.are_allowed() {
                rights.probes_in_pods = keeper.probes_in_pods(person, &namespaces).await?;
            }
            Ok(Json(rights))
        }
        (_, Who::Anyone) | (None, _) => {
            let all = || PolicyVerb::ALL.into_iter().filter(|_| caller.writable).collect();
            let may_probe = caller.writable && app.probes.are_allowed();
            let probes_in_pods = namespaces.iter().filter(|_| may_probe).cloned().collect();
            let policies: BTreeMap<_, _> = namespaces.into_iter().map(|namespace| (namespace, all())).collect();
            Ok(Json(Rights { changes: caller.writable, rounds: caller.writable, policies, probes_in_pods }))
        }
    }
}
