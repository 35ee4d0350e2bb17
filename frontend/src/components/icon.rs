//! Icons from the sprite in `index.html`.

use leptos::prelude::*;

/// An icon by its name in the sprite. It says nothing to screen readers: the words beside it do.
#[component]
pub fn Icon(
    /// Name without `i-`.
    #[prop(into)]
    name: Signal<&'static str>,
) -> impl IntoView {
    view! {
        <svg class="icon" aria-hidden="true" focusable="false">
            <use_ href=move || format!("#i-{}", name.get())></use_>
        </svg>
    }
}
