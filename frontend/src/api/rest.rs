//! Who the reader is; and the calls that change something. What these change comes back by the event stream, so their answers
//! are not read.

use gloo_net::http::{Request, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use signalbox_api::error::{ApiError, FieldCause};
use signalbox_api::session::{Rights, Session};

use crate::browser;

/// Why a call did not do what it was asked to.
#[derive(Clone, Debug, PartialEq)]
pub enum CallError {
    /// No answer came.
    Away,
    /// The server refused.
    Refused(ApiError),
}

impl CallError {
    /// One sentence.
    pub fn message(&self) -> String {
        match self {
            Self::Away => {
                "The server did not answer. Nothing was changed; try again when the connection is back.".to_owned()
            }
            Self::Refused(error) => error.message.clone(),
        }
    }

    /// The same for a text that has one line less, behind this one.
    pub fn without_line_behind(mut self, behind: usize) -> Self {
        if let Self::Refused(error) = &mut self {
            let behind = u32::try_from(behind).unwrap_or(u32::MAX);
            for line in error.causes.iter_mut().filter_map(|cause| cause.line.as_mut()) {
                *line -= u32::from(*line > behind);
            }
        }
        self
    }

    /// The fields at fault.
    pub fn causes(&self) -> &[FieldCause] {
        match self {
            Self::Away => &[],
            Self::Refused(error) => &error.causes,
        }
    }
}

/// Whether a policy is only judged, or kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `dry_run=true`: judged, not kept.
    Check,
    /// Kept.
    Apply,
}

impl Mode {
    const fn query(self) -> &'static str {
        match self {
            Self::Check => "?dry_run=true",
            Self::Apply => "",
        }
    }
}

/// Creates a policy from a manifest.
pub async fn create_policy(yaml: &str, mode: Mode) -> Result<(), CallError> {
    send_yaml(Request::post(&format!("/api/v1/policies{}", mode.query())), yaml).await
}

/// Replaces a policy by a manifest.
pub async fn replace_policy(namespace: &str, name: &str, yaml: &str, mode: Mode) -> Result<(), CallError> {
    let request = Request::put(&format!("/api/v1/policies/{namespace}/{name}{}", mode.query()));
    send_yaml(request, yaml).await
}

/// Deletes a policy.
pub async fn delete_policy(namespace: &str, name: &str) -> Result<(), CallError> {
    outcome(authorized(Request::delete(&format!("/api/v1/policies/{namespace}/{name}"))).send().await).await
}

/// Brings the cluster to a step of the lesson.
pub async fn go_to_step(number: u32) -> Result<(), CallError> {
    outcome(authorized(Request::post(&format!("/api/v1/lesson/steps/{number}"))).send().await).await
}

/// Asks for a round of probes now.
pub async fn ask_for_round() -> Result<(), CallError> {
    outcome(authorized(Request::post("/api/v1/rounds")).send().await).await
}

/// Whom the server takes the reader for.
pub async fn session() -> Result<Session, CallError> {
    read(authorized(Request::get("/api/v1/session"))).await
}

/// Whom the server takes the bearer of a token for.
pub async fn session_of(token: &str) -> Result<Session, CallError> {
    read(Request::get("/api/v1/session").header("authorization", &format!("Bearer {token}"))).await
}

/// What the reader may change.
pub async fn rights() -> Result<Rights, CallError> {
    read(authorized(Request::get("/api/v1/rights"))).await
}

async fn read<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, CallError> {
    let answer = request.send().await.map_err(|_| CallError::Away)?;
    if !answer.ok() {
        return Err(refusal(answer).await);
    }
    answer.json().await.map_err(|_| CallError::Away)
}

/// With the token, if the page has one.
pub fn authorized(request: RequestBuilder) -> RequestBuilder {
    match browser::token() {
        Some(token) => request.header("authorization", &format!("Bearer {token}")),
        None => request,
    }
}

async fn send_yaml(request: RequestBuilder, yaml: &str) -> Result<(), CallError> {
    let request = authorized(request).header("content-type", "application/yaml").body(yaml);
    match request {
        Ok(request) => outcome(request.send().await).await,
        Err(_) => Err(CallError::Away),
    }
}

async fn outcome(answer: Result<Response, gloo_net::Error>) -> Result<(), CallError> {
    let Ok(answer) = answer else { return Err(CallError::Away) };
    if answer.ok() { Ok(()) } else { Err(refusal(answer).await) }
}

/// What the server says where it refuses.
pub async fn refusal(answer: Response) -> CallError {
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    CallError::Refused(serde_json::from_str(&text).unwrap_or_else(|_| ApiError {
        status,
        message: if text.trim().is_empty() { format!("The server answered with status {status}.") } else { text },
        causes: Vec::new(),
    }))
}
