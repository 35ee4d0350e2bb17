//! Findings with their places in the manifests.

use std::collections::HashMap;

use signalbox_policy::lint::{Finding, Severity};

use crate::input::Input;
use crate::source::{Location, Places};

/// All that is printed.
pub(super) struct Report<'f> {
    pub entries: Vec<Entry<'f>>,
}

/// A finding, and where it is.
pub(super) struct Entry<'f> {
    pub finding: &'f Finding,
    /// Whether lint fails because of it.
    pub is_denied: bool,
    /// Absent: the object comes from a live cluster, or is none that has a place.
    pub location: Option<Location>,
}

impl<'f> Report<'f> {
    pub(super) fn new(findings: &'f [Finding], is_denied: impl Fn(&Finding) -> bool, input: &Input) -> Self {
        // A finding may come up for each of many pods: each place is looked for once.
        let mut known: HashMap<(&str, &str), Option<Location>> = HashMap::new();
        let places = Places::of(input);
        let entries = findings.iter().map(|finding| {
            let place = (finding.object.as_str(), finding.path.as_str());
            let location = known.entry(place).or_insert_with(|| locate(finding, &places)).clone();
            Entry { finding, is_denied: is_denied(finding), location }
        });
        Self { entries: entries.collect() }
    }

    pub(super) fn count(&self, severity: Severity) -> usize {
        self.entries.iter().filter(|entry| entry.finding.severity == severity).count()
    }
}

fn locate(finding: &Finding, places: &Places<'_>) -> Option<Location> {
    let (kind, name) = finding.object.split_once(' ')?;
    let (namespace, name) = match name.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, name),
    };
    places.locate(kind, namespace, name, &finding.path)
}

/// How a finding is called.
pub(super) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}
