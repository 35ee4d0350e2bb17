//! What was not understood, in one shape for all outputs.

use std::collections::BTreeSet;

use serde::Serialize;
use signalbox_policy::Cluster;
use signalbox_policy::lint::{Finding, RuleId};
use signalbox_policy::policy::Rank;

use crate::input::Input;
use crate::streams::Paint;

/// Something that was not understood.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub(crate) struct Unknown {
    /// Kind and name; for a document that could not be read, its file and number.
    pub object: String,
    /// The field. Empty: the object as a whole.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// Collects what was not understood: first documents, then fields, then what only pairs have brought up.
pub(crate) struct Unknowns {
    list: Vec<Unknown>,
    seen: BTreeSet<String>,
    of_pairs: BTreeSet<Unknown>,
}

impl Unknowns {
    pub(crate) fn of(input: &Input, cluster: &Cluster) -> Self {
        let documents = input.broken.iter().map(|error| Unknown {
            object: format!("{}: document {}", error.source_name, error.document),
            path: format!("line {}, column {}", error.line, error.column),
            reason: format!("{}; {}", error.reason, error.remedy),
        });
        let fields = cluster.problems().iter().map(|problem| Unknown {
            object: named(&problem.object, input),
            path: problem.path.clone(),
            reason: problem.reason.to_string(),
        });
        let in_order = contradictions(input, cluster);
        let mut unknowns =
            Self { list: Vec::new(), seen: cluster.unknowns().iter().cloned().collect(), of_pairs: BTreeSet::new() };
        let mut listed = BTreeSet::new();
        unknowns.list =
            documents.chain(fields).chain(in_order).filter(|unknown| listed.insert(unknown.clone())).collect();
        unknowns
    }

    /// Notes why something is unknown that the objects by themselves do not tell, such as an address that is not known.
    pub(crate) fn add<'r>(&mut self, reasons: impl IntoIterator<Item = &'r String>) {
        for reason in reasons {
            if self.seen.insert(reason.clone()) {
                let unknown = parsed(reason);
                let is_same = |known: &Unknown| known.object == unknown.object && known.path == unknown.path;
                // What lint has said of the field is said.
                if unknown.path.is_empty() || !self.list.iter().any(is_same) {
                    self.of_pairs.insert(unknown);
                }
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Unknown> {
        self.list.iter().chain(&self.of_pairs)
    }

    /// One line for each, for people.
    pub(crate) fn lines(&self, paint: Paint) -> Vec<String> {
        let line = |unknown: &Unknown| {
            let path = if unknown.path.is_empty() { String::new() } else { format!(": {}", unknown.path) };
            format!("{} {}{path}: {}", paint.doubtful("?"), unknown.object, unknown.reason)
        };
        self.iter().map(line).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty() && self.of_pairs.is_empty()
    }
}

/// Policies of one tier and priority that contradict each other, even if no pair at hand meets both: the API leaves open which
/// of them decides.
fn contradictions(input: &Input, cluster: &Cluster) -> Vec<Unknown> {
    if cluster.policies().all(|policy| policy.rank == Rank::NETWORK_POLICY) {
        return Vec::new();
    }
    let findings = cluster.lint(&input.objects).into_iter().filter(|finding| finding.rule == RuleId::EqualPriority);
    let unknown = |finding: Finding| Unknown {
        object: named(&finding.object, input),
        path: finding.path,
        reason: format!("{}; {}", finding.message, finding.remedy),
    };
    findings.map(unknown).collect()
}

/// Objects without a kind are numbered by the engine: here they have a place instead.
fn named(object: &str, input: &Input) -> String {
    let index = object.strip_prefix("Object ").and_then(|number| number.parse::<usize>().ok());
    let origin = index.and_then(|index| input.origins.get(index.checked_sub(1)?));
    origin.map_or_else(|| object.to_owned(), ToString::to_string)
}

/// The engine's sentence `object: path: reason`, taken apart.
fn parsed(sentence: &str) -> Unknown {
    let (object, rest) = sentence.split_once(": ").unwrap_or(("", sentence));
    let (path, reason) = match rest.split_once(": ") {
        Some((path, reason)) if !path.contains(' ') => (path, reason),
        Some(_) | None if rest.starts_with("has no known address") => ("status.podIPs", rest),
        Some(_) | None if rest.starts_with("has no known labels") => ("metadata.labels", rest),
        Some(_) | None => ("", rest),
    };
    Unknown { object: object.to_owned(), path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_come_apart() {
        for (sentence, object, path) in [
            ("Pod a/b: has no known address, and NetworkPolicy a/x names addresses", "Pod a/b", "status.podIPs"),
            ("NetworkPolicy a/x: spec.ingress[0]: must be a list", "NetworkPolicy a/x", "spec.ingress[0]"),
            ("Pod a/b: has ended (Failed) and has no network", "Pod a/b", ""),
        ] {
            let unknown = parsed(sentence);
            assert_eq!((unknown.object.as_str(), unknown.path.as_str()), (object, path));
        }
    }
}
