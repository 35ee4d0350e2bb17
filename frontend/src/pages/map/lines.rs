//! The lines, their gates and their way back.

use std::sync::Arc;

use leptos::prelude::*;
use signalbox_api::cell::{Cell, CellKey, Outcome};
use signalbox_api::flow::Direction;

use super::{Drawing, Hot};
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

#[component]
fn Line(track: Track, hot: Hot) -> impl IntoView {
    let store = Store::here();
    let cells: Vec<_> = track.keys.iter().map(|key| store.cell(key)).collect();
    let state = Memo::new(move |_| {
        let entries: Vec<_> = cells.iter().filter_map(|cell| cell.get()).collect();
        track::signal(entries.iter().map(|entry| &entry.cell))
    });
    let (from, to) = (track.from.clone(), track.to.clone());
    let lit = Memo::new(move |_| hot.get().is_some_and(|id| id == from || id == to));
    let words = {
        let (from, to) = (track.from.clone(), track.to.clone());
        move || {
            let directory = store.directory.get();
            format!("{} to {}: {}", directory.long(&from), directory.long(&to), state.get().0.word())
        }
    };
    let curve = track.curve;
    let class = move || {
        let (signal, disagree) = state.get();
        format!("track is-{}{}", signal.name(), if disagree { " is-disagree" } else { "" })
    };
    let gate = move |side: Direction| {
        let at = curve.gate(side);
        let shut = move || state.get().0 == Signal::Shut(side);
        view! { <path class="gate" class:closed=shut d=move || curve.bar(at, if shut() { 7.0 } else { 4.0 })></path> }
    };
    let keys = track.keys;
    view! {
        <g class=class class:hot=move || lit.get() on:click=move |_| explain(store, &keys)>
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
