//! Directions: `policyTypes` as it was written, and rules that let everything pass.

use serde_json::Value;

use crate::names::Direction;
use crate::policy::Action;

use super::context::{Context, count as count_of};
use super::path;
use super::{Finding, RuleId};

pub(super) fn check(context: &Context<'_>, findings: &mut Vec<Finding>) {
    for policy in &context.model.policies {
        if let Some(spec) = context.manifest(policy).and_then(|manifest| manifest.get("spec")) {
            types(&policy.id.to_string(), spec, findings);
        }
    }
    for direction in Direction::ALL {
        for at in context.rules(direction).filter(|at| at.rule.action == Action::Allow) {
            if at.rule.peers.is_empty() && at.rule.ports.is_empty() {
                let (who, list) = match direction {
                    Direction::Ingress => ("anyone, the outside included, may reach them", "from"),
                    Direction::Egress => ("they may go anywhere, the outside included", "to"),
                };
                findings.push(Finding::new(
                    RuleId::WideOpen,
                    &at.policy.id,
                    at.path(),
                    format!(
                        "the rule names neither peers nor ports, so that it allows everything: of {}, {who} on every port, \
                         and no other policy can narrow that",
                        at.policy.subject
                    ),
                    format!("name peers in {list} or ports; to leave a direction alone, take it out of policyTypes"),
                ));
            }
        }
    }
}

/// Source: the API text of `policyTypes`: unset, Ingress always, Egress if the policy has egress rules.
fn types(object: &str, spec: &Value, findings: &mut Vec<Finding>) {
    let listed: Vec<&str> =
        spec.get("policyTypes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let rules = |direction: &str| spec.get(direction).and_then(Value::as_array).map(Vec::len);
    if listed.is_empty() {
        if rules("egress") == Some(0) {
            findings.push(Finding::new(
                RuleId::EgressNotIsolated,
                object,
                "spec.egress",
                "policyTypes is unset, and then only egress rules make a policy isolate egress: an empty list leaves the \
                 pods free to go anywhere"
                    .to_owned(),
                "write policyTypes: [Ingress, Egress] to shut egress".to_owned(),
            ));
        }
        if rules("egress").is_some_and(|count| count > 0) && rules("ingress").is_none() {
            findings.push(Finding::new(
                RuleId::ImplicitIngressDeny,
                object,
                "spec.policyTypes",
                "policyTypes is unset, and then ingress is always isolated: with no ingress rules nobody may reach the pods"
                    .to_owned(),
                "write policyTypes: [Egress] if only egress was meant, [Ingress, Egress] if this was".to_owned(),
            ));
        }
        return;
    }
    for (word, direction) in [("Ingress", Direction::Ingress), ("Egress", Direction::Egress)] {
        let Some(count) = rules(&direction.to_string()) else { continue };
        if listed.contains(&word) {
            continue;
        }
        let what = match count {
            0 => format!("the empty {direction} list shuts nothing"),
            _ => {
                let rules = count_of(count, &format!("{direction} rule"));
                format!("what it says there has no effect: {rules} neither isolating nor allowing")
            }
        };
        findings.push(Finding::new(
            RuleId::RulesIgnored,
            object,
            path::rules(direction),
            format!("policyTypes is [{}] and leaves {word} out, so that {what}", listed.join(", ")),
            format!("add {word} to policyTypes, or delete spec.{direction}"),
        ));
    }
}
