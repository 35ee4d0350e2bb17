//! `signalbox-enforcer`: the agent of one node, and questions to it.

use std::process::ExitCode;

fn main() -> ExitCode {
    signalbox_enforcer::cli::run()
}
