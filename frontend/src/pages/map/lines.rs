//! The lines, their gates and their way back.

use std::sync::Arc;

use leptos::prelude::*;
use signalbox_api::cell::{Cell, CellKey, Outcome};
use signalbox_api::flow::Direction;

use super::{Drawing, Hot, press};
use crate::model::track::{self, Signal, Track};
use crate::store::Store;

/// Above so many lines, the way back is drawn only for those that are lit.
const MANY_TRACKS: usize = 80;

/// Above so many, only those that are lit are drawn at all.
pub(crate) const MOST_TRACKS: usize = 700;

/// All lines.
#[component]
pub(crate) fn Lines(drawing: Memo<Arc<Drawing>>, hot: Hot) -> impl IntoView {
    let many = Memo::new(move |_| drawing.with(|drawing| drawing.tracks.len() > MANY_TRACKS));
    view! {
        <g class="tracks" class:many=move || many.get()>
            <For
                each=move || to_draw(drawing, hot)
                key=|track| (track.from.clone(), track.to.clone(), track.curve.d(), track.keys.len())
                let:track
            >
                <Line track hot />
            </For>
        </g>
    }
}

fn to_draw(drawing: Memo<Arc<Drawing>>, hot: Hot) -> Vec<Track> {
    drawing.with(|drawing| {
        if drawing.tracks.len() <= MOST_TRACKS {
            return drawing.tracks.clone();
        }
        let Some(id) = hot.get() else { return Vec::new() };
        drawing.tracks.iter().filter(|track| track.from == id || track.to == id).cloned().collect()
    })
}

/// What a line shows.
#[derive(Clone, Copy, PartialEq)]
struct State {
    signal: Signal,
    disagree: bool,
    /// The last connection of one of its cells went along here, and not to another pod of a Service.
    taken: bool,
}

#[component]
fn Line(track: Track, hot: Hot) -> impl IntoView {
    let store = Store::here();
    let cells: Vec<_> = track.keys.iter().map(|key| store.cell(key)).collect();
    let target = track.to.clone();
    let state = Memo::new(move |_| {
        let entries: Vec<_> = cells.iter().filter_map(|cell| cell.get()).collect();
        let (signal, disagree) = track::signal(entries.iter().map(|entry| &entry.cell));
        State { signal, disagree, taken: entries.iter().any(|entry| track::went_to(&entry.cell, &target)) }
    });
    let (from, to) = (track.from.clone(), track.to.clone());
    let lit = Memo::new(move |_| hot.get().is_some_and(|id| id == from || id == to));
    let words = {
        let (from, to) = (track.from.clone(), track.to.clone());
        move || {
            let directory = store.directory.get();
            let State { signal, taken, .. } = state.get();
            let branch = if taken { "" } else { "; the last connection went to another pod of the Service" };
            format!("{} to {}: {}{branch}", directory.long(&from), directory.long(&to), signal.word())
        }
    };
    let label = words.clone();
    let curve = track.curve;
    let class = move || {
        let State { signal, disagree, taken } = state.get();
        let disagree = if disagree { " is-disagree" } else { "" };
        let branch = if taken { "" } else { " is-branch" };
        format!("track is-{}{disagree}{branch}", signal.name())
    };
    let gate = move |side: Direction| {
        let at = curve.gate(side);
        let shut = move || state.get().signal == Signal::Shut(side);
        view! { <path class="gate" class:closed=shut d=move || curve.bar(at, if shut() { 7.0 } else { 4.0 })></path> }
    };
    let keys = StoredValue::new(track.keys);
    let explain = move || keys.with_value(|keys| explain(store, keys));
    let (from, source) = (track.from.clone(), track.from.clone());
    view! {
        <g
            class=class
            class:hot=move || lit.get()
            data-from=track.from
            data-to=track.to
            tabindex="-1"
            role="button"
            aria-label=label
            on:click=move |_| explain()
            on:focus=move |_| hot.touch(&source)
            on:blur=move |_| hot.leave()
            on:keydown=move |event| {
                if matches!(event.key().as_str(), "Enter" | " ") {
                    event.prevent_default();
                    explain();
                } else {
                    press::along_lines(&event, &from);
                }
            }
        >
            <title>{words}</title>
            <path class="reach" d=curve.d()></path>
            <path class="line" d=curve.d()></path>
            <path class="reply" d=curve.beside((track.room * 0.4).min(4.0)).d()></path>
            <path class="head" d=curve.head(9.0)></path>
            {gate(Direction::Egress)}
            {gate(Direction::Ingress)}
        </g>
    }
}

/// Opens "why" for the cell of a line that is most worth a question: a shut one before an open one.
fn explain(store: Store, keys: &[CellKey]) {
    let shut = |key: &&CellKey| store.entry(key).is_some_and(|entry| !is_open(&entry.cell));
    if let Some(key) = keys.iter().find(shut).or(keys.first()) {
        store.explain(key.clone());
    }
}

/// The probe got an answer.
pub(crate) fn is_open(cell: &Cell) -> bool {
    cell.probe.as_ref().is_some_and(|probe| probe.outcome == Outcome::Open)
}
