//! Where something stands in the manifest of a policy.

use serde_json::Value;

use crate::names::Direction;
use crate::parse::calico;
use crate::policy::Policy;

use super::context::RuleAt;

/// The field that says whom a policy bears on.
pub(super) fn subject(policy: &Policy) -> &'static str {
    match policy.id.kind {
        "NetworkPolicy" => "spec.podSelector",
        kind if calico::is_calico(kind) => "spec.selector",
        _ => "spec.subject",
    }
}

/// The list of rules of one direction.
pub(super) fn rules(direction: Direction) -> String {
    format!("spec.{direction}")
}

impl RuleAt<'_> {
    /// `spec.ingress[0]`.
    pub fn path(&self) -> String {
        format!("spec.{}[{}]", self.direction, self.index)
    }

    /// `spec.ingress[0].from[1]`; the rule where it names no peer.
    pub fn peer_path(&self, peer: Option<usize>) -> String {
        let rule = self.path();
        let Some(peer) = peer else { return rule };
        let (list, entity) = match self.direction {
            Direction::Ingress => ("from", "source"),
            Direction::Egress => ("to", "destination"),
        };
        if calico::is_calico(self.policy.id.kind) {
            return format!("{rule}.{entity}");
        }
        format!("{rule}.{list}[{peer}]")
    }

    /// `spec.ingress[0].ports[1]`; the rule where it names no port.
    pub fn port_path(&self, port: Option<usize>) -> String {
        let rule = self.path();
        let Some(port) = port else { return rule };
        match self.policy.id.kind {
            kind if calico::is_calico(kind) => format!("{rule}.destination.ports"),
            "ClusterNetworkPolicy" => format!("{rule}.protocols[{port}]"),
            _ => format!("{rule}.ports[{port}]"),
        }
    }
}

/// The selectors of a NetworkPolicy's peer.
pub(super) const POD_SELECTOR: &str = "podSelector";
/// The selectors of a NetworkPolicy's peer.
pub(super) const NAMESPACE_SELECTOR: &str = "namespaceSelector";

/// The field of a selector at `base` that holds a key: in a NetworkPolicy's manifest the very entry, else `base`.
pub(super) fn requirement(manifest: Option<&Value>, base: &str, key: &str) -> String {
    let Some(selector) = manifest.and_then(|manifest| find(manifest, base)) else { return base.to_owned() };
    if selector.get("matchLabels").and_then(|labels| labels.get(key)).is_some() {
        let dotted = key.contains(['.', '/', '[', ' ']);
        return if dotted { format!("{base}.matchLabels[{key}]") } else { format!("{base}.matchLabels.{key}") };
    }
    let expressions = selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten();
    let at = expressions.enumerate().find(|(_, it)| it.get("key").and_then(Value::as_str) == Some(key));
    at.map_or_else(|| base.to_owned(), |(at, _)| format!("{base}.matchExpressions[{at}]"))
}

/// The value at a path such as `spec.ingress[0].from[1]`.
pub(super) fn find<'v>(manifest: &'v Value, path: &str) -> Option<&'v Value> {
    path.split(['.', '[']).try_fold(manifest, |value, step| match step.strip_suffix(']') {
        Some(index) => value.get(index.parse::<usize>().ok()?),
        None => value.get(step),
    })
}
