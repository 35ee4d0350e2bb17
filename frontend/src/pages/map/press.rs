//! Keys on the map. Pods are reached by Tab; the arrows lead from a pod to its lines and along them, so that a map with
//! hundreds of lines has no hundreds of stops.

use wasm_bindgen::JsCast;

use crate::browser;

/// A key on a pod or host: the arrows go to the first or the last of its lines.
pub(super) fn from_node(event: &web_sys::KeyboardEvent, id: &str) {
    let lines = lines_of(id);
    let to = match event.key().as_str() {
        "ArrowRight" | "ArrowDown" => lines.first(),
        "ArrowLeft" | "ArrowUp" => lines.last(),
        _ => return,
    };
    event.prevent_default();
    if let Some(line) = to {
        browser::focus_element(line);
    }
}

/// A key on one of the lines that leave a pod or host.
pub(super) fn along_lines(event: &web_sys::KeyboardEvent, from: &str) {
    let lines = lines_of(from);
    let here = event.current_target().and_then(|target| target.dyn_into::<web_sys::Element>().ok());
    let at = lines.iter().position(|line| Some(line) == here.as_ref()).unwrap_or(0);
    let last = lines.len().saturating_sub(1);
    let to = match event.key().as_str() {
        "ArrowRight" | "ArrowDown" => lines.get(if at == last { 0 } else { at + 1 }),
        "ArrowLeft" | "ArrowUp" => lines.get(at.checked_sub(1).unwrap_or(last)),
        "Home" => lines.first(),
        "End" => lines.last(),
        "Escape" => {
            browser::focus(&format!("[data-node=\"{from}\"]"));
            return;
        }
        _ => return,
    };
    event.prevent_default();
    if let Some(line) = to {
        browser::focus_element(line);
    }
}

fn lines_of(id: &str) -> Vec<web_sys::Element> {
    browser::all(&format!(".track[data-from=\"{id}\"]"))
}
