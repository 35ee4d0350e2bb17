//! `signalbox test`: the demo script, run once.
//!
//! - [`report`]: what becomes of it: checks, facts, agreement.
//! - [`table`], [`json`], [`junit`]: how that is printed.

mod json;
mod junit;
mod report;
mod table;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use signalbox_api::rest::StandInWish;
use signalbox_api::state::{EndpointKind, Snapshot};

use super::client::{self, Source};
use super::signals::Asked;
use super::{complain, duration, standin};
use report::Report;

const EXAMPLES: &str = "\
Examples:
  signalbox test                                  the lab that runs on this machine
  signalbox test --kubeconfig ~/lab/kubeconfig    another one
  signalbox test --server http://127.0.0.1:8080 --token-file token    a server that runs
  signalbox test --like deployment/web -n frontend    in place of a pod without a probe, by a stand-in
  signalbox test -o json | jq '.checks[] | select(.outcome != \"open\")'
  signalbox test -o junit > connections.xml       for a CI system

Exit status: 0 if all facts agree, 1 if some disagree or are missing, 2 if the test could not run.";

/// How long pods that come and go may leave the picture open.
const SETTLES_WITHIN: Duration = Duration::from_secs(3);
/// Between two rounds meanwhile.
const PAUSE: Duration = Duration::from_millis(200);

/// Try every workload with a probe to every Service and every host outside once, and compare what policies, probes and kernel say
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    client: client::Args,
    /// Try from a stand-in for this workload, deployed for the run, and from it alone: deployment/web
    #[arg(long, value_name = "KIND/NAME")]
    like: Option<String>,
    /// The workload's namespace
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Deploy one stand-in on every node
    #[arg(long, requires = "like")]
    on_every_node: bool,
    #[command(flatten)]
    stand_in: standin::Args,
    /// How to print the result
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
    /// How long the round may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    timeout: Duration,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// Sources down, destinations across
    Table,
    /// One object with all checks
    Json,
    /// One test case for each check
    Junit,
}

/// Why the test could not run.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    StandIn(#[from] standin::Error),
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    #[error("ended before its time")]
    Ended,
    #[error(
        "there is nothing to try: the cluster has no pods with a probe, or no Services; --like deployment/NAME deploys a probe, and a lab has \
         some unless it was started with --empty"
    )]
    Nothing,
    #[error("the runtime cannot start: {0}")]
    Runtime(std::io::Error),
}

pub(super) fn run(args: Args) -> ExitCode {
    match report(&args) {
        Ok(report) => {
            match args.output {
                Format::Table => table::print(&report),
                Format::Json => println!("{}", json::render(&report)),
                Format::Junit => println!("{}", junit::render(&report)),
            }
            if report.agree() { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

fn report(args: &Args) -> Result<Report, Error> {
    let runtime = super::runtime().map_err(Error::Runtime)?;
    runtime.block_on(async {
        let source = client::find(&args.client, args.timeout).await?;
        let report = match &args.like {
            None => settled(&source, args.timeout).await,
            Some(like) => stood_in(&source, like, args).await,
        };
        source.end().await;
        report
    })
}

/// One round; another one where a change was under way that left a check without all its facts.
async fn settled(source: &Source, timeout: Duration) -> Result<Report, Error> {
    let begin = Instant::now();
    loop {
        let report = Report::new(&source.round(timeout).await?);
        if report.checks.is_empty() {
            return Err(Error::Nothing);
        }
        if report.settled() || begin.elapsed() > SETTLES_WITHIN {
            return Ok(report);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// From a stand-in, which is removed whatever comes.
async fn stood_in(source: &Source, like: &str, args: &Args) -> Result<Report, Error> {
    let mut asked = Asked::listen().map_err(Error::Signals)?;
    let wish = StandInWish {
        run: standin::new_run(),
        namespace: args.namespace.clone(),
        like: Some(like.to_owned()),
        keep_service_labels: args.stand_in.keep_service_labels,
        on_every_node: args.on_every_node,
        ..StandInWish::default()
    };
    let trying = async {
        let (stand_ins, mut snapshot) = standin::deployed(source, &wish, args.timeout).await?;
        let begin = Instant::now();
        loop {
            only_from(&mut snapshot, |endpoint| standin::is_one(endpoint, &stand_ins));
            let report = Report::new(&snapshot);
            if report.checks.is_empty() {
                return Err(Error::Nothing);
            }
            if report.settled() || begin.elapsed() > SETTLES_WITHIN {
                return Ok(report);
            }
            tokio::time::sleep(PAUSE).await;
            snapshot = source.round(args.timeout).await?;
        }
    };
    let report = tokio::select! {
        report = trying => report,
        () = asked.received() => Err(Error::Ended),
    };
    // Nothing is there where deploying has failed.
    if let Err(error) = source.remove(&wish.run).await
        && report.is_ok()
    {
        complain(&error);
    }
    report
}

/// Leaves the rows of some pods only.
fn only_from(snapshot: &mut Snapshot, wanted: impl Fn(&signalbox_api::state::Endpoint) -> bool) {
    for endpoint in &mut snapshot.endpoints {
        endpoint.vantage &= endpoint.kind == EndpointKind::Pod && wanted(endpoint);
    }
}
