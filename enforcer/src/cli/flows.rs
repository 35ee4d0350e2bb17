//! `signalbox-enforcer flows`.

use std::process::ExitCode;

use signalbox_api::node::{FlowList, FlowState, LiveFlow, NodeEvent};

use super::{
    Asking, Output,
    client::{self, Failure, escape},
    events, print_json,
    table::{Table, who},
};

const EXAMPLES: &str = "\
Examples:
  signalbox-enforcer flows                              live connections, the least idle first
  signalbox-enforcer flows --pod shop/web --limit 20    those of one pod
  signalbox-enforcer flows --all                        also cut and stale ones that the table still holds
  signalbox-enforcer flows --denied                     the newest denials
  signalbox-enforcer flows --follow                     verdicts as they fall, one JSON object in a line";

/// List live connections, or what was denied of late
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    asking: Asking,
    /// Only those that this pod opened or that were opened to it
    #[arg(long, value_name = "NAMESPACE/POD")]
    pod: Option<String>,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    limit: u32,
    /// Also those that were cut, or silent for too long, and that the kernel's table still holds
    #[arg(long, conflicts_with_all = ["denied", "follow"])]
    all: bool,
    /// Denials, the newest first, of the last thousand that were told
    #[arg(long, conflicts_with = "follow")]
    denied: bool,
    /// Verdicts as they fall, until Ctrl-C: the same as `events`
    #[arg(long)]
    follow: bool,
}

pub(super) async fn run(args: Args) -> Result<ExitCode, Failure> {
    if args.follow {
        return events::follow(&args.asking.socket, args.pod.as_deref(), &[], None).await;
    }
    let pod = args.pod.as_deref().map(|pod| format!("&pod={}", escape(pod))).unwrap_or_default();
    let question = format!("limit={}&all={}{pod}", args.limit, args.all);
    if args.denied {
        let denials: Vec<NodeEvent> = client::get(&args.asking.socket, &format!("/v1/denials?{question}")).await?;
        match args.asking.output {
            Output::Json => print_json(&denials),
            Output::Table => print_denials(&denials),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let list: FlowList = client::get(&args.asking.socket, &format!("/v1/flows?{question}")).await?;
    match args.asking.output {
        Output::Json => print_json(&list),
        Output::Table => print(&list),
    }
    Ok(ExitCode::SUCCESS)
}

fn print(list: &FlowList) {
    let mut table = Table::new(&["PROTOCOL", "FROM", "TO", "IDLE", "STATE", "ALLOWED BY"]);
    for flow in &list.flows {
        let from = if flow.from_node { "this node".to_owned() } else { who(flow.source_pod.as_ref(), flow.source) };
        let state = match flow.state {
            FlowState::Live => "live",
            FlowState::Unconfirmed => "unconfirmed",
            FlowState::Audited => "audited",
            FlowState::Cut => "cut",
            FlowState::Stale => "stale",
        };
        table.row([
            flow.protocol.clone(),
            from,
            who(flow.destination_pod.as_ref(), flow.destination),
            format!("{} s", flow.idle_s),
            state.to_owned(),
            rules(flow),
        ]);
    }
    table.print();
    let left_out = list.total - list.flows.len() as u64;
    if list.total == 0 {
        anstream::println!("no such connection");
    } else if left_out > 0 {
        anstream::println!("{left_out} more: raise --limit");
    }
}

fn rules(flow: &LiveFlow) -> String {
    let rules: Vec<String> =
        [&flow.egress_rule, &flow.ingress_rule].into_iter().flatten().map(ToString::to_string).collect();
    match (rules.is_empty(), flow.state) {
        (false, _) => rules.join(", "),
        (true, FlowState::Live) => "no rule needed".to_owned(),
        (true, FlowState::Audited) => "nothing: it would be denied".to_owned(),
        (true, _) => format!("not known: judged in generation {}", flow.generation),
    }
}

fn print_denials(denials: &[NodeEvent]) {
    let mut table = Table::new(&["KIND", "PROTOCOL", "FROM", "TO", "BY", "LEFT OUT BEFORE"]);
    for event in denials {
        table.row([
            event.kind.as_str().to_owned(),
            event.protocol.clone(),
            who(event.source_pod.as_ref(), event.source),
            who(event.destination_pod.as_ref(), event.destination),
            events::cause(event),
            event.suppressed.to_string(),
        ]);
    }
    table.print();
    if denials.is_empty() {
        anstream::println!("nothing was denied since the agent started, as far as it was told");
    }
}
