//! Connections need both sides: egress that no ingress answers, and ingress that no egress leads to.
//!
//! What the other side allows is taken too wide rather than too narrow, so that whatever is called shut is shut.

use std::rc::Rc;

use fixedbitset::FixedBitSet;

use crate::names::Direction;
use crate::peer::{Match, Namespaces, Peer};
use crate::policy::{Action, Rule};
use crate::selector::Selector;

use super::context::{Budget, Context, Group, RuleAt, listed};
use super::{Finding, RuleId, Severity, inclusion};

/// How many rules are held against rules of the other side.
const STEPS: usize = 4_000_000;

pub(super) fn check(context: &Context<'_>, findings: &mut Vec<Finding>) {
    if !context.has_pods() {
        return;
    }
    let mut budget = Budget::new(STEPS);
    let reach = Direction::ALL.map(|direction| Reach::of(context, direction));
    for direction in Direction::ALL {
        for at in context.rules(direction).filter(|at| at.rule.action == Action::Allow) {
            match one_sided(context, at, &reach, &mut budget) {
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

/// Whom the rules of one direction let through: by policy and rule.
struct Reach {
    sets: Vec<Vec<Rc<FixedBitSet>>>,
}

impl Reach {
    fn of(context: &Context<'_>, direction: Direction) -> Self {
        let all = Rc::new(context.classes.all());
        let of_rule = |rule: &Rule| match rule.peers.as_slice() {
            _ if rule.doubt.is_some() => Rc::clone(&all),
            [] => Rc::clone(&all),
            [one] => context.classes.peer(one),
            several => {
                let mut set = context.classes.none();
                for peer in several {
                    set.union_with(&context.classes.peer(peer));
                }
                Rc::new(set)
            }
        };
        let policies = context.model.policies.iter();
        let sets = policies.map(|policy| policy.rules(direction).unwrap_or_default().iter().map(of_rule).collect());
        Self { sets: sets.collect() }
    }
}

fn one_sided(
    context: &Context<'_>,
    at: RuleAt<'_>,
    reach: &[Reach; 2],
    budget: &mut Budget,
) -> Result<Option<Finding>, Spent> {
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
    // Who opens a side to everyone leaves it to the other side to choose.
    if everywhere {
        return Ok(None);
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
    let reach = &reach[other_direction as usize];
    let mut shut = Shut::default();
    for group in context.groups_in(&others, other_direction).filter(|group| group.is_isolated && !group.is_uncertain) {
        let mut refused = Refused::of(&subject);
        for other in context.allowing(&group.policies, other_direction) {
            if !budget.take(at.rule.ports.len().max(1) * other.rule.ports.len().max(1)) {
                return Err(Spent);
            }
            if inclusion::ports_meet(&at.rule.ports, &other.rule.ports) == Match::No {
                continue;
            }
            refused.let_in(&reach.sets[other.at][other.index]);
            if refused.len() == 0 {
                break;
            }
        }
        shut.add(context, refused, &others, group);
    }
    let Some((own, other, by)) = shut.example else { return Ok(None) };
    let is_all = shut.pairs == total;
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

/// Classes of the selected pods that the other side has not let in so far.
enum Refused {
    /// Mostly a policy selects few: then sets of all are slow.
    Few(Vec<usize>),
    Many(FixedBitSet),
}

impl Refused {
    fn of(subject: &FixedBitSet) -> Self {
        const FEW: usize = 64;
        if subject.count_ones(..) <= FEW { Self::Few(subject.ones().collect()) } else { Self::Many(subject.clone()) }
    }

    fn let_in(&mut self, set: &FixedBitSet) {
        match self {
            Self::Few(classes) => classes.retain(|at| !set.contains(*at)),
            Self::Many(classes) => classes.difference_with(set),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Few(classes) => classes.len(),
            Self::Many(classes) => classes.count_ones(..),
        }
    }

    fn into_list(self) -> Vec<usize> {
        match self {
            Self::Few(classes) => classes,
            Self::Many(classes) => classes.ones().collect(),
        }
    }
}

impl Shut {
    /// Adds the pairs of pods that a group refuses.
    fn add(&mut self, context: &Context<'_>, refused: Refused, others: &FixedBitSet, group: &Group) {
        let refused = refused.into_list();
        if refused.is_empty() {
            return;
        }
        let class = |at: usize| context.classes.get(at);
        let there: Vec<usize> = group.classes.ones().filter(|at| others.contains(*at)).collect();
        let pods = |list: &[usize]| list.iter().map(|at| class(*at).members).sum::<usize>();
        // No pair is a pod with itself.
        let same: usize =
            refused.iter().filter(|at| there.binary_search(at).is_ok()).map(|at| class(*at).members).sum();
        let pairs = pods(&refused) * pods(&there) - same;
        if pairs == 0 {
            return;
        }
        self.pairs += pairs;
        if self.example.is_some() {
            return;
        }
        let pair = refused.iter().find_map(|own| {
            let other = there.iter().find(|other| *other != own || class(*own).members > 1)?;
            let name = |at: usize| class(at).pod.id.to_string();
            let other = if own == other { format!("a pod like {}", name(*other)) } else { name(*other) };
            Some((name(*own), other))
        });
        let isolating = group.policies.iter().map(|at| &context.model.policies[*at]);
        let by = listed(isolating.filter(|policy| policy.rank.tier.isolates()).map(|policy| &policy.id));
        self.example = pair.map(|(own, other)| (own, other, by));
    }
}
