//! For people.

use signalbox_policy::lint::Severity;

use super::report::{Report, severity};
use crate::error::Error;
use crate::streams::Streams;

pub(super) fn print(report: &Report<'_>, streams: &mut Streams<'_>) -> Result<(), Error> {
    let paint = streams.paint;
    for entry in &report.entries {
        let finding = entry.finding;
        let word = format!("{}[{} {}]", severity(finding.severity), finding.rule.id(), finding.rule.slug());
        let word = match finding.severity {
            Severity::Error => paint.bad(&word),
            Severity::Warning => paint.doubtful(&word),
            Severity::Info => paint.dim(&word),
        };
        let path = if finding.path.is_empty() { String::new() } else { format!(": {}", finding.path) };
        writeln!(streams.out, "{word} {}", paint.bold(&format!("{}{path}", finding.object)))?;
        writeln!(streams.out, "  {}; {}", finding.message, finding.remedy)?;
        if let Some(location) = &entry.location {
            writeln!(streams.out, "  {}", paint.dim(&format!("{location}  {}", finding.docs())))?;
            for line in location.excerpt.iter().take(5) {
                writeln!(streams.out, "  {} {line}", paint.dim("|"))?;
            }
        } else {
            writeln!(streams.out, "  {}", paint.dim(&finding.docs()))?;
        }
        writeln!(streams.out)?;
    }
    let [errors, warnings, infos] = [Severity::Error, Severity::Warning, Severity::Info].map(|it| report.count(it));
    let denied = report.entries.iter().filter(|entry| entry.is_denied).count();
    if errors + warnings + infos == 0 {
        writeln!(streams.out, "no findings")?;
    } else {
        writeln!(streams.out, "{errors} errors, {warnings} warnings, {infos} infos; {denied} denied")?;
    }
    Ok(())
}
