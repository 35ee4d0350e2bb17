//! Manifests in and out: files, folders, pasted texts, examples; what could not be read; a file or a link to pass on.

use std::collections::BTreeMap;

use leptos::html;
use leptos::prelude::*;
use leptos::task::spawn_local;

use super::bar::kept;
use super::intake;
use super::sim::Sim;
use crate::browser;
use crate::model::alone::workspace::Workspace;
use crate::model::alone::{pack, review};
use crate::route::{Desk, Route, View};
use crate::store::Store;

/// How many problems are listed.
const MOST: usize = 100;

/// What shows while there is nothing yet.
#[component]
pub(crate) fn Start() -> impl IntoView {
    view! {
        <section class="panel start" aria-labelledby="start-title">
            <h1 id="start-title">"Who could talk to whom?"</h1>
            <p>
                "Drop in the manifests of a cluster: network policies, namespaces, pods, Deployments and the like. The policy "
                "engine runs in this page and answers with the matrix, the reasons, the effect of an edit, and lint. "
                <b>"Nothing is uploaded: what you put in stays in this browser."</b>
            </p>
            <Intake />
            <Refusals />
        </section>
    }
}

/// The view once there is something.
#[component]
pub(crate) fn FilesPage() -> impl IntoView {
    view! {
        <section class="panel start" aria-labelledby="start-title">
            <h1 id="start-title">"Files"</h1>
            <Refusals />
            <Unread />
            <Here />
            <Out />
            <h2>"Put in more"</h2>
            <p class="faint">"An object of the same kind and name replaces the one that is here, and is compared with it."</p>
            <Intake />
        </section>
    }
}

/// All ways in.
#[component]
fn Intake() -> impl IntoView {
    let sim = Sim::here();
    let text = RwSignal::new(String::new());
    let paste = move |_| {
        let typed = text.get_untracked();
        if !typed.trim().is_empty() {
            text.set(String::new());
            intake::take_text(sim, typed);
        }
    };
    let files = NodeRef::<html::Input>::new();
    let folder = NodeRef::<html::Input>::new();
    folder.on_load(|folder| {
        // HTML has no word for folders; all browsers have this one.
        let _ = folder.set_attribute("webkitdirectory", "");
    });
    let take = move |field: NodeRef<html::Input>| {
        if let Some(field) = field.get_untracked() {
            intake::take_files(sim, &field);
        }
    };
    view! {
        <div class="intake">
            <div class="drop">
                <p><b>"Drop files or folders anywhere on this page"</b></p>
                <p class="actions">
                    <label class="button primary">
                        "Choose files…"
                        <input
                            class="visually-hidden"
                            type="file"
                            multiple
                            accept=".yaml,.yml,.json,.txt"
                            node_ref=files
                            on:change=move |_| take(files)
                        />
                    </label>
                    <label class="button">
                        "Choose a folder…"
                        <input class="visually-hidden" type="file" multiple node_ref=folder on:change=move |_| take(folder) />
                    </label>
                </p>
                <p class="faint">"From a cluster: " <code>"kubectl get netpol,ns,pods -A -o yaml > cluster.yaml"</code></p>
            </div>
            <label class="paste">
                <span>"Or paste YAML or JSON"</span>
                <textarea
                    rows="7"
                    spellcheck="false"
                    autocomplete="off"
                    aria-label="Manifests, YAML or JSON"
                    prop:value=text
                    on:input=move |event| text.set(event_target_value(&event))
                ></textarea>
            </label>
            <p class="actions">
                <button class="button" disabled=move || text.with(|text| text.trim().is_empty()) on:click=paste>"Take in the text"</button>
                <span class="faint">"or start with an example:"</span>
                <button class="button" on:click=move |_| sim.lesson(0)>"Lesson one, from wide open to zero trust"</button>
                <button class="button" on:click=move |_| sim.lesson(4)>"The same, finished"</button>
            </p>
        </div>
    }
}

/// Documents that were left out.
#[component]
fn Refusals() -> impl IntoView {
    let sim = Sim::here();
    let refused = Memo::new(move |_| sim.workspace.with(|workspace| workspace.refused.clone()));
    let passed = Memo::new(move |_| sim.workspace.with(|workspace| workspace.passed_over.clone()));
    view! {
        {move || {
            let refused = refused.get();
            (!refused.is_empty()).then(|| {
                let more = refused.len().saturating_sub(MOST);
                view! {
                    <section class="notice bad refusals" aria-labelledby="refused-title">
                        <h2 id="refused-title">{format!("Left out: {} that could not be read", documents(refused.len()))}</h2>
                        <table>
                            <thead>
                                <tr><th scope="col">"File"</th><th scope="col">"Document"</th><th scope="col">"Line"</th><th scope="col">"Reason"</th></tr>
                            </thead>
                            <tbody>
                                {refused
                                    .iter()
                                    .take(MOST)
                                    .map(|it| {
                                        view! {
                                            <tr>
                                                <td data-label="File">{it.origin.source.to_string()}</td>
                                                <td data-label="Document">{it.origin.document}</td>
                                                <td data-label="Line">{it.origin.line}</td>
                                                <td data-label="Reason">{it.reason.clone()}</td>
                                            </tr>
                                        }
                                    })
                                    .collect_view()}
                            </tbody>
                        </table>
                        {(more > 0).then(|| view! { <p>{format!("and {more} more")}</p> })}
                        <p>"All other documents are used."</p>
                    </section>
                }
            })
        }}
        {move || {
            let passed = passed.get();
            (!passed.is_empty()).then(|| {
                let kinds: Vec<String> = passed.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
                view! { <p class="faint">{format!("Without bearing on policies, and not kept: {}.", kinds.join(", "))}</p> }
            })
        }}
    }
}

fn documents(n: usize) -> String {
    if n == 1 { "1 document".to_owned() } else { format!("{n} documents") }
}

/// What the engine did not understand.
#[component]
fn Unread() -> impl IntoView {
    let sim = Sim::here();
    let unread = Memo::new(move |_| {
        sim.scene.with(|scene| sim.workspace.with_untracked(|workspace| review::unread(workspace, scene)))
    });
    view! {
        {move || {
            let unread = unread.get();
            (!unread.is_empty()).then(|| {
                let more = unread.len().saturating_sub(MOST);
                view! {
                    <section class="notice warn" aria-labelledby="unread-title">
                        <h2 id="unread-title">"Not understood: what it bears on is unknown, never open"</h2>
                        <ul class="unread">
                            {unread
                                .into_iter()
                                .take(MOST)
                                .map(|it| {
                                    let object = match it.item {
                                        Some(item) => {
                                            let href = Route::to(View::Alone(Desk::Policies(Some(item)))).hash();
                                            view! { <a href=href>{it.object}</a> }.into_any()
                                        }
                                        None => view! { <span>{it.object}</span> }.into_any(),
                                    };
                                    view! {
                                        <li>
                                            {object} " " <code>{it.path}</code> ": " {it.reason} " "
                                            <span class="faint">{it.place}</span>
                                        </li>
                                    }
                                })
                                .collect_view()}
                        </ul>
                        {(more > 0).then(|| view! { <p>{format!("and {more} more")}</p> })}
                    </section>
                }
            })
        }}
    }
}

/// What is here, by kind.
#[component]
fn Here() -> impl IntoView {
    let sim = Sim::here();
    let kinds = Memo::new(move |_| {
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        sim.workspace.with(|workspace| {
            for item in &workspace.items {
                *kinds.entry(item.kind().to_owned()).or_default() += 1;
            }
        });
        kinds
    });
    view! {
        <h2>"What is here"</h2>
        <ul class="kinds">
            {move || kinds.get().into_iter().map(|(kind, n)| view! { <li><b>{n}</b> " " {kind}</li> }).collect_view()}
        </ul>
    }
}

/// Ways out, and the end.
#[component]
fn Out() -> impl IntoView {
    let sim = Sim::here();
    let sure = RwSignal::new(false);
    let link = RwSignal::new(None::<Result<String, usize>>);
    let copied = RwSignal::new(None::<bool>);
    let export = move |_| {
        let text = sim.workspace.with_untracked(|workspace| workspace.export());
        browser::download("signalbox.yaml", "application/yaml", &text);
    };
    let share = move |_| {
        let packed = sim.workspace.with_untracked(|workspace| pack::pack(&workspace.to_json()));
        copied.set(None);
        link.set(Some(if packed.len() > pack::LONGEST_LINK {
            Err(packed.len())
        } else {
            Ok(format!("{}{}", browser::address(), Route::to(View::Alone(Desk::Link(packed))).hash()))
        }));
    };
    let copy = move |_| {
        let Some(Ok(text)) = link.get_untracked() else { return };
        spawn_local(async move { copied.set(Some(browser::copy(&text).await)) });
    };
    view! {
        <h2>"Keep it, and pass it on"</h2>
        <p class="faint">{move || kept(sim.saved.get())}</p>
        <p class="actions">
            <button class="button" on:click=export>"Export as one YAML file"</button>
            <button class="button" on:click=share>"Make a link"</button>
            <Show
                when=move || sure.get()
                fallback=move || view! { <button class="button danger last" on:click=move |_| sure.set(true)>"Clear…"</button> }
            >
                <span class="actions last" role="group" aria-label="Clear everything?">
                    <span>"Clear everything, also from this browser's memory?"</span>
                    <button class="button danger" on:click=move |_| sim.clear()>"Clear"</button>
                    <button class="button" on:click=move |_| sure.set(false)>"Keep"</button>
                </span>
            </Show>
        </p>
        {move || match link.get() {
            None => ().into_any(),
            Some(Err(n)) => {
                view! {
                    <p class="notice warn" role="alert">
                        {format!(
                            "Too much for a link: {} KB, and links take {} KB. Export it as a file instead.",
                            n.div_ceil(1024),
                            pack::LONGEST_LINK / 1024,
                        )}
                    </p>
                }
                    .into_any()
            }
            Some(Ok(text)) => {
                let size = text.len();
                view! {
                    <div class="share">
                        <label class="field">
                            <span>"Link"</span>
                            <input type="text" readonly aria-label="Link with everything in it" prop:value=text />
                        </label>
                        <button class="small" on:click=copy>"Copy"</button>
                        <span class="faint" role="status">
                            {move || match copied.get() {
                                Some(true) => "Copied.".to_owned(),
                                Some(false) => "Could not copy: mark the text and copy it by hand.".to_owned(),
                                None => format!(
                                    "{} KB; it holds all of it. Whoever has the link can read it; no server sees what stands behind the #.",
                                    size.div_ceil(1024),
                                ),
                            }}
                        </span>
                    </div>
                }
                    .into_any()
            }
        }}
    }
}

/// What a link brings: nothing of it is taken in before the reader says so.
#[component]
pub(crate) fn LinkPage() -> impl IntoView {
    let store = Store::here();
    let sim = Sim::here();
    let brought = Memo::new(move |_| {
        let Desk::Link(packed) = super::desk(store) else { return None };
        pack::unpack(&packed).and_then(|text| Workspace::from_json(&text))
    });
    let here = Memo::new(move |_| sim.workspace.with(|workspace| workspace.items.len()));
    let open = move |_| {
        if let Some(workspace) = brought.get_untracked() {
            sim.put(workspace);
            store.go(&Route::to(View::Alone(Desk::Matrix)));
        }
    };
    let words = move || {
        brought.with(|brought| {
            brought.as_ref().map(|workspace| {
                let policies = workspace.items.iter().filter(|item| item.is_policy()).count();
                let policies = if policies == 1 { "1 policy".to_owned() } else { format!("{policies} policies") };
                format!("The link holds {} objects, {policies} among them.", workspace.items.len())
            })
        })
    };
    let good = Memo::new(move |_| brought.with(Option::is_some));
    view! {
        <section class="panel start" aria-labelledby="start-title">
            <h1 id="start-title">"From a link"</h1>
            <Show
                when=move || good.get()
                fallback=|| {
                    view! {
                        <p class="notice bad" role="alert">"This link cannot be read: it may have been cut short on its way. Ask for it again, or for the file."</p>
                        <p><a class="button" href="#/simulate">"Go on without it"</a></p>
                    }
                }
            >
                <p>{words}</p>
                <Show when=move || { here.get() > 0 }>
                    <p class="notice warn">
                        {move || match here.get() {
                            1 => "It takes the place of the one object that is here now.".to_owned(),
                            n => format!("It takes the place of the {n} objects that are here now."),
                        }}
                    </p>
                </Show>
                <p class="actions">
                    <button class="button primary" on:click=open>"Open it"</button>
                    <a class="button" href="#/simulate">"Keep what is here"</a>
                </p>
            </Show>
        </section>
    }
}
