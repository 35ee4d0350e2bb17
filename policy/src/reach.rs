//! What one end may reach at another: all ports of all protocols at once.
//!
//! It is what [`crate::judge`] says, port for port; a law in the tests holds the two together. Instead of one port it carries
//! the set of all ports that no rule has decided yet through the tiers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::cluster::{Party, Route};
use crate::judge::{self, Always, End};
use crate::model::{Model, PodIndex, Standing};
use crate::names::{Direction, Family};
use crate::peer::{Counterpart, Match};
use crate::policy::{Action, Policy, Rule, Tier};
use crate::port::{NamedPorts, PortRule, Ports};
use crate::traffic::{PortSet, Traffic};
use crate::turns::{Turn, contradiction};

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

    /// What is the same in both; what is not is unknown, and why.
    fn alike(&self, other: &Self, why: String) -> Self {
        let open = self.open.intersection(&other.open);
        let all = [&self.open, &self.unknown, &other.open, &other.unknown];
        let all = all.into_iter().fold(Traffic::default(), |all, traffic| all.union(traffic));
        let differs = self.open.union(&other.open).difference(&open);
        let mut reasons: BTreeSet<String> = self.reasons.union(&other.reasons).cloned().collect();
        if !differs.is_empty() || self.unknown != other.unknown {
            reasons.insert(why);
        }
        Self { unknown: all.difference(&open), open, reasons }
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
    let parties = (from, to);
    let ends = (judge::end(model, from, to), judge::end(model, to, from));
    let (from, to) = match ends {
        (Ok(from), Ok(to)) => (from, to),
        (from, to) => return Reach::nothing_known([from.err(), to.err()].into_iter().flatten()),
    };
    let family = judge::family_between(&from, &to, family);
    if family.is_none() && judge::may_be_either(model, &from, &to) {
        let of = |family| reach(model, parties.0, parties.1, route, Some(family));
        return of(Family::V4).alike(&of(Family::V6), judge::family_matters(&from));
    }
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
            let is_always_allowed = judge::always_allowed(model, direction, *index, other, route);
            if let Always::Yes(_) = is_always_allowed {
                return Reach::everything();
            }
            let mut reach =
                Question { model, direction, subject: *index, other, counterpart: &counterpart, names }.ask();
            if let Always::Perhaps(reason) = is_always_allowed {
                let shut = Traffic::all().difference(&reach.open).difference(&reach.unknown);
                if !shut.is_empty() {
                    reach.unknown = reach.unknown.union(&shut);
                    reach.reasons.insert(reason);
                }
            }
            reach
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

/// What the tiers from one on say.
#[derive(Default)]
struct Answer {
    open: Traffic,
    shut: Traffic,
    /// What may be the other way round, with why.
    otherwise: Vec<(Traffic, String)>,
}

/// What the rules of one turn decide.
struct Turns<'a> {
    /// What no rule has decided yet.
    undecided: Traffic,
    /// What rules have decided: the policy by its place among those that bear on the pod, and what is the first such
    /// policy's.
    decided: Vec<(&'a Policy, Action, Traffic)>,
    /// What rules of which something is not known may do.
    doubtful: Vec<(Action, Traffic, String)>,
    /// What policies may do that may be asked before those that decide.
    equal: Vec<(Action, Traffic, String)>,
}

impl Question<'_> {
    fn ask(&self) -> Reach {
        let standing = self.model.standing(self.subject, self.direction);
        if !standing.overriding.is_empty() {
            return Reach::nothing_known(standing.overriding.iter().cloned());
        }
        let turns = self.model.turns(standing, self.direction);
        let Answer { open, otherwise, .. } = self.tiers_from(0, standing, &turns, Traffic::all());
        let mut unknown = Traffic::default();
        let mut reasons = BTreeSet::new();
        for (traffic, why) in otherwise.into_iter().filter(|(traffic, _)| !traffic.is_empty()) {
            unknown = unknown.union(&traffic);
            reasons.insert(why);
        }
        Reach { open: open.difference(&unknown), unknown, reasons }
    }

    /// What becomes of the traffic that comes as far as a tier.
    fn tiers_from(&self, at: usize, standing: &Standing, turns: &[Turn], traffic: Traffic) -> Answer {
        let Some(tier) = Tier::ALL.get(at).copied().filter(|_| !traffic.is_empty()) else {
            return Answer { open: traffic, ..Answer::default() };
        };
        let mut own = Turns { undecided: traffic, decided: Vec::new(), doubtful: Vec::new(), equal: Vec::new() };
        for turn in turns.iter().filter(|turn| turn.tier == tier) {
            if own.undecided.is_empty() {
                break;
            }
            self.turn(standing, turn, &mut own);
        }
        let mut answer = Answer::default();
        let mut passed = Traffic::default();
        for (_, action, traffic) in &own.decided {
            let whither = match action {
                Action::Allow => &mut answer.open,
                Action::Deny => &mut answer.shut,
                Action::Pass => &mut passed,
            };
            *whither = whither.union(traffic);
        }
        if tier.isolates() && standing.isolates(&self.model.policies) {
            answer.otherwise.extend(self.unread().map(|why| (own.undecided.clone(), why)));
            answer.shut = answer.shut.union(&own.undecided);
        } else {
            passed = passed.union(&own.undecided);
        }
        let may_pass = |(action, _, _): &&(Action, Traffic, String)| *action == Action::Pass;
        let onward = own.equal.iter().filter(may_pass).fold(passed.clone(), |all, (_, traffic, _)| all.union(traffic));
        let next = self.tiers_from(at + 1, standing, turns, onward);
        answer.open = answer.open.union(&next.open.intersection(&passed));
        answer.shut = answer.shut.union(&next.shut.intersection(&passed));
        answer.otherwise.extend(next.otherwise);
        for (action, traffic, why) in own.doubtful {
            let contradicted = match action {
                Action::Allow => traffic.intersection(&answer.shut),
                Action::Deny => traffic.intersection(&answer.open),
                Action::Pass => traffic,
            };
            answer.otherwise.push((contradicted, why));
        }
        for (action, traffic, why) in own.equal {
            let contradicted = match action {
                Action::Allow => answer.shut.clone(),
                Action::Deny => answer.open.clone(),
                // Where the decision passes itself, what it passes to has been told.
                Action::Pass => {
                    let open = next.open.intersection(&answer.shut);
                    open.union(&next.shut.intersection(&answer.open))
                }
            };
            answer.otherwise.push((traffic.intersection(&contradicted), why));
        }
        if tier.isolates() {
            answer.otherwise.extend(standing.unknowns.iter().map(|why| (answer.shut.clone(), why.clone())));
        }
        answer
    }

    /// Asks the policies of one turn about all that is undecided.
    fn turn<'a>(&'a self, standing: &Standing, turn: &Turn, own: &mut Turns<'a>) {
        let mut said: Vec<(usize, Action, Traffic)> = Vec::new();
        for strand in &turn.strands {
            let mut left = own.undecided.clone();
            for at in strand {
                let policy = &self.model.policies[standing.policies[*at]];
                for rule in policy.rules(self.direction).unwrap_or_default() {
                    let hit = self.apply(policy, rule, &mut left, &mut own.doubtful);
                    said.extend(hit.map(|hit| (*at, rule.action, hit)));
                }
            }
        }
        if turn.only().is_none() {
            said.sort_by_key(|(at, ..)| *at);
        }
        let first = own.decided.len();
        for (at, action, traffic) in said {
            let policy = &self.model.policies[standing.policies[at]];
            if turn.only().is_none() {
                for (before, other, taken) in &own.decided[first..] {
                    let both = taken.intersection(&traffic);
                    if *other != action && !both.is_empty() {
                        own.equal.push((action, both, contradiction(before, policy)));
                    }
                }
            }
            let new = traffic.intersection(&own.undecided);
            own.undecided = own.undecided.difference(&new);
            if !new.is_empty() {
                own.decided.push((policy, action, new));
            }
        }
    }

    /// What a rule decides of what is left.
    fn apply(
        &self,
        policy: &Policy,
        rule: &Rule,
        left: &mut Traffic,
        doubtful: &mut Vec<(Action, Traffic, String)>,
    ) -> Option<Traffic> {
        if left.is_empty() {
            return None;
        }
        let hit = self.traffic_of(rule).intersection(left);
        if hit.is_empty() {
            return None;
        }
        let found = judge::whom(rule, self.counterpart);
        if found == Match::Yes && !rule.is_in_doubt() {
            *left = left.difference(&hit);
            return Some(hit);
        }
        if found != Match::No {
            let why = judge::why_in_doubt(self.model, policy, rule, self.other, self.counterpart);
            let actions = judge::doubtful_actions(rule);
            doubtful.extend(actions.iter().map(|action| (*action, hit.clone(), why.clone())));
        }
        None
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
        (Ok(from), Ok(to)) => common_families(model, from.addresses(), to.addresses()),
        (Err(_), _) | (_, Err(_)) => vec![None],
    }
}

/// The families by which two ends can connect; none at all where their addresses have none in common. An end without a
/// known address has those of the other one; where neither has any, these are all that the cluster may have.
pub(crate) fn common_families(model: &Model, from: &[IpAddr], to: &[IpAddr]) -> Vec<Option<Family>> {
    let of = |addresses: &[IpAddr]| addresses.iter().copied().map(Family::of).collect::<BTreeSet<_>>();
    let families = match (from, to) {
        ([], []) => model.families().iter().copied().collect(),
        ([], known) | (known, []) => of(known),
        (from, to) => of(from).intersection(&of(to)).copied().collect(),
    };
    families.into_iter().map(Some).collect()
}
