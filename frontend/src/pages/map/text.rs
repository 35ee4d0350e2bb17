//! The map in words, for those who cannot see it and those who would rather read.

use std::collections::BTreeMap;
use std::sync::Arc;

use leptos::prelude::*;

use super::Drawing;
use crate::model::track::{self, Signal};
use crate::store::Store;

/// A list: each source, and what is open from it and what is not.
#[component]
pub(crate) fn AsText(drawing: Memo<Arc<Drawing>>) -> impl IntoView {
    let store = Store::here();
    let unfolded = RwSignal::new(false);
    let lines = Memo::new(move |_| {
        if !unfolded.get() {
            return Vec::new();
        }
        store.beat.track();
        let directory = store.directory.get();
        let mut sources: BTreeMap<String, BTreeMap<&'static str, Vec<String>>> = BTreeMap::new();
        drawing.with(|drawing| {
            for track in &drawing.tracks {
                let entries: Vec<_> = track.keys.iter().filter_map(|key| store.entry(key)).collect();
                let (signal, _) = track::signal(entries.iter().map(|entry| &entry.cell));
                let words = sources.entry(directory.long(&track.from)).or_default();
                words.entry(order(signal)).or_default().push(directory.long(&track.to));
            }
        });
        sources
            .into_iter()
            .map(|(from, words)| {
                let parts: Vec<String> =
                    words.into_iter().map(|(word, to)| format!("{}: {}", &word[2..], to.join(", "))).collect();
                (from, parts)
            })
            .collect::<Vec<_>>()
    });
    view! {
        <details
            class="as-text"
            on:toggle=move |event| {
                let open = event_target::<web_sys::Element>(&event).has_attribute("open");
                unfolded.set(open);
            }
        >
            <summary>"The map as text"</summary>
            <ul>
                {move || {
                    lines.get()
                        .into_iter()
                        .map(|(from, parts)| {
                            view! {
                                <li>
                                    <b>{from}</b>
                                    <ul>{parts.into_iter().map(|part| view! { <li>{part}</li> }).collect_view()}</ul>
                                </li>
                            }
                        })
                        .collect_view()
                }}
            </ul>
        </details>
    }
}

/// The words of a signal, with a number in front that sorts them.
const fn order(signal: Signal) -> &'static str {
    use signalbox_api::flow::Direction;
    match signal {
        Signal::Open => "0 Open",
        Signal::Mixed => "1 Open on some ports",
        Signal::Shut(Direction::Egress) => "2 Shut on the way out (egress)",
        Signal::Shut(Direction::Ingress) => "3 Shut on the way in (ingress)",
        Signal::Stopped => "4 Not open",
        Signal::Unknown => "5 Not known",
    }
}
