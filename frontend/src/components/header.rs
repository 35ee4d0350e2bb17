//! The header: where to go, and how things stand.

use leptos::prelude::*;
use leptos::task::spawn_local;
use signalbox_api::kernel::EnforcerStatus;
use signalbox_api::state::Enforcement;

use super::icon::Icon;
use super::login::Who;
use super::theme::ThemeButton;
use crate::api::rest;
use crate::model::{enforcers, time};
use crate::route::{Desk, Route, View};
use crate::store::{Link, Store};

/// The header.
#[component]
pub fn Header(
    /// Connects again at once.
    retry: Callback<()>,
) -> impl IntoView {
    let store = Store::here();
    let link = move |view: View, text: &'static str, icon: &'static str| {
        let here = {
            let view = view.clone();
            move || {
                store.route.with(|route| match (&route.view, &view) {
                    (View::Matrix, View::Matrix) | (View::Map, View::Map) | (View::Policies(_), View::Policies(_)) => {
                        Some("page")
                    }
                    (View::Matrix | View::Map | View::Policies(_) | View::Alone(_), _) => None,
                })
            }
        };
        view! {
            <a href=Route::to(view).hash() aria-current=here>
                <Icon name=icon />
                <span>{text}</span>
            </a>
        }
    };
    view! {
        <header class="top">
            <a class="brand" href="#/matrix" aria-label="Signalbox, to the matrix">
                <Icon name="brand" />
                <span>"Signalbox"</span>
            </a>
            <nav aria-label="Views">
                {link(View::Matrix, "Matrix", "grid")}
                {link(View::Map, "Map", "map")}
                {link(View::Policies(None), "Policies", "file")}
                {link(View::Alone(Desk::Matrix), "Simulate", "part")}
            </nav>
            <div class="chips">
                <LinkChip retry />
                <Show when=move || store.loaded.get()>
                    <WhoChip />
                    <StationChip />
                    <EnforcerChip />
                    <DnsChip />
                    <RoundChip />
                </Show>
            </div>
            <ThemeButton />
        </header>
    }
}

/// A chip that opens.
#[component]
fn Chip(
    #[prop(into)] lamp: Signal<&'static str>,
    #[prop(into)] text: Signal<String>,
    #[prop(into)] name: &'static str,
    children: ChildrenFn,
) -> impl IntoView {
    view! {
        <details class=move || format!("chip {}", lamp.get()) name="chips" data-chip=name>
            <summary>
                <span class="lamp" aria-hidden="true"></span>
                {text}
            </summary>
            <div class="pop">{children()}</div>
        </details>
    }
}

#[component]
fn LinkChip(retry: Callback<()>) -> impl IntoView {
    let store = Store::here();
    let lamp = Signal::derive(move || match store.link.get() {
        Link::Connecting => "wait",
        Link::Live => "good",
        Link::Lost { .. } => "bad",
    });
    let text = Signal::derive(move || match store.link.get() {
        Link::Connecting => "connecting".to_owned(),
        Link::Live => "live".to_owned(),
        Link::Lost { retry_at_ms } => match ((retry_at_ms - store.now_ms.get()) / 1e3).ceil() {
            seconds if seconds >= 1.0 => format!("reconnecting in {seconds} s"),
            _ => "reconnecting".to_owned(),
        },
    });
    let lost = move || matches!(store.link.get(), Link::Lost { .. });
    let said = move || match store.link.get() {
        Link::Connecting => "",
        Link::Live => "Connected: changes show as they happen.",
        Link::Lost { .. } => "The connection is lost: what is shown is old.",
    };
    view! {
        <Chip lamp text name="link">
            <p>{said}</p>
            <Show when=lost>
                <button class="small" on:click=move |_| retry.run(())>"Connect now"</button>
            </Show>
        </Chip>
        <span class="visually-hidden" role="status">{said}</span>
    }
}

#[component]
fn StationChip() -> impl IntoView {
    let store = Store::here();
    let writable = move || store.station.with(|station| station.writable);
    let lamp = Signal::derive(move || if writable() { "quiet" } else { "wait" });
    let text = Signal::derive(move || {
        let cluster = store.station.with(|station| station.cluster.clone());
        if writable() { cluster } else { format!("{cluster} · view only") }
    });
    view! {
        <Chip lamp text name="station">
            <p>
                "Cluster " <b>{move || store.station.with(|station| station.cluster.clone())}</b> ", Signalbox "
                {move || store.station.with(|station| station.version.clone())}
            </p>
            <Show when=move || !writable() fallback=move || view! {
                <p>
                    {if store.station.with_untracked(|station| station.viewer.is_some()) {
                        "Policies are changed here by those whose role allows it."
                    } else {
                        "You may change policies here."
                    }}
                </p>
            }>
                <ViewOnly />
            </Show>
        </Chip>
    }
}

/// How to get from looking to changing.
#[component]
pub fn ViewOnly() -> impl IntoView {
    let store = Store::here();
    if store.station.with_untracked(|station| station.viewer.is_some()) {
        return view! { <p class="view-only">"View only: this server was started without "<code>"--allow-apply"</code>"."</p> }
            .into_any();
    }
    view! {
        <p class="view-only">
            "View only. To change things, open the link that stands on the " <code>"ready"</code>
            " line where Signalbox was started: it ends in " <code>"?token=…"</code>
            " and lets this browser in."
        </p>
    }
    .into_any()
}

/// Who is logged in, where the server tells users apart.
#[component]
fn WhoChip() -> impl IntoView {
    let store = Store::here();
    let viewer = Memo::new(move |_| store.station.with(|station| station.viewer.clone()));
    // The last part of `system:serviceaccount:ops:ann` tells enough for a chip.
    let short = |name: &str| name.rsplit(':').next().unwrap_or(name).to_owned();
    let text =
        Signal::derive(move || viewer.with(|viewer| viewer.as_ref().map(|it| short(&it.name))).unwrap_or_default());
    let over = move || {
        viewer.with(|it| it.as_ref().and_then(|it| it.expires_ms)).is_some_and(|end| end as f64 <= store.now_ms.get())
    };
    let lamp = Signal::derive(move || if over() { "bad" } else { "quiet" });
    view! {
        <Show when=move || viewer.with(Option::is_some)>
            <Chip lamp text name="who">
                {move || viewer.get().map(|viewer| view! { <Who viewer /> })}
            </Chip>
        </Show>
    }
}

#[component]
fn EnforcerChip() -> impl IntoView {
    let store = Store::here();
    let lamp = Signal::derive(move || {
        store.enforcers.with(|all| {
            if all.is_empty() {
                match store.enforcement.get() {
                    Enforcement::Other => "good",
                    Enforcement::Unknown => "quiet",
                    Enforcement::Nobody | Enforcement::Signalbox => "bad",
                }
            } else if all.iter().any(|one| !one.enforcing) {
                "bad"
            } else if all.iter().any(enforcers::wants_a_look) {
                "wait"
            } else {
                "good"
            }
        })
    });
    let text = Signal::derive(move || {
        store.enforcers.with(|all| match all.as_slice() {
            [] => match store.enforcement.get() {
                Enforcement::Nobody => "policies exist, nothing enforces them".to_owned(),
                Enforcement::Other => "the network plugin enforces".to_owned(),
                Enforcement::Unknown | Enforcement::Signalbox => "no enforcer of Signalbox".to_owned(),
            },
            [one] if one.enforcing => format!("enforcing · generation {}", one.generation),
            [_] => "not enforcing".to_owned(),
            many => format!("{} of {} nodes enforce", many.iter().filter(|one| one.enforcing).count(), many.len()),
        })
    });
    let item = move |one: &EnforcerStatus| {
        // Who does not see all namespaces is not told how many pods there are.
        let is_told = store.station.with(|station| station.viewer.as_ref().is_none_or(|viewer| viewer.all_namespaces));
        let state = enforcers::state(one, is_told);
        let (problems, link) = (one.problems.clone(), one.link.clone());
        let heard = move || link.as_ref().map(|link| enforcers::heard(link, store.now_ms.get()));
        view! {
            <li>
                <b>{one.node.clone()}</b>
                {format!(": {state}")}
                <p>{heard}</p>
                {problems.into_iter().map(|problem| view! { <p class="warn-text">{problem}</p> }).collect_view()}
            </li>
        }
    };
    view! {
        <Chip lamp text name="enforcer">
            <Show when=move || store.enforcers.with(|all| all.is_empty())>
                <p>
                    {move || match store.enforcement.get() {
                        Enforcement::Nobody => {
                            "Policies exist, and nothing enforces them: every probe that they should stop came through. Not every \
                             network plugin enforces policies."
                        }
                        Enforcement::Other => {
                            "No enforcer of Signalbox reports, and what policies shut is shut: the network plugin enforces them. \
                             Signalbox only watches."
                        }
                        Enforcement::Unknown | Enforcement::Signalbox => {
                            "No enforcer of Signalbox reports. Whether another one enforces policies is not known: no probe has tried \
                             what policies shut, or what they tried says one thing here and another there."
                        }
                    }}
                </p>
            </Show>
            <ul>{move || store.enforcers.with(|all| all.iter().map(item).collect_view())}</ul>
        </Chip>
    }
}

#[component]
fn DnsChip() -> impl IntoView {
    let store = Store::here();
    let failing = move || store.dns.with(|all| all.iter().filter(|fact| !fact.ok).count());
    let count = move || store.dns.with(|all| all.len());
    let lamp = Signal::derive(move || match (count(), failing()) {
        (0, _) => "quiet",
        (_, 0) => "good",
        (_, _) => "bad",
    });
    let text = Signal::derive(move || match (count(), failing()) {
        (0, _) => "DNS not tried".to_owned(),
        (_, 0) => "DNS works".to_owned(),
        (all, bad) => format!("DNS fails for {bad} of {all}"),
    });
    view! {
        <Chip lamp text name="dns">
            <ul>
                {move || {
                    let directory = store.directory.get();
                    store.dns.with(|all| {
                        all.iter()
                            .map(|fact| {
                                let from = directory.long(&fact.from);
                                let how = match &fact.error {
                                    Some(error) => format!("{}: {error}", fact.name),
                                    None => format!("{} in {}", fact.name, time::micros(fact.latency_us)),
                                };
                                view! {
                                    <li class:warn-text=!fact.ok>
                                        <b>{from}</b> {if fact.ok { " resolved " } else { " failed " }} {how}
                                    </li>
                                }
                            })
                            .collect_view()
                    })
                }}
            </ul>
        </Chip>
    }
}

#[component]
fn RoundChip() -> impl IntoView {
    let store = Store::here();
    let running = move || store.round.with(|round| round.number > 0 && round.ended_ms.is_none());
    let lamp = Signal::derive(move || if running() { "wait" } else { "quiet" });
    let text = Signal::derive(move || store.round.with(|round| format!("round {}", round.number)));
    let asked = RwSignal::new(None::<String>);
    let ask = move |_| {
        spawn_local(async move {
            asked.set(rest::ask_for_round().await.err().map(|error| error.message()));
        });
    };
    let words = move || {
        store.round.with(|round| match (round.number, round.ended_ms) {
            (0, _) => "No round has run yet.".to_owned(),
            (_, None) => format!("{} cells are being tried ({}).", round.cells, round.cause),
            (_, Some(end)) => format!(
                "{} cells tried in {} ms, {} ({}).",
                round.cells,
                end.saturating_sub(round.started_ms),
                time::ago(end, store.now_ms.get()),
                round.cause
            ),
        })
    };
    view! {
        <Chip lamp text name="round">
            <p>{words}</p>
            <Show when=move || store.station.with(|station| station.writable)>
                <button class="small" on:click=ask disabled=move || store.missing_for_rounds().is_some()>
                    "Try all again now"
                </button>
                {move || store.missing_for_rounds().map(|why| view! { <p class="view-only">{why}</p> })}
            </Show>
            {move || asked.get().map(|error| view! { <p class="warn-text" role="alert">{error}</p> })}
        </Chip>
    }
}
