//! `signalbox-enforcer uninstall`: takes everything off the node.

use std::{path::PathBuf, process::ExitCode};

use super::complain;
use crate::{Config, uninstall};

const EXAMPLES: &str = "\
Examples:
  signalbox-enforcer uninstall
      take programs, tables and pins of all versions off this node; end the agent first";

/// Take everything off this node: from then on nothing enforces its policies
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where programs and tables are pinned
    #[arg(long, value_name = "PATH", default_value = Config::PINS)]
    pins: PathBuf,
    /// The network namespace of the node [default: the one this runs in]
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> ExitCode {
    let config = Config { pins: Some(args.pins), netns: args.netns, ..Config::default() };
    match uninstall(&config) {
        Ok(report) => {
            anstream::print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}
