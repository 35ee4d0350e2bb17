//! `signalbox test`: the demo script, run once.
//!
//! - [`request`]: asks the server for a round and for what it knows.
//! - [`report`]: what becomes of it: checks, facts, agreement.
//! - [`table`], [`json`], [`junit`]: how that is printed.

mod json;
mod junit;
mod report;
mod request;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kube::config::Kubeconfig;

use super::{complain, duration};
use crate::lab::kubeconfig::ServerEntry;
use crate::lab::options::DEFAULT_STATE;
use report::Report;

const EXAMPLES: &str = "\
Examples:
  signalbox test                                  the lab that runs on this machine
  signalbox test --kubeconfig ~/lab/kubeconfig    another one
  signalbox test -o json | jq '.checks[] | select(.outcome != \"open\")'
  signalbox test -o junit > connections.xml       for a CI system

Exit status: 0 if all facts agree, 1 if some disagree or are missing, 2 if the test could not run.";

/// How long pods that come and go may leave the picture open.
const SETTLES_WITHIN: Duration = Duration::from_secs(3);
/// Between two rounds meanwhile.
const PAUSE: Duration = Duration::from_millis(200);

/// Try the lesson's 18 connections once, and compare what policies, probes and kernel say
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The lab's kubeconfig [default: $KUBECONFIG, then that of the lab without --state]
    #[arg(long, value_name = "FILE", env = "KUBECONFIG", hide_env = true)]
    kubeconfig: Option<PathBuf>,
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
    #[error("cannot read the kubeconfig {}: {source}; start a lab with `signalbox lab`, or name its file with --kubeconfig", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is no kubeconfig: {source}", path.display())]
    NoKubeconfig { path: PathBuf, source: Box<kube::config::KubeconfigError> },
    #[error("{}: contexts[].context.extensions has no entry `signalbox.dev` with `server` and `token`: no Signalbox server is known for this cluster; name the kubeconfig that `signalbox lab` has written", .0.display())]
    NoServer(PathBuf),
    #[error(transparent)]
    Request(#[from] request::Error),
    #[error(
        "there is nothing to try: the cluster has no pods with a probe and no Services; apply some, or start the lab without --empty"
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
    let path = args.kubeconfig.clone().unwrap_or_else(|| Path::new(DEFAULT_STATE).join("kubeconfig"));
    let text = std::fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let kubeconfig = Kubeconfig::from_yaml(&text)
        .map_err(|source| Error::NoKubeconfig { path: path.clone(), source: Box::new(source) })?;
    let server = ServerEntry::find(&kubeconfig).ok_or(Error::NoServer(path))?;
    let runtime = super::runtime().map_err(Error::Runtime)?;
    runtime.block_on(settled(&server, args.timeout))
}

/// One round; another one where a change was under way that left a check without all its facts.
async fn settled(server: &ServerEntry, timeout: Duration) -> Result<Report, Error> {
    let begin = Instant::now();
    loop {
        let report = Report::new(&request::round(server, timeout).await?);
        if report.checks.is_empty() {
            return Err(Error::Nothing);
        }
        if report.settled() || begin.elapsed() > SETTLES_WITHIN {
            return Ok(report);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
