//! The offline commands of `signalbox`: what manifests, or a cluster's objects, mean.
//!
//! - [`Command`]: the subcommands; [`run`] carries one out. It touches files, and the streams it is given.
//! - `input`: paths, standard input and live clusters become objects that know where they come from; `source` shows
//!   those places.
//! - `analyze`, `explain`, `diff`, `lint`, `suggest`, `simplify`: one file for each subcommand, a folder beside it for the forms of its output.
//! - `scope`: which connections a command looks at.
//! - `csv_lines`: CSV as several of them print it.
//! - `unknown`: what was not understood, in one shape for all outputs.
//! - [`streams`]: where output goes, and whether it has colours; [`error`]: why a command could not do its work.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed"))]

mod analyze;
mod csv_lines;
mod diff;
pub mod error;
mod explain;
pub mod input;
mod lint;
mod scope;
mod simplify;
mod source;
pub mod streams;
mod suggest;
mod unknown;

use error::Error;
use input::Live;
use streams::Streams;

/// The subcommands that need no running Signalbox.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show all connections that the policies allow, with exact port ranges
    Analyze(analyze::Args),
    /// Tell why a connection is open or shut
    Explain(explain::Args),
    /// Show what opens and closes between two states
    Diff(diff::Args),
    /// Find what is wrong or suspicious in policies
    Lint(lint::Args),
    /// Suggest policies that allow exactly what must work
    Suggest(suggest::Args),
    /// Say the same with fewer and smaller policies
    Simplify(simplify::Args),
}

/// How a command ended: its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is well.
    Fine = 0,
    /// There are findings, or a condition that the command line names was not met.
    Findings = 1,
    /// Wrong usage, or something that could not be read.
    Unreadable = 2,
}

/// Carries a command out.
///
/// # Errors
/// Where nothing useful could be printed; the exit status is then that of [`Exit::Unreadable`].
pub fn run(command: &Command, live: &dyn Live, streams: &mut Streams<'_>) -> Result<Exit, Error> {
    let result = match command {
        Command::Analyze(args) => analyze::run(args, live, streams),
        Command::Explain(args) => explain::run(args, live, streams),
        Command::Diff(args) => diff::run(args, live, streams),
        Command::Lint(args) => lint::run(args, live, streams),
        Command::Suggest(args) => suggest::run(args, live, streams),
        Command::Simplify(args) => simplify::run(args, live, streams),
    };
    let result = result.and_then(|exit| streams.out.flush().map_err(Error::Output).map(|()| exit));
    match result {
        // Whoever closes the pipe early has read enough.
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Exit::Fine),
        result => result,
    }
}
