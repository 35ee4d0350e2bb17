//! What all rules look at.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fixedbitset::FixedBitSet;
use serde_json::Value;

use crate::model::{Model, Standing};
use crate::names::Direction;
use crate::policy::{Action, Policy, Rank, Rule};

use super::classes::Classes;
use super::raw::Raw;
use super::{Finding, RuleId};

/// The cluster, the manifests, and what is worked out once for all rules.
pub(super) struct Context<'a> {
    pub model: &'a Model,
    pub raw: Raw<'a>,
    pub classes: Classes<'a>,
    /// Whether all policies were understood, to the last rule.
    pub is_understood: bool,
    /// Whether policies that do more than allow stand among NetworkPolicies, so that the order of these matters.
    pub allowances_are_ordered: bool,
    /// By direction: classes that the same policies bear on.
    groups: [Vec<Group>; 2],
    /// By direction and class: its group.
    group_of: [Vec<usize>; 2],
    left_out: RefCell<BTreeMap<RuleId, usize>>,
}

/// Pods that the same policies bear on in one direction.
pub(super) struct Group {
    pub classes: FixedBitSet,
    /// Indices into [`Model::policies`], ascending.
    pub policies: Vec<usize>,
    /// Whether a policy of NetworkPolicy's tier selects them.
    pub is_isolated: bool,
    /// Whether something that was not understood bears on them.
    pub is_uncertain: bool,
}

/// One rule of a policy.
#[derive(Clone, Copy)]
pub(super) struct RuleAt<'a> {
    pub at: usize,
    pub policy: &'a Policy,
    pub direction: Direction,
    pub index: usize,
    pub rule: &'a Rule,
}

/// Steps of work that a rule of lint may still take.
pub(super) struct Budget {
    left: usize,
}

impl<'a> Context<'a> {
    pub fn new(objects: impl IntoIterator<Item = &'a Value>, model: &'a Model) -> Self {
        let raw = Raw::read(objects);
        let classes = Classes::new(model, &raw);
        let is_clear = |policy: &Arc<Policy>| policy.all_rules().all(|rule| rule.doubt.is_none());
        let is_among = |policy: &Arc<Policy>| policy.rank == Rank::NETWORK_POLICY && !policy.only_allows();
        let mut context = Self {
            is_understood: model.broken.is_empty() && model.policies.iter().all(is_clear),
            allowances_are_ordered: model.policies.iter().any(is_among),
            model,
            raw,
            classes,
            groups: [Vec::new(), Vec::new()],
            group_of: [Vec::new(), Vec::new()],
            left_out: RefCell::default(),
        };
        for direction in Direction::ALL {
            context.group(direction);
        }
        context
    }

    fn group(&mut self, direction: Direction) {
        let mut known: HashMap<(&Standing, bool), usize> = HashMap::new();
        let (mut groups, mut group_of): (Vec<Group>, Vec<usize>) = (Vec::new(), Vec::new());
        let all = self.classes.all();
        for (at, class) in self.classes.of(&all).enumerate() {
            let standing = self.model.standing(class.index, direction);
            let is_unknown = !self.model.unknowns_of(class.index).is_empty();
            let group = *known.entry((standing, is_unknown)).or_insert_with(|| {
                let isolating = |policy: &usize| self.model.policies[*policy].rank.tier.isolates();
                groups.push(Group {
                    classes: self.classes.none(),
                    policies: standing.policies.clone(),
                    is_isolated: standing.policies.iter().any(isolating),
                    is_uncertain: is_unknown
                        || !standing.uncertain.is_empty()
                        || !standing.unknowns.is_empty()
                        || !standing.overriding.is_empty(),
                });
                groups.len() - 1
            });
            groups[group].classes.insert(at);
            group_of.push(group);
        }
        self.groups[direction as usize] = groups;
        self.group_of[direction as usize] = group_of;
    }

    /// Classes that the same policies bear on.
    pub fn groups(&self, direction: Direction) -> &[Group] {
        &self.groups[direction as usize]
    }

    /// The groups that a set touches.
    pub fn groups_in(&self, set: &FixedBitSet, direction: Direction) -> impl Iterator<Item = &Group> {
        let mut seen = FixedBitSet::with_capacity(self.groups(direction).len());
        for class in set.ones() {
            seen.insert(self.group_of[direction as usize][class]);
        }
        seen.into_ones().map(move |group| &self.groups(direction)[group])
    }

    /// All policies in the order in which they are asked.
    pub fn policies(&self) -> impl Iterator<Item = &'a Policy> + use<'a> {
        let model: &'a Model = self.model;
        model.policies.iter().map(Arc::as_ref)
    }

    /// All rules in the order in which they are asked, without those that were not understood.
    pub fn rules(&self, direction: Direction) -> impl Iterator<Item = RuleAt<'a>> {
        self.policies().enumerate().flat_map(move |(at, policy)| {
            let rules = policy.rules(direction).unwrap_or_default().iter().enumerate();
            let rules = rules.map(move |(index, rule)| RuleAt { at, policy, direction, index, rule });
            rules.filter(|it| it.rule.doubt.is_none())
        })
    }

    /// The rules that let something pass, of these policies. One of Calico's that passes leads past the isolation.
    pub fn allowing<'p>(
        &self,
        policies: &'p [usize],
        direction: Direction,
    ) -> impl Iterator<Item = RuleAt<'a>> + use<'a, 'p> {
        let model: &'a Model = self.model;
        let rules = policies.iter().copied().flat_map(move |at| {
            let policy = &model.policies[at];
            let rules = policy.rules(direction).unwrap_or_default().iter().enumerate();
            rules.map(move |(index, rule)| RuleAt { at, policy, direction, index, rule })
        });
        rules.filter(|it| match it.rule.action {
            Action::Allow => true,
            Action::Pass => it.policy.rank.tier.isolates() || it.rule.doubt.is_some(),
            Action::Deny => it.rule.doubt.is_some(),
        })
    }

    /// Notes something that a rule of lint did not compare.
    pub fn leave_out(&self, rule: RuleId) {
        *self.left_out.borrow_mut().entry(rule).or_default() += 1;
    }

    /// Says what was left out.
    pub fn limits(&self, findings: &mut Vec<Finding>) {
        for (rule, count) in self.left_out.borrow().iter() {
            findings.push(Finding::new(
                RuleId::LimitReached,
                "lint",
                "",
                format!("{rule} has not looked at {count} rules: there is too much to compare them with"),
                "lint namespace by namespace, or fewer policies at a time".to_owned(),
            ));
        }
    }

    /// Whether there is a pod that labels can select.
    pub fn has_pods(&self) -> bool {
        !self.classes.is_empty()
    }

    /// The manifest of a NetworkPolicy.
    pub fn manifest(&self, policy: &Policy) -> Option<&'a Value> {
        if policy.id.kind != "NetworkPolicy" {
            return None;
        }
        self.raw.network_policies.get(&(policy.id.namespace.as_deref()?, policy.id.name.as_str())).copied()
    }
}

impl Budget {
    pub fn new(steps: usize) -> Self {
        Self { left: steps }
    }

    /// Whether there were as many steps left.
    pub fn take(&mut self, steps: usize) -> bool {
        let is_enough = self.left >= steps;
        self.left = self.left.saturating_sub(steps);
        is_enough
    }
}

/// `a`, `a and b`, `a, b and 3 more`.
pub(super) fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    const LISTED: usize = 3;
    let all: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match all.as_slice() {
        [one] => one.clone(),
        [first, second] => format!("{first} and {second}"),
        [a, b, c] => format!("{a}, {b} and {c}"),
        more => format!("{} and {} more", more[..LISTED.min(more.len())].join(", "), more.len().saturating_sub(LISTED)),
    }
}

/// `1 pod`, `2 pods`.
pub(super) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}
