//! Kubernetes `Status` objects: what a client reads when something does not work, and how a command ended.

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use crate::Body;
use crate::query::QueryError;
use crate::runtime::{ExitStatus, RuntimeError};

/// An answer with a `Status` of kind `Failure` as its body.
pub fn failure(code: StatusCode, reason: &str, message: &str) -> http::Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {},
        "status": "Failure", "message": message, "reason": reason, "code": code.as_u16(),
    });
    let mut response = http::Response::new(full(status.to_string()));
    *response.status_mut() = code;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// A body that is there at once.
pub fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

impl From<QueryError> for http::Response<Body> {
    fn from(error: QueryError) -> Self {
        failure(StatusCode::BAD_REQUEST, "BadRequest", &error.to_string())
    }
}

impl From<RuntimeError> for http::Response<Body> {
    fn from(error: RuntimeError) -> Self {
        let (code, reason) = match &error {
            RuntimeError::NotFound(_) => (StatusCode::NOT_FOUND, "NotFound"),
            RuntimeError::NotRunning(..) => (StatusCode::BAD_REQUEST, "BadRequest"),
            RuntimeError::Io { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        };
        failure(code, reason, &error.to_string())
    }
}

/// What the error channel carries since `v4.channel.k8s.io`: how the command ended.
pub fn of_exit(exit: &ExitStatus) -> Value {
    let non_zero = |code: i32, message: String| {
        json!({
            "metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        })
    };
    match exit {
        ExitStatus::Code(0) => json!({"metadata": {}, "status": "Success"}),
        ExitStatus::Code(code) => {
            non_zero(*code, format!("command terminated with non-zero exit code: exit status {code}"))
        }
        // As a shell counts: kubectl can only hand on a number.
        ExitStatus::Signal(signal) => {
            non_zero(128 + signal, format!("command terminated by signal {signal}: exit status {}", 128 + signal))
        }
        ExitStatus::Failed(why) => json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500, "message": why,
        }),
    }
}
