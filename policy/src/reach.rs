//! What one end may reach at another: all ports of all protocols at once.
//!
//! It is what [`crate::judge`] says, port for port; a law in the tests holds the two together. Instead of one port it carries
//! the set of all ports that no rule has decided yet through the tiers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::cluster::{Party, Route};
use crate::judge::{self, End};
use crate::model::{Model, PodIndex, Standing};
use crate::names::{Direction, Family};
use crate::peer::{Counterpart, Match};
use crate::policy::{Action, Policy, Rule, Tier};
use crate::port::{NamedPorts, PortRule, Ports};
use crate::traffic::{PortSet, Traffic};

/// What one end may reach at another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reach {
    /// Certainly open.
    pub open: Traffic,
    /// Neither open nor shut: something that bears on it was not understood.
    pub unknown: Traffic,
    /// What was not understood.
    pub reasons: BTreeSet<String>,
}

impl Reach {
    /// Nothing is shut.
    pub(crate) fn everything() -> Self {
        Self { open: Traffic::all(), ..Self::default() }
    }

    /// Nothing can be said.
    fn nothing_known(reasons: impl IntoIterator<Item = String>) -> Self {
        Self { open: Traffic::default(), unknown: Traffic::all(), reasons: reasons.into_iter().collect() }
    }

    /// What both sides let pass. One side that is certainly shut is enough.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let open = self.open.intersection(&other.open);
        let maybe = self.open.union(&self.unknown).intersection(&other.open.union(&other.unknown));
        let unknown = maybe.difference(&open);
        let reasons =
            if unknown.is_empty() { BTreeSet::new() } else { self.reasons.union(&other.reasons).cloned().collect() };
        Self { open, unknown, reasons }
    }
}

/// What `from` may reach at `to`, by one family of addresses.
pub(crate) fn reach(model: &Model, from: &Party, to: &Party, route: Route, family: Option<Family>) -> Reach {
    let ends = (judge::end(model, from, to), judge::end(model, to, from));
    let (from, to) = match ends {
        (Ok(from), Ok(to)) => (from, to),
        (from, to) => return Reach::nothing_known([from.err(), to.err()].into_iter().flatten()),
    };
    let (from_address, to_address) = judge::addresses(&from, &to, family);
    let names = to.pod().map(|pod| &pod.ports);
    let side = |direction, subject: &End<'_>, other: &End<'_>, address| {
        one_side(model, direction, (subject, other), (address, family), names, route)
    };
    let egress: Reach = side(Direction::Egress, &from, &to, to_address);
    let ingress: Reach = side(Direction::Ingress, &to, &from, from_address);
    egress.and(&ingress)
}

/// What one side lets pass: an end's own policies, asked about the other end at its address.
pub(crate) fn one_side(
    model: &Model,
    direction: Direction,
    (subject, other): (&End<'_>, &End<'_>),
    (address, family): (Option<IpAddr>, Option<Family>),
    names: Option<&NamedPorts>,
    route: Route,
) -> Reach {
    match subject {
        End::Pod(index, _) => {
            let counterpart = other.counterpart(model, address, family);
            if judge::always_allowed(model, direction, *index, other, route).is_some() {
                return Reach::everything();
            }
            Question { model, direction, subject: *index, other, counterpart: &counterpart, names }.ask()
        }
        End::Host { .. } | End::Address(_) => Reach::everything(),
    }
}

/// One side's question.
struct Question<'a> {
    model: &'a Model,
    direction: Direction,
    subject: PodIndex,
    other: &'a End<'a>,
    counterpart: &'a Counterpart<'a>,
    /// What the destination calls its ports.
    names: Option<&'a NamedPorts>,
}

/// What the tiers have decided so far.
#[derive(Default)]
struct Decided {
    open: Traffic,
    /// Shut by a rule of the Admin tier.
    shut_first: Traffic,
    /// Shut by a rule of another tier.
    shut_by_rule: Traffic,
    /// Shut by isolation.
    shut_by_isolation: Traffic,
    /// What rules that are in doubt may do, with why.
    doubts: Vec<(Action, Traffic, String)>,
}

impl Question<'_> {
    fn ask(&self) -> Reach {
        let standing = self.model.standing(self.subject, self.direction);
        if !standing.overriding.is_empty() {
            return Reach::nothing_known(standing.overriding.iter().cloned());
        }
        let decided = self.decide(standing);
        let shut = decided.shut_first.union(&decided.shut_by_rule).union(&decided.shut_by_isolation);
        let mut unknown = Traffic::default();
        let mut reasons = BTreeSet::new();
        let mut add = |traffic: Traffic, why: &mut dyn Iterator<Item = String>| {
            if !traffic.is_empty() {
                unknown = unknown.union(&traffic);
                reasons.extend(why);
            }
        };
        for (action, traffic, why) in decided.doubts {
            let contradicted = match action {
                Action::Allow => traffic.intersection(&shut),
                Action::Deny => traffic.intersection(&decided.open),
                Action::Pass => traffic,
            };
            add(contradicted, &mut std::iter::once(why));
        }
        if !standing.unknowns.is_empty() {
            let shut = decided.shut_by_rule.union(&decided.shut_by_isolation);
            add(shut, &mut standing.unknowns.iter().cloned());
        }
        let mut unread = self.unread().peekable();
        if unread.peek().is_some() {
            add(decided.shut_by_isolation, &mut unread);
        }
        Reach { open: decided.open.difference(&unknown), unknown, reasons }
    }

    fn decide(&self, standing: &Standing) -> Decided {
        let is_isolated = standing.isolates(&self.model.policies);
        let mut decided = Decided::default();
        let mut undecided = Traffic::all();
        for tier in Tier::ALL {
            let mut passed = Traffic::default();
            let policies = standing.policies.iter().map(|index| &self.model.policies[*index]);
            for policy in policies.filter(|policy| policy.rank.tier == tier) {
                for rule in policy.rules(self.direction).unwrap_or_default() {
                    self.apply(policy, rule, &mut undecided, &mut passed, &mut decided);
                }
            }
            if tier.isolates() && is_isolated {
                decided.shut_by_isolation = std::mem::take(&mut undecided);
            }
            undecided = undecided.union(&passed);
        }
        decided.open = decided.open.union(&undecided);
        decided
    }

    fn apply(
        &self,
        policy: &Policy,
        rule: &Rule,
        undecided: &mut Traffic,
        passed: &mut Traffic,
        decided: &mut Decided,
    ) {
        if undecided.is_empty() {
            return;
        }
        let hit = self.traffic_of(rule).intersection(undecided);
        if hit.is_empty() {
            return;
        }
        let found = judge::any_peer(rule, self.counterpart);
        if found == Match::Yes && rule.doubt.is_none() {
            *undecided = undecided.difference(&hit);
            let whither = match (rule.action, policy.rank.tier) {
                (Action::Allow, _) => &mut decided.open,
                (Action::Deny, Tier::Admin) => &mut decided.shut_first,
                (Action::Deny, Tier::NetworkPolicy | Tier::Baseline) => &mut decided.shut_by_rule,
                (Action::Pass, _) => passed,
            };
            *whither = whither.union(&hit);
        } else if found != Match::No {
            let why = judge::why_in_doubt(self.model, policy, rule, self.other, self.counterpart);
            let actions = judge::doubtful_actions(rule);
            decided.doubts.extend(actions.iter().map(|action| (*action, hit.clone(), why.clone())));
        }
    }

    /// The ports of a rule, names resolved by the destination.
    fn traffic_of(&self, rule: &Rule) -> Traffic {
        if rule.ports.is_empty() {
            return Traffic::all();
        }
        rule.ports.iter().map(|port| traffic_of(port, self.names)).fold(Traffic::default(), |all, it| all.union(&it))
    }

    /// What was not understood of the two ends.
    fn unread(&self) -> impl Iterator<Item = String> {
        let other = match self.other {
            End::Pod(index, _) => self.model.unknowns_of(*index),
            End::Host { .. } | End::Address(_) => &[],
        };
        self.model.unknowns_of(self.subject).iter().chain(other).cloned()
    }
}

/// The ports that an item of a rule's `ports` means at a destination that calls its ports so.
pub(crate) fn traffic_of(port: &PortRule, names: Option<&NamedPorts>) -> Traffic {
    let ports = |protocol| match &port.ports {
        Ports::All => PortSet::all(),
        Ports::Range(range) => PortSet::range(range.bounds().0, range.bounds().1),
        Ports::Named(name) => {
            let numbers = names.into_iter().flat_map(|names| names.resolve(protocol, name));
            numbers.map(|number| (number, number)).collect()
        }
    };
    port.protocols().fold(Traffic::default(), |all, protocol| all.union(&Traffic::of(protocol, ports(protocol))))
}

/// The families by which two parties can connect.
pub(crate) fn families(model: &Model, from: &Party, to: &Party) -> Vec<Option<Family>> {
    match (judge::end(model, from, to), judge::end(model, to, from)) {
        (Ok(from), Ok(to)) => common_families(from.addresses(), to.addresses()),
        (Err(_), _) | (_, Err(_)) => vec![None],
    }
}

/// The families by which two ends can connect; none at all where their addresses have none in common. `None` stands for
/// "whichever": an end has no known address.
pub(crate) fn common_families(from: &[IpAddr], to: &[IpAddr]) -> Vec<Option<Family>> {
    if from.is_empty() || to.is_empty() {
        return vec![None];
    }
    let of = |addresses: &[IpAddr]| addresses.iter().copied().map(Family::of).collect::<BTreeSet<_>>();
    of(from).intersection(&of(to)).copied().map(Some).collect()
}
