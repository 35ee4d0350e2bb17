//! Judges one connection: who its ends are, then what the policies of each end say.
//!
//! A side is judged in order: what no policy can forbid, then tier by tier the policies that select the pod, rule by rule.
//! The first rule that matches decides; one that passes leads on to the next tier. Behind NetworkPolicy's tier the pod is
//! shut if a policy of that tier selects it. What no tier decides is open.
//!
//! Longer than most files: what may be otherwise is told beside what is, at each step.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::cluster::{Connection, Party, Route};
use crate::model::{Model, NodeOf, PodIndex, Standing};
use crate::names::{Direction, Family, Protocol, RuleRef};
use crate::nearest;
use crate::peer::{Counterpart, Match, Peer};
use crate::pod::Pod;
use crate::policy::{Action, Policy, Rule, Tier};
use crate::port::NamedPorts;
use crate::turns::{Turn, contradiction};
use crate::verdict::{Side, Verdict};

const OWN_ADDRESS: &str = "a pod always reaches itself by its own address";
const OWN_NODE: &str = "the node that a pod runs on always reaches it";

/// An end of a connection, as policies see it.
pub(crate) enum End<'m> {
    Pod(PodIndex, &'m Pod),
    /// A node, or a pod in its network.
    Host {
        node: NodeOf<'m>,
        addresses: Vec<IpAddr>,
        name: String,
    },
    Address(IpAddr),
}

/// The other end and what to call it.
pub(crate) struct View<'m> {
    pub counterpart: Counterpart<'m>,
    pub name: String,
}

/// What a rule's ports are held against.
pub(crate) struct Target<'m> {
    pub protocol: Protocol,
    pub port: u16,
    /// What the destination calls its ports. Absent: it is no pod.
    pub names: Option<&'m NamedPorts>,
    /// The destination's name, where it is a pod.
    pub pod: Option<&'m str>,
}

pub(crate) fn judge(model: &Model, connection: &Connection<'_>) -> Verdict {
    let (from, to) = match (end(model, connection.from, connection.to), end(model, connection.to, connection.from)) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(unknown), Ok(_)) | (Ok(_), Err(unknown)) => return no_answer(vec![unknown]),
        (Err(first), Err(second)) if first == second => return no_answer(vec![first]),
        (Err(first), Err(second)) => return no_answer(vec![first, second]),
    };
    let family = family_between(&from, &to, family(connection));
    if family.is_none() && may_be_either(model, &from, &to) {
        return either(model, connection, &from);
    }
    let (from_address, to_address) = addresses(&from, &to, family);
    let target = Target {
        protocol: connection.protocol,
        port: connection.port,
        names: to.pod().map(|pod| &pod.ports),
        pod: to.pod().map(|pod| pod.id.name.as_str()),
    };
    let judge_side = |direction, subject: &End<'_>, other: &End<'_>, address| match subject {
        End::Pod(index, _) => {
            let view = View { counterpart: other.counterpart(model, address, family), name: other.name() };
            let input = Input { model, direction, subject: *index, other, view: &view, target: &target };
            let mut unknown = Vec::new();
            let side = input.side(connection.route, &mut unknown);
            Some((side, unknown))
        }
        End::Host { .. } | End::Address(_) => None,
    };
    let egress = judge_side(Direction::Egress, &from, &to, to_address);
    let ingress = judge_side(Direction::Ingress, &to, &from, from_address);
    let sides = [&egress, &ingress];
    let is_certainly_shut = sides.into_iter().flatten().any(|(side, unknown)| !side.is_allowed() && unknown.is_empty());
    let mut unknown: Vec<String> = Vec::new();
    // A side that is certainly shut is enough: what was not understood of the other one changes nothing.
    if !is_certainly_shut {
        let mut seen = BTreeSet::new();
        let all = sides.into_iter().flatten().flat_map(|(_, unknown)| unknown);
        unknown.extend(all.filter(|text| seen.insert(*text)).cloned());
    }
    Verdict { egress: egress.map(|(side, _)| side), ingress: ingress.map(|(side, _)| side), unknown }
}

/// What holds by both families alike, where nobody knows by which the ends connect.
fn either(model: &Model, connection: &Connection<'_>, from: &End<'_>) -> Verdict {
    let of = |family| judge(model, &Connection { family: Some(family), ..*connection });
    let (mut v4, v6) = (of(Family::V4), of(Family::V6));
    if v4.allowed() != v6.allowed() {
        let more = v6.unknown.into_iter().filter(|text| !v4.unknown.contains(text)).collect::<Vec<_>>();
        v4.unknown.extend(more);
        v4.unknown.push(family_matters(from));
    }
    v4
}

/// Why it is not known what becomes of a connection between two ends without addresses.
pub(crate) fn family_matters(from: &End<'_>) -> String {
    format!("{}: has no known address, nor has the other end, and policies tell IPv4 and IPv6 apart", from.title())
}

/// Whether two ends may connect by either family, for all that is known.
pub(crate) fn may_be_either(model: &Model, from: &End<'_>, to: &End<'_>) -> bool {
    model.family.is_none() && from.addresses().is_empty() && to.addresses().is_empty()
}

/// One side's question.
struct Input<'a> {
    model: &'a Model,
    direction: Direction,
    subject: PodIndex,
    other: &'a End<'a>,
    view: &'a View<'a>,
    target: &'a Target<'a>,
}

/// What decided a side.
enum Decision {
    /// A rule that matches.
    Rule(Action, RuleRef),
    /// A policy selects the pod, and no rule matches.
    Isolated,
    /// No policy that selects the pod has a word on this.
    Nothing,
}

impl Decision {
    fn is_allowed(&self) -> bool {
        match self {
            Self::Rule(action, _) => *action == Action::Allow,
            Self::Isolated => false,
            Self::Nothing => true,
        }
    }
}

/// What the tiers from one on say.
struct Answer {
    decision: Decision,
    /// Why the result may be the other one. Empty: it is certain.
    otherwise: Vec<String>,
}

/// What may decide instead of what does.
enum Other {
    /// A rule that was not understood, or of which it cannot be told whether it matches.
    Doubtful(Action, String),
    /// A rule of a policy that may be asked before the one that decides.
    Equal(Action, String),
}

impl Input<'_> {
    fn side(&self, route: Route, unknown: &mut Vec<String>) -> Side {
        let is_always_allowed = always_allowed(self.model, self.direction, self.subject, self.other, route);
        if let Always::Yes(reason) = is_always_allowed {
            return Side::AlwaysAllowed(self.direction, reason);
        }
        let standing = self.model.standing(self.subject, self.direction);
        // These could change any answer, so that they are told with every answer.
        unknown.extend(standing.overriding.iter().cloned());
        let turns = self.model.turns(standing, self.direction);
        let Answer { decision, otherwise } = self.tiers_from(0, standing, &turns);
        unknown.extend(otherwise);
        if let (Always::Perhaps(reason), false) = (is_always_allowed, decision.is_allowed()) {
            unknown.push(reason);
        }
        let isolated_by = standing.isolated_by(&self.model.policies);
        match decision {
            Decision::Rule(Action::Deny, rule) => Side::DeniedBy(rule),
            Decision::Rule(Action::Allow | Action::Pass, rule) => Side::AllowedBy(rule, isolated_by),
            Decision::Nothing => Side::NotIsolated(self.direction),
            Decision::Isolated => {
                let nearest = nearest::nearest(self.model, &standing.policies, self.direction, self.view, self.target);
                Side::Denied { direction: self.direction, isolated_by, nearest }
            }
        }
    }

    /// What the first rule that matches decides, from one tier on.
    fn tiers_from(&self, at: usize, standing: &Standing, turns: &[Turn]) -> Answer {
        let Some(tier) = Tier::ALL.get(at).copied() else {
            return Answer { decision: Decision::Nothing, otherwise: Vec::new() };
        };
        let mut others = Vec::new();
        let found =
            turns.iter().filter(|turn| turn.tier == tier).find_map(|turn| self.turn(standing, turn, &mut others));
        let mut otherwise = Vec::new();
        let (mut decision, passes) = match found {
            Some((Action::Pass, _)) => (Decision::Nothing, true),
            Some((action, rule)) => (Decision::Rule(action, rule), false),
            None if tier.isolates() && standing.isolates(&self.model.policies) => {
                otherwise.extend(self.unread());
                (Decision::Isolated, false)
            }
            None => (Decision::Nothing, true),
        };
        let may_pass = others.iter().any(|other| matches!(other, Other::Equal(Action::Pass, _)));
        let mut behind = (passes || may_pass).then(|| self.tiers_from(at + 1, standing, turns));
        if passes && let Some(next) = behind.take() {
            decision = next.decision;
            otherwise.extend(next.otherwise);
        }
        let is_allowed = decision.is_allowed();
        for other in others {
            match other {
                Other::Doubtful(Action::Pass, why) => otherwise.push(why),
                Other::Doubtful(action, why) | Other::Equal(action @ (Action::Allow | Action::Deny), why) => {
                    if (action == Action::Allow) != is_allowed {
                        otherwise.push(why);
                    }
                }
                // Where the decision passes itself, what it passes to has been told.
                Other::Equal(Action::Pass, why) => {
                    let Some(next) = &behind else { continue };
                    if next.decision.is_allowed() != is_allowed {
                        otherwise.push(why);
                    }
                    otherwise.extend(next.otherwise.iter().cloned());
                }
            }
        }
        if tier.isolates() && !is_allowed {
            // Policies add up: what was not understood could only open what is shut here, or not shut it in the first
            // place.
            otherwise.extend(standing.unknowns.iter().cloned());
        }
        Answer { decision, otherwise }
    }

    /// What the policies of one turn decide, and what they may decide instead.
    fn turn(&self, standing: &Standing, turn: &Turn, others: &mut Vec<Other>) -> Option<(Action, RuleRef)> {
        let policy = |at: usize| &self.model.policies[standing.policies[at]];
        let mut said = Vec::new();
        for strand in &turn.strands {
            said.extend(strand.iter().find_map(|at| Some((*at, self.first_rule(policy(*at), others)?))));
        }
        said.sort_by_key(|(at, _)| *at);
        let mut said = said.into_iter();
        let (first, (action, rule)) = said.next()?;
        for (at, (other, _)) in said.filter(|(_, (other, _))| *other != action) {
            others.push(Other::Equal(other, contradiction(policy(first), policy(at))));
        }
        Some((action, rule))
    }

    /// What was not understood of the two ends.
    fn unread(&self) -> impl Iterator<Item = String> {
        let other = match self.other {
            End::Pod(index, _) => self.model.unknowns_of(*index),
            End::Host { .. } | End::Address(_) => &[],
        };
        self.model.unknowns_of(self.subject).iter().chain(other).cloned()
    }

    /// The first rule of a policy that matches, by rule, peer and port.
    fn first_rule(&self, policy: &Policy, others: &mut Vec<Other>) -> Option<(Action, RuleRef)> {
        for (rule_index, rule) in policy.rules(self.direction).unwrap_or_default().iter().enumerate() {
            let port = rule.port_slots().find(|(_, port)| port.is_none_or(|port| self.target.is_in(port)));
            let Some((port, _)) = port else { continue };
            match (whom(rule, &self.view.counterpart), rule.is_in_doubt()) {
                (Match::No, _) => {}
                (Match::Yes, false) => {
                    let including =
                        |peer: Option<&Peer>| peer.is_none_or(|peer| peer.matches(&self.view.counterpart).is_certain());
                    let (peer, _) = rule.peer_slots().find(|(_, peer)| including(*peer))?;
                    return Some((rule.action, policy.rule_ref(self.direction, rule_index, peer, port)));
                }
                (Match::Yes | Match::Maybe, _) => {
                    let why = why_in_doubt(self.model, policy, rule, self.other, &self.view.counterpart);
                    let actions = doubtful_actions(rule).iter();
                    others.extend(actions.map(|action| Other::Doubtful(*action, why.clone())));
                }
            }
        }
        None
    }
}

/// Whether no policy can forbid a side.
pub(crate) enum Always {
    /// Why.
    Yes(&'static str),
    /// Why it may be so.
    Perhaps(String),
    No,
}

/// Whether no policy can forbid this side.
pub(crate) fn always_allowed(
    model: &Model,
    direction: Direction,
    subject: PodIndex,
    other: &End<'_>,
    route: Route,
) -> Always {
    match other {
        End::Pod(index, _) if *index == subject && route == Route::Direct => Always::Yes(OWN_ADDRESS),
        End::Host { node, .. } if direction == Direction::Ingress => match model.runs_on(subject, node) {
            Match::Yes => Always::Yes(OWN_NODE),
            Match::Maybe => Always::Perhaps(format!(
                "Pod {}: spec.nodeName: its own node always reaches it, and whether that is the one of {} is not known",
                model.pod(subject).id,
                other.title()
            )),
            Match::No => Always::No,
        },
        End::Pod(..) | End::Host { .. } | End::Address(_) => Always::No,
    }
}

/// Whether the rule's peers include the other end.
pub(crate) fn whom(rule: &Rule, other: &Counterpart<'_>) -> Match {
    match any_peer(&rule.peers, other) {
        Match::No if rule.may_include_others => Match::Maybe,
        found => found,
    }
}

/// Whether any of these peers includes the other end; without any, all do.
pub(crate) fn any_peer(peers: &[Peer], other: &Counterpart<'_>) -> Match {
    let mut found = if peers.is_empty() { Match::Yes } else { Match::No };
    for peer in peers {
        match peer.matches(other) {
            Match::Yes => return Match::Yes,
            Match::Maybe => found = Match::Maybe,
            Match::No => {}
        }
    }
    found
}

/// What a rule that is in doubt may do. One of which something was not understood may do anything, another one only what it
/// says.
pub(crate) fn doubtful_actions(rule: &Rule) -> &[Action] {
    if rule.is_in_doubt() { &[Action::Allow, Action::Deny] } else { std::slice::from_ref(&rule.action) }
}

/// Why it cannot be told whether a rule concerns the other end.
pub(crate) fn why_in_doubt(
    model: &Model,
    policy: &Policy,
    rule: &Rule,
    other: &End<'_>,
    counterpart: &Counterpart<'_>,
) -> String {
    if let Some(doubt) = &rule.doubt {
        return doubt.clone();
    }
    let unread = match other {
        End::Pod(index, _) => model.unknowns_of(*index).first(),
        End::Host { .. } | End::Address(_) => None,
    };
    match unread {
        Some(problem) => problem.clone(),
        None if counterpart.address.is_none() => {
            format!("{}: has no known address, and {} names addresses", other.title(), policy.id)
        }
        None => format!("{}: has no known labels, and {} asks for some", other.title(), policy.id),
    }
}

impl Target<'_> {
    /// Whether a port of a rule includes it.
    pub(crate) fn is_in(&self, port: &crate::port::PortRule) -> bool {
        port.matches(self.protocol, self.port, self.names)
    }
}

impl<'m> End<'m> {
    pub(crate) fn pod(&self) -> Option<&'m Pod> {
        match self {
            End::Pod(_, pod) => Some(pod),
            End::Host { .. } | End::Address(_) => None,
        }
    }

    /// As the rules of the other end see it.
    pub(crate) fn counterpart(
        &self,
        model: &'m Model,
        address: Option<IpAddr>,
        family: Option<Family>,
    ) -> Counterpart<'m> {
        let node = match self {
            End::Host { node, .. } => Some(model.node_labels(model.node_name(node))),
            End::Pod(..) | End::Address(_) => None,
        };
        let pod = self.pod().map(|pod| (pod, model.namespace_of(pod)));
        Counterpart { pod, node, address, family: family.or(model.family) }
    }

    pub(crate) fn addresses(&self) -> &[IpAddr] {
        match self {
            End::Pod(_, pod) => &pod.addresses,
            End::Host { addresses, .. } => addresses,
            End::Address(address) => std::slice::from_ref(address),
        }
    }

    fn name(&self) -> String {
        match self {
            End::Pod(_, pod) => pod.id.to_string(),
            End::Host { name, .. } => name.clone(),
            End::Address(address) => address.to_string(),
        }
    }

    pub(crate) fn title(&self) -> String {
        match self {
            End::Pod(_, pod) => format!("Pod {}", pod.id),
            End::Host { name, .. } => name.clone(),
            End::Address(address) => address.to_string(),
        }
    }
}

/// Finds out who a party is. `LocalNode` is the node of the other end.
pub(crate) fn end<'m>(model: &'m Model, party: &Party, other: &Party) -> Result<End<'m>, String> {
    match party {
        Party::Pod(id) => {
            let Some(index) = model.find(id) else {
                return Err(match model.ended.get(id) {
                    Some(phase) => format!("Pod {id}: has ended ({phase}) and has no network"),
                    None => format!("Pod {id}: is not among the objects"),
                });
            };
            let pod = model.pod(index);
            if pod.is_host_network {
                let name = format!("{id} (in the network of its node)");
                return Ok(End::Host { node: NodeOf::Pod(pod), addresses: pod.addresses.clone(), name });
            }
            Ok(End::Pod(index, pod))
        }
        Party::Address(address) => {
            if let Some(shared) = model.shared_addresses.get(address) {
                return Err(shared.clone());
            }
            if let Some(index) = model.by_address.get(address) {
                return Ok(End::Pod(index, model.pod(index)));
            }
            let Some(node) = model.node_at(*address) else { return Ok(End::Address(*address)) };
            let name =
                model.node_name(&node).map_or_else(|| format!("the node at {address}"), |name| format!("node {name}"));
            Ok(End::Host { node, addresses: vec![*address], name })
        }
        Party::LocalNode => {
            let pod = match other {
                Party::Pod(id) => model.find(id),
                Party::Address(address) => model.by_address.get(address),
                Party::LocalNode => None,
            };
            let pod = pod.map(|index| model.pod(index));
            let name = pod.and_then(|pod| model.node_name(&NodeOf::Pod(pod)));
            let host = name.and_then(|name| model.hosts.get(name));
            let known = pod.map(|pod| pod.node_addresses.as_slice()).unwrap_or_default().iter().copied();
            let addresses = host.map_or_else(|| known.collect(), |host| host.addresses.iter().copied().collect());
            let node = pod.map_or(NodeOf::Nobody, NodeOf::Pod);
            let name = name.map_or_else(|| "the node".to_owned(), |name| format!("node {name}"));
            Ok(End::Host { node, addresses, name })
        }
    }
}

/// The family that is asked for. An end that is given by its address leaves no choice.
pub(crate) fn family(connection: &Connection<'_>) -> Option<Family> {
    let of = |party: &Party| match party {
        Party::Address(address) => Some(Family::of(*address)),
        Party::Pod(_) | Party::LocalNode => None,
    };
    connection.family.or_else(|| of(connection.to)).or_else(|| of(connection.from))
}

/// The same where none is asked for and one end has no known address: the first family of the other one. `None`: both ends
/// have their addresses, or neither has.
pub(crate) fn family_between(from: &End<'_>, to: &End<'_>, family: Option<Family>) -> Option<Family> {
    let of_the_other = || match (from.addresses(), to.addresses()) {
        ([], [known, ..]) | ([known, ..], []) => Some(Family::of(*known)),
        ([], []) | ([..], [..]) => None,
    };
    family.or_else(of_the_other)
}

/// The addresses of both ends on one connection: of the family asked for, else of the first family of the
/// destination's that the source has, too.
pub(crate) fn addresses(from: &End<'_>, to: &End<'_>, family: Option<Family>) -> (Option<IpAddr>, Option<IpAddr>) {
    let of =
        |end: &End<'_>, family: Family| end.addresses().iter().copied().find(|address| Family::of(*address) == family);
    if let Some(family) = family {
        return (of(from, family), of(to, family));
    }
    let both = to.addresses().iter().find_map(|to| Some((of(from, Family::of(*to))?, *to)));
    match both {
        Some((from, to)) => (Some(from), Some(to)),
        None => (from.addresses().first().copied(), to.addresses().first().copied()),
    }
}

fn no_answer(unknown: Vec<String>) -> Verdict {
    Verdict { egress: None, ingress: None, unknown }
}
