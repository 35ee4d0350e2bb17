//! Pods that no rule of lint tells apart are one class; sets of classes are bits. So lint's cost grows with kinds of pods,
//! not with pods.
//!
//! A set holds whatever **may** be in it: pods and namespaces whose labels were not understood, or of which there is no
//! object, are in every set that they could be in. An empty set is certainly empty.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;

use fixedbitset::FixedBitSet;

use crate::block::IpBlock;
use crate::label::{Labels, NAMESPACE_NAME};
use crate::model::{Model, PodIndex};
use crate::names::{Family, Protocol};
use crate::namespace::Namespace;
use crate::peer::{Namespaces, Peer, PodSet};
use crate::pod::Pod;
use crate::policy::calico;
use crate::port::NamedPorts;
use crate::selector::{Expression, Requirement, Selector, Test};

use super::raw::{Declared, Raw};

/// A set of classes.
pub(super) type Set = Rc<FixedBitSet>;

/// All classes, and sets of them by what selectors ask.
pub(super) struct Classes<'m> {
    list: Vec<Class<'m>>,
    /// Of pods in their node's network.
    pub host_network: FixedBitSet,
    /// Of pods that declare at least one port.
    pub declaring: FixedBitSet,
    /// By the ports that their containers declare.
    pub declared: BTreeMap<(Protocol, u16), FixedBitSet>,
    model: &'m Model,
    namespace_objects: HashSet<&'m str>,
    of_namespace: HashMap<&'m str, FixedBitSet>,
    labels: HashMap<&'m str, Key<'m>>,
    unread: FixedBitSet,
    addresses: Vec<(IpAddr, usize)>,
    /// Of pods that have an address of the family: IPv4, IPv6.
    families: [FixedBitSet; 2],
    without_address: FixedBitSet,
    by_pods: RefCell<HashMap<PodSet, Set>>,
    by_namespaces: RefCell<HashMap<Selector, Set>>,
    by_block: RefCell<HashMap<IpBlock, Set>>,
}

/// Pods that are alike.
pub(super) struct Class<'m> {
    /// One of them: the first by name.
    pub pod: &'m Pod,
    pub index: PodIndex,
    /// How many there are.
    pub members: usize,
}

/// Who has a label.
#[derive(Default)]
struct Key<'m> {
    present: FixedBitSet,
    values: HashMap<&'m str, FixedBitSet>,
}

impl<'m> Classes<'m> {
    pub fn new<'r>(model: &'m Model, raw: &'r Raw<'m>) -> Self {
        type Likeness<'k> = (&'k str, &'k Labels, &'k NamedPorts, Option<&'k Declared>, [bool; 4]);
        let mut known: HashMap<Likeness<'_>, usize> = HashMap::new();
        let mut list: Vec<Class<'m>> = Vec::new();
        let mut declared_by: Vec<Option<&'r Declared>> = Vec::new();
        let mut addresses = Vec::new();
        for index in model.pod_indices() {
            let pod = model.pod(index);
            let declared = raw.declared(&pod.id);
            let is_sound = model.unknowns_of(index).is_empty();
            let marks = [pod.is_host_network, pod.is_understood, is_sound, pod.addresses.is_empty()];
            let likeness = (pod.id.namespace.as_str(), &*pod.labels, &pod.ports, declared, marks);
            let at = *known.entry(likeness).or_insert_with(|| {
                list.push(Class { pod, index, members: 0 });
                declared_by.push(declared);
                list.len() - 1
            });
            list[at].members += 1;
            if !pod.is_host_network {
                addresses.extend(pod.addresses.iter().map(|address| (*address, at)));
            }
        }
        addresses.sort_unstable();
        let empty = FixedBitSet::with_capacity(list.len());
        let mut classes = Self {
            host_network: empty.clone(),
            declaring: empty.clone(),
            declared: BTreeMap::new(),
            model,
            namespace_objects: raw.namespaces.clone(),
            of_namespace: HashMap::new(),
            labels: HashMap::new(),
            unread: empty.clone(),
            addresses,
            families: [empty.clone(), empty.clone()],
            without_address: empty.clone(),
            by_pods: RefCell::default(),
            by_namespaces: RefCell::default(),
            by_block: RefCell::default(),
            list: Vec::new(),
        };
        for (at, class) in list.iter().enumerate() {
            let pod = class.pod;
            classes.of_namespace.entry(&pod.id.namespace).or_insert_with(|| empty.clone()).insert(at);
            classes.host_network.set(at, pod.is_host_network);
            classes.unread.set(at, !pod.is_understood);
            classes.without_address.set(at, pod.addresses.is_empty());
            classes.declaring.set(at, declared_by[at].is_some_and(|ports| !ports.is_empty()));
            for port in declared_by[at].into_iter().flatten() {
                classes.declared.entry(*port).or_insert_with(|| empty.clone()).insert(at);
            }
            for (key, value) in pod.labels.iter() {
                let key = classes.labels.entry(key).or_default();
                key.present.grow_and_insert(at);
                key.values.entry(value).or_default().grow_and_insert(at);
            }
        }
        for (address, at) in &classes.addresses {
            classes.families[Family::of(*address) as usize].insert(*at);
        }
        classes.list = list;
        classes
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn get(&self, at: usize) -> &Class<'m> {
        &self.list[at]
    }

    /// The classes of a set, in order of their first pods.
    pub fn of<'s>(&'s self, set: &'s FixedBitSet) -> impl Iterator<Item = &'s Class<'m>> {
        set.ones().map(|at| &self.list[at])
    }

    /// How many pods are in a set.
    pub fn pods(&self, set: &FixedBitSet) -> usize {
        self.of(set).map(|class| class.members).sum()
    }

    /// The first pods of a set by name, and how many more there are.
    pub fn names(&self, set: &FixedBitSet) -> String {
        const LISTED: usize = 3;
        let names: Vec<String> = self.of(set).take(LISTED).map(|class| class.pod.id.to_string()).collect();
        let more = self.pods(set) - names.len();
        let list = names.join(", ");
        if more == 0 { list } else { format!("{list} and {more} more") }
    }

    pub fn none(&self) -> FixedBitSet {
        FixedBitSet::with_capacity(self.list.len())
    }

    pub fn all(&self) -> FixedBitSet {
        let mut all = self.none();
        all.insert_range(..);
        all
    }

    pub fn in_namespace(&self, namespace: &str) -> FixedBitSet {
        self.of_namespace.get(namespace).cloned().unwrap_or_else(|| self.none())
    }

    /// The pods that may be in the set.
    pub fn select(&self, pods: &PodSet) -> Set {
        if let Some(known) = self.by_pods.borrow().get(pods) {
            return Rc::clone(known);
        }
        let mut set = self.labelled(pods);
        set.difference_with(&self.host_network);
        let set = Rc::new(set);
        self.by_pods.borrow_mut().insert(pods.clone(), Rc::clone(&set));
        set
    }

    /// The same by labels alone: with pods in their node's network, which no set holds.
    pub fn labelled(&self, pods: &PodSet) -> FixedBitSet {
        let mut set = match &pods.namespaces {
            Namespaces::Own(name) => self.in_namespace(name),
            Namespaces::Selected(selector) => self.in_namespaces(selector).as_ref().clone(),
        };
        if !pods.pods.is_empty() && !set.is_clear() {
            set.intersect_with(&self.selected(&pods.pods));
        }
        set
    }

    /// The pods of all namespaces that the selector may select.
    pub fn in_namespaces(&self, selector: &Selector) -> Set {
        if let Some(known) = self.by_namespaces.borrow().get(selector) {
            return Rc::clone(known);
        }
        let mut set = self.none();
        for name in self.namespaces(selector).map(|namespace| &namespace.name) {
            if let Some(pods) = self.of_namespace.get(name.as_str()) {
                set.union_with(pods);
            }
        }
        let set = Rc::new(set);
        self.by_namespaces.borrow_mut().insert(selector.clone(), Rc::clone(&set));
        set
    }

    /// The namespaces that the selector may select.
    pub fn namespaces(&self, selector: &Selector) -> impl Iterator<Item = &'m Namespace> {
        self.model.namespaces.values().filter(move |namespace| self.may_select(selector, namespace))
    }

    /// Whether a namespace is known by an object, so that all its labels are known.
    pub fn is_known(&self, namespace: &Namespace) -> bool {
        namespace.is_understood && self.namespace_objects.contains(namespace.name.as_str())
    }

    fn may_select(&self, selector: &Selector, namespace: &Namespace) -> bool {
        if self.is_known(namespace) {
            return selector.matches(&namespace.labels);
        }
        // Its name is the one label that is known of it.
        let by_name = |requirement: &&Requirement| is_name_key(&requirement.key);
        selector.requirements().iter().filter(by_name).all(|requirement| requirement.holds(&namespace.labels))
    }

    /// The pods whose labels may meet the selector, those in their node's network included.
    pub fn selected(&self, selector: &Selector) -> FixedBitSet {
        let mut set = self.all();
        for requirement in selector.requirements() {
            set.intersect_with(&self.holding(requirement));
        }
        if let Some(expression) = selector.expression() {
            set.intersect_with(&self.expressed(expression));
        }
        set.union_with(&self.unread);
        set
    }

    fn expressed(&self, expression: &Expression) -> FixedBitSet {
        match expression {
            Expression::Label(requirement) => self.holding(requirement),
            Expression::Not(inner) => self.complement(&self.expressed(inner)),
            Expression::And(parts) => parts.iter().fold(self.all(), |mut set, part| {
                set.intersect_with(&self.expressed(part));
                set
            }),
            Expression::Or(parts) => parts.iter().fold(self.none(), |mut set, part| {
                set.union_with(&self.expressed(part));
                set
            }),
        }
    }

    fn holding(&self, requirement: &Requirement) -> FixedBitSet {
        let key = self.labels.get(requirement.key.as_str());
        let mut set = self.none();
        let mut add = |value: &str| {
            if let Some(pods) = key.and_then(|key| key.values.get(value)) {
                set.union_with(pods);
            }
        };
        match &requirement.test {
            Test::In(values) => values.iter().for_each(|value| add(value)),
            Test::NotIn(values) => {
                values.iter().for_each(|value| add(value));
                return self.complement(&set);
            }
            Test::Exists => {
                if let Some(key) = key {
                    set.union_with(&key.present);
                }
            }
            Test::DoesNotExist => {
                return key.map_or_else(|| self.all(), |key| self.complement(&key.present));
            }
            Test::Contains(_) | Test::StartsWith(_) | Test::EndsWith(_) => {
                let values = key.into_iter().flat_map(|key| &key.values);
                for (value, pods) in values {
                    if requirement.holds(&Labels::from([(requirement.key.clone(), (*value).to_owned())])) {
                        set.union_with(pods);
                    }
                }
            }
        }
        set
    }

    fn complement(&self, set: &FixedBitSet) -> FixedBitSet {
        let mut all = self.all();
        all.difference_with(set);
        all
    }

    /// The pods of which an address lies in the block, and those without one.
    pub fn in_block(&self, block: &IpBlock) -> Set {
        if let Some(known) = self.by_block.borrow().get(block) {
            return Rc::clone(known);
        }
        let mut set = self.without_address.clone();
        set.difference_with(&self.host_network);
        for (_, at) in self.addresses_in(block) {
            set.insert(at);
        }
        let set = Rc::new(set);
        self.by_block.borrow_mut().insert(block.clone(), Rc::clone(&set));
        set
    }

    /// The addresses of pods that lie in the block, each with its pod's class; ascending within each of the block's CIDRs.
    pub fn addresses_in(&self, block: &IpBlock) -> impl Iterator<Item = (IpAddr, usize)> {
        block.cidrs().iter().flat_map(|net| {
            let from = self.addresses.partition_point(|(address, _)| *address < net.network());
            let inside = self.addresses[from..].iter().take_while(|(address, _)| net.contains(address));
            inside.filter(|(address, _)| block.contains(*address)).copied()
        })
    }

    /// The pods that have an address of the family.
    pub fn of_family(&self, family: Family) -> &FixedBitSet {
        &self.families[family as usize]
    }

    /// The pods of which no address is known.
    pub fn without_address(&self) -> &FixedBitSet {
        &self.without_address
    }

    /// The pods that may be the other end of a rule with this peer; nodes are none.
    pub fn peer(&self, peer: &Peer) -> Set {
        match peer {
            Peer::Pods(pods) => self.select(pods),
            Peer::Block(block) => self.in_block(block),
            Peer::PodsIn(pods, block) => {
                let mut set = self.select(pods).as_ref().clone();
                set.intersect_with(&self.in_block(block));
                Rc::new(set)
            }
            Peer::Nodes(_) => Rc::new(self.none()),
        }
    }

    /// All keys of pods' labels.
    pub fn keys(&self) -> impl Iterator<Item = &'m str> {
        self.labels.keys().copied()
    }

    /// Whether any pod has a label of this key.
    pub fn is_key(&self, key: &str) -> bool {
        self.labels.contains_key(key)
    }

    /// All values that pods give a key.
    pub fn values(&self, key: &str) -> impl Iterator<Item = &'m str> {
        self.labels.get(key).into_iter().flat_map(|key| key.values.keys()).copied()
    }

    /// Whether a pod of the set has a label of this key.
    pub fn has_key(&self, key: &str, set: &FixedBitSet) -> bool {
        self.labels.get(key).is_some_and(|key| !key.present.is_disjoint(set))
    }

    /// Whether a pod of the set has this label.
    pub fn has_value(&self, key: &str, value: &str, set: &FixedBitSet) -> bool {
        let pods = self.labels.get(key).and_then(|key| key.values.get(value));
        pods.is_some_and(|pods| !pods.is_disjoint(set))
    }

    /// The pods with this label.
    pub fn with_value(&self, key: &str, value: &str) -> FixedBitSet {
        let pods = self.labels.get(key).and_then(|key| key.values.get(value));
        pods.cloned().unwrap_or_else(|| self.none())
    }

    /// Whether a pod of the set declares a port of the range.
    pub fn declare(&self, set: &FixedBitSet, protocol: Protocol, first: u16, last: u16) -> bool {
        self.declared.range((protocol, first)..=(protocol, last)).any(|(_, pods)| !pods.is_disjoint(set))
    }
}

/// Whether a namespace's label of this key is its name.
pub(super) fn is_name_key(key: &str) -> bool {
    key == NAMESPACE_NAME || key == calico::NAME
}
