//! Rules of Calico's policies.

use crate::names::{Direction, Family, Protocol};
use crate::parse::block::parse_net_or_address;
use crate::parse::calico::port::{self, Asked, Named};
use crate::parse::calico::remote::{Remote, Restriction};
use crate::parse::calico::sets::Sets;
use crate::parse::node::{Node, Problems, shortened};
use crate::parse::problem::Reason;
use crate::policy::{Action, Rule};

const FIELDS: [&str; 10] =
    ["action", "ipVersion", "protocol", "icmp", "notProtocol", "notICMP", "source", "destination", "http", "metadata"];

const ENTITY_FIELDS: [&str; 9] = [
    "nets",
    "selector",
    "namespaceSelector",
    "services",
    "ports",
    "notNets",
    "notSelector",
    "notPorts",
    "serviceAccounts",
];

/// What a policy's rules have in common.
pub(super) struct Rules<'a> {
    /// The policy's namespace; absent for a GlobalNetworkPolicy.
    pub own: Option<&'a str>,
    pub sets: &'a Sets,
}

impl Rules<'_> {
    /// All of one direction, each in its place. `None`: not even how many there are.
    pub(super) fn read(&self, spec: &Node<'_>, direction: Direction, problems: &mut Problems) -> Option<Vec<Rule>> {
        let name = match direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        let Some(field) = spec.field(name) else { return Some(Vec::new()) };
        Some(field.items(problems)?.map(|item| self.rule(&item, direction, problems)).collect())
    }

    fn rule(&self, node: &Node<'_>, direction: Direction, problems: &mut Problems) -> Rule {
        let before = problems.len();
        if node.object(problems).is_none() {
            return Rule {
                action: Action::Deny,
                peers: Vec::new(),
                ports: Vec::new(),
                doubt: problems.since(before),
                may_include_others: false,
            };
        }
        node.check_fields(&FIELDS, problems);
        let action = action(node, problems);
        let version = ip_version(node, problems);
        let asked = asked(node, problems);
        check_unsupported(node, asked.as_ref(), problems);
        let (source, destination) = (node.field("source"), node.field("destination"));
        for entity in [&source, &destination].into_iter().flatten() {
            entity.check_fields(&ENTITY_FIELDS, problems);
        }
        let (remote, local) = match direction {
            Direction::Ingress => (&source, &destination),
            Direction::Egress => (&destination, &source),
        };
        let families = check_families(node, problems);
        if let Some(source) = &source {
            check_source_ports(source, problems);
        }
        if let Some(local) = local {
            check_local(local, problems);
        }
        let remote = match remote {
            Some(remote) => self.remote(remote, version.flatten(), problems),
            None => Some(Remote::of(None, &Restriction::to(version.flatten()))),
        }
        .filter(|_| families.is_some());
        let ports = asked.and_then(|asked| asked.ports(destination.as_ref(), problems));

        let doubt = problems.since(before);
        match (&doubt, action) {
            // It only writes a line: what is wrong with it is told, and changes nothing.
            (_, Some(Verb::Log)) => return Rule::never(Action::Pass),
            (None, Some(Verb::Does(action))) => {
                let (ports, peers) = match (ports.flatten(), remote) {
                    (None, _) | (_, Some(Remote::Nobody)) => return Rule::never(action),
                    (Some(ports), Some(Remote::Peers(peers))) => (ports, peers),
                    (Some(ports), Some(Remote::Anyone) | None) => (ports, Vec::new()),
                };
                return Rule { action, peers, ports, doubt: None, may_include_others: false };
            }
            (_, Some(Verb::Does(_)) | None) => {}
        }
        // What could not be read is as wide as it may be.
        let peers = match remote {
            Some(Remote::Peers(peers)) => peers,
            Some(Remote::Anyone | Remote::Nobody) | None => Vec::new(),
        };
        let action = match action {
            Some(Verb::Does(action)) => action,
            Some(Verb::Log) | None => Action::Deny,
        };
        Rule { action, peers, ports: ports.flatten().unwrap_or_default(), doubt, may_include_others: false }
    }
}

/// What an action does.
#[derive(Clone, Copy)]
enum Verb {
    Does(Action),
    /// Writes a line, and goes on.
    Log,
}

fn action(node: &Node<'_>, problems: &mut Problems) -> Option<Verb> {
    let Some(field) = node.field("action") else {
        problems.add_at(node, "action", Reason::Missing);
        return None;
    };
    match field.string(problems)? {
        "Allow" => Some(Verb::Does(Action::Allow)),
        "Deny" => Some(Verb::Does(Action::Deny)),
        "Pass" => Some(Verb::Does(Action::Pass)),
        "Log" => Some(Verb::Log),
        other => {
            problems.add(&field, Reason::Word { allowed: "Allow, Deny, Pass, Log", found: shortened(other) });
            None
        }
    }
}

/// `Some(None)`: both families.
fn ip_version(node: &Node<'_>, problems: &mut Problems) -> Option<Option<Family>> {
    let Some(field) = node.field("ipVersion") else { return Some(None) };
    match field.value().as_u64() {
        Some(4) => Some(Some(Family::V4)),
        Some(6) => Some(Some(Family::V6)),
        _ if field.is_number() => {
            problems.add(&field, Reason::Word { allowed: "4, 6", found: field.value().to_string() });
            None
        }
        _ => {
            problems.add(&field, field.wrong("4 or 6"));
            None
        }
    }
}

fn asked(node: &Node<'_>, problems: &mut Problems) -> Option<Asked> {
    let mut read = |name| match node.field(name) {
        None => Some(None),
        Some(field) => port::protocol(&field, problems).map(Some),
    };
    let (own, without) = (read("protocol"), read("notProtocol"));
    let (own, without) = (own?, without?);
    let is_named = matches!(own, Some(Named::Of(_)));
    let matches = |protocol: &Protocol| {
        let is_own = match &own {
            None => true,
            Some(Named::Of(own)) => own == protocol,
            Some(Named::Other) => false,
        };
        is_own && !matches!(&without, Some(Named::Of(without)) if without == protocol)
    };
    Some(Asked { protocols: Protocol::ALL.into_iter().filter(matches).collect(), is_named })
}

/// What rules can say that no connection shows.
fn check_unsupported(node: &Node<'_>, asked: Option<&Asked>, problems: &mut Problems) {
    if let Some(field) = node.field("http") {
        let remedy = "leave it out, or have whoever reads HTTP judge it";
        problems.add(&field, Reason::Unsupported { what: "a match on HTTP requests", remedy });
    }
    // With protocol ICMP they narrow what matches no connection anyway; without it Calico refuses the policy.
    let is_other = asked.is_some_and(|asked| asked.protocols.is_empty());
    for name in ["icmp", "notICMP"] {
        if let Some(field) = node.field(name).filter(|_| !is_other) {
            let what = "a match on ICMP without protocol ICMP or ICMPv6";
            problems.add(&field, Reason::Unsupported { what, remedy: "add the protocol" });
        }
    }
}

/// Whose port a connection comes from is not known before it is made.
fn check_source_ports(source: &Node<'_>, problems: &mut Problems) {
    for (_, field) in source.present(&["ports", "notPorts"]) {
        if field.value().as_array().is_none_or(|ports| !ports.is_empty()) {
            let remedy = "leave it out, and name the destination's ports";
            problems.add(&field, Reason::Unsupported { what: "a source port", remedy });
        }
    }
}

/// A rule that bears on some of the policy's pods only.
fn check_local(local: &Node<'_>, problems: &mut Problems) {
    for name in ENTITY_FIELDS.iter().filter(|name| !matches!(**name, "ports" | "notPorts")) {
        let Some(field) = local.field(name) else { continue };
        let is_empty = field.is_text("") || field.value().as_array().is_some_and(Vec::is_empty);
        if !is_empty {
            let what = "a rule that narrows the policy's own pods";
            let remedy = "make a policy of its own for them, with that selector";
            problems.add(&field, Reason::Unsupported { what, remedy });
        }
    }
}

/// Calico refuses blocks of two families in one rule, and blocks of another family than its `ipVersion`.
fn check_families(node: &Node<'_>, problems: &mut Problems) -> Option<()> {
    let version = node.field("ipVersion").and_then(|field| field.value().as_u64());
    let mut seen: Option<Family> = None;
    for name in ["source", "destination"] {
        let Some(entity) = node.field(name) else { continue };
        for (_, field) in entity.present(&["nets", "notNets"]) {
            let texts = field.value().as_array().into_iter().flatten().filter_map(|item| item.as_str());
            for family in texts.filter_map(parse_net_or_address).map(|net| Family::of(net.addr())) {
                let number = match family {
                    Family::V4 => 4,
                    Family::V6 => 6,
                };
                if let Some(version) = version.and_then(|version| u8::try_from(version).ok())
                    && version != number
                {
                    problems.add(&field, Reason::OtherFamily { version });
                    return None;
                }
                if seen.is_some_and(|seen| seen != family) {
                    problems.add(&field, Reason::MixedFamilies);
                    return None;
                }
                seen = Some(family);
            }
        }
    }
    Some(())
}
