//! The result as JUnit XML: a check fails where its facts do not agree, and errs where too little is known.

use std::time::Duration;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use signalbox_api::cell::Agreement;

use super::report::{Check, Report};

/// Renders it.
pub(super) fn render(report: &Report) -> String {
    let mut suite = TestSuite::new("connections");
    suite.add_test_cases(report.checks.iter().map(case));
    let mut all = quick_junit::Report::new("signalbox test");
    all.add_test_suite(suite);
    all.to_string().expect("a report of valid strings can be written to memory")
}

fn case(check: &Check) -> TestCase {
    let kind = match check.agreement {
        Agreement::Agree => None,
        Agreement::Disagree => Some((NonSuccessKind::Failure, "the facts disagree")),
        Agreement::Unsettled => Some((NonSuccessKind::Error, "too little is known")),
    };
    let status = match kind {
        None => TestCaseStatus::success(),
        Some((kind, message)) => {
            let mut status = TestCaseStatus::non_success(kind);
            status.set_message(message).set_description(check.why.join("\n"));
            status
        }
    };
    let name = format!("{} -> {} {}/{}", check.from, check.to, check.protocol, check.port);
    let mut case = TestCase::new(name, status);
    case.set_classname(check.from.clone());
    if let Some(latency) = check.latency_us {
        case.set_time(Duration::from_micros(latency));
    }
    if let Some(outcome) = check.outcome {
        case.set_system_out(outcome.as_str());
    }
    case
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::test::report::tests::lesson;

    #[test]
    fn a_disagreement_is_a_failure() {
        let mut snapshot = lesson();
        snapshot.cells[1].agreement = Agreement::Disagree;
        snapshot.cells[2].agreement = Agreement::Unsettled;
        let xml = render(&Report::new(&snapshot));
        assert!(xml.contains(r#"tests="18" disabled="0" errors="1" failures="1""#), "{xml}");
        assert!(xml.contains("frontend/web -&gt; backend/dbsvc TCP/9000"), "{xml}");
    }
}
