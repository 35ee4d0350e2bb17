//! `signalbox completions`.

use std::process::ExitCode;

use clap::CommandFactory;

const EXAMPLES: &str = "\
Examples:
  signalbox completions bash > /etc/bash_completion.d/signalbox
  signalbox completions zsh > ~/.zfunc/_signalbox
  signalbox completions fish > ~/.config/fish/completions/signalbox.fish";

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &Args) -> ExitCode {
    clap_complete::generate(args.shell, &mut super::Cli::command(), "signalbox", &mut std::io::stdout());
    ExitCode::SUCCESS
}
