//! The one place that turns errors into statuses.

use axum::Json;
use axum::extract::OriginalUri;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use signalbox_api::error::{ApiError, FieldCause};

use crate::access::keeper::NotLetIn;
use crate::access::reviews::NoReview;
use crate::kube_error::sentence;

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Another name, another page, a right that is missing.
    #[error("{0}")]
    Forbidden(String),
    /// No token, or a wrong one.
    #[error("{0}")]
    NoToken(String),
    /// The request itself is wrong.
    #[error("{0}")]
    BadRequest(String),
    /// The YAML cannot be read.
    #[error("the manifest cannot be read: {}", .0.first().map_or("it is empty", |cause| cause.message.as_str()))]
    Unreadable(Vec<FieldCause>),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The path is known, the method is not.
    #[error("{0}")]
    NoSuchMethod(String),
    /// Somebody else was faster.
    #[error("{0}")]
    Conflict(String),
    /// The body is longer than any manifest.
    #[error("the body is larger than {0} bytes; send the policies in several parts")]
    TooLarge(usize),
    /// Too many already.
    #[error("{0}")]
    Busy(&'static str),
    /// The body did not come.
    #[error("the body did not come within {0} s")]
    TooSlow(u64),
    /// Who asks, or what they may do, cannot be told.
    #[error("{0}")]
    Unjudged(String),
    /// What nobody would know of is not done.
    #[error("nothing was changed: the audit log cannot be written: {0}")]
    NoAudit(String),
    /// The API server refused, with the fields at fault.
    #[error("{message}")]
    Cluster {
        /// HTTP status.
        status: u16,
        /// The API server's words.
        message: String,
        /// The fields.
        causes: Vec<FieldCause>,
    },
    /// The API server could not be asked.
    #[error("the Kubernetes API did not answer: {0}")]
    ClusterAway(String),
    /// No probe could be started inside of a pod.
    #[error("nothing was tried: {0}")]
    NotTried(String),
    /// The kernel's counts could not be read.
    #[error("the kernel's counts cannot be read: {0}")]
    Kernel(String),
    /// The server is ending.
    #[error("the server is ending")]
    Ending,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NoToken(_) => StatusCode::UNAUTHORIZED,
            Self::BadRequest(_) | Self::Unreadable(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::NoSuchMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Busy(_) | Self::Unjudged(_) | Self::NoAudit(_) | Self::NotTried(_) | Self::Ending => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Cluster { status, .. } => {
                // A refusal of the server's own credentials is not one of the client's.
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
                if status == StatusCode::UNAUTHORIZED || !(status.is_client_error() || status.is_server_error()) {
                    StatusCode::BAD_GATEWAY
                } else {
                    status
                }
            }
            Self::ClusterAway(_) => StatusCode::BAD_GATEWAY,
            Self::Kernel(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<NotLetIn> for Refusal {
    fn from(why: NotLetIn) -> Self {
        match why {
            NotLetIn::NoToken(why) => Self::NoToken(why),
            NotLetIn::Refused(why) => Self::Forbidden(why),
            NotLetIn::Unjudged(why) => why.into(),
        }
    }
}

impl From<NoReview> for Refusal {
    fn from(why: NoReview) -> Self {
        Self::Unjudged(why.to_string())
    }
}

impl From<kube::Error> for Refusal {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                Self::Cluster { status: status.code, causes: causes(&status), message: status.message }
            }
            other => Self::ClusterAway(sentence(&other)),
        }
    }
}

/// The fields at fault. Strict decoding names them in its message alone.
fn causes(status: &kube::core::Status) -> Vec<FieldCause> {
    let cause = |field: &str, message: &str| FieldCause {
        field: field.to_owned(),
        message: message.to_owned(),
        line: None,
        column: None,
    };
    let listed = status.details.iter().flat_map(|details| &details.causes);
    let mut causes: Vec<FieldCause> = listed.map(|listed| cause(&listed.field, &listed.message)).collect();
    if causes.is_empty()
        && let Some((_, errors)) = status.message.split_once("strict decoding error: ")
    {
        causes.extend(errors.split(", ").filter_map(|error| {
            let (what, rest) = error.split_once(" field \"")?;
            let field = rest.strip_suffix('"')?;
            Some(cause(field, &format!("{what} field")))
        }));
    }
    causes
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let message = self.to_string();
        // Who may not is news for whoever runs the server; what was sent wrongly is the sender's affair.
        if matches!(self, Self::Forbidden(_) | Self::NoToken(_) | Self::TooLarge(_) | Self::TooSlow(_) | Self::Busy(_))
        {
            tracing::info!(%status, message, "refused");
        } else {
            tracing::debug!(%status, message, "refused");
        }
        let causes = match self {
            Self::Unreadable(causes) | Self::Cluster { causes, .. } => causes,
            Self::Forbidden(_)
            | Self::NoToken(_)
            | Self::BadRequest(_)
            | Self::NotFound(_)
            | Self::NoSuchMethod(_)
            | Self::Conflict(_)
            | Self::TooLarge(_)
            | Self::TooSlow(_)
            | Self::Unjudged(_)
            | Self::NoAudit(_)
            | Self::Busy(_)
            | Self::NotTried(_)
            | Self::ClusterAway(_)
            | Self::Kernel(_)
            | Self::Ending => Vec::new(),
        };
        let mut response = (status, Json(ApiError { status: status.as_u16(), message, causes })).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// An error that a handler's arguments gave, such as a number that is none or a body that is no text, in the shape of all others.
pub async fn in_shape(response: Response) -> Response {
    let status = response.status();
    let is_json =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !(status.is_client_error() || status.is_server_error()) || is_json {
        return response;
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return Refusal::TooLarge(super::MAX_BODY).into_response();
    }
    // All of these texts are short; what is not is none of them.
    let text = axum::body::to_bytes(response.into_body(), 4 * 1024).await.unwrap_or_default();
    let message = String::from_utf8_lossy(&text).into_owned();
    (status, Json(ApiError { status: status.as_u16(), message, causes: Vec::new() })).into_response()
}

/// For paths that the API does not have.
pub async fn no_such_path(OriginalUri(uri): OriginalUri) -> Refusal {
    Refusal::NotFound(format!("the API has no {}; see /api/v1/openapi.json", uri.path()))
}

/// For methods that a path does not have.
pub async fn no_such_method(method: Method, OriginalUri(uri): OriginalUri) -> Refusal {
    Refusal::NoSuchMethod(format!("{} does not take {method}; see /api/v1/openapi.json", uri.path()))
}
