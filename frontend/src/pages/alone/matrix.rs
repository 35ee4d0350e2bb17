//! The simulated matrix: sources down, destinations across, one lamp per pair with its exact ports.

use std::collections::BTreeSet;
use std::sync::Arc;

use leptos::prelude::*;
use leptos::reactive::computed::Selector;
use signalbox_api::cell::CellKey;
use signalbox_api::flow::Protocol;

use super::Simulated;
use super::sim::Sim;
use crate::components::icon::Icon;
use crate::model::alone::cell::{self, Face, Shade};
use crate::model::alone::survey::Tally;
use crate::model::alone::table::{self, Table};
use crate::pages::matrix::press::{key_of, press};
use crate::pages::matrix::window::{Anchor, Band, COLUMN_PX, HEAD_PX, Window, anchor, gap, keep_focus, spacer};
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

#[component]
fn TableView(table: Memo<Arc<Table>>) -> impl IntoView {
    let store = Store::here();
    let sim = Sim::here();
    let counts = Memo::new(move |_| table.with(|table| (table.rows.len(), table.columns.len())));
    let window = Window::new(counts);
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
    let drawn =
        Memo::new(move |_| table.with(|table| window.rows(&table.rows)).iter().filter_map(name).collect::<Vec<_>>());
    let band = Memo::new(move |_| {
        let Band { before, columns, behind } = table.with(|table| window.band(&table.columns));
        Band { before, columns: columns.iter().filter_map(name).collect::<Vec<_>>(), behind }
    });

    let active = RwSignal::new(None::<CellKey>);
    let is_drawn = move |key: &CellKey| {
        drawn.with(|rows| rows.iter().any(|row| row.id == key.from))
            && band.with(|band| band.columns.iter().any(|column| column.id == key.to))
    };
    let first = move || drawn.with(|rows| band.with(|band| Some(key(&rows.first()?.id, &band.columns.first()?.id))));
    let anchor = anchor(active, is_drawn, first);
    let explained = Selector::new(move || {
        let why = store.route.with(|route| route.why.clone());
        why.map(|it| key(&it.from, &it.to))
    });
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
                <Show when=move || window.many.get()>
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
                    {move || spacer(window.down.get().0)}
                    <For each=move || drawn.get() key=Head::clone let:row>
                        <RowView row band anchor=anchor.clone() explained=explained.clone() />
                    </For>
                    {move || spacer(counts.get().0.saturating_sub(window.down.get().1))}
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

/// A pair as a cell's key. Port 0 stands for all ports.
fn key(from: &str, to: &str) -> CellKey {
    CellKey { from: from.to_owned(), to: to.to_owned(), port: 0, protocol: Protocol::Tcp }
}

#[component]
fn RowView(row: Head, band: Memo<Band<Head>>, anchor: Anchor, explained: Anchor) -> impl IntoView {
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

fn cell_view(sim: Sim, from: &str, to: &str, anchor: Anchor, explained: Anchor) -> impl IntoView + use<> {
    let key = key(from, to);
    let word = print_key(&key);
    let drawn = {
        let key = key.clone();
        Memo::new(move |_| {
            let lens = sim.wish.with(|wish| wish.lens());
            sim.scene.with(|scene| {
                let (from, to) = (scene.find(&key.from)?, scene.find(&key.to)?);
                // Between two places outside nobody judges anything.
                if !scene.is_pod(from) && !scene.is_pod(to) {
                    return None;
                }
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
    let sentence = move || {
        drawn.with(|drawn| match drawn {
            Some((_, sentence)) => sentence.clone(),
            None => "Not judged: both ends are outside the cluster".to_owned(),
        })
    };
    view! {
        <td class=class tabindex=tab data-key=word aria-label=sentence title=sentence aria-selected=open>
            {move || {
                drawn.with(|drawn| {
                    let Some((Face { shade, word, detail, change, mark }, _)) = drawn.as_ref() else {
                        return view! { <span class="none" aria-hidden="true">"–"</span> }.into_any();
                    };
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
