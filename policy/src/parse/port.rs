//! Ports of rules and of containers.

use crate::names::Protocol;
use crate::parse::node::{Node, Problems, shortened};
use crate::parse::problem::Reason;
use crate::port::{PortRange, PortRule, Ports, is_port_name};

/// An item of a rule's `ports`.
pub(crate) fn port_rule(node: &Node<'_>, problems: &mut Problems) -> Option<PortRule> {
    let known = node.check_fields(&["protocol", "port", "endPort"], problems);
    let protocol = protocol(node, problems);
    let ports = ports(node, problems);
    known?;
    Some(PortRule { protocol: Some(protocol?), ports: ports? })
}

/// The field `protocol` of this node, TCP where it is absent.
pub(crate) fn protocol(node: &Node<'_>, problems: &mut Problems) -> Option<Protocol> {
    let Some(field) = node.field("protocol") else {
        return Some(Protocol::Tcp);
    };
    match field.string(problems)? {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        other => {
            problems.add(&field, Reason::Word { allowed: "TCP, UDP, SCTP", found: shortened(other) });
            None
        }
    }
}

fn ports(node: &Node<'_>, problems: &mut Problems) -> Option<Ports> {
    let end_field = node.field("endPort");
    let Some(field) = node.field("port") else {
        return match end_field {
            Some(end) => alone(&end, problems),
            None => Some(Ports::All),
        };
    };
    if field.is_string() {
        let name = field.string(problems)?;
        if !is_port_name(name) {
            problems.add(&field, Reason::PortName { found: shortened(name) });
            return None;
        }
        return match end_field {
            Some(end) => alone(&end, problems),
            None => Some(Ports::Named(name.to_owned())),
        };
    }
    if !field.is_number() {
        problems.add(&field, field.wrong("a port number or the name of a port"));
        return None;
    }
    let first = field.port_number(problems);
    let last = match &end_field {
        Some(end) => end.port_number(problems),
        None => first,
    };
    let (first, last) = (first?, last?);
    let range = PortRange::new(first, last);
    if range.is_none() {
        problems.add_at(node, "endPort", Reason::EndPortSmaller { end: last, port: first });
    }
    range.map(Ports::Range)
}

fn alone(end: &Node<'_>, problems: &mut Problems) -> Option<Ports> {
    problems.add(end, Reason::EndPortAlone);
    None
}
