//! Ports of Calico's rules.

use crate::names::Protocol;
use crate::parse::node::{Node, Problems, shortened};
use crate::parse::problem::Reason;
use crate::port::{PortRange, PortRule, Ports};

/// How long the name of a port may be: Calico takes any, Kubernetes gives none that is longer.
const MAX_NAME: usize = 128;

/// `protocol` or `notProtocol`.
pub(super) enum Named {
    /// One that has ports.
    Of(Protocol),
    /// Another one, such as ICMP: no connection that is judged here.
    Other,
}

/// Reads a protocol: one of six names, or a number.
pub(super) fn protocol(field: &Node<'_>, problems: &mut Problems) -> Option<Named> {
    if field.is_number() {
        return Some(match field.whole_number(1, 255, problems)? {
            6 => Named::Of(Protocol::Tcp),
            17 => Named::Of(Protocol::Udp),
            132 => Named::Of(Protocol::Sctp),
            _ => Named::Other,
        });
    }
    match field.string(problems)? {
        "TCP" => Some(Named::Of(Protocol::Tcp)),
        "UDP" => Some(Named::Of(Protocol::Udp)),
        "SCTP" => Some(Named::Of(Protocol::Sctp)),
        "ICMP" | "ICMPv6" | "UDPLite" => Some(Named::Other),
        other => {
            let allowed = "TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite";
            problems.add(field, Reason::Word { allowed, found: shortened(other) });
            None
        }
    }
}

/// The protocols and ports that a rule asks for.
pub(super) struct Asked {
    /// Those that `protocol` and `notProtocol` leave.
    pub protocols: Vec<Protocol>,
    /// Whether `protocol` names one that has ports.
    pub is_named: bool,
}

impl Asked {
    /// `destination.ports` without `destination.notPorts`, for each protocol. Empty: all there are. `Some(None)`: none.
    /// `None`: it cannot be read, or not be said.
    pub(super) fn ports(
        &self,
        destination: Option<&Node<'_>>,
        problems: &mut Problems,
    ) -> Option<Option<Vec<PortRule>>> {
        let list = |name| destination.map_or(Some(Vec::new()), |node| self.list(node, name, problems));
        let [ports, without] = ["ports", "notPorts"].map(list);
        let (ports, without) = (ports?, without?);
        let mut ranges = Vec::new();
        for port in &without {
            match port {
                Ports::Range(range) => ranges.push(range.bounds()),
                Ports::Named(_) | Ports::All => {
                    let what = "leaving out a port by its name";
                    let node = destination.expect("there are ports");
                    problems.add_at(node, "notPorts", Reason::Unsupported { what, remedy: "write its number" });
                    return None;
                }
            }
        }
        if !ranges.is_empty() && ports.iter().any(|port| matches!(port, Ports::Named(_))) {
            let what = "a port's name beside notPorts";
            let node = destination.expect("there are ports");
            problems.add_at(node, "ports", Reason::Unsupported { what, remedy: "write its number" });
            return None;
        }
        let asked: Vec<Ports> = match (&ports[..], &ranges[..]) {
            ([], []) => vec![Ports::All],
            (_, []) => ports,
            ([], _) => remaining(&[(1, u16::MAX)], &ranges),
            (_, _) => {
                let bounds = ports.iter().filter_map(|port| match port {
                    Ports::Range(range) => Some(range.bounds()),
                    Ports::Named(_) | Ports::All => None,
                });
                remaining(&bounds.collect::<Vec<_>>(), &ranges)
            }
        };
        if asked.is_empty() || self.protocols.is_empty() {
            return Some(None);
        }
        if self.protocols == Protocol::ALL {
            if asked == [Ports::All] {
                return Some(Some(Vec::new()));
            }
            return Some(Some(asked.into_iter().map(|ports| PortRule { protocol: None, ports }).collect()));
        }
        let each = self.protocols.iter();
        let rules =
            each.flat_map(|own| asked.iter().map(|ports| PortRule { protocol: Some(*own), ports: ports.clone() }));
        Some(Some(rules.collect()))
    }

    fn list(&self, node: &Node<'_>, name: &'static str, problems: &mut Problems) -> Option<Vec<Ports>> {
        let Some(field) = node.field(name) else { return Some(Vec::new()) };
        let mut list = Some(Vec::new());
        for item in field.items(problems)? {
            match (port(&item, problems), &mut list) {
                (Some(port), Some(list)) => list.push(port),
                (_, list) => *list = None,
            }
        }
        let list = list?;
        // Names alone need none, since Calico 3.30; numbers do.
        if !self.is_named && !list.iter().all(|port| matches!(port, Ports::Named(_))) {
            problems.add(&field, Reason::PortsWithoutProtocol);
            return None;
        }
        Some(list)
    }
}

/// A number, a range `"80:90"`, or a name.
fn port(item: &Node<'_>, problems: &mut Problems) -> Option<Ports> {
    if item.is_number() {
        let number = item.port_number(problems)?;
        return PortRange::new(number, number).map(Ports::Range);
    }
    if !item.is_string() {
        problems.add(item, item.wrong("a port number, a range as in \"8000:8080\", or the name of a port"));
        return None;
    }
    let text = item.string(problems)?;
    let read = match text.split_once(':') {
        None if is_digits(text) => {
            text.parse().ok().and_then(|number| PortRange::new(number, number)).map(Ports::Range)
        }
        None => is_name(text).then(|| Ports::Named(text.to_owned())),
        // Calico lets a range start at 0, which no connection uses.
        Some((first, last)) if is_digits(first) && is_digits(last) => {
            let bounds = first.parse::<u16>().ok().zip(last.parse().ok());
            bounds.and_then(|(first, last)| PortRange::new(first.max(1), last)).map(Ports::Range)
        }
        Some(_) => None,
    };
    if read.is_none() {
        problems.add(item, Reason::CalicoPort { found: shortened(text) });
    }
    read
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// Ranges without other ranges.
fn remaining(ranges: &[(u16, u16)], without: &[(u16, u16)]) -> Vec<Ports> {
    let mut left: Vec<(u16, u16)> = ranges.to_vec();
    for &(first, last) in without {
        let cut = left.into_iter().flat_map(|(from, to)| {
            let below = (first > from).then(|| (from, to.min(first.saturating_sub(1))));
            let above = (last < to).then(|| (from.max(last.saturating_add(1)), to));
            [below, above].into_iter().flatten()
        });
        left = cut.filter(|(from, to)| from <= to).collect();
    }
    left.into_iter().filter_map(|(from, to)| PortRange::new(from, to)).map(Ports::Range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut() {
        for (ranges, without, expected) in [
            (&[(1, 65535)][..], &[(80, 90)][..], &[(1, 79), (91, 65535)][..]),
            (&[(1, 65535)], &[(1, 1), (65535, 65535)], &[(2, 65534)]),
            (&[(1, 65535)], &[(1, 65535)], &[]),
            (&[(80, 90)], &[(100, 200)], &[(80, 90)]),
            (&[(80, 90)], &[(1, 79)], &[(80, 90)]),
            (&[(80, 90), (443, 443)], &[(85, 500)], &[(80, 84)]),
            (&[(80, 90)], &[(82, 83), (83, 85)], &[(80, 81), (86, 90)]),
        ] {
            let found: Vec<(u16, u16)> = remaining(ranges, without)
                .into_iter()
                .filter_map(|ports| match ports {
                    Ports::Range(range) => Some(range.bounds()),
                    Ports::Named(_) | Ports::All => None,
                })
                .collect();
            assert_eq!(found, expected, "{ranges:?} without {without:?}");
        }
    }
}
