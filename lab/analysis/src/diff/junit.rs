//! JUnit XML for CI systems: a change fails that `--fail-on` names.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use signalbox_policy::diff::Change;

use super::{End, FailOn, NO_OUTSIDE, Sink, access, effect};
use crate::error::Error;
use crate::streams::Streams;

pub(super) struct Junit {
    fail_on: Option<FailOn>,
    cases: Vec<TestCase>,
}

impl Junit {
    pub(super) fn new(fail_on: Option<FailOn>) -> Self {
        Self { fail_on, cases: Vec::new() }
    }
}

impl Sink for Junit {
    fn changes(&mut self, changes: &[Change], _: &mut Streams<'_>) -> Result<(), Error> {
        for change in changes {
            let fails = self.fail_on.is_some_and(|fail_on| fail_on.counts(change.effect()));
            let family = change.family.map_or(String::new(), |family| format!(" over {family}"));
            let Change { from, to, traffic, .. } = change;
            let what = format!("{from} -> {to} {traffic}{family}");
            let status = if fails {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                let message = format!("was {}, is {}", access(change.before), access(change.after));
                status.set_message(message);
                if !change.reasons.is_empty() {
                    status.set_description(change.reasons.iter().cloned().collect::<Vec<_>>().join("\n"));
                }
                status
            } else {
                TestCaseStatus::success()
            };
            let mut case = TestCase::new(format!("{} {what}", effect(change.effect())), status);
            case.set_classname(from.to_string());
            self.cases.push(case);
        }
        Ok(())
    }

    fn end(&mut self, end: &End, streams: &mut Streams<'_>) -> Result<(), Error> {
        if self.cases.is_empty() {
            let between = if end.external { "" } else { "between pods " };
            let name = format!("{between}nothing opens and nothing closes");
            self.cases.push(TestCase::new(name, TestCaseStatus::success()));
        }
        if !end.external {
            streams.note(NO_OUTSIDE);
        }
        for unknown in end.doubts.after.iter() {
            let mut status = TestCaseStatus::skipped();
            status.set_message(unknown.reason.clone());
            self.cases.push(TestCase::new(format!("not understood: {} {}", unknown.object, unknown.path), status));
        }
        let mut suite = TestSuite::new("changes");
        suite.add_test_cases(std::mem::take(&mut self.cases));
        let mut report = Report::new("signalbox diff");
        report.add_test_suite(suite);
        let text = report.to_string().map_err(|error| std::io::Error::other(error.to_string()))?;
        writeln!(streams.out, "{text}")?;
        Ok(())
    }
}
