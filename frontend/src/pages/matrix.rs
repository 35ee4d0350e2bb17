//! The matrix: sources down, destinations across, one lamp per connection.

pub(crate) mod press;
pub(crate) mod window;

use std::sync::Arc;

use leptos::prelude::*;
use leptos::reactive::computed::Selector;
use signalbox_api::cell::{Agreement, CellKey};

use self::press::{key_of, press};
use self::window::{Anchor, Band, COLUMN_PX, HEAD_PX, Window, anchor, gap, keep_focus, spacer};
use crate::browser;
use crate::components::icon::Icon;
use crate::model::grid::{self, Column, Grid, Row};
use crate::model::look::{self, Lamp, Look};
use crate::route::print_key;
use crate::store::Store;

/// How long a change is worth a flash.
const FLASH_MS: f64 = 2_500.0;

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
                        <span class="count">{format!("{} cells:", open + shut + other)}</span>
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
                    <li><span class="glyph">"#"</span>"each port is a cell; the lesson's checks take a host's first"</li>
                    <li><span class="glyph">"⌨"</span>"arrows move, Enter explains, Esc closes"</li>
                </ul>
            </details>
        </div>
    }
}

#[component]
fn Table(grid: Memo<Grid>) -> impl IntoView {
    let store = Store::here();
    let rows = Memo::new(move |_| grid.with(|grid| Arc::new(grid.rows.clone())));
    let columns = Memo::new(move |_| grid.with(|grid| Arc::new(grid.columns.clone())));
    let counts = Memo::new(move |_| (rows.with(|rows| rows.len()), columns.with(|columns| columns.len())));
    let window = Window::new(counts);
    let drawn = Memo::new(move |_| rows.with(|rows| window.rows(rows)));
    let band = Memo::new(move |_| columns.with(|columns| window.band(columns)));

    let active = RwSignal::new(None::<CellKey>);
    let is_drawn = move |key: &CellKey| {
        drawn.with(|rows| rows.iter().any(|row| row.from == key.from))
            && band.with(|band| band.columns.iter().any(|column| column.key(&key.from) == *key))
    };
    let first = move || drawn.with(|rows| band.with(|band| Some(band.columns.first()?.key(&rows.first()?.from))));
    let anchor = anchor(active, is_drawn, first);
    let explained = Selector::new(move || store.route.with(|route| route.why.clone()));
    keep_focus(active, move || {
        drawn.track();
        band.track();
    });

    view! {
        <div class="grid-scroll" node_ref=window.scroller on:scroll=move |_| window.look_again()>
            <table
                class="grid"
                class:many-columns=move || window.many.get()
                style:width=move || window.width(counts.get().1)
                role="grid"
                aria-label="Who can talk to whom: sources down, destinations across"
                aria-rowcount=move || (counts.get().0 + 2).to_string()
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
                on:keydown=move |event| press(&event, |key| store.explain(key))
            >
                <Show when=move || window.many.get()>
                    <colgroup>
                        <col style:width=format!("{HEAD_PX}px") />
                        <col span=move || counts.get().1.to_string() style:width=format!("{COLUMN_PX}px") />
                    </colgroup>
                </Show>
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
                    {move || spacer(window.down.get().0)}
                    <For each=move || drawn.get() key=Row::clone let:row>
                        <RowView row band anchor=anchor.clone() explained=explained.clone() />
                    </For>
                    {move || spacer(counts.get().0.saturating_sub(window.down.get().1))}
                </tbody>
            </table>
        </div>
    }
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
fn RowView(row: Row, band: Memo<Band<Column>>, anchor: Anchor, explained: Anchor) -> impl IntoView {
    let store = Store::here();
    let from = row.from.clone();
    view! {
        <tr>
            <th scope="row" class="head">
                <span class="place">{row.place.clone()}</span>
                <span class="name">{row.name.clone()}</span>
                {row.problem.clone().map(|problem| view! { <span class="warn-text" title=problem.clone()>{problem.clone()}</span> })}
            </th>
            {move || gap(band.with(|band| band.before))}
            <For
                each=move || band.with(|band| band.columns.clone())
                key=Column::clone
                children=move |column| cell_view(store, column.key(&from), anchor.clone(), explained.clone())
            />
            {move || gap(band.with(|band| band.behind))}
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
