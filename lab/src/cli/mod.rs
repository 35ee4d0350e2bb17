//! The command line. Each subcommand is a file.

mod cause;
mod client;
mod cluster;
mod completions;
mod conformance;
mod duration;
mod forward;
mod install;
#[cfg(feature = "lab")]
mod join;
#[cfg(feature = "lab")]
mod lab;
mod live;
mod offline;
mod plugin;
mod remote;
mod request;
mod serve;
mod signals;
mod standin;
mod test;
mod uninstall;
mod watch;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const LAB_EXAMPLE: &str = "
  signalbox lab                      run a lab on this machine, as root";
const EXAMPLES: &str = "
  signalbox serve                    show and test a cluster, by its kubeconfig
  signalbox why a/web b/db:5432      why one connection in it is open or shut, now
  signalbox test                     try the lesson's 18 connections in it
  signalbox test -o junit            the same, for a CI system
  signalbox install | kubectl apply -f -    put it into a cluster; `uninstall` takes it out
  signalbox analyze manifests/       all connections that the policies in a folder allow
  signalbox explain a/web b/db:5432 manifests/    why one of them is open or shut
  signalbox completions bash         completions for your shell";

/// That of the lab only where there is one.
fn examples() -> String {
    format!("Examples:{}{EXAMPLES}", if cfg!(feature = "lab") { LAB_EXAMPLE } else { "" })
}

/// Who can talk to whom in a Kubernetes cluster: shown live, tested with real connections, enforced in the kernel.
#[derive(Debug, Parser)]
#[command(name = "signalbox", version, after_help = examples(), arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "lab")]
    Lab(lab::Args),
    Serve(Box<serve::Args>),
    Test(test::Args),
    Install(install::Args),
    Uninstall(uninstall::Args),
    #[cfg(feature = "lab")]
    Join(join::Args),
    Why(why::Args),
    Watch(watch::Args),
    Conformance(conformance::Args),
    #[command(flatten)]
    Offline(signalbox_analysis::Command),
    Plugin(plugin::Args),
    Completions(completions::Args),
}

/// Parses the command line and runs what it asks for.
#[must_use]
pub fn run() -> ExitCode {
    match Cli::parse().command {
        #[cfg(feature = "lab")]
        Command::Lab(args) => lab::run(args),
        Command::Serve(args) => serve::run(*args),
        Command::Test(args) => test::run(args),
        Command::Install(args) => install::run(args),
        Command::Uninstall(args) => uninstall::run(args),
        #[cfg(feature = "lab")]
        Command::Join(args) => join::run(args),
        Command::Why(args) => why::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Conformance(args) => conformance::run(&args),
        Command::Offline(command) => offline::run(&command),
        Command::Plugin(args) => plugin::run(&args),
        Command::Completions(args) => completions::run(&args),
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

/// What is logged where nobody says: warnings, and of the page whatever it refuses or changes for somebody.
const LOGGED: &str = "warn,signalbox_server::http=info,netlink_proto=error,kube_client::client::builder=off";

/// Logs go to standard error, `SIGNALBOX_LOG` chooses them as `RUST_LOG` does elsewhere.
fn log() {
    use std::io::IsTerminal;

    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("SIGNALBOX_LOG").unwrap_or_else(|_| EnvFilter::new(LOGGED));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_shows_examples() {
        let mut command = Cli::command();
        let with_a_lab = if cfg!(feature = "lab") { &["lab", "join"][..] } else { &[] };
        for name in [
            "serve",
            "test",
            "why",
            "watch",
            "conformance",
            "plugin",
            "install",
            "uninstall",
            "analyze",
            "explain",
            "diff",
            "lint",
            "suggest",
            "simplify",
            "completions",
        ]
        .iter()
        .chain(with_a_lab)
        {
            let help = command.find_subcommand_mut(name).unwrap().render_help().to_string();
            assert!(help.contains("Examples:"), "{name}:\n{help}");
        }
    }
}
