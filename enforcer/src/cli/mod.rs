//! The command line. Each subcommand is a file.
//!
//! - [`agent`]: enforces; [`uninstall`]: takes away what it left. The others ask an agent that runs: [`client`] carries their questions, [`table`] sets their answers.

mod agent;
mod client;
mod events;
mod flows;
mod policy;
mod status;
mod table;
mod trace;
mod uninstall;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};

/// Where the agent answers, if nobody says otherwise.
const SOCKET: &str = "/run/signalbox/enforcer.sock";

const EXAMPLES: &str = "\
Examples:
  signalbox-enforcer --node worker-1 --uplink eth0        enforce on this node, in a cluster's pod
  signalbox-enforcer run --node worker-1 --kubeconfig k   the same with a kubeconfig
  signalbox-enforcer status                               what the agent of this node is doing
  signalbox-enforcer flows --pod shop/web                 live connections of a pod, and the rules that allow them
  signalbox-enforcer flows --denied                       what was denied of late, and by what
  signalbox-enforcer policy shop/web                      what the kernel has for a pod
  signalbox-enforcer trace shop/web shop/db 5432          what engine and kernel say of a connection";

/// Enforces a cluster's network policies on this node, and tells what it does.
#[derive(Debug, Parser)]
#[command(name = "signalbox-enforcer", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    agent: agent::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<agent::Args>),
    Status(status::Args),
    Flows(flows::Args),
    Events(events::Args),
    Policy(policy::Args),
    Trace(trace::Args),
    Uninstall(uninstall::Args),
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table for people.
    #[default]
    Table,
    /// JSON, as docs/enforcer-commands.md describes it.
    Json,
}

/// What all questions have in common.
#[derive(Debug, clap::Args)]
struct Asking {
    /// Where the agent answers
    #[arg(long, value_name = "PATH", default_value = SOCKET, env = "SIGNALBOX_ENFORCER_SOCKET")]
    socket: PathBuf,
    /// How to print the answer
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Parses the command line and runs what it asks for.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        None => agent::run(cli.agent),
        Some(Command::Run(args)) => agent::run(*args),
        Some(Command::Status(args)) => ask(status::run(args)),
        Some(Command::Flows(args)) => ask(flows::run(args)),
        Some(Command::Events(args)) => ask(events::run(args)),
        Some(Command::Policy(args)) => ask(policy::run(args)),
        Some(Command::Trace(args)) => ask(trace::run(args)),
        Some(Command::Uninstall(args)) => uninstall::run(args),
    }
}

/// Runs a question. An answer that says "no" is its own exit status.
fn ask(question: impl Future<Output = Result<ExitCode, client::Failure>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(question) {
        Ok(code) => code,
        Err(failure) => {
            complain(&failure);
            ExitCode::FAILURE
        }
    }
}

/// Prints an error with its causes, those that it does not already name.
fn complain(error: &dyn std::error::Error) {
    use owo_colors::OwoColorize;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    anstream::eprintln!("{} {text}", "error:".red().bold());
}

/// Prints an answer as JSON.
fn print_json(answer: &impl serde::Serialize) {
    let text = serde_json::to_string_pretty(answer).expect("an answer can be written as JSON");
    anstream::println!("{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_shows_examples() {
        let mut command = Cli::command();
        for name in ["run", "status", "flows", "events", "policy", "trace", "uninstall"] {
            let found = command.find_subcommand_mut(name).expect("the subcommand exists");
            let help = found.render_help().to_string();
            assert!(help.contains("Examples:"), "{name}:\n{help}");
        }
    }

    #[test]
    fn without_a_subcommand_it_is_the_agent() {
        let cli = Cli::try_parse_from(["signalbox-enforcer", "--node", "n", "--uplink", "a", "--uplink", "b"]);
        assert!(cli.is_ok_and(|cli| cli.command.is_none()));
        assert!(Cli::try_parse_from(["signalbox-enforcer", "--node", "n", "status"]).is_err());
    }
}
