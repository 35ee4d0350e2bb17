//! The result as the lesson has it: sources down, destinations across.

use std::io::Write;

use owo_colors::{OwoColorize, Style};
use signalbox_api::cell::{Agreement, Outcome};

use super::report::{Check, Report};

/// Prints it, in colours where the terminal has them and `NO_COLOR` does not forbid them.
pub(super) fn print(report: &Report) {
    // Whoever closes the pipe early has read enough.
    let _ = write!(anstream::stdout(), "{}", render(report));
}

fn render(report: &Report) -> String {
    let mut text = grid(report);
    text.push('\n');
    text.push_str(&dns(report));
    let agreeing = report.checks.iter().filter(|check| check.agreement == Agreement::Agree).count();
    let summary =
        format!("{agreeing} of {} checks agree: policies, probes and kernel say the same", report.checks.len());
    let style = if report.agree() { Style::new().green() } else { Style::new().red() };
    text.push_str(&format!("{}  {}\n", "facts".bold(), summary.style(style)));
    for check in report.checks.iter().filter(|check| check.agreement != Agreement::Agree) {
        let what = match check.agreement {
            Agreement::Disagree => "disagree",
            Agreement::Unsettled | Agreement::Agree => "not settled",
        };
        let name = format!("{} -> {} {}/{}", check.from, check.to, check.protocol, check.port);
        text.push_str(&format!("\n{} {}\n", name.bold(), what.red()));
        for line in &check.why {
            text.push_str(&format!("  {line}\n"));
        }
    }
    for problem in &report.problems {
        text.push_str(&format!("{} {problem}\n", "problem".yellow().bold()));
    }
    text
}

fn grid(report: &Report) -> String {
    let mut sources: Vec<&str> = Vec::new();
    let mut targets: Vec<(String, &Check)> = Vec::new();
    for check in &report.checks {
        if !sources.contains(&check.from.as_str()) {
            sources.push(&check.from);
        }
        let title = format!("{}:{}", check.to, check.port);
        if !targets.iter().any(|(_, known)| same_target(known, check)) {
            targets.push((title, check));
        }
    }
    let first = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    let mut text = format!("{:first$}", "");
    for (title, _) in &targets {
        text.push_str(&format!("  {}", format!("{title:width$}", width = width(title)).bold()));
    }
    text = format!("{}\n", text.trim_end());
    for source in sources {
        text.push_str(&format!("{source:first$}").bold().to_string());
        for (title, target) in &targets {
            let check = report.checks.iter().find(|check| check.from == source && same_target(check, target));
            let (word, style) = check.map_or((String::new(), Style::new()), cell);
            text.push_str(&format!("  {}", format!("{word:width$}", width = width(title)).style(style)));
        }
        text.push('\n');
    }
    text
}

/// Room for the longest word with its mark.
fn width(title: &str) -> usize {
    title.len().max("probe-broken !".len())
}

fn same_target(one: &Check, other: &Check) -> bool {
    (&one.to, one.port, one.protocol) == (&other.to, other.port, other.protocol)
}

fn cell(check: &Check) -> (String, Style) {
    let Some(outcome) = check.outcome else { return ("? !".to_owned(), Style::new().yellow()) };
    let style = match outcome {
        Outcome::Open => Style::new().green(),
        Outcome::Dropped => Style::new().red(),
        Outcome::Refused | Outcome::Unreachable | Outcome::DnsFailed | Outcome::NoListener | Outcome::ProbeBroken => {
            Style::new().yellow()
        }
    };
    match check.agreement {
        Agreement::Agree => (outcome.to_string(), style),
        Agreement::Disagree | Agreement::Unsettled => (format!("{outcome} !"), style.bold()),
    }
}

fn dns(report: &Report) -> String {
    let dns = &report.dns;
    let mut text = if dns.failures.is_empty() && dns.resolved == 0 {
        format!("{}    {}\n", "DNS".bold(), "not tried".yellow())
    } else {
        let all = dns.resolved + dns.failures.len();
        let line = format!(
            "{} of {all} look-ups of names answered, from all that have a probe, the slowest in {:.1} ms",
            dns.resolved,
            slowest_ms(report)
        );
        let style = if dns.failures.is_empty() { Style::new().green() } else { Style::new().red() };
        format!("{}    {}\n", "DNS".bold(), line.style(style))
    };
    for failure in &dns.failures {
        text.push_str(&format!("       {}\n", failure.red()));
    }
    text
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds with one digit")]
fn slowest_ms(report: &Report) -> f64 {
    report.dns.slowest_us as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::test::report::tests::lesson;

    fn plain(report: &Report) -> String {
        anstream::adapter::strip_str(&render(report)).to_string()
    }

    #[test]
    fn the_table_is_the_lessons() {
        let text = plain(&Report::new(&lesson()));
        let lines: Vec<_> = text.lines().collect();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            words(lines[0]),
            [
                "frontend/web:9000",
                "backend/dbsvc:9000",
                "backend/extsvc:9000",
                "outside/database:3306",
                "outside/internet:80"
            ]
        );
        assert_eq!(words(lines[1]), ["frontend/web", "open", "open", "open", "open", "open"]);
        assert_eq!(words(lines[4]), ["outside/users", "open", "open", "open"]);
        assert!(text.contains("4 of 4 look-ups of names answered, from all that have a probe"), "{text}");
        assert!(text.contains("18 of 18 checks agree"), "{text}");
    }

    #[test]
    fn a_disagreement_is_marked_and_explained() {
        let mut snapshot = lesson();
        snapshot.cells[1].agreement = Agreement::Disagree;
        let text = plain(&Report::new(&snapshot));
        assert!(text.contains("open !"), "{text}");
        assert!(text.contains("frontend/web -> backend/dbsvc TCP/9000 disagree"), "{text}");
        assert!(text.contains("kernel: allowed"), "{text}");
    }
}
