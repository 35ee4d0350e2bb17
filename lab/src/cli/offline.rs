//! The commands of `signalbox-analysis`, with this process's streams and a client for live clusters.

use std::io::{BufWriter, IsTerminal};
use std::process::ExitCode;

use signalbox_analysis::streams::{Paint, Progress, Streams};
use signalbox_analysis::{Command, Exit};

use super::{complain, live};

pub(super) fn run(command: &Command) -> ExitCode {
    let stdout = std::io::stdout();
    let paint = match anstream::AutoStream::choice(&stdout) {
        anstream::ColorChoice::Never => Paint::Plain,
        anstream::ColorChoice::Auto | anstream::ColorChoice::AlwaysAnsi | anstream::ColorChoice::Always => {
            Paint::Colours
        }
    };
    let progress = if std::io::stderr().is_terminal() { Progress::Bar } else { Progress::Hidden };
    let mut out = BufWriter::with_capacity(1 << 16, stdout.lock());
    let mut streams =
        Streams { input: &mut std::io::stdin().lock(), out: &mut out, err: &mut std::io::stderr(), paint, progress };
    match signalbox_analysis::run(command, &live::Kubernetes, &mut streams) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            complain(&error);
            ExitCode::from(Exit::Unreadable as u8)
        }
    }
}
