//! Judges one connection: who its ends are, then what the policies of each end say.
//!
//! A side is judged in order: what no policy can forbid, then the NetworkPolicies (the first rule that allows decides),
//! then the default: open if nothing isolates the pod, shut otherwise. Tiers around NetworkPolicy take their place before
//! and behind that step.

use std::net::IpAddr;

use crate::cluster::{Connection, Party, Route};
use crate::model::{Model, PodIndex};
use crate::names::{Direction, Family, Protocol, RuleRef};
use crate::namespace::Namespace;
use crate::nearest;
use crate::peer::Peer;
use crate::pod::Pod;
use crate::port::NamedPorts;
use crate::verdict::{Side, Verdict};

const OWN_ADDRESS: &str = "a pod always reaches itself by its own address";
const OWN_NODE: &str = "the node that a pod runs on always reaches it";

/// An end of a connection, as policies see it.
enum End<'m> {
    Pod(PodIndex, &'m Pod),
    /// A node, or a pod in its network. The node's name, if it is known.
    Host {
        node: Option<String>,
        addresses: Vec<IpAddr>,
        name: String,
    },
    Address(IpAddr),
}

/// The other end, as the rules of one end see it.
pub(crate) struct Other<'m> {
    /// The pod and its namespace, where the other end is one that labels select.
    pub pod: Option<(&'m Pod, &'m Namespace)>,
    /// Its address on this connection.
    pub address: Option<IpAddr>,
    /// What to call it.
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
    let (from_address, to_address) = addresses(&from, &to, family(connection));
    let target = Target {
        protocol: connection.protocol,
        port: connection.port,
        names: to.pod().map(|pod| &pod.ports),
        pod: to.pod().map(|pod| pod.id.name.as_str()),
    };
    let mut unknown = Vec::new();
    let mut judge_side = |direction, subject: &End<'_>, other: &End<'_>, address| match subject {
        End::Pod(index, _) => {
            let other_view = Other { pod: other.labelled(model), address, name: other.name() };
            let input = Input { model, direction, subject: *index, other, view: &other_view, target: &target };
            Some(input.side(connection.route, &mut unknown))
        }
        End::Host { .. } | End::Address(_) => None,
    };
    let egress = judge_side(Direction::Egress, &from, &to, to_address);
    let ingress = judge_side(Direction::Ingress, &to, &from, from_address);
    let mut seen = std::collections::BTreeSet::new();
    unknown.retain(|text| seen.insert(text.clone()));
    Verdict { egress, ingress, unknown }
}

/// One side's question.
struct Input<'a> {
    model: &'a Model,
    direction: Direction,
    subject: PodIndex,
    other: &'a End<'a>,
    view: &'a Other<'a>,
    target: &'a Target<'a>,
}

impl Input<'_> {
    fn side(&self, route: Route, unknown: &mut Vec<String>) -> Side {
        if let Some(reason) = self.always_allowed(route) {
            return Side::AlwaysAllowed(self.direction, reason);
        }
        let standing = self.model.standing(self.subject, self.direction);
        // These could change any answer, so that they are told with every answer.
        unknown.extend(standing.overriding.iter().cloned());
        let isolated_by = standing.isolated_by(&self.model.policies);
        if isolated_by.is_empty() {
            return Side::NotIsolated(self.direction);
        }
        if let Some(rule) = self.first_rule(&standing.policies) {
            return Side::AllowedBy(rule, isolated_by);
        }
        // Policies add up: what was not understood could only open what is shut here, or not shut it in the first place.
        unknown.extend(standing.unknowns.iter().cloned());
        unknown.extend(self.model.unknowns_of(self.subject).iter().cloned());
        if let End::Pod(index, _) = self.other {
            unknown.extend(self.model.unknowns_of(*index).iter().cloned());
        }
        self.blocks_in_doubt(&standing.policies, unknown);
        let nearest = nearest::nearest(self.model, &standing.policies, self.direction, self.view, self.target);
        Side::Denied { direction: self.direction, isolated_by, nearest }
    }

    fn always_allowed(&self, route: Route) -> Option<&'static str> {
        if let End::Pod(index, _) = self.other
            && *index == self.subject
            && route == Route::Direct
        {
            return Some(OWN_ADDRESS);
        }
        if self.direction == Direction::Ingress && self.other_is_own_node() {
            return Some(OWN_NODE);
        }
        None
    }

    fn other_is_own_node(&self) -> bool {
        let Some(own) = &self.model.pod(self.subject).node else { return false };
        match self.other {
            End::Host { node, .. } => node.as_ref() == Some(own),
            End::Pod(..) | End::Address(_) => false,
        }
    }

    /// The first rule that allows, by policy, rule, peer and port.
    fn first_rule(&self, policies: &[usize]) -> Option<RuleRef> {
        policies.iter().map(|index| &self.model.policies[*index]).find_map(|policy| {
            let rules = policy.rules(self.direction).unwrap_or_default();
            rules.iter().enumerate().find_map(|(rule_index, rule)| {
                let (peer, _) = rule.peer_slots().find(|(_, peer)| peer.is_none_or(|peer| self.view.is_in(peer)))?;
                let (port, _) = rule.port_slots().find(|(_, port)| port.is_none_or(|port| self.target.is_in(port)))?;
                Some(policy.rule_ref(self.direction, rule_index, peer, port))
            })
        })
    }

    /// Without an address nobody can say whether a block holds it.
    fn blocks_in_doubt(&self, policies: &[usize], unknown: &mut Vec<String>) {
        if !self.other.addresses().is_empty() {
            return;
        }
        for policy in policies.iter().map(|index| &self.model.policies[*index]) {
            for rule in policy.rules(self.direction).unwrap_or_default() {
                let ports_match = rule.port_slots().any(|(_, port)| port.is_none_or(|port| self.target.is_in(port)));
                if ports_match && rule.peers.iter().any(|peer| matches!(peer, Peer::Block(_))) {
                    unknown.push(format!(
                        "{}: has no known address, and {} allows an ipBlock",
                        self.other.title(),
                        policy.id
                    ));
                    return;
                }
            }
        }
    }
}

impl Other<'_> {
    /// Whether a peer of a rule includes it.
    pub(crate) fn is_in(&self, peer: &Peer) -> bool {
        self.pod.is_some_and(|(pod, namespace)| peer.selects(pod, namespace))
            || self.address.is_some_and(|address| peer.contains(address))
    }
}

impl Target<'_> {
    /// Whether a port of a rule includes it.
    pub(crate) fn is_in(&self, port: &crate::port::PortRule) -> bool {
        port.matches(self.protocol, self.port, self.names)
    }
}

impl<'m> End<'m> {
    fn pod(&self) -> Option<&'m Pod> {
        match self {
            End::Pod(_, pod) => Some(pod),
            End::Host { .. } | End::Address(_) => None,
        }
    }

    fn labelled(&self, model: &'m Model) -> Option<(&'m Pod, &'m Namespace)> {
        self.pod().map(|pod| (pod, model.namespace_of(pod)))
    }

    fn addresses(&self) -> &[IpAddr] {
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

    fn title(&self) -> String {
        match self {
            End::Pod(_, pod) => format!("Pod {}", pod.id),
            End::Host { name, .. } => name.clone(),
            End::Address(address) => address.to_string(),
        }
    }
}

/// Finds out who a party is. `LocalNode` is the node of the other end.
fn end<'m>(model: &'m Model, party: &Party, other: &Party) -> Result<End<'m>, String> {
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
            let node = model.hosts.iter().find(|(_, addresses)| addresses.contains(address));
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
            let addresses = node.as_ref().and_then(|node| model.hosts.get(node));
            let addresses = addresses.into_iter().flatten().copied().collect();
            let name = node.as_ref().map_or_else(|| "the node".to_owned(), |node| format!("node {node}"));
            Ok(End::Host { node, addresses, name })
        }
    }
}

/// The family that is asked for. An end that is given by its address leaves no choice.
fn family(connection: &Connection<'_>) -> Option<Family> {
    let of = |party: &Party| match party {
        Party::Address(address) => Some(Family::of(*address)),
        Party::Pod(_) | Party::LocalNode => None,
    };
    connection.family.or_else(|| of(connection.to)).or_else(|| of(connection.from))
}

/// The addresses of both ends on one connection: of the family asked for, else of the first family of the
/// destination's that the source has, too.
fn addresses(from: &End<'_>, to: &End<'_>, family: Option<Family>) -> (Option<IpAddr>, Option<IpAddr>) {
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
