//! One JSON object. docs/schema/lint.json describes it.

use serde::Serialize;
use signalbox_policy::lint::Severity;

use super::report::{Report, severity};
use crate::error::Error;
use crate::input::Input;
use crate::streams::Streams;

/// The fields come in this order.
#[derive(Serialize)]
struct Output<'a> {
    findings: Vec<Row<'a>>,
    summary: Summary,
    unreadable: Vec<Unreadable<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    rule: &'static str,
    name: &'static str,
    severity: &'static str,
    denied: bool,
    object: &'a str,
    path: &'a str,
    file: Option<&'a str>,
    line: Option<usize>,
    message: &'a str,
    remedy: &'a str,
    docs: String,
}

#[derive(Serialize)]
struct Summary {
    errors: usize,
    warnings: usize,
    infos: usize,
    denied: usize,
}

#[derive(Serialize)]
struct Unreadable<'a> {
    file: &'a str,
    document: usize,
    line: usize,
    column: usize,
    reason: &'a str,
    remedy: &'a str,
}

pub(super) fn print(report: &Report<'_>, input: &Input, streams: &mut Streams<'_>) -> Result<(), Error> {
    let findings = report.entries.iter().map(|entry| Row {
        rule: entry.finding.rule.id(),
        name: entry.finding.rule.slug(),
        severity: severity(entry.finding.severity),
        denied: entry.is_denied,
        object: &entry.finding.object,
        path: &entry.finding.path,
        file: entry.location.as_ref().map(|location| location.file.as_str()),
        line: entry.location.as_ref().map(|location| location.line),
        message: &entry.finding.message,
        remedy: &entry.finding.remedy,
        docs: entry.finding.docs(),
    });
    let unreadable = input.broken.iter().map(|error| Unreadable {
        file: &error.source_name,
        document: error.document,
        line: error.line,
        column: error.column,
        reason: &error.reason,
        remedy: &error.remedy,
    });
    let summary = Summary {
        errors: report.count(Severity::Error),
        warnings: report.count(Severity::Warning),
        infos: report.count(Severity::Info),
        denied: report.entries.iter().filter(|entry| entry.is_denied).count(),
    };
    let output = Output { findings: findings.collect(), summary, unreadable: unreadable.collect() };
    serde_json::to_writer(&mut *streams.out, &output).map_err(std::io::Error::from)?;
    writeln!(streams.out)?;
    Ok(())
}
