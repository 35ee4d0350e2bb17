//! The list of policies, by namespace.

use std::collections::BTreeMap;

use leptos::prelude::*;
use signalbox_api::state::PolicyInfo;

use crate::components::icon::Icon;
use crate::model::draft::Draft;
use crate::route::{Edited, Route, View};
use crate::store::Store;

/// The list.
#[component]
pub(crate) fn List(edited: Memo<Option<Edited>>) -> impl IntoView {
    let store = Store::here();
    let filter = RwSignal::new(String::new());
    let groups = Memo::new(move |_| {
        let filter = filter.get().trim().to_lowercase();
        let mut groups: BTreeMap<String, Vec<PolicyInfo>> = BTreeMap::new();
        store.policies.with(|all| {
            for policy in all.iter() {
                if format!("{}/{}", policy.namespace, policy.name).to_lowercase().contains(&filter) {
                    groups.entry(policy.namespace.clone()).or_default().push(policy.clone());
                }
            }
        });
        groups.into_iter().collect::<Vec<_>>()
    });
    let none = move || store.policies.with(|all| all.is_empty());
    view! {
        <section class="panel" aria-label="List of policies">
            <div class="list-head">
                <h1>"Policies"</h1>
                <a class="button" href=Route::to(View::Policies(Some(Edited::New))).hash()>
                    <Icon name="plus" />
                    "New"
                </a>
            </div>
            <Show when=move || { store.policies.with(|all| all.len() > 6) }>
                <label class="field">
                    <Icon name="search" />
                    <span class="visually-hidden">"Filter policies"</span>
                    <input
                        type="search"
                        placeholder="Filter"
                        prop:value=filter
                        on:input=move |event| filter.set(event_target_value(&event))
                    />
                </label>
            </Show>
            <Show when=move || store.loaded.get() && none()>
                <p class="empty">"No policy yet: everything is open."</p>
            </Show>
            <div class="policy-list">
                <Show when=move || store.drafts.with(|drafts| drafts.get(&Edited::New).is_some_and(Draft::is_dirty))>
                    <a href=Route::to(View::Policies(Some(Edited::New))).hash()>
                        <span class="name">"New policy"</span>
                        <span class="unsaved">"● typed, not applied"</span>
                    </a>
                </Show>
                {move || {
                    groups
                        .get()
                        .into_iter()
                        .map(|(namespace, policies)| {
                            view! {
                                <h2>{namespace}</h2>
                                <ul>{policies.into_iter().map(|policy| view! { <li><Item policy edited /></li> }).collect_view()}</ul>
                            }
                        })
                        .collect_view()
                }}
            </div>
        </section>
    }
}

#[component]
fn Item(policy: PolicyInfo, edited: Memo<Option<Edited>>) -> impl IntoView {
    let store = Store::here();
    let me = Edited::Existing(policy.namespace.clone(), policy.name.clone());
    let href = Route::to(View::Policies(Some(me.clone()))).hash();
    let here = {
        let me = me.clone();
        move || (edited.get().as_ref() == Some(&me)).then_some("page")
    };
    let unsaved = move || store.drafts.with(|drafts| drafts.get(&me).is_some_and(Draft::is_dirty));
    let count = match policy.selects.len() {
        0 => "selects no pod".to_owned(),
        1 => "1 pod".to_owned(),
        n => format!("{n} pods"),
    };
    view! {
        <a href=href aria-current=here>
            <span class="name">{policy.name.clone()} <span class="count">{count}</span></span>
            <span class="summary">{policy.summary.clone()}</span>
            {policy.unknown.iter().map(|line| view! { <span class="warn-text">{format!("⚠ not understood: {line}")}</span> }).collect_view()}
            <Show when=unsaved.clone()>
                <span class="unsaved">"● typed, not applied"</span>
            </Show>
        </a>
    }
}
