//! Lesson one's table: what must be open after each step.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use signalbox_api::flow::Direction;

use crate::lab::{Lab, Report};

/// A step: its number, the manifest that makes it, and what must then be open, nothing else.
pub struct Step {
    /// As the lesson counts them.
    pub number: u32,
    /// In `assets/lessons/one`; step 0 has none.
    pub manifest: Option<&'static str>,
    /// Sources and destinations.
    pub open: &'static [(&'static str, &'static str)],
}

const WEB: &str = "frontend/web";
const DBSVC: &str = "backend/dbsvc";
const EXTSVC: &str = "backend/extsvc";
const DATABASE: &str = "outside/database";
const INTERNET: &str = "outside/internet";
const USERS: &str = "outside/users";

/// Everything that the demo script tries.
pub const ALL: &[(&str, &str)] = &[
    (WEB, WEB),
    (WEB, DBSVC),
    (WEB, EXTSVC),
    (WEB, DATABASE),
    (WEB, INTERNET),
    (DBSVC, WEB),
    (DBSVC, DBSVC),
    (DBSVC, EXTSVC),
    (DBSVC, DATABASE),
    (DBSVC, INTERNET),
    (EXTSVC, WEB),
    (EXTSVC, DBSVC),
    (EXTSVC, EXTSVC),
    (EXTSVC, DATABASE),
    (EXTSVC, INTERNET),
    (USERS, WEB),
    (USERS, DBSVC),
    (USERS, EXTSVC),
];

/// The lesson.
pub const STEPS: &[Step] = &[
    Step { number: 0, manifest: None, open: ALL },
    Step { number: 1, manifest: Some("1-zero-trust.yaml"), open: &[] },
    Step { number: 2, manifest: Some("2-web.yaml"), open: &[(USERS, WEB)] },
    Step { number: 3, manifest: Some("3-dbsvc.yaml"), open: &[(USERS, WEB), (WEB, DBSVC), (DBSVC, DATABASE)] },
    Step {
        number: 4,
        manifest: Some("4-extsvc.yaml"),
        open: &[(USERS, WEB), (WEB, DBSVC), (DBSVC, DATABASE), (WEB, EXTSVC), (EXTSVC, INTERNET)],
    },
];

impl Step {
    /// Whether a check must be open.
    pub fn is_open(&self, from: &str, to: &str) -> bool {
        self.open.contains(&(from, to))
    }

    /// The side that must stop a check, by what the lesson says of each step; `None` where it must be open. Whoever connects is
    /// judged first.
    pub fn stopped_at(&self, from: &str, to: &str) -> Option<Direction> {
        if self.is_open(from, to) {
            return None;
        }
        // No policy judges what leaves the users, and step 2 opens web's way out to the back-ends.
        let let_out = from == USERS || (self.number >= 2 && from == WEB && [DBSVC, EXTSVC].contains(&to));
        Some(if let_out { Direction::Ingress } else { Direction::Egress })
    }
}

/// The checks of a report that `fact` calls open.
pub fn open_by(report: &Report, fact: impl Fn(&crate::lab::Check) -> bool) -> BTreeSet<(&str, &str)> {
    report.checks.iter().filter(|check| fact(check)).map(|check| (check.from.as_str(), check.to.as_str())).collect()
}

/// Runs the demo script and holds probes, engine and kernel against the lesson's table.
pub fn check(lab: &Lab, step: &Step) -> Result<Report> {
    let report = lab.report()?;
    let expected: BTreeSet<_> = step.open.iter().copied().collect();
    let tried: BTreeSet<_> = open_by(&report, |_| true);
    ensure!(tried == ALL.iter().copied().collect(), "step {}: the 18 checks are {tried:?}", step.number);
    ensure!(report.checks.len() == ALL.len(), "step {}: {} checks", step.number, report.checks.len());
    let (number, checks) = (step.number, &report.checks);
    let probes = open_by(&report, |check| check.outcome.as_deref() == Some("open"));
    ensure!(probes == expected, "step {number}: the probes found open {probes:?}, not {expected:?}\n{checks:#?}");
    let engine = open_by(&report, |check| check.spec.as_deref() == Some("allowed"));
    ensure!(engine == expected, "step {number}: the engine allows {engine:?}, not {expected:?}\n{checks:#?}");
    let kernel = open_by(&report, |check| check.kernel.as_deref() == Some("allowed"));
    ensure!(kernel == expected, "step {number}: the kernel allows {kernel:?}, not {expected:?}\n{checks:#?}");
    for check in checks {
        let shut = !expected.contains(&(check.from.as_str(), check.to.as_str()));
        ensure!(!shut || check.outcome.as_deref() == Some("dropped"), "step {number}: shut but not dropped: {check:?}");
        ensure!(!shut || check.spec.as_deref() == Some("denied"), "step {number}: shut but not denied: {check:?}");
        ensure!(
            !shut || check.kernel.as_deref() == Some("denied"),
            "step {number}: the kernel did not say so: {check:?}"
        );
    }
    ensure!(report.agree, "step {number}: the facts do not agree\n{checks:#?}");
    Ok(report)
}
