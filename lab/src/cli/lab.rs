//! `signalbox lab`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use owo_colors::OwoColorize;
use signalbox_enforcer::AttachPreference;

use super::signals::Asked;
use super::{complain, duration};
use crate::lab::error::Error;
use crate::lab::options::{Enforcement, Options};
use crate::lab::{self, RunningLab};

const EXAMPLES: &str = "\
Examples:
  sudo signalbox lab                          a lab with the lesson's cluster; Ctrl-C ends and forgets it
  sudo signalbox lab --state ~/lab            keep what was applied for the next start
  sudo signalbox lab --state ~/lab --fresh    begin anew there
  sudo signalbox lab --listen 127.0.0.1:9090  serve the page on another port
  sudo signalbox lab --no-enforcer            show that policies need someone who enforces them

Then, in another terminal:
  export KUBECONFIG=/var/lib/signalbox/lab/kubeconfig
  signalbox test
  kubectl apply -f assets/lessons/one/1-zero-trust.yaml";

/// Run a small cluster on this machine, with real pods, real enforcement and a live page
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where the page is served; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Allow --listen to name an address that other machines reach
    #[arg(long)]
    allow_remote: bool,
    /// The kubeconfig to write [default: kubeconfig in the state directory]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Overwrite --kubeconfig even if it is not from Signalbox
    #[arg(long, requires = "kubeconfig")]
    force: bool,
    /// Keep the cluster's objects here over the lab's end [default: /var/lib/signalbox/lab, which a clean end forgets]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Pause between two rounds of probes
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse)]
    interval: Duration,
    /// Forget the objects of earlier runs
    #[arg(long)]
    fresh: bool,
    /// Start without the lesson's cluster
    #[arg(long)]
    empty: bool,
    /// Enforce nothing: shows that policies need an enforcer
    #[arg(long, conflicts_with = "attach")]
    no_enforcer: bool,
    /// How the enforcer's programs are attached
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Attach::Auto)]
    attach: Attach,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Attach {
    /// tcx where the kernel has it, else clsact
    Auto,
    /// tcx links, kernel 6.6 and newer
    Tcx,
    /// Filters on the clsact qdisc
    Clsact,
}

impl From<Args> for Options {
    fn from(args: Args) -> Self {
        let attach = match args.attach {
            Attach::Auto => AttachPreference::Auto,
            Attach::Tcx => AttachPreference::Tcx,
            Attach::Clsact => AttachPreference::Clsact,
        };
        Self {
            listen: args.listen,
            allow_remote: args.allow_remote,
            kubeconfig: args.kubeconfig,
            force: args.force,
            state: args.state,
            fresh: args.fresh,
            empty: args.empty,
            interval: args.interval,
            enforcement: if args.no_enforcer { Enforcement::Off } else { Enforcement::Enforcer(attach) },
        }
    }
}

pub(super) fn run(args: Args) -> ExitCode {
    super::log();
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run_until_told(args.into()));
    // Whatever still runs has had its time; the kernel ends it with the process.
    runtime.shutdown_background();
    code
}

async fn run_until_told(options: Options) -> ExitCode {
    let mut asked = match Asked::listen() {
        Ok(asked) => asked,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let progress = |what: &str, after: Duration| {
        anstream::eprintln!("{} {what} {}", "·".dimmed(), format!("{} ms", after.as_millis()).dimmed());
    };
    let lab = tokio::select! {
        lab = lab::start(options, progress) => lab,
        () = asked.received() => return ExitCode::SUCCESS,
    };
    let mut lab = match lab {
        Ok(lab) => lab,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    announce(&lab);
    let failure: Option<Error> = tokio::select! {
        () = asked.received() => None,
        error = lab.failed() => Some(error),
    };
    anstream::eprintln!("{} ends; Ctrl-C again ends it at once", "·".dimmed());
    let ended = tokio::select! {
        ended = lab.end() => ended,
        () = asked.received() => return ExitCode::from(130),
    };
    for error in failure.iter().chain(ended.as_ref().err()) {
        complain(error);
    }
    if failure.is_none() && ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn announce(lab: &RunningLab) {
    let kubeconfig = lab.kubeconfig().display();
    // Scripts wait for this line: it goes out alone and plain.
    println!("ready {} kubeconfig={kubeconfig}", lab.url());
    anstream::eprintln!();
    anstream::eprintln!("  page      {}", lab.url().bold());
    anstream::eprintln!("  kubectl   {}", format!("export KUBECONFIG={kubeconfig}").bold());
    anstream::eprintln!("  test      {}", format!("signalbox test --kubeconfig {kubeconfig}").bold());
    anstream::eprintln!("  end       {}", "Ctrl-C".bold());
}
