//! Who the rules speak of, told apart no further than they do.
//!
//! Whether a peer includes an address is settled by parts, each of which is worked out once: which sets of pods the
//! labels are in (once for each distinct namespace and labels, as far as selectors ask for them), which blocks the
//! address is in (once for each named prefix), which nodes' labels match (once for each node). Addresses that agree in
//! all parts are one class.
//!
//! Longer than most files: the parts, the classes and the identities are one chain, of which each step reads the one before.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::Scope;
use crate::block::IpBlock;
use crate::identity::{Holder, IdentityAllocator};
use crate::label::Labels;
use crate::model::{Model, NodeOf};
use crate::names::{Direction, Protocol};
use crate::peer::{Match, Namespaces, NodeLabels, Peer, PodSet};
use crate::pod::Pod;
use crate::port::{PortRule, Ports};
use crate::selector::{Expression, Requirement, Selector, Test};
use crate::tables::Identity;

/// The identities and whom they stand for.
pub(super) struct Peers<'m> {
    pub addresses: Vec<(IpAddr, Identity)>,
    pub blocks: Vec<(IpNet, Identity)>,
    /// That of addresses that several pods claim.
    pub contradicted: Option<Identity>,
    index: HashMap<&'m Peer, usize>,
    /// The identities that each peer includes for certain, ascending.
    certain: Vec<Vec<Identity>>,
    /// Those that it includes perhaps.
    possible: Vec<Vec<Identity>>,
    /// Names of ports in egress rules, with the identities that have them and the numbers.
    named: HashMap<PortName<'m>, BTreeMap<Identity, Vec<u16>>>,
}

type PortName<'m> = (Protocol, &'m str);

impl<'m> Peers<'m> {
    pub fn classify(model: &'m Model, scope: &Scope, identities: &mut IdentityAllocator) -> Self {
        let parts = Parts::of(model, scope);
        let mut classes = Classes::new(&parts);
        let mut labels = LabelParts::new(model, &parts);
        let of_kinds = labels.of_kinds();
        let kinds = model.pods.kinds();
        let mut walk = parts.prefixes.walk();
        for (address, index) in model.by_address.iter() {
            let by_labels = of_kinds[kinds.of_pod(index).number()];
            let traits = Traits { is_pod: true, by_labels, by_block: walk.class_of(address), by_node: 0 };
            classes.add(traits, &labels, Holder::Address(address));
        }
        for address in model.shared_addresses.keys() {
            classes.add_contradicted(*address);
        }
        let nobody = Traits { is_pod: false, by_labels: 0, by_block: 0, by_node: 0 };
        if !parts.nodes.is_empty() {
            let mut seen: HashSet<IpAddr> = HashSet::new();
            let is_pods =
                |address: &IpAddr| model.by_address.has(address) || model.shared_addresses.contains_key(address);
            for host in model.hosts.values() {
                let by_node = classes.node(host.labels.as_ref());
                for address in host.addresses.iter().filter(|address| !is_pods(address)) {
                    if seen.insert(*address) {
                        let traits = Traits { by_block: parts.prefixes.class_of(*address), by_node, ..nobody };
                        classes.add(traits, &labels, Holder::Address(*address));
                    }
                }
            }
            for (address, index) in model.nameless_nodes().iter().filter(|(address, _)| !is_pods(address)) {
                let host = model.node_name(&NodeOf::Pod(model.pod(*index))).and_then(|name| model.hosts.get(name));
                let by_node = classes.node(host.and_then(|host| host.labels.as_ref()));
                if seen.insert(*address) {
                    let traits = Traits { by_block: parts.prefixes.class_of(*address), by_node, ..nobody };
                    classes.add(traits, &labels, Holder::Address(*address));
                }
            }
        }
        for (net, by_block) in parts.prefixes.nets.iter().zip(&parts.prefixes.classes) {
            classes.add(Traits { by_block: *by_block, ..nobody }, &labels, Holder::Block(*net));
        }
        let Classes { signatures, members, .. } = classes;
        Self::number(parts, &signatures, members, identities)
    }

    /// The identities that the peer of a rule in scope includes for certain, ascending.
    pub fn certain(&self, peer: &Peer) -> &[Identity] {
        &self.certain[self.index_of(peer)]
    }

    /// Those that it includes perhaps.
    pub fn possible(&self, peer: &Peer) -> &[Identity] {
        &self.possible[self.index_of(peer)]
    }

    /// The numbers behind a name of a port, by the destination's identity.
    pub fn named(&self, protocol: Protocol, name: &'m str) -> Option<&BTreeMap<Identity, Vec<u16>>> {
        self.named.get(&(protocol, name))
    }

    /// That of a pod's address.
    pub fn identity_of(&self, address: IpAddr) -> Identity {
        let found = self.addresses.binary_search_by_key(&address, |(address, _)| *address);
        found.map_or(Identity::WORLD, |at| self.addresses[at].1)
    }

    fn index_of(&self, peer: &Peer) -> usize {
        *self.index.get(peer).expect("the peers of all rules in scope were collected first")
    }

    /// Gives each class its identity and turns classes into tables.
    fn number(
        parts: Parts<'m>,
        signatures: &[Signature],
        mut members: Vec<(Holder, usize)>,
        identities: &mut IdentityAllocator,
    ) -> Self {
        // Nearly all stand in order: addresses of pods come first, and by themselves they do.
        members.sort();
        let numbers = identities.assign(&members, signatures.len());
        let mut certain = vec![Vec::new(); parts.index.len()];
        let mut possible = vec![Vec::new(); parts.index.len()];
        let mut named: HashMap<PortName<'m>, BTreeMap<Identity, Vec<u16>>> = HashMap::new();
        for (signature, identity) in signatures.iter().zip(&numbers) {
            signature.certain.iter().for_each(|peer| certain[*peer].push(*identity));
            signature.possible.iter().for_each(|peer| possible[*peer].push(*identity));
            for (name, number) in &signature.named {
                named.entry(parts.names[*name]).or_default().entry(*identity).or_default().push(*number);
            }
        }
        for members in certain.iter_mut().chain(&mut possible) {
            members.sort_unstable();
        }
        let (mut addresses, mut blocks) = (Vec::with_capacity(members.len()), Vec::new());
        for (holder, class) in members {
            match holder {
                Holder::Address(address) => addresses.push((address, numbers[class])),
                Holder::Block(net) => blocks.push((net, numbers[class])),
            }
        }
        let contradicted =
            signatures.iter().position(|signature| signature.is_contradicted).map(|class| numbers[class]);
        Self { addresses, blocks, contradicted, index: parts.index, certain, possible, named }
    }
}

/// What peers are made of, each thing once.
struct Parts<'m> {
    index: HashMap<&'m Peer, usize>,
    sets: Vec<&'m PodSet>,
    nodes: Vec<&'m Selector>,
    prefixes: Prefixes,
    /// Names of ports in egress rules.
    names: Vec<PortName<'m>>,
    /// Peers by the set, the block, the nodes that they name alone, and by the set that they name with a block.
    by_set: Vec<Vec<usize>>,
    by_block: Vec<Vec<usize>>,
    by_nodes: Vec<Vec<usize>>,
    by_both: Vec<Vec<(usize, usize)>>,
}

/// One peer by the indices of its parts.
#[derive(Clone, Copy)]
enum Part {
    Set(usize),
    Block(usize),
    Both(usize, usize),
    Nodes(usize),
}

impl<'m> Parts<'m> {
    fn of(model: &'m Model, scope: &Scope) -> Self {
        let (mut sets, mut blocks, mut nodes) = (Numbered::default(), Numbered::default(), Numbered::default());
        let mut index: HashMap<&Peer, usize> = HashMap::new();
        let mut peers = Vec::new();
        for rule in Direction::ALL.iter().flat_map(|direction| scope.rules(model, *direction)) {
            for peer in &rule.peers {
                index.entry(peer).or_insert_with(|| {
                    peers.push(match peer {
                        Peer::Pods(set) => Part::Set(sets.add(set)),
                        Peer::Block(block) => Part::Block(blocks.add(block)),
                        Peer::PodsIn(set, block) => Part::Both(sets.add(set), blocks.add(block)),
                        Peer::Nodes(selector) => Part::Nodes(nodes.add(selector)),
                    });
                    peers.len() - 1
                });
            }
        }
        let egress = scope.rules(model, Direction::Egress).flat_map(|rule| &rule.ports);
        let names: BTreeSet<PortName<'_>> = egress.flat_map(named_ports).collect();
        let mut by_set = vec![Vec::new(); sets.list.len()];
        let mut by_block = vec![Vec::new(); blocks.list.len()];
        let mut by_nodes = vec![Vec::new(); nodes.list.len()];
        let mut by_both = vec![Vec::new(); sets.list.len()];
        for (at, part) in peers.iter().enumerate() {
            match *part {
                Part::Set(set) => by_set[set].push(at),
                Part::Block(block) => by_block[block].push(at),
                Part::Nodes(selector) => by_nodes[selector].push(at),
                Part::Both(set, block) => by_both[set].push((at, block)),
            }
        }
        Self {
            index,
            prefixes: Prefixes::of(&blocks.list),
            sets: sets.list,
            nodes: nodes.list,
            names: names.into_iter().collect(),
            by_set,
            by_block,
            by_nodes,
            by_both,
        }
    }
}

/// Things with numbers, in the order in which they were met.
struct Numbered<'m, T> {
    list: Vec<&'m T>,
    index: HashMap<&'m T, usize>,
}

impl<T> Default for Numbered<'_, T> {
    fn default() -> Self {
        Self { list: Vec::new(), index: HashMap::new() }
    }
}

impl<'m, T: Eq + std::hash::Hash> Numbered<'m, T> {
    fn add(&mut self, item: &'m T) -> usize {
        *self.index.entry(item).or_insert_with(|| {
            self.list.push(item);
            self.list.len() - 1
        })
    }
}

/// All prefixes that blocks name, whole or as exceptions, and which blocks the addresses are in of which each is the
/// longest.
struct Prefixes {
    /// In order: a prefix stands before those that lie in it.
    nets: Vec<IpNet>,
    /// The next shorter prefix that holds each.
    parents: Vec<Option<usize>>,
    /// Index into `blocks`.
    classes: Vec<usize>,
    /// Blocks, by their indices; the first is empty, for addresses in no prefix.
    blocks: Vec<Vec<usize>>,
}

impl Prefixes {
    fn of(list: &[&IpBlock]) -> Self {
        let mut named: BTreeMap<IpNet, Vec<(usize, bool)>> = BTreeMap::new();
        for (at, block) in list.iter().enumerate() {
            block.cidrs().iter().for_each(|net| named.entry(*net).or_default().push((at, false)));
            block.except().iter().for_each(|net| named.entry(*net).or_default().push((at, true)));
        }
        let mut prefixes =
            Self { nets: Vec::new(), parents: Vec::new(), classes: Vec::new(), blocks: vec![Vec::new()] };
        let mut interned: HashMap<Vec<usize>, usize> = HashMap::from([(Vec::new(), 0)]);
        // How many of each block's CIDRs and exceptions hold the prefix at hand, and the blocks that it is in.
        let mut holding = vec![[0_u32; 2]; list.len()];
        let mut inside: BTreeSet<usize> = BTreeSet::new();
        let mut count = |of: &[(usize, bool)], by: i32| {
            for (block, is_exception) in of {
                let cell = &mut holding[*block][usize::from(*is_exception)];
                *cell = cell.checked_add_signed(by).expect("what is closed was opened");
                match holding[*block] {
                    [cidrs, 0] if cidrs > 0 => inside.insert(*block),
                    [_, _] => inside.remove(block),
                };
            }
            inside.iter().copied().collect::<Vec<usize>>()
        };
        let mut open: Vec<(usize, &[(usize, bool)])> = Vec::new();
        for (net, of) in &named {
            while open.last().is_some_and(|(outer, _)| !prefixes.nets[*outer].contains(net)) {
                let (_, closed) = open.pop().expect("it was looked at");
                count(closed, -1);
            }
            let blocks = count(of, 1);
            prefixes.parents.push(open.last().map(|(outer, _)| *outer));
            open.push((prefixes.nets.len(), of));
            prefixes.nets.push(*net);
            let next = prefixes.blocks.len();
            let class = *interned.entry(blocks).or_insert_with_key(|blocks| {
                prefixes.blocks.push(blocks.clone());
                next
            });
            prefixes.classes.push(class);
        }
        prefixes
    }

    /// The blocks that an address is in: an index into `blocks`.
    fn class_of(&self, address: IpAddr) -> usize {
        self.class_behind(self.nets.partition_point(|net| net.network() <= address), address)
    }

    /// For addresses in ascending order.
    fn walk(&self) -> Walk<'_> {
        Walk { prefixes: self, passed: 0 }
    }

    /// The same where it is known how many prefixes begin at or before the address.
    fn class_behind(&self, passed: usize, address: IpAddr) -> usize {
        // Whatever holds the address begins at or before it, and holds whatever begins between.
        let mut at = passed.checked_sub(1);
        while let Some(index) = at.filter(|index| !self.nets[*index].contains(&address)) {
            at = self.parents[index];
        }
        at.map_or(0, |at| self.classes[at])
    }
}

/// Goes through addresses and prefixes side by side.
struct Walk<'p> {
    prefixes: &'p Prefixes,
    /// How many prefixes begin at or before the address at hand.
    passed: usize,
}

impl Walk<'_> {
    /// As [`Prefixes::class_of`]. No address may be smaller than the one before.
    fn class_of(&mut self, address: IpAddr) -> usize {
        let rest = &self.prefixes.nets[self.passed..];
        self.passed += rest.iter().take_while(|net| net.network() <= address).count();
        self.prefixes.class_behind(self.passed, address)
    }
}

/// What tells one class from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Signature {
    is_pod: bool,
    is_contradicted: bool,
    /// The peers that include it for certain, ascending.
    certain: Vec<usize>,
    /// Those that include it perhaps, ascending.
    possible: Vec<usize>,
    /// The numbers behind names of ports.
    named: Vec<(usize, u16)>,
}

/// The parts that settle which peers include an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Traits {
    is_pod: bool,
    /// Index into [`LabelParts::found`].
    by_labels: usize,
    /// Index into [`Prefixes::blocks`].
    by_block: usize,
    /// Index into [`Classes::by_node`].
    by_node: usize,
}

/// Classes in the order in which they were met, so that the same model gives the same numbers.
struct Classes<'p, 'm> {
    parts: &'p Parts<'m>,
    by_traits: FxHashMap<Traits, usize>,
    index: HashMap<Signature, usize>,
    signatures: Vec<Signature>,
    /// With their classes.
    members: Vec<(Holder, usize)>,
    /// Selectors of nodes that match, certain and possible; the first is of what is no node.
    by_node: Vec<(Vec<usize>, Vec<usize>)>,
}

impl<'p, 'm> Classes<'p, 'm> {
    fn new(parts: &'p Parts<'m>) -> Self {
        Self {
            parts,
            by_traits: FxHashMap::default(),
            index: HashMap::new(),
            signatures: Vec::new(),
            members: Vec::new(),
            by_node: vec![(Vec::new(), Vec::new())],
        }
    }

    /// Which selectors of nodes match.
    fn node(&mut self, labels: Option<&Labels>) -> usize {
        let node = labels.map_or(NodeLabels::Unknown, NodeLabels::Known);
        let of = |wanted: Match| {
            let nodes = self.parts.nodes.iter().enumerate();
            nodes.filter(|(_, selector)| node.meet(selector) == wanted).map(|(at, _)| at).collect::<Vec<usize>>()
        };
        let found = (of(Match::Yes), of(Match::Maybe));
        self.by_node.iter().position(|known| *known == found).unwrap_or_else(|| {
            self.by_node.push(found);
            self.by_node.len() - 1
        })
    }

    fn add(&mut self, traits: Traits, labels: &LabelParts<'_, '_>, holder: Holder) {
        let class = match self.by_traits.get(&traits) {
            Some(class) => *class,
            None => {
                let class = self.class(self.signature(traits, labels));
                self.by_traits.insert(traits, class);
                class
            }
        };
        self.members.push((holder, class));
    }

    /// An address of which nobody can tell whose it is.
    fn add_contradicted(&mut self, address: IpAddr) {
        let class = self.class(Signature { is_pod: true, is_contradicted: true, ..Signature::default() });
        self.members.push((Holder::Address(address), class));
    }

    fn class(&mut self, signature: Signature) -> usize {
        if let Some(class) = self.index.get(&signature) {
            return *class;
        }
        self.index.insert(signature.clone(), self.signatures.len());
        self.signatures.push(signature);
        self.signatures.len() - 1
    }

    fn signature(&self, traits: Traits, labels: &LabelParts<'_, '_>) -> Signature {
        let parts = self.parts;
        let blocks = &parts.prefixes.blocks[traits.by_block];
        let (nodes, nodes_perhaps) = &self.by_node[traits.by_node];
        let found = &labels.found[traits.by_labels];
        let of_sets = |sets: &[usize]| {
            let alone = sets.iter().flat_map(|set| parts.by_set[*set].iter().copied());
            let in_blocks = sets.iter().flat_map(|set| &parts.by_both[*set]);
            let in_blocks = in_blocks.filter(|(_, block)| blocks.binary_search(block).is_ok());
            alone.chain(in_blocks.map(|(peer, _)| *peer)).collect::<Vec<usize>>()
        };
        let of_nodes = |nodes: &[usize]| nodes.iter().flat_map(|at| parts.by_nodes[*at].iter().copied()).collect();
        let mut certain: Vec<usize> = of_sets(&found.certain);
        certain.extend(blocks.iter().flat_map(|block| &parts.by_block[*block]));
        certain.extend::<Vec<usize>>(of_nodes(nodes));
        let mut possible: Vec<usize> = of_sets(&found.possible);
        possible.extend::<Vec<usize>>(of_nodes(nodes_perhaps));
        certain.sort_unstable();
        possible.sort_unstable();
        Signature { is_pod: traits.is_pod, is_contradicted: false, certain, possible, named: found.named.clone() }
    }
}

/// Which sets of pods the labels are in, once for each distinct namespace and labels, as far as any selector asks for
/// them.
struct LabelParts<'p, 'm> {
    model: &'m Model,
    parts: &'p Parts<'m>,
    /// Keys of labels that selectors of pods ask for, in order.
    keys: Vec<&'m str>,
    names: HashMap<PortName<'m>, usize>,
    /// Sets that any namespace may have pods in.
    everywhere: Anchors<'m>,
    by_namespace: HashMap<&'m str, Anchors<'m>>,
    own: HashMap<&'m str, Vec<usize>>,
    selected: HashMap<&'m Selector, Vec<usize>>,
    profiles: HashMap<Profile<'m>, usize>,
    index: HashMap<Found, usize>,
    /// The first is of what is no pod.
    found: Vec<Found>,
}

/// What sets and names of ports can tell of a pod.
#[derive(PartialEq, Eq, Hash)]
struct Profile<'m> {
    namespace: &'m str,
    labels: Vec<(&'m str, &'m str)>,
    is_understood: bool,
    named: Vec<(usize, u16)>,
}

/// Sets that a pod is in for certain, those that it is in perhaps, and numbers behind names of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Found {
    certain: Vec<usize>,
    possible: Vec<usize>,
    named: Vec<(usize, u16)>,
}

/// Sets by one label that each of them asks for, so that a pod need not be held against all.
#[derive(Default)]
struct Anchors<'m> {
    by_label: HashMap<(&'m str, &'m str), Vec<usize>>,
    /// Those that ask for no label with certain values.
    others: Vec<usize>,
}

impl<'m> Anchors<'m> {
    fn add(&mut self, at: usize, set: &'m PodSet) {
        let anchor = set.pods.requirements().iter().find_map(|requirement| match &requirement.test {
            Test::In(values) => Some((requirement.key.as_str(), values)),
            Test::NotIn(_) | Test::Exists | Test::DoesNotExist => None,
            Test::Contains(_) | Test::StartsWith(_) | Test::EndsWith(_) => None,
        });
        match anchor {
            Some((key, values)) => {
                values.iter().for_each(|value| self.by_label.entry((key, value)).or_default().push(at));
            }
            None => self.others.push(at),
        }
    }

    fn candidates<'a>(&'a self, labels: &'a [(&str, &str)]) -> impl Iterator<Item = usize> + 'a {
        let anchored = labels.iter().filter_map(|label| self.by_label.get(label)).flatten();
        anchored.chain(&self.others).copied()
    }
}

impl<'p, 'm> LabelParts<'p, 'm> {
    fn new(model: &'m Model, parts: &'p Parts<'m>) -> Self {
        let (mut everywhere, mut own, mut selected) = (Anchors::default(), HashMap::new(), HashMap::new());
        for (at, set) in parts.sets.iter().enumerate() {
            match &set.namespaces {
                Namespaces::Own(name) => own.entry(name.as_str()).or_insert_with(Vec::new).push(at),
                Namespaces::Selected(selector) if selector.is_empty() => everywhere.add(at, set),
                Namespaces::Selected(selector) => selected.entry(selector).or_insert_with(Vec::new).push(at),
            }
        }
        Self {
            model,
            parts,
            keys: parts.sets.iter().flat_map(|set| keys(&set.pods)).collect::<BTreeSet<_>>().into_iter().collect(),
            names: parts.names.iter().enumerate().map(|(at, name)| (*name, at)).collect(),
            everywhere,
            by_namespace: HashMap::new(),
            own,
            selected,
            profiles: HashMap::new(),
            index: HashMap::from([(Found::default(), 0)]),
            found: vec![Found::default()],
        }
    }

    /// For each kind of pods an index into `found`.
    fn of_kinds(&mut self) -> Vec<usize> {
        let model = self.model;
        let of_kind = |pod: &'m Arc<Pod>| {
            // One in its node's network is in no set, whatever its labels: nobody else may be taken for it.
            if pod.is_host_network { 0 } else { self.of(pod) }
        };
        model.pods.kinds().specimens().iter().map(of_kind).collect()
    }

    /// An index into `found`.
    fn of(&mut self, pod: &'m Pod) -> usize {
        let labels = pod.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let numbers = pod.ports.iter();
        let numbers =
            numbers.filter_map(|(protocol, name, number)| Some((*self.names.get(&(protocol, name))?, number)));
        let mut named: Vec<(usize, u16)> = numbers.collect();
        named.sort_unstable();
        let profile = Profile {
            namespace: pod.id.namespace.as_str(),
            labels: labels.filter(|(key, _)| self.keys.binary_search(key).is_ok()).collect(),
            is_understood: pod.is_understood,
            named,
        };
        if let Some(known) = self.profiles.get(&profile) {
            return *known;
        }
        let found = self.find(pod, &profile);
        let next = self.found.len();
        let at = *self.index.entry(found).or_insert_with_key(|found| {
            self.found.push(found.clone());
            next
        });
        self.profiles.insert(profile, at);
        at
    }

    fn find(&mut self, pod: &'m Pod, profile: &Profile<'m>) -> Found {
        let (model, parts) = (self.model, self.parts);
        let namespace = model.namespace_of(pod);
        let named = profile.named.clone();
        if !pod.is_understood || !namespace.is_understood {
            let of = |wanted: Match| {
                let sets = parts.sets.iter().enumerate();
                sets.filter(|(_, set)| set.selects(pod, namespace) == wanted).map(|(at, _)| at).collect()
            };
            return Found { certain: of(Match::Yes), possible: of(Match::Maybe), named };
        }
        let here = self.by_namespace.entry(profile.namespace).or_insert_with(|| {
            let mut anchors = Anchors::default();
            let selected = self.selected.iter().filter(|(selector, _)| selector.matches(&namespace.labels));
            let own = self.own.get(profile.namespace);
            for at in selected.map(|(_, sets)| sets).chain(own).flatten() {
                anchors.add(*at, parts.sets[*at]);
            }
            anchors
        });
        let candidates = here.candidates(&profile.labels).chain(self.everywhere.candidates(&profile.labels));
        let mut certain: Vec<usize> = candidates.filter(|at| parts.sets[*at].pods.matches(&pod.labels)).collect();
        certain.sort_unstable();
        Found { certain, possible: Vec::new(), named }
    }
}

/// The keys of labels that a selector asks for.
fn keys(selector: &Selector) -> impl Iterator<Item = &str> {
    let expressed = selector.expression().map(Expression::requirements).unwrap_or_default();
    selector.requirements().iter().chain(expressed).map(|requirement: &Requirement| requirement.key.as_str())
}

/// The names of ports that an item of a rule's `ports` asks for.
pub(super) fn named_ports(port: &PortRule) -> Vec<PortName<'_>> {
    match &port.ports {
        Ports::Named(name) => port.protocols().map(|protocol| (protocol, name.as_str())).collect(),
        Ports::All | Ports::Range(_) => Vec::new(),
    }
}
