//! `signalbox-enforcer events`.

use std::{io::Write, path::Path, process::ExitCode};

use clap::ValueEnum;
use signalbox_api::node::{EventKind, EventLine, NodeEvent};

use super::{
    SOCKET,
    client::{self, Failure},
};

const EXAMPLES: &str = "\
Examples:
  signalbox-enforcer events                          every verdict as it falls, one JSON object in a line
  signalbox-enforcer events --kind denied,cut        only what was refused
  signalbox-enforcer events --pod shop/web -n 10     the next ten of one pod

A line {\"skipped\": N} stands for N events that this reader was too slow for.";

/// Print verdicts as they fall, as JSON lines
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where the agent answers
    #[arg(long, value_name = "PATH", default_value = SOCKET, env = "SIGNALBOX_ENFORCER_SOCKET")]
    socket: std::path::PathBuf,
    /// Only those of this pod
    #[arg(long, value_name = "NAMESPACE/POD")]
    pod: Option<String>,
    /// Only these kinds
    #[arg(long, value_name = "KIND", value_enum, value_delimiter = ',')]
    kind: Vec<Kind>,
    /// End after so many
    #[arg(short = 'n', long, value_name = "NUMBER")]
    count: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// The first packet of a flow was let pass.
    NewFlow,
    /// A packet was denied.
    Denied,
    /// A packet of a flow that had been allowed was denied.
    Cut,
    /// Audit: let pass, but would be denied.
    WouldBeDenied,
}

impl Kind {
    fn of(kind: EventKind) -> Self {
        match kind {
            EventKind::NewFlow => Self::NewFlow,
            EventKind::Denied => Self::Denied,
            EventKind::Cut => Self::Cut,
            EventKind::WouldBeDenied => Self::WouldBeDenied,
        }
    }
}

pub(super) async fn run(args: Args) -> Result<ExitCode, Failure> {
    follow(&args.socket, args.pod.as_deref(), &args.kind, args.count).await
}

/// Prints events until they end, or until there were enough.
pub(super) async fn follow(
    socket: &Path,
    pod: Option<&str>,
    kinds: &[Kind],
    count: Option<u64>,
) -> Result<ExitCode, Failure> {
    let mut printed = 0;
    let mut out = std::io::stdout();
    client::lines(socket, "/v1/events", |line| {
        if let EventLine::Event(event) = serde_json::from_slice(line)? {
            let is_of_pod = pod.is_none_or(|pod| {
                [&event.source_pod, &event.destination_pod].into_iter().flatten().any(|it| it == pod)
            });
            if !is_of_pod || !kinds.is_empty() && !kinds.contains(&Kind::of(event.kind)) {
                return Ok(true);
            }
            printed += 1;
        }
        out.write_all(line)?;
        out.write_all(b"\n")?;
        out.flush()?;
        Ok(count.is_none_or(|count| printed < count))
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

/// What decided, in words.
pub(super) fn cause(event: &NodeEvent) -> String {
    let sentence = crate::run::ask::sentence(false, event.direction, &event.cause);
    sentence.trim_start_matches("denied").trim_start_matches(':').trim().to_owned()
}
