//! The matrix: sources down, destinations across, one lamp per connection.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::reactive::computed::Selector;
use leptos::{ev, html};
use signalbox_api::cell::{Agreement, CellKey};
use wasm_bindgen::JsCast;

use crate::browser;
use crate::components::icon::Icon;
use crate::model::grid::{self, Column, Grid, Row};
use crate::model::look::{self, Lamp, Look};
use crate::route::{parse_key, print_key};
use crate::store::Store;

/// Height of a row in pixels; the style sheet says the same.
const ROW_PX: f64 = 56.0;
/// From this many rows on, only those in sight are drawn.
const MANY_ROWS: usize = 48;
/// Rows drawn above and below those in sight.
const SPARE_ROWS: usize = 8;
/// How long a change is worth a flash.
const FLASH_MS: f64 = 2_500.0;

/// The cell that the tab key reaches.
type Anchor = Selector<Option<CellKey>>;

/// The view.
#[component]
pub fn MatrixPage() -> impl IntoView {
    let store = Store::here();
    let grid = Memo::new(move |_| {
        store.shape.track();
        let wish = store.wish.get();
        store.directory.with(|directory| store.with_cells(|cells| grid::grid(directory, cells.keys(), &wish)))
    });
    let empty = move || grid.with(|grid| grid.rows.is_empty() || grid.columns.is_empty());
    view! {
        <section class="matrix" aria-labelledby="matrix-title">
            <h1 id="matrix-title" class="visually-hidden">"Matrix"</h1>
            <Tools grid />
            <Show when=move || store.loaded.get() fallback=|| view! { <p class="empty">"Waiting for the first picture…"</p> }>
                <Show when=move || !empty() fallback=|| view! { <Nothing /> }>
                    <Table grid />
                </Show>
            </Show>
        </section>
    }
}

#[component]
fn Nothing() -> impl IntoView {
    let store = Store::here();
    let filtered = move || store.wish.with(|wish| !wish.filter.trim().is_empty());
    view! {
        <p class="empty">
            {move || if filtered() { "No row or column has this in its name." } else { "Nothing to try yet: no pod answers." }}
        </p>
    }
}

#[component]
fn Tools(grid: Memo<Grid>) -> impl IntoView {
    let store = Store::here();
    let counts = Memo::new(move |_| {
        store.beat.track();
        store.shape.track();
        grid.with(|grid| {
            store.with_cells(|cells| {
                let (mut open, mut shut, mut disagree, mut other) = (0, 0, 0, 0);
                for row in &grid.rows {
                    for column in &grid.columns {
                        let Some(entry) = cells.get(&column.key(&row.from)) else { continue };
                        match Lamp::of(entry.cell.probe.as_ref().map(|probe| probe.outcome)) {
                            Lamp::Open => open += 1,
                            Lamp::Shut => shut += 1,
                            Lamp::Refused
                            | Lamp::Unreachable
                            | Lamp::Dns
                            | Lamp::NoListener
                            | Lamp::Broken
                            | Lamp::Waiting => {
                                other += 1;
                            }
                        }
                        disagree += usize::from(entry.cell.agreement == Agreement::Disagree);
                    }
                }
                (open, shut, disagree, other)
            })
        })
    });
    view! {
        <div class="tools">
            <label class="field">
                <Icon name="search" />
                <span class="visually-hidden">"Filter by namespace or name"</span>
                <input
                    type="search"
                    placeholder="Filter: backend, or web > db"
                    autocomplete="off"
                    spellcheck="false"
                    prop:value=move || store.wish.with(|wish| wish.filter.clone())
                    on:input=move |event| store.wish.update(|wish| wish.filter = event_target_value(&event))
                />
            </label>
            <label class="toggle">
                <input
                    type="checkbox"
                    prop:checked=move || store.wish.with(|wish| wish.pods)
                    on:change=move |event| store.wish.update(|wish| wish.pods = event_target_checked(&event))
                />
                <span>"Pods by address"</span>
            </label>
            <p class="counts" role="status">
                {move || {
                    let (open, shut, disagree, other) = counts.get();
                    view! {
                        <span class="count open"><Icon name="open" />{format!("{open} open")}</span>
                        <span class="count shut"><Icon name="shut" />{format!("{shut} dropped")}</span>
                        {(other > 0).then(|| view! { <span class="count">{format!("{other} other")}</span> })}
                        {(disagree > 0).then(|| view! { <span class="count disagree"><Icon name="disagree" />{format!("{disagree} disagree")}</span> })}
                    }
                }}
            </p>
            <details class="legend">
                <summary>"Legend"</summary>
                <ul class="pop">
                    {Lamp::ALL
                        .into_iter()
                        .map(|lamp| view! { <li class=format!("lamp-{}", lamp.name())><Icon name=lamp.name() />{lamp.word()}</li> })
                        .collect_view()}
                    <li class="is-disagree"><Icon name="disagree" />"policies, probe and kernel disagree"</li>
                    <li><span class="glyph">"↗"</span>"egress: shut on the side of the source"</li>
                    <li><span class="glyph">"↘"</span>"ingress: shut on the side of the destination"</li>
                    <li><span class="glyph">"⌨"</span>"arrows move, Enter explains, Esc closes"</li>
                </ul>
            </details>
        </div>
    }
}

#[component]
fn Table(grid: Memo<Grid>) -> impl IntoView {
    let store = Store::here();
    let scroller = NodeRef::<html::Div>::new();
    let sight = RwSignal::new((0.0_f64, 900.0_f64));
    let look_again = move |_| {
        if let Some(scroller) = scroller.get_untracked() {
            sight.set((f64::from(scroller.scroll_top()), f64::from(scroller.client_height())));
        }
    };
    let resize = window_event_listener(ev::resize, move |_| look_again(()));
    on_cleanup(move || resize.remove());

    let rows = Memo::new(move |_| grid.with(|grid| Arc::new(grid.rows.clone())));
    let columns = Memo::new(move |_| grid.with(|grid| Arc::new(grid.columns.clone())));
    let window = Memo::new(move |_| {
        let all = rows.with(|rows| rows.len());
        let (top, height) = sight.get();
        in_sight(all, top, height)
    });
    let drawn = Memo::new(move |_| {
        let (first, end) = window.get();
        rows.with(|rows| rows[first.min(rows.len())..end.min(rows.len())].to_vec())
    });

    let active = RwSignal::new(None::<CellKey>);
    // Tab reaches the cell that was last in use, or the first one if that is out of the picture.
    let anchor = Memo::new(move |_| {
        let here = active.get();
        let known = here.as_ref().is_some_and(|key| {
            let row = drawn.with(|rows| rows.iter().any(|row| row.from == key.from));
            row && columns.with(|columns| columns.iter().any(|column| column.key(&key.from) == *key))
        });
        if known {
            return here;
        }
        drawn.with(|rows| columns.with(|columns| Some(columns.first()?.key(&rows.first()?.from))))
    });
    let anchor = Selector::new(move || anchor.get());
    let explained = Selector::new(move || store.route.with(|route| route.why.clone()));

    let spacer = move |px: f64| {
        (px > 0.0)
            .then(|| view! { <tr class="spacer" aria-hidden="true"><td style:height=format!("{px}px")></td></tr> })
    };
    view! {
        <div class="grid-scroll" node_ref=scroller on:scroll=move |_| look_again(())>
            <table
                class="grid"
                role="grid"
                aria-label="Who can talk to whom: sources down, destinations across"
                aria-rowcount=move || (rows.with(|rows| rows.len()) + 2).to_string()
                on:click=move |event| {
                    if let Some(key) = key_of(event.target()) {
                        store.explain(key);
                    }
                }
                on:focusin=move |event| {
                    if let Some(key) = key_of(event.target()) {
                        active.set(Some(key));
                    }
                }
                on:keydown=move |event| press(store, &event)
            >
                <thead>
                    <tr class="groups">
                        <td class="corner" rowspan="2">
                            <span>"from ↓"</span>
                            <span>"to →"</span>
                        </td>
                        {move || {
                            grid.with(Grid::groups)
                                .into_iter()
                                .map(|(group, n)| view! { <th scope="colgroup" colspan=n.to_string()><span>{group.title()}</span></th> })
                                .collect_view()
                        }}
                    </tr>
                    <tr class="heads">
                        <For each=move || columns.get().to_vec() key=Column::clone let:column>
                            <ColumnHead column />
                        </For>
                    </tr>
                </thead>
                <tbody>
                    {move || spacer(window.get().0 as f64 * ROW_PX)}
                    <For each=move || drawn.get() key=Row::clone let:row>
                        <RowView row columns anchor=anchor.clone() explained=explained.clone() />
                    </For>
                    {move || spacer(rows.with(|rows| rows.len()).saturating_sub(window.get().1) as f64 * ROW_PX)}
                </tbody>
            </table>
        </div>
    }
}

/// The rows to draw: first, and one past the last.
fn in_sight(all: usize, top: f64, height: f64) -> (usize, usize) {
    if all < MANY_ROWS {
        return (0, all);
    }
    let first = (top / ROW_PX) as usize;
    let last = ((top + height) / ROW_PX) as usize + 1;
    // Steps of four, so that a slow scroll does not build a row on each pixel.
    let first = first.saturating_sub(SPARE_ROWS) / 4 * 4;
    (first, (last + SPARE_ROWS).next_multiple_of(4).min(all))
}

#[component]
fn ColumnHead(column: Column) -> impl IntoView {
    let port =
        format!(":{}{}", column.port, if column.protocol.as_str() == "TCP" { "" } else { column.protocol.as_str() });
    view! {
        <th scope="col" class="head">
            <span class="place">{column.place.clone()}</span>
            <span class="name">{column.name.clone()}</span>
            <span class="port">{port}</span>
        </th>
    }
}

#[component]
fn RowView(row: Row, columns: Memo<Arc<Vec<Column>>>, anchor: Anchor, explained: Anchor) -> impl IntoView {
    let store = Store::here();
    let from = row.from.clone();
    view! {
        <tr>
            <th scope="row" class="head">
                <span class="place">{row.place.clone()}</span>
                <span class="name">{row.name.clone()}</span>
                {row.problem.clone().map(|problem| view! { <span class="warn-text" title=problem.clone()>{problem.clone()}</span> })}
            </th>
            <For
                each=move || columns.get().to_vec()
                key=Column::clone
                children=move |column| cell_view(store, column.key(&from), anchor.clone(), explained.clone())
            />
        </tr>
    }
}

/// What is drawn of a cell, and whether it flashes.
#[derive(Clone, PartialEq)]
struct Face {
    look: Look,
    flash: &'static str,
}

fn cell_view(store: Store, key: CellKey, anchor: Anchor, explained: Anchor) -> impl IntoView {
    let signal = store.cell(&key);
    let face = Memo::new(move |_| {
        let entry = signal.get()?;
        let flash = match browser::now_ms() - entry.changed_at_ms < FLASH_MS {
            true if entry.changes.is_multiple_of(2) => "flash-a",
            true => "flash-b",
            false => "",
        };
        let look = store.directory.with(|directory| look::look(directory, &entry.cell));
        Some(Face { look, flash })
    });
    let word = print_key(&key);
    let here = Some(key.clone());
    let tab = {
        let here = here.clone();
        move || if anchor.selected(&here) { "0" } else { "-1" }
    };
    let open = move || explained.selected(&here).then_some("true");
    let class = move || {
        face.with(|face| match face {
            None => "cell untried".to_owned(),
            Some(Face { look, flash }) => {
                let agreement = match look.agreement {
                    Agreement::Agree => "",
                    Agreement::Disagree => "is-disagree",
                    Agreement::Unsettled => "is-unsettled",
                };
                format!("cell lamp-{} {agreement} {flash}", look.lamp.name())
            }
        })
    };
    let sentence = move || match face.with(|face| face.as_ref().map(|face| face.look.sentence.clone())) {
        Some(sentence) => sentence,
        None => store.directory.with(|directory| format!("{}: not tried", look::heading(directory, &key))),
    };
    view! {
        <td class=class tabindex=tab data-key=word aria-label=sentence.clone() title=sentence aria-selected=open>
            {move || {
                face.with(|face| match face {
                    None => view! { <span class="none" aria-hidden="true">"–"</span> }.into_any(),
                    Some(Face { look, .. }) => {
                        let mark = match look.agreement {
                            Agreement::Agree => None,
                            Agreement::Disagree => Some("disagree"),
                            Agreement::Unsettled => Some("unsettled"),
                        };
                        view! {
                            <span class="word">
                                <Icon name=look.lamp.name() />
                                {look.lamp.word()}
                                {mark.map(|mark| view! { <span class="mark"><Icon name=mark /></span> })}
                            </span>
                            <span class="detail">{look.detail.clone()}</span>
                        }
                        .into_any()
                    }
                })
            }}
        </td>
    }
}

fn key_of(target: Option<web_sys::EventTarget>) -> Option<CellKey> {
    parse_key(&cell_of(target)?.get_attribute("data-key")?)
}

fn cell_of(target: Option<web_sys::EventTarget>) -> Option<web_sys::HtmlTableCellElement> {
    let element = target?.dyn_into::<web_sys::Element>().ok()?;
    element.closest("td[data-key]").ok().flatten()?.dyn_into().ok()
}

/// Keys of the grid, as the pattern of WAI-ARIA has them.
fn press(store: Store, event: &web_sys::KeyboardEvent) {
    let Some(cell) = cell_of(event.target()) else { return };
    let key = event.key();
    match key.as_str() {
        "Enter" | " " => {
            event.prevent_default();
            if let Some(key) = key_of(event.target()) {
                store.explain(key);
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
    row.children().item(u32::try_from(at).ok()?)?.dyn_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_are_drawn_all_and_many_only_in_sight() {
        assert_eq!(in_sight(10, 5_000.0, 300.0), (0, 10));
        assert_eq!(in_sight(100, 0.0, 560.0), (0, 20));
        let (first, end) = in_sight(100, 50.0 * ROW_PX, 10.0 * ROW_PX);
        assert!(first <= 42 && end >= 69 && end - first < 40, "{first} {end}");
        assert_eq!(in_sight(100, 98.0 * ROW_PX, 560.0).1, 100);
    }
}
