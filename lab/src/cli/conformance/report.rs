//! What became of the cases, by point.

use std::fmt::Write;

use owo_colors::{OwoColorize, Style};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;
use signalbox_api::cell::Cell;
use signalbox_api::flow::Decision;

use super::cases::POINTS;

/// Wrong cells that are shown.
const SHOWN: usize = 3;

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The API server's version.
    pub version: String,
    /// How long all cases took together.
    pub seconds: f64,
    /// The cases, in order.
    pub tried: Vec<Tried>,
}

/// One case.
#[derive(Debug, Serialize)]
pub(super) struct Tried {
    pub point: u8,
    pub title: &'static str,
    pub verdict: Verdict,
    /// Connections that are as the policies say.
    pub agree: usize,
    /// Connections of which nothing is known.
    pub unknown: usize,
    /// Connections that are otherwise, in words.
    pub wrong: Vec<String>,
    /// Connections that the policies shut.
    pub shut: usize,
    /// Until it was clear.
    pub millis: u64,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Passed,
    Failed,
    Unknown,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        })
    }
}

/// A connection that is not as the policies say, in words.
pub(super) fn mismatch(cell: &Cell) -> String {
    let spec = match cell.spec.as_ref().and_then(|spec| spec.decision) {
        Some(Decision::Allowed) => "allowed",
        Some(Decision::Denied) => "denied",
        None => "unknown",
    };
    let saw = cell.probe.as_ref().map_or("not tried", |probe| probe.outcome.as_str());
    let key = &cell.key;
    format!("{} to {} {}/{}: the policies say {spec}, the probe saw {saw}", key.from, key.to, key.protocol, key.port)
}

impl Report {
    /// Every case is as the policies say, and there is one.
    pub(super) fn passed(&self) -> bool {
        !self.tried.is_empty() && self.tried.iter().all(|tried| tried.verdict == Verdict::Passed)
    }

    /// A badge for each point, and what is wrong.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for (point, words) in POINTS {
            let of: Vec<&Tried> = self.tried.iter().filter(|tried| tried.point == *point).collect();
            if of.is_empty() {
                continue;
            }
            let passed = of.iter().filter(|tried| tried.verdict == Verdict::Passed).count();
            let failed = of.iter().any(|tried| tried.verdict == Verdict::Failed);
            let (badge, style) = match (failed, passed == of.len()) {
                (true, _) => ("failed", Style::new().red()),
                (false, true) => ("passed", Style::new().green()),
                (false, false) => ("unknown", Style::new().yellow()),
            };
            let badge = format!("{badge:8}");
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{point:>3}  {}  {passed}/{}  {words}", badge.style(style), of.len());
            for tried in of.iter().filter(|tried| tried.verdict != Verdict::Passed) {
                let counts = format!("{} wrong, {} unknown of {}", tried.wrong.len(), tried.unknown, tried.all());
                let _ = writeln!(text, "       {}: {counts}", tried.title);
                for wrong in tried.wrong.iter().take(SHOWN) {
                    let _ = writeln!(text, "         {}", wrong.dimmed());
                }
            }
        }
        let passed = self.tried.iter().filter(|tried| tried.verdict == Verdict::Passed).count();
        let cells: usize = self.tried.iter().map(Tried::all).sum();
        let _ = writeln!(
            text,
            "\nKubernetes {}: {passed} of {} cases passed, {cells} connections in {:.1} s",
            self.version,
            self.tried.len(),
            self.seconds
        );
        text
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings and numbers are valid JSON")
    }

    pub(super) fn junit(&self) -> String {
        let mut suite = TestSuite::new("signalbox conformance");
        for tried in &self.tried {
            let status = match tried.verdict {
                Verdict::Passed => TestCaseStatus::success(),
                Verdict::Failed | Verdict::Unknown => {
                    let kind =
                        if tried.verdict == Verdict::Failed { NonSuccessKind::Failure } else { NonSuccessKind::Error };
                    let mut status = TestCaseStatus::non_success(kind);
                    status.set_message(format!(
                        "{} wrong, {} unknown of {}",
                        tried.wrong.len(),
                        tried.unknown,
                        tried.all()
                    ));
                    status.set_description(tried.wrong.join("\n"));
                    status
                }
            };
            let mut case = TestCase::new(tried.title, status);
            case.set_classname(format!("point {}", tried.point));
            case.set_time(std::time::Duration::from_millis(tried.millis));
            suite.add_test_case(case);
        }
        let mut report = quick_junit::Report::new("signalbox");
        report.add_test_suite(suite);
        report.to_string().unwrap_or_default()
    }
}

impl Tried {
    /// Whether there is anything that only these policies bring about: without any policy all is open.
    pub(super) fn shows_change(&self) -> bool {
        self.shut > 0
    }

    fn all(&self) -> usize {
        self.agree + self.unknown + self.wrong.len()
    }
}
