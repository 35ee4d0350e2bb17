//! Judges one connection: who its ends are, then what the policies of each end say.
//!
//! A side is judged in order: what no policy can forbid, then tier by tier the policies that select the pod, rule by rule.
//! The first rule that matches decides; one that passes leads on to the next tier. Behind NetworkPolicy's tier the pod is
//! shut if a policy of that tier selects it. What no tier decides is open.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::cluster::{Connection, Party, Route};
use crate::model::{Model, PodIndex, Standing};
use crate::names::{Direction, Family, Protocol, RuleRef};
use crate::nearest;
use crate::peer::{Counterpart, Match, Peer};
use crate::pod::Pod;
use crate::policy::{Action, Policy, Rule, Tier};
use crate::port::NamedPorts;
use crate::verdict::{Side, Verdict};

const OWN_ADDRESS: &str = "a pod always reaches itself by its own address";
const OWN_NODE: &str = "the node that a pod runs on always reaches it";

/// An end of a connection, as policies see it.
pub(crate) enum End<'m> {
    Pod(PodIndex, &'m Pod),
    /// A node, or a pod in its network. The node's name, if it is known.
    Host {
        node: Option<String>,
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
    let family = family(connection);
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
    Rule(Tier, Action, RuleRef),
    /// A policy selects the pod, and no rule matches.
    Isolated,
    /// No policy that selects the pod has a word on this.
    Nothing,
}

/// Rules that may have decided instead, had they been understood.
#[derive(Default)]
struct Doubts {
    list: Vec<(Action, String)>,
}

impl Doubts {
    /// Those that could have led to another result.
    fn against(self, result: Action) -> impl Iterator<Item = String> {
        self.list.into_iter().filter(move |(action, _)| *action != result).map(|(_, text)| text)
    }
}

impl Input<'_> {
    fn side(&self, route: Route, unknown: &mut Vec<String>) -> Side {
        if let Some(reason) = always_allowed(self.model, self.direction, self.subject, self.other, route) {
            return Side::AlwaysAllowed(self.direction, reason);
        }
        let standing = self.model.standing(self.subject, self.direction);
        // These could change any answer, so that they are told with every answer.
        unknown.extend(standing.overriding.iter().cloned());
        let isolated_by = standing.isolated_by(&self.model.policies);
        let mut doubts = Doubts::default();
        match self.decide(standing, !isolated_by.is_empty(), &mut doubts) {
            Decision::Rule(tier, Action::Deny, rule) => {
                unknown.extend(doubts.against(Action::Deny));
                if tier > Tier::Admin {
                    unknown.extend(standing.unknowns.iter().cloned());
                }
                Side::DeniedBy(rule)
            }
            Decision::Rule(_, Action::Allow | Action::Pass, rule) => {
                unknown.extend(doubts.against(Action::Allow));
                Side::AllowedBy(rule, isolated_by)
            }
            Decision::Nothing => {
                unknown.extend(doubts.against(Action::Allow));
                Side::NotIsolated(self.direction)
            }
            Decision::Isolated => {
                unknown.extend(doubts.against(Action::Deny));
                // Policies add up: what was not understood could only open what is shut here, or not shut it in the
                // first place.
                unknown.extend(standing.unknowns.iter().cloned());
                unknown.extend(self.model.unknowns_of(self.subject).iter().cloned());
                if let End::Pod(index, _) = self.other {
                    unknown.extend(self.model.unknowns_of(*index).iter().cloned());
                }
                let nearest = nearest::nearest(self.model, &standing.policies, self.direction, self.view, self.target);
                Side::Denied { direction: self.direction, isolated_by, nearest }
            }
        }
    }

    /// The first rule that matches, tier by tier.
    fn decide(&self, standing: &Standing, is_isolated: bool, doubts: &mut Doubts) -> Decision {
        for tier in Tier::ALL {
            let policies = standing.policies.iter().map(|index| &self.model.policies[*index]);
            let found =
                policies.filter(|policy| policy.rank.tier == tier).find_map(|policy| self.first_rule(policy, doubts));
            match found {
                Some((Action::Pass, _)) => {}
                Some((action, rule)) => return Decision::Rule(tier, action, rule),
                None if tier.isolates() && is_isolated => return Decision::Isolated,
                None => {}
            }
        }
        Decision::Nothing
    }

    /// The first rule of a policy that matches, by rule, peer and port.
    fn first_rule(&self, policy: &Policy, doubts: &mut Doubts) -> Option<(Action, RuleRef)> {
        for (rule_index, rule) in policy.rules(self.direction).unwrap_or_default().iter().enumerate() {
            let port = rule.port_slots().find(|(_, port)| port.is_none_or(|port| self.target.is_in(port)));
            let Some((port, _)) = port else { continue };
            match (any_peer(rule, &self.view.counterpart), &rule.doubt) {
                (Match::No, _) => {}
                (Match::Yes, None) => {
                    let including =
                        |peer: Option<&Peer>| peer.is_none_or(|peer| peer.matches(&self.view.counterpart).is_certain());
                    let (peer, _) = rule.peer_slots().find(|(_, peer)| including(*peer))?;
                    return Some((rule.action, policy.rule_ref(self.direction, rule_index, peer, port)));
                }
                (Match::Yes | Match::Maybe, _) => {
                    let why = why_in_doubt(self.model, policy, rule, self.other, &self.view.counterpart);
                    doubts.list.extend(doubtful_actions(rule).iter().map(|action| (*action, why.clone())));
                }
            }
        }
        None
    }
}

/// Why no policy can forbid this side, if so.
pub(crate) fn always_allowed(
    model: &Model,
    direction: Direction,
    subject: PodIndex,
    other: &End<'_>,
    route: Route,
) -> Option<&'static str> {
    match other {
        End::Pod(index, _) => (*index == subject && route == Route::Direct).then_some(OWN_ADDRESS),
        End::Host { node, .. } => {
            let own = model.pod(subject).node.as_ref();
            (direction == Direction::Ingress && own.is_some() && node.as_ref() == own).then_some(OWN_NODE)
        }
        End::Address(_) => None,
    }
}

/// Whether any peer of the rule includes the other end.
pub(crate) fn any_peer(rule: &Rule, other: &Counterpart<'_>) -> Match {
    let mut found = if rule.peers.is_empty() { Match::Yes } else { Match::No };
    for peer in &rule.peers {
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
    match &rule.doubt {
        Some(_) => &[Action::Allow, Action::Deny],
        None => std::slice::from_ref(&rule.action),
    }
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
            End::Host { node, .. } => Some(model.node_labels(node.as_deref())),
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
                return Ok(End::Host { node: pod.node.clone(), addresses: pod.addresses.clone(), name });
            }
            Ok(End::Pod(index, pod))
        }
        Party::Address(address) => {
            if let Some(shared) = model.shared_addresses.get(address) {
                return Err(shared.clone());
            }
            if let Some(index) = model.by_address.get(address) {
                return Ok(End::Pod(*index, model.pod(*index)));
            }
            let node = model.hosts.iter().find(|(_, host)| host.addresses.contains(address));
            Ok(match node {
                Some((node, _)) => {
                    End::Host { node: Some(node.clone()), addresses: vec![*address], name: format!("node {node}") }
                }
                None => End::Address(*address),
            })
        }
        Party::LocalNode => {
            let node = match other {
                Party::Pod(id) => model.find(id).and_then(|index| model.pod(index).node.clone()),
                Party::Address(address) => {
                    model.by_address.get(address).and_then(|index| model.pod(*index).node.clone())
                }
                Party::LocalNode => None,
            };
            let host = node.as_ref().and_then(|node| model.hosts.get(node));
            let addresses = host.map(|host| host.addresses.iter().copied().collect()).unwrap_or_default();
            let name = node.as_ref().map_or_else(|| "the node".to_owned(), |node| format!("node {node}"));
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
