//! Keys and clicks in the matrix.

use signalbox_api::cell::CellKey;
use wasm_bindgen::JsCast;

use crate::route::parse_key;

/// The cell that an event happened in.
pub(crate) fn key_of(target: Option<web_sys::EventTarget>) -> Option<CellKey> {
    parse_key(&cell_of(target)?.get_attribute("data-key")?)
}

fn cell_of(target: Option<web_sys::EventTarget>) -> Option<web_sys::HtmlTableCellElement> {
    let element = target?.dyn_into::<web_sys::Element>().ok()?;
    element.closest("td[data-key]").ok().flatten()?.dyn_into().ok()
}

/// Keys of the grid, as the pattern of WAI-ARIA has them.
pub(crate) fn press(event: &web_sys::KeyboardEvent, explain: impl FnOnce(CellKey)) {
    let Some(cell) = cell_of(event.target()) else { return };
    let key = event.key();
    match key.as_str() {
        "Enter" | " " => {
            event.prevent_default();
            if let Some(key) = key_of(event.target()) {
                explain(key);
            }
        }
        _ => {
            let to = match key.as_str() {
                "ArrowLeft" => beside(&cell, -1),
                "ArrowRight" => beside(&cell, 1),
                "ArrowUp" => below(&cell, -1),
                "ArrowDown" => below(&cell, 1),
                "PageUp" => below(&cell, -6),
                "PageDown" => below(&cell, 6),
                "Home" => beside(&cell, -cell.cell_index()),
                "End" => beside(&cell, i32::MAX / 2),
                _ => return,
            };
            event.prevent_default();
            if let Some(to) = to {
                let _ = to.focus();
            }
        }
    }
}

/// The cell that many steps to the right; the last one in that direction if there are not so many.
fn beside(cell: &web_sys::HtmlTableCellElement, steps: i32) -> Option<web_sys::HtmlElement> {
    let row = cell.parent_element()?.dyn_into::<web_sys::HtmlTableRowElement>().ok()?;
    let last = i32::try_from(row.children().length()).unwrap_or(i32::MAX) - 1;
    in_row(&row, cell.cell_index().saturating_add(steps).clamp(1, last))
}

/// The cell that many rows down; the last one in that direction if there are not so many.
fn below(cell: &web_sys::HtmlTableCellElement, steps: i32) -> Option<web_sys::HtmlElement> {
    let mut row = cell.parent_element()?;
    for _ in 0..steps.unsigned_abs() {
        let next = if steps < 0 { row.previous_element_sibling() } else { row.next_element_sibling() };
        match next {
            Some(next) if !next.class_list().contains("spacer") => row = next,
            Some(_) | None => break,
        }
    }
    in_row(&row.dyn_into().ok()?, cell.cell_index())
}

fn in_row(row: &web_sys::HtmlTableRowElement, at: i32) -> Option<web_sys::HtmlElement> {
    let cells = row.children();
    let wanted = cells.item(u32::try_from(at).ok()?)?;
    if wanted.has_attribute("data-key") {
        return wanted.dyn_into().ok();
    }
    // A gap: the last cell before it, or the first one behind it.
    let beside = wanted.previous_element_sibling().filter(|cell| cell.has_attribute("data-key"));
    beside.or_else(|| wanted.next_element_sibling())?.dyn_into().ok()
}
