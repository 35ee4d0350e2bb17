//! What is around the views: header, lesson, "why", the clock and the address bar.

use std::time::Duration;

use leptos::prelude::*;
use leptos::{ev, html};

use crate::api::events;
use crate::browser;
use crate::components::header::Header;
use crate::components::lesson::LessonBar;
use crate::components::login::Login;
use crate::components::why::Why;
use crate::pages::alone::AlonePage;
use crate::pages::alone::sim::Sim;
use crate::pages::map::MapPage;
use crate::pages::matrix::MatrixPage;
use crate::pages::policies::PoliciesPage;
use crate::route::{Route, View};
use crate::store::{Door, Link, Store};

/// The page.
#[component]
pub fn App() -> impl IntoView {
    // Before the route is read and the stream is opened.
    if !browser::is_alone() {
        browser::take_token();
    }
    let store = Store::new();
    provide_context(store);
    provide_context(Sim::new());
    // The page that was built without a server asks for none.
    let retry = StoredValue::new_local((!browser::is_alone()).then(|| events::follow(store)));
    let retry_now = move || {
        retry.with_value(|retry| {
            if let Some(retry) = retry {
                retry.now();
            }
        });
    };

    let hash = window_event_listener(ev::hashchange, move |_| store.route.set(Route::parse(&browser::hash())));
    let online = window_event_listener(ev::online, move |_| retry_now());
    let click = window_event_listener(ev::click, move |event| browser::close_pops(event.target()));
    let escape = window_event_listener(ev::keydown, move |event| {
        if event.key() == "Escape" {
            browser::close_pops(None);
        }
    });
    on_cleanup(move || {
        hash.remove();
        online.remove();
        click.remove();
        escape.remove();
    });
    set_interval(move || store.now_ms.set(browser::now_ms()), Duration::from_secs(1));
    // Roles change without a word to the page.
    set_interval(move || events::ask_for_rights(store), Duration::from_secs(60));

    let alone =
        Memo::new(move |_| browser::is_alone() || store.route.with(|route| Kind::of(&route.view) == Kind::Alone));
    let enter = Callback::new(move |()| {
        retry.with_value(|retry| {
            if let Some(retry) = retry {
                retry.anew();
            }
        });
    });
    move || match (alone.get(), store.door.get()) {
        (true, _) => view! { <AlonePage /> }.into_any(),
        (false, Door::Shut { why }) => view! { <Login why enter /> }.into_any(),
        (false, Door::Open) => view! { <Live retry=Callback::new(move |()| retry_now()) /> }.into_any(),
    }
}

/// The page of a server's cluster.
#[component]
fn Live(retry: Callback<()>) -> impl IntoView {
    let store = Store::here();
    let main = NodeRef::<html::Main>::new();
    let skip = move |_| {
        if let Some(main) = main.get() {
            let _ = main.focus();
        }
    };
    let kind = Memo::new(move |_| store.route.with(|route| Kind::of(&route.view)));
    let stale = move || matches!(store.link.get(), Link::Lost { .. });
    view! {
        <button class="skip" on:click=skip>"Skip to the view"</button>
        <Header retry />
        <LessonBar />
        <Problems />
        <div class="stage" class:stale=stale>
            <main node_ref=main tabindex="-1">
                {move || match kind.get() {
                    Kind::Matrix | Kind::Alone => view! { <MatrixPage /> }.into_any(),
                    Kind::Map => view! { <MapPage /> }.into_any(),
                    Kind::Policies => view! { <PoliciesPage /> }.into_any(),
                }}
            </main>
            <Why />
        </div>
    }
}

/// A view without what is open in it, so that opening something does not build the view anew.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Matrix,
    Map,
    Policies,
    Alone,
}

impl Kind {
    const fn of(view: &View) -> Self {
        match view {
            View::Matrix => Self::Matrix,
            View::Map => Self::Map,
            View::Policies(_) => Self::Policies,
            View::Alone(_) => Self::Alone,
        }
    }
}

/// What is wrong with the server's own sight.
#[component]
fn Problems() -> impl IntoView {
    let store = Store::here();
    let nobody = move || matches!(store.link.get(), Link::Lost { .. }) && !store.loaded.get();
    view! {
        <Show when=nobody>
            <p class="notice warn" role="status">
                "No server answers here. The page can also do without one: "
                <a href="#/simulate">"simulate, with your own manifests"</a> "."
            </p>
        </Show>
        <Show when=move || store.problems.with(|problems| !problems.is_empty())>
            <ul class="notice warn" role="status">
                {move || store.problems.get().iter().map(|problem| view! { <li>{problem.clone()}</li> }).collect_view()}
            </ul>
        </Show>
    }
}
