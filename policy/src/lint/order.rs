//! Tiers with an order: equal priorities, and what comes to nothing because of where it stands.

use std::collections::BTreeMap;

use crate::names::Direction;
use crate::parse::calico;
use crate::peer::{Match, Peer};
use crate::policy::{Action, Policy, Rule, Tier};

use super::context::{Budget, Context, RuleAt, listed};
use super::{Finding, RuleId, inclusion, path};

/// How many pairs of policies or rules are compared.
const PAIRS: usize = 1_000_000;

pub(super) fn check(context: &Context<'_>, findings: &mut Vec<Finding>) {
    equal_priorities(context, findings);
    baseline_behind_isolation(context, findings);
    passes_to_nobody(context, findings);
}

/// SEMANTICS 23: the order of equal priorities is unspecified.
fn equal_priorities(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let mut by_rank: BTreeMap<_, Vec<&Policy>> = BTreeMap::new();
    for policy in &context.model.policies {
        by_rank.entry(policy.rank).or_default().push(policy);
    }
    let mut budget = Budget::new(PAIRS);
    for policies in by_rank.values().filter(|policies| policies.iter().any(|policy| !policy.only_allows())) {
        for (number, later) in policies.iter().enumerate() {
            let mut against = Vec::new();
            let mut place = None;
            for earlier in &policies[..number] {
                if !budget.take(1) {
                    context.leave_out(RuleId::EqualPriority);
                    break;
                }
                if earlier.only_allows() && later.only_allows() {
                    continue;
                }
                if let Some((direction, index)) = conflict(context, earlier, later, &mut budget) {
                    against.push(&earlier.id);
                    place.get_or_insert((direction, index));
                }
            }
            let Some((direction, index)) = place else { continue };
            let (field, consequence) = if calico::is_calico(later.id.kind) {
                ("order", "Calico then goes by their names, which its versions write differently")
            } else {
                ("priority", "the API leaves open which is asked first")
            };
            findings.push(Finding::new(
                RuleId::EqualPriority,
                &later.id,
                format!("spec.{field}"),
                format!(
                    "{} has the same {field} and contradicts spec.{direction}[{index}], since some connections match both: {consequence}",
                    listed(against)
                ),
                format!("give each of them a {field} of its own: the lower number is asked first"),
            ));
        }
    }
}

/// The first rule of `later` that matches what a rule of `earlier` matches and does otherwise.
fn conflict(
    context: &Context<'_>,
    earlier: &Policy,
    later: &Policy,
    budget: &mut Budget,
) -> Option<(Direction, usize)> {
    if !subjects_meet(context, earlier, later) {
        return None;
    }
    for direction in Direction::ALL {
        let (before, own) = (earlier.rules(direction).unwrap_or_default(), later.rules(direction).unwrap_or_default());
        for (index, rule) in own.iter().enumerate().filter(|(_, rule)| rule.doubt.is_none()) {
            let contradicts = |other: &&Rule| {
                other.doubt.is_none()
                    && other.action != rule.action
                    && inclusion::ports_meet(&rule.ports, &other.ports) == Match::Yes
                    && rule_peers_meet(context, rule, other)
            };
            if !budget.take(before.len()) {
                return None;
            }
            if before.iter().any(|other| contradicts(&other)) {
                return Some((direction, index));
            }
        }
    }
    None
}

fn subjects_meet(context: &Context<'_>, a: &Policy, b: &Policy) -> bool {
    if inclusion::pods(&a.subject, &b.subject) || inclusion::pods(&b.subject, &a.subject) {
        return true;
    }
    !context.classes.select(&a.subject).is_disjoint(&context.classes.select(&b.subject))
}

/// Whether two rules certainly have a peer in common.
fn rule_peers_meet(context: &Context<'_>, a: &Rule, b: &Rule) -> bool {
    if a.peers.is_empty() || b.peers.is_empty() {
        return true;
    }
    let meet = |a: &Peer, b: &Peer| {
        inclusion::peer(a, b)
            || inclusion::peer(b, a)
            || match (a, b) {
                (Peer::Pods(_) | Peer::PodsIn(..), Peer::Pods(_) | Peer::PodsIn(..)) => {
                    !context.classes.peer(a).is_disjoint(&context.classes.peer(b))
                }
                (Peer::Block(a), Peer::Block(b)) => {
                    a.cidrs().iter().any(|a| b.contains(a.network()))
                        || b.cidrs().iter().any(|b| a.contains(b.network()))
                }
                (_, _) => false,
            }
    };
    a.peers.iter().any(|a| b.peers.iter().any(|b| meet(a, b)))
}

/// SEMANTICS 23: a NetworkPolicy that isolates a pod leaves nothing to the Baseline tier, in that direction.
fn baseline_behind_isolation(context: &Context<'_>, findings: &mut Vec<Finding>) {
    for policy in context.model.policies.iter().filter(|policy| policy.rank.tier == Tier::Baseline) {
        let selected = context.classes.select(&policy.subject);
        if selected.is_clear() {
            continue;
        }
        for direction in Direction::ALL {
            if policy.rules(direction).unwrap_or_default().is_empty() {
                continue;
            }
            let mut groups = context.groups_in(&selected, direction).peekable();
            // Calico's rules may pass, which leads past the isolation to the Baseline tier.
            let passes = |at: &usize| {
                let policy = &context.model.policies[*at];
                let rules = policy.rules(direction).unwrap_or_default();
                policy.rank.tier.isolates()
                    && rules.iter().any(|rule| rule.action == Action::Pass || rule.doubt.is_some())
            };
            if groups.all(|group| group.is_isolated && !group.is_uncertain && !group.policies.iter().any(passes)) {
                findings.push(Finding::new(
                    RuleId::NoEffect,
                    &policy.id,
                    path::rules(direction),
                    format!(
                        "NetworkPolicies isolate all pods that it selects for {direction}, {} among them, and what they do not \
                         allow is shut before the Baseline tier is asked",
                        context.classes.names(&selected)
                    ),
                    "use the Admin tier for what must hold whatever NetworkPolicies say, or keep it for pods to come".to_owned(),
                ));
            }
        }
    }
}

/// A `Pass` is an exception to what follows in its tier.
fn passes_to_nobody(context: &Context<'_>, findings: &mut Vec<Finding>) {
    // What was not understood may be what it passes by.
    if !context.is_understood {
        return;
    }
    let mut budget = Budget::new(PAIRS);
    for direction in Direction::ALL {
        let rules: Vec<RuleAt<'_>> = context.rules(direction).filter(|at| at.policy.rank.tier == Tier::Admin).collect();
        for (number, at) in rules.iter().enumerate().filter(|(_, at)| at.rule.action == Action::Pass) {
            // Of one priority either may come first: a rule before it may be asked after it, unless both are one policy's.
            let first = rules[..number].partition_point(|before| before.policy.rank < at.policy.rank);
            if !budget.take(rules.len() - first) {
                context.leave_out(RuleId::NoEffect);
                continue;
            }
            let is_exception = rules[first..].iter().any(|after| {
                (after.at != at.at || after.index > at.index)
                    && after.rule.action != Action::Pass
                    && inclusion::ports_meet(&at.rule.ports, &after.rule.ports) != Match::No
                    && may_meet(context, at.policy, after.policy)
            });
            if !is_exception {
                findings.push(Finding::new(
                    RuleId::NoEffect,
                    &at.policy.id,
                    at.path(),
                    "it passes to the next tier, where the connection comes anyhow: no rule of the Admin tier behind it \
                     matches the same"
                        .to_owned(),
                    "delete it, or put it before the rule from which it makes an exception".to_owned(),
                ));
            }
        }
    }
}

/// Whether one pod may be a subject of both.
fn may_meet(context: &Context<'_>, a: &Policy, b: &Policy) -> bool {
    !context.has_pods() || subjects_meet(context, a, b)
}
