//! The lesson as a frame of levers, always at hand.

use leptos::prelude::*;
use leptos::task::spawn_local;
use signalbox_api::session::PolicyVerb;
use signalbox_api::state::LessonStep;

use super::header::ViewOnly;
use super::icon::Icon;
use crate::api::rest;
use crate::browser;
use crate::model::lesson::{self, NAMESPACES, Tally};
use crate::store::Store;

const MEMORY: &str = "signalbox.lesson";

/// The bar; nothing where the server has no lesson.
#[component]
pub fn LessonBar() -> impl IntoView {
    let store = Store::here();
    let any = Memo::new(move |_| store.lesson.with(|steps| !steps.is_empty()));
    view! {
        <Show when=move || any.get()>
            <Levers />
        </Show>
    }
}

#[component]
fn Levers() -> impl IntoView {
    let store = Store::here();
    let busy = RwSignal::new(None::<u32>);
    let failed = RwSignal::new(None::<String>);
    let reading = RwSignal::new(None::<u32>);
    let unfolded = RwSignal::new(match browser::recall(MEMORY).as_deref() {
        Some("folded") => false,
        Some(_) => true,
        None => !browser::narrow(),
    });

    let current =
        Memo::new(move |_| store.lesson.with(|steps| store.policies.with(|policies| lesson::current(steps, policies))));
    let shown = Memo::new(move |_| {
        let number = reading.get().or(current.get())?;
        store.lesson.with(|steps| steps.iter().find(|step| step.number == number).cloned())
    });
    let tally = Memo::new(move |_| {
        store.beat.track();
        store.directory.with(|directory| {
            store.with_cells(|cells| lesson::tally(directory, cells.values().map(|entry| &entry.cell)))
        })
    });
    // On a narrow screen the levers scroll: the one in force is to be in sight.
    Effect::new(move |_| {
        if current.get().is_some() {
            request_animation_frame(|| browser::show_sideways(".lever[aria-current]"));
        }
    });
    let numbers =
        Memo::new(move |_| store.lesson.with(|steps| steps.iter().map(|step| step.number).collect::<Vec<_>>()));
    let go = move |number: u32| {
        reading.set(Some(number));
        let may = store.station.with_untracked(|station| station.writable) && untrack(|| missing(store)).is_none();
        if busy.get_untracked().is_some() || !may {
            return;
        }
        busy.set(Some(number));
        failed.set(None);
        spawn_local(async move {
            let answer = rest::go_to_step(number).await;
            failed.set(answer.err().map(|error| error.message()));
            busy.set(None);
        });
    };
    let fold = move |_| {
        unfolded.update(|unfolded| *unfolded = !*unfolded);
        browser::remember(MEMORY, if unfolded.get_untracked() { "unfolded" } else { "folded" });
    };
    view! {
        <section class="lesson" aria-label="Lesson">
            <div class="levers" role="group" aria-label="Steps of the lesson">
                <For each=move || numbers.get() key=|number| *number let:number>
                    <Lever number current busy shown=Signal::derive(move || shown.with(|step| step.as_ref().map(|step| step.number))) go=Callback::new(go) />
                </For>
            </div>
            <TallyLine tally />
            <button
                class="plain fold"
                on:click=fold
                aria-expanded=move || unfolded.get().to_string()
                aria-controls="lesson-text"
            >
                <span>{move || if unfolded.get() { "Hide text" } else { "Text and YAML" }}</span>
                <Icon name=Signal::derive(move || if unfolded.get() { "up" } else { "down" }) />
            </button>
            {move || failed.get().map(|error| view! { <p class="notice bad" role="alert">{error}</p> })}
            <div id="lesson-text" class="lesson-text" hidden=move || !unfolded.get()>
                <Show when=move || current.get().is_none()>
                    <p class="notice">"No step is in force: there are policies that are none of the steps'. What a step's text says holds once it is in force alone."</p>
                </Show>
                {move || shown.get().map(|step| view! { <StepText step /> })}
            </div>
        </section>
    }
}

/// Why the reader cannot go to a step; `None` where they can. Going to one may apply and delete in each of the namespaces.
fn missing(store: Store) -> Option<String> {
    let verbs = [PolicyVerb::Patch, PolicyVerb::Create, PolicyVerb::Delete];
    NAMESPACES.iter().find_map(|namespace| store.missing(namespace, &verbs))
}

#[component]
fn Lever(
    number: u32,
    current: Memo<Option<u32>>,
    busy: RwSignal<Option<u32>>,
    shown: Signal<Option<u32>>,
    go: Callback<u32>,
) -> impl IntoView {
    let store = Store::here();
    let step = Memo::new(move |_| {
        store.lesson.with(|steps| {
            let empty = |step: &LessonStep| step.yaml.trim().is_empty();
            // A step that applies nothing is always applied: it is in force only while nothing else is.
            let on = |step: &LessonStep| step.applied && (!empty(step) || current.get() == Some(number));
            steps.iter().find(|step| step.number == number).map(|step| (step.title.clone(), on(step)))
        })
    });
    let applied = move || step.with(|step| step.as_ref().is_some_and(|(_, applied)| *applied));
    let state = move || match (busy.get() == Some(number), applied()) {
        (true, _) => "under way",
        (false, true) => "in force",
        (false, false) => "not in force",
    };
    view! {
        <button
            class="lever"
            class:on=applied
            class:busy=move || busy.get() == Some(number)
            class:reading=move || shown.get() == Some(number)
            aria-current=move || (current.get() == Some(number)).then_some("step")
            aria-busy=move || (busy.get() == Some(number)).to_string()
            on:click=move |_| go.run(number)
        >
            <span class="number">{number}</span>
            <span class="title" title=move || step.with(|step| step.as_ref().map(|(title, _)| title.clone()))>{move || step.with(|step| step.as_ref().map(|(title, _)| title.clone()))}</span>
            <span class="state">{state}</span>
        </button>
    }
}

#[component]
fn TallyLine(tally: Memo<Tally>) -> impl IntoView {
    view! {
        <p class="tally" role="status" title="As `signalbox test` counts: each workload once, the internet host by its first port">
            <b>{move || tally.get().open}</b>
            {move || format!(" of {} checks open", tally.get().all)}
            {move || match tally.get().disagree {
                0 => None,
                n => Some(view! { <span class="warn-text">{format!(" · {n} disagree")}</span> }),
            }}
            {move || match tally.get().unknown {
                0 => None,
                n => Some(format!(" · {n} unknown")),
            }}
        </p>
    }
}

#[component]
fn StepText(step: LessonStep) -> impl IntoView {
    let store = Store::here();
    let lines = step.yaml.lines().count();
    view! {
        <h2>{format!("Step {}: {}", step.number, step.title)}</h2>
        {step.text.split("\n\n").map(|paragraph| view! { <p>{paragraph.to_owned()}</p> }).collect_view()}
        {if step.yaml.trim().is_empty() {
            view! { <p class="faint">"This step applies nothing, and takes away what the others applied."</p> }.into_any()
        } else {
            view! {
                <details class="yaml">
                    <summary>{format!("What is applied ({lines} lines of YAML)")}</summary>
                    <pre tabindex="0"><code>{step.yaml.clone()}</code></pre>
                </details>
            }
            .into_any()
        }}
        <Show when=move || !store.station.with(|station| station.writable)>
            <ViewOnly />
        </Show>
        <Show when=move || store.station.with(|station| station.writable)>
            {move || missing(store).map(|why| view! { <p class="view-only">{format!("Steps are only shown: {why}")}</p> })}
        </Show>
    }
}
