//! What stands above the views: where to go, and that all of it is simulated.

use leptos::prelude::*;

use super::Simulated;
use super::sim::{Saved, Sim};
use crate::browser;
use crate::components::icon::Icon;
use crate::components::theme::ThemeButton;
use crate::model::alone::lesson;
use crate::route::{Desk, Route, View};
use crate::store::Store;

/// The header.
#[component]
pub(crate) fn Bar() -> impl IntoView {
    let store = Store::here();
    let sim = Sim::here();
    let changes = Memo::new(move |_| sim.survey.with(|survey| survey.changes.len()));
    let lint = Memo::new(move |_| sim.notes.with(|notes| notes.len()));
    let bad = Memo::new(move |_| sim.workspace.with(|workspace| workspace.refused.len()));
    let link = move |desk: Desk, text: &'static str, count: Option<Memo<usize>>| {
        let here = {
            let desk = desk.clone();
            move || {
                let now = super::desk(store);
                let same = match (&now, &desk) {
                    (Desk::Policies(_), Desk::Policies(_)) => true,
                    (now, desk) => now == desk,
                };
                same.then_some("page")
            }
        };
        view! {
            <a href=Route::to(View::Alone(desk)).hash() aria-current=here>
                <span>{text}</span>
                {move || count.map(|count| count.get()).filter(|n| *n > 0).map(|n| view! { <span class="badge">{n}</span> })}
            </a>
        }
    };
    view! {
        <header class="top alone-top">
            <a class="brand" href="#/simulate" aria-label="Signalbox, to the simulated matrix">
                <Icon name="brand" />
                <span>"Signalbox"</span>
            </a>
            <nav aria-label="Views">
                {link(Desk::Matrix, "Matrix", None)}
                {link(Desk::Policies(None), "Policies", None)}
                {link(Desk::Changes, "Changes", Some(changes))}
                {link(Desk::Lint, "Lint", Some(lint))}
                {link(Desk::Files, "Files", Some(bad))}
            </nav>
            <div class="chips">
                <details class="chip wait" name="chips" data-chip="simulated">
                    <summary>
                        <span class="lamp" aria-hidden="true"></span>
                        "simulated · no cluster"
                    </summary>
                    <div class="pop">
                        <p>
                            "Everything here is what the policy engine computes from your manifests, in this browser. Nothing was "
                            "probed, and nothing is enforced."
                        </p>
                        <p>"Nothing is uploaded: what you put in stays in this browser, and this page has no server part."</p>
                        <p>{move || kept(sim.saved.get())}</p>
                    </div>
                </details>
                <Show when=|| !browser::is_alone()>
                    <a class="chip-link" href="#/matrix">"To the live page"</a>
                </Show>
            </div>
            <ThemeButton />
        </header>
    }
}

/// Where the workspace is kept, in words.
pub(crate) fn kept(saved: Saved) -> String {
    let size = |characters: usize| format!("{} KB", characters.div_ceil(1024));
    match saved {
        Saved::Nothing => "Nothing is kept in this browser.".to_owned(),
        Saved::Soon => "Being kept in this browser…".to_owned(),
        Saved::Kept(n) => format!("Kept in this browser ({}): it is here again after a reload.", size(n)),
        Saved::TooLarge(n) => format!(
            "Too large for this browser's memory ({}): it is gone after a reload. Export it as a file to keep it.",
            size(n)
        ),
        Saved::Refused => {
            "This browser keeps nothing for this page: it is gone after a reload. Export it as a file to keep it."
                .to_owned()
        }
    }
}

/// The lesson's levers, where the example is shown.
#[component]
pub(crate) fn Levers() -> impl IntoView {
    let sim = Sim::here();
    let step = Memo::new(move |_| sim.workspace.with(|workspace| workspace.lesson));
    let unfolded = RwSignal::new(!browser::narrow());
    let steps = StoredValue::new(lesson::steps());
    let levers = move || {
        steps.with_value(|steps| {
            steps
                .iter()
                .enumerate()
                .map(|(at, step_)| {
                    let on = move || step.get().is_some_and(|now| at <= now);
                    let state = move || match step.get() {
                        Some(now) if now == at => "shown",
                        Some(now) if at < now => "applied",
                        Some(_) | None => "not applied",
                    };
                    view! {
                        <button
                            class="lever"
                            class:on=on
                            aria-current=move || (step.get() == Some(at)).then_some("step")
                            on:click=move |_| sim.lesson(at)
                        >
                            <span class="number">{at}</span>
                            <span class="title">{step_.title.clone()}</span>
                            <span class="state">{state}</span>
                        </button>
                    }
                })
                .collect_view()
        })
    };
    let text = move || {
        let step = step.get()?;
        steps.with_value(|steps| steps.get(step).cloned()).map(|it| {
            view! {
                <h2>{format!("Step {step}: {}", it.title)}</h2>
                <p>{it.text}</p>
            }
        })
    };
    let some = Memo::new(move |_| step.get().is_some());
    view! {
        <Show when=move || some.get()>
            <section class="lesson" aria-label="Lesson one, simulated">
                <div class="levers" role="group" aria-label="Steps of the lesson">
                    {levers}
                </div>
                <Simulated />
                <button
                    class="plain fold"
                    on:click=move |_| unfolded.update(|it| *it = !*it)
                    aria-expanded=move || unfolded.get().to_string()
                    aria-controls="lesson-text"
                >
                    <span>{move || if unfolded.get() { "Hide text" } else { "Text" }}</span>
                    <Icon name=Signal::derive(move || if unfolded.get() { "up" } else { "down" }) />
                </button>
                <div id="lesson-text" class="lesson-text" hidden=move || !unfolded.get()>
                    {text}
                    <p class="faint">"Compared with the step before: see Changes. Edit the policies as you like; a lever takes you back."</p>
                </div>
            </section>
        </Show>
    }
}
