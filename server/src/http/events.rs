//! Server-sent events, taken up where they were lost.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::{self, State};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use futures::stream::{self, Stream};
use http::HeaderMap;
use serde::Deserialize;
use signalbox_api::state::Event;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::App;
use super::answer::Refusal;
use super::caller::{Caller, Who};
use crate::access::cut;
use crate::access::keeper::FollowersPlace;
use crate::hub::Kept;

const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How often it is looked again who follows, and what they may see, where nothing happens.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// And how often at most.
const LOOK_AT_MOST: Duration = Duration::from_millis(100);

/// `?after=`.
#[derive(Debug, Deserialize)]
pub struct Query {
    after: Option<String>,
}

/// Where a follower was: the number of an event and, where users are told apart, the mark of the view that it was cut to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Position {
    seq: u64,
    mark: Option<String>,
}

impl Position {
    fn parse(text: &str) -> Option<Self> {
        let (seq, mark) = match text.split_once('.') {
            Some((seq, mark)) => (seq, Some(mark.to_owned())),
            None => (text, None),
        };
        Some(Self { seq: seq.parse().ok()?, mark })
    }
}

/// `GET /api/v1/events`.
pub async fn follow(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    extract::Query(query): extract::Query<Query>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<SseEvent, Infallible>>>, Refusal> {
    let asked = query.after.map(|after| {
        let position = Position::parse(&after);
        position.ok_or_else(|| Refusal::BadRequest(format!("after={after:?} is no event's id")))
    });
    let asked = asked.transpose()?;
    let room = app
        .followers
        .clone()
        .try_acquire_owned()
        .map_err(|_full| Refusal::Busy("too many pages follow the events already; close one"))?;
    let place = match (&app.keeper, &caller.who) {
        (Some(keeper), Who::User(person, _)) => Some(
            keeper.place(person).ok_or(Refusal::Busy("too many of your pages follow the events already; close one"))?,
        ),
        (None, _) | (_, Who::Anyone) => None,
    };
    // A browser that connects again by itself says so by the header, whatever its first URL was.
    let header = headers.get("last-event-id").and_then(|value| value.to_str().ok()).and_then(Position::parse);
    let mark = app.keeper.is_some().then(|| caller.view.mark());
    let follower = Follower {
        news: app.hub.follow(),
        // Who saw something else before starts anew.
        position: header.or(asked).filter(|position| position.mark == mark).map(|position| position.seq),
        mark,
        caller,
        waiting: VecDeque::new(),
        looked: Instant::now(),
        app,
        _room: room,
        _place: place,
    };
    let stream = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Follower {
    app: App,
    caller: Caller,
    news: watch::Receiver<u64>,
    /// The mark of the caller's view; absent where users are not told apart.
    mark: Option<String>,
    /// The last event that the client has.
    position: Option<u64>,
    waiting: VecDeque<Kept>,
    looked: Instant,
    _room: OwnedSemaphorePermit,
    _place: Option<FollowersPlace>,
}

impl Follower {
    /// The next event; `None` at the end, also where the follower is no longer let in.
    async fn next(&mut self) -> Option<SseEvent> {
        loop {
            self.look_again().await?;
            if let Some(kept) = self.waiting.pop_front() {
                self.position = Some(kept.seq);
                match self.told(&kept) {
                    Some(event) => return Some(event),
                    None => continue,
                }
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
                    () = tokio::time::sleep(LOOK_AGAIN), if self.mark.is_some() => {}
                }
            }
        }
    }

    /// Whether they are still let in; whoever sees something else now starts anew.
    async fn look_again(&mut self) -> Option<()> {
        // Not for each of many events that wait: what is remembered is older than that anyway.
        if self.mark.is_none() || self.looked.elapsed() < LOOK_AT_MOST {
            return Some(());
        }
        self.looked = Instant::now();
        match self.caller.again(&self.app).await {
            Ok(caller) => self.caller = caller,
            Err(refusal) => {
                tracing::info!(request = self.caller.request_id, %refusal, "an event stream ends");
                return None;
            }
        }
        let mark = Some(self.caller.view.mark());
        if mark != self.mark {
            self.mark = mark;
            self.position = None;
            self.waiting.clear();
        }
        Some(())
    }

    fn told(&self, kept: &Kept) -> Option<SseEvent> {
        let event = SseEvent::default().id(self.id(kept.seq));
        if self.caller.view.is_everything() {
            return Some(event.data(&*kept.json));
        }
        let around = match &*kept.event {
            Event::Round(_) => self.app.around_with_cells(&self.caller),
            _ => self.app.around(),
        };
        let told = cut::event(&kept.event, &self.caller.view, &around)?;
        let json = serde_json::to_string(&told).expect("an event has only string keys");
        Some(event.data(json))
    }

    fn snapshot(&mut self) -> SseEvent {
        let snapshot = self.app.picture(&self.caller);
        self.position = Some(snapshot.seq);
        let id = self.id(snapshot.seq);
        let json = serde_json::to_string(&Event::Snapshot(Box::new(snapshot)));
        SseEvent::default().id(id).data(json.expect("the picture has only string keys"))
    }

    fn id(&self, seq: u64) -> String {
        match &self.mark {
            Some(mark) => format!("{seq}.{mark}"),
            None => seq.to_string(),
        }
    }
}
