//! The editor of one policy: nothing typed is lost, and what is wrong is shown where it is.

use std::time::Duration;

use leptos::html;
use leptos::leptos_dom::helpers::TimeoutHandle;
use leptos::prelude::*;
use leptos::task::spawn_local;
use signalbox_api::session::PolicyVerb;

use super::code::{CodeBox, span};
use crate::api::rest::{self, CallError, Mode};
use crate::browser;
use crate::components::header::ViewOnly;
use crate::model::check::{self, Checked, Mark};
use crate::model::draft::{self, Draft, Standing, TEMPLATES};
use crate::route::{Edited, Route, View};
use crate::store::Store;

/// How long the keyboard must rest before the server is asked.
const REST_MS: u64 = 600;

/// What is said of a success.
const APPLIED: &str = "Applied.";

/// The server's word on one text.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    text: String,
    error: Option<CallError>,
}

/// What is going on, and what came of it.
#[derive(Clone, Copy)]
struct Desk {
    store: Store,
    edited: StoredValue<Edited>,
    text: Memo<String>,
    checked: Memo<Checked>,
    answer: RwSignal<Option<Answer>>,
    said: RwSignal<Option<String>>,
    busy: RwSignal<bool>,
    rest: StoredValue<Option<TimeoutHandle>>,
}

/// The editor.
#[component]
pub(crate) fn Editor(edited: Edited) -> impl IntoView {
    let store = Store::here();
    if edited == Edited::New && store.drafts.with_untracked(|drafts| !drafts.contains_key(&Edited::New)) {
        store.keep_draft(&Edited::New, Draft::from_template(TEMPLATES[0].manifest(&first_namespace(store))));
    }
    let said = store.applied.get_untracked().filter(|applied| *applied == edited).map(|_| APPLIED.to_owned());
    store.applied.set(None);
    let me = StoredValue::new(edited);
    let text = Memo::new(move |_| {
        let edited = me.get_value();
        let policy = store.policy(&edited);
        store.drafts.with(|drafts| draft::shown(drafts.get(&edited), policy.as_ref()))
    });
    let desk = Desk {
        store,
        edited: me,
        text,
        checked: Memo::new(move |_| text.with(|text| check::check(text))),
        answer: RwSignal::new(None),
        said: RwSignal::new(said),
        busy: RwSignal::new(false),
        rest: StoredValue::new(None),
    };
    on_cleanup(move || desk.stop_resting());
    let field = NodeRef::<html::Textarea>::new();
    let title = me.with_value(|edited| match edited {
        Edited::New => "New policy".to_owned(),
        Edited::Existing(namespace, name) => format!("{namespace}/{name}"),
    });
    let new = me.with_value(|edited| *edited == Edited::New);
    let means = move || desk.checked.with(|checked| checked.summary.clone());
    let is_there = Memo::new(move |_| new || store.policy(&me.get_value()).is_some());
    let shown = Memo::new(move |_| is_there.get() || desk.draft().is_some_and(|draft| draft.is_dirty()));
    view! {
        <section class="panel editor" aria-labelledby="editor-title">
            <div class="editor-head">
                <h2 id="editor-title">{title}</h2>
                <p class="means">{means}</p>
            </div>
            <Show when=move || shown.get() fallback=|| view! { <p class="empty">"There is no such policy, or no longer."</p> }>
                {new.then(|| view! { <Templates desk /> })}
                <Moved desk />
                <CodeBox text marks=desk.marks() typed=Callback::new(move |text| desk.typed(text)) field />
                <Faults desk field />
                <Actions desk />
            </Show>
        </section>
    }
}

fn first_namespace(store: Store) -> String {
    let pods =
        store.directory.with_untracked(|directory| directory.iter().find_map(|endpoint| endpoint.namespace.clone()));
    pods.unwrap_or_else(|| "default".to_owned())
}

impl Desk {
    fn draft(self) -> Option<Draft> {
        self.store.drafts.with(|drafts| self.edited.with_value(|edited| drafts.get(edited).cloned()))
    }

    fn writable(self) -> bool {
        self.store.station.with(|station| station.writable)
    }

    /// Why what is here cannot be applied, or the policy deleted; `None` where it can. Tells the missing right.
    fn missing(self, verbs: &[PolicyVerb]) -> Option<String> {
        let namespace = self.edited.with_value(|edited| match edited {
            Edited::Existing(namespace, _) => Some(namespace.clone()),
            Edited::New => None,
        });
        // A new policy's namespace is the one that is typed, once one is.
        let namespace = namespace.or_else(|| self.checked.with(|checked| checked.name.clone()).map(|(given, _)| given));
        self.store.missing(&namespace?, verbs)
    }

    /// What [`send`] needs.
    fn needs(self) -> &'static [PolicyVerb] {
        let is_there = self.store.policy(&self.edited.get_value()).is_some();
        if is_there { &[PolicyVerb::Update] } else { &[PolicyVerb::Patch, PolicyVerb::Create] }
    }

    /// The engine's marks, and those of the server's word on this very text.
    fn marks(self) -> Memo<Vec<Mark>> {
        Memo::new(move |_| {
            let mut marks = self.checked.with(|checked| checked.marks.clone());
            let text = self.text.get();
            self.answer.with(|answer| {
                let Some(Answer { text: judged, error: Some(error) }) = answer else { return };
                if *judged != text {
                    return;
                }
                for mark in check::marks(&text, error.causes()) {
                    if !marks.iter().any(|known| known.field == mark.field && known.line == mark.line) {
                        marks.push(mark);
                    }
                }
            });
            marks
        })
    }

    /// What the server said as a whole, where no field is at fault.
    fn refusal(self) -> Option<String> {
        let text = self.text.get();
        self.answer.with(|answer| match answer {
            Some(Answer { text: judged, error: Some(error) }) if *judged == text && error.causes().is_empty() => {
                Some(error.message())
            }
            _ => None,
        })
    }

    fn typed(self, text: String) {
        let edited = self.edited.get_value();
        let policy = untrack(|| self.store.policy(&edited));
        let draft = self.store.drafts.with_untracked(|drafts| draft::typed(drafts.get(&edited), policy.as_ref(), text));
        self.store.keep_draft(&edited, draft);
        self.said.set(None);
        self.ask_after_a_rest();
    }

    fn stop_resting(self) {
        let timer = self.rest.try_update_value(Option::take).flatten();
        if let Some(timer) = timer {
            timer.clear();
        }
    }

    /// Asks the server what it thinks of the text, once the keyboard rests and the engine has no complaint.
    fn ask_after_a_rest(self) {
        self.stop_resting();
        if !untrack(|| self.writable() && self.missing(self.needs()).is_none()) {
            return;
        }
        let ask = move || {
            if self.checked.with_untracked(|checked| !checked.marks.is_empty()) {
                return;
            }
            let text = self.text.get_untracked();
            let edited = self.edited.get_value();
            spawn_local(async move {
                let error = send(self.store, &edited, &text, Mode::Check).await.err();
                // Being away says nothing about the text.
                if error != Some(CallError::Away) {
                    self.answer.try_set(Some(Answer { text, error }));
                }
            });
        };
        let timer = set_timeout_with_handle(ask, Duration::from_millis(REST_MS)).ok();
        self.rest.set_value(timer);
    }

    fn apply(self) {
        if self.busy.get_untracked() {
            return;
        }
        let text = self.text.get_untracked();
        let edited = self.edited.get_value();
        let name = self.checked.with_untracked(|checked| checked.name.clone());
        self.busy.set(true);
        self.said.set(None);
        spawn_local(async move {
            let error = send(self.store, &edited, &text, Mode::Apply).await.err();
            let done = error.is_none();
            self.busy.try_set(false);
            self.answer.try_set(Some(Answer { text: text.clone(), error }));
            if !done {
                return;
            }
            self.store.drafts.update(|drafts| {
                // What was typed while the server was at work is still to be applied.
                if let Some(draft) = drafts.get_mut(&edited).filter(|draft| draft.text == text) {
                    draft.applied = true;
                }
            });
            let draft = self.store.drafts.with_untracked(|drafts| drafts.get(&edited).cloned());
            match (edited, draft, name) {
                (Edited::New, Some(draft), Some((namespace, name))) if draft.applied => {
                    self.store.drop_draft(&Edited::New);
                    let edited = Edited::Existing(namespace, name);
                    self.store.applied.set(Some(edited.clone()));
                    self.store.go(&Route::to(View::Policies(Some(edited))));
                    // The button that was pressed goes with this editor.
                    browser::focus("main");
                }
                (edited, Some(draft), _) => self.store.keep_draft(&edited, draft),
                (_, None, _) => {}
            }
            self.said.try_set(Some(APPLIED.to_owned()));
        });
    }

    fn delete(self) {
        let Edited::Existing(namespace, name) = self.edited.get_value() else { return };
        self.busy.set(true);
        spawn_local(async move {
            let answer = rest::delete_policy(&namespace, &name).await;
            self.busy.try_set(false);
            match answer {
                Ok(()) => {
                    self.store.drop_draft(&Edited::Existing(namespace, name));
                    self.store.go(&Route::to(View::Policies(None)));
                    // The button that was pressed is gone: on to what is there now.
                    browser::focus("main");
                }
                Err(error) => {
                    let text = self.text.get_untracked();
                    self.answer.try_set(Some(Answer { text, error: Some(error) }));
                }
            }
        });
    }

    /// Throws away what was typed, and shows what the cluster has.
    fn discard(self) {
        self.stop_resting();
        self.answer.set(None);
        let edited = self.edited.get_value();
        self.store.drop_draft(&edited);
        if edited == Edited::New {
            self.store.go(&Route::to(View::Policies(None)));
        }
    }
}

/// Replaces a policy that is there, and creates one that is not: a new one, or one that somebody deleted meanwhile.
async fn send(store: Store, edited: &Edited, text: &str, mode: Mode) -> Result<(), CallError> {
    match edited {
        Edited::Existing(namespace, name) if untrack(|| store.policy(edited)).is_some() => {
            let version =
                store.drafts.with_untracked(|drafts| drafts.get(edited).map(|draft| draft.base_version.clone()));
            match version.and_then(|version| check::with_version(text, &version)) {
                // The reader was asked about a change elsewhere before: a check of the text need not be about that.
                Some((versioned, behind)) if mode == Mode::Apply => {
                    let answer = rest::replace_policy(namespace, name, &versioned, mode).await;
                    answer.map_err(|error| error.without_line_behind(behind))
                }
                Some(_) | None => rest::replace_policy(namespace, name, text, mode).await,
            }
        }
        Edited::Existing(..) | Edited::New => rest::create_policy(text, mode).await,
    }
}

#[component]
fn Templates(desk: Desk) -> impl IntoView {
    let use_template = move |at: usize| {
        let namespace = first_namespace(desk.store);
        let namespace =
            desk.checked.with_untracked(|checked| checked.name.clone()).map_or(namespace, |(given, _)| given);
        desk.answer.set(None);
        desk.store.keep_draft(&Edited::New, Draft::from_template(TEMPLATES[at].manifest(&namespace)));
    };
    // A template would overwrite what was typed: not before it is applied or discarded.
    let typed = move || desk.draft().is_some_and(|draft| draft.is_dirty());
    view! {
        <div class="templates" role="group" aria-label="Templates">
            <span class="faint">"Start from:"</span>
            {TEMPLATES
                .iter()
                .enumerate()
                .map(|(at, template)| {
                    view! {
                        <button class="small" disabled=typed on:click=move |_| use_template(at)>
                            {template.title}
                        </button>
                    }
                })
                .collect_view()}
        </div>
    }
}

/// The policy is no longer what typing began from.
#[component]
fn Moved(desk: Desk) -> impl IntoView {
    let standing = Memo::new(move |_| {
        let policy = desk.store.policy(&desk.edited.get_value());
        desk.draft().map_or(Standing::Current, |draft| draft.standing(policy.as_ref()))
    });
    let keep = move |_| {
        let edited = desk.edited.get_value();
        let policy = untrack(|| desk.store.policy(&edited));
        if let Some(mut draft) = desk.store.drafts.with_untracked(|drafts| drafts.get(&edited).cloned()) {
            draft.rebase(policy.as_ref());
            desk.store.keep_draft(&edited, draft);
        }
    };
    view! {
        {move || match standing.get() {
            Standing::Current => None,
            Standing::ChangedElsewhere => Some((
                "Somebody else changed this policy while you were typing. Applying would overwrite that change.",
                "Keep mine",
            )),
            Standing::Gone => Some(("Somebody else deleted this policy while you were typing. Create it anew from what is here?", "Keep mine")),
        }
            .map(|(words, action)| {
                view! {
                    <div class="notice warn" role="alert">
                        <p>{words}</p>
                        <p class="actions">
                            <button class="small" on:click=keep>{action}</button>
                            <button class="small" on:click=move |_| desk.discard()>"Take theirs, discard mine"</button>
                        </p>
                    </div>
                }
            })}
    }
}

#[component]
fn Faults(desk: Desk, field: NodeRef<html::Textarea>) -> impl IntoView {
    let marks = desk.marks();
    let jump = move |line: usize| {
        if let Some(field) = field.get_untracked() {
            let (start, end) = desk.text.with_untracked(|text| span(text, line));
            let _ = field.focus();
            let _ = field.set_selection_range(start, end);
        }
    };
    view! {
        <ul id="faults" class="faults" role="status">
            {move || desk.refusal().map(|message| view! { <li><span>"Refused"</span><span>{message}</span></li> })}
            {move || {
                marks
                    .get()
                    .into_iter()
                    .map(|mark| {
                        let place = match mark.line {
                            Some(line) => {
                                view! { <button type="button" on:click=move |_| jump(line)>{format!("Line {line}")}</button> }.into_any()
                            }
                            None => view! { <span>"Whole text"</span> }.into_any(),
                        };
                        view! {
                            <li>
                                {place}
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
    }
}

/// The button that asks before it deletes. It has the keyboard when it comes back in the question's place.
#[component]
fn AskFirst(asked: StoredValue<bool>, ask: Callback<bool>, blocked: Signal<bool>) -> impl IntoView {
    let button = NodeRef::<html::Button>::new();
    button.on_load(move |button| {
        if asked.get_value() {
            let _ = button.focus();
        }
    });
    view! {
        <button class="button danger last" node_ref=button disabled=blocked on:click=move |_| ask.run(true)>
            "Delete…"
        </button>
    }
}

/// The question. The answer that does no harm has the keyboard.
#[component]
fn Sure(desk: Desk, ask: Callback<bool>) -> impl IntoView {
    let keep = NodeRef::<html::Button>::new();
    keep.on_load(move |button| {
        let _ = button.focus();
    });
    view! {
        <span class="actions last" role="group" aria-label="Delete this policy?">
            <span>"Delete it from the cluster?"</span>
            <button class="button danger" on:click=move |_| desk.delete()>"Delete"</button>
            <button class="button" node_ref=keep on:click=move |_| ask.run(false)>"Keep"</button>
        </span>
    }
}

#[component]
fn Actions(desk: Desk) -> impl IntoView {
    let sure = RwSignal::new(false);
    // Question and button take each other's place: the keyboard goes along.
    let asked = StoredValue::new(false);
    let ask = Callback::new(move |yes: bool| {
        asked.set_value(true);
        sure.set(yes);
    });
    let new = desk.edited.with_value(|edited| *edited == Edited::New);
    let dirty = Memo::new(move |_| desk.draft().is_some_and(|draft| draft.is_dirty()));
    let broken = Memo::new(move |_| desk.checked.with(|checked| !checked.marks.is_empty()));
    let is_there = Memo::new(move |_| desk.store.policy(&desk.edited.get_value()).is_some());
    let missing = Memo::new(move |_| desk.missing(desk.needs()));
    let undeletable = Memo::new(move |_| desk.missing(&[PolicyVerb::Delete]).filter(|_| !new && is_there.get()));
    let blocked = move || {
        !desk.writable() || missing.with(Option::is_some) || desk.busy.get() || broken.get() || !(new || dirty.get())
    };
    view! {
        <div class="actions">
            <button class="button primary" disabled=blocked on:click=move |_| desk.apply()>
                {move || match (desk.busy.get(), new) {
                    (true, _) => "Applying…",
                    (false, true) => "Create",
                    (false, false) => "Apply",
                }}
            </button>
            <Show when=move || new || dirty.get()>
                <button class="button" on:click=move |_| desk.discard()>"Discard"</button>
            </Show>
            <span role="status">
                {move || match (desk.said.get(), dirty.get()) {
                    (Some(said), false) => view! { <span class="done">{format!("✓ {said}")}</span> }.into_any(),
                    (_, true) => view! { <span class="unsaved">"● Typed, not applied; kept in this browser"</span> }.into_any(),
                    (None, false) => ().into_any(),
                }}
            </span>
            <Show when=move || !new && is_there.get() && desk.writable()>
                {move || match sure.get() && undeletable.with(Option::is_none) {
                    true => view! { <Sure desk ask /> }.into_any(),
                    false => view! { <AskFirst asked ask blocked=Signal::derive(move || undeletable.with(Option::is_some)) /> }.into_any(),
                }}
            </Show>
        </div>
        <Show when=move || !desk.writable()>
            <ViewOnly />
        </Show>
        <Show when=move || desk.writable()>
            {move || missing.get().map(|why| view! { <p class="view-only">{why}</p> })}
            {move || undeletable.get().filter(|why| missing.get().as_ref() != Some(why)).map(|why| view! { <p class="view-only">{why}</p> })}
        </Show>
    }
}
