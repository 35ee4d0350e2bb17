//! Commands of GitHub's workflows: one annotation for each finding, at its line.

use signalbox_policy::lint::Severity;

use super::report::Report;
use crate::error::Error;
use crate::input::Input;
use crate::streams::Streams;

pub(super) fn print(report: &Report<'_>, input: &Input, streams: &mut Streams<'_>) -> Result<(), Error> {
    for entry in &report.entries {
        let finding = entry.finding;
        let command = match (entry.is_denied, finding.severity) {
            (true, _) | (false, Severity::Error) => "error",
            (false, Severity::Warning) => "warning",
            (false, Severity::Info) => "notice",
        };
        let place = entry.location.as_ref();
        let place = place.map_or(String::new(), |it| format!("file={},line={},", property(&it.file), it.line));
        let title = property(&format!("{} {}", finding.rule.id(), finding.rule.slug()));
        let path = if finding.path.is_empty() { String::new() } else { format!(": {}", finding.path) };
        let text = data(&format!("{}{path}: {}; {}", finding.object, finding.message, finding.remedy));
        writeln!(streams.out, "::{command} {place}title={title}::{text}")?;
    }
    for error in &input.broken {
        let (file, text) = (property(&error.source_name), data(&format!("{}; {}", error.reason, error.remedy)));
        let (line, column) = (error.line, error.column);
        writeln!(streams.out, "::error file={file},line={line},col={column},title=unreadable::{text}")?;
    }
    Ok(())
}

/// What would end a command, or begin another one, is written as GitHub has it.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
