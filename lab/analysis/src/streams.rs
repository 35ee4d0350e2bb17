//! Where output goes, and how it looks there.

use std::io::{Read, Write};

use owo_colors::{OwoColorize, Style};

/// The streams of a command.
pub struct Streams<'a> {
    /// Standard input.
    pub input: &'a mut dyn Read,
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error: notes, and what could not be read.
    pub err: &'a mut dyn Write,
    /// How standard output looks.
    pub paint: Paint,
    /// Whether a bar may show progress on standard error.
    pub progress: Progress,
}

/// Whether a stream has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// A terminal that shows them.
    Colours,
    /// A file, a pipe, or `NO_COLOR`.
    Plain,
}

/// Whether progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// On standard error, which is a terminal.
    Bar,
    /// Not at all.
    Hidden,
}

impl Streams<'_> {
    /// A line on standard error. Nobody is left to tell where that fails.
    pub(crate) fn note(&mut self, text: &str) {
        let _ = writeln!(self.err, "{text}");
    }
}

impl Paint {
    fn with(self, text: &str, style: Style) -> String {
        match self {
            Self::Colours => text.style(style).to_string(),
            Self::Plain => text.to_owned(),
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.with(text, Style::new().bold())
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with(text, Style::new().dimmed())
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.with(text, Style::new().green())
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.with(text, Style::new().red())
    }

    pub(crate) fn doubtful(self, text: &str) -> String {
        self.with(text, Style::new().yellow())
    }
}

/// A bar that shows itself when something takes longer than a second.
pub(crate) struct Bar {
    bar: Option<indicatif::ProgressBar>,
    begin: std::time::Instant,
    kind: Progress,
    length: usize,
    done: usize,
}

impl Bar {
    pub(crate) fn new(kind: Progress, length: usize) -> Self {
        Self { bar: None, begin: std::time::Instant::now(), kind, length, done: 0 }
    }

    pub(crate) fn step(&mut self) {
        self.done += 1;
        let is_late = self.begin.elapsed() > std::time::Duration::from_secs(1);
        if self.bar.is_none() && self.kind == Progress::Bar && is_late {
            self.bar = Some(indicatif::ProgressBar::new(number(self.length)));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(number(self.done));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
