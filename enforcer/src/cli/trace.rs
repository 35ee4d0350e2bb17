//! `signalbox-enforcer trace`.

use std::process::ExitCode;

use signalbox_api::node::TraceReport;

use super::{
    Asking, Output,
    client::{self, Failure, escape},
    print_json,
    table::Table,
};

const EXAMPLES: &str = "\
Examples:
  signalbox-enforcer trace shop/web shop/db 5432             between pods
  signalbox-enforcer trace shop/web 203.0.113.10 443         to an address outside
  signalbox-enforcer trace 198.51.100.7 shop/web 53/udp      from outside, UDP

The connection is new: nothing is sent, and no live flow, count or event is touched. The exit status is 0 where it is allowed, 2 where
it is denied or cannot be told, 3 where engine and kernel do not agree.";

/// Ask engine and kernel about a connection, without sending it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    asking: Asking,
    /// Who opens it: NAMESPACE/POD or an address
    #[arg(value_name = "FROM")]
    from: String,
    /// To whom: NAMESPACE/POD or an address
    #[arg(value_name = "TO")]
    to: String,
    /// Port of the destination, behind a Service's translation; with /udp or /sctp for another protocol than TCP
    #[arg(value_name = "PORT[/PROTOCOL]", value_parser = port)]
    port: (u16, String),
}

fn port(text: &str) -> Result<(u16, String), String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("{protocol} is none of tcp, udp, sctp"));
    }
    match number.parse() {
        Ok(0) | Err(_) => Err(format!("{number} is no port: write a number from 1 to 65535")),
        Ok(number) => Ok((number, protocol)),
    }
}

pub(super) async fn run(args: Args) -> Result<ExitCode, Failure> {
    let (port, protocol) = &args.port;
    let (from, to) = (escape(&args.from), escape(&args.to));
    let question = format!("/v1/trace?from={from}&to={to}&protocol={protocol}&port={port}");
    let report: TraceReport = client::get(&args.asking.socket, &question).await?;
    match args.asking.output {
        Output::Json => print_json(&report),
        Output::Table => print(&report),
    }
    let kernel = report.kernel.as_ref().is_none_or(|kernel| kernel.allowed == Some(true));
    Ok(match (report.agree, report.engine.allowed == Some(true) && kernel) {
        (Some(false), _) => ExitCode::from(3),
        (Some(true) | None, true) => ExitCode::SUCCESS,
        (Some(true) | None, false) => ExitCode::from(2),
    })
}

fn print(report: &TraceReport) {
    anstream::println!(
        "{} ({}) -> {} ({}) {}",
        report.from,
        report.source.ip(),
        report.to,
        report.destination,
        report.protocol
    );
    let mut table = Table::new(&["ENGINE", report.engine.sentence.as_str()]);
    let kernel = report.kernel.as_ref().map_or("not asked", |kernel| kernel.sentence.as_str());
    table.row(["KERNEL".to_owned(), kernel.to_owned()]);
    for step in &report.steps {
        let word = if step.passes { "passes" } else { "drops" };
        table.row([String::new(), format!("{} at interface {}: {word}", step.program, step.interface)]);
    }
    let agree = match report.agree {
        Some(true) => "yes",
        Some(false) => "NO: please report this as a bug, with `-o json`",
        None => "the kernel was not asked",
    };
    table.row(["AGREE".to_owned(), agree.to_owned()]);
    table.print();
    for note in &report.notes {
        anstream::println!("note: {note}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_name_their_protocol() {
        let cases = [
            ("80", Some((80, "tcp"))),
            ("53/udp", Some((53, "udp"))),
            ("7/SCTP", Some((7, "sctp"))),
            ("0", None),
            ("65536", None),
            ("80/icmp", None),
            ("web", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(port, protocol)| (port, protocol.to_owned()));
            assert_eq!(port(text).ok(), expected, "{text}");
        }
    }
}
