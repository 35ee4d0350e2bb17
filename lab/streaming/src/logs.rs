//! `…/log`: a command's output as a body that goes on as long as it does.

use std::future::Future;

use futures::TryStreamExt;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::runtime::{Output, RuntimeError};
use crate::{Body, LogQuery};

/// How much of a log is held in memory for one client.
const CHUNK: usize = 16 * 1024;

/// Serves one request for `…/log`.
///
/// Reads the query, opens the log with `open` and answers with it as `text/plain`, chunk by chunk as it comes. With
/// `follow` the body ends when the log does; a client that goes away drops the body and with it the log's reader.
/// Errors are answered with a Kubernetes `Status` as in [`crate::serve_exec`].
pub async fn serve_logs<B, F, Fut>(request: Request<B>, open: F) -> Response<Body>
where
    F: FnOnce(LogQuery) -> Fut,
    Fut: Future<Output = Result<Output, RuntimeError>>,
{
    let query = match LogQuery::parse(request.uri().query().unwrap_or_default()) {
        Ok(query) => query,
        Err(error) => return error.into(),
    };
    let limit = query.limit_bytes.unwrap_or(u64::MAX);
    match open(query).await {
        Ok(log) => {
            let frames = ReaderStream::with_capacity(log.take(limit), CHUNK).map_ok(Frame::data);
            let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            response
        }
        Err(error) => error.into(),
    }
}
