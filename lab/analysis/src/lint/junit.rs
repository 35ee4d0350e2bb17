//! JUnit XML for CI systems: a finding that is denied has failed, a document that cannot be read is an error.

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::report::Report;
use crate::error::Error;
use crate::input::Input;
use crate::streams::Streams;

pub(super) fn print(report: &Report<'_>, input: &Input, streams: &mut Streams<'_>) -> Result<(), Error> {
    let mut suite = TestSuite::new("lint");
    for entry in &report.entries {
        let finding = entry.finding;
        let text = format!("{}; {}", finding.message, finding.remedy);
        let place = entry.location.as_ref().map_or(String::new(), |location| format!("{location}\n"));
        let status = if entry.is_denied {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(text.clone()).set_description(format!("{place}{}", finding.docs()));
            status
        } else {
            TestCaseStatus::success()
        };
        let name = format!("{} {}: {} {}", finding.rule.id(), finding.rule.slug(), finding.object, finding.path);
        let mut case = TestCase::new(name.trim_end(), status);
        case.set_classname(finding.object.clone());
        if !entry.is_denied {
            case.set_system_out(format!("{place}{text}"));
        }
        suite.add_test_case(case);
    }
    for error in &input.broken {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message(error.to_string());
        suite.add_test_case(TestCase::new(format!("{}: document {}", error.source_name, error.document), status));
    }
    if report.entries.is_empty() && input.broken.is_empty() {
        suite.add_test_case(TestCase::new("no findings", TestCaseStatus::success()));
    }
    let mut all = quick_junit::Report::new("signalbox lint");
    all.add_test_suite(suite);
    let text = all.to_string().map_err(|error| std::io::Error::other(error.to_string()))?;
    writeln!(streams.out, "{text}")?;
    Ok(())
}
