//! What a reviewer would say of the policies.

use leptos::prelude::*;
use signalbox_policy::lint::Severity;

use super::Simulated;
use super::sim::Sim;
use crate::components::icon::Icon;
use crate::model::alone::review::{self, Note};
use crate::route::{Desk, Route, View};

/// How many findings are listed before one asks for more.
const MOST: usize = 100;

/// The view.
#[component]
pub(crate) fn LintPage() -> impl IntoView {
    let sim = Sim::here();
    let all = RwSignal::new(false);
    let total = Memo::new(move |_| sim.notes.with(|notes| notes.len()));
    let counts = move || {
        sim.notes.with(|notes| {
            [Severity::Error, Severity::Warning, Severity::Info]
                .map(|severity| {
                    let n = notes.iter().filter(|note| note.severity == severity).count();
                    (n > 0).then(|| {
                        view! {
                            <span class=format!("count note-{}", class(severity))>
                                <Icon name=icon(severity) />
                                {format!("{n} {}", review::word(severity))}
                            </span>
                        }
                    })
                })
                .collect_view()
        })
    };
    view! {
        <section class="panel lint-page" aria-labelledby="lint-title">
            <div class="title-line">
                <h1 id="lint-title">"Lint"</h1>
                <Simulated />
                <p class="counts" role="status">{counts}</p>
            </div>
            <Show when=move || total.get() == 0>
                <p class="empty">"A reviewer has nothing to say of these policies."</p>
            </Show>
            <ul class="notes">
                {move || {
                    let most = if all.get() { usize::MAX } else { MOST };
                    sim.notes.with(|notes| notes.iter().take(most).map(|note| view! { <li>{note_view(note)}</li> }).collect_view())
                }}
            </ul>
            <Show when=move || { total.get() > MOST && !all.get() }>
                <button class="small" on:click=move |_| all.set(true)>{move || format!("Show all {}", total.get())}</button>
            </Show>
        </section>
    }
}

const fn class(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
    }
}

const fn icon(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "broken",
        Severity::Warning => "refused",
        Severity::Info => "info",
    }
}

/// One finding.
pub(crate) fn note_view(note: &Note) -> impl IntoView + use<> {
    let object = match note.item {
        Some(item) => {
            let href = Route::to(View::Alone(Desk::Policies(Some(item)))).hash();
            view! { <a href=href>{note.object.clone()}</a> }.into_any()
        }
        None => view! { <span>{note.object.clone()}</span> }.into_any(),
    };
    let docs = format!("{}/blob/main/{}", env!("CARGO_PKG_REPOSITORY"), note.docs);
    view! {
        <article class=format!("note note-{}", class(note.severity))>
            <p class="note-head">
                <span class="severity"><Icon name=icon(note.severity) />{review::word(note.severity)}</span>
                {object}
                {(!note.path.is_empty()).then(|| view! { <code>{note.path.clone()}</code> })}
                {note.place.clone().map(|place| view! { <span class="faint">{place}</span> })}
            </p>
            <p>{note.message.clone()}</p>
            <p class="remedy-line"><b>"Instead: "</b>{note.remedy.clone()}</p>
            <p class="rule-line"><a href=docs target="_blank" rel="noreferrer">{note.rule.clone()}</a></p>
        </article>
    }
}
