//! Server-sent events, taken up where they were lost.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use futures::stream::{self, Stream};
use http::HeaderMap;
use serde::Deserialize;
use signalbox_api::state::Event;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::App;
use super::answer::Refusal;
use crate::hub::Kept;

const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// `?after=`.
#[derive(Debug, Deserialize)]
pub struct Position {
    after: Option<u64>,
}

/// `GET /api/v1/events`.
pub async fn follow(
    State(app): State<App>,
    Query(position): Query<Position>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<SseEvent, Infallible>>>, Refusal> {
    let room = app
        .followers
        .clone()
        .try_acquire_owned()
        .map_err(|_full| Refusal::Busy("too many pages follow the events already; close one"))?;
    // A browser that connects again by itself says so by the header, whatever its first URL was.
    let header =
        headers.get("last-event-id").and_then(|value| value.to_str().ok()).and_then(|value| value.parse().ok());
    let follower = Follower {
        news: app.hub.follow(),
        writable: app.gate.has_token(&headers) || app.gate.has_opened_link(&headers),
        position: header.or(position.after),
        waiting: VecDeque::new(),
        app,
        _room: room,
    };
    let stream = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Follower {
    app: App,
    news: watch::Receiver<u64>,
    writable: bool,
    /// The last event that the client has.
    position: Option<u64>,
    waiting: VecDeque<Kept>,
    _room: OwnedSemaphorePermit,
}

impl Follower {
    async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(kept) = self.waiting.pop_front() {
                self.position = Some(kept.seq);
                return Some(SseEvent::default().id(kept.seq.to_string()).data(kept.json));
            }
            self.news.borrow_and_update();
            match self.position.and_then(|seq| self.app.hub.after(seq)) {
                Some(missed) => self.waiting = missed.into(),
                None => return Some(self.snapshot()),
            }
            if self.waiting.is_empty() {
                tokio::select! {
                    () = self.app.shutdown.cancelled() => return None,
                    changed = self.news.changed() => changed.ok()?,
                }
            }
        }
    }

    fn snapshot(&mut self) -> SseEvent {
        let snapshot = self.app.hub.snapshot(self.writable);
        self.position = Some(snapshot.seq);
        let seq = snapshot.seq.to_string();
        let json = serde_json::to_string(&Event::Snapshot(Box::new(snapshot)));
        SseEvent::default().id(seq).data(json.expect("the picture has only string keys"))
    }
}
