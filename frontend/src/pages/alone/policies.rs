//! The objects: the list, the editor, and beside it what an edit opens and shuts.

use std::collections::BTreeMap;

use leptos::html;
use leptos::prelude::*;

use super::Simulated;
use super::changes::{Balance, BaseLine, Changes};
use super::lint::note_view;
use super::sim::Sim;
use crate::components::icon::Icon;
use crate::model::alone::review;
use crate::model::alone::workspace::{Item, Standing};
use crate::model::draft::TEMPLATES;
use crate::pages::policies::code::{CodeBox, span};
use crate::route::{Desk, Route, View};
use crate::store::Store;

/// How many objects of other kinds are listed.
const MOST_OTHERS: usize = 200;

/// The view.
#[component]
pub(crate) fn PoliciesPage() -> impl IntoView {
    let store = Store::here();
    let sim = Sim::here();
    let edited = Memo::new(move |_| match super::desk(store) {
        Desk::Policies(item) => item,
        Desk::Matrix | Desk::Changes | Desk::Lint | Desk::Files | Desk::Link(_) => None,
    });
    let there =
        Memo::new(move |_| edited.get().filter(|id| sim.workspace.with(|workspace| workspace.item(*id).is_some())));
    view! {
        <div class="policies alone-policies">
            <List edited />
            {move || match there.get() {
                Some(id) => view! { <Editor id /> }.into_any(),
                None => view! { <Hint gone=edited.get().is_some() /> }.into_any(),
            }}
            <section class="panel changes-panel" aria-labelledby="changes-title">
                <div class="title-line">
                    <h2 id="changes-title">"What this changes"</h2>
                    <Simulated />
                </div>
                <BaseLine />
                <Changes />
            </section>
        </div>
    }
}

#[component]
fn Hint(gone: bool) -> impl IntoView {
    view! {
        <section class="panel editor">
            <h2>{if gone { "There is no such object, or no longer" } else { "Edit, and see what it would change" }}</h2>
            <p>
                "Choose a policy and change its text: what that opens and shuts shows at once, here and in the matrix. Nothing is "
                "applied anywhere."
            </p>
        </section>
    }
}

#[component]
fn List(edited: Memo<Option<u32>>) -> impl IntoView {
    let store = Store::here();
    let sim = Sim::here();
    let filter = RwSignal::new(String::new());
    let entries = Memo::new(move |_| {
        let filter = filter.get().trim().to_lowercase();
        let mut policies: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        let mut others = Vec::new();
        sim.workspace.with(|workspace| {
            for item in workspace.items.iter().filter(|item| item.key.to_lowercase().contains(&filter)) {
                let entry = Entry::of(item, workspace.standing(item));
                match item.is_policy() {
                    true => policies.entry(entry.namespace.clone()).or_default().push(entry),
                    false => others.push(entry),
                }
            }
        });
        (policies, others)
    });
    let create = move |_| {
        let namespace = sim.scene.with_untracked(|scene| scene.ends.first().map(|end| end.place.clone()));
        let text =
            TEMPLATES[0].manifest(&namespace.unwrap_or_else(|| "default".to_owned())).replace("zero-trust", "new");
        let id = sim.change(|workspace| workspace.create(&text));
        store.go(&Route::to(View::Alone(Desk::Policies(Some(id)))));
    };
    view! {
        <section class="panel" aria-label="List of objects">
            <div class="list-head">
                <h1>"Policies"</h1>
                <button class="button" on:click=create>
                    <Icon name="plus" />
                    "New"
                </button>
            </div>
            <label class="field">
                <Icon name="search" />
                <span class="visually-hidden">"Filter objects"</span>
                <input type="search" placeholder="Filter" prop:value=filter on:input=move |event| filter.set(event_target_value(&event)) />
            </label>
            <div class="policy-list">
                {move || {
                    entries.with(|(policies, _)| {
                        if policies.is_empty() {
                            return view! { <p class="empty">"No policy: everything is open."</p> }.into_any();
                        }
                        policies
                            .iter()
                            .map(|(namespace, entries)| {
                                view! {
                                    <h2>{namespace.clone()}</h2>
                                    <ul>{entries.iter().map(|entry| view! { <li>{entry_view(entry, edited)}</li> }).collect_view()}</ul>
                                }
                            })
                            .collect_view()
                            .into_any()
                    })
                }}
                <details class="others">
                    <summary>{move || entries.with(|(_, others)| format!("Other objects ({})", others.len()))}</summary>
                    <ul>
                        {move || {
                            entries.with(|(_, others)| {
                                others.iter().take(MOST_OTHERS).map(|entry| view! { <li>{entry_view(entry, edited)}</li> }).collect_view()
                            })
                        }}
                    </ul>
                    {move || {
                        entries.with(|(_, others)| {
                            (others.len() > MOST_OTHERS).then(|| view! { <p class="empty">"More than are listed: use the filter."</p> })
                        })
                    }}
                </details>
            </div>
        </section>
    }
}

/// A line of the list.
#[derive(Clone, PartialEq)]
struct Entry {
    id: u32,
    namespace: String,
    name: String,
    kind: String,
    source: String,
    standing: Standing,
    broken: bool,
}

impl Entry {
    fn of(item: &Item, standing: Standing) -> Self {
        let (namespace, name) = item.name().split_once('/').unwrap_or(("whole cluster", item.name()));
        Self {
            id: item.id,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            kind: item.kind().to_owned(),
            source: item.origin.source.to_string(),
            standing,
            broken: item.error.is_some(),
        }
    }
}

fn entry_view(entry: &Entry, edited: Memo<Option<u32>>) -> impl IntoView + use<> {
    let id = entry.id;
    let href = Route::to(View::Alone(Desk::Policies(Some(id)))).hash();
    let here = move || (edited.get() == Some(id)).then_some("page");
    let state = match (entry.broken, entry.standing) {
        (true, _) => Some("⚠ cannot be read"),
        (false, Standing::New) => Some("● new"),
        (false, Standing::Changed) => Some("● changed"),
        (false, Standing::Same) => None,
    };
    view! {
        <a href=href aria-current=here>
            <span class="name">{entry.name.clone()} <span class="count">{entry.kind.clone()}</span></span>
            <span class="summary">{entry.source.clone()}</span>
            {state.map(|state| view! { <span class="unsaved">{state}</span> })}
        </a>
    }
}

#[component]
fn Editor(id: u32) -> impl IntoView {
    let store = Store::here();
    let sim = Sim::here();
    let item = Memo::new(move |_| sim.workspace.with(|workspace| workspace.item(id).cloned()));
    let text =
        Memo::new(move |_| item.with(|item| item.as_ref().map(|item| item.text().to_string()).unwrap_or_default()));
    let marks = Memo::new(move |_| item.with(|item| item.as_ref().map(review::marks).unwrap_or_default()));
    let standing =
        Memo::new(move |_| sim.workspace.with(|workspace| workspace.item(id).map(|item| workspace.standing(item))));
    let dirty = Memo::new(move |_| {
        let base = sim.workspace.with(|workspace| workspace.base.iter().find(|it| it.id == id).map(Item::text));
        base.is_some_and(|base| text.with(|text| *text != *base))
    });
    let meaning =
        move || item.with(|item| item.as_ref().and_then(|item| sim.scene.with(|scene| review::meaning(scene, item))));
    let title = move || item.with(|item| item.as_ref().map(|item| item.key.to_string()).unwrap_or_default());
    let field = NodeRef::<html::Textarea>::new();
    let broken = Memo::new(move |_| item.with(|item| item.as_ref().is_some_and(|item| item.error.is_some())));
    let notes = move || {
        sim.notes.with(|notes| {
            let own: Vec<_> = notes.iter().filter(|note| note.item == Some(id)).map(note_view).collect();
            (!own.is_empty()).then(|| {
                view! {
                    <section class="own-notes" aria-label="Lint of this object">
                        <h3>"Lint"</h3>
                        {own.into_iter().collect_view()}
                    </section>
                }
            })
        })
    };
    let remove = move |_| {
        sim.change(|workspace| workspace.remove(id));
        store.go(&Route::to(View::Alone(Desk::Policies(None))));
    };
    view! {
        <section class="panel editor" aria-labelledby="editor-title">
            <div class="editor-head">
                <h2 id="editor-title">{title}</h2>
                <p class="means">{meaning}</p>
                <Balance />
            </div>
            <CodeBox text marks typed=Callback::new(move |text: String| sim.typed(id, &text)) field />
            <ul id="faults" class="faults" role="status">
                {move || {
                    marks
                        .get()
                        .into_iter()
                        .map(|mark| {
                            let line = mark.line.unwrap_or(1);
                            let jump = move |_| {
                                if let Some(field) = field.get_untracked() {
                                    let (start, end) = text.with_untracked(|text| span(text, line));
                                    let _ = field.focus();
                                    let _ = field.set_selection_range(start, end);
                                }
                            };
                            view! {
                                <li>
                                    <button type="button" on:click=jump>{format!("Line {line}")}</button>
                                    <span>
                                        {(!mark.field.is_empty()).then(|| view! { <code>{mark.field.clone()}</code> " " })}
                                        {mark.message}
                                    </span>
                                </li>
                            }
                        })
                        .collect_view()
                }}
            </ul>
            <Show when=move || broken.get()>
                <p class="notice warn">"This text cannot be read: what counts is the last one that could."</p>
            </Show>
            <div class="actions">
                <Show when=move || dirty.get()>
                    <button class="button" on:click=move |_| sim.change(|workspace| workspace.item_back_to_base(id))>
                        "Back to the baseline's text"
                    </button>
                </Show>
                <span class="unsaved">
                    {move || match (dirty.get(), standing.get()) {
                        (_, Some(Standing::New)) => "● new: not in the baseline",
                        (true, _) => "● changed: compared with the baseline",
                        (false, _) => "",
                    }}
                </span>
                <button class="button danger last" on:click=remove>"Remove it here"</button>
            </div>
            {notes}
        </section>
    }
}
