//! The policies: the list, and the editor beside it.

pub(crate) mod code;
mod editor;
mod list;

use leptos::prelude::*;

use self::editor::Editor;
use self::list::List;
use crate::route::{Edited, View};
use crate::store::Store;

/// The view.
#[component]
pub fn PoliciesPage() -> impl IntoView {
    let store = Store::here();
    let edited = Memo::new(move |_| {
        store.route.with(|route| match &route.view {
            View::Policies(edited) => edited.clone(),
            View::Matrix | View::Map | View::Alone(_) => None,
        })
    });
    view! {
        <div class="policies">
            <List edited />
            {move || match edited.get() {
                // Before the first picture nobody can say whether a policy is there.
                Some(edited) if store.loaded.get() || edited == Edited::New => view! { <Editor edited /> }.into_any(),
                Some(_) => view! { <p class="empty">"Waiting for the first picture…"</p> }.into_any(),
                None => view! { <Hint /> }.into_any(),
            }}
        </div>
    }
}

#[component]
fn Hint() -> impl IntoView {
    view! {
        <section class="panel editor">
            <h2>"Policies only ever allow"</h2>
            <p>
                "A pod that no policy selects is open in both directions. As soon as one selects it, only what some rule "
                "allows is open in that direction. Egress and ingress must both allow; replies need no rule."
            </p>
            <p class="faint">"Choose a policy from the list to read or change it, or create a new one."</p>
        </section>
    }
}
