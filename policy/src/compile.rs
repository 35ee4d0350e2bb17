//! Compiles the model into the tables of one node.
//!
//! 1. The node's pods, and with them the rules that can ever be asked.
//! 2. Classes: all addresses, of pods and of named blocks, by the peers they are in and the numbers behind the names of
//!    ports. Each class gets an identity.
//! 3. Groups: the policies that bear on a pod, with its own named ports put in. Pods that agree share one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fixedbitset::FixedBitSet;
use ipnet::IpNet;

use crate::block::IpBlock;
use crate::identity::{Holder, IdentityAllocator};
use crate::model::{Model, PodIndex, Standing};
use crate::names::{Direction, PolicyRef, Protocol, RuleRef};
use crate::peer::{Counterpart, Peer};
use crate::pod::Pod;
use crate::policy::Rule;
use crate::port::{PortRule, Ports};
use crate::tables::{Entry, Group, GroupId, GroupSide, Identity, LocalPod, RuleId, Tables};

pub(crate) fn compile(model: &Model, node: &str, identities: &mut IdentityAllocator) -> Tables {
    let local: Vec<PodIndex> = model
        .pod_indices()
        .filter(|index| {
            let pod = model.pod(*index);
            !pod.is_host_network && pod.node.as_deref() == Some(node)
        })
        .collect();
    let scope = Scope::of(model, &local);
    let peers = Peers::classify(model, &scope, &local, identities);
    let mut groups = Groups { model, peers: &peers, keys: HashMap::new(), sides: Vec::new() };
    let pods = local
        .iter()
        .map(|index| {
            let pod = model.pod(*index);
            LocalPod {
                pod: pod.id.clone(),
                addresses: pod.addresses.clone(),
                group: groups.of(*index),
                identity: peers.of_local[index],
            }
        })
        .collect();
    let (groups, rules) = groups.finish();
    Tables { addresses: peers.addresses, blocks: peers.blocks, groups, pods, rules }
}

/// The policies that can be asked on this node, by direction: indices into the model's policies.
struct Scope {
    policies: [BTreeSet<usize>; 2],
}

impl Scope {
    fn of(model: &Model, local: &[PodIndex]) -> Self {
        let policies = Direction::ALL.map(|direction| {
            local.iter().flat_map(|index| model.standing(*index, direction).policies.iter().copied()).collect()
        });
        Self { policies }
    }

    fn rules<'m>(&self, model: &'m Model, direction: Direction) -> impl Iterator<Item = &'m Rule> {
        let policies = &self.policies[usize::from(direction == Direction::Egress)];
        policies.iter().flat_map(move |index| model.policies[*index].rules(direction).unwrap_or_default())
    }
}

/// Who the rules speak of, told apart no further than they do.
struct Peers<'m> {
    /// Index of each peer that a rule names.
    index: HashMap<&'m Peer, usize>,
    /// The identities in each of them, ascending.
    members: Vec<Vec<Identity>>,
    /// Names of ports in egress rules, with the identities that have them and the numbers.
    named: HashMap<(Protocol, &'m str), BTreeMap<Identity, Vec<u16>>>,
    addresses: Vec<(std::net::IpAddr, Identity)>,
    blocks: Vec<(IpNet, Identity)>,
    of_local: HashMap<PodIndex, Identity>,
}

/// What tells one class from another.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Signature {
    is_pod: bool,
    peers: FixedBitSet,
    /// For each name of a port in an egress rule: the numbers.
    named: Vec<Vec<u16>>,
}

impl<'m> Peers<'m> {
    fn classify(model: &'m Model, scope: &Scope, local: &[PodIndex], identities: &mut IdentityAllocator) -> Self {
        let mut list: Vec<&Peer> = Vec::new();
        let mut index: HashMap<&Peer, usize> = HashMap::new();
        for peer in
            Direction::ALL.iter().flat_map(|direction| scope.rules(model, *direction)).flat_map(|rule| &rule.peers)
        {
            index.entry(peer).or_insert_with(|| {
                list.push(peer);
                list.len() - 1
            });
        }
        let names: BTreeSet<(Protocol, &str)> =
            scope.rules(model, Direction::Egress).flat_map(|rule| &rule.ports).flat_map(named_ports).collect();

        let mut classes = Classes::default();
        for pod_index in model.pod_indices() {
            let pod = model.pod(pod_index);
            if pod.is_host_network {
                continue;
            }
            let signature = |address| Signature {
                is_pod: true,
                peers: peers_of(
                    &list,
                    &Counterpart { pod: Some((pod, model.namespace_of(pod))), address, ..Counterpart::default() },
                ),
                named: names.iter().map(|(protocol, name)| pod.ports.resolve(*protocol, name).collect()).collect(),
            };
            for address in pod.addresses.iter().filter(|address| !model.shared_addresses.contains_key(address)) {
                classes.add(signature(Some(*address)), Holder::Address(*address));
            }
            if pod.addresses.is_empty() {
                classes.add(signature(None), Holder::Pod(pod.id.clone()));
            }
        }
        for net in prefixes(&list) {
            let mut peers = FixedBitSet::with_capacity(list.len());
            peers.extend(list.iter().enumerate().filter(|(_, peer)| covers(peer, net)).map(|(index, _)| index));
            classes.add(Signature { is_pod: false, peers, named: vec![Vec::new(); names.len()] }, Holder::Block(net));
        }
        Self::number(model, local, index, &names, classes, identities)
    }

    /// Gives each class its identity and turns classes into tables.
    fn number(
        model: &Model,
        local: &[PodIndex],
        index: HashMap<&'m Peer, usize>,
        names: &BTreeSet<(Protocol, &'m str)>,
        classes: Classes,
        identities: &mut IdentityAllocator,
    ) -> Self {
        let numbers = identities.assign(&classes.holders);
        let mut members = vec![Vec::new(); index.len()];
        let mut named: HashMap<(Protocol, &str), BTreeMap<Identity, Vec<u16>>> = HashMap::new();
        for (signature, identity) in classes.signatures.iter().zip(&numbers) {
            for peer in signature.peers.ones() {
                members[peer].push(*identity);
            }
            for (name, numbers) in names.iter().zip(&signature.named).filter(|(_, numbers)| !numbers.is_empty()) {
                named.entry(*name).or_default().insert(*identity, numbers.clone());
            }
        }
        for identities in &mut members {
            identities.sort_unstable();
        }
        let (mut addresses, mut blocks, mut waiting) = (Vec::new(), Vec::new(), HashMap::new());
        for (holders, identity) in classes.holders.into_iter().zip(numbers) {
            for holder in holders {
                match holder {
                    Holder::Address(address) => addresses.push((address, identity)),
                    Holder::Block(net) => blocks.push((net, identity)),
                    Holder::Pod(pod) => {
                        waiting.insert(pod, identity);
                    }
                }
            }
        }
        addresses.sort_unstable();
        blocks.sort_unstable();
        let of_local = local
            .iter()
            .map(|index| {
                let pod = model.pod(*index);
                let by_address = pod.addresses.iter().find_map(|address| {
                    addresses.binary_search_by_key(address, |(address, _)| *address).ok().map(|at| addresses[at].1)
                });
                (*index, by_address.or_else(|| waiting.get(&pod.id).copied()).unwrap_or(Identity::WORLD))
            })
            .collect();
        Self { index, members, named, addresses, blocks, of_local }
    }
}

/// Classes in the order in which they were met, so that the same model gives the same numbers.
#[derive(Default)]
struct Classes {
    index: HashMap<Signature, usize>,
    signatures: Vec<Signature>,
    holders: Vec<Vec<Holder>>,
}

impl Classes {
    fn add(&mut self, signature: Signature, holder: Holder) {
        match self.index.get(&signature) {
            Some(class) => self.holders[*class].push(holder),
            None => {
                self.index.insert(signature.clone(), self.signatures.len());
                self.signatures.push(signature);
                self.holders.push(vec![holder]);
            }
        }
    }
}

/// The peers that certainly include this end.
fn peers_of(peers: &[&Peer], end: &Counterpart<'_>) -> FixedBitSet {
    let mut bits = FixedBitSet::with_capacity(peers.len());
    bits.extend(peers.iter().enumerate().filter(|(_, peer)| peer.matches(end).is_certain()).map(|(index, _)| index));
    bits
}

/// The names of ports that an item of a rule's `ports` asks for.
fn named_ports(port: &PortRule) -> Vec<(Protocol, &str)> {
    match &port.ports {
        Ports::Named(name) => port.protocols().map(|protocol| (protocol, name.as_str())).collect(),
        Ports::All | Ports::Range(_) => Vec::new(),
    }
}

/// All prefixes that a peer names, as a block or as an exception.
fn prefixes(peers: &[&Peer]) -> BTreeSet<IpNet> {
    peers.iter().filter_map(|peer| peer.block()).flat_map(IpBlock::prefixes).collect()
}

/// Whether the addresses whose longest named prefix is `net` are in this peer, if no pod or node has them.
fn covers(peer: &Peer, net: IpNet) -> bool {
    match peer {
        Peer::Block(block) => block.covers(net),
        Peer::Pods(_) | Peer::PodsIn(..) | Peer::Nodes(_) => false,
    }
}

/// Names a rule by numbers, in the order of [`RuleRef`]: the model's policies are sorted by name.
type RuleKey = (usize, Direction, usize, Option<usize>, Option<usize>);

/// What an entry asks for.
type Condition = (Option<Identity>, Option<Protocol>, Option<(u16, u16)>);

/// One direction of a group: who isolates, and what is allowed by which rule.
type Conditions = (Vec<PolicyRef>, BTreeMap<Condition, RuleKey>);

/// What tells one group from another.
#[derive(Clone, PartialEq, Eq, Hash)]
struct GroupKey<'m> {
    ingress: &'m Standing,
    egress: &'m Standing,
    /// The pod's own numbers for the names in its ingress rules.
    named: BTreeMap<(Protocol, &'m str), Vec<u16>>,
}

struct Groups<'m, 'p> {
    model: &'m Model,
    peers: &'p Peers<'m>,
    keys: HashMap<GroupKey<'m>, GroupId>,
    /// Ingress and egress of each group.
    sides: Vec<[Conditions; 2]>,
}

impl<'m> Groups<'m, '_> {
    fn of(&mut self, index: PodIndex) -> GroupId {
        let pod = self.model.pod(index);
        let ingress = self.model.standing(index, Direction::Ingress);
        let egress = self.model.standing(index, Direction::Egress);
        let mut named = BTreeMap::new();
        for rule in ingress
            .policies
            .iter()
            .flat_map(|at| self.model.policies[*at].rules(Direction::Ingress).unwrap_or_default())
        {
            for port in &rule.ports {
                for (protocol, name) in named_ports(port) {
                    named.insert((protocol, name), pod.ports.resolve(protocol, name).collect());
                }
            }
        }
        let key = GroupKey { ingress, egress, named };
        if let Some(group) = self.keys.get(&key) {
            return *group;
        }
        let sides = [(Direction::Ingress, ingress), (Direction::Egress, egress)].map(|(direction, standing)| {
            let isolated_by = standing.isolated_by(&self.model.policies);
            (isolated_by, self.conditions(standing, direction, pod))
        });
        let group = GroupId(u32::try_from(self.sides.len()).expect("a node has fewer than 2^32 pods"));
        self.keys.insert(key, group);
        self.sides.push(sides);
        group
    }

    /// What one direction allows, each condition with the first rule that has it.
    fn conditions(&self, standing: &Standing, direction: Direction, pod: &Pod) -> BTreeMap<Condition, RuleKey> {
        let mut conditions = BTreeMap::new();
        for &policy in &standing.policies {
            let rules = self.model.policies[policy].rules(direction).unwrap_or_default();
            for (rule_index, rule) in rules.iter().enumerate() {
                for (peer_index, peer) in rule.peer_slots() {
                    for (port_index, port) in rule.port_slots() {
                        let key = (policy, direction, rule_index, peer_index, port_index);
                        for condition in self.expand(peer, port, direction, pod) {
                            conditions.entry(condition).or_insert(key);
                        }
                    }
                }
            }
        }
        conditions
    }

    /// The conditions that one peer and one port of a rule come down to.
    fn expand(&self, peer: Option<&Peer>, port: Option<&PortRule>, direction: Direction, pod: &Pod) -> Vec<Condition> {
        let whom: Vec<Option<Identity>> = match peer {
            None => vec![None],
            Some(peer) => self.members(peer).iter().copied().map(Some).collect(),
        };
        let Some(port) = port else {
            return whom.into_iter().map(|whom| (whom, None, None)).collect();
        };
        let each_protocol =
            port.protocols().flat_map(|protocol| self.expand_port(&whom, peer, port, protocol, direction, pod));
        each_protocol.collect()
    }

    fn expand_port(
        &self,
        whom: &[Option<Identity>],
        peer: Option<&Peer>,
        port: &PortRule,
        protocol: Protocol,
        direction: Direction,
        pod: &Pod,
    ) -> Vec<Condition> {
        let at = Some(protocol);
        match (&port.ports, direction) {
            (Ports::All, _) => whom.iter().map(|whom| (*whom, at, None)).collect(),
            (Ports::Range(range), _) => whom.iter().map(|whom| (*whom, at, Some(range.bounds()))).collect(),
            (Ports::Named(name), Direction::Ingress) => {
                let numbers: Vec<u16> = pod.ports.resolve(protocol, name).collect();
                let each = |whom: &Option<Identity>| {
                    let whom = *whom;
                    numbers.iter().map(move |number| (whom, at, Some((*number, *number)))).collect::<Vec<_>>()
                };
                whom.iter().flat_map(each).collect()
            }
            (Ports::Named(name), Direction::Egress) => {
                let named = self.peers.named.get(&(protocol, name.as_str()));
                named
                    .into_iter()
                    .flatten()
                    .filter(|(identity, _)| peer.is_none_or(|peer| self.members(peer).binary_search(identity).is_ok()))
                    .flat_map(|(identity, numbers)| {
                        numbers.iter().map(move |number| (Some(*identity), at, Some((*number, *number))))
                    })
                    .collect()
            }
        }
    }

    fn members(&self, peer: &Peer) -> &[Identity] {
        let index = self.peers.index.get(peer).expect("the peers of all rules in scope were collected first");
        &self.peers.members[*index]
    }

    fn finish(self) -> (Vec<Group>, Vec<RuleRef>) {
        let used: BTreeSet<RuleKey> =
            self.sides.iter().flatten().flat_map(|(_, conditions)| conditions.values().copied()).collect();
        let ids: HashMap<RuleKey, RuleId> = used
            .iter()
            .enumerate()
            .map(|(index, key)| (*key, RuleId(u32::try_from(index).expect("a node has fewer than 2^32 rules"))))
            .collect();
        let rules = used
            .into_iter()
            .map(|(policy, direction, rule, peer, port)| {
                self.model.policies[policy].rule_ref(direction, rule, peer, port)
            })
            .collect();
        let groups = self
            .sides
            .into_iter()
            .map(|sides| {
                let [ingress, egress] = sides.map(|(isolated_by, conditions)| {
                    let mut entries: Vec<Entry> = conditions
                        .into_iter()
                        .map(|((peer, protocol, ports), key)| Entry { peer, protocol, ports, rule: ids[&key] })
                        .collect();
                    entries.sort_unstable_by_key(|entry| (entry.rule, entry.peer, entry.protocol, entry.ports));
                    GroupSide { isolated_by, entries }
                });
                Group { ingress, egress }
            })
            .collect();
        (groups, rules)
    }
}
