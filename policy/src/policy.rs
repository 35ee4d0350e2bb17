//! NetworkPolicies.

use crate::names::{Direction, PolicyRef, RuleRef};
use crate::peer::Peer;
use crate::port::PortRule;
use crate::selector::Selector;

/// A NetworkPolicy that was understood as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub id: PolicyRef,
    /// Its namespace, whose pods it can select.
    pub namespace: String,
    /// Which of them.
    pub selector: Selector,
    /// Absent where the policy does not speak of ingress.
    pub ingress: Option<Vec<Rule>>,
    /// Absent where the policy does not speak of egress.
    pub egress: Option<Vec<Rule>>,
}

/// Allows what one of its peers **and** one of its ports match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Empty: anyone.
    pub peers: Vec<Peer>,
    /// Empty: all protocols and ports.
    pub ports: Vec<PortRule>,
}

/// A policy, or something that is likely one, that was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenPolicy {
    /// Its name.
    pub id: PolicyRef,
    /// Where it can select; absent: in all namespaces.
    pub namespace: Option<String>,
    /// Which pods it can select.
    pub selector: Selector,
    /// Whether it can isolate them for ingress.
    pub ingress: bool,
    /// Whether it can isolate them for egress.
    pub egress: bool,
    /// Whether it can take away what NetworkPolicies allow, as policies of other tiers can.
    pub overrides: bool,
    /// What was not understood.
    pub unknowns: Vec<String>,
}

impl Policy {
    /// The rules of one direction; `None` where the policy does not isolate in it.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }

    /// Names one of its rules.
    pub(crate) fn rule_ref(
        &self,
        direction: Direction,
        rule: usize,
        peer: Option<usize>,
        port: Option<usize>,
    ) -> RuleRef {
        RuleRef { policy: self.id.clone(), direction, rule: index(rule), peer: peer.map(index), port: port.map(index) }
    }
}

impl BrokenPolicy {
    /// Whether it can isolate in this direction.
    pub fn can_isolate(&self, direction: Direction) -> bool {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }
}

impl Rule {
    /// Its peers with their indices, or once `None` where it names none.
    pub(crate) fn peer_slots(&self) -> impl Iterator<Item = (Option<usize>, Option<&Peer>)> {
        slots(&self.peers)
    }

    /// Its ports with their indices, or once `None` where it names none.
    pub(crate) fn port_slots(&self) -> impl Iterator<Item = (Option<usize>, Option<&PortRule>)> {
        slots(&self.ports)
    }
}

fn slots<T>(items: &[T]) -> impl Iterator<Item = (Option<usize>, Option<&T>)> {
    let any = items.is_empty().then_some((None, None));
    any.into_iter().chain(items.iter().enumerate().map(|(index, item)| (Some(index), Some(item))))
}

fn index(index: usize) -> u32 {
    u32::try_from(index).expect("a list of a manifest has fewer than 2^32 items")
}
