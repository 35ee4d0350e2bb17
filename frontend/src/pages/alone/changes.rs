//! What opens and what shuts, compared with the baseline.

use leptos::prelude::*;
use signalbox_api::cell::CellKey;
use signalbox_api::flow::Protocol;

use super::Simulated;
use super::sim::Sim;
use crate::components::icon::Icon;
use crate::model::alone::cell;
use crate::model::alone::survey::{self, Change};
use crate::route::{Desk, Route, View};

/// How many changes are listed before one asks for more.
const MOST: usize = 100;

/// The view.
#[component]
pub(crate) fn ChangesPage() -> impl IntoView {
    view! {
        <section class="panel changes-page" aria-labelledby="changes-title">
            <div class="title-line">
                <h1 id="changes-title">"Changes since the baseline"</h1>
                <Simulated />
            </div>
            <BaseLine />
            <Changes />
        </section>
    }
}

/// What is compared, and how to move it.
#[component]
pub(crate) fn BaseLine() -> impl IntoView {
    let sim = Sim::here();
    let changed = Memo::new(move |_| sim.workspace.with(|workspace| workspace.is_changed()));
    view! {
        <div class="actions">
            <button
                class="small"
                disabled=move || !changed.get()
                on:click=move |_| {
                    sim.change(|workspace| workspace.keep_as_base());
                    sim.said.set("What is here now is the baseline.".to_owned());
                }
            >
                "Make this the baseline"
            </button>
            <button
                class="small"
                disabled=move || !changed.get()
                on:click=move |_| {
                    sim.change(|workspace| workspace.back_to_base());
                    sim.said.set("Everything is as in the baseline again.".to_owned());
                }
            >
                "Back to the baseline"
            </button>
        </div>
    }
}

/// The changes in one line.
#[component]
pub(crate) fn Balance() -> impl IntoView {
    let sim = Sim::here();
    let balance = Memo::new(move |_| sim.survey.with(|survey| (survey.balance(), survey.progress() >= 1.0)));
    let compared = Memo::new(move |_| sim.scene.with(|scene| scene.base.is_some()));
    view! {
        <p class="balance" role="status">
            {move || {
                let ((opens, shuts, unsure), done) = balance.get();
                if !compared.get() {
                    return view! { <span class="faint">"Nothing differs from the baseline."</span> }.into_any();
                }
                if done && opens + shuts + unsure == 0 {
                    return view! { <span class="faint">"The texts differ, but nothing opens and nothing shuts."</span> }.into_any();
                }
                let part = |class: &'static str, icon: &'static str, word: &'static str, n: usize| {
                    let pairs = if n == 1 { "1 pair".to_owned() } else { format!("{} pairs", cell::grouped(n)) };
                    (n > 0).then(|| {
                        view! { <span class=format!("count {class}")><Icon name=icon />{format!("{word} in {pairs}")}</span> }
                    })
                };
                view! {
                    {part("opens", "opens", "opens", opens)}
                    {part("shuts", "shuts", "shuts", shuts)}
                    {part("unsure", "unjudged", "unknown", unsure)}
                }
                .into_any()
            }}
        </p>
    }
}

/// The list.
#[component]
pub(crate) fn Changes() -> impl IntoView {
    let sim = Sim::here();
    let all = RwSignal::new(false);
    let total = Memo::new(move |_| sim.survey.with(|survey| survey.changes.len()));
    let gone = move || sim.scene.with(|scene| scene.gone.clone());
    let new = move || {
        sim.scene.with(|scene| {
            let new = (0..scene.pods).filter(|end| !scene.ends[*end].is_in_base);
            new.map(|end| scene.title(end)).collect::<Vec<_>>()
        })
    };
    let pods = |what: &'static str, list: Vec<String>| {
        (!list.is_empty()).then(|| {
            let more = list.len().saturating_sub(5);
            let named = list.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            view! { <p class="faint">{format!("{what}: {named}{more}; not compared.")}</p> }
        })
    };
    view! {
        <Balance />
        {move || pods("Not in the baseline", new())}
        {move || pods("In the baseline only", gone())}
        <ul class="changes">
            {move || {
                let most = if all.get() { usize::MAX } else { MOST };
                let scene = sim.scene.get();
                sim.survey.with(|survey| {
                    survey
                        .changes
                        .iter()
                        .take(most)
                        .filter(|change| change.from.max(change.to) < scene.kinds.len())
                        .map(|change| line(&scene, change))
                        .collect_view()
                })
            }}
        </ul>
        <Show when=move || { total.get() > MOST && !all.get() }>
            <button class="small" on:click=move |_| all.set(true)>{move || format!("Show all {}", total.get())}</button>
        </Show>
    }
}

fn line(scene: &crate::model::alone::scene::Scene, change: &Change) -> impl IntoView + use<> {
    let end = |kind: usize| {
        let (title, more) = survey::kind_title(scene, kind);
        let more = if more > 0 { format!(" and {more} alike") } else { String::new() };
        (title, more)
    };
    let ((from, from_more), (to, to_more)) = (end(change.from), end(change.to));
    let first = |kind: usize| scene.kinds[kind].first().copied();
    // Of one kind with itself the second stands for the others.
    let second = |kind: usize| if change.from == change.to { scene.kinds[kind].get(1).copied() } else { first(kind) };
    let href = first(change.from).zip(second(change.to)).map(|(from, to)| {
        let (from, to) = (scene.ends[from].id.clone(), scene.ends[to].id.clone());
        let difference = &change.difference;
        let traffic = [&difference.opens, &difference.closes, &difference.unsure].into_iter().find(|it| !it.is_empty());
        let port = traffic
            .and_then(|it| it.protocols().next())
            .and_then(|(protocol, ports)| ports.ranges().first().map(|(first, _)| (wire(protocol), *first)));
        let (protocol, port) = port.unwrap_or((Protocol::Tcp, 0));
        Route { view: View::Alone(Desk::Matrix), why: Some(CellKey { from, to, port, protocol }) }.hash()
    });
    let difference = change.difference.clone();
    let part = |class: &'static str, word: &'static str, traffic: &signalbox_policy::traffic::Traffic| {
        (!traffic.is_empty()).then(|| {
            let words = cell::with_family(change.family, format!("{word} {}", cell::ports(traffic)));
            view! { <span class=format!("part {class}")><Icon name=class />{words}</span> }
        })
    };
    view! {
        <li>
            <a href=href>
                <span class="ends">
                    <b>{from}</b>
                    <span class="faint">{from_more}</span>
                    <span class="to">" → "</span>
                    <b>{to}</b>
                    <span class="faint">{to_more}</span>
                </span>
                {part("opens", "opens", &difference.opens)}
                {part("shuts", "shuts", &difference.closes)}
                {part("unjudged", "becomes or ceases to be unknown:", &difference.unsure)}
            </a>
        </li>
    }
}

const fn wire(protocol: signalbox_policy::Protocol) -> Protocol {
    match protocol {
        signalbox_policy::Protocol::Tcp => Protocol::Tcp,
        signalbox_policy::Protocol::Udp => Protocol::Udp,
        signalbox_policy::Protocol::Sctp => Protocol::Sctp,
    }
}
