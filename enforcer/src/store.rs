//! What the watches have told so far. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use itertools::Itertools;
use serde_json::{Value, json};
use signalbox_policy::{Cluster, ObjectRef, audit::is_in_audit};

use crate::group::ip_protocol;

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Their labels select.
    Namespace,
    /// Who talks.
    Pod,
    /// Their labels select, and their addresses are theirs.
    Node,
    /// Who may.
    NetworkPolicy,
    /// Who may and who must not, before and behind the NetworkPolicies.
    ClusterNetworkPolicy,
    /// Its ancestors.
    AdminNetworkPolicy,
    /// The other one.
    BaselineAdminNetworkPolicy,
    /// Calico's, of all namespaces.
    CalicoGlobalNetworkPolicy,
    /// Calico's, of one.
    CalicoNetworkPolicy,
    /// Calico's: addresses that its policies select by labels.
    CalicoGlobalNetworkSet,
    /// The same in a namespace.
    CalicoNetworkSet,
    /// Calico's: hosts that its policies select by labels.
    CalicoHostEndpoint,
    /// Only to know which of the node's addresses are translated.
    Service,
}

impl Kind {
    /// What must be known before anything is enforced.
    const NEEDED: [Self; 3] = [Self::Namespace, Self::Pod, Self::NetworkPolicy];

    /// What must have been asked for, at least: not every API serves it, and not every enforcer may read it. What it may not
    /// read is a problem of its status, and no reason to enforce nothing at all.
    const ASKED_FOR: [Self; 8] = [
        Self::ClusterNetworkPolicy,
        Self::AdminNetworkPolicy,
        Self::BaselineAdminNetworkPolicy,
        Self::CalicoGlobalNetworkPolicy,
        Self::CalicoNetworkPolicy,
        Self::CalicoGlobalNetworkSet,
        Self::CalicoNetworkSet,
        Self::CalicoHostEndpoint,
    ];

    /// Policies.
    const POLICIES: [Self; 6] = [
        Self::NetworkPolicy,
        Self::ClusterNetworkPolicy,
        Self::AdminNetworkPolicy,
        Self::BaselineAdminNetworkPolicy,
        Self::CalicoGlobalNetworkPolicy,
        Self::CalicoNetworkPolicy,
    ];

    /// Whether one object of it can come into what the engine has read, and go out again. Of the others it is hard to say what
    /// hangs on them, and they seldom change.
    fn can_be_taken_out(self) -> bool {
        match self {
            Self::Pod
            | Self::NetworkPolicy
            | Self::ClusterNetworkPolicy
            | Self::AdminNetworkPolicy
            | Self::BaselineAdminNetworkPolicy => true,
            Self::Namespace
            | Self::Node
            | Self::CalicoGlobalNetworkPolicy
            | Self::CalicoNetworkPolicy
            | Self::CalicoGlobalNetworkSet
            | Self::CalicoNetworkSet
            | Self::CalicoHostEndpoint
            | Self::Service => false,
        }
    }
}

/// One piece of news from a watch.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// A list begins: what it does not contain is gone when it ends.
    Began(Kind),
    /// One object of the list.
    Listed(Kind, Value),
    /// The list ends.
    Ended(Kind),
    /// An object was made or changed.
    Changed(Kind, Value),
    /// An object is gone; this is what it was last.
    Deleted(Kind, Value),
    /// The watch had trouble, and tries again by itself. What is known stays known.
    Trouble(Kind, String),
}

/// What the engine has not read yet.
#[derive(Debug)]
enum Unread {
    /// Everything: it has read nothing, or a whole list is new.
    All,
    /// Pods and policies that came, changed or went. With its name, an object that the engine may know and that went.
    Some(BTreeMap<(Kind, String), Option<ObjectRef>>),
}

/// What is known of the cluster.
#[derive(Debug)]
pub struct Store {
    objects: BTreeMap<(Kind, String), Value>,
    cluster: Cluster,
    unread: Unread,
    listed: BTreeMap<Kind, BTreeMap<(Kind, String), Value>>,
    ready: BTreeSet<Kind>,
    trouble: BTreeMap<Kind, String>,
    policies_version: u64,
    /// The versions that deleted objects had last.
    gone: BTreeMap<(Kind, String), u64>,
    /// Pods that were found before the API told their addresses, by name.
    early: BTreeMap<String, Early>,
}

/// What a pod was found to have.
#[derive(Clone, Debug)]
struct Early {
    uid: String,
    addresses: Vec<IpAddr>,
}

/// How many deleted objects are remembered, so that older news of them change nothing.
const GONE_KEPT: usize = 4096;

impl Default for Store {
    /// Nothing is known.
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            cluster: Cluster::default(),
            unread: Unread::All,
            listed: BTreeMap::new(),
            ready: BTreeSet::new(),
            trouble: BTreeMap::new(),
            policies_version: 0,
            gone: BTreeMap::new(),
            early: BTreeMap::new(),
        }
    }
}

impl Store {
    /// Takes a piece of news; whether it may change anything. Nodes tell much that nobody here reads.
    pub fn take(&mut self, update: Update) -> bool {
        if let Update::Changed(Kind::Node, object) = &update
            && !self.trouble.contains_key(&Kind::Node)
            && self.objects.get(&(Kind::Node, key(object))) == Some(&strip(Kind::Node, object.clone()))
        {
            return false;
        }
        if let Update::Changed(kind, object) | Update::Deleted(kind, object) = &update
            && self.is_old(*kind, object)
        {
            return false;
        }
        match update {
            Update::Began(kind) => {
                self.listed.insert(kind, BTreeMap::new());
            }
            Update::Listed(kind, object) => {
                self.note_version(kind, &object);
                self.listed.entry(kind).or_default().insert((kind, key(&object)), strip(kind, object));
            }
            Update::Ended(kind) => {
                if let Some(listed) = self.listed.remove(&kind) {
                    self.unread = Unread::All;
                    self.objects.retain(|(other, _), _| *other != kind);
                    for (name, object) in listed {
                        let object = self.completed(kind, object);
                        self.objects.insert(name, object);
                    }
                    self.gone.retain(|(other, _), _| *other != kind);
                    let is_there = |name: &String| self.objects.contains_key(&(Kind::Pod, name.clone()));
                    self.early.retain(|name, _| is_there(name));
                }
                self.ready.insert(kind);
                self.trouble.remove(&kind);
            }
            Update::Changed(kind, object) => {
                self.note_version(kind, &object);
                self.trouble.remove(&kind);
                let name = (kind, key(&object));
                let object = self.completed(kind, strip(kind, object));
                let before = self.objects.insert(name.clone(), object);
                self.is_unread(name, before.as_ref());
            }
            Update::Deleted(kind, object) => {
                self.note_version(kind, &object);
                self.trouble.remove(&kind);
                let name = (kind, key(&object));
                let before = self.objects.remove(&name);
                if kind == Kind::Pod {
                    self.early.remove(&name.1);
                }
                self.is_unread(name, before.as_ref());
                if let Some(version) = version(&object) {
                    self.gone.insert((kind, key(&object)), version);
                }
                while self.gone.len() > GONE_KEPT {
                    // Any will do: what is forgotten is only as safe as without this memory.
                    self.gone.pop_first();
                }
            }
            Update::Trouble(kind, what) => {
                self.trouble.insert(kind, what);
            }
        }
        true
    }

    /// A pod of a node that has one of these UIDs was found to have these addresses. They count until the API tells some, or that it
    /// is gone. Its name, if that is news: there is one such pod, in a network of its own, the API tells no address of it, and none of
    /// these is anybody else's.
    pub fn find_pod(&mut self, node: &str, uids: &BTreeSet<String>, addresses: &[IpAddr]) -> Option<String> {
        let is_asked_for = |pod: &&Value| {
            pod["metadata"]["uid"].as_str().is_some_and(|uid| uids.contains(uid))
                && pod["spec"]["nodeName"] == node
                && pod["spec"]["hostNetwork"] != true
                && is_without_address(pod)
                && !has_ended(pod)
        };
        let before = self.of_kind(Kind::Pod).filter(is_asked_for).exactly_one().ok()?.clone();
        let is_taken = |address: &IpAddr| {
            let others = self.of_kind(Kind::Pod).filter(|pod| !has_ended(pod)).flat_map(addresses_of_pod);
            let nodes =
                self.of_kind(Kind::Node).flat_map(|node| node["status"]["addresses"].as_array().into_iter().flatten());
            let nodes = nodes.filter_map(|entry| entry["address"].as_str()?.parse::<IpAddr>().ok());
            others.chain(nodes).chain(self.services().flat_map(addresses_of)).contains(address)
        };
        if addresses.iter().any(is_taken) {
            return None;
        }
        let name = (Kind::Pod, key(&before));
        let uid = before["metadata"]["uid"].as_str()?.to_owned();
        self.early.insert(name.1.clone(), Early { uid, addresses: addresses.to_vec() });
        let object = self.completed(Kind::Pod, before.clone());
        self.objects.insert(name.clone(), object);
        self.is_unread(name.clone(), Some(&before));
        Some(name.1)
    }

    /// Pods of which what was found counts.
    pub fn found_pods(&self) -> impl Iterator<Item = &String> {
        self.early.keys()
    }

    /// What was found of a pod counts no more.
    pub fn forget_pod(&mut self, name: &str) {
        if self.early.remove(name).is_none() {
            return;
        }
        let name = (Kind::Pod, name.to_owned());
        let Some(object) = self.objects.get_mut(&name) else { return };
        let before = object.clone();
        if let Some(status) = object["status"].as_object_mut() {
            status.remove("podIPs");
        }
        self.is_unread(name, Some(&before));
    }

    /// The same object with what is known before the API tells it.
    fn completed(&mut self, kind: Kind, mut object: Value) -> Value {
        if kind != Kind::Pod {
            return object;
        }
        let name = key(&object);
        let Some(early) = self.early.get(&name) else { return object };
        if object["metadata"]["uid"] != early.uid.as_str() || !is_without_address(&object) {
            self.early.remove(&name);
            return object;
        }
        let list: Vec<Value> = early.addresses.iter().map(|address| json!({"ip": address.to_string()})).collect();
        if let Some(pod) = object.as_object_mut()
            && let Some(status) = pod.entry("status").or_insert_with(|| json!({})).as_object_mut()
        {
            status.insert("podIPs".to_owned(), list.into());
        }
        object
    }

    /// Whether the first lists are in: before that, nothing may be concluded from what is missing.
    pub fn is_ready(&self) -> bool {
        let is_answered = |kind| self.ready.contains(kind) || self.trouble.contains_key(kind);
        Kind::NEEDED.iter().all(|kind| self.ready.contains(kind)) && Kind::ASKED_FOR.iter().all(is_answered)
    }

    /// Whether everything that is watched is known, Services and the kinds that not every API serves as well.
    pub fn is_complete(&self) -> bool {
        self.is_ready() && self.has_services() && Kind::ASKED_FOR.iter().all(|kind| self.ready.contains(kind))
    }

    /// Whether the Services are known.
    pub fn has_services(&self) -> bool {
        self.ready.contains(&Kind::Service)
    }

    /// An object has come, changed or gone; `before` is what it was.
    fn is_unread(&mut self, name: (Kind, String), before: Option<&Value>) {
        let Unread::Some(names) = &mut self.unread else { return };
        if name.0 == Kind::Service {
            return;
        }
        match before.map(ObjectRef::of) {
            _ if !name.0.can_be_taken_out() => self.unread = Unread::All,
            // The engine may know it, but not by a name that could be taken out.
            Some(None) => self.unread = Unread::All,
            Some(before) => _ = names.insert(name, before),
            None => _ = names.entry(name).or_default(),
        }
    }

    /// Everything that the engine reads, read. What has not changed since it was last asked for is not read again.
    pub fn cluster(&mut self) -> &Cluster {
        match std::mem::replace(&mut self.unread, Unread::Some(BTreeMap::new())) {
            Unread::All => self.cluster = Cluster::from_objects(self.objects()),
            Unread::Some(names) if names.is_empty() => {}
            Unread::Some(names) => {
                let changed = names.keys().filter_map(|name| self.objects.get(name));
                let gone = names.iter().filter(|(name, _)| !self.objects.contains_key(name));
                self.cluster = self.cluster.with_change(changed, gone.filter_map(|(_, before)| before.as_ref()));
            }
        }
        &self.cluster
    }

    /// What the engine reads.
    pub fn objects(&self) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(|((kind, _), _)| *kind != Kind::Service).map(|(_, object)| object)
    }

    /// The same as [`Store::cluster`] without the policies that are in audit; `None` where none is.
    pub fn enforced(&mut self) -> Option<Cluster> {
        let audited: Vec<(Kind, Option<ObjectRef>)> =
            self.audited().map(|(kind, object)| (kind, ObjectRef::of(object))).collect();
        if audited.is_empty() {
            return None;
        }
        let named: Option<Vec<ObjectRef>> =
            audited.into_iter().map(|(kind, name)| name.filter(|_| kind.can_be_taken_out())).collect();
        Some(match named {
            Some(names) => self.cluster().with_change([], &names),
            None => Cluster::from_objects(self.objects().filter(|object| !is_in_audit(object))),
        })
    }

    /// The policies that are in audit.
    pub fn audited(&self) -> impl Iterator<Item = (Kind, &Value)> {
        let policies = Kind::POLICIES.into_iter().flat_map(|kind| self.of_kind(kind).map(move |object| (kind, object)));
        policies.filter(|(_, object)| is_in_audit(object))
    }

    /// All objects of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        let from = self.objects.range((kind, String::new())..);
        from.take_while(move |((other, _), _)| *other == kind).map(|(_, object)| object)
    }

    /// The newest `resourceVersion` of any policy, deleted ones included.
    pub fn policies_version(&self) -> u64 {
        self.policies_version
    }

    /// What is wrong with the watches.
    pub fn problems(&self) -> impl Iterator<Item = String> {
        self.trouble
            .iter()
            .map(|(kind, what)| format!("the watch of {kind:?} objects fails and is tried again: {what}"))
    }

    /// Addresses that Services have.
    pub fn service_addresses(&self) -> BTreeSet<IpAddr> {
        self.services().flat_map(addresses_of).collect()
    }

    /// Addresses of Services, and the IP protocol and port that are translated there.
    pub fn service_ports(&self) -> BTreeSet<(IpAddr, u8, u16)> {
        let mut found = BTreeSet::new();
        for service in self.services() {
            let addresses = addresses_of(service);
            for port in service["spec"]["ports"].as_array().into_iter().flatten() {
                let Some(number) = port["port"].as_u64().and_then(|port| u16::try_from(port).ok()) else { continue };
                found.extend(addresses.iter().map(|address| (*address, protocol_of(port), number)));
            }
        }
        found
    }

    /// Node ports: IP protocol and port.
    pub fn node_ports(&self) -> BTreeSet<(u8, u16)> {
        let ports = self.services().filter_map(|service| service["spec"]["ports"].as_array()).flatten();
        ports
            .filter_map(|port| {
                let number = u16::try_from(port["nodePort"].as_u64()?).ok()?;
                Some((protocol_of(port), number))
            })
            .collect()
    }

    fn services(&self) -> impl Iterator<Item = &Value> {
        self.of_kind(Kind::Service)
    }

    fn note_version(&mut self, kind: Kind, object: &Value) {
        if kind == Kind::NetworkPolicy {
            self.policies_version = self.policies_version.max(version(object).unwrap_or(0));
        }
    }

    /// Whether something newer is known of the object. Versions are numbers that grow wherever Kubernetes is served; where
    /// they are not, every piece of news counts.
    fn is_old(&self, kind: Kind, object: &Value) -> bool {
        let name = (kind, key(object));
        let newest = self.objects.get(&name).and_then(version).max(self.gone.get(&name).copied());
        newest.zip(version(object)).is_some_and(|(newest, this)| this < newest)
    }
}

/// Whether the API tells no address of a pod.
fn is_without_address(pod: &Value) -> bool {
    let status = &pod["status"];
    let is_empty = |value: &Value| value.is_null() || value == "" || value.as_array().is_some_and(Vec::is_empty);
    is_empty(&status["podIP"]) && is_empty(&status["podIPs"])
}

/// Whether it has no network any more.
fn has_ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

fn addresses_of_pod(pod: &Value) -> impl Iterator<Item = IpAddr> {
    let status = &pod["status"];
    let list = status["podIPs"].as_array().into_iter().flatten().map(|entry| &entry["ip"]);
    list.chain([&status["podIP"]]).filter_map(|address| address.as_str()?.parse().ok())
}

/// Addresses that a Service has.
fn addresses_of(service: &Value) -> BTreeSet<IpAddr> {
    let mut addresses = BTreeSet::new();
    let mut take = |value: &Value| addresses.extend(value.as_str().and_then(|text| text.parse::<IpAddr>().ok()));
    take(&service["spec"]["clusterIP"]);
    for list in ["clusterIPs", "externalIPs"] {
        service["spec"][list].as_array().into_iter().flatten().for_each(&mut take);
    }
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    ingress.into_iter().flatten().for_each(|entry| take(&entry["ip"]));
    addresses
}

/// The IP protocol of a Service's port.
fn protocol_of(port: &Value) -> u8 {
    ip_protocol(match port["protocol"].as_str() {
        Some("UDP") => signalbox_policy::Protocol::Udp,
        Some("SCTP") => signalbox_policy::Protocol::Sctp,
        Some(_) | None => signalbox_policy::Protocol::Tcp,
    })
}

/// An object's `resourceVersion`, where it is a number.
fn version(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

/// `namespace/name`.
pub fn key(object: &Value) -> String {
    let part = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    format!("{}/{}", part("namespace"), part("name"))
}

/// Drops what nobody reads.
fn strip(kind: Kind, mut object: Value) -> Value {
    if kind == Kind::Node {
        let (metadata, status) = (&object["metadata"], &object["status"]);
        return json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": metadata["name"], "labels": metadata["labels"]},
            "status": {"addresses": status["addresses"]},
        });
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

#[cfg(test)]
mod tests;
