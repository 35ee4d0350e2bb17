//! Ways to open a side that a rule of a ClusterNetworkPolicy, or of one of its ancestors, has shut. No NetworkPolicy can:
//! the first rule that matches decides, so that one in front of it must accept.

use std::sync::Arc;

use super::candidate::{Candidate, Edit, Question};
use crate::choice;
use crate::label::NAMESPACE_NAME;
use crate::manifest;
use crate::names::{Direction, PolicyRef, RuleRef};
use crate::peer::{Namespaces, Peer, PodSet};
use crate::policy::{Order, Policy, Rank, Rule};

/// The largest number of rules that the API takes in one direction.
const MAX_RULES: usize = 25;

/// An error says what cannot be patched.
pub(super) fn candidates(question: &Question<'_>, rule: &RuleRef) -> Result<Vec<Candidate>, String> {
    let id = &rule.policy;
    let Some(policy) = question.model.policies.iter().find(|it| it.id == *id) else {
        return Err(format!("{id}: denies it, and is not among the policies"));
    };
    let peer = question.peer(None)?;
    let allow = Rule::allow(vec![peer.clone()], vec![question.port()]);
    let at = rule.rule as usize;
    let mut candidates: Vec<Candidate> = Vec::new();
    candidates.extend(create(question, policy, &allow, &peer));
    if policy.rules(question.direction).unwrap_or_default().len() < MAX_RULES {
        let direction = question.direction;
        let edit = Edit::Insert { policy: id.clone(), direction, at, rule: allow };
        let what = format!(
            "gets a rule in front of spec.{direction}[{at}] that accepts {} {}",
            question.preposition(),
            question.described(&peer)
        );
        candidates.extend(question.change(policy, edit, &what));
    }
    if candidates.is_empty() {
        let why = match (&peer, question.direction) {
            (Peer::Block(_), Direction::Ingress) => "whose ingress rules cannot name addresses",
            _ => "which no patch can be written for",
        };
        return Err(format!(
            "{id}: spec.{}[{at}] denies it, {why}; a NetworkPolicy cannot open it",
            question.direction
        ));
    }
    Ok(candidates)
}

/// A policy for this pod alone that is asked before.
fn create(question: &Question<'_>, policy: &Policy, allow: &Rule, peer: &Peer) -> Option<Candidate> {
    // There is but one of them.
    if policy.id.kind == "BaselineAdminNetworkPolicy" {
        return None;
    }
    let rank = before(question, policy)?;
    let pod = question.pod();
    let namespace = question.model.namespace_of(pod);
    let name = namespace.labels.get(NAMESPACE_NAME).map_or(namespace.name.as_str(), String::as_str);
    let pods = super::candidate::telling(question.model, pod, &[]);
    let subject = PodSet { namespaces: Namespaces::Selected(choice::namespace(name)), pods };
    let (own, preposition) = (choice::called(pod), question.preposition());
    let name = choice::object_name(&format!(
        "{own}-accept-{preposition}-{}-{}",
        question.connection.protocol, question.connection.port
    ));
    let is_taken = |name: &str| {
        let all = question.model.policies.iter().map(|it| &it.id).chain(question.model.broken.iter().map(|it| &it.id));
        all.into_iter().any(|id| id.kind == policy.id.kind && id.name == name)
    };
    let id = PolicyRef { kind: policy.id.kind, namespace: None, name: choice::free_name(&name, is_taken) };
    let summary =
        format!("new {id}, asked before {}: accepts {subject} {preposition} {}", policy.id, question.described(peer));
    let rules = Some(vec![allow.clone()]);
    let (ingress, egress) = match question.direction {
        Direction::Ingress => (rules, None),
        Direction::Egress => (None, rules),
    };
    let policy = Policy { id, rank, subject, ingress, egress };
    let lines = manifest::yaml(&policy)?.lines().count();
    Some(Candidate { edit: Edit::Create(Arc::new(policy)), summary, lines })
}

/// The last priority before the policy's that no other policy of its tier has.
fn before(question: &Question<'_>, policy: &Policy) -> Option<Rank> {
    let tier = policy.rank.tier;
    let taken = |order: Order| question.model.policies.iter().any(|it| it.rank == Rank { tier, order });
    let mut number = policy.rank.order.number() - 1.0;
    while number >= 0.0 {
        let order = Order::new(number)?;
        if !taken(order) {
            return Some(Rank { tier, order });
        }
        number -= 1.0;
    }
    None
}
