//! The map: namespaces around a yard, lines between their pods, and every connection that is tried runs along its line.

mod lines;
mod press;
mod runners;
mod text;

use std::sync::Arc;

use leptos::prelude::*;

use self::lines::Lines;
use self::runners::Runners;
use self::text::AsText;
use crate::model::plan::{self, Area, Node, Plan};
use crate::model::track;
use crate::store::Store;

/// Whose lines are lit: what the pointer or the focus is on, or what was pinned by a click.
#[derive(Clone, Copy)]
pub(crate) struct Hot {
    touched: RwSignal<Option<String>>,
    pinned: RwSignal<Option<String>>,
}

impl Hot {
    fn get(self) -> Option<String> {
        self.touched.get().or_else(|| self.pinned.get())
    }

    fn touch(self, id: &str) {
        self.touched.set(Some(id.to_owned()));
    }

    fn leave(self) {
        self.touched.set(None);
    }
}

/// Smaller than this, names cannot be read: the map scrolls instead.
const SMALLEST_SCALE: f64 = 0.7;

/// Plan and lines; anew only when pods or cells come or go.
#[derive(Clone, PartialEq)]
pub(crate) struct Drawing {
    plan: Plan,
    tracks: Vec<track::Track>,
}

/// The view.
#[component]
pub fn MapPage() -> impl IntoView {
    let store = Store::here();
    // What ran while another view was open has long arrived.
    store.runners.set(Vec::new());
    let drawing = Memo::new(move |_| {
        store.shape.track();
        store.directory.with(|directory| {
            store.with_cells(|cells| {
                let plan = plan::plan(directory, cells.keys());
                let tracks = track::tracks(directory, &plan, cells.keys());
                Arc::new(Drawing { plan, tracks })
            })
        })
    });
    let hot = Hot { touched: RwSignal::new(None), pinned: RwSignal::new(None) };
    let empty = move || drawing.with(|drawing| drawing.plan.nodes.is_empty());
    view! {
        <section class="map" aria-labelledby="map-title">
            <h1 id="map-title" class="visually-hidden">"Map"</h1>
            <Legend />
            <Show when=move || !empty() fallback=|| view! { <p class="empty">"Nothing to draw yet: no pod answers."</p> }>
                <div class="map-scroll" tabindex="0" role="region" aria-label="Map, scrolls sideways where the window is narrow">
                    <Picture drawing hot />
                </div>
                <Show when=move || drawing.with(|drawing| drawing.tracks.len() > lines::MOST_TRACKS)>
                    <p class="faint">"Too many lines to draw at once: point at a pod, or click it, to see its own."</p>
                </Show>
                <AsText drawing />
            </Show>
        </section>
    }
}

#[component]
fn Picture(drawing: Memo<Arc<Drawing>>, hot: Hot) -> impl IntoView {
    let size = move |of: fn(&Plan) -> f64| drawing.with(|drawing| of(&drawing.plan));
    view! {
        <svg
            class="map-picture"
            class:has-hot=move || hot.get().is_some()
            style:min-width=move || format!("{:.0}px", (size(|plan| plan.width) * SMALLEST_SCALE).max(736.0))
            viewBox=move || format!("0 0 {:.0} {:.0}", size(|plan| plan.width), size(|plan| plan.height))
            role="group"
            aria-label="Namespaces, pods and hosts outside; the same as text stands below"
            on:mouseleave=move |_| hot.leave()
        >
            {move || drawing.with(|drawing| drawing.plan.areas.iter().map(area_view).collect_view())}
            <Lines drawing hot />
            {move || drawing.with(|drawing| drawing.plan.nodes.iter().map(|node| node_view(node, drawing, hot)).collect_view())}
            <Runners drawing />
        </svg>
    }
}

fn area_view(area: &Area) -> impl IntoView + use<> {
    let rect = area.rect;
    view! {
        <g class="area" class:outside=area.outside>
            <rect x=rect.x.to_string() y=rect.y.to_string() width=rect.w.to_string() height=rect.h.to_string() rx="10"></rect>
            <text x=(rect.x + 12.0).to_string() y=title_y(area).to_string()>{area.title.clone()}</text>
        </g>
    }
}

/// Areas below the yard carry their name at the bottom, away from the lines.
fn title_y(area: &Area) -> f64 {
    let below = !area.outside && area.rect.y > 20.0;
    if below { area.rect.y + area.rect.h - 8.0 } else { area.rect.y + 16.0 }
}

fn node_view(node: &Node, drawing: &Drawing, hot: Hot) -> impl IntoView + use<> {
    let store = Store::here();
    let rect = node.rect;
    let id = node.id.clone();
    let keys: Vec<_> =
        drawing.tracks.iter().filter(|track| track.from == node.id).flat_map(|track| track.keys.clone()).collect();
    let name = node.name.clone();
    let ready = node.ready;
    let label = move || {
        store.beat.track();
        let open = keys.iter().filter(|key| store.entry(key).is_some_and(|entry| lines::is_open(&entry.cell))).count();
        let state = if ready { "" } else { ", not ready" };
        format!("{name}{state}: {open} of {} connections from here are open", keys.len())
    };
    let touch = {
        let id = id.clone();
        move || hot.touch(&id)
    };
    let pin = {
        let id = id.clone();
        move || {
            hot.pinned.update(|pinned| {
                *pinned = if pinned.as_ref() == Some(&id) { None } else { Some(id.clone()) };
            });
        }
    };
    let (touch_too, pin_too, id_too, id_three, source) = (touch.clone(), pin.clone(), id.clone(), id.clone(), id);
    view! {
        <g
            class="node"
            class:outside=node.outside
            class:not-ready=!node.ready
            class:hot=move || hot.get().as_ref() == Some(&id_too)
            data-node=node.id.clone()
            tabindex="0"
            role="button"
            aria-label=label
            aria-pressed=move || (hot.pinned.get().as_ref() == Some(&id_three)).to_string()
            on:mouseenter=move |_| touch()
            on:mouseleave=move |_| hot.leave()
            on:focus=move |_| touch_too()
            on:blur=move |_| hot.leave()
            on:click=move |_| pin()
            on:keydown=move |event| {
                if matches!(event.key().as_str(), "Enter" | " ") {
                    event.prevent_default();
                    pin_too();
                } else {
                    press::from_node(&event, &source);
                }
            }
        >
            <title>{node.name.clone()}</title>
            <rect x=rect.x.to_string() y=rect.y.to_string() width=rect.w.to_string() height=rect.h.to_string() rx="7"></rect>
            <use_
                href=if node.outside { "#i-outside" } else { "#i-pod" }
                x=(rect.x + 8.0).to_string()
                y=(rect.y + rect.h / 2.0 - 8.0).to_string()
                width="16"
                height="16"
            ></use_>
            <text x=(rect.x + 29.0).to_string() y=(rect.y + rect.h / 2.0 + 5.0).to_string()>{node.label.clone()}</text>
        </g>
    }
}

#[component]
fn Legend() -> impl IntoView {
    let line = |class: &'static str, text: &'static str, gate: bool| {
        view! {
            <li>
                <svg class=format!("sample track is-{class}") viewBox="0 0 46 14" aria-hidden="true" focusable="false">
                    <path class="line" d="M2 7H42"></path>
                    {gate.then(|| view! { <path class="gate" d="M14 1V13"></path> })}
                </svg>
                {text}
            </li>
        }
    };
    view! {
        <ul class="map-legend" aria-label="Legend">
            {line("open", "open", false)}
            {line("shut", "shut, with the bar at the gate that shuts it", true)}
            {line("mixed", "open on some ports", false)}
            {line("unknown", "not known", false)}
            <li>
                <svg class="sample track is-open" viewBox="0 0 46 14" aria-hidden="true" focusable="false">
                    <path class="reply" d="M2 7H42"></path>
                </svg>
                "replies: need no rule"
            </li>
            <li>
                <svg class="sample" viewBox="0 0 46 14" aria-hidden="true" focusable="false">
                    <circle class="runner lamp-open" cx="14" cy="7" r="5"></circle>
                    <rect class="runner lamp-shut" x="28" y="2" width="10" height="10" rx="2"></rect>
                </svg>
                "a connection being tried"
            </li>
            <li class="faint">
                "Point at a pod to see its lines alone; click a line to ask why. By keyboard: Tab to a pod, arrows along its "
                "lines, Enter to ask why, Esc back."
            </li>
        </ul>
    }
}
