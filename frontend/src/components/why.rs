//! "Why": the facts of one cell side by side, and the rule that decided.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::{ev, html};
use signalbox_api::cell::{Agreement, Cell, CellKey, Evidence, NearestMiss, Outcome, SideFact, SpecFact};
use signalbox_api::flow::{Decision, Direction, PolicyRef, RuleRef};
use signalbox_api::state::EndpointKind;

use super::icon::Icon;
use crate::browser;
use crate::model::directory::Directory;
use crate::model::look::{self, Lamp};
use crate::model::picture::Entry;
use crate::model::time;
use crate::route::{Edited, Route, View, print_key};
use crate::store::Store;

/// The panel; nothing while no cell is asked about.
#[component]
pub fn Why() -> impl IntoView {
    let store = Store::here();
    let key = Memo::new(move |_| store.route.with(|route| route.why.clone()));
    let asker = Asker::new_local(None);
    let escape = window_event_listener(ev::keydown, move |event| {
        if event.key() == "Escape"
            && let Some(key) = key.get_untracked()
        {
            leave(store, &key, asker);
        }
    });
    on_cleanup(move || escape.remove());
    move || {
        key.get().map(|key| {
            if let Some(element) =
                browser::focused().filter(|element| !matches!(element.closest("aside.why"), Ok(Some(_))))
            {
                asker.set_value(Some(element));
            }
            view! { <Panel key asker /> }
        })
    }
}

/// From where the panel was opened: a line of the map has no name to find it by.
type Asker = StoredValue<Option<web_sys::Element>, LocalStorage>;

/// Closes the panel and gives the focus back to the cell, or to whatever asked.
fn leave(store: Store, key: &CellKey, asker: Asker) {
    store.close_why();
    if browser::focus(&format!("[data-key='{}']", print_key(key))) {
        return;
    }
    if let Some(element) = asker.get_value().filter(|element| element.is_connected()) {
        browser::focus_element(&element);
    }
}

#[component]
fn Panel(key: CellKey, asker: Asker) -> impl IntoView {
    let store = Store::here();
    let signal = store.cell(&key);
    let title = {
        let key = key.clone();
        Memo::new(move |_| {
            store.directory.with(|directory| {
                (directory.long(&key.from), directory.long(&key.to), format!("port {} {}", key.port, key.protocol))
            })
        })
    };
    let heading = NodeRef::<html::H2>::new();
    heading.on_load(|heading| {
        let _ = heading.focus();
    });
    let close = move |_| leave(store, &key, asker);
    view! {
        <aside class="why" aria-labelledby="why-title">
            <div class="why-head">
                <h2 id="why-title" tabindex="-1" node_ref=heading>
                    <span class="visually-hidden">"Why: "</span>
                    <span>{move || title.with(|title| title.0.clone())}</span>
                    <span class="to" aria-label="to">" → "</span>
                    <span>{move || title.with(|title| title.1.clone())}</span>
                    <small>{move || title.with(|title| title.2.clone())}</small>
                </h2>
                <button class="plain" on:click=close aria-label="Close" title="Close (Esc)">
                    <Icon name="close" />
                </button>
            </div>
            {move || match signal.get() {
                Some(entry) => facts(store, &entry).into_any(),
                None => view! { <p class="empty">"This connection is not tried, or is no longer."</p> }.into_any(),
            }}
        </aside>
    }
}

fn facts(store: Store, entry: &Arc<Entry>) -> impl IntoView + use<> {
    let cell = &entry.cell;
    let directory = store.directory.get();
    let lamp = Lamp::of(cell.probe.as_ref().map(|probe| probe.outcome));
    let headline = match look::shut(cell) {
        Some(shut) => format!("{}, by {}", lamp.word(), shut.phrase()),
        None => lamp.word().to_owned(),
    };
    let since = cell.since_ms;
    let agreement = match cell.agreement {
        Agreement::Agree => ("agree", "agree"),
        Agreement::Disagree => ("disagree", "disagree"),
        Agreement::Unsettled => ("unsettled", "unsettled"),
    };
    view! {
        <div class=format!("verdict lamp-{}", lamp.name())>
            <Icon name=lamp.name() />
            <p>
                <b>{headline}</b>
                <span class="faint">{move || format!("changed {}", time::ago(since, store.now_ms.get()))}</span>
            </p>
        </div>
        <div class="facts">{spec_card(cell)} {probe_card(store, cell)} {kernel_card(store, cell)}</div>
        <p class=format!("agreement is-{}", agreement.0)>
            <Icon name=agreement.1 />
            {look::agreement(cell)}
        </p>
        {cell.spec.as_ref().map(|spec| sides(&directory, &cell.key, spec))}
    }
}

fn decision_lamp(decision: Option<Decision>) -> (&'static str, &'static str) {
    match decision {
        Some(Decision::Allowed) => ("open", "allowed"),
        Some(Decision::Denied) => ("shut", "denied"),
        None => ("waiting", "cannot be judged"),
    }
}

fn spec_card(cell: &Cell) -> impl IntoView + use<> {
    let (icon, word, text) = match &cell.spec {
        None => ("waiting", "not judged yet", String::new()),
        Some(spec) => {
            let (icon, word) = decision_lamp(spec.decision);
            (icon, word, spec.summary.clone())
        }
    };
    card("What the policies say", icon, word, vec![text])
}

fn probe_card(store: Store, cell: &Cell) -> impl IntoView + use<> {
    let Some(probe) = &cell.probe else {
        let directory = store.directory.get();
        let has_probe = directory.get(&cell.key.from).is_none_or(|endpoint| endpoint.vantage);
        let (word, lines) = if has_probe {
            ("not tried yet", Vec::new())
        } else {
            let line = "Nothing is tried from it: it runs no probe. A stand-in with its labels can try in its place.";
            ("no probe", vec![line.to_owned()])
        };
        return card("What the probe saw", "waiting", word, lines).into_any();
    };
    let lamp = Lamp::of(Some(probe.outcome));
    let evidence = match probe.evidence {
        Evidence::Answer => "known by the peer's answer",
        Evidence::KernelEvent if probe.outcome == Outcome::DnsFailed => {
            "known by the kernel's event for the question to the DNS server"
        }
        Evidence::KernelEvent => "known by the kernel's event for this very packet",
        Evidence::Timeout => "no answer in time: weaker evidence",
    };
    let mut lines = vec![evidence.to_owned()];
    lines.extend(probe.latency_us.map(|us| format!("answered in {}", time::micros(us))));
    lines.extend(probe.seen_source.map(|source| format!("the peer saw {source}")));
    lines.extend(
        probe.backend.as_ref().map(|pod| format!("by way of the Service to {}", store.directory.get().long(pod))),
    );
    lines.extend(probe.detail.clone());
    let at = probe.at_ms;
    view! {
        {card("What the probe saw", lamp.name(), lamp.word(), lines)}
        <span class="visually-hidden">{move || time::ago(at, store.now_ms.get())}</span>
    }
    .into_any()
}

fn kernel_card(store: Store, cell: &Cell) -> impl IntoView + use<> {
    let Some(kernel) = &cell.kernel else {
        let nobody = store.enforcers.with(|all| all.is_empty());
        let line = if nobody {
            "No enforcer of Signalbox reports what it decides."
        } else {
            "No packet of this cell was judged yet."
        };
        return card("What the kernel decided", "waiting", "nothing known", vec![line.to_owned()]);
    };
    let (icon, word) = decision_lamp(Some(kernel.decision));
    let mut lines = match kernel.nodes.as_slice() {
        [] => vec![format!("generation {}", kernel.generation)],
        nodes => nodes.iter().map(|one| format!("on node {}, generation {}", one.node, one.generation)).collect(),
    };
    lines.extend(kernel.direction.map(|direction| format!("on the {direction} side")));
    lines.extend(kernel.rule.as_ref().map(|rule| format!("by {} {}", rule.policy, look::rule_path(rule))));
    if !kernel.isolated_by.is_empty() {
        let names: Vec<String> = kernel.isolated_by.iter().map(ToString::to_string).collect();
        lines.push(format!("isolated by {}", names.join(", ")));
    }
    card("What the kernel decided", icon, word, lines)
}

fn card(title: &'static str, icon: &'static str, word: &'static str, lines: Vec<String>) -> impl IntoView + use<> {
    let lines: Vec<String> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    view! {
        <section class=format!("card lamp-{icon}")>
            <h3>{title}</h3>
            <p class="word"><Icon name=icon />{word}</p>
            {lines.into_iter().map(|line| view! { <p class="line">{line}</p> }).collect_view()}
        </section>
    }
}

fn sides(directory: &Directory, key: &CellKey, spec: &SpecFact) -> impl IntoView + use<> {
    let side = |direction: Direction| {
        let id = match direction {
            Direction::Egress => &key.from,
            Direction::Ingress => &key.to,
        };
        let kind = directory.get(id).map(|endpoint| endpoint.kind);
        let fact = spec.sides.iter().find(|side| side.direction == direction);
        side_view(direction, directory.long(id), kind, fact)
    };
    view! {
        <div class="sides">{side(Direction::Egress)} {side(Direction::Ingress)}</div>
        {(!spec.unknown.is_empty())
            .then(|| {
                view! {
                    <div class="notice warn">
                        <p>"Not understood, so not judged:"</p>
                        <ul>{spec.unknown.iter().map(|line| view! { <li>{line.clone()}</li> }).collect_view()}</ul>
                    </div>
                }
            })}
    }
}

fn side_view(
    direction: Direction,
    name: String,
    kind: Option<EndpointKind>,
    fact: Option<&SideFact>,
) -> impl IntoView + use<> {
    let title = match direction {
        Direction::Egress => format!("{} Egress: out of {name}", look::arrow(direction)),
        Direction::Ingress => format!("{} Ingress: into {name}", look::arrow(direction)),
    };
    let (lamp, body) = match fact {
        None if kind == Some(EndpointKind::Outside) => {
            ("nolistener", view! { <p>"Outside the cluster: no policy judges this side."</p> }.into_any())
        }
        None => ("waiting", view! { <p>"Not judged."</p> }.into_any()),
        Some(fact) => {
            let (lamp, _) = decision_lamp(Some(fact.decision));
            (lamp, side_body(fact).into_any())
        }
    };
    let behind = kind == Some(EndpointKind::Service);
    view! {
        <section class=format!("side lamp-{lamp}")>
            <h3><Icon name=lamp />{title}</h3>
            {body}
            {behind.then(|| view! { <p class="faint">"Judged on the pods behind the Service, after translation."</p> })}
        </section>
    }
}

fn side_body(fact: &SideFact) -> impl IntoView + use<> {
    let isolated = fact.isolated_by.clone();
    match (fact.decision, &fact.rule) {
        (Decision::Allowed, Some(rule)) => view! { <p>"Allowed by " {rule_link(rule)} "."</p> }.into_any(),
        (Decision::Allowed, None) if isolated.is_empty() => {
            view! { <p>"Open: no policy isolates it in this direction."</p> }.into_any()
        }
        (Decision::Allowed, None) => view! { <p>"Always allowed: no policy can forbid it."</p> }.into_any(),
        (Decision::Denied, Some(rule)) => view! { <p>"Denied by " {rule_link(rule)} "."</p> }.into_any(),
        (Decision::Denied, None) => view! {
            <p>"Denied. Isolated by " {links(&isolated)} ", and no rule allows it."</p>
            {fact.nearest_miss.as_ref().map(nearest)}
        }
        .into_any(),
    }
}

fn nearest(miss: &NearestMiss) -> impl IntoView + use<> {
    view! {
        <p class="nearest">
            <b>"Nearest miss: "</b>
            {miss.rule.as_ref().map(|rule| view! { {rule_link(rule)} ": " })}
            {miss.difference.clone()}
        </p>
    }
}

fn links(policies: &[PolicyRef]) -> impl IntoView + use<> {
    let last = policies.len().saturating_sub(1);
    policies
        .iter()
        .enumerate()
        .map(|(at, policy)| view! { {policy_link(policy)} {(at < last).then_some(", ")} })
        .collect_view()
}

fn rule_link(rule: &RuleRef) -> impl IntoView + use<> {
    view! { {policy_link(&rule.policy)} " " <code>{look::rule_path(rule)}</code> }
}

fn policy_link(policy: &PolicyRef) -> impl IntoView + use<> {
    let name = policy.to_string();
    // The editor has NetworkPolicies only.
    match policy.namespace.as_ref().filter(|_| policy.kind == "NetworkPolicy") {
        Some(namespace) => {
            let edited = Edited::Existing(namespace.clone(), policy.name.clone());
            let href = Route::to(View::Policies(Some(edited))).hash();
            view! { <a href=href>{name}</a> }.into_any()
        }
        None => view! { <span>{name}</span> }.into_any(),
    }
}
