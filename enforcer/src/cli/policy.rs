//! `signalbox-enforcer policy`.

use std::process::ExitCode;

use signalbox_api::node::{DecisionReport, EntryReport, PodReport, SideReport};

use super::{
    Asking, Output,
    client::{self, Failure, escape},
    print_json,
    status::rest,
    table::Table,
};

const EXAMPLES: &str = "\
Examples:
  signalbox-enforcer policy shop/web               what decides on connections of the pod, in order
  signalbox-enforcer policy shop/web --entries 99  with more of the kernel's entries for each rule
  signalbox-enforcer policy shop/web -o json       the same for programs";

/// Show what the kernel has for a pod of this node
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    asking: Asking,
    /// The pod
    #[arg(value_name = "NAMESPACE/POD")]
    pod: String,
    /// Entries of the kernel's tables to show for each rule
    #[arg(long, value_name = "NUMBER", default_value_t = 8)]
    entries: u32,
}

pub(super) async fn run(args: Args) -> Result<ExitCode, Failure> {
    let question = format!("/v1/policy?pod={}&entries={}", escape(&args.pod), args.entries);
    let report: PodReport = client::get(&args.asking.socket, &question).await?;
    match args.asking.output {
        Output::Json => print_json(&report),
        Output::Table => print(&report),
    }
    Ok(ExitCode::SUCCESS)
}

fn print(report: &PodReport) {
    let addresses: Vec<String> = report.addresses.iter().map(ToString::to_string).collect();
    anstream::println!(
        "{}  interface {}  {}  generation {}  group {}",
        report.pod,
        report.interface,
        addresses.join(" "),
        report.generation,
        report.group
    );
    if report.unfit {
        anstream::println!("Its policies do not fit into the kernel's tables: all that they judge is denied.");
    }
    side("INGRESS", &report.ingress);
    side("EGRESS", &report.egress);
    if let Some(audit) = &report.audit {
        anstream::println!("\nWith the policies in audit, which decide nothing (group {}):", audit.group);
        side("INGRESS", &audit.ingress);
        side("EGRESS", &audit.egress);
    }
}

fn side(name: &str, side: &SideReport) {
    anstream::println!("\n{name}: {}", rest(side.rest));
    if !side.isolated_by.is_empty() {
        let policies: Vec<String> = side.isolated_by.iter().map(ToString::to_string).collect();
        anstream::println!("isolated by {}", policies.join(", "));
    }
    let mut table = Table::new(&["#", "ACTION", "RULE", "PEER", "PORTS"]);
    for decision in &side.decisions {
        for (at, entry) in decision.entries.iter().enumerate() {
            let first = |text: String| if at == 0 { text } else { String::new() };
            table.row([
                first(decision.index.to_string()),
                first(decision.action.as_str().to_owned()),
                first(rule(decision)),
                peers(entry),
                ports(entry),
            ]);
        }
        let more = decision.entry_count - decision.entries.len() as u64;
        if more > 0 {
            let blank = String::new;
            table.row([blank(), blank(), blank(), format!("{more} entries more"), blank()]);
        }
    }
    table.print();
}

fn rule(decision: &DecisionReport) -> String {
    decision.rule.as_ref().map_or_else(|| "no rule: what stands behind the tiers".to_owned(), ToString::to_string)
}

fn peers(entry: &EntryReport) -> String {
    let named = entry.peers.join(" ");
    match entry.peer_count.saturating_sub(entry.peers.len() as u64) {
        0 if named.is_empty() => "nobody at present".to_owned(),
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn ports(entry: &EntryReport) -> String {
    let Some(protocol) = entry.protocol else { return "any".to_owned() };
    match entry.ports {
        None => format!("{protocol} any"),
        Some((first, last)) if first == last => format!("{protocol} {first}"),
        Some((first, last)) => format!("{protocol} {first}-{last}"),
    }
}
