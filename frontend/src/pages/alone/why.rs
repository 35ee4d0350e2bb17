//! "Why" for a pair: both sides, the rule that decided, the nearest miss, and the patch that would open it.

use std::time::Duration;

use leptos::prelude::*;
use leptos::{ev, html};
use signalbox_api::cell::CellKey;
use signalbox_api::flow;
use signalbox_policy::Protocol;

use super::Simulated;
use super::sim::{Shared, Sim};
use crate::browser;
use crate::components::icon::Icon;
use crate::model::alone::cell::Shade;
use crate::model::alone::remedy::{self, Remedy};
use crate::model::alone::scene::Scene;
use crate::model::alone::why::{self, Piece, Policy, Rule, SideView};
use crate::route::{Desk, Route, View, print_key};
use crate::store::Store;

/// How many pieces of ports are offered.
const MOST_PIECES: usize = 18;

/// The panel; nothing while no pair is asked about.
#[component]
pub(crate) fn Why() -> impl IntoView {
    let store = Store::here();
    let sim = Sim::here();
    let key = Memo::new(move |_| store.route.with(|route| route.why.clone()));
    let pair = Memo::new(move |_| key.get().map(|key| (key.from, key.to)));
    let escape = window_event_listener(ev::keydown, move |event| {
        if event.key() == "Escape" && key.with_untracked(Option::is_some) {
            leave(store);
        }
    });
    on_cleanup(move || escape.remove());
    move || pair.get().map(|(from, to)| view! { <Panel from to sim /> })
}

/// Closes the panel and gives the focus back to the cell.
fn leave(store: Store) {
    let key = store.route.with_untracked(|route| route.why.clone());
    store.close_why();
    if let Some(key) = key {
        let cell = CellKey { port: 0, protocol: flow::Protocol::Tcp, ..key };
        browser::focus(&format!("[data-key='{}']", print_key(&cell)));
    }
}

/// What is asked about.
#[derive(Clone, PartialEq)]
struct Question {
    scene: Shared<Scene>,
    from: usize,
    to: usize,
    protocol: Protocol,
    port: u16,
}

#[component]
fn Panel(from: String, to: String, sim: Sim) -> impl IntoView {
    let store = Store::here();
    let question = {
        let (from, to) = (from.clone(), to.clone());
        Memo::new(move |_| {
            let scene = sim.scene.get();
            let (from, to) = (scene.find(&from)?, scene.find(&to)?);
            let asked = store.route.with(|route| route.why.clone())?;
            let lens = sim.wish.with(|wish| wish.lens());
            let (protocol, port) = match (asked.port, lens) {
                (0, Some(lens)) => lens,
                (0, None) => why::first_port(&scene, from, to),
                (port, _) => (engine_protocol(asked.protocol), port),
            };
            Some(Question { scene, from, to, protocol, port })
        })
    };
    let heading = NodeRef::<html::H2>::new();
    heading.on_load(|heading| {
        let _ = heading.focus();
    });
    let title = move || {
        question.with(|question| {
            question
                .as_ref()
                .map(|it| (it.scene.title(it.from), it.scene.title(it.to), format!("port {} {}", it.port, it.protocol)))
        })
    };
    let ask = move |protocol: Protocol, port: u16| {
        let key = CellKey { from: from.clone(), to: to.clone(), port, protocol: wire_protocol(protocol) };
        store.explain(key);
        // The answer is drawn anew, and with it what had the focus.
        let piece = || {
            browser::focus(".piece[aria-pressed='true']");
        };
        set_timeout(piece, Duration::from_millis(60));
    };
    let ask = StoredValue::new(ask);
    view! {
        <aside class="why" aria-labelledby="why-title">
            <div class="why-head">
                <h2 id="why-title" tabindex="-1" node_ref=heading>
                    <span class="visually-hidden">"Why: "</span>
                    <span>{move || title().map(|it| it.0)}</span>
                    <span class="to" aria-label="to">" → "</span>
                    <span>{move || title().map(|it| it.1)}</span>
                    <small>{move || title().map(|it| it.2)}</small>
                </h2>
                <button class="plain" on:click=move |_| leave(store) aria-label="Close" title="Close (Esc)">
                    <Icon name="close" />
                </button>
            </div>
            {move || match question.get() {
                Some(question) => {
                    let ask = Callback::new(move |(protocol, port)| ask.with_value(|ask| ask(protocol, port)));
                    answer(sim, &question, ask).into_any()
                }
                None => view! { <p class="empty">"One of the two is not, or no longer, among what you put in."</p> }.into_any(),
            }}
        </aside>
    }
}

fn answer(sim: Sim, question: &Question, ask: Callback<(Protocol, u16)>) -> impl IntoView + use<> {
    let Question { scene, from, to, protocol, port } = question.clone();
    let why = sim.workspace.with_untracked(|workspace| why::why(workspace, &scene, from, to, protocol, port));
    let unknown = why.unknown.clone();
    let shut = why.shade == Shade::Shut;
    view! {
        <div class=format!("verdict lamp-{}", why.shade.name())>
            <Icon name=why.shade.icon() />
            <p>
                <b>{why.headline.clone()}</b>
                <span class="faint"><Simulated /> " by the engine: nothing was probed"</span>
                {why.before.map(|before| view! { <span class="faint">{format!("In the baseline: {before}.")}</span> })}
            </p>
        </div>
        <div class="sides">{why.sides.iter().map(side_view).collect_view()}</div>
        {(!unknown.is_empty())
            .then(|| {
                view! {
                    <div class="notice warn">
                        <p>"Not understood, so not judged:"</p>
                        <ul>{unknown.iter().map(|line| view! { <li>{line.clone()}</li> }).collect_view()}</ul>
                    </div>
                }
            })}
        <Pieces pieces=why.pieces.clone() protocol port ask />
        {shut.then(|| view! { <RemedyView sim question=question.clone() /> })}
    }
}

/// The ports of the pair, to choose from.
#[component]
fn Pieces(pieces: Vec<Piece>, protocol: Protocol, port: u16, ask: Callback<(Protocol, u16)>) -> impl IntoView {
    let more = pieces.len().saturating_sub(MOST_PIECES);
    let typed = RwSignal::new(String::new());
    let go = move |event: ev::SubmitEvent| {
        event.prevent_default();
        if let Some(lens) = typed.with_untracked(|text| crate::model::alone::cell::lens(text)) {
            ask.run(lens);
        }
    };
    view! {
        <section class="pieces" aria-label="All ports of this pair">
            <h3>"All ports of this pair"</h3>
            <ul>
                {pieces
                    .into_iter()
                    .take(MOST_PIECES)
                    .map(|piece| {
                        let here = piece.holds(protocol, port);
                        let (first, of) = (piece.ports.0, piece.protocol);
                        view! {
                            <li>
                                <button
                                    class=format!("small piece lamp-{}", piece.shade.name())
                                    aria-pressed=here.to_string()
                                    on:click=move |_| ask.run((of, first))
                                >
                                    <Icon name=piece.shade.icon() />
                                    {piece.title()}
                                    <span class="visually-hidden">{format!(": {}", piece.shade.word())}</span>
                                </button>
                            </li>
                        }
                    })
                    .collect_view()}
                {(more > 0).then(|| view! { <li class="faint">{format!("and {more} more")}</li> })}
            </ul>
            <form class="actions" on:submit=go>
                <label class="field port-field">
                    <span>"Port"</span>
                    <input
                        type="text"
                        placeholder=format!("{protocol} {port}")
                        aria-label="Another port to ask about, such as UDP 53"
                        autocomplete="off"
                        on:input=move |event| typed.set(event_target_value(&event))
                    />
                </label>
                <button class="small" type="submit">"Ask"</button>
            </form>
        </section>
    }
}

fn side_view(side: &SideView) -> impl IntoView + use<> {
    let arrow = match side.direction {
        signalbox_policy::Direction::Egress => "↗",
        signalbox_policy::Direction::Ingress => "↘",
    };
    let isolated = side.isolated_by.clone();
    view! {
        <section class=format!("side lamp-{}", side.lamp)>
            <h3><Icon name=side.lamp />{format!("{arrow} {}", side.title)}</h3>
            <p>{side.words} {side.rule.as_ref().map(|rule| view! { {rule_link(rule)} "." })}</p>
            {(!isolated.is_empty()).then(|| view! { <p>"Isolated by " {links(&isolated)} "."</p> })}
            {side.nearest.as_ref().map(|(rule, difference)| {
                view! { <p class="nearest"><b>"Nearest miss: "</b> {rule_link(rule)} ": " {difference.clone()}</p> }
            })}
        </section>
    }
}

fn links(policies: &[Policy]) -> impl IntoView + use<> {
    let last = policies.len().saturating_sub(1);
    policies
        .iter()
        .enumerate()
        .map(|(at, policy)| view! { {policy_link(policy)} {(at < last).then_some(", ")} })
        .collect_view()
}

fn rule_link(rule: &Rule) -> impl IntoView + use<> {
    let line = rule.line.map(|line| format!(" (line {line})"));
    view! { {policy_link(&rule.policy)} " " <code>{rule.path.clone()}</code> {line} }
}

fn policy_link(policy: &Policy) -> impl IntoView + use<> {
    let name = policy.name.clone();
    match policy.item {
        Some(item) => {
            let href = Route::to(View::Alone(Desk::Policies(Some(item)))).hash();
            view! { <a href=href>{name}</a> }.into_any()
        }
        None => view! { <span>{name}</span> }.into_any(),
    }
}

/// What would open the connection. Worked out when asked for: it tries several ways on the whole cluster.
#[component]
fn RemedyView(sim: Sim, question: Question) -> impl IntoView {
    let found = RwSignal::new(None::<Option<Remedy>>);
    let question = StoredValue::new(question);
    let work = move |_| {
        let remedy = question.with_value(|it| remedy::remedy(&it.scene, it.from, it.to, it.protocol, it.port));
        found.set(Some(remedy));
        request_animation_frame(|| {
            browser::focus("#remedy-title");
        });
    };
    let apply = move |_| {
        let Some(Some(remedy)) = found.get_untracked() else { return };
        sim.change(|workspace| remedy.apply(workspace));
        sim.said.set("The patch is applied here, in the simulation. Changes shows what it opens.".to_owned());
    };
    view! {
        {move || match found.get() {
            None => view! {
                <p><button class="button" on:click=work>"What would open it?"</button></p>
            }
            .into_any(),
            Some(None) => view! { <p class="faint">"No patch is known that would open it."</p> }.into_any(),
            Some(Some(remedy)) => {
                view! {
                    <section class="remedy" aria-labelledby="remedy-title">
                        <h3 id="remedy-title" tabindex="-1">"The smallest patch that opens it"</h3>
                        {remedy.summaries.iter().map(|line| view! { <p>{line.clone()}</p> }).collect_view()}
                        {remedy.obstacles.iter().map(|line| view! { <p class="warn-text">{format!("⚠ {line}")}</p> }).collect_view()}
                        <p>
                            {if remedy.also_opens.is_empty() {
                                "It opens nothing else.".to_owned()
                            } else {
                                format!("It opens besides ({}):", remedy.also_opens.len())
                            }}
                        </p>
                        <ul class="also">
                            {remedy.also_opens.iter().take(12).map(|line| view! { <li>{line.clone()}</li> }).collect_view()}
                            {(remedy.also_opens.len() > 12).then(|| view! { <li>"…"</li> })}
                        </ul>
                        <details class="yaml">
                            <summary>"As YAML"</summary>
                            <pre tabindex="0"><code>{remedy.yaml.clone()}</code></pre>
                        </details>
                        <p><button class="button" on:click=apply>"Apply it here"</button></p>
                    </section>
                }
                    .into_any()
            }
        }}
    }
}

const fn engine_protocol(protocol: flow::Protocol) -> Protocol {
    match protocol {
        flow::Protocol::Tcp => Protocol::Tcp,
        flow::Protocol::Udp => Protocol::Udp,
        flow::Protocol::Sctp => Protocol::Sctp,
    }
}

const fn wire_protocol(protocol: Protocol) -> flow::Protocol {
    match protocol {
        Protocol::Tcp => flow::Protocol::Tcp,
        Protocol::Udp => flow::Protocol::Udp,
        Protocol::Sctp => flow::Protocol::Sctp,
    }
}
