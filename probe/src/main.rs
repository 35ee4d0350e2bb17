//! The binary `signalbox-probe`: see the library of the same name.

use std::process::ExitCode;

use clap::Parser;
use signalbox_probe::cli::{Cli, run};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("signalbox-probe: {error:#}");
            ExitCode::FAILURE
        }
    }
}
