//! Lint: what an expert reviewer would say of a set of policies. Pure: objects in, findings out.
//!
//! - [`rule`]: the rules, with stable ids, and how severe they are.
//! - `context`: what all rules look at: the cluster, sets of pods (`classes`), and what only the manifests show (`raw`).
//! - `inclusion`: whether one set lies in another whatever pods there are; `path`: where something stands in a manifest.
//! - The rules by theme: `objects`, `selection` with `spelling`, `shadow`, `order`, `ports`, `addresses`, `directions`,
//!   `dns`, `flows`.
//!
//! A finding rests on something concrete in the objects given. What depends on pods, namespaces or Services is not said
//! where there are none among them, nor where something that was not understood may change it.

use std::fmt;

use serde_json::Value;

use crate::cluster::Cluster;

mod addresses;
mod classes;
mod context;
mod directions;
mod dns;
mod flows;
mod inclusion;
mod objects;
mod order;
mod path;
mod ports;
mod raw;
pub mod rule;
mod selection;
mod shadow;
mod spelling;

pub use rule::{RuleId, Severity};

use context::Context;

/// One thing that is wrong, or worth to know.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Finding {
    /// Kind and name: `NetworkPolicy backend/dbsvc`.
    pub object: String,
    /// The field's path: `spec.ingress[0].from[1].ipBlock.cidr`. Empty: the object as a whole.
    pub path: String,
    /// Which rule says so.
    pub rule: RuleId,
    /// How severe it is here: mostly as the rule has it.
    pub severity: Severity,
    /// What is wrong and why it matters.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
}

impl Finding {
    /// Where the rule is described, from the root of the repository.
    pub fn docs(&self) -> String {
        self.rule.docs()
    }

    fn new(rule: RuleId, object: impl fmt::Display, path: impl Into<String>, message: String, remedy: String) -> Self {
        Self { object: object.to_string(), path: path.into(), rule, severity: rule.severity(), message, remedy }
    }

    fn with(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: {}", self.severity, self.rule.id(), self.object)?;
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}; {}", self.message, self.remedy)
    }
}

/// Looks at objects and at the cluster that was read from them. Findings in order of objects, fields and rules.
pub fn lint<'a>(objects: impl IntoIterator<Item = &'a Value>, cluster: &Cluster) -> Vec<Finding> {
    // Both live as long as this call: the objects need not outlive the cluster.
    let objects: Vec<&Value> = objects.into_iter().collect();
    let context = Context::new(objects, cluster.model());
    let mut findings = Vec::new();
    for check in [
        objects::check,
        selection::check,
        shadow::check,
        order::check,
        ports::check,
        addresses::check,
        directions::check,
        dns::check,
        flows::check,
    ] {
        check(&context, &mut findings);
    }
    context.limits(&mut findings);
    findings.sort_unstable();
    findings.dedup();
    findings
}
