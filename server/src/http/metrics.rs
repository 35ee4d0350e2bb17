//! For Prometheus, in its text format. Label values here are words of ours, so nothing needs escaping but names.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use axum::extract::State;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;

use super::App;

/// `GET /metrics`.
pub async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let snapshot = app.hub.snapshot(false);
    let counts = app.hub.counts();
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    let mut agreements: BTreeMap<String, u64> = BTreeMap::new();
    for cell in &snapshot.cells {
        let outcome = cell.probe.as_ref().map_or("none", |probe| probe.outcome.as_str());
        *outcomes.entry(outcome).or_default() += 1;
        *agreements.entry(format!("{:?}", cell.agreement).to_lowercase()).or_default() += 1;
    }
    let mut text = String::new();
    let one = |value: u64| [(String::new(), value)];
    family(
        &mut text,
        "signalbox_cells",
        "gauge",
        "Cells of the matrix by what the probe saw.",
        labelled("outcome", &outcomes),
    );
    family(
        &mut text,
        "signalbox_agreement",
        "gauge",
        "Cells of the matrix by whether their facts agree.",
        labelled("agreement", &agreements),
    );
    family(&mut text, "signalbox_probes_total", "counter", "Probes that ended.", labelled("outcome", &counts.probes));
    family(
        &mut text,
        "signalbox_rounds_total",
        "counter",
        "Rounds of probes that ended.",
        labelled("cause", &counts.rounds),
    );
    family(
        &mut text,
        "signalbox_kernel_events_total",
        "counter",
        "Kernel events that belonged to a probe.",
        one(counts.kernel_events),
    );
    family(
        &mut text,
        "signalbox_problems",
        "gauge",
        "What is wrong with the server's own sight.",
        one(snapshot.problems.len() as u64),
    );
    let unknown = snapshot.policies.iter().map(|policy| policy.unknown.len() as u64).sum();
    family(
        &mut text,
        "signalbox_policy_unknowns",
        "gauge",
        "Fields of policies that were not understood.",
        one(unknown),
    );
    let per_node = |value: fn(&signalbox_api::kernel::EnforcerStatus) -> u64| {
        let rows = snapshot.enforcers.iter().map(|node| (label("node", &node.node), value(node)));
        rows.collect::<Vec<_>>()
    };
    family(
        &mut text,
        "signalbox_enforcing",
        "gauge",
        "1 where the newest tables are live.",
        per_node(|node| u64::from(node.enforcing)),
    );
    family(
        &mut text,
        "signalbox_enforcer_pods",
        "gauge",
        "Pods under enforcement.",
        per_node(|node| u64::from(node.pods)),
    );
    family(
        &mut text,
        "signalbox_enforcer_generation",
        "gauge",
        "The generation that the kernel uses.",
        per_node(|node| u64::from(node.generation)),
    );
    family(
        &mut text,
        "signalbox_enforcer_last_apply_microseconds",
        "gauge",
        "From a policy's arrival to the flip of the generation.",
        per_node(|node| node.last_apply_us),
    );
    family(
        &mut text,
        "signalbox_enforcer_problems",
        "gauge",
        "What is wrong with the enforcer.",
        per_node(|node| node.problems.len() as u64),
    );
    family(
        &mut text,
        "signalbox_enforcer_lost_events_total",
        "counter",
        "Events that the ring buffer had no room for.",
        per_node(|node| node.lost_events),
    );
    let link = |status: &signalbox_api::kernel::EnforcerStatus| status.link.clone();
    let rows = snapshot.enforcers.iter().filter_map(|node| Some((label("node", &node.node), link(node)?)));
    let links: Vec<(String, signalbox_api::kernel::NodeLink)> = rows.collect();
    family(
        &mut text,
        "signalbox_enforcer_connected",
        "gauge",
        "1 where the node's enforcer is heard of.",
        links.iter().map(|(node, link)| (node.clone(), u64::from(link.lost.is_none()))),
    );
    family(
        &mut text,
        "signalbox_enforcer_behind",
        "gauge",
        "1 where the node's enforcer lacks a change of policies.",
        links.iter().map(|(node, link)| (node.clone(), u64::from(link.behind_since_ms.is_some()))),
    );
    family(
        &mut text,
        "signalbox_enforcer_left_out_total",
        "counter",
        "Verdicts that came through no stream.",
        links.iter().map(|(node, link)| (node.clone(), link.left_out)),
    );
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

fn family(text: &mut String, name: &str, kind: &str, help: &str, rows: impl IntoIterator<Item = (String, u64)>) {
    let mut write = |line: std::fmt::Arguments<'_>| {
        text.write_fmt(line).expect("a string takes everything");
    };
    write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    for (labels, value) in rows {
        write(format_args!("{name}{labels} {value}\n"));
    }
}

fn labelled<K: Display>(name: &str, rows: &BTreeMap<K, u64>) -> Vec<(String, u64)> {
    rows.iter().map(|(key, value)| (label(name, key), *value)).collect()
}

fn label(name: &str, value: impl Display) -> String {
    let value = value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{{{name}=\"{value}\"}}")
}
