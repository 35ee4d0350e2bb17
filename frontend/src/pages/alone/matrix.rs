//! The simulated matrix: sources down, destinations across, one lamp per pair with its exact ports.

use std::collections::BTreeSet;
use std::sync::Arc;

use leptos::prelude::*;
use leptos::reactive::computed::Selector;
use leptos::{ev, html};
use signalbox_api::cell::CellKey;
use signalbox_api::flow::Protocol;

use super::Simulated;
use super::sim::Sim;
use crate::browser;
use crate::components::icon::Icon;
use crate::model::alone::cell::{self, Face, Shade};
use crate::model::alone::survey::Tally;
use crate::model::alone::table::{self, Table};
use crate::pages::matrix::press::{key_of, press};
use crate::pages::matrix::{COLUMN_PX, HEAD_PX, MANY_COLUMNS, MANY_ROWS, ROW_PX, in_sight};
use crate::route::print_key;
use crate::store::Store;

/// The view.
#[component]
pub(crate) fn MatrixPage() -> impl IntoView {
    let sim = Sim::here();
    let table = Memo::new(move |_| {
        let wish = sim.wish.get();
        sim.scene.with(|scene| {
            if !wish.changed {
                return Arc::new(table::table(scene, &wish, None));
            }
            let (mut rows, mut columns) = (BTreeSet::new(), BTreeSet::new());
            sim.survey.with(|survey| {
                for change in &survey.changes {
                    rows.extend(scene.kinds.get(change.from).into_iter().flatten().copied());
                    columns.extend(scene.kinds.get(change.to).into_iter().flatten().copied());
                }
            });
            let (rows, columns): (Vec<_>, Vec<_>) = (rows.into_iter().collect(), columns.into_iter().collect());
            Arc::new(table::table(scene, &wish, Some((&rows, &columns))))
        })
    });
    let empty = Memo::new(move |_| table.with(|table| table.rows.is_empty() || table.columns.is_empty()));
    view! {
        <section class="matrix" aria-labelledby="matrix-title">
            <div class="title-line">
                <h1 id="matrix-title">"Who could talk to whom"</h1>
                <Simulated />
            </div>
            <Tools />
            <Show when=move || !empty.get() fallback=|| view! { <Nothing /> }>
                <TableView table />
            </Show>
        </section>
    }
}

#[component]
fn Nothing() -> impl IntoView {
    let sim = Sim::here();
    let words = move || {
        let no_pods = sim.scene.with(|scene| scene.pods == 0);
        let changed = sim.wish.with(|wish| wish.changed);
        match (no_pods, changed) {
            (true, _) => "There is no pod and no workload among what you put in: add some under Files.",
            (false, true) => "Nothing differs from the baseline.",
            (false, false) => "No row or column has this in its name.",
        }
    };
    view! { <p class="empty">{words}</p> }
}

#[component]
fn Tools() -> impl IntoView {
    let sim = Sim::here();
    let tally = Memo::new(move |_| {
        let outside = sim.wish.with(|wish| wish.outside);
        sim.survey.with(|survey| {
            let mut tally = survey.pods;
            if outside {
                tally += survey.outside;
            }
            tally
        })
    });
    let count = move |shade: Shade, tally: &Tally| {
        let n = tally.of(shade);
        (n > 0).then(|| {
            view! {
                <span class=format!("count lamp-{}", shade.name())>
                    <Icon name=shade.icon() />
                    {format!("{} {}", cell::grouped(n), shade.count_word())}
                </span>
            }
        })
    };
    let compared = Memo::new(move |_| sim.scene.with(|scene| scene.base.is_some()));
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
                    prop:value=move || sim.wish.with(|wish| wish.filter.clone())
                    on:input=move |event| sim.wish.update(|wish| wish.filter = event_target_value(&event))
                />
            </label>
            <label class="field port-field">
                <span>"Port"</span>
                <input
                    type="text"
                    placeholder="all, or UDP 53"
                    aria-label="One port alone, such as 9000 or UDP 53"
                    autocomplete="off"
                    spellcheck="false"
                    prop:value=move || sim.wish.with(|wish| wish.port.clone())
                    on:input=move |event| sim.wish.update(|wish| wish.port = event_target_value(&event))
                />
            </label>
            <label class="toggle">
                <input
                    type="checkbox"
                    prop:checked=move || sim.wish.with(|wish| wish.outside)
                    on:change=move |event| sim.wish.update(|wish| wish.outside = event_target_checked(&event))
                />
                <span>"Outside"</span>
            </label>
            <Show when=move || compared.get()>
                <label class="toggle">
                    <input
                        type="checkbox"
                        prop:checked=move || sim.wish.with(|wish| wish.changed)
                        on:change=move |event| sim.wish.update(|wish| wish.changed = event_target_checked(&event))
                    />
                    <span>"Only what changes"</span>
                </label>
            </Show>
            <p class="counts" role="status">
                {move || tally.with(|tally| Shade::ALL.map(|shade| count(shade, tally)).collect_view())}
            </p>
            <details class="legend">
                <summary>"Legend"</summary>
                <ul class="pop">
                    {Shade::ALL
                        .into_iter()
                        .map(|shade| {
                            view! {
                                <li class=format!("lamp-{}", shade.name())>
                                    <Icon name=shade.icon() />
                                    <span><b>{shade.word()}</b> ": " {shade.meaning()}</span>
                                </li>
                            }
                        })
                        .collect_view()}
                    <li><Icon name="opens" /><span><b>"opens"</b> ": shut in the baseline, open now"</span></li>
                    <li><Icon name="shuts" /><span><b>"shuts"</b> ": open in the baseline, shut now"</span></li>
                    <li><span class="glyph">"⌨"</span><span>"arrows move, Enter explains, Esc closes"</span></li>
                </ul>
            </details>
        </div>
    }
}

/// The cell that the tab key reaches.
type Anchor = Selector<Option<CellKey>>;

#[component]
fn TableView(table: Memo<Arc<Table>>) -> impl IntoView {
    let store = Store::here();
    let sim = Sim::here();
    let scroller = NodeRef::<html::Div>::new();
    let sight = RwSignal::new((0.0, 900.0, 0.0, 2_000.0));
    let look_again = move || {
        if let Some(scroller) = scroller.get_untracked() {
            sight.set((
                f64::from(scroller.scroll_top()),
                f64::from(scroller.client_height()),
                f64::from(scroller.scroll_left()),
                f64::from(scroller.client_width()),
            ));
        }
    };
    let resize = window_event_listener(ev::resize, move |_| look_again());
    on_cleanup(move || resize.remove());

    let counts = Memo::new(move |_| table.with(|table| (table.rows.len(), table.columns.len())));
    let down = Memo::new(move |_| {
        let (top, height, ..) = sight.get();
        in_sight(counts.get().0, MANY_ROWS, ROW_PX, top, height)
    });
    let across = Memo::new(move |_| {
        let (_, _, left, width) = sight.get();
        in_sight(counts.get().1, MANY_COLUMNS, COLUMN_PX, left, width)
    });
    let name = move |end: &usize| {
        sim.scene.with(|scene| {
            let end = scene.ends.get(*end)?;
            Some(Head {
                id: end.id.clone(),
                place: end.place.clone(),
                name: end.name.clone(),
                title: end.addresses.clone(),
            })
        })
    };
    let drawn = Memo::new(move |_| {
        let (first, end) = down.get();
        table.with(|table| {
            let (first, end) = (first.min(table.rows.len()), end.min(table.rows.len()));
            table.rows[first..end].iter().filter_map(name).collect::<Vec<_>>()
        })
    });
    let band = Memo::new(move |_| {
        let (first, end) = across.get();
        table.with(|table| {
            let (first, end) = (first.min(table.columns.len()), end.min(table.columns.len()));
            let columns = table.columns[first..end].iter().filter_map(name).collect::<Vec<_>>();
            Band { before: first, columns, behind: table.columns.len() - end }
        })
    });
    let many = Memo::new(move |_| counts.get().1 >= MANY_COLUMNS);

    let active = RwSignal::new(None::<CellKey>);
    let anchor = Memo::new(move |_| {
        let here = active.get();
        let known = here.as_ref().is_some_and(|key| {
            drawn.with(|rows| rows.iter().any(|row| row.id == key.from))
                && band.with(|band| band.columns.iter().any(|column| column.id == key.to))
        });
        if known {
            return here;
        }
        drawn.with(|rows| band.with(|band| Some(key(&rows.first()?.id, &band.columns.first()?.id))))
    });
    let anchor = Selector::new(move || anchor.get());
    let explained = Selector::new(move || {
        let why = store.route.with(|route| route.why.clone());
        why.map(|it| key(&it.from, &it.to))
    });

    // A cell that has the focus may be drawn anew while the window moves under it: the focus stays with it.
    let inside = StoredValue::new(false);
    let focus = window_event_listener(ev::focusin, move |event| inside.set_value(key_of(event.target()).is_some()));
    on_cleanup(move || focus.remove());
    Effect::new(move |_| {
        drawn.track();
        band.track();
        if inside.get_value()
            && let Some(key) = active.get_untracked()
        {
            request_animation_frame(move || browser::refocus(&format!("[data-key='{}']", print_key(&key))));
        }
    });

    let spacer = move |px: f64| {
        (px > 0.0)
            .then(|| view! { <tr class="spacer" aria-hidden="true"><td style:height=format!("{px}px")></td></tr> })
    };
    view! {
        <div class="grid-scroll" node_ref=scroller on:scroll=move |_| look_again()>
            <table
                class="grid"
                class:many-columns=move || many.get()
                style:width=move || many.get().then(|| format!("{}px", HEAD_PX + counts.get().1 as f64 * COLUMN_PX))
                role="grid"
                aria-label="Simulated: who could talk to whom, sources down, destinations across"
                aria-rowcount=move || (counts.get().0 + 1).to_string()
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
                <Show when=move || many.get()>
                    <colgroup>
                        <col style:width=format!("{HEAD_PX}px") />
                        <col span=move || counts.get().1.to_string() style:width=format!("{COLUMN_PX}px") />
                    </colgroup>
                </Show>
                <thead>
                    <tr class="heads">
                        <td class="corner">
                            <span>"from ↓"</span>
                            <span>"to →"</span>
                        </td>
                        {move || gap(band.with(|band| band.before))}
                        <For each=move || band.with(|band| band.columns.clone()) key=Head::clone let:head>
                            <th scope="col" class="head" title=head.title.clone()>
                                <span class="place">{head.place.clone()}</span>
                                <span class="name">{head.name.clone()}</span>
                            </th>
                        </For>
                        {move || gap(band.with(|band| band.behind))}
                    </tr>
                </thead>
                <tbody>
                    {move || spacer(down.get().0 as f64 * ROW_PX)}
                    <For each=move || drawn.get() key=Head::clone let:row>
                        <RowView row band anchor=anchor.clone() explained=explained.clone() />
                    </For>
                    {move || spacer(counts.get().0.saturating_sub(down.get().1) as f64 * ROW_PX)}
                </tbody>
            </table>
        </div>
    }
}

/// The head of a row or column.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Head {
    id: String,
    place: String,
    name: String,
    title: String,
}

/// The columns to draw, and how many there are on either side of them.
#[derive(Clone, PartialEq)]
struct Band {
    before: usize,
    columns: Vec<Head>,
    behind: usize,
}

/// A pair as a cell's key. Port 0 stands for all ports.
fn key(from: &str, to: &str) -> CellKey {
    CellKey { from: from.to_owned(), to: to.to_owned(), port: 0, protocol: Protocol::Tcp }
}

#[component]
fn RowView(row: Head, band: Memo<Band>, anchor: Anchor, explained: Anchor) -> impl IntoView {
    let sim = Sim::here();
    let from = row.id.clone();
    view! {
        <tr>
            <th scope="row" class="head" title=row.title.clone()>
                <span class="place">{row.place.clone()}</span>
                <span class="name">{row.name.clone()}</span>
            </th>
            {move || gap(band.with(|band| band.before))}
            <For
                each=move || band.with(|band| band.columns.clone())
                key=Head::clone
                children=move |column| cell_view(sim, &from, &column.id, anchor.clone(), explained.clone())
            />
            {move || gap(band.with(|band| band.behind))}
        </tr>
    }
}

/// Stands for columns that are out of sight.
fn gap(columns: usize) -> impl IntoView {
    (columns > 0).then(|| view! { <td class="gap" aria-hidden="true" colspan=columns.to_string()></td> })
}

fn cell_view(sim: Sim, from: &str, to: &str, anchor: Anchor, explained: Anchor) -> impl IntoView + use<> {
    let key = key(from, to);
    let word = print_key(&key);
    let drawn = {
        let key = key.clone();
        Memo::new(move |_| {
            let lens = sim.wish.with(|wish| wish.lens());
            sim.scene.with(|scene| {
                let (from, to) = (scene.find(&key.from)?, scene.find(&key.to)?);
                let face = cell::face(&scene.cell(from, to), lens);
                let sentence = cell::sentence(&scene.title(from), &scene.title(to), &face);
                Some((face, sentence))
            })
        })
    };
    let here = Some(key);
    let tab = {
        let here = here.clone();
        move || if anchor.selected(&here) { "0" } else { "-1" }
    };
    let open = move || explained.selected(&here).then_some("true");
    let class = move || {
        drawn.with(|drawn| match drawn {
            None => "cell untried".to_owned(),
            Some((face, _)) => {
                let changed = if face.mark.is_some() { "is-changed" } else { "" };
                format!("cell lamp-{} {changed}", face.shade.name())
            }
        })
    };
    let sentence = move || drawn.with(|drawn| drawn.as_ref().map(|(_, sentence)| sentence.clone()));
    view! {
        <td class=class tabindex=tab data-key=word aria-label=sentence title=sentence aria-selected=open>
            {move || {
                drawn.with(|drawn| {
                    let Some((Face { shade, word, detail, change, mark }, _)) = drawn.as_ref() else { return ().into_any() };
                    let detail = if change.is_empty() { detail.clone() } else { change.clone() };
                    view! {
                        <span class="word">
                            <Icon name=shade.icon() />
                            {*word}
                            {mark.map(|mark| view! { <span class="mark"><Icon name=mark /></span> })}
                        </span>
                        <span class="detail">{detail}</span>
                    }
                    .into_any()
                })
            }}
        </td>
    }
}
