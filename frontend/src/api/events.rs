//! The event stream: opened, lost, opened again where it stopped.
//!
//! By `fetch`, and not by the browser's `EventSource`, which sends no header: the token that lets read is one (docs/adr/0011).

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use eventsource_stream::{Event as Message, Eventsource};
use futures::future::{Either, select};
use futures::stream::{self, LocalBoxStream, StreamExt};
use gloo_net::http::{Request, Response};
use gloo_timers::callback::Timeout;
use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use leptos::task::spawn_local;
use signalbox_api::session::AccessMode;
use signalbox_api::state::Event;
use wasm_bindgen::JsCast;

use super::rest::{self, CallError};
use crate::browser;
use crate::model::position;
use crate::store::{Door, Link, Store};

/// How long to wait before each attempt, in milliseconds; the last one repeats.
const BACK_OFF_MS: [u32; 5] = [500, 1_000, 2_000, 4_000, 8_000];
/// How long a stream may be silent. The server says something every 5 seconds.
const SILENCE_MS: u32 = 20_000;

/// Opens the stream and keeps it open for as long as the page lives.
pub fn follow(store: Store) -> Retry {
    let follower = Rc::new(Follower {
        store,
        position: RefCell::new(None),
        attempt: Cell::new(0),
        wire: Cell::new(0),
        abort: RefCell::new(None),
        timer: RefCell::new(None),
    });
    open(&follower);
    Retry(follower)
}

/// Lets a reader who will not wait, or who has just logged in, connect at once.
#[derive(Clone)]
pub struct Retry(Rc<Follower>);

impl Retry {
    /// Connects now, if the connection is lost.
    pub fn now(&self) {
        let is_shut = matches!(self.0.store.door.get_untracked(), Door::Shut { .. });
        if matches!(self.0.store.link.get_untracked(), Link::Lost { .. }) && !is_shut {
            open(&self.0);
        }
    }

    /// Connects with the token that the page has now.
    pub fn anew(&self) {
        self.0.position.replace(None);
        self.0.attempt.set(0);
        open(&self.0);
    }
}

struct Follower {
    store: Store,
    /// The id of the last event that was taken in.
    position: RefCell<Option<String>>,
    attempt: Cell<usize>,
    /// Which stream is the newest: an older one has no more to say.
    wire: Cell<u64>,
    abort: RefCell<Option<Abort>>,
    timer: RefCell<Option<Timeout>>,
}

/// Ends its stream when it goes.
struct Abort(web_sys::AbortController);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn open(follower: &Rc<Follower>) {
    follower.timer.take();
    let wire = follower.wire.get() + 1;
    follower.wire.set(wire);
    let controller = web_sys::AbortController::new().ok();
    let signal = controller.as_ref().map(web_sys::AbortController::signal);
    *follower.abort.borrow_mut() = controller.map(Abort);
    let url = match &*follower.position.borrow() {
        Some(id) => format!("/api/v1/events?after={id}"),
        None => "/api/v1/events".to_owned(),
    };
    let follower = follower.clone();
    spawn_local(async move {
        let request = rest::authorized(Request::get(&url).header("accept", "text/event-stream"));
        let answer = request.abort_signal(signal.as_ref()).send().await;
        let is_newest = || follower.wire.get() == wire;
        match answer {
            Ok(answer) if answer.ok() => read(&follower, answer, is_newest).await,
            Ok(answer) if matches!(answer.status(), 401 | 403) && is_newest() => shut(&follower, answer).await,
            Ok(_) | Err(_) => {}
        }
        if is_newest() && !matches!(follower.store.door.get_untracked(), Door::Shut { .. }) {
            lost(&follower);
        }
    });
}

/// Takes in what comes, until nothing more does.
async fn read(follower: &Rc<Follower>, answer: Response, is_newest: impl Fn() -> bool) {
    let Some(body) = answer.body() else { return };
    let mut messages = bytes(body).eventsource();
    let mut first = true;
    while let Some(Ok(message)) = messages.next().await {
        if !is_newest() {
            return;
        }
        if std::mem::take(&mut first) {
            follower.attempt.set(0);
            follower.store.link.set(Link::Live);
        }
        if take(follower, &message).is_none() {
            return;
        }
    }
}

/// The stream's bytes. It ends where it breaks, or is silent for too long.
fn bytes(body: web_sys::ReadableStream) -> LocalBoxStream<'static, Result<Vec<u8>, std::convert::Infallible>> {
    let chunks = wasm_streams::ReadableStream::from_raw(body.unchecked_into()).into_stream().boxed_local();
    let next = |mut chunks: LocalBoxStream<'static, _>| async move {
        match select(chunks.next(), TimeoutFuture::new(SILENCE_MS)).await {
            Either::Left((Some(Ok(chunk)), _)) => {
                let chunk: wasm_bindgen::JsValue = chunk;
                let chunk = js_sys::Uint8Array::from(chunk).to_vec();
                Some((Ok(chunk), chunks))
            }
            Either::Left((Some(Err(_)) | None, _)) | Either::Right(_) => None,
        }
    };
    stream::unfold(chunks, next).boxed_local()
}

/// The server does not let the reader in: they have to say who they are, or say it anew.
async fn shut(follower: &Rc<Follower>, answer: Response) {
    let had_token = browser::token().is_some();
    let CallError::Refused(error) = rest::refusal(answer).await else { return };
    // Only a server that tells users apart can be logged into.
    let is_known = match rest::session().await {
        Ok(session) => session.access == AccessMode::Kubernetes,
        Err(CallError::Refused(error)) => error.status == 401,
        Err(CallError::Away) => false,
    };
    if !is_known {
        return;
    }
    browser::forget_token();
    follower.position.replace(None);
    follower.store.link.set(Link::Lost { retry_at_ms: browser::now_ms() });
    follower.store.door.set(Door::Shut { why: had_token.then_some(error.message) });
}

/// `None`: the stream is of no use any more.
fn take(follower: &Rc<Follower>, message: &Message) -> Option<()> {
    let event: Event = match serde_json::from_str(&message.data) {
        Ok(event) => event,
        Err(error) => {
            // An event that cannot be read leaves a hole: only a snapshot fills it.
            leptos::logging::error!("signalbox: unreadable event: {error}");
            follower.position.replace(None);
            return None;
        }
    };
    let is_snapshot = matches!(event, Event::Snapshot(_));
    let known = follower.position.borrow().clone();
    if !is_snapshot && !position::follows(known.as_deref(), &message.id) {
        // Behind what is known: another server, or another history. Start anew.
        follower.position.replace(None);
        return None;
    }
    if !message.id.is_empty() {
        follower.position.replace(Some(message.id.clone()));
    }
    follower.store.apply(event);
    if is_snapshot {
        ask_for_rights(follower.store);
    }
    Some(())
}

/// What the reader may change can differ whenever what they see does.
pub fn ask_for_rights(store: Store) {
    if store.station.with_untracked(|station| station.viewer.is_none()) {
        return;
    }
    spawn_local(async move {
        if let Ok(rights) = rest::rights().await {
            store.rights.set(Some(rights));
        }
    });
}

fn lost(follower: &Rc<Follower>) {
    let attempt = follower.attempt.get();
    follower.attempt.set(attempt + 1);
    let wait = BACK_OFF_MS[attempt.min(BACK_OFF_MS.len() - 1)];
    follower.store.link.set(Link::Lost { retry_at_ms: browser::now_ms() + f64::from(wait) });
    let again = follower.clone();
    *follower.timer.borrow_mut() = Some(Timeout::new(wait, move || {
        // Taken out first: a timer must not be dropped by the closure that it runs.
        if let Some(timer) = again.timer.take() {
            timer.forget();
        }
        open(&again);
    }));
}
