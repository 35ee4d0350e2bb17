//! `…/exec`: negotiates the protocol, starts the command, and joins the two.

#[cfg(test)]
mod tests;

use std::future::Future;

use http::{Extensions, HeaderMap, Request, Response, StatusCode, Version, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use crate::relay::Wanted;
use crate::runtime::{ExecSession, RuntimeError};
use crate::{Body, ExecQuery, spdy, status, websocket};

/// Serves one request for `…/exec` (a pod's, or an external host's).
///
/// Reads the query, starts the command with `start`, and answers `101 Switching Protocols`. From then on a task of its
/// own carries bytes between the client and the command until the command ends or the client goes away, which drops the
/// [`ExecSession`] and thereby ends the command. Clients speak WebSocket (`GET`; subprotocols `v5.channel.k8s.io`,
/// `v4.channel.k8s.io`) or SPDY/3.1 (`POST` or `GET`; `X-Stream-Protocol-Version` v4 down to v1).
///
/// Whatever goes wrong before the upgrade is answered with a Kubernetes `Status`: 400 for a bad query, for a pod that
/// does not run or for a request without upgrade, 403 where no protocol version is common, 404 where `start` finds
/// nothing, 500 for the machine's own errors.
///
/// The request must carry hyper's `OnUpgrade` extension (it does under hyper 1 and axum 0.8, served over HTTP/1.1 **with
/// upgrades**: `serve_connection_with_upgrades`, `axum::serve` and `axum-server` do that). The caller has checked who
/// asks, and the `Origin`.
pub async fn serve_exec<B, F, Fut>(mut request: Request<B>, start: F) -> Response<Body>
where
    F: FnOnce(ExecQuery) -> Fut,
    Fut: Future<Output = Result<ExecSession, RuntimeError>>,
{
    let query = match ExecQuery::parse(request.uri().query().unwrap_or_default()) {
        Ok(query) => query,
        Err(error) => return error.into(),
    };
    let protocol = match Protocol::negotiate(request.version(), request.headers()) {
        Ok(protocol) => protocol,
        Err(refusal) => return *refusal,
    };
    let Some(upgrade) = upgrade_of(request.extensions_mut()) else {
        return status::failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            "this connection cannot be upgraded: it is not served with upgrades",
        );
    };
    let wanted = Wanted { stdout: query.stdout, stderr: query.stderr };
    let session = match start(query).await {
        Ok(session) => session,
        Err(error) => return error.into(),
    };
    let response = protocol.response();
    tokio::spawn(async move {
        let io = match upgrade.await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => {
                tracing::debug!(%error, "exec: the client went away before the upgrade");
                return;
            }
        };
        protocol.serve(io, session, wanted).await;
    });
    response
}

fn upgrade_of(extensions: &mut Extensions) -> Option<OnUpgrade> {
    extensions.remove()
}

enum Protocol {
    WebSocket(websocket::Handshake),
    Spdy(spdy::Handshake),
}

impl Protocol {
    fn negotiate(version: Version, headers: &HeaderMap) -> Result<Self, Box<Response<Body>>> {
        let bad = |message: &str| Box::new(status::failure(StatusCode::BAD_REQUEST, "BadRequest", message));
        if version != Version::HTTP_11 {
            return Err(bad("exec needs HTTP/1.1: no other version can be upgraded"));
        }
        if !has_token(headers, header::CONNECTION, "upgrade") {
            return Err(bad("Upgrade request required"));
        }
        if has_token(headers, header::UPGRADE, "websocket") {
            return websocket::Handshake::read(headers).map(Self::WebSocket).map_err(|message| bad(&message));
        }
        if has_token(headers, header::UPGRADE, "SPDY/3.1") {
            return spdy::Handshake::read(headers).map(Self::Spdy);
        }
        Err(bad("unable to upgrade: WebSocket and SPDY/3.1 are known"))
    }

    fn response(&self) -> Response<Body> {
        match self {
            Self::WebSocket(handshake) => handshake.response(),
            Self::Spdy(handshake) => handshake.response(),
        }
    }

    async fn serve(self, io: TokioIo<Upgraded>, session: ExecSession, wanted: Wanted) {
        match self {
            Self::WebSocket(handshake) => handshake.serve(io, session, wanted).await,
            Self::Spdy(handshake) => handshake.serve(io, session, wanted).await,
        }
    }
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}
