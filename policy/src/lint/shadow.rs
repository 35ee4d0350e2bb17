//! Rules and items that add nothing, because another one already says so. By what they say, not by what pods there happen
//! to be: what is found here holds whatever the cluster becomes.

use std::cell::OnceCell;
use std::collections::HashMap;

use crate::names::Direction;
use crate::peer::{Match, Namespaces, PodSet};
use crate::policy::{Action, Policy, Rule, Tier};

use super::context::{Budget, Context, RuleAt};
use super::{Finding, RuleId, inclusion, path};

/// How many pairs of rules are compared.
const PAIRS: usize = 4_000_000;

pub(super) fn check(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let mut budget = Budget::new(PAIRS);
    let duplicates = duplicates(context, findings);
    for direction in Direction::ALL {
        let rules: Vec<RuleAt<'_>> = context.rules(direction).filter(|at| !duplicates.contains_key(&at.at)).collect();
        let index = Index::new(context, &rules);
        for (number, at) in rules.iter().enumerate() {
            items(*at, findings);
            match index.find(number, &mut budget) {
                Ok(Some(other)) => findings.push(finding(*at, *other)),
                Ok(None) => {}
                Err(Spent) => context.leave_out(RuleId::ShadowedRule),
            }
        }
    }
}

/// There are more rules than are compared.
struct Spent;

/// Rules by whom they bear on.
struct Index<'r, 'a> {
    context: &'r Context<'a>,
    rules: &'r [RuleAt<'a>],
    /// Indices into `rules` by subject, for subjects of one namespace by its name.
    near: HashMap<&'a str, Vec<(&'a PodSet, Vec<usize>)>>,
    /// The same for subjects of several.
    anywhere: Vec<(&'a PodSet, Vec<usize>)>,
    /// Rules of the Admin tier that do not deny.
    not_denying: Vec<usize>,
}

impl<'r, 'a> Index<'r, 'a> {
    fn new(context: &'r Context<'a>, rules: &'r [RuleAt<'a>]) -> Self {
        let mut by_subject: HashMap<&'a PodSet, Vec<usize>> = HashMap::new();
        let mut subjects = Vec::new();
        for (number, at) in rules.iter().enumerate() {
            let subject = &at.policy.subject;
            by_subject
                .entry(subject)
                .or_insert_with(|| {
                    subjects.push(subject);
                    Vec::new()
                })
                .push(number);
        }
        let is_exception = |at: &RuleAt<'_>| at.policy.rank.tier == Tier::Admin && at.rule.action != Action::Deny;
        let not_denying = (0..rules.len()).filter(|number| is_exception(&rules[*number])).collect();
        let mut index = Self { context, rules, near: HashMap::new(), anywhere: Vec::new(), not_denying };
        for subject in subjects {
            let rules = by_subject.remove(subject).unwrap_or_default();
            match &subject.namespaces {
                Namespaces::Own(name) => index.near.entry(name).or_default().push((subject, rules)),
                Namespaces::Selected(_) => index.anywhere.push((subject, rules)),
            }
        }
        index
    }

    /// The first rule that decides all that this one would.
    fn find(&self, number: usize, budget: &mut Budget) -> Result<Option<&RuleAt<'a>>, Spent> {
        let at = &self.rules[number];
        let subject = &at.policy.subject;
        let near = match &subject.namespaces {
            Namespaces::Own(name) => self.near.get(name.as_str()).map_or(&[][..], Vec::as_slice),
            Namespaces::Selected(_) => &[],
        };
        let mut best: Option<usize> = None;
        let contradicted = OnceCell::new();
        for (outer, others) in near.iter().chain(&self.anywhere) {
            if !budget.take(1) {
                return Err(Spent);
            }
            if !inclusion::pods(subject, outer) {
                continue;
            }
            for other in others.iter().filter(|other| **other != number) {
                if !budget.take(1) {
                    return Err(Spent);
                }
                if best.is_none_or(|best| *other < best) && self.decides(*other, number, &contradicted) {
                    best = Some(*other);
                }
            }
        }
        Ok(best.map(|best| &self.rules[best]))
    }

    /// Whether one rule leaves nothing to another, given that it bears on all that the other bears on. `contradicted`: see
    /// [`Self::is_contradicted`], found at most once.
    fn decides(&self, by: usize, number: usize, contradicted: &OnceCell<bool>) -> bool {
        let (own, other) = (&self.rules[number], &self.rules[by]);
        if !inclusion::rule(own.rule, other.rule) {
            return false;
        }
        if other.policy.rank.tier != own.policy.rank.tier {
            // Only what denies in a tier before is the end of an allowance: another allowance there is the same. What
            // comes behind NetworkPolicies' tier is looked at in `order`.
            return other.policy.rank.tier == Tier::Admin
                && other.rule.action == Action::Deny
                && own.rule.action == Action::Allow
                && self.context.is_understood
                && !self.is_forestalled(by, number);
        }
        if own.policy.only_allows() && other.policy.only_allows() {
            // Without an order. Of two that say the same, the first one stays.
            let is_mutual =
                || inclusion::pods(&other.policy.subject, &own.policy.subject) && inclusion::rule(other.rule, own.rule);
            return by < number || !is_mutual() && !self.context.allowances_are_ordered;
        }
        // SEMANTICS 23: of one priority either may come first, and which does matters unless all do the same. Calico's ties are
        // broken by name.
        let is_tied = own.policy.rank == other.policy.rank && own.at != other.at;
        let is_open = is_tied && own.policy.rank.tier != Tier::NetworkPolicy;
        by < number && !(is_open && *contradicted.get_or_init(|| self.is_contradicted(number)))
    }

    /// Whether some rule of the same priority does otherwise with what this one may match: that the others agree with it as things
    /// stand may then be its doing, or of no use to it.
    fn is_contradicted(&self, number: usize) -> bool {
        let own = &self.rules[number];
        let first = self.rules[..number].partition_point(|before| before.policy.rank < own.policy.rank);
        let mut equals = self.rules[first..].iter().take_while(|equal| equal.policy.rank == own.policy.rank);
        equals.any(|equal| {
            equal.rule.action != own.rule.action
                && inclusion::ports_meet(&equal.rule.ports, &own.rule.ports) != Match::No
        })
    }

    /// Whether a rule before `by`, of its tier, may decide some of what `number` matches.
    fn is_forestalled(&self, by: usize, number: usize) -> bool {
        let (own, by) = (self.rules[number].rule, self.rules[by]);
        // Of one priority either may come first.
        let is_before = |before: &RuleAt<'_>| {
            before.policy.rank < by.policy.rank
                || before.policy.rank == by.policy.rank && (before.at != by.at || before.index < by.index)
        };
        self.not_denying
            .iter()
            .map(|at| &self.rules[*at])
            .any(|before| is_before(before) && inclusion::ports_meet(&before.rule.ports, &own.ports) != Match::No)
    }
}

fn finding(own: RuleAt<'_>, other: RuleAt<'_>) -> Finding {
    let place = if own.at == other.at {
        format!("{} of the same policy", other.path())
    } else {
        format!("{} of {}", other.path(), other.policy.id)
    };
    let does = |action: Action| match action {
        Action::Allow => "allows",
        Action::Deny => "denies",
        Action::Pass => "leaves to the next tier",
    };
    if own.policy.rank.tier != other.policy.rank.tier {
        return Finding::new(
            RuleId::Overruled,
            &own.policy.id,
            own.path(),
            format!(
                "{place} denies all that this rule allows, and the {} tier is asked first: the rule opens nothing",
                other.policy.rank.tier
            ),
            format!(
                "delete the rule, or let an earlier rule of the {} tier pass what must stay open",
                other.policy.rank.tier
            ),
        );
    }
    if own.rule.action == other.rule.action {
        return Finding::new(
            RuleId::ShadowedRule,
            &own.policy.id,
            own.path(),
            format!(
                "{place} already {} all that this rule matches: it narrows nothing and adds nothing",
                does(own.rule.action)
            ),
            "delete this rule, or narrow the other one if this was meant as the limit".to_owned(),
        );
    }
    Finding::new(
        RuleId::UnreachableRule,
        &own.policy.id,
        own.path(),
        format!(
            "{place} comes first and {} all that this rule {}: it is never reached",
            does(other.rule.action),
            does(own.rule.action)
        ),
        "move this rule before the other one, or delete it".to_owned(),
    )
}

/// Items of a rule's lists that another item of the list holds.
fn items(at: RuleAt<'_>, findings: &mut Vec<Finding>) {
    /// Lists that are longer are made by machines, which do not read findings.
    const LONGEST: usize = 200;
    let Rule { peers, ports, .. } = at.rule;
    let mut redundant = |path: String, item: &dyn std::fmt::Display, holder: &dyn std::fmt::Display, other: usize| {
        findings.push(Finding::new(
            RuleId::RedundantItem,
            &at.policy.id,
            path,
            format!("{item} is already in item {other} of the list: {holder}"),
            "delete this item, or narrow the other one if this was meant as the limit".to_owned(),
        ));
    };
    let of = |length: usize| 0..length.min(LONGEST);
    for own in of(peers.len()) {
        let holds = |other: &usize| {
            *other != own
                && inclusion::peer(&peers[own], &peers[*other])
                && (*other < own || !inclusion::peer(&peers[*other], &peers[own]))
        };
        if let Some(other) = of(peers.len()).find(holds) {
            redundant(at.peer_path(Some(own)), &peers[own], &peers[other], other);
        }
    }
    for own in of(ports.len()) {
        let one = |index: usize| std::slice::from_ref(&ports[index]);
        let holds = |other: &usize| {
            *other != own
                && inclusion::ports(one(own), one(*other))
                && (*other < own || !inclusion::ports(one(*other), one(own)))
        };
        if let Some(other) = of(ports.len()).find(holds) {
            redundant(at.port_path(Some(own)), &ports[own], &ports[other], other);
        }
    }
}

/// Policies that say the same as another one: by index, the other one's index.
fn duplicates(context: &Context<'_>, findings: &mut Vec<Finding>) -> HashMap<usize, usize> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut duplicates = HashMap::new();
    for (at, policy) in context.model.policies.iter().enumerate() {
        if policy.all_rules().any(|rule| rule.doubt.is_some()) {
            continue;
        }
        let first = *seen.entry(meaning(policy)).or_insert(at);
        if first == at {
            continue;
        }
        duplicates.insert(at, first);
        findings.push(Finding::new(
            RuleId::DuplicatePolicy,
            &policy.id,
            path::subject(policy),
            format!(
                "{} selects the same pods and has the same rules: a change to one of the two alone will not do what it says",
                context.model.policies[first].id
            ),
            "delete one of them".to_owned(),
        ));
    }
    duplicates
}

/// What a policy says, without its name. Where the order of rules does not matter, in one order.
fn meaning(policy: &Policy) -> String {
    let sides = Direction::ALL.map(|direction| {
        policy.rules(direction).map(|rules| {
            let mut rules: Vec<String> = rules
                .iter()
                .map(|rule| {
                    let (mut peers, mut ports): (Vec<_>, Vec<_>) = (rule.peers.clone(), rule.ports.clone());
                    peers.sort_unstable();
                    ports.sort_unstable();
                    format!("{:?} {peers:?} {ports:?}", rule.action)
                })
                .collect();
            if policy.only_allows() {
                rules.sort_unstable();
            }
            rules
        })
    });
    format!("{:?} {:?} {sides:?}", policy.rank, policy.subject)
}
