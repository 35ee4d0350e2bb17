//! Connections on their way: each runs along its line and stops at the gate that stops it.

use std::sync::Arc;
use std::time::Duration;

use leptos::prelude::*;
use leptos::svg;
use signalbox_api::cell::Outcome;
use signalbox_api::flow::Direction;

use super::Drawing;
use crate::browser;
use crate::model::look::Lamp;
use crate::model::track::{self, Curve};
use crate::route::print_key;
use crate::store::{Runner, Store};

/// From end to end.
const RUN_MS: f64 = 1_100.0;
/// At the gate, for everyone to see.
const HALT_MS: f64 = 700.0;
/// Points per way that the browser moves between.
const STEPS: u32 = 18;

/// All that are on their way.
#[component]
pub(crate) fn Runners(drawing: Memo<Arc<Drawing>>) -> impl IntoView {
    let store = Store::here();
    view! {
        <g class="runners" aria-hidden="true">
            <For each=move || store.runners.get() key=|runner| runner.id let:runner>
                {
                    let journey = drawing.with_untracked(|drawing| journey(store, drawing, &runner));
                    let id = runner.id;
                    let life = journey.as_ref().map_or(0.0, |journey| journey.life_ms);
                    set_timeout(move || store.drop_runner(id), Duration::from_secs_f64(life / 1e3));
                    journey.map(|journey| view! { <Dot journey runner /> })
                }
            </For>
        </g>
    }
}

/// A point, when it is reached (from 0 to 1), and how large the runner is there.
type Stop = (f64, f64, f64, f64);

struct Journey {
    /// The id of the pod or host at the other end of the line.
    to: String,
    stops: Vec<Stop>,
    life_ms: f64,
}

/// Where a runner goes. A Service's connection runs to the pod that it went to; where nobody knows, to one of them in turn.
fn journey(store: Store, drawing: &Drawing, runner: &Runner) -> Option<Journey> {
    let key = &runner.pulse.key;
    let (to, curve) = store.directory.with_untracked(|directory| {
        let targets = track::targets(directory, key);
        let turn = usize::try_from(runner.id).unwrap_or_default().checked_rem(targets.len())?;
        // The cell came before its pulse, so it tells of this very connection.
        let entry = store.entry(key);
        let backend = entry.as_ref().and_then(|entry| entry.cell.probe.as_ref()?.backend.as_deref());
        let target = backend.filter(|backend| targets.contains(backend)).unwrap_or(targets[turn]);
        let track = drawing.tracks.iter().find(|track| track.from == key.from && track.to == target)?;
        Some((track.to.clone(), track.curve))
    })?;
    let end = match (runner.pulse.outcome, runner.pulse.stopped_at) {
        (Outcome::Open, _) => None,
        (_, Some(side)) => Some(curve.gate(side)),
        (Outcome::DnsFailed | Outcome::ProbeBroken, None) => Some(0.02),
        (Outcome::Dropped | Outcome::Unreachable, None) => Some(0.5),
        (Outcome::Refused | Outcome::NoListener, None) => Some(curve.gate(Direction::Ingress)),
    };
    Some(match end {
        // There, and the answer back: replies need no rule.
        None => there_and_back(to, &curve),
        Some(end) => halted(to, &curve, end),
    })
}

fn there_and_back(to: String, curve: &Curve) -> Journey {
    let life_ms = RUN_MS * 2.0;
    let mut stops = Vec::new();
    for step in 0..=STEPS {
        let t = f64::from(step) / f64::from(STEPS);
        let point = curve.at(t);
        stops.push((point.x, point.y, t * 0.5, 1.0));
    }
    let back = curve.beside(3.0);
    for step in 0..=STEPS {
        let t = f64::from(step) / f64::from(STEPS);
        let point = back.at(1.0 - t);
        stops.push((point.x, point.y, 0.5 + t * 0.5, 0.6));
    }
    Journey { to, stops, life_ms }
}

fn halted(to: String, curve: &Curve, end: f64) -> Journey {
    let run_ms = RUN_MS * end.max(0.15);
    let life_ms = run_ms + HALT_MS;
    let mut stops = Vec::new();
    for step in 0..=STEPS {
        let t = f64::from(step) / f64::from(STEPS);
        let point = curve.at(t * end);
        stops.push((point.x, point.y, t * run_ms / life_ms, 1.0));
    }
    let last = curve.at(end);
    stops.push((last.x, last.y, (run_ms + 140.0) / life_ms, 1.7));
    stops.push((last.x, last.y, 1.0, 0.9));
    Journey { to, stops, life_ms }
}

#[component]
fn Dot(journey: Journey, runner: Runner) -> impl IntoView {
    let lamp = Lamp::of(Some(runner.pulse.outcome));
    let check = print_key(&runner.pulse.key);
    let shape = NodeRef::<svg::Rect>::new();
    let stops = if browser::calm() { journey.stops.last().copied().into_iter().collect() } else { journey.stops };
    let life_ms = journey.life_ms;
    shape.on_load(move |shape| {
        browser::animate(&shape, &keyframes(&stops), life_ms);
    });
    // Open ones are round, stopped ones square: colour is not the only sign.
    let round = if lamp == Lamp::Open { "5" } else { "1.5" };
    view! {
        <rect
            node_ref=shape
            class=format!("runner lamp-{}", lamp.name())
            data-check=check
            data-from=runner.pulse.key.from
            data-to=journey.to
            x="-5"
            y="-5"
            width="10"
            height="10"
            rx=round
        ></rect>
    }
}

fn keyframes(stops: &[Stop]) -> js_sys::Object {
    let frames = js_sys::Array::new();
    let many = stops.len() > 1;
    let doubled = if many { stops.to_vec() } else { stops.iter().chain(stops).copied().collect() };
    let last = doubled.len().saturating_sub(1);
    for (at, (x, y, offset, scale)) in doubled.iter().enumerate() {
        let frame = js_sys::Object::new();
        let offset = if many { *offset } else { at as f64 };
        let opacity = if at == last { 0.0 } else { 1.0 };
        for (name, value) in [
            ("transform", format!("translate({x:.1}px, {y:.1}px) scale({scale})").into()),
            ("offset", wasm_bindgen::JsValue::from_f64(offset.clamp(0.0, 1.0))),
            ("opacity", wasm_bindgen::JsValue::from_f64(opacity)),
        ] {
            // A plain object takes any property.
            let _ = js_sys::Reflect::set(&frame, &name.into(), &value);
        }
        frames.push(&frame);
    }
    frames.into()
}
