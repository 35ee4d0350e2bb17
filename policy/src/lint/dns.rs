//! DNS: what most connections begin with, and what policies of egress forget.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use fixedbitset::FixedBitSet;

use crate::cluster::{Connection, Party, Route};
use crate::judge;
use crate::names::{Direction, PodRef, PolicyRef, Protocol, RuleRef};
use crate::peer::Peer;
use crate::policy::{Action, Policy, Tier};
use crate::port::Ports;
use crate::verdict::Side;

use super::context::{Budget, Context, RuleAt, listed};
use super::raw::Target;
use super::{Finding, RuleId, Severity, inclusion, path, ports};

/// Where Services take questions, and most servers, too.
const DNS: u16 = 53;

/// Where NodeLocal DNSCache listens, on each node.
const NODE_LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 20, 10));

/// How many questions are asked of the engine, or pairs of policies compared.
const STEPS: usize = 40_000;

/// Labels of DNS servers.
const SERVERS: [(&str, &str); 6] = [
    ("k8s-app", "kube-dns"),
    ("k8s-app", "coredns"),
    ("app.kubernetes.io/name", "coredns"),
    ("app", "coredns"),
    ("app", "kube-dns"),
    ("dns.operator.openshift.io/daemonset-dns", "default"),
];

pub(super) fn check(context: &Context<'_>, findings: &mut Vec<Finding>) {
    if !context.has_pods() {
        without_pods(context, findings);
        return;
    }
    let servers = servers(context);
    let mut found = Found::default();
    let mut budget = Budget::new(STEPS);
    for group in context.groups(Direction::Egress).iter().filter(|group| group.is_isolated && !group.is_uncertain) {
        let mut clients = group.classes.clone();
        clients.difference_with(&servers.classes);
        let rules: Vec<RuleAt<'_>> = context.allowing(&group.policies, Direction::Egress).collect();
        let (Some(client), false) = (context.classes.of(&clients).next(), rules.is_empty()) else { continue };
        let blamed = rules.iter().find(|at| at.policy.rank.tier == Tier::NetworkPolicy);
        let Some(blamed) = blamed.or(rules.first()) else { continue };
        if !budget.take(1 + servers.list.len()) {
            context.leave_out(RuleId::DnsForgotten);
            continue;
        }
        let lookup = if servers.list.is_empty() { by_rules(&rules) } else { servers.ask(context, &client.pod.id) };
        found.note(context, lookup, *blamed, &rules, &clients);
    }
    found.say(context, &servers, findings);
}

/// The DNS servers of the cluster.
struct Servers {
    classes: FixedBitSet,
    list: Vec<PodRef>,
    /// What they listen on for what Services take on port 53.
    udp: BTreeSet<u16>,
    tcp: BTreeSet<u16>,
    service: Option<String>,
}

/// How a question to DNS fares.
enum Lookup {
    /// By this rule, if one decides; whether over TCP, too.
    Open { rule: Option<RuleRef>, tcp: bool },
    /// No rule of the client allows it. By port 53 this rule would, where servers listen on another one.
    Forgotten { by_service_port: Option<RuleRef> },
    /// A rule forbids it to the client.
    Denied(RuleRef),
    /// The servers' policies do not let it in.
    NotLetIn(Vec<PolicyRef>),
    /// Nobody can tell.
    Unknown,
}

fn servers(context: &Context<'_>) -> Servers {
    let classes = &context.classes;
    let mut set = classes.none();
    for (key, value) in SERVERS {
        set.union_with(&classes.with_value(key, value));
    }
    let mut servers = Servers {
        list: classes.of(&set).map(|class| class.pod.id.clone()).collect(),
        classes: set,
        udp: BTreeSet::new(),
        tcp: BTreeSet::new(),
        service: None,
    };
    for service in &context.raw.services {
        let pods = classes.labelled(&ports::selected(service));
        if pods.is_disjoint(&servers.classes) {
            continue;
        }
        for port in service.ports.iter().filter(|port| port.port == DNS) {
            let targets: BTreeSet<u16> = match port.target {
                Target::Number(number) => BTreeSet::from([number]),
                Target::Name(name) => {
                    classes.of(&pods).flat_map(|class| class.pod.ports.resolve(port.protocol, name)).collect()
                }
            };
            match port.protocol {
                Protocol::Udp => servers.udp.extend(targets),
                Protocol::Tcp => servers.tcp.extend(targets),
                Protocol::Sctp => {}
            }
            servers.service.get_or_insert_with(|| format!("{}/{}", service.namespace, service.name));
        }
    }
    for ports in [&mut servers.udp, &mut servers.tcp] {
        if ports.is_empty() {
            ports.insert(DNS);
        }
    }
    servers
}

impl Servers {
    /// What the engine says of a client's question to the first server that may answer it.
    fn ask(&self, context: &Context<'_>, client: &PodRef) -> Lookup {
        let from = Party::Pod(client.clone());
        let judge = |to: &Party, protocol, port| {
            let connection = Connection { from: &from, to, protocol, port, route: Route::Service, family: None };
            judge::judge(context.model, &connection)
        };
        let node_local = judge(&Party::Address(NODE_LOCAL), Protocol::Udp, DNS);
        let mut worst = Lookup::Unknown;
        for server in &self.list {
            let to = Party::Pod(server.clone());
            for port in &self.udp {
                let verdict = judge(&to, Protocol::Udp, *port);
                if !verdict.unknown.is_empty() {
                    return Lookup::Unknown;
                }
                let rule = match verdict.egress {
                    Some(Side::Denied { .. }) => {
                        let by_service_port = match judge(&to, Protocol::Udp, DNS).egress {
                            Some(Side::AllowedBy(rule, _)) => Some(rule),
                            _ => None,
                        };
                        worst = Lookup::Forgotten { by_service_port };
                        continue;
                    }
                    Some(Side::DeniedBy(rule)) => {
                        worst = Lookup::Denied(rule);
                        continue;
                    }
                    Some(Side::AllowedBy(rule, _)) => Some(rule),
                    Some(Side::NotIsolated(_) | Side::AlwaysAllowed(..)) | None => None,
                };
                match verdict.ingress {
                    Some(Side::Denied { isolated_by, .. }) => {
                        worst = Lookup::NotLetIn(isolated_by);
                        continue;
                    }
                    Some(Side::DeniedBy(rule)) => {
                        worst = Lookup::NotLetIn(vec![rule.policy]);
                        continue;
                    }
                    Some(Side::AllowedBy(..) | Side::NotIsolated(_) | Side::AlwaysAllowed(..)) | None => {}
                }
                let tcp = self
                    .tcp
                    .iter()
                    .any(|port| judge(&to, Protocol::Tcp, *port).egress.is_none_or(|side| side.is_allowed()));
                return Lookup::Open { rule, tcp };
            }
        }
        match node_local.egress {
            Some(Side::AllowedBy(rule, _)) if !matches!(worst, Lookup::NotLetIn(_) | Lookup::Denied(_)) => {
                let is_narrow = matches!(worst, Lookup::Forgotten { by_service_port: None });
                if is_narrow { Lookup::Open { rule: Some(rule), tcp: true } } else { worst }
            }
            _ => worst,
        }
    }
}

/// The same where no server is among the objects: whether any rule may be for DNS.
fn by_rules(rules: &[RuleAt<'_>]) -> Lookup {
    let allows = |at: &&RuleAt<'_>, protocol| {
        let list = &at.rule.ports;
        let is_named = |port: &crate::port::PortRule| {
            matches!(port.ports, Ports::Named(_)) && port.protocol.is_none_or(|own| own == protocol)
        };
        at.rule.doubt.is_some() || inclusion::numbers(list, protocol).contains(DNS) || list.iter().any(is_named)
    };
    match rules.iter().find(|at| allows(at, Protocol::Udp)) {
        None => Lookup::Forgotten { by_service_port: None },
        Some(at) => {
            let tcp = rules.iter().any(|at| allows(&at, Protocol::Tcp));
            Lookup::Open { rule: Some(at.policy.rule_ref(Direction::Egress, at.index, None, None)), tcp }
        }
    }
}

/// What was found, by whom it is to be said of: the pods that it bears on.
#[derive(Default)]
struct Found {
    forgotten: BTreeMap<PolicyRef, (FixedBitSet, Severity)>,
    by_service_port: BTreeMap<RuleRef, FixedBitSet>,
    udp_only: BTreeMap<(PolicyRef, u32), FixedBitSet>,
    denied: BTreeMap<RuleRef, FixedBitSet>,
    not_let_in: BTreeMap<PolicyRef, FixedBitSet>,
}

impl Found {
    fn note(
        &mut self,
        context: &Context<'_>,
        lookup: Lookup,
        blamed: RuleAt<'_>,
        rules: &[RuleAt<'_>],
        clients: &FixedBitSet,
    ) {
        let none = || context.classes.none();
        match lookup {
            Lookup::Open { tcp: true, .. } | Lookup::Open { rule: None, .. } | Lookup::Unknown => {}
            Lookup::Open { rule: Some(rule), tcp: false } => {
                self.udp_only.entry((rule.policy, rule.rule)).or_insert_with(none).union_with(clients);
            }
            Lookup::Forgotten { by_service_port: Some(rule) } => {
                self.by_service_port.entry(rule).or_insert_with(none).union_with(clients);
            }
            Lookup::Forgotten { by_service_port: None } => {
                // Who goes to fixed addresses only may do without names.
                let is_block = |peer: &Peer| matches!(peer, Peer::Block(_));
                let by_address = rules.iter().all(|at| !at.rule.peers.is_empty() && at.rule.peers.iter().all(is_block));
                let severity = if by_address { Severity::Info } else { Severity::Warning };
                let entry = self.forgotten.entry(blamed.policy.id.clone()).or_insert_with(|| (none(), severity));
                entry.0.union_with(clients);
                entry.1 = entry.1.max(severity);
            }
            Lookup::Denied(rule) => self.denied.entry(rule).or_insert_with(none).union_with(clients),
            Lookup::NotLetIn(policies) => {
                if let Some(policy) = policies.into_iter().next() {
                    self.not_let_in.entry(policy).or_insert_with(none).union_with(clients);
                }
            }
        }
    }

    fn say(self, context: &Context<'_>, servers: &Servers, findings: &mut Vec<Finding>) {
        let names = |set: &FixedBitSet| context.classes.names(set);
        let udp = listed(&servers.udp);
        for (policy, (clients, severity)) in &self.forgotten {
            findings.push(forgotten(policy, &names(clients), severity, servers));
        }
        // Where a rule names the DNS pods themselves it is said port by port, see `ports`.
        let names_pods = |rule: &RuleRef| {
            let at = context.rules(Direction::Egress).find(|at| at.policy.id == rule.policy && at.index == index(rule));
            at.is_some_and(|at| ports::destinations(context, at).is_some())
        };
        for (rule, clients) in self.by_service_port.iter().filter(|(rule, _)| !names_pods(rule)) {
            let service = servers.service.as_deref().unwrap_or("kube-system/kube-dns");
            findings.push(Finding::new(
                RuleId::ServicePort,
                &rule.policy,
                place(rule, "ports"),
                format!(
                    "port 53 is that of Service {service}, and the DNS pods listen on {udp}: policies are judged behind the \
                     Service's translation, and names do not resolve in {}",
                    names(clients)
                ),
                format!("allow UDP and TCP {udp}"),
            ));
        }
        for ((policy, rule), clients) in &self.udp_only {
            findings.push(Finding::new(
                RuleId::DnsTcp,
                policy,
                format!("spec.egress[{rule}].ports"),
                format!(
                    "DNS is allowed over UDP and not over TCP: an answer that does not fit into a datagram is asked for again \
                     over TCP, and then fails in {}",
                    names(clients)
                ),
                format!("add {{port: {}, protocol: TCP}}", listed(&servers.tcp)),
            ));
        }
        for (rule, clients) in &self.denied {
            findings.push(Finding::new(
                RuleId::DnsShut,
                &rule.policy,
                place(rule, ""),
                format!(
                    "this rule keeps {} from DNS, although policies behind it allow some egress: no name resolves",
                    names(clients)
                ),
                format!("let an earlier rule pass or allow UDP and TCP {udp} to the DNS pods"),
            ));
        }
        for (policy, clients) in &self.not_let_in {
            findings.push(Finding::new(
                RuleId::DnsShut,
                policy,
                path::rules(Direction::Ingress),
                format!(
                    "it isolates the DNS pods and does not let in {}, which may go to DNS by their own policies: no name resolves",
                    names(clients)
                ),
                format!("allow ingress on UDP and TCP {udp} from all namespaces"),
            ));
        }
    }
}

fn forgotten(policy: &PolicyRef, names: &str, severity: &Severity, servers: &Servers) -> Finding {
    let ports = listed(&servers.udp);
    Finding::new(
        RuleId::DnsForgotten,
        policy,
        path::rules(Direction::Egress),
        format!("{names} may go somewhere but not to DNS: no rule allows UDP {ports}, and names do not resolve"),
        format!(
            "add an egress rule for UDP and TCP {ports} to pods with k8s-app: kube-dns in namespace kube-system, in this policy or one \
             for the whole namespace"
        ),
    )
    .with(*severity)
}

fn index(rule: &RuleRef) -> usize {
    usize::try_from(rule.rule).expect("an index of a list fits")
}

fn place(rule: &RuleRef, field: &str) -> String {
    let rule = format!("spec.{}[{}]", rule.direction, rule.rule);
    if field.is_empty() { rule } else { format!("{rule}.{field}") }
}

/// Policies alone: whom a policy selects is isolated by it, and opened by those that select at least the same.
fn without_pods(context: &Context<'_>, findings: &mut Vec<Finding>) {
    if !context.model.broken.is_empty() {
        return;
    }
    let policies = &context.model.policies;
    let mut near: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    for (at, policy) in policies.iter().enumerate() {
        near.entry(policy.id.namespace.as_deref()).or_default().push(at);
    }
    let has_rules = |policy: &&Arc<Policy>| {
        policy.only_allows()
            && policy.egress.as_ref().is_some_and(|rules| rules.iter().any(|rule| rule.action == Action::Allow))
    };
    let mut budget = Budget::new(STEPS * 10);
    for policy in policies.iter().filter(has_rules) {
        let namespace = policy.id.namespace.as_deref();
        let others = near.get(&namespace).into_iter().chain(near.get(&None)).flatten();
        let others: Vec<usize> = others.copied().collect();
        if !budget.take(others.len()) {
            context.leave_out(RuleId::DnsForgotten);
            continue;
        }
        let around = others.into_iter().filter(|at| inclusion::pods(&policy.subject, &policies[*at].subject));
        let around: Vec<usize> = around.collect();
        let rules: Vec<RuleAt<'_>> = context.allowing(&around, Direction::Egress).collect();
        let servers = Servers {
            classes: context.classes.none(),
            list: Vec::new(),
            udp: BTreeSet::from([DNS]),
            tcp: BTreeSet::from([DNS]),
            service: None,
        };
        let own = rules.iter().filter(|at| at.policy.id == policy.id);
        let is_block = |peer: &Peer| matches!(peer, Peer::Block(_));
        let by_address = own.clone().all(|at| !at.rule.peers.is_empty() && at.rule.peers.iter().all(is_block));
        match by_rules(&rules) {
            Lookup::Forgotten { .. } => {
                let severity = if by_address { Severity::Info } else { Severity::Warning };
                findings.push(forgotten(&policy.id, &policy.subject.to_string(), &severity, &servers));
            }
            Lookup::Open { rule: Some(rule), tcp: false } if rule.policy == policy.id => {
                findings.push(Finding::new(
                    RuleId::DnsTcp,
                    &policy.id,
                    format!("spec.egress[{}].ports", rule.rule),
                    format!(
                        "DNS is allowed over UDP and not over TCP: an answer that does not fit into a datagram is asked for \
                         again over TCP, and then fails in {}",
                        policy.subject
                    ),
                    "add {port: 53, protocol: TCP}".to_owned(),
                ));
            }
            Lookup::Open { .. } | Lookup::Denied(_) | Lookup::NotLetIn(_) | Lookup::Unknown => {}
        }
    }
}
