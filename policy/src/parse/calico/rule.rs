//! Rules of Calico's policies.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::block::IpBlock;
use crate::names::{Direction, Family, Protocol};
use crate::parse::block;
use crate::parse::calico::port::{self, Asked, Named};
use crate::parse::calico::selector::Selected;
use crate::parse::calico::sets::{Scope, Sets};
use crate::parse::calico::{expression, labels};
use crate::parse::node::{Node, Problems, shortened};
use crate::parse::policy::all;
use crate::parse::problem::Reason;
use crate::peer::{Namespaces, Peer, PodSet};
use crate::policy::{self, Action, Rule};
use crate::selector::{Expression, Requirement, Selector, Test};

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

/// Who is at the other end.
enum Remote {
    /// Anyone.
    Anyone,
    /// These.
    Peer(Peer),
    /// Nobody.
    Nobody,
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
            return Rule { action: Action::Deny, peers: Vec::new(), ports: Vec::new(), doubt: problems.since(before) };
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
            None => Some(restricted(None, &[], &[], version.flatten())),
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
                    (Some(ports), Some(Remote::Peer(peer))) => (ports, vec![peer]),
                    (Some(ports), Some(Remote::Anyone) | None) => (ports, Vec::new()),
                };
                return Rule { action, peers, ports, doubt: None };
            }
            (_, Some(Verb::Does(_)) | None) => {}
        }
        // What could not be read is as wide as it may be.
        let peers = match remote {
            Some(Remote::Peer(peer)) => vec![peer],
            Some(Remote::Anyone | Remote::Nobody) | None => Vec::new(),
        };
        let action = match action {
            Some(Verb::Does(action)) => action,
            Some(Verb::Log) | None => Action::Deny,
        };
        Rule { action, peers, ports: ports.flatten().unwrap_or_default(), doubt }
    }

    /// What a `source` or `destination` says of the other end. `None`: it cannot be read, or not be said.
    fn remote(&self, entity: &Node<'_>, version: Option<Family>, problems: &mut Problems) -> Option<Remote> {
        let before = problems.len();
        let namespaces = expression(entity, "namespaceSelector", problems);
        let selector = expression_of_labels(entity, "selector", problems);
        let without = expression_of_labels(entity, "notSelector", problems);
        let account = service_account(entity, problems);
        let nets = nets(entity, "nets", problems);
        let not_nets = nets_without(entity, problems);
        if let Some(services) = entity.field("services") {
            let remedy = "name the pods behind it by their labels";
            problems.add(&services, Reason::Unsupported { what: "a Service's endpoints", remedy });
        }
        if problems.len() > before {
            return None;
        }
        let (namespaces, selector, without, account) = (namespaces?, selector?, without?, account?);
        let (nets, not_nets) = (nets?, not_nets?);
        let selects = selector.is_some() || account.is_some();
        let scope = match (&namespaces, self.own) {
            (Some(Selected::Global), _) => Scope::Global,
            (Some(Selected::Labels(_)), _) => Scope::SomeNamespaces,
            (None, Some(own)) => Scope::Own(own),
            (None, None) => Scope::Anywhere,
        };
        let mut terms: Vec<Expression> = Vec::new();
        terms.extend(selector.map(as_expression));
        terms.extend(account);
        let positive = Selector::of(Expression::And(terms.clone()));
        // Whether any term confines it to what has labels: what else there is, is out then.
        let confines = selects || namespaces.is_some() || (without.is_some() && self.own.is_some());
        if confines && let Some(set) = self.sets.selected(&scope, &positive) {
            problems.add(entity, Reason::NetworkSet { object: set.to_owned() });
            return None;
        }
        if let Some(without) = without {
            // It is not confined to the policy's namespace: see `GetEntityRuleSelector` in Calico's rules.go.
            if let Some(set) = self.sets.selected(&Scope::Anywhere, &without) {
                problems.add_at(entity, "notSelector", Reason::NetworkSet { object: set.to_owned() });
                return None;
            }
            if !confines {
                let what = "all that a notSelector leaves, be it a pod or not,";
                let remedy = "add a selector, for instance all(), to speak of pods only";
                problems.add_at(entity, "notSelector", Reason::Unsupported { what, remedy });
                return None;
            }
            terms.push(Expression::Not(Box::new(as_expression(without))));
        }
        let namespaces = match (namespaces, self.own) {
            (Some(Selected::Global), _) => return Some(Remote::Nobody),
            (Some(Selected::Labels(selector)), _) => Namespaces::Selected(selector),
            (None, Some(own)) => Namespaces::Own(own.to_owned()),
            (None, None) => Namespaces::Selected(Selector::default()),
        };
        let set = confines.then(|| PodSet { namespaces, pods: flattened(terms) });
        Some(restricted(set, &nets, &not_nets, version))
    }
}

/// Pods, addresses, or pods by their addresses.
fn restricted(set: Option<PodSet>, nets: &[IpNet], not_nets: &[IpNet], version: Option<Family>) -> Remote {
    let all = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    let is_restricted = !nets.is_empty() || !not_nets.is_empty() || version.is_some();
    let cidrs = if nets.is_empty() { &all[..] } else { nets };
    let of_version = |net: &&IpNet| version.is_none_or(|version| Family::of(net.addr()) == version);
    let block = IpBlock::of(cidrs.iter().filter(of_version).copied(), not_nets.iter().copied());
    match set {
        None if !is_restricted => Remote::Anyone,
        Some(set) if !is_restricted => Remote::Peer(Peer::Pods(set)),
        None => Remote::Peer(Peer::Block(block)),
        Some(set) => Remote::Peer(Peer::PodsIn(set, block)),
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
            for family in texts.filter_map(|text| text.parse::<IpNet>().ok()).map(|net| Family::of(net.addr())) {
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

fn nets(entity: &Node<'_>, name: &'static str, problems: &mut Problems) -> Option<Vec<IpNet>> {
    let Some(field) = entity.field(name) else { return Some(Vec::new()) };
    all(field.items(problems)?, |item| block::net(&item, problems))
}

fn nets_without(entity: &Node<'_>, problems: &mut Problems) -> Option<Vec<IpNet>> {
    nets(entity, "notNets", problems)
}

/// `serviceAccounts`: the names as the label that Calico gives pods.
fn service_account(entity: &Node<'_>, problems: &mut Problems) -> Option<Option<Expression>> {
    let Some(field) = entity.field("serviceAccounts") else { return Some(None) };
    field.check_fields(&["names", "selector"], problems)?;
    if let Some(selector) = field.field("selector").filter(|selector| !selector.is_text("")) {
        let remedy = "name them instead";
        problems.add(&selector, Reason::Unsupported { what: "a selector of service accounts", remedy });
        return None;
    }
    let Some(names) = field.field("names") else { return Some(None) };
    let names = all(names.items(problems)?, |item| item.string(problems).map(str::to_owned))?;
    if names.is_empty() {
        return Some(None);
    }
    let key = policy::calico::SERVICE_ACCOUNT.to_owned();
    Some(Some(Expression::Label(Requirement { key, test: Test::In(names.into_iter().collect()) })))
}

/// `Some(None)`: it is absent.
fn expression_of_labels(entity: &Node<'_>, name: &'static str, problems: &mut Problems) -> Option<Option<Selector>> {
    let is_there = entity.field(name).is_some_and(|field| !field.is_text(""));
    labels(entity, name, problems).map(|selector| is_there.then_some(selector))
}

fn as_expression(selector: Selector) -> Expression {
    let requirements = selector.requirements().iter().cloned().map(Expression::Label);
    Expression::And(requirements.chain(selector.expression().cloned()).collect())
}

/// All terms at once, as a list of requirements if they are one.
fn flattened(terms: Vec<Expression>) -> Selector {
    let parts = terms.into_iter().flat_map(|term| match term {
        Expression::And(parts) => parts,
        Expression::Label(_) | Expression::Not(_) | Expression::Or(_) => vec![term],
    });
    let mut parts: Vec<Expression> = parts.collect();
    match parts.len() {
        1 => Selector::of(parts.remove(0)),
        _ => Selector::of(Expression::And(parts)),
    }
}
