//! Watches: a stream of changes, one JSON object a line.
//!
//! A watch reads the store's log from the revision it stands at. It holds no queue of its own: who reads too slowly for the
//! log gets 410 and lists again, as with any Kubernetes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, header};
use rand::Rng;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, Interval, interval_at, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::kinds::Resource;
use crate::negotiate::{Accepted, Shape};
use crate::selector::Selector;
use crate::status::Status;
use crate::store::{Change, Store};
use crate::table::Headers;

/// How often a watch that asked for bookmarks says how far it is.
pub(crate) const BOOKMARK: Duration = Duration::from_secs(30);

/// What is watched, and from when on.
pub(crate) struct Watch {
    pub(crate) resource: &'static Resource,
    pub(crate) namespace: Option<String>,
    /// Set where the path names one object.
    pub(crate) name: Option<String>,
    pub(crate) selector: Selector,
    pub(crate) start: Start,
    /// How often it is told how far it is, if it asked for that.
    pub(crate) bookmarks: Option<Duration>,
    pub(crate) timeout: Option<u64>,
    pub(crate) accepted: Accepted,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With all objects there are, as if they were new.
    Initial,
    /// The same, and a bookmark that says when that was all.
    InitialWithEnd,
    /// After this revision.
    After(u64),
}

/// Answers with the stream.
pub(crate) fn respond(
    watch: Watch,
    store: Arc<Store>,
    slot: OwnedSemaphorePermit,
    shutdown: CancellationToken,
) -> Response {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, Infallible>>(16);
    let seconds = watch.timeout.unwrap_or_else(|| rand::rng().random_range(1800..3600));
    let deadline = Instant::now() + Duration::from_secs(seconds.min(86_400));
    tokio::spawn(async move {
        let _slot = slot;
        let mut stream = Stream { watch, store, sender, headers: Headers::Shown };
        tokio::select! {
            _ = stream.run() => {}
            () = sleep_until(deadline) => {}
            () = shutdown.cancelled() => {}
        }
    });
    let mut response = Body::from_stream(ReceiverStream::new(receiver)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The next tick; never, without an interval.
async fn next(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => _ = interval.tick().await,
        None => std::future::pending().await,
    }
}

/// The client has hung up.
struct Gone;

struct Stream {
    watch: Watch,
    store: Arc<Store>,
    sender: mpsc::Sender<Result<Bytes, Infallible>>,
    headers: Headers,
}

impl Stream {
    async fn run(&mut self) -> Result<(), Gone> {
        let mut wake = self.store.subscribe();
        let mut since = match self.watch.start {
            Start::After(revision) => revision,
            Start::Initial | Start::InitialWithEnd => self.initial().await?,
        };
        let sender = self.sender.clone();
        let every = self.watch.bookmarks;
        let mut bookmarks = every.map(|every| interval_at(Instant::now() + every, every));
        loop {
            wake.borrow_and_update();
            let Some((revision, changes)) = self.store.changes(self.watch.resource, since) else {
                let status = Status::expired(format!("too old resource version: {since}"));
                return self.send(json!({"type": "ERROR", "object": status.body()})).await;
            };
            since = revision;
            for change in &changes {
                if let Some(event) = self.event(change) {
                    self.send(event).await?;
                }
            }
            tokio::select! {
                changed = wake.changed() => changed.map_err(|_| Gone)?,
                () = sender.closed() => return Err(Gone),
                () = next(&mut bookmarks) => {
                    self.bookmark(since, json!({})).await?;
                }
            }
        }
    }

    async fn initial(&mut self) -> Result<u64, Gone> {
        let (revision, objects) = self.store.list(self.watch.resource, self.watch.namespace.as_deref());
        for object in objects {
            if self.selects(&object) {
                let event = self.line("ADDED", &object);
                self.send(event).await?;
            }
        }
        if self.watch.start == Start::InitialWithEnd {
            self.bookmark(revision, json!({"annotations": {"k8s.io/initial-events-end": "true"}})).await?;
        }
        Ok(revision)
    }

    async fn bookmark(&mut self, revision: u64, mut metadata: Value) -> Result<(), Gone> {
        metadata["resourceVersion"] = revision.to_string().into();
        metadata["creationTimestamp"] = Value::Null;
        let resource = self.watch.resource;
        let object = json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata});
        let event = match self.watch.accepted.shape {
            Shape::Whole => json!({"type": "BOOKMARK", "object": object}),
            Shape::Table { .. } | Shape::Metadata { .. } => self.line("BOOKMARK", &object),
        };
        self.send(event).await
    }

    fn selects(&self, object: &Value) -> bool {
        self.watch.name.as_ref().is_none_or(|name| object["metadata"]["name"] == *name)
            && self.watch.selector.matches(object)
    }

    /// What a change is to those who see only a selection.
    fn event(&mut self, change: &Change) -> Option<Value> {
        if self.watch.namespace.as_ref().is_some_and(|namespace| change.key.namespace != *namespace) {
            return None;
        }
        let before = change.old.as_ref().is_some_and(|old| self.selects(old));
        let after = !change.deleted && self.selects(&change.new);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(self.line("ADDED", &change.new)),
            (true, true) => Some(self.line("MODIFIED", &change.new)),
            (true, false) if change.deleted => Some(self.line("DELETED", &change.new)),
            (true, false) => {
                // Its last state that was selected, at the revision at which it left.
                let mut last = change.old.as_deref().cloned().unwrap_or_default();
                last["metadata"]["resourceVersion"] = change.revision.to_string().into();
                Some(self.line("DELETED", &last))
            }
        }
    }

    fn line(&mut self, kind: &str, object: &Value) -> Value {
        let object = self.watch.accepted.one(self.watch.resource, object, self.headers);
        self.headers = Headers::Omitted;
        json!({"type": kind, "object": object})
    }

    async fn send(&self, event: Value) -> Result<(), Gone> {
        let mut bytes = serde_json::to_vec(&event).expect("a JSON value has only text keys");
        bytes.push(b'\n');
        self.sender.send(Ok(bytes.into())).await.map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::journal::{Journal, Remembered};
    use crate::kinds::core_kind;
    use crate::store::Key;

    #[tokio::test]
    async fn an_idle_watch_is_told_again_and_again_how_far_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let (journal, _) = Journal::open(folder.path(), true).expect("a journal");
        let store = Arc::new(Store::new(journal, Remembered::default()));
        let resource = core_kind("Pod");
        let watch = Watch {
            resource,
            namespace: None,
            name: None,
            selector: Selector::parse(resource, None, None).expect("everything"),
            start: Start::After(1),
            bookmarks: Some(Duration::from_millis(10)),
            timeout: None,
            accepted: Accepted::json(),
        };
        let slot = Arc::new(Semaphore::new(1)).acquire_owned().await.expect("a slot");
        let answer = respond(watch, store.clone(), slot, CancellationToken::new());
        let mut lines = answer.into_body().into_data_stream();
        let mut event = async || -> Value {
            serde_json::from_slice(&lines.next().await.expect("a line").expect("no error")).expect("JSON")
        };
        let bookmark = |revision: &str| {
            json!({"type": "BOOKMARK", "object": {
                "kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": revision, "creationTimestamp": null},
            }})
        };
        assert_eq!([event().await, event().await], [bookmark("1"), bookmark("1")]);
        // What changes is of another kind: nothing is told of it, but how far the watch is.
        let put = |resource, name: &str| {
            let key = Key::new(resource, "n", name);
            let written = store.write(false, |open| Ok(open.put(&key, json!({"metadata": {"name": name}}))));
            written.expect("written");
        };
        put(core_kind("Service"), "s");
        while event().await == bookmark("1") {}
        assert_eq!(event().await, bookmark("2"));
        put(resource, "p");
        let mut seen = event().await;
        while seen == bookmark("2") {
            seen = event().await;
        }
        assert_eq!((&seen["type"], &seen["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("p")));
        assert_eq!(event().await, bookmark("3"));
    }
}
