//! Whose turn it is: the order of the policies that bear on a pod, as far as anyone knows it.
//!
//! Two ClusterNetworkPolicies of one tier and one priority may be asked in any order: the API leaves it open. What then
//! becomes of a connection is any of what those of them say that match it: each of them may be the first. Between Calico's policies and
//! NetworkPolicies of one order it goes by their names, which its versions write in two ways: where these differ there are two orders.

use std::cmp::Ordering;

use crate::names::{Direction, PolicyRef};
use crate::parse::calico;
use crate::policy::{Policy, Tier};

/// Policies that are asked at one time, by their places in the list that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub tier: Tier,
    /// Each is asked in order, and the first policy of it that matches has its say. More than one: nobody knows which of
    /// them is asked first.
    pub strands: Vec<Vec<usize>>,
}

impl Turn {
    /// Its policies where their order is known.
    pub(crate) fn only(&self) -> Option<&[usize]> {
        match self.strands.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }
}

/// The turns of policies that are in the order of their ranks, for one direction. Policies whose order changes nothing are
/// in one strand.
pub(crate) fn turns<'p>(policies: impl IntoIterator<Item = &'p Policy>, direction: Direction) -> Vec<Turn> {
    let policies: Vec<&Policy> = policies.into_iter().collect();
    let mut turns: Vec<Turn> = Vec::new();
    let mut first = 0;
    for equals in policies.chunk_by(|a, b| a.rank == b.rank) {
        let places = first..first + equals.len();
        first = places.end;
        let tier = equals[0].rank.tier;
        let strands = strands(equals, places.start, direction).unwrap_or_else(|| vec![places.collect()]);
        match (turns.last_mut(), strands.as_slice()) {
            (Some(Turn { tier: last, strands: known }), [only]) if *last == tier && known.len() == 1 => {
                known[0].extend(only);
            }
            (_, _) => turns.push(Turn { tier, strands }),
        }
    }
    turns
}

/// Says that two policies contradict each other and nobody knows which comes first.
pub(crate) fn contradiction(a: &Policy, b: &Policy) -> String {
    let (field, why) = if by_name(&a.id) && by_name(&b.id) {
        ("order", "Calico's versions differ in which of them is asked first")
    } else {
        ("priority", "the API leaves open which of them is asked first")
    };
    // A NetworkPolicy has no field for it.
    let (one, other) = if b.id.kind == "NetworkPolicy" { (b, a) } else { (a, b) };
    format!("{}: spec.{field}: is the same as that of {}, which contradicts it, and {why}", other.id, one.id)
}

/// Several, or `None` where the order of these equals is known or changes nothing.
fn strands(equals: &[&Policy], first: usize, direction: Direction) -> Option<Vec<Vec<usize>>> {
    if equals.len() == 1 || all_do_the_same(equals, direction) {
        return None;
    }
    let mut named: Vec<usize> = (0..equals.len()).filter(|at| by_name(&equals[*at].id)).collect();
    let others = (0..equals.len()).filter(|at| !by_name(&equals[*at].id)).map(|at| vec![at]);
    let mut strands: Vec<Vec<usize>> = others.collect();
    if !named.is_empty() {
        strands.push(named.clone());
        named.sort_by(|a, b| older(&equals[*a].id, &equals[*b].id));
        if !named.is_sorted() {
            strands.push(named);
        }
    }
    strands.iter_mut().flatten().for_each(|at| *at += first);
    (strands.len() > 1).then_some(strands)
}

/// Whether all rules of theirs have one action. Then it does not matter which of them comes first.
fn all_do_the_same(policies: &[&Policy], direction: Direction) -> bool {
    let mut rules = policies.iter().flat_map(|policy| policy.rules(direction).unwrap_or_default());
    let Some(first) = rules.next() else { return true };
    first.doubt.is_none() && rules.all(|rule| rule.doubt.is_none() && rule.action == first.action)
}

/// Whether Calico says how the policy stands to others of the same order, being one of its own or a NetworkPolicy.
fn by_name(id: &PolicyRef) -> bool {
    calico::is_calico(id.kind) || id.kind == "NetworkPolicy"
}

/// The order of Calico's versions before 3.31, where [`calico::tie`] is that of the later ones. Source: `PolKVLess` in
/// `felix/calc/policy_sorter.go` compared names alone then, and these held namespace and tier, and for a NetworkPolicy `knp`.
/// The API's comment on `order` says no more than that it goes by the policy's "Name".
fn older(a: &PolicyRef, b: &PolicyRef) -> Ordering {
    let key = |id: &PolicyRef| {
        let of_kubernetes = if calico::is_calico(id.kind) { "" } else { "knp." };
        let namespace = id.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        format!("{namespace}{of_kubernetes}default.{}", id.name)
    };
    key(a).cmp(&key(b))
}
