//! Policies from what units need.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::peers::{Writer, first};
use super::units::{Demand, Peers, Units};
use super::{Dns, Options};
use crate::block::IpBlock;
use crate::choice;
use crate::model::{Model, PodIndex};
use crate::names::{Direction, Family, PolicyRef, Protocol};
use crate::peer::{Namespaces, Peer, PodSet};
use crate::policy::{Policy, Rank, Rule};
use crate::port::{PortRange, PortRule, Ports};
use crate::selector::Selector;
use crate::traffic::{PortSet, Traffic};

/// How many peers a policy's name lists.
const NAMED: usize = 2;

/// How long a policy's name may get before it is told in short.
const LONG: usize = 50;

/// Policies before they are proved, each with its comment.
pub(super) struct Draft {
    pub policies: Vec<(Policy, String)>,
    /// What DNS takes.
    pub dns: Traffic,
    /// The pods that take it from all pods.
    pub dns_pods: BTreeSet<PodIndex>,
}

impl Draft {
    pub(super) fn new(model: &Model, units: &Units, options: &Options) -> Self {
        let writer = Writer::new(model, units);
        let (dns, dns_pods) = dns(model, options);
        let mut namespaces: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for at in 0..units.units.len() {
            if let Some(pod) = first(model, units, at).filter(|pod| options.covers(&pod.id.namespace)) {
                namespaces.entry(&pod.id.namespace).or_default().push(at);
            }
        }
        let mut draft = Self { policies: Vec::new(), dns, dns_pods };
        for (namespace, members) in &namespaces {
            draft.policies.push(default_deny(namespace, &draft.dns));
            // Units with the same needs may share one policy, where one label says who they are.
            let mut groups: BTreeMap<&[Demand; 2], BTreeSet<usize>> = BTreeMap::new();
            for at in members.iter().filter(|at| units.demands[**at].iter().any(|demand| !demand.is_empty())) {
                groups.entry(&units.demands[*at]).or_default().insert(*at);
            }
            let mut found = Vec::new();
            for (needs, group) in groups {
                match writer.group(&group, namespace).filter(|_| group.len() > 1) {
                    Some(selector) => found.push((selector, needs, group)),
                    None => found.extend(group.into_iter().map(|at| (writer.unit(at), needs, BTreeSet::from([at])))),
                }
            }
            found.sort_by(|a, b| a.0.cmp(&b.0));
            for (selector, needs, group) in found {
                let subject = Subject { namespace, selector, group, units };
                let policy = draft.policy(model, &writer, &subject, needs);
                draft.policies.push(policy);
            }
            draft.take_dns(model, &writer, units, namespace);
        }
        draft
    }

    fn policy(
        &self,
        model: &Model,
        writer: &Writer<'_>,
        subject: &Subject<'_>,
        needs: &[Demand; 2],
    ) -> (Policy, String) {
        let own = subject.called(model);
        let mut comment = Vec::new();
        let mut words = own.clone() + "-allow";
        let mut written: [Option<Vec<Rule>>; 2] = [None, None];
        for direction in Direction::ALL {
            let demand = &needs[direction as usize];
            if demand.is_empty() {
                continue;
            }
            let (preposition, verb) = match direction {
                Direction::Ingress => ("from", "takes"),
                Direction::Egress => ("to", "may use"),
            };
            let mut rules = Vec::new();
            let mut all_names: BTreeSet<String> = BTreeSet::new();
            for (traffic, Ends { units: members, nets, pods }) in by_traffic(demand) {
                let (mut peers, mut names) = (Vec::new(), Vec::new());
                for named in writer.cover(&members, &subject.free(), subject.namespace) {
                    peers.push(Peer::Pods(named.set));
                    names.push(named.name);
                }
                for net in nets {
                    peers.push(Peer::Block(IpBlock::of([net], [])));
                    names.push(if net.prefix_len() == 0 { "anywhere".to_owned() } else { short(net) });
                }
                let mut said = names.clone();
                for (pod, family) in pods {
                    let pod = model.pod(pod);
                    let addresses = pod.addresses.iter().filter(|address| Family::of(**address) == family);
                    for address in addresses {
                        peers.push(Peer::Block(IpBlock::of([IpNet::from(*address)], [])));
                        said.push(format!("{} by {family} only ({address})", choice::called(pod)));
                    }
                    names.push(choice::called(pod).to_owned());
                }
                comment.push(format!("{own} {verb} {traffic} {preposition} {}.", listed(&said)));
                all_names.extend(names);
                rules.push(Rule::allow(peers, ports(traffic)));
            }
            let list: Vec<&str> = all_names.iter().map(String::as_str).collect();
            words += &match list.len() {
                0..=NAMED => format!("-{preposition}-{}", list.join("-and-")),
                _ => format!("-{direction}"),
            };
            written[direction as usize] = Some(rules);
        }
        if words.len() > LONG {
            words = own + "-allow";
        }
        let [ingress, egress] = written;
        let is_taken = |name: &str| {
            self.policies.iter().any(|(it, _)| it.id == PolicyRef::network_policy(subject.namespace, name))
        };
        let name = choice::free_name(&choice::object_name(&words), is_taken);
        let id = PolicyRef::network_policy(subject.namespace, &name);
        let selected = own_set(subject.namespace, subject.selector.clone());
        (Policy { id, rank: Rank::NETWORK_POLICY, subject: selected, ingress, egress }, comment.join("\n"))
    }

    /// Leaves single addresses out of rules that have a block around them, which changes nothing.
    pub(super) fn tidy(&mut self) {
        let rules = self.policies.iter_mut().flat_map(|(policy, _)| [&mut policy.ingress, &mut policy.egress]);
        for rule in rules.flatten().flatten() {
            let blocks: Vec<IpBlock> = rule.peers.iter().filter_map(Peer::block).cloned().collect();
            let single = |block: &IpBlock| match block.cidrs() {
                [net] if net.prefix_len() == net.max_prefix_len() => Some(net.addr()),
                _ => None,
            };
            rule.peers.retain(|peer| {
                let Some((own, address)) = peer.block().and_then(|own| Some((own, single(own)?))) else { return true };
                !blocks.iter().any(|other| other != own && other.contains(address))
            });
        }
    }

    /// Lets the DNS pods of a namespace be asked.
    fn take_dns(&mut self, model: &Model, writer: &Writer<'_>, units: &Units, namespace: &str) {
        for (at, unit) in units.units.iter().enumerate() {
            let Some(pod) = first(model, units, at).filter(|pod| pod.id.namespace == namespace) else { continue };
            if !unit.iter().any(|index| self.dns_pods.contains(index)) {
                continue;
            }
            let name = choice::object_name(&format!("{}-allow-dns", choice::called(pod)));
            let is_taken =
                |name: &str| self.policies.iter().any(|(it, _)| it.id == PolicyRef::network_policy(namespace, name));
            let id = PolicyRef::network_policy(namespace, &choice::free_name(&name, is_taken));
            let rule = Rule::allow(vec![Peer::Pods(PodSet::all())], ports(&self.dns));
            let subject = own_set(namespace, writer.unit(at));
            let policy = Policy { id, rank: Rank::NETWORK_POLICY, subject, ingress: Some(vec![rule]), egress: None };
            self.policies.push((policy, format!("{} takes DNS from all pods.", choice::called(pod))));
        }
    }
}

/// The pods that a policy is for.
struct Subject<'a> {
    namespace: &'a str,
    selector: Selector,
    group: BTreeSet<usize>,
    units: &'a Units,
}

impl Subject<'_> {
    fn called(&self, model: &Model) -> String {
        let one = self.group.first().and_then(|at| first(model, self.units, *at));
        match (one, self.group.len()) {
            (Some(pod), 1) => choice::called(pod).to_owned(),
            _ => match self.selector.requirements().first().map(|it| &it.test) {
                Some(crate::selector::Test::In(values)) => values.iter().cloned().collect::<Vec<_>>().join("-"),
                _ => self.namespace.to_owned(),
            },
        }
    }

    /// A pod reaches itself whatever is written.
    fn free(&self) -> BTreeSet<usize> {
        let alone = self.group.len() == 1 && self.group.iter().all(|at| self.units.units[*at].len() == 1);
        if alone { self.group.clone() } else { BTreeSet::new() }
    }
}

fn own_set(namespace: &str, pods: Selector) -> PodSet {
    PodSet { namespaces: Namespaces::Own(namespace.to_owned()), pods }
}

/// The peers of one rule.
#[derive(Default)]
struct Ends {
    units: BTreeSet<usize>,
    nets: Vec<IpNet>,
    /// By the addresses of one family.
    pods: Vec<(PodIndex, Family)>,
}

/// Peers that need the same ports.
fn by_traffic(demand: &Demand) -> BTreeMap<&Traffic, Ends> {
    let mut found: BTreeMap<&Traffic, Ends> = BTreeMap::new();
    for (peers, traffic) in demand {
        let ends = found.entry(traffic).or_default();
        match peers {
            Peers::Unit(at) => {
                ends.units.insert(*at);
            }
            Peers::Net(net) => ends.nets.push(*net),
            Peers::Addresses(pod, family) => ends.pods.push((*pod, *family)),
        }
    }
    for ends in found.values_mut() {
        ends.nets = IpNet::aggregate(&ends.nets);
    }
    found
}

/// Items of a rule's `ports`; none for everything.
pub(super) fn ports(traffic: &Traffic) -> Vec<PortRule> {
    if traffic.is_all() {
        return Vec::new();
    }
    let mut ports = Vec::new();
    for (protocol, set) in traffic.protocols() {
        let protocol = Some(protocol);
        if set.is_all() {
            ports.push(PortRule { protocol, ports: Ports::All });
            continue;
        }
        let ranges = set.ranges().iter().filter_map(|(first, last)| PortRange::new(*first, *last));
        ports.extend(ranges.map(|range| PortRule { protocol, ports: Ports::Range(range) }));
    }
    ports
}

fn default_deny(namespace: &str, dns: &Traffic) -> (Policy, String) {
    let (egress, but) =
        if dns.is_empty() { (Vec::new(), "") } else { (vec![Rule::allow(Vec::new(), ports(dns))], " but DNS") };
    let policy = Policy {
        id: PolicyRef::network_policy(namespace, "default-deny"),
        rank: Rank::NETWORK_POLICY,
        subject: own_set(namespace, Selector::default()),
        ingress: Some(Vec::new()),
        egress: Some(egress),
    };
    (policy, format!("Whatever no other policy allows: nothing into {namespace}, and nothing out{but}."))
}

/// The ports that DNS takes, and the pods that answer.
fn dns(model: &Model, options: &Options) -> (Traffic, BTreeSet<PodIndex>) {
    if options.dns == Dns::Omit {
        return (Traffic::default(), BTreeSet::new());
    }
    let is_dns = |index: &PodIndex| {
        let pod = model.pod(*index);
        !pod.is_host_network && pod.labels.get("k8s-app").is_some_and(|value| value == "kube-dns")
    };
    let pods: BTreeSet<PodIndex> = model.pod_indices().filter(is_dns).collect();
    let usual = [(Protocol::Udp, "dns"), (Protocol::Tcp, "dns-tcp")];
    let mut traffic = Traffic::default();
    for (protocol, name) in usual {
        let mut set = PortSet::range(53, 53);
        for index in &pods {
            let numbers = model.pod(*index).ports.resolve(protocol, name);
            set = set.union(&numbers.map(|number| (number, number)).collect());
        }
        traffic = traffic.union(&Traffic::of(protocol, set));
    }
    (traffic, pods)
}

fn short(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
