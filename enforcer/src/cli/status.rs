//! `signalbox-enforcer status`.

use std::process::ExitCode;

use signalbox_api::{
    kernel::AttachMode,
    node::{NodeReport, Rest, UplinkReport},
};

use super::{
    Asking, Output,
    client::{self, Failure},
    print_json,
    table::Table,
};

const EXAMPLES: &str = "\
Examples:
  signalbox-enforcer status            condition, pods, tables and what was left out
  signalbox-enforcer status -o json    the same for programs

The exit status is 0 where everything is enforced, 1 where no agent answers, 2 where something is not enforced.";

/// How many of the newest pods the table shows; JSON has all that are remembered.
const NEW_PODS_SHOWN: usize = 10;

/// Show what this node's enforcer is doing
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    asking: Asking,
}

pub(super) async fn run(args: Args) -> Result<ExitCode, Failure> {
    let report: NodeReport = client::get(&args.asking.socket, "/v1/status").await?;
    match args.asking.output {
        Output::Json => print_json(&report),
        Output::Table => print(&report),
    }
    let is_well = report.status.enforcing && report.status.problems.is_empty() && report.conditions.is_empty();
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn print(report: &NodeReport) {
    let status = &report.status;
    let attach = match status.attach {
        Some(AttachMode::Tcx) => "tcx",
        Some(AttachMode::Clsact) => "clsact",
        None => "nothing attached",
    };
    let mut facts = Table::new(&["NODE", status.node.as_str()]);
    let mut fact = |name: &str, value: String| facts.row([name.to_owned(), value]);
    let enforcing = match (status.enforcing, report.audit) {
        (true, true) => "audit: everything passes, denials are only reported",
        (true, false) => "yes",
        (false, _) => "NO",
    };
    fact("ENFORCING", enforcing.to_owned());
    fact("ATTACHED", attach.to_owned());
    fact("GENERATION", status.generation.to_string());
    fact("POLICIES", format!("up to resource version {}", status.policies_version));
    fact("LAST APPLY", format!("{:.1} ms", status.last_apply_us as f64 / 1000.0));
    fact("PODS", status.pods.to_string());
    let events = &report.events;
    fact("EVENTS", format!("{} told, {} left out, {} lost", events.told, events.suppressed, events.lost));
    if !report.policies_in_audit.is_empty() {
        fact("IN AUDIT", report.policies_in_audit.join(", "));
    }
    if let Some(uplink) = &report.uplink {
        fact("SERVER", server(uplink));
        let UplinkReport { sent, left_out, waiting, .. } = uplink;
        fact("TOLD SERVER", format!("{sent} verdicts, {left_out} left out, {waiting} waiting"));
    }
    facts.print();
    let mut pods = Table::new(&["POD", "INTERFACE", "INGRESS", "EGRESS"]);
    for row in &report.local_pods {
        let interface = row.interface.map_or_else(|| "not found".to_owned(), |interface| interface.to_string());
        let gate = |side: fn(&signalbox_api::node::Gate) -> Rest| match &row.gate {
            None => "no tables yet".to_owned(),
            Some(gate) if gate.unfit => "denied: its policies do not fit".to_owned(),
            Some(gate) => rest(side(gate)).to_owned(),
        };
        pods.row([row.pod.clone(), interface, gate(|gate| gate.ingress), gate(|gate| gate.egress)]);
    }
    pods.print_apart();
    let mut exposures = Table::new(&["NEW POD", "UNTIL ITS POLICIES", "MEANWHILE", "PASSED", "DROPPED"]);
    for exposure in report.exposures.iter().rev().take(NEW_PODS_SHOWN) {
        let meanwhile = if exposure.shut { "shut" } else { "open" };
        exposures.row([
            exposure.pod.clone(),
            format!("{:.1} ms", exposure.us as f64 / 1000.0),
            meanwhile.to_owned(),
            exposure.passed.to_string(),
            exposure.dropped.to_string(),
        ]);
    }
    exposures.print_apart();
    let mut maps = Table::new(&["TABLE", "ENTRIES", "OF", "FULL"]);
    for map in &report.maps {
        let full = format!("{:.1} %", map.entries as f64 * 100.0 / map.capacity.max(1) as f64);
        maps.row([map.name.clone(), map.entries.to_string(), map.capacity.to_string(), full]);
    }
    maps.print_apart();
    let mut conditions = Table::new(&["NOT ENFORCED ENTIRELY", "FIELD", "REASON", "MESSAGE"]);
    for condition in &report.conditions {
        let path = if condition.path.is_empty() { "-".to_owned() } else { condition.path.clone() };
        conditions.row([condition.object.clone(), path, condition.reason.clone(), condition.message.clone()]);
    }
    conditions.print_apart();
    if !report.notices.is_empty() {
        anstream::println!("\nNOTICES");
        for notice in &report.notices {
            anstream::println!("{notice}");
        }
    }
    if !status.problems.is_empty() {
        anstream::println!("\nPROBLEMS");
        for problem in &status.problems {
            anstream::println!("{problem}");
        }
    }
}

/// How the stream to the server fares, in words.
fn server(uplink: &UplinkReport) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = now.as_secs().saturating_sub(uplink.since_ms / 1_000);
    match (&uplink.trouble, uplink.connected) {
        (_, true) => {
            let version = uplink.server_version.as_deref().unwrap_or("unknown");
            format!("{}, connected for {seconds} s, version {version}", uplink.server)
        }
        (Some(trouble), false) => format!("{}, NOT CONNECTED for {seconds} s: {trouble}", uplink.server),
        (None, false) => format!("{}, NOT CONNECTED for {seconds} s", uplink.server),
    }
}

/// What becomes of what no rule decides, in words.
pub(super) fn rest(rest: Rest) -> &'static str {
    match rest {
        Rest::Unjudged => "open: no policy",
        Rest::Open => "open unless a rule denies",
        Rest::Shut => "shut unless a rule allows",
        Rest::NotUnderstood => "shut: a policy is not understood",
    }
}
