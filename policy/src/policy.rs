//! Policies of all kinds in one shape: a subject, and for each direction an ordered list of rules.

use std::cmp::Ordering;
use std::fmt;

use crate::label::Labels;
use crate::names::{Direction, PolicyRef, RuleRef};
use crate::namespace::Namespace;
use crate::peer::{Match, Peer, PodSet};
use crate::pod::Pod;
use crate::port::PortRule;

/// A policy that was understood, apart from single rules that say otherwise of themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub id: PolicyRef,
    /// When it is asked.
    pub rank: Rank,
    /// The pods it bears on.
    pub subject: PodSet,
    /// Absent where the policy does not speak of ingress.
    pub ingress: Option<Vec<Rule>>,
    /// Absent where the policy does not speak of egress.
    pub egress: Option<Vec<Rule>>,
}

/// A policy's place among those that bear on a pod: tiers in order, within one the lower order first, then by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Which tier.
    pub tier: Tier,
    /// `priority` of a ClusterNetworkPolicy, `order` of one of Calico's.
    pub order: Order,
}

/// Groups of policies, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// ClusterNetworkPolicy's Admin tier, and AdminNetworkPolicy.
    Admin,
    /// NetworkPolicy, and Calico's default tier, of which it is a part. Who is selected here and allowed by nothing is shut.
    NetworkPolicy,
    /// ClusterNetworkPolicy's Baseline tier, and BaselineAdminNetworkPolicy.
    Baseline,
}

/// A place within a tier: a number that is never NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Order(f64);

/// What one item of a policy's `ingress` or `egress` says of what one of its peers **and** one of its ports match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What becomes of it. NetworkPolicy's rules allow.
    pub action: Action,
    /// Empty: anyone.
    pub peers: Vec<Peer>,
    /// Empty: all protocols and ports.
    pub ports: Vec<PortRule>,
    /// What was not understood of it. Then it may match less than it says here, and may do something else.
    pub doubt: Option<String>,
    /// Where something was not understood: that this is only whom it includes besides `peers`. All else of it holds.
    pub may_include_others: bool,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Lets the connection pass, whatever the tiers behind say. The ClusterNetworkPolicy's word is `Accept`.
    Allow,
    /// Shuts it.
    Deny,
    /// Leaves it to the next tier.
    Pass,
}

/// A NetworkPolicy, or something that is likely a policy, that was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenPolicy {
    /// Its name.
    pub id: PolicyRef,
    /// The pods it may bear on.
    pub subject: PodSet,
    /// Whether it can isolate them for ingress.
    pub ingress: bool,
    /// Whether it can isolate them for egress.
    pub egress: bool,
    /// Whether it can take away what NetworkPolicies allow, as policies of other tiers can.
    pub overrides: bool,
    /// What was not understood.
    pub unknowns: Vec<String>,
}

impl Tier {
    /// All, in order.
    pub const ALL: [Self; 3] = [Self::Admin, Self::NetworkPolicy, Self::Baseline];

    /// Whether a pod that a policy of this tier selects is shut where no rule of the tier matches.
    pub fn isolates(self) -> bool {
        match self {
            Self::NetworkPolicy => true,
            Self::Admin | Self::Baseline => false,
        }
    }
}

impl Rank {
    /// That of NetworkPolicies.
    pub const NETWORK_POLICY: Self = Self { tier: Tier::NetworkPolicy, order: Order::NETWORK_POLICY };
}

impl Order {
    /// That of NetworkPolicies among Calico's policies.
    /// Source: Calico's documentation of its default tier, which takes NetworkPolicies in with order 1000.
    pub const NETWORK_POLICY: Self = Self(1000.0);
    /// Behind all that have a number.
    pub const LAST: Self = Self(f64::INFINITY);

    /// `None`: not a number.
    pub fn new(order: f64) -> Option<Self> {
        (!order.is_nan()).then_some(Self(order))
    }

    /// The number.
    pub fn number(self) -> f64 {
        self.0
    }
}

impl Policy {
    /// The rules of one direction; `None` where the policy does not bear on it.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }

    /// Whether all it can do besides isolating is to allow, as NetworkPolicies do.
    pub(crate) fn only_allows(&self) -> bool {
        self.rank == Rank::NETWORK_POLICY && self.all_rules().all(|rule| rule.action == Action::Allow)
    }

    /// Those of both directions.
    pub(crate) fn all_rules(&self) -> impl Iterator<Item = &Rule> {
        self.ingress.iter().chain(&self.egress).flatten()
    }

    /// Whether it bears on the pod.
    pub fn selects(&self, pod: &Pod, namespace: &Namespace) -> Match {
        self.subject.selects(pod, namespace)
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
    /// One that allows.
    pub fn allow(peers: Vec<Peer>, ports: Vec<PortRule>) -> Self {
        Self { action: Action::Allow, peers, ports, doubt: None, may_include_others: false }
    }

    /// One that matches no connection of TCP, UDP or SCTP, and keeps its place among the others.
    pub(crate) fn never(action: Action) -> Self {
        let nobody = Peer::nobody();
        Self { action, peers: vec![nobody], ports: Vec::new(), doubt: None, may_include_others: false }
    }

    /// What was not understood where that may be anything: whether it matches, and what it does.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.doubt.is_some() && !self.may_include_others
    }

    /// Whether it matches no connection at all.
    pub fn is_never(&self) -> bool {
        let is_empty = |peer: &Peer| matches!(peer, Peer::Block(block) if block.cidrs().is_empty());
        !self.may_include_others && !self.peers.is_empty() && self.peers.iter().all(is_empty)
    }

    /// Its peers with their indices, or once `None` where it names none.
    pub(crate) fn peer_slots(&self) -> impl Iterator<Item = (Option<usize>, Option<&Peer>)> {
        slots(&self.peers)
    }

    /// Its ports with their indices, or once `None` where it names none.
    pub(crate) fn port_slots(&self) -> impl Iterator<Item = (Option<usize>, Option<&PortRule>)> {
        slots(&self.ports)
    }
}

impl Eq for Order {}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allows",
            Self::Deny => "denies",
            Self::Pass => "passes",
        })
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "Admin",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Baseline => "Baseline",
        })
    }
}

/// Labels that Calico gives every pod and namespace, so that its selectors can ask for them.
pub(crate) mod calico {
    use super::Labels;

    /// On pods: their namespace.
    pub const NAMESPACE: &str = "projectcalico.org/namespace";
    /// On pods: what runs them.
    pub const ORCHESTRATOR: &str = "projectcalico.org/orchestrator";
    /// On pods: their service account.
    pub const SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";
    /// On namespaces: their name.
    pub const NAME: &str = "projectcalico.org/name";

    /// Sets a label, whatever the object itself says: else a pod could claim to be another.
    pub fn add(labels: &mut Labels, key: &str, value: &str) {
        labels.insert(key.to_owned(), value.to_owned());
    }
}

fn slots<T>(items: &[T]) -> impl Iterator<Item = (Option<usize>, Option<&T>)> {
    let any = items.is_empty().then_some((None, None));
    any.into_iter().chain(items.iter().enumerate().map(|(index, item)| (Some(index), Some(item))))
}

fn index(index: usize) -> u32 {
    u32::try_from(index).expect("a list of a manifest has fewer than 2^32 items")
}
