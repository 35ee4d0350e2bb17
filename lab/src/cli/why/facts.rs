//! What a live look showed, for people.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use owo_colors::OwoColorize;
use serde_json::Value;
use signalbox_api::cell::{Agreement, Cell, Evidence, KernelFact, Outcome, ProbeFact};
use signalbox_api::flow::Decision;
use signalbox_api::rest::ProbeReport;
use signalbox_api::state::Enforcement;

use super::Live;

pub(super) fn print(live: &Live, spec: &Value) {
    anstream::println!();
    for (name, text) in lines(live, spec) {
        anstream::println!("{:10}{text}", name.bold());
    }
}

/// What is printed: a word, and what is said under it.
pub(super) fn lines(live: &Live, spec: &Value) -> Vec<(&'static str, String)> {
    let whole = spec["answers"].as_array().map_or(&[][..], Vec::as_slice);
    let mut lines = Vec::new();
    if let Some(name) = spec["service"]["name"].as_str() {
        lines.push(("service", format!("{name} port {}, by its own address", spec["port"])));
    }
    lines.extend(facts(live, live.cell.as_ref(), live.in_pod.as_ref(), &verdicts(whole.iter())));
    for backend in &live.backends {
        let own = whole.iter().filter(|answer| answer["to"] == *backend.to && answer["port"] == backend.port);
        let verdicts = verdicts(own);
        let said = verdicts.iter().copied().collect::<Vec<_>>().join(" or ");
        lines.push(("backend", format!("{} port {}: the policies say {said}", backend.to, backend.port)));
        lines.extend(facts(live, backend.cell.as_ref(), backend.in_pod.as_ref(), &verdicts));
    }
    lines.extend(live.notes.iter().map(|note| ("note", note.clone())));
    lines
}

/// What the answers say, each word once.
fn verdicts<'s>(answers: impl Iterator<Item = &'s Value>) -> BTreeSet<&'s str> {
    answers.filter_map(|answer| answer["verdict"].as_str()).collect()
}

/// What is known of one destination.
fn facts(
    live: &Live,
    cell: Option<&Cell>,
    in_pod: Option<&ProbeReport>,
    verdicts: &BTreeSet<&str>,
) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(report) = in_pod {
        let from = format!(" from inside the network namespace of {}", report.from);
        lines.push(("in pod", seen(&report.probe, &from)));
    }
    match cell.and_then(|cell| cell.probe.as_ref()) {
        Some(probe) => {
            let from = live.tried_from.as_ref().map_or(String::new(), |from| format!(" from {from}"));
            lines.push(("probe", seen(probe, &from)));
        }
        None if in_pod.is_some() => {}
        None => lines.push(("probe", "nothing was tried".yellow().to_string())),
    }
    let inside = in_pod.map_or(&[][..], |report| &report.kernels);
    for fact in inside {
        let node = fact.nodes.first().map_or("", |node| node.node.as_str());
        let (word, rest) = decided(fact);
        lines.push(("kernel", format!("{}{rest} on {node}, of what was tried in the pod", word.bold())));
    }
    match cell.and_then(|cell| cell.kernel.as_ref()) {
        Some(kernel) => {
            let (word, rest) = decided(kernel);
            lines.push(("kernel", format!("{}{rest}", word.bold())));
        }
        None if !inside.is_empty() => {}
        None => lines.push(("kernel", kernel_is_silent(live.enforcement).to_owned())),
    }
    if let Some(cell) = cell {
        lines.push(("since", ago(cell.since_ms)));
    }
    let agreement = match in_pod {
        Some(report) => Some(compare(verdicts, report.probe.outcome)),
        None => cell.map(|cell| cell.agreement),
    };
    if let Some(agreement) = agreement {
        let (word, style) = match agreement {
            Agreement::Agree => ("all that is known says the same", owo_colors::Style::new().green()),
            Agreement::Disagree => ("what is known contradicts itself", owo_colors::Style::new().red()),
            Agreement::Unsettled => ("too little is known to compare", owo_colors::Style::new().yellow()),
        };
        lines.push(("facts", word.style(style).to_string()));
    }
    lines
}

/// Whether what was tried is as the policies say.
pub(super) fn compare(verdicts: &BTreeSet<&str>, outcome: Outcome) -> Agreement {
    let said = match verdicts.iter().copied().collect::<Vec<_>>().as_slice() {
        ["allowed"] => Some(Decision::Allowed),
        ["denied"] => Some(Decision::Denied),
        _ => None,
    };
    match (said, outcome.decision()) {
        (Some(said), Some(seen)) if said == seen => Agreement::Agree,
        (Some(_), Some(_)) => Agreement::Disagree,
        (None, _) | (_, None) => Agreement::Unsettled,
    }
}

/// What a probe saw, and how that is known.
fn seen(probe: &ProbeFact, from: &str) -> String {
    let how = match probe.evidence {
        Evidence::Answer => "by the peer's answer",
        Evidence::KernelEvent if probe.outcome == Outcome::DnsFailed => "by the kernel's event for the DNS question",
        Evidence::KernelEvent => "by the kernel's event for this packet",
        Evidence::Timeout => "no answer in time, weaker evidence",
    };
    let latency = probe.latency_us.map_or(String::new(), |us| format!(", {us} us"));
    let detail = probe.detail.as_ref().map_or(String::new(), |detail| format!(": {detail}"));
    format!("{}{from} ({how}{latency}){detail}", probe.outcome.to_string().bold())
}

/// What the kernel decided, in a word; and where, by what, and how the policies stood.
pub(super) fn decided(kernel: &KernelFact) -> (&'static str, String) {
    let word = match kernel.decision {
        Decision::Allowed => "allowed",
        Decision::Denied => "denied",
    };
    let mut rest = kernel.direction.map_or(String::new(), |direction| format!(" on the {direction} side"));
    if let Some(rule) = &kernel.rule {
        rest.push_str(&format!(" by {rule}"));
    }
    if !kernel.isolated_by.is_empty() && kernel.rule.is_none() {
        let names: Vec<String> = kernel.isolated_by.iter().map(ToString::to_string).collect();
        rest.push_str(&format!(", isolated by {}", names.join(", ")));
    }
    rest.push_str(&format!(", generation {}", kernel.generation));
    (word, rest)
}

fn kernel_is_silent(enforcement: Enforcement) -> &'static str {
    match enforcement {
        Enforcement::Signalbox => "no packet of this connection was judged yet",
        Enforcement::Nobody => "policies exist, nothing enforces them",
        Enforcement::Other => "no enforcer of Signalbox tells; the network plugin enforces",
        Enforcement::Unknown => "no enforcer of Signalbox tells",
    }
}

fn ago(at_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let seconds = u64::try_from(now).unwrap_or(u64::MAX).saturating_sub(at_ms) / 1_000;
    match seconds {
        0..120 => format!("{seconds} s ago, as far as this server has seen"),
        120..7_200 => format!("{} min ago, as far as this server has seen", seconds / 60),
        _ => format!("{} h ago, as far as this server has seen", seconds / 3_600),
    }
}
