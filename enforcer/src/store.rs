//! What the watches have told so far. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

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
                    self.objects.extend(listed);
                    self.gone.retain(|(other, _), _| *other != kind);
                }
                self.ready.insert(kind);
                self.trouble.remove(&kind);
            }
            Update::Changed(kind, object) => {
                self.note_version(kind, &object);
                self.trouble.remove(&kind);
                let name = (kind, key(&object));
                let before = self.objects.insert(name.clone(), strip(kind, object));
                self.is_unread(name, before.as_ref());
            }
            Update::Deleted(kind, object) => {
                self.note_version(kind, &object);
                self.trouble.remove(&kind);
                let name = (kind, key(&object));
                let before = self.objects.remove(&name);
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
        match name.0 {
            Kind::Service => {}
            Kind::Pod
            | Kind::NetworkPolicy
            | Kind::ClusterNetworkPolicy
            | Kind::AdminNetworkPolicy
            | Kind::BaselineAdminNetworkPolicy => match before.map(ObjectRef::of) {
                // Its name in the engine is not known: it is to be found nowhere, or everywhere.
                Some(None) => self.unread = Unread::All,
                Some(before) => _ = names.insert(name, before),
                None => _ = names.entry(name).or_default(),
            },
            // What hangs on them is hard to say, and they seldom change.
            Kind::Namespace
            | Kind::Node
            | Kind::CalicoGlobalNetworkPolicy
            | Kind::CalicoNetworkPolicy
            | Kind::CalicoGlobalNetworkSet
            | Kind::CalicoNetworkSet
            | Kind::CalicoHostEndpoint => self.unread = Unread::All,
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

    /// What the engine reads, without the policies that are in audit.
    pub fn enforced_objects(&self) -> impl Iterator<Item = &Value> {
        self.objects().filter(|object| !is_in_audit(object))
    }

    /// The policies that are in audit.
    pub fn audited(&self) -> impl Iterator<Item = &Value> {
        self.objects().filter(|object| is_in_audit(object))
    }

    /// All objects of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |((other, _), _)| *other == kind).map(|(_, object)| object)
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
        self.objects.iter().filter(|((kind, _), _)| *kind == Kind::Service).map(|(_, object)| object)
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
mod tests {
    use proptest::prelude::*;
    use signalbox_policy::Problem;

    use super::*;

    const CALICO: [Kind; 5] = [
        Kind::CalicoGlobalNetworkPolicy,
        Kind::CalicoNetworkPolicy,
        Kind::CalicoGlobalNetworkSet,
        Kind::CalicoNetworkSet,
        Kind::CalicoHostEndpoint,
    ];

    fn policy(name: &str, version: &str) -> Value {
        json!({"metadata": {"namespace": "n", "name": name, "resourceVersion": version}})
    }

    fn names(store: &Store) -> Vec<String> {
        store.objects().map(key).collect()
    }

    #[test]
    fn nothing_is_concluded_before_the_first_lists_end() {
        let mut store = Store::default();
        for kind in [Kind::Namespace, Kind::Pod, Kind::NetworkPolicy] {
            assert!(!store.is_ready());
            store.take(Update::Began(kind));
            store.take(Update::Ended(kind));
        }
        assert!(!store.is_ready(), "kinds that not every API serves are asked for first");
        store.take(Update::Began(Kind::ClusterNetworkPolicy));
        store.take(Update::Ended(Kind::ClusterNetworkPolicy));
        for kind in CALICO {
            store.take(Update::Began(kind));
            store.take(Update::Ended(kind));
        }
        store.take(Update::Trouble(Kind::AdminNetworkPolicy, "forbidden".to_owned()));
        store.take(Update::Trouble(Kind::BaselineAdminNetworkPolicy, "forbidden".to_owned()));
        assert!(store.is_ready(), "what it may not read is told; Services and nodes are not waited for");
        assert_eq!(store.problems().count(), 2);
    }

    #[test]
    fn all_kinds_are_waited_for_where_older_tables_are_in_force() {
        let mut store = Store::default();
        let all =
            [Kind::Namespace, Kind::Pod, Kind::NetworkPolicy, Kind::ClusterNetworkPolicy, Kind::AdminNetworkPolicy];
        for kind in all.into_iter().chain(CALICO).chain([Kind::Service]) {
            store.take(Update::Began(kind));
            store.take(Update::Ended(kind));
        }
        store.take(Update::Trouble(Kind::BaselineAdminNetworkPolicy, "reset".to_owned()));
        assert!(store.is_ready() && !store.is_complete(), "it may have been in force, and come back");
        store.take(Update::Began(Kind::BaselineAdminNetworkPolicy));
        store.take(Update::Ended(Kind::BaselineAdminNetworkPolicy));
        assert!(store.is_complete());
    }

    #[test]
    fn a_new_list_replaces_the_old_one_when_it_ends() {
        let mut store = Store::default();
        let kind = Kind::NetworkPolicy;
        store.take(Update::Began(kind));
        store.take(Update::Listed(kind, policy("a", "1")));
        store.take(Update::Ended(kind));
        store.take(Update::Began(kind));
        store.take(Update::Listed(kind, policy("b", "2")));
        assert_eq!(names(&store), ["n/a"], "the old one counts until the new one is complete");
        store.take(Update::Trouble(kind, "refused".to_owned()));
        assert_eq!(names(&store), ["n/a"], "trouble forgets nothing");
        assert_eq!(store.problems().count(), 1);
        store.take(Update::Ended(kind));
        assert_eq!(names(&store), ["n/b"]);
        assert_eq!(store.problems().count(), 0);
    }

    #[test]
    fn the_version_of_policies_counts_deletions() {
        let mut store = Store::default();
        store.take(Update::Changed(Kind::NetworkPolicy, policy("a", "7")));
        store.take(Update::Deleted(Kind::NetworkPolicy, policy("a", "9")));
        store.take(Update::Changed(Kind::NetworkPolicy, policy("b", "8")));
        store.take(Update::Changed(Kind::Pod, policy("p", "50")));
        assert_eq!(store.policies_version(), 9);
    }

    #[test]
    fn what_nobody_reads_of_a_node_changes_nothing() {
        let mut store = Store::default();
        let node = |label: &str, heartbeat: u32| json!({"metadata": {"name": "n", "labels": {"a": label}}, "status": {"addresses": [], "conditions": [heartbeat]}});
        assert!(store.take(Update::Changed(Kind::Node, node("1", 1))));
        assert!(!store.take(Update::Changed(Kind::Node, node("1", 2))));
        assert!(store.take(Update::Changed(Kind::Node, node("2", 2))));
        assert_eq!(store.objects().next().map(|object| object["kind"].clone()), Some(json!("Node")));
    }

    #[test]
    fn older_news_change_nothing() {
        let mut store = Store::default();
        let kind = Kind::NetworkPolicy;
        assert!(store.take(Update::Changed(kind, policy("a", "7"))));
        assert!(!store.take(Update::Changed(kind, policy("a", "6"))), "out of order");
        assert!(!store.take(Update::Deleted(kind, policy("a", "5"))), "of an object of the same name before it");
        assert_eq!(names(&store), ["n/a"]);
        assert!(store.take(Update::Deleted(kind, policy("a", "9"))));
        assert!(!store.take(Update::Changed(kind, policy("a", "8"))), "told after its end");
        assert_eq!(names(&store), [""; 0]);
        assert!(store.take(Update::Changed(kind, policy("a", "10"))), "made again");
        assert_eq!(names(&store), ["n/a"]);
        assert!(
            store.take(Update::Changed(kind, policy("b", "x"))) && store.take(Update::Changed(kind, policy("b", "w")))
        );
    }

    #[test]
    fn services_tell_what_is_translated() {
        let mut store = Store::default();
        let service = json!({
            "metadata": {"namespace": "n", "name": "s"},
            "spec": {
                "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"], "externalIPs": ["192.0.2.9"],
                "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP", "nodePort": 30053}, {"port": 1}],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.200"}]}},
        });
        store.take(Update::Changed(Kind::Service, service));
        let addresses = ["10.96.0.1", "192.0.2.9", "198.51.100.200"].map(|text| text.parse().expect("an address"));
        assert_eq!(store.service_addresses(), addresses.into());
        let here = |port: &(IpAddr, u8, u16)| port.0 == IpAddr::from([192, 0, 2, 9]);
        let ports: Vec<_> =
            store.service_ports().into_iter().filter(here).map(|(_, protocol, port)| (protocol, port)).collect();
        assert_eq!(ports, [(6, 1), (6, 80), (17, 53)]);
        assert_eq!(store.node_ports(), [(6, 30080), (17, 30053)].into());
        assert_eq!(store.objects().count(), 0, "the engine does not read Services here");
    }

    /// Whatever is told, in whatever order, and however much of it at once.
    #[derive(Clone, Debug)]
    enum News {
        Pod { name: u8, label: u8, address: u8, deleted: bool },
        Policy { kind: Kind, name: u8, shape: u8, deleted: bool },
        Namespace { label: u8 },
        PodList { names: Vec<u8> },
    }

    fn news() -> impl Strategy<Value = News> {
        let kind = prop_oneof![Just(Kind::NetworkPolicy), Just(Kind::ClusterNetworkPolicy)];
        prop_oneof![
            4 => (0..4u8, 0..3u8, 0..3u8, any::<bool>())
                .prop_map(|(name, label, address, deleted)| News::Pod { name, label, address, deleted }),
            4 => (kind, 0..3u8, 0..4u8, any::<bool>())
                .prop_map(|(kind, name, shape, deleted)| News::Policy { kind, name, shape, deleted }),
            1 => (0..2u8).prop_map(|label| News::Namespace { label }),
            1 => prop::collection::vec(0..4u8, 0..3).prop_map(|names| News::PodList { names }),
        ]
    }

    fn pod(name: u8, label: u8, address: u8) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "n", "name": format!("p{name}"), "labels": {"app": format!("a{label}")}},
            "spec": {"nodeName": if name.is_multiple_of(2) { "here" } else { "elsewhere" }},
            "status": {"phase": "Running", "podIPs": [{"ip": format!("10.0.{name}.{address}")}]},
        })
    }

    fn some_policy(kind: Kind, name: u8, shape: u8) -> Value {
        let peer = json!({"podSelector": {"matchLabels": {"app": format!("a{shape}")}}});
        let spec = match (kind, shape) {
            // Not to be understood.
            (_, 3) => json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Near"}]}}),
            (Kind::NetworkPolicy, _) => json!({"podSelector": {}, "ingress": [{"from": [peer]}]}),
            _ => json!({
                "priority": 10 + name, "tier": "Admin",
                "subject": {"namespaces": {}},
                "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}],
            }),
        };
        match kind {
            Kind::NetworkPolicy => json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"namespace": "n", "name": format!("x{name}")}, "spec": spec,
            }),
            _ => json!({
                "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
                "metadata": {"name": format!("x{name}")}, "spec": spec,
            }),
        }
    }

    fn tell(store: &mut Store, news: &News) {
        let told = |kind, object, deleted| match deleted {
            true => Update::Deleted(kind, object),
            false => Update::Changed(kind, object),
        };
        match news {
            News::Pod { name, label, address, deleted } => {
                store.take(told(Kind::Pod, pod(*name, *label, *address), *deleted));
            }
            News::Policy { kind, name, shape, deleted } => {
                store.take(told(*kind, some_policy(*kind, *name, *shape), *deleted));
            }
            News::Namespace { label } => {
                let labels = json!({"team": format!("t{label}")});
                let object =
                    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": labels}});
                store.take(Update::Changed(Kind::Namespace, object));
            }
            News::PodList { names } => {
                store.take(Update::Began(Kind::Pod));
                for name in names {
                    store.take(Update::Listed(Kind::Pod, pod(*name, 0, 0)));
                }
                store.take(Update::Ended(Kind::Pod));
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_read_piece_by_piece_is_what_is_read_at_once(rounds in prop::collection::vec(prop::collection::vec(news(), 0..4), 1..12)) {
            let mut store = Store::default();
            for round in rounds {
                round.iter().for_each(|news| tell(&mut store, news));
                let at_once = Cluster::from_objects(store.objects());
                let cluster = store.cluster();
                prop_assert_eq!(cluster.compile("here"), at_once.compile("here"), "after {:?}", round);
                // In which order they were read is nothing that anybody here asks for.
                let unknowns = |cluster: &Cluster| BTreeSet::from_iter(cluster.unknowns().to_vec());
                prop_assert_eq!(unknowns(cluster), unknowns(&at_once));
                let problems = |cluster: &Cluster| -> BTreeSet<String> {
                    let without = |problem: &Problem| format!("{:?}", Problem { index: None, ..problem.clone() });
                    cluster.problems().iter().map(without).collect()
                };
                prop_assert_eq!(problems(cluster), problems(&at_once));
            }
        }
    }
}
