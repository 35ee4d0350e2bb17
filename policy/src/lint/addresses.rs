//! Address blocks: how they are written, and whom they hold besides those that were meant.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use fixedbitset::FixedBitSet;
use ipnet::IpNet;
use serde_json::Value;

use crate::block::{IpBlock, is_inside};
use crate::names::{Direction, Family};
use crate::parse::calico;
use crate::peer::Peer;
use crate::policy::Action;

use super::context::{Context, RuleAt, count, listed};
use super::raw::{Service, Target};
use super::{Finding, RuleId, Severity, inclusion, ports};

/// Where the clouds' instances ask for their credentials.
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

pub(super) fn check(context: &Context<'_>, findings: &mut Vec<Finding>) {
    for (title, policy) in &context.raw.policies {
        if let Some(spec) = policy.get("spec") {
            written(title, spec, &mut String::from("spec"), Place::Elsewhere, findings);
        }
    }
    let blocks = Blocks::new(context);
    for direction in Direction::ALL {
        for at in context.rules(direction) {
            for (index, block) in at.rule.peers.iter().enumerate().filter_map(|(at, peer)| Some((at, peer.block()?))) {
                let path = at.peer_path(Some(index));
                let path = match at.policy.id.kind {
                    "NetworkPolicy" => format!("{path}.ipBlock"),
                    kind if calico::is_calico(kind) => format!("{path}.nets"),
                    _ => format!("{path}.networks"),
                };
                blocks.block(at, block, path, findings);
            }
            blocks.families(at, findings);
        }
    }
}

/// Whether a text in a manifest is a CIDR by where it stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Block,
    Elsewhere,
}

/// SEMANTICS 9: CIDRs are read in canonical form. Newer APIs warn of others, and each reader may read them otherwise.
fn written(object: &str, value: &Value, path: &mut String, place: Place, findings: &mut Vec<Finding>) {
    let length = path.len();
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let is_block = matches!(name.as_str(), "cidr" | "except" | "networks" | "nets" | "notNets");
                path.push('.');
                path.push_str(name);
                let place = if is_block { Place::Block } else { Place::Elsewhere };
                written(object, value, path, place, findings);
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                written(object, item, path, place, findings);
                path.truncate(length);
            }
        }
        Value::String(text) if place == Place::Block => {
            let Ok(net) = text.parse::<IpNet>() else { return };
            let canonical = net.trunc().to_string();
            if canonical == *text {
                return;
            }
            let has_host_bits = net != net.trunc();
            let message = if has_host_bits {
                format!(
                    "{text} has host bits set and is read as {canonical}: every address in that, not {} alone",
                    net.addr()
                )
            } else {
                format!("{text} is not written as the API writes it, so that texts that mean the same look different")
            };
            let finding =
                Finding::new(RuleId::CidrNotCanonical, object, path.as_str(), message, format!("write {canonical}"));
            findings.push(if has_host_bits { finding } else { finding.with(Severity::Info) });
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What blocks are held against.
struct Blocks<'c, 'a> {
    context: &'c Context<'a>,
    /// Addresses of nodes, ascending.
    nodes: Vec<(IpAddr, &'c str)>,
    /// Addresses of Services, ascending.
    services: Vec<(IpAddr, &'c Service<'a>)>,
    /// Services through which traffic loses its source, by namespace, with their pods.
    masking: HashMap<&'c str, Vec<(&'c Service<'a>, Rc<FixedBitSet>)>>,
    held: RefCell<HashMap<IpBlock, Option<Rc<Held>>>>,
}

impl<'c, 'a> Blocks<'c, 'a> {
    fn new(context: &'c Context<'a>) -> Self {
        let nodes = context.model.hosts.iter();
        let mut nodes: Vec<(IpAddr, &str)> =
            nodes.flat_map(|(name, host)| host.addresses.iter().map(|address| (*address, name.as_str()))).collect();
        nodes.sort_unstable();
        let services = context.raw.services.iter();
        let mut services: Vec<_> =
            services.flat_map(|service| service.addresses.iter().map(move |address| (*address, service))).collect();
        services.sort_unstable_by_key(|(address, _)| *address);
        let mut masking: HashMap<&str, Vec<_>> = HashMap::new();
        for service in context.raw.services.iter().filter(|service| service.masks_sources) {
            let pods = context.classes.select(&ports::selected(service));
            masking.entry(service.namespace).or_default().push((service, pods));
        }
        Self { context, nodes, services, masking, held: RefCell::default() }
    }

    fn block(&self, at: RuleAt<'_>, block: &IpBlock, path: String, findings: &mut Vec<Finding>) {
        let mut say = |rule, path: &str, message, remedy: String| {
            findings.push(Finding::new(rule, &at.policy.id, path, message, remedy));
        };
        if inclusion::ranges(block).is_empty() {
            let message = format!("the exceptions of {block} leave no address, so that it matches nothing");
            say(RuleId::EmptyBlock, &path, message, "take out the exceptions that must not be, or the peer".to_owned());
            return;
        }
        if at.rule.action == Action::Deny {
            return;
        }
        let is_world = block.cidrs().iter().any(|net| net.prefix_len() == 0);
        let nodes: BTreeSet<&str> = within(&self.nodes, block).map(|(_, node)| *node).collect();
        let cidr = format!("{path}.cidr");
        let cidr = if at.policy.id.kind == "NetworkPolicy" { &cidr } else { &path };
        match self.pods_in(at, block) {
            Some(_) if is_world && at.direction == Direction::Ingress => {}
            Some(pods) if is_world => say(
                RuleId::InternetOpensPods,
                &path,
                format!("{block} is not only the world outside: {} in it, and this rule opens them, too", pods.lie),
                format!("add except: [{}] if only the outside was meant", pods.cover.join(", ")),
            ),
            Some(pods) => {
                let is_one = block.cidrs().iter().all(|net| net.prefix_len() == net.max_prefix_len());
                let (message, remedy) = if is_one {
                    (
                        format!(
                            "{block} is the address of {}, which changes whenever the pod is made anew",
                            pods.names
                        ),
                        "select the pod by its labels with a podSelector".to_owned(),
                    )
                } else {
                    (
                        format!(
                            "an ipBlock means pods, too, and {} in {block}: this rule allows them whatever their labels",
                            pods.lie
                        ),
                        match pods.cover.as_slice() {
                            // The block is that of the pods.
                            [] => "select the pods by their labels if they are meant".to_owned(),
                            cover => format!(
                                "add except: [{}], or select the pods by their labels if they are meant",
                                cover.join(", ")
                            ),
                        },
                    )
                };
                let finding = Finding::new(RuleId::BlockHoldsPods, &at.policy.id, cidr, message, remedy);
                findings.push(if is_one { finding.with(Severity::Warning) } else { finding });
                return;
            }
            None if at.direction == Direction::Egress && !is_world => {
                if !nodes.is_empty() {
                    say(
                        RuleId::BlockHoldsNodes,
                        cidr,
                        format!(
                            "{block} holds addresses of {}, {} among them: pods may reach what runs on them, the kubelet and \
                             pods with hostNetwork included",
                            count(nodes.len(), "node"),
                            listed(&nodes)
                        ),
                        "leave the nodes' addresses out with except, unless they are meant".to_owned(),
                    );
                } else {
                    self.services_in(at, block, cidr, findings);
                }
            }
            None => {}
        }
        let mut say = |rule, path: &str, message, remedy: String| {
            findings.push(Finding::new(rule, &at.policy.id, path, message, remedy));
        };
        if at.direction == Direction::Egress
            && block.contains(METADATA)
            && let Some((node, cloud)) = &self.context.raw.nodes.cloud
        {
            say(
                RuleId::MetadataService,
                cidr,
                format!(
                    "{block} holds {METADATA}, where {cloud} (node {node}) hands out the node's credentials to whoever asks"
                ),
                format!("add except: [{METADATA}/32] unless the pods need it"),
            );
        }
        if at.direction == Direction::Ingress && !is_world {
            self.masked(at, block, &nodes, cidr, findings);
        }
    }

    /// SEMANTICS 10: an ipBlock matches pods' addresses. `None`: there is none in it.
    fn pods_in(&self, at: RuleAt<'_>, block: &IpBlock) -> Option<Rc<Held>> {
        let mut known = self.held.borrow_mut();
        let held = known.entry(block.clone()).or_insert_with(|| self.held_by(block).map(Rc::new)).clone()?;
        // A pod reaches itself anyhow.
        let is_own = held.addresses == 1 && held.pods.is_subset(&self.context.classes.select(&at.policy.subject));
        (!is_own).then_some(held)
    }

    fn held_by(&self, block: &IpBlock) -> Option<Held> {
        let classes = &self.context.classes;
        let own = &self.context.raw.nodes.pod_blocks;
        let lies_within = |net: &IpNet| block.cidrs().iter().any(|outer| is_inside(*outer, *net));
        let mut cover: BTreeSet<IpNet> = own.iter().copied().filter(lies_within).collect();
        let mut pods = classes.none();
        let (mut addresses, mut first) = (0, None);
        for (address, class) in classes.addresses_in(block) {
            first.get_or_insert((address, class));
            addresses += 1;
            pods.insert(class);
            // Addresses ascend: the block that holds one mostly holds the next one.
            if !own.iter().any(|net| net.contains(&address)) {
                cover.extend(usual(address).filter(lies_within));
            }
        }
        let (address, class) = first?;
        let alike = classes.get(class);
        let names = if addresses > 1 {
            format!("{addresses} pod addresses, {address} among them,")
        } else if alike.pod.addresses.contains(&address) {
            format!("{} ({address})", alike.pod.id)
        } else {
            format!("a pod like {} ({address})", alike.pod.id)
        };
        let lie = if addresses == 1 { format!("{names} lies") } else { format!("{names} lie") };
        Some(Held { addresses, pods, names, lie, cover: cover.iter().map(ToString::to_string).collect() })
    }

    /// SEMANTICS 11: policies are judged behind a Service's translation.
    fn services_in(&self, at: RuleAt<'_>, block: &IpBlock, path: &str, findings: &mut Vec<Finding>) {
        // Wider than any range of Services: it is meant for other things as well.
        let is_wide = |net: &IpNet| match net {
            IpNet::V4(net) => net.prefix_len() < 12,
            IpNet::V6(net) => net.prefix_len() < 48,
        };
        if block.cidrs().iter().any(is_wide) {
            return;
        }
        let mut held = within(&self.services, block);
        let Some((address, service)) = held.next() else { return };
        let more = match held.count() {
            0 => String::new(),
            more => format!(" and of {more} more"),
        };
        findings.push(Finding::new(
            RuleId::ServiceAddress,
            &at.policy.id,
            path,
            format!(
                "{address} is the address of Service {}/{}{more}; policies are judged behind its translation, on the address \
                 of the pod that answers, so that {block} does not open it",
                service.namespace, service.name
            ),
            format!("select the pods behind it: podSelector: {{matchLabels: {{{}}}}}", labels(service)),
        ));
    }

    /// SEMANTICS 12: through a NodePort or load balancer traffic may carry a node's address.
    fn masked(&self, at: RuleAt<'_>, block: &IpBlock, nodes: &BTreeSet<&str>, path: &str, findings: &mut Vec<Finding>) {
        // Where the nodes themselves are let in, the traffic is, too.
        if !nodes.is_empty() && self.nodes.iter().all(|(_, node)| nodes.contains(node)) {
            return;
        }
        let subject = self.context.classes.select(&at.policy.subject);
        let services = at.policy.id.namespace.as_deref().and_then(|namespace| self.masking.get(namespace));
        let reaching = services.into_iter().flatten().find(|(service, pods)| {
            !pods.is_disjoint(&subject) && service.ports.iter().any(|port| is_named(at, port.protocol, port.target))
        });
        if let Some((service, _)) = reaching {
            findings.push(Finding::new(
                RuleId::SourceMasked,
                &at.policy.id,
                path,
                format!(
                    "traffic from {block} that comes through Service {}/{} may arrive with a node's address instead of the \
                     client's, since its externalTrafficPolicy is Cluster: then this rule does not match",
                    service.namespace, service.name
                ),
                "set externalTrafficPolicy: Local on the Service, which keeps the client's address".to_owned(),
            ));
        }
    }

    /// SEMANTICS 21: a CIDR never crosses families.
    fn families(&self, at: RuleAt<'_>, findings: &mut Vec<Finding>) {
        let blocks: Vec<(usize, &IpBlock)> =
            at.rule.peers.iter().enumerate().filter_map(|(index, peer)| Some((index, peer.block()?))).collect();
        if blocks.is_empty() || at.rule.action == Action::Deny {
            return;
        }
        let classes = &self.context.classes;
        let subject = classes.select(&at.policy.subject);
        if subject.is_clear() || !subject.is_disjoint(classes.without_address()) {
            return;
        }
        let has = |family: &Family| !subject.is_disjoint(classes.of_family(*family));
        let all: BTreeSet<Family> = [Family::V4, Family::V6].into_iter().filter(has).collect();
        let of = |family: Family| match family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        for (index, block) in &blocks {
            let own: BTreeSet<Family> = block.cidrs().iter().map(|net| Family::of(net.addr())).collect();
            if let Some(family) = own.first().filter(|_| own.is_disjoint(&all)) {
                findings.push(Finding::new(
                    RuleId::WrongFamily,
                    &at.policy.id,
                    at.peer_path(Some(*index)),
                    format!(
                        "{block} is {}, and none of {} has an address of that family: a block never crosses families, and this \
                         one matches nothing",
                        of(*family),
                        classes.names(&subject)
                    ),
                    "name the block of the pods' own family".to_owned(),
                ));
            }
        }
        let world = |family: Family| {
            let nets = blocks.iter().flat_map(|(_, block)| block.cidrs());
            nets.into_iter().any(|net| net.prefix_len() == 0 && Family::of(net.addr()) == family)
        };
        for (has, lacks, missing) in [(Family::V4, Family::V6, "::/0"), (Family::V6, Family::V4, "0.0.0.0/0")] {
            let names_any =
                blocks.iter().any(|(_, block)| block.cidrs().iter().any(|net| Family::of(net.addr()) == lacks));
            if world(has)
                && !names_any
                && all.contains(&lacks)
                && at.rule.peers.iter().all(|peer| matches!(peer, Peer::Block(_)))
            {
                let (index, _) = blocks[0];
                findings.push(
                    Finding::new(
                        RuleId::WrongFamily,
                        &at.policy.id,
                        at.peer_path(Some(index)),
                        format!(
                            "the rule names all {} addresses and no {} ones, and its pods ({}) have both: over {} it opens nothing",
                            of(has),
                            of(lacks),
                            classes.names(&subject),
                            of(lacks)
                        ),
                        format!("add an item with ipBlock: {{cidr: \"{missing}\"}} if both were meant"),
                    )
                    .with(Severity::Info),
                );
            }
        }
    }
}

/// Pods whose addresses a block holds.
struct Held {
    addresses: usize,
    pods: FixedBitSet,
    names: String,
    /// The same with its verb.
    lie: String,
    /// Blocks that hold all of them.
    cover: Vec<String>,
}

/// What lies in a block, of a list that ascends.
fn within<'l, T>(list: &'l [(IpAddr, T)], block: &'l IpBlock) -> impl Iterator<Item = &'l (IpAddr, T)> {
    block.cidrs().iter().flat_map(|net| {
        let from = list.partition_point(|(address, _)| *address < net.network());
        let inside = list[from..].iter().take_while(|(address, _)| net.contains(address));
        inside.filter(|(address, _)| block.contains(*address))
    })
}

/// A block of a usual size that holds an address, and those to come.
fn usual(address: IpAddr) -> Option<IpNet> {
    let length = if address.is_ipv4() { 16 } else { 64 };
    IpNet::new(address, length).map(|net| net.trunc()).ok()
}

/// Whether the rule may be about this port of a Service's pods.
fn is_named(at: RuleAt<'_>, protocol: crate::names::Protocol, target: Target<'_>) -> bool {
    use crate::port::Ports;
    at.rule.ports.is_empty()
        || at.rule.ports.iter().any(|port| {
            port.protocol.is_none_or(|own| own == protocol)
                && match (&port.ports, target) {
                    (Ports::All, _) => true,
                    (Ports::Range(range), Target::Number(number)) => range.contains(number),
                    (Ports::Named(name), Target::Name(target)) => name == target,
                    (Ports::Range(_), Target::Name(_)) | (Ports::Named(_), Target::Number(_)) => true,
                }
        })
}

fn labels(service: &Service<'_>) -> String {
    service.selector.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ")
}
