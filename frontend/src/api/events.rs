//! The event stream: opened, lost, opened again where it stopped.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use gloo_timers::callback::Timeout;
use leptos::prelude::*;
use signalbox_api::state::Event;
use wasm_bindgen::prelude::{Closure, JsCast};
use web_sys::{EventSource, MessageEvent};

use crate::browser;
use crate::store::{Link, Store};

/// How long to wait before each attempt, in milliseconds; the last one repeats.
const BACK_OFF_MS: [u32; 5] = [500, 1_000, 2_000, 4_000, 8_000];

/// Opens the stream and keeps it open for as long as the page lives.
pub fn follow(store: Store) -> Retry {
    let follower = Rc::new(Follower {
        store,
        position: Cell::new(None),
        attempt: Cell::new(0),
        wire: RefCell::new(None),
        timer: RefCell::new(None),
    });
    open(&follower);
    Retry(follower)
}

/// Lets a reader who will not wait connect at once.
#[derive(Clone)]
pub struct Retry(Rc<Follower>);

impl Retry {
    /// Connects now, if the connection is lost.
    pub fn now(&self) {
        if matches!(self.0.store.link.get_untracked(), Link::Lost { .. }) {
            open(&self.0);
        }
    }
}

struct Follower {
    store: Store,
    /// The last event that was taken in.
    position: Cell<Option<u64>>,
    attempt: Cell<usize>,
    wire: RefCell<Option<Wire>>,
    timer: RefCell<Option<Timeout>>,
}

/// An open stream and the closures that it calls.
struct Wire {
    source: EventSource,
    _open: Closure<dyn FnMut()>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _error: Closure<dyn FnMut()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.source.close();
    }
}

fn open(follower: &Rc<Follower>) {
    follower.timer.take();
    let url = match follower.position.get() {
        Some(seq) => format!("/api/v1/events?after={seq}"),
        None => "/api/v1/events".to_owned(),
    };
    let Ok(source) = EventSource::new(&url) else {
        lost(follower);
        return;
    };
    let on_open = {
        let follower = Rc::downgrade(follower);
        Closure::<dyn FnMut()>::new(move || {
            if let Some(follower) = follower.upgrade() {
                follower.attempt.set(0);
                follower.store.link.set(Link::Live);
            }
        })
    };
    let on_message = {
        let follower = Rc::downgrade(follower);
        Closure::<dyn FnMut(MessageEvent)>::new(move |message: MessageEvent| {
            if let Some(follower) = follower.upgrade() {
                take(&follower, &message);
            }
        })
    };
    let on_error = {
        let follower = Rc::downgrade(follower);
        Closure::<dyn FnMut()>::new(move || {
            if let Some(follower) = follower.upgrade() {
                lost(&follower);
            }
        })
    };
    source.set_onopen(Some(on_open.as_ref().unchecked_ref()));
    source.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    source.set_onerror(Some(on_error.as_ref().unchecked_ref()));
    // The old wire's closures go here, outside of any call of theirs.
    *follower.wire.borrow_mut() = Some(Wire { source, _open: on_open, _message: on_message, _error: on_error });
}

fn take(follower: &Rc<Follower>, message: &MessageEvent) {
    let Some(text) = message.data().as_string() else { return };
    let event: Event = match serde_json::from_str(&text) {
        Ok(event) => event,
        Err(error) => {
            // An event that cannot be read leaves a hole: only a snapshot fills it.
            leptos::logging::error!("signalbox: unreadable event: {error}");
            follower.position.set(None);
            lost(follower);
            return;
        }
    };
    let seq = message.last_event_id().parse::<u64>().ok();
    if let Event::Snapshot(snapshot) = &event {
        follower.position.set(Some(seq.unwrap_or(snapshot.seq)));
    } else {
        match (seq, follower.position.get()) {
            // Behind what is known: another server, or another history. Start anew.
            (Some(seq), Some(known)) if seq <= known => {
                follower.position.set(None);
                lost(follower);
                return;
            }
            (Some(seq), _) => follower.position.set(Some(seq)),
            (None, _) => {}
        }
    }
    follower.store.apply(event);
}

fn lost(follower: &Rc<Follower>) {
    // Only closed here: this may run inside one of the wire's own closures.
    if let Some(wire) = &*follower.wire.borrow() {
        wire.source.close();
    }
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
