//! All policies of a cluster while they are made fewer.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{Rewrite, SimplifyError, Step, parts, rules, within};
use crate::analyze;
use crate::cluster::{Party, Route};
use crate::model::Model;
use crate::names::{Direction, Family, PolicyRef};
use crate::peer::Peer;
use crate::policy::{Policy, Rule};
use crate::reach;

/// NetworkPolicies, and what was done to them.
pub(super) struct Set {
    pub policies: Vec<Policy>,
    pub deleted: Vec<(PolicyRef, String)>,
    pub steps: Vec<Step>,
    /// Whether each policy must be left to itself.
    pub is_mixed: bool,
}

impl Set {
    pub(super) fn new(policies: Vec<Policy>) -> Self {
        Self { policies, deleted: Vec::new(), steps: Vec::new(), is_mixed: false }
    }

    /// Until nothing can be done any more. Each step leaves fewer requirements, peers, ports, exceptions, rules or
    /// policies, so that it ends.
    pub(super) fn run(&mut self) {
        loop {
            let mut is_changed = self.each();
            if !self.is_mixed {
                is_changed |= self.merge() || self.shadow() || self.drop_idle();
            }
            if !is_changed {
                return;
            }
        }
    }

    pub(super) fn delete_if(&mut self, rewrite: Rewrite, why: &str, is_gone: impl Fn(&Policy) -> bool) {
        let (gone, kept) = std::mem::take(&mut self.policies).into_iter().partition(is_gone);
        self.policies = kept;
        for policy in gone {
            self.delete(rewrite, policy.id, why.to_owned());
        }
    }

    pub(super) fn drop_peers_if(&mut self, rewrite: Rewrite, why: &str, is_gone: impl Fn(&Peer) -> bool) {
        for policy in &mut self.policies {
            let id = policy.id.clone();
            for (direction, rules) in directions(policy) {
                for at in (0..rules.len()).rev() {
                    let rule = &mut rules[at];
                    let gone: Vec<Peer> = rule.peers.extract_if(.., |peer| is_gone(peer)).collect();
                    for peer in &gone {
                        let what = format!("{direction} rule {at}: {peer} {why}");
                        self.steps.push(Step { rewrite, policy: id.clone(), what });
                    }
                    if !gone.is_empty() && rule.peers.is_empty() {
                        rules.remove(at);
                    }
                }
            }
        }
    }

    fn delete(&mut self, rewrite: Rewrite, policy: PolicyRef, why: String) {
        self.steps.push(Step { rewrite, policy: policy.clone(), what: format!("goes: {why}") });
        self.deleted.push((policy, why));
    }

    /// Each policy for itself.
    fn each(&mut self) -> bool {
        let before = self.steps.len();
        for policy in &mut self.policies {
            let id = policy.id.clone();
            let whom = policy.subject.to_string();
            if parts::pod_set(&mut policy.subject) {
                let what = format!("selects {}, which is {whom}", policy.subject);
                self.steps.push(Step { rewrite: Rewrite::Selector, policy: id.clone(), what });
            }
            for (direction, list) in directions(policy) {
                while let Some((rewrite, what)) = rules::rules(list) {
                    self.steps.push(Step { rewrite, policy: id.clone(), what: format!("{direction} {what}") });
                }
            }
        }
        self.steps.len() > before
    }

    /// Policies with the same subject become the first of them.
    fn merge(&mut self) -> bool {
        let before = self.policies.len();
        let mut at = 0;
        while at < self.policies.len() {
            let mut other = at + 1;
            while other < self.policies.len() {
                if self.policies[at].subject != self.policies[other].subject {
                    other += 1;
                    continue;
                }
                let gone = self.policies.remove(other);
                let kept = &mut self.policies[at];
                for (own, more) in [(&mut kept.ingress, gone.ingress), (&mut kept.egress, gone.egress)] {
                    if let Some(more) = more {
                        own.get_or_insert_default().extend(more);
                    }
                }
                let (id, whom) = (kept.id.clone(), kept.subject.to_string());
                let what = format!("takes in {}, which selects {whom}, too", gone.id);
                self.steps.push(Step { rewrite: Rewrite::Policies, policy: id.clone(), what });
                self.delete(Rewrite::Policies, gone.id, format!("merged into {id}"));
            }
            at += 1;
        }
        self.policies.len() < before
    }

    /// What a rule allows that another one allows to at least the same pods.
    fn shadow(&mut self) -> bool {
        let before = self.steps.len();
        for at in (0..self.policies.len()).rev() {
            let outers: Vec<usize> = (0..self.policies.len())
                .filter(|other| within::pods(&self.policies[at].subject, &self.policies[*other].subject))
                .collect();
            for direction in Direction::ALL {
                self.shadow_rules(at, &outers, direction);
            }
        }
        self.steps.len() > before
    }

    fn shadow_rules(&mut self, at: usize, outers: &[usize], direction: Direction) {
        let count = self.policies[at].rules(direction).map_or(0, <[Rule]>::len);
        for index in (0..count).rev() {
            let mut rule = self.policies[at].rules(direction).unwrap_or_default()[index].clone();
            let mut is_gone = false;
            for other in outers {
                for (beside, outer) in self.policies[*other].rules(direction).unwrap_or_default().iter().enumerate() {
                    if (*other, beside) == (at, index) {
                        continue;
                    }
                    while let (false, Some((what, all))) = (is_gone, rules::shadow(&mut rule, outer)) {
                        let by = format!("{direction} rule {beside} of {}", self.policies[*other].id);
                        let what = format!("{direction} rule {index}: {what} is allowed by {by}");
                        let policy = self.policies[at].id.clone();
                        self.steps.push(Step { rewrite: Rewrite::Shadowed, policy, what });
                        is_gone = all;
                    }
                }
            }
            let rules = match direction {
                Direction::Ingress => &mut self.policies[at].ingress,
                Direction::Egress => &mut self.policies[at].egress,
            };
            let Some(rules) = rules else { continue };
            if is_gone {
                rules.remove(index);
            } else {
                rules[index] = rule;
            }
        }
    }

    /// Policies that neither allow anything nor isolate anyone whom others do not.
    fn drop_idle(&mut self) -> bool {
        let before = self.policies.len();
        let mut at = self.policies.len();
        while at > 0 {
            at -= 1;
            let policy = &self.policies[at];
            let isolates_already = |direction| {
                let mut others = self.policies.iter().enumerate().filter(|(other, _)| *other != at);
                others.any(|(_, it)| it.rules(direction).is_some() && within::pods(&policy.subject, &it.subject))
            };
            let is_idle = Direction::ALL.into_iter().all(|direction| match policy.rules(direction) {
                None => true,
                Some(rules) => rules.is_empty() && isolates_already(direction),
            });
            if is_idle {
                let gone = self.policies.remove(at);
                self.delete(Rewrite::Idle, gone.id, "others isolate all pods that it selects".to_owned());
            }
        }
        self.policies.len() < before
    }
}

fn directions(policy: &mut Policy) -> impl Iterator<Item = (Direction, &mut Vec<Rule>)> {
    let ingress = policy.ingress.as_mut().map(|rules| (Direction::Ingress, rules));
    ingress.into_iter().chain(policy.egress.as_mut().map(|rules| (Direction::Egress, rules)))
}

/// Whether all pods may reach, and be reached by, the same addresses outside: cut by the policies of both.
pub(super) fn same_outside(before: &Model, after: &Model) -> Result<(), SimplifyError> {
    let policies = before.policies.iter().chain(&after.policies);
    let blocks = policies.flat_map(|policy| policy.all_rules()).flat_map(|rule| &rule.peers).filter_map(Peer::block);
    let prefixes: BTreeSet<IpNet> = blocks.flat_map(|block| block.prefixes()).collect();
    for family in [Family::V4, Family::V6] {
        for range in analyze::cut(family, &prefixes) {
            let outside = Party::Address(range.sample(before));
            for pod in before.pods.iter() {
                let own = Party::Pod(pod.id.clone());
                for (from, to) in [(&own, &outside), (&outside, &own)] {
                    let reach = |model: &Model| {
                        let reach = reach::reach(model, from, to, Route::Direct, Some(family));
                        (reach.open, reach.unknown)
                    };
                    if reach(before) != reach(after) {
                        return Err(SimplifyError { from: pod.id.to_string(), to: range.to_string() });
                    }
                }
            }
        }
    }
    Ok(())
}
