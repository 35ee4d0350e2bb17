//! The API's description of itself, for clients that check manifests and patches before they send them.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};

use crate::negotiate::Accepted;
use crate::status::Status;

mod document;
mod gnostic;

/// Clients ask for `…spec.v2@v1.0+protobuf`, yet `@` may not stand in a media type: the answer's has a dot in its place, as
/// Kubernetes' own answer has.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Answers `/openapi/…`; `path` is what follows.
pub(crate) fn respond(path: &[&str], headers: &HeaderMap) -> Result<Response, Status> {
    match path {
        ["v2"] => {
            let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let protobuf = accept.split(',').any(|range| {
                range
                    .split(';')
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .starts_with("application/com.github.proto-openapi.spec.v2")
            });
            if protobuf {
                let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(PROTOBUF))];
                return Ok((kind, gnostic::encoded()).into_response());
            }
            Ok(Accepted::parse(headers, None)?.respond(http::StatusCode::OK, document::v2()))
        }
        ["v3"] => Ok(Accepted::json().respond(http::StatusCode::OK, &document::v3_index())),
        ["v3", "api", version] => v3("", version),
        ["v3", "apis", group, version] => v3(group, version),
        _ => Err(Status::no_such_path()),
    }
}

fn v3(group: &str, version: &str) -> Result<Response, Status> {
    let document = document::v3(group, version).ok_or_else(Status::no_such_path)?;
    Ok(Accepted::json().respond(http::StatusCode::OK, document))
}
