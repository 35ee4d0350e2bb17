//! `signalbox`: the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The lab's pods begin as this program, started anew: that has to come before any thread.
    #[cfg(feature = "lab")]
    signalbox_lab_node::run_if_reexec();
    signalbox_lab::cli::run()
}
