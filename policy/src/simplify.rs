//! The same meaning with less to read.
//!
//! A NetworkPolicy only adds: for each pod and direction it isolates, and it allows the pairs of a peer and a port that its
//! rules name. What a set of policies means is, for each pod and direction, whether any isolates, and the union of those
//! pairs. Each rewrite that is on by default keeps both for every pod that there could be, since it argues from selectors,
//! blocks and ports alone, never from the pods at hand; [`Rewrite`] says how. The others go by the pods at hand and are to
//! be asked for. Either way the result is held against the policies before, pair by pair, on those pods.

mod addresses;
mod parts;
mod rules;
mod set;
mod within;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::analyze::{External, Link, Loopback, Place};
use crate::manifest;
use crate::model::Model;
use crate::names::{Family, PolicyRef};
use crate::policy::{Policy, Rank};
use crate::traffic::Traffic;
use crate::{analyze, peer::Match};
use set::Set;

/// What makes policies smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rewrite {
    /// A requirement that another one of its selector implies goes; several on one key become one.
    Selector,
    /// A peer that lies within another one of its rule goes, as does one that no labels can meet; two that differ in the
    /// values of one label become one.
    Peers,
    /// Blocks that make up one CIDR become it, with what is left out of both.
    Blocks,
    /// Ports that overlap or touch become one range; those within others go.
    Ports,
    /// A rule, or a peer or port of one, that another rule allows to all the same pods goes.
    Shadowed,
    /// Rules of one policy with equal peers or equal ports become one.
    Rules,
    /// Policies of one namespace with the same selector become one.
    Policies,
    /// A policy without rules goes, where others isolate all the pods it selects.
    Idle,
    /// A policy that selects none of the pods at hand goes. Not for every cluster: a pod may come.
    SelectsNothing,
    /// A peer that is none of the pods at hand goes. Not for every cluster: a pod may come.
    MatchesNothing,
}

/// What is done besides the rewrites that hold for every cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Some of [`Rewrite::SPECIFIC`].
    pub specific: BTreeSet<Rewrite>,
}

/// A smaller set with the same meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simplified {
    /// The policies that change: what to apply.
    pub changed: Vec<Changed>,
    /// Those that go, and why.
    pub deleted: Vec<(PolicyRef, String)>,
    /// Those that stay as they are.
    pub kept: Vec<PolicyRef>,
    /// All that was done, in order.
    pub steps: Vec<Step>,
}

/// One policy that is smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its name, which stays.
    pub object: PolicyRef,
    /// The policy as `kubectl apply` takes it.
    pub yaml: String,
    /// What was done to it, a line each.
    pub comment: String,
}

/// One rewrite that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub rewrite: Rewrite,
    /// On which policy.
    pub policy: PolicyRef,
    /// What it did, for people.
    pub what: String,
}

/// The result would not mean the same on the pods at hand: a fault of this module, which then changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simpler policies would not mean the same from {from} to {to}; nothing is changed, please report it")]
pub struct SimplifyError {
    /// The source of a connection that differs.
    pub from: String,
    /// Its destination.
    pub to: String,
}

impl Rewrite {
    /// Those that hold whatever pods and namespaces there are.
    pub const UNIVERSAL: [Self; 8] = [
        Self::Selector,
        Self::Peers,
        Self::Blocks,
        Self::Ports,
        Self::Shadowed,
        Self::Rules,
        Self::Policies,
        Self::Idle,
    ];

    /// Those that hold for the pods at hand.
    pub const SPECIFIC: [Self; 2] = [Self::SelectsNothing, Self::MatchesNothing];
}

impl Simplified {
    /// What to apply as one text, with comments; what to delete stands first, as commands in comments.
    pub fn yaml(&self) -> String {
        let mut text = String::new();
        for (policy, why) in &self.deleted {
            let namespace = policy.namespace.as_deref().unwrap_or_default();
            text += &format!("# kubectl delete networkpolicy --namespace {namespace} {}  # {why}\n", policy.name);
        }
        let documents = self.changed.iter().map(|it| (it.comment.as_str(), it.yaml.as_str()));
        text + &manifest::documents(documents)
    }
}

pub(crate) fn simplify(model: &Model, options: &Options) -> Result<Simplified, SimplifyError> {
    let (own, others): (Vec<&Arc<Policy>>, Vec<&Arc<Policy>>) =
        model.policies.iter().partition(|policy| policy.id.kind == "NetworkPolicy" && policy.only_allows());
    let mut set = Set::new(own.iter().map(|policy| Policy::clone(policy)).collect());
    // Another kind of policy that is asked among NetworkPolicies tells them apart by their names: each for itself, then.
    set.is_mixed = others.iter().any(|policy| policy.rank == Rank::NETWORK_POLICY);
    specific(model, options, &mut set);
    set.run();
    let mut after = model.with_policies(others.into_iter().cloned().chain(set.policies.iter().cloned().map(Arc::new)));
    // Where no address is known at all, the blocks of policies are what tells the family: that is no meaning of theirs.
    after.family = model.family;
    same(model, &after)?;

    let mut simplified = Simplified { changed: Vec::new(), deleted: set.deleted, kept: Vec::new(), steps: set.steps };
    for policy in &set.policies {
        let before = own.iter().find(|it| it.id == policy.id);
        match manifest::yaml(policy) {
            Some(yaml) if before.is_none_or(|before| before.as_ref() != policy) => {
                let steps = simplified.steps.iter().filter(|step| step.policy == policy.id);
                let comment = steps.map(|step| step.what.as_str()).collect::<Vec<_>>().join("\n");
                simplified.changed.push(Changed { object: policy.id.clone(), yaml, comment });
            }
            Some(_) | None => simplified.kept.push(policy.id.clone()),
        }
    }
    Ok(simplified)
}

/// What goes by the pods at hand.
fn specific(model: &Model, options: &Options, set: &mut Set) {
    let selects = |pods: &crate::peer::PodSet| {
        model.pods.iter().any(|pod| pods.selects(pod, model.namespace_of(pod)) != Match::No)
    };
    if options.specific.contains(&Rewrite::SelectsNothing) {
        set.delete_if(Rewrite::SelectsNothing, "it selects no pod", |policy| !selects(&policy.subject));
    }
    if options.specific.contains(&Rewrite::MatchesNothing) {
        set.drop_peers_if(Rewrite::MatchesNothing, "is no pod", |peer| peer.pods().is_some_and(|pods| !selects(pods)));
    }
}

/// Proof by comparison: all pairs of pods, a pod with itself by a Service's address, and all of the outside.
fn same(before: &Model, after: &Model) -> Result<(), SimplifyError> {
    let options = analyze::Options { loopback: Loopback::Policy, external: External::Omit };
    let (before, after) = (Arc::new(before.clone()), Arc::new(after.clone()));
    let of = |model| analyze::analyze(model, options).into_iter().flat_map(by_family);
    let (mut old, mut new) = (of(&before), of(&after));
    loop {
        let differs = match (old.next(), new.next()) {
            (None, None) => break,
            (Some(one), Some(other)) => (one != other).then_some(one),
            (one, other) => one.or(other),
        };
        if let Some((from, to, ..)) = differs {
            return Err(SimplifyError { from: from.to_string(), to: to.to_string() });
        }
    }
    set::same_outside(&before, &after)
}

/// What a link means for each family, without the reasons: policies that were put together may give the same for both families where
/// each gave its own.
fn by_family(link: Link) -> impl Iterator<Item = (Place, Place, Family, Traffic, Traffic)> {
    let families = link.family.map_or_else(|| vec![Family::V4, Family::V6], |family| vec![family]);
    let Link { from, to, reach, .. } = link;
    families
        .into_iter()
        .map(move |family| (from.clone(), to.clone(), family, reach.open.clone(), reach.unknown.clone()))
}
