//! Connections need both sides: egress that no ingress answers, and ingress that no egress leads to.
//!
//! What the other side allows is taken too wide rather than too narrow, so that whatever is called shut is shut.

use fixedbitset::FixedBitSet;

use crate::names::Direction;
use crate::peer::{Match, Namespaces, Peer};
use crate::policy::Action;
use crate::selector::Selector;

use super::context::{Budget, Context, Group, RuleAt, listed};
use super::{Finding, RuleId, Severity, inclusion};

/// How many rules are held against rules of the other side.
const STEPS: usize = 2_000_000;

pub(super) fn check(context: &Context<'_>, findings: &mut Vec<Finding>) {
    if !context.has_pods() {
        return;
    }
    let mut budget = Budget::new(STEPS);
    for direction in Direction::ALL {
        for at in context.rules(direction).filter(|at| at.rule.action == Action::Allow) {
            match one_sided(context, at, &mut budget) {
                Ok(finding) => findings.extend(finding),
                Err(Spent) => context.leave_out(match direction {
                    Direction::Egress => RuleId::EgressWithoutIngress,
                    Direction::Ingress => RuleId::IngressWithoutEgress,
                }),
            }
        }
    }
}

/// There is more to compare than time for it.
struct Spent;

/// Pairs of pods that one side lets pass and the other does not.
#[derive(Default)]
struct Shut {
    pairs: usize,
    /// The selected pod, the other one, and what shuts it.
    example: Option<(String, String, String)>,
}

fn one_sided(context: &Context<'_>, at: RuleAt<'_>, budget: &mut Budget) -> Result<Option<Finding>, Spent> {
    let classes = &context.classes;
    let subject = classes.select(&at.policy.subject);
    let mut others = classes.none();
    let (mut by_labels, mut everywhere) = (0_usize, false);
    for peer in &at.rule.peers {
        if let Peer::Pods(set) = peer {
            others.union_with(&classes.select(set));
            by_labels += 1;
            let any_namespace = matches!(&set.namespaces, Namespaces::Selected(selector) if selector.is_empty());
            everywhere |= any_namespace && set.pods == Selector::default();
        }
    }
    let mut both = subject.as_ref().clone();
    both.intersect_with(&others);
    let total = classes.pods(&subject) * classes.pods(&others) - classes.pods(&both);
    if total == 0 {
        return Ok(None);
    }
    let other_direction = match at.direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    };
    let mut shut = Shut::default();
    for group in context.groups_in(&others, other_direction).filter(|group| group.is_isolated && !group.is_uncertain) {
        let mut refused = subject.as_ref().clone();
        for other in context.allowing(&group.policies, other_direction) {
            if !budget.take(1) {
                return Err(Spent);
            }
            if inclusion::ports_meet(&at.rule.ports, &other.rule.ports) == Match::No {
                continue;
            }
            if other.rule.peers.is_empty() || other.rule.doubt.is_some() {
                refused.clear();
            }
            for peer in &other.rule.peers {
                refused.difference_with(&classes.peer(peer));
            }
            if refused.is_clear() {
                break;
            }
        }
        shut.add(context, &refused, &others, group);
    }
    let Some((own, other, by)) = shut.example else { return Ok(None) };
    let is_all = shut.pairs == total;
    // Who opens a side to everyone leaves it to the other side to choose.
    if everywhere && !is_all {
        return Ok(None);
    }
    let how_many = if is_all {
        match total {
            1 => String::new(),
            _ => format!("; so it is with all {total} pairs of pods"),
        }
    } else {
        format!("; so it is with {} of {total} pairs of pods", shut.pairs)
    };
    let (rule, message, remedy) = match at.direction {
        Direction::Egress => (
            RuleId::EgressWithoutIngress,
            format!(
                "{own} may go out to {other}, and {by} lets nothing of it in there: both sides must allow{how_many}"
            ),
            format!("add an ingress rule for {other} that lets in {own}, or drop this one"),
        ),
        Direction::Ingress => (
            RuleId::IngressWithoutEgress,
            format!("{own} lets in {other}, and {by} lets nothing of it out there: both sides must allow{how_many}"),
            format!("add an egress rule for {other} that leads to {own}, or drop this one"),
        ),
    };
    let finding = Finding::new(rule, &at.policy.id, at.path(), message, remedy);
    let is_whole = is_all && by_labels == at.rule.peers.len();
    Ok(Some(if is_whole { finding } else { finding.with(Severity::Info) }))
}

impl Shut {
    /// Adds the pairs of pods that a group refuses.
    fn add(&mut self, context: &Context<'_>, refused: &FixedBitSet, others: &FixedBitSet, group: &Group) {
        let classes = &context.classes;
        if refused.is_clear() {
            return;
        }
        let mut there = group.classes.clone();
        there.intersect_with(others);
        let mut both = refused.clone();
        both.intersect_with(&there);
        let pairs = classes.pods(refused) * classes.pods(&there) - classes.pods(&both);
        if pairs == 0 {
            return;
        }
        self.pairs += pairs;
        if self.example.is_some() {
            return;
        }
        let pair = refused.ones().find_map(|own| {
            let other = there.ones().find(|other| *other != own || classes.get(own).members > 1)?;
            let name = |at: usize| classes.get(at).pod.id.to_string();
            let other = if own == other { format!("a pod like {}", name(other)) } else { name(other) };
            Some((name(own), other))
        });
        let isolating = group.policies.iter().map(|at| &context.model.policies[*at]);
        let by = listed(isolating.filter(|policy| policy.rank.tier.isolates()).map(|policy| &policy.id));
        self.example = pair.map(|(own, other)| (own, other, by));
    }
}
