//! Who the reader is: logging in, and out again.

use leptos::ev::SubmitEvent;
use leptos::html;
use leptos::prelude::*;
use leptos::task::spawn_local;
use signalbox_api::session::{Via, Viewer};

use super::icon::Icon;
use super::theme::ThemeButton;
use crate::api::rest::{self, CallError};
use crate::browser;
use crate::model::time;
use crate::store::{Door, Store};

/// Asks for a token.
#[component]
pub fn Login(
    /// Why the reader has to log in anew; absent where they have not yet.
    why: Option<String>,
    /// Opens the event stream with the token that is kept.
    enter: Callback<()>,
) -> impl IntoView {
    let store = Store::here();
    let field = NodeRef::<html::Input>::new();
    let busy = RwSignal::new(false);
    let failed = RwSignal::new(why);
    Effect::new(move |_| {
        if let Some(field) = field.get() {
            let _ = field.focus();
        }
    });
    let submit = move |event: SubmitEvent| {
        event.prevent_default();
        let Some(input) = field.get_untracked() else { return };
        let token = input.value().trim().to_owned();
        if token.is_empty() || busy.get_untracked() {
            return;
        }
        busy.set(true);
        failed.set(None);
        spawn_local(async move {
            let answer = rest::session_of(&token).await;
            busy.try_set(false);
            match answer {
                Ok(_) => {
                    browser::keep_login(&token);
                    // Nowhere else on the page.
                    input.set_value("");
                    store.door.set(Door::Open);
                    enter.run(());
                }
                Err(CallError::Away) => {
                    failed.try_set(Some("The server did not answer. Try again when it is back.".to_owned()));
                }
                Err(error) => {
                    failed.try_set(Some(sentence(&error.message())));
                }
            }
        });
    };
    view! {
        <header class="top">
            <span class="brand">
                <Icon name="brand" />
                <span>"Signalbox"</span>
            </span>
            <nav></nav>
            <ThemeButton />
        </header>
        <main class="login" tabindex="-1">
            <form class="panel" on:submit=submit aria-labelledby="login-title">
                <h1 id="login-title">"Log in"</h1>
                <p>
                    "With a Kubernetes bearer token of this cluster. You see the namespaces whose pods you may list, and change what your role allows."
                </p>
                <pre><code>"kubectl create token NAME -n NAMESPACE"</code></pre>
                <p class="faint">"Before Kubernetes 1.24: the token in a ServiceAccount's Secret."</p>
                <label for="login-token">"Token"</label>
                <input
                    id="login-token"
                    node_ref=field
                    type="password"
                    autocomplete="off"
                    spellcheck="false"
                    aria-describedby="login-kept"
                />
                <p id="login-kept" class="faint">
                    "Kept in this tab until it is closed or you log out; sent to this server only, never as part of an address."
                </p>
                <button class="button primary" type="submit" disabled=move || busy.get()>
                    {move || if busy.get() { "Asking…" } else { "Log in" }}
                </button>
                {move || failed.get().map(|why| view! { <p class="notice bad" role="alert">{sentence(&why)}</p> })}
            </form>
        </main>
    }
}

/// Who is logged in.
#[component]
pub fn Who(
    /// As the server has them.
    viewer: Viewer,
) -> impl IntoView {
    let store = Store::here();
    let by_token = viewer.via == Via::Token;
    let leave = move |_| {
        store.forget_drafts();
        browser::forget_token();
        // With all that the page knows.
        browser::reload();
    };
    let ends = viewer.expires_ms.map(|end| {
        move || {
            let left = end as f64 - store.now_ms.get();
            if left > 0.0 {
                format!("The token ends in {}.", time::span(left))
            } else {
                "The token has expired.".to_owned()
            }
        }
    });
    view! {
        <p>
            "Logged in as " <b class="break">{viewer.name.clone()}</b>
            {if by_token { "" } else { ", through a proxy" }} "."
        </p>
        <p>
            {if viewer.all_namespaces {
                "You see all namespaces."
            } else {
                "You see the namespaces whose pods you may list; what is in others is left out, also where it counts."
            }}
        </p>
        {ends.map(|ends| view! { <p>{ends}</p> })}
        {by_token.then(|| view! { <button class="small" on:click=leave>"Log out"</button> })}
    }
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
    let rest: String = letters.collect();
    let end = if rest.ends_with(['.', '!', '?', '`']) { "" } else { "." };
    format!("{first}{rest}{end}")
}
