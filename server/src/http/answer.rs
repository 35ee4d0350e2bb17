//! The one place that turns errors into statuses.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, Uri};
use signalbox_api::error::{ApiError, FieldCause};

use crate::kube_error::sentence;

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Another name, another page, a wrong token.
    #[error("{0}")]
    Forbidden(&'static str),
    /// No token.
    #[error("{0}")]
    NoToken(&'static str),
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
    /// The body is longer than any manifest.
    #[error("the body is larger than {0} bytes; send the policies in several parts")]
    TooLarge(usize),
    /// Too many already.
    #[error("{0}")]
    Busy(&'static str),
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
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy(_) | Self::Ending => StatusCode::SERVICE_UNAVAILABLE,
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

impl From<kube::Error> for Refusal {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Cluster {
                status: status.code,
                causes: status
                    .details
                    .iter()
                    .flat_map(|details| &details.causes)
                    .map(|cause| FieldCause {
                        field: cause.field.clone(),
                        message: cause.message.clone(),
                        line: None,
                        column: None,
                    })
                    .collect(),
                message: status.message,
            },
            other => Self::ClusterAway(sentence(&other)),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let message = self.to_string();
        tracing::debug!(%status, message, "refused");
        let causes = match self {
            Self::Unreadable(causes) | Self::Cluster { causes, .. } => causes,
            Self::Forbidden(_)
            | Self::NoToken(_)
            | Self::BadRequest(_)
            | Self::NotFound(_)
            | Self::NoSuchMethod(_)
            | Self::TooLarge(_)
            | Self::Busy(_)
            | Self::ClusterAway(_)
            | Self::Kernel(_)
            | Self::Ending => Vec::new(),
        };
        (status, Json(ApiError { status: status.as_u16(), message, causes })).into_response()
    }
}

/// For paths that the API does not have.
pub async fn no_such_path(uri: Uri) -> Refusal {
    Refusal::NotFound(format!("the API has no {}; see /api/v1/openapi.json", uri.path()))
}

/// For methods that a path does not have.
pub async fn no_such_method(method: Method, uri: Uri) -> Refusal {
    Refusal::NoSuchMethod(format!("{} does not take {method}; see /api/v1/openapi.json", uri.path()))
}
