//! Ports of rules, held against the ports that pods declare and Services name.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use fixedbitset::FixedBitSet;

use crate::label::Labels;
use crate::names::{Direction, Protocol};
use crate::peer::{Namespaces, Peer, PodSet};
use crate::policy::{Action, Policy};
use crate::port::{PortRange, PortRule, Ports};
use crate::selector::{Requirement, Selector, Test};

use super::context::{Context, RuleAt, listed};
use super::raw::{Service, Target};
use super::{Finding, RuleId, inclusion, path};

pub(super) fn check(context: &Context<'_>, findings: &mut Vec<Finding>) {
    sctp_only(context, findings);
    if !context.has_pods() {
        return;
    }
    let ports = PortCheck { context, services: Services::new(context), names: RefCell::default() };
    for direction in Direction::ALL {
        for at in context.rules(direction) {
            if let Some(destinations) = destinations(context, at) {
                ports.rule(at, &destinations, findings);
            }
        }
    }
}

/// The pods that a rule's ports are ports of; `None` where others may be meant, too, or there are none.
pub(super) fn destinations(context: &Context<'_>, at: RuleAt<'_>) -> Option<FixedBitSet> {
    let set = match at.direction {
        Direction::Ingress => context.classes.select(&at.policy.subject).as_ref().clone(),
        Direction::Egress => {
            if at.rule.peers.is_empty() || !at.rule.peers.iter().all(|peer| matches!(peer, Peer::Pods(_))) {
                return None;
            }
            let mut set = context.classes.none();
            for peer in &at.rule.peers {
                set.union_with(&context.classes.peer(peer));
            }
            set
        }
    };
    (!set.is_clear()).then_some(set)
}

/// Services that lead to another port than their own, by that.
struct Services<'a> {
    by_port: HashMap<(Protocol, u16), Vec<Lead<'a>>>,
}

/// Where a Service leads.
struct Lead<'a> {
    service: &'a Service<'a>,
    pods: Rc<FixedBitSet>,
    /// What its pods listen on.
    targets: BTreeSet<u16>,
}

impl<'a> Services<'a> {
    fn new(context: &'a Context<'_>) -> Self {
        let mut by_port: HashMap<(Protocol, u16), Vec<Lead<'a>>> = HashMap::new();
        for service in &context.raw.services {
            let pods = context.classes.select(&selected(service));
            if pods.is_clear() {
                continue;
            }
            for port in &service.ports {
                let targets: BTreeSet<u16> = match port.target {
                    Target::Number(number) => BTreeSet::from([number]),
                    Target::Name(name) => context
                        .classes
                        .of(&pods)
                        .flat_map(|class| class.pod.ports.resolve(port.protocol, name))
                        .collect(),
                };
                let lead = Lead { service, pods: pods.clone(), targets };
                by_port.entry((port.protocol, port.port)).or_default().push(lead);
            }
        }
        Self { by_port }
    }

    /// Those of this port that lead to some of the pods.
    fn to<'s>(&'s self, protocol: Protocol, port: u16, pods: &'s FixedBitSet) -> impl Iterator<Item = &'s Lead<'a>> {
        let all = self.by_port.get(&(protocol, port)).into_iter().flatten();
        all.filter(|lead| !lead.pods.is_disjoint(pods))
    }
}

/// The pods behind a Service.
pub(super) fn selected(service: &Service<'_>) -> PodSet {
    let requirement = |(key, value): (&String, &String)| Requirement {
        key: key.clone(),
        test: Test::In(BTreeSet::from([value.clone()])),
    };
    let labels: &Labels = &service.selector;
    PodSet {
        namespaces: Namespaces::Own(service.namespace.to_owned()),
        pods: Selector::new(labels.iter().map(requirement)),
    }
}

struct PortCheck<'c, 'a> {
    context: &'c Context<'a>,
    services: Services<'c>,
    names: RefCell<HashMap<(Protocol, String), Rc<ByNumbers>>>,
}

/// The pods by what they call so.
type ByNumbers = BTreeMap<Vec<u16>, FixedBitSet>;

impl PortCheck<'_, '_> {
    fn rule(&self, at: RuleAt<'_>, destinations: &FixedBitSet, findings: &mut Vec<Finding>) {
        for (index, port) in at.rule.ports.iter().enumerate() {
            let path = at.port_path(Some(index));
            // Of the other kinds each has its own fields below that.
            let path = if at.policy.id.kind == "NetworkPolicy" { format!("{path}.port") } else { path };
            let finding = match (&port.ports, port.protocol) {
                (Ports::All, _) | (_, None) => None,
                (Ports::Range(range), Some(protocol)) => self.number(at, path, *range, protocol, destinations),
                (Ports::Named(name), Some(protocol)) => self.name(at, path, name, port, protocol, destinations),
            };
            findings.extend(finding);
        }
    }

    /// A port by its number.
    fn number(
        &self,
        at: RuleAt<'_>,
        path: String,
        range: PortRange,
        protocol: Protocol,
        destinations: &FixedBitSet,
    ) -> Option<Finding> {
        let classes = &self.context.classes;
        let (first, last) = range.bounds();
        if classes.declare(destinations, protocol, first, last) {
            return None;
        }
        let whose = whose(at.direction);
        if first == last
            && let Some(lead) = self.services.to(protocol, first, destinations).next()
            && !lead.targets.is_empty()
            && self.services.to(protocol, first, destinations).all(|lead| !lead.targets.contains(&first))
        {
            let targets = listed(&lead.targets);
            return Some(Finding::new(
                RuleId::ServicePort,
                &at.policy.id,
                path,
                format!(
                    "{protocol} {first} is the port of Service {}/{}, and its pods listen on {targets}: policies are judged \
                     behind the Service's translation, so that this matches none of it",
                    lead.service.namespace, lead.service.name
                ),
                format!("write the pods' own port: {targets}"),
            ));
        }
        // A port need not be declared to be open: only where all pods declare some is one that is missing worth a word. And
        // what is to stay shut need not be there.
        if !destinations.is_subset(&classes.declaring) || at.rule.action != Action::Allow {
            return None;
        }
        let other =
            Protocol::ALL.into_iter().find(|it| *it != protocol && classes.declare(destinations, *it, first, last));
        if let Some(other) = other {
            return Some(Finding::new(
                RuleId::WrongProtocol,
                &at.policy.id,
                path,
                format!(
                    "{whose} have {} in {other}, not in {protocol}: a port without a protocol is a TCP port",
                    range_text(range)
                ),
                format!("write protocol: {other}, or list the port once for each protocol"),
            ));
        }
        let declared = self.declared(destinations);
        Some(Finding::new(
            RuleId::PortNotDeclared,
            &at.policy.id,
            path,
            format!("no container of {whose} declares {protocol} {}; they declare {declared}", range_text(range)),
            "write the port that the pods listen on; if they do listen on this one, declare it as a containerPort"
                .to_owned(),
        ))
    }

    /// All pods by what they call so.
    fn resolved(&self, protocol: Protocol, name: &str) -> Rc<ByNumbers> {
        let mut known = self.names.borrow_mut();
        let resolved = known.entry((protocol, name.to_owned())).or_insert_with(|| {
            let classes = &self.context.classes;
            let mut by_numbers = ByNumbers::new();
            for at in classes.all().ones() {
                let numbers = classes.get(at).pod.ports.resolve(protocol, name).collect();
                by_numbers.entry(numbers).or_insert_with(|| classes.none()).insert(at);
            }
            Rc::new(by_numbers)
        });
        Rc::clone(resolved)
    }

    fn declared(&self, pods: &FixedBitSet) -> String {
        let all = self.context.classes.declared.iter().filter(|(_, set)| !set.is_disjoint(pods));
        listed(all.map(|((protocol, port), _)| format!("{protocol} {port}")))
    }

    /// SEMANTICS 7: names are resolved by each destination.
    fn name(
        &self,
        at: RuleAt<'_>,
        path: String,
        name: &str,
        port: &PortRule,
        protocol: Protocol,
        destinations: &FixedBitSet,
    ) -> Option<Finding> {
        let classes = &self.context.classes;
        // How many pods there are by what they call so, and one of them.
        let mut numbers: BTreeMap<&[u16], (usize, String)> = BTreeMap::new();
        let resolved = self.resolved(protocol, name);
        for (found, pods) in resolved.iter() {
            let mut pods = pods.clone();
            pods.intersect_with(destinations);
            if let Some(class) = classes.of(&pods).next() {
                numbers.insert(found, (classes.pods(&pods), class.pod.id.to_string()));
            }
        }
        let whose = whose(at.direction);
        let missing = numbers.remove(&[][..]);
        if numbers.is_empty() {
            let other = Protocol::ALL.into_iter().find(|other| {
                let resolved = self.resolved(*other, name);
                let mut named = resolved.iter().filter(|(numbers, _)| !numbers.is_empty());
                *other != protocol && named.any(|(_, pods)| !pods.is_disjoint(destinations))
            });
            return Some(match other {
                Some(other) => Finding::new(
                    RuleId::WrongProtocol,
                    &at.policy.id,
                    path,
                    format!(
                        "{whose} have a port named {name} in {other}, not in {protocol}, and so {port} matches nothing"
                    ),
                    format!("write protocol: {other}, or list the port once for each protocol"),
                ),
                None => Finding::new(
                    RuleId::NamedPortMissing,
                    &at.policy.id,
                    path,
                    format!(
                        "none of {whose} has a port named {name}, and a name that a pod lacks matches nothing there"
                    ),
                    format!("give the containers' port the name {name}, or write its number"),
                ),
            });
        }
        // A rule for all pods is for those that have the port.
        if numbers.len() == 1 && (missing.is_none() || is_for_all(at)) {
            return None;
        }
        let mut says: Vec<String> = numbers
            .iter()
            .map(|(numbers, (_, example))| {
                let numbers: Vec<String> = numbers.iter().map(u16::to_string).collect();
                format!("{} on {example}", numbers.join(" and "))
            })
            .collect();
        says.extend(missing.map(|(count, example)| match count {
            1 => format!("nothing on {example}"),
            _ => format!("nothing on {example} and {} more", count - 1),
        }));
        Some(Finding::new(
            RuleId::NamedPortDiffers,
            &at.policy.id,
            path,
            format!("{name} is resolved by each pod by itself, and it is {}", listed(says)),
            "give the port one number everywhere, or write rules of their own for pods that differ".to_owned(),
        ))
    }
}

/// SEMANTICS 20: a pod is isolated for all protocols at once.
fn sctp_only(context: &Context<'_>, findings: &mut Vec<Finding>) {
    for policy in &context.model.policies {
        for direction in Direction::ALL {
            if policy.rank.tier.isolates() && is_sctp_only(policy, direction) && !is_joined(context, policy, direction)
            {
                findings.push(Finding::new(
                    RuleId::SctpOnly,
                    &policy.id,
                    path::rules(direction),
                    format!(
                        "all rules are for SCTP, and the policy isolates its pods for {direction} whatever the protocol: TCP and \
                         UDP are shut along with it"
                    ),
                    "add rules for the TCP and UDP ports that must stay open, or protocol: TCP if that was meant".to_owned(),
                ));
            }
        }
    }
}

/// Whether another policy allows TCP or UDP to pods that this one selects.
fn is_joined(context: &Context<'_>, policy: &Policy, direction: Direction) -> bool {
    let speaks = |other: &Policy| {
        let rules = other.rules(direction).unwrap_or_default();
        let is_sctp = |port: &PortRule| port.protocol == Some(Protocol::Sctp);
        rules.iter().any(|rule| rule.ports.is_empty() || !rule.ports.iter().all(is_sctp))
    };
    let selected = context.classes.select(&policy.subject);
    let joins = |other: &Policy| {
        inclusion::pods(&policy.subject, &other.subject)
            || !selected.is_disjoint(&context.classes.select(&other.subject))
    };
    context.model.policies.iter().any(|other| other.id != policy.id && speaks(other) && joins(other))
}

fn is_sctp_only(policy: &Policy, direction: Direction) -> bool {
    let rules = policy.rules(direction).unwrap_or_default();
    let is_sctp = |port: &PortRule| port.protocol == Some(Protocol::Sctp);
    !rules.is_empty()
        && rules.iter().all(|rule| {
            rule.action == Action::Allow
                && rule.doubt.is_none()
                && !rule.ports.is_empty()
                && rule.ports.iter().all(is_sctp)
        })
}

/// Whether a rule's destinations are all pods of some namespaces.
fn is_for_all(at: RuleAt<'_>) -> bool {
    match at.direction {
        Direction::Ingress => at.policy.subject.pods.is_empty(),
        Direction::Egress => at.rule.peers.iter().filter_map(Peer::pods).any(|set| set.pods.is_empty()),
    }
}

fn range_text(range: PortRange) -> String {
    let (first, last) = range.bounds();
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn whose(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "the pods that the policy selects",
        Direction::Egress => "the pods that the rule names",
    }
}
