//! Exec and logs between a Kubernetes client and a pod's processes.
//!
//! - [`runtime`]: what a node's runtime offers, and what an API server asks of it: the seam between `lab/apiserver` and
//!   `lab/node`, as the container runtime interface is between an API server and a kubelet.
//! - [`serve_exec`]: one request for `…/exec`, over WebSocket or SPDY/3.1.
//! - [`serve_logs`]: one request for `…/log`.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use signalbox_lab_streaming::{Body, ExecQuery, serve_exec};
//! # use signalbox_lab_streaming::runtime::{PodRuntime, Target};
//! async fn exec(runtime: Arc<dyn PodRuntime>, request: http::Request<Body>) -> http::Response<Body> {
//!     serve_exec(request, |query: ExecQuery| async move {
//!         let target = Target::Pod { namespace: "backend".into(), name: "dbsvc-0".into(), container: query.container };
//!         runtime.exec(target, query.request).await
//!     })
//!     .await
//! }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed"))]

mod exec;
mod logs;
mod query;
mod relay;
pub mod runtime;
mod spdy;
mod status;
mod websocket;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

pub use exec::serve_exec;
pub use logs::serve_logs;
pub use query::{ExecQuery, LogQuery, QueryError};

/// What answers are made of. In axum: `response.map(axum::body::Body::new)`.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;
