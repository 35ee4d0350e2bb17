//! The page in the browser alone: manifests in, the engine's answers out, marked as simulated wherever they show.
//!
//! - `sim`: its state; `bar`: what stands above its views.
//! - `matrix`, `policies`, `changes`, `lint`, `files`: the views; `why`: one cell explained beside them.
//! - `intake`: files, folders and pasted texts become manifests.

mod bar;
mod changes;
mod files;
mod intake;
mod lint;
mod matrix;
mod policies;
pub(crate) mod sim;
mod why;

use leptos::html;
use leptos::prelude::*;

use self::bar::{Bar, Levers};
use self::changes::ChangesPage;
use self::files::{FilesPage, LinkPage, Start};
use self::lint::LintPage;
use self::matrix::MatrixPage;
use self::policies::PoliciesPage;
use self::sim::Sim;
use self::why::Why;
use crate::route::{Desk, Route, View};
use crate::store::Store;

/// The page. Whatever else the address bar says, it is one of its own views.
#[component]
pub(crate) fn AlonePage() -> impl IntoView {
    let store = Store::here();
    let sim = Sim::here();
    sim.survey_whenever_it_changes();
    intake::take_what_is_dropped(sim);
    let desk = Memo::new(move |_| desk(store));
    let kind = Memo::new(move |_| Kind::of(&desk.get()));
    let empty = Memo::new(move |_| sim.workspace.with(|workspace| workspace.items.is_empty()));
    let main = NodeRef::<html::Main>::new();
    let skip = move |_| {
        if let Some(main) = main.get() {
            let _ = main.focus();
        }
    };
    view! {
        <button class="skip" on:click=skip>"Skip to the view"</button>
        <Bar />
        <Levers />
        <p class="visually-hidden" role="status">{move || sim.said.get()}</p>
        <div class="stage alone">
            <main node_ref=main tabindex="-1">
                <Progress />
                <Hints kind empty />
                {move || match (kind.get(), empty.get()) {
                    (Kind::Link, _) => view! { <LinkPage /> }.into_any(),
                    (Kind::Files, false) => view! { <FilesPage /> }.into_any(),
                    (_, true) => view! { <Start /> }.into_any(),
                    (Kind::Matrix, false) => view! { <MatrixPage /> }.into_any(),
                    (Kind::Policies, false) => view! { <PoliciesPage /> }.into_any(),
                    (Kind::Changes, false) => view! { <ChangesPage /> }.into_any(),
                    (Kind::Lint, false) => view! { <LintPage /> }.into_any(),
                }}
            </main>
            <Why />
        </div>
    }
}

/// The view that the address bar names.
fn desk(store: Store) -> Desk {
    store.route.with(|route| match &route.view {
        View::Alone(desk) => desk.clone(),
        View::Matrix | View::Map | View::Policies(_) => Desk::Matrix,
    })
}

/// A view without what is open in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Matrix,
    Policies,
    Changes,
    Lint,
    Files,
    Link,
}

impl Kind {
    const fn of(desk: &Desk) -> Self {
        match desk {
            Desk::Matrix => Self::Matrix,
            Desk::Policies(_) => Self::Policies,
            Desk::Changes => Self::Changes,
            Desk::Lint => Self::Lint,
            Desk::Files => Self::Files,
            Desk::Link(_) => Self::Link,
        }
    }
}

/// That something was left out or not understood, where that is not listed anyway.
#[component]
fn Hints(kind: Memo<Kind>, empty: Memo<bool>) -> impl IntoView {
    let sim = Sim::here();
    let refused = Memo::new(move |_| sim.workspace.with(|workspace| workspace.refused.len()));
    let unread = Memo::new(move |_| sim.scene.with(|scene| scene.now.problems().len()));
    let shown = Memo::new(move |_| {
        !empty.get() && matches!(kind.get(), Kind::Matrix | Kind::Changes) && refused.get() + unread.get() > 0
    });
    let words = move || {
        let count = |n: usize, one: &str, many: &str| match n {
            0 => None,
            1 => Some(format!("1 {one}")),
            n => Some(format!("{n} {many}")),
        };
        let left_out = count(
            refused.get(),
            "document could not be read and is left out",
            "documents could not be read and are left out",
        );
        let unread = count(unread.get(), "field was not understood", "fields were not understood");
        let unread = unread.map(|words| format!("{words}, and what it bears on is unknown"));
        left_out.into_iter().chain(unread).collect::<Vec<_>>().join("; ")
    };
    view! {
        <Show when=move || shown.get()>
            <p class="notice warn hint">
                {words} ": "
                <a href=Route::to(View::Alone(Desk::Files)).hash()>"see Files"</a> "."
            </p>
        </Show>
    }
}

/// How far reading and counting have got, where that takes a while.
#[component]
fn Progress() -> impl IntoView {
    let sim = Sim::here();
    let reading = move || {
        sim.loading.get().map(|(done, found)| {
            let words = format!("Reading manifests: {found} objects so far");
            view! { <Meter words done /> }
        })
    };
    let counting = move || {
        let done = sim.survey.with(|survey| survey.progress());
        (done < 1.0).then(|| {
            view! { <Meter words="Counting all pairs; what is in sight is exact already".to_owned() done /> }
        })
    };
    view! { {reading} {counting} }
}

#[component]
fn Meter(words: String, done: f64) -> impl IntoView {
    view! {
        <label class="meter">
            <span>{words}</span>
            <progress max="1" value=format!("{done:.2}")></progress>
        </label>
    }
}

/// What stands beside everything that the engine says here.
#[component]
pub(crate) fn Simulated() -> impl IntoView {
    view! { <span class="simulated" title="Computed by the policy engine in this browser: nothing was probed, and nothing is enforced.">"simulated"</span> }
}
