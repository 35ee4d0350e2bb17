//! The objects that the server watches, as the API server sent them, stripped of what nobody reads.

use std::collections::BTreeMap;

use kube::api::{ApiResource, DynamicObject};
use serde_json::Value;

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `v1`.
    Namespace,
    /// `v1`.
    Pod,
    /// `v1`.
    Service,
    /// `v1`: where node ports are reached.
    Node,
    /// `discovery.k8s.io/v1`.
    EndpointSlice,
    /// `networking.k8s.io/v1`.
    NetworkPolicy,
    /// `signalbox.dev/v1alpha1`; a cluster need not know it.
    ExternalHost,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Namespace,
        Self::Pod,
        Self::Service,
        Self::Node,
        Self::EndpointSlice,
        Self::NetworkPolicy,
        Self::ExternalHost,
    ];

    /// Whether a cluster may lack the kind.
    pub const fn is_optional(self) -> bool {
        matches!(self, Self::ExternalHost)
    }

    /// Where the API server keeps it.
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = match self {
            Self::Namespace => ("", "v1", "Namespace", "namespaces"),
            Self::Pod => ("", "v1", "Pod", "pods"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::Node => ("", "v1", "Node", "nodes"),
            Self::EndpointSlice => ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
            Self::ExternalHost => ("signalbox.dev", "v1alpha1", "ExternalHost", "externalhosts"),
        };
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version,
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }
}

/// Names an object within its kind. The namespace is empty for cluster-scoped kinds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Which.
    pub key: ObjectKey,
    /// `metadata.resourceVersion`, as a number; 0 where it is none.
    pub version: u64,
    /// The object, with `apiVersion` and `kind`, without `managedFields`.
    pub value: Value,
}

impl Object {
    /// Takes it from the watch.
    pub fn new(kind: Kind, mut object: DynamicObject) -> Self {
        object.metadata.managed_fields = None;
        let key = ObjectKey {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
        };
        let version = object.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
        let resource = kind.resource();
        // Lists leave out what kind their items are of.
        object.types = Some(kube::api::TypeMeta { api_version: resource.api_version, kind: resource.kind });
        let value = serde_json::to_value(&object).unwrap_or(Value::Null);
        Self { key, version, value }
    }
}

/// What a watch saw.
#[derive(Clone, Debug)]
pub enum Change {
    /// All objects of the kind, anew.
    All(Kind, Vec<Object>),
    /// One is new or changed.
    Applied(Kind, Object),
    /// One is gone. The object is as it was last.
    Deleted(Kind, Object),
    /// The watch is lost; it is tried again. A sentence for people.
    Lost(Kind, String),
    /// The watch works again.
    Healed(Kind),
}

/// All objects that are watched.
#[derive(Debug, Default)]
pub struct Objects {
    kinds: BTreeMap<Kind, BTreeMap<ObjectKey, Object>>,
    problems: BTreeMap<Kind, String>,
}

impl Objects {
    /// Takes a change over. Gives back whether anything is different now.
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::All(kind, objects) => {
                let fresh: BTreeMap<_, _> = objects.into_iter().map(|object| (object.key.clone(), object)).collect();
                let healed = self.problems.remove(&kind).is_some();
                let before = self.kinds.insert(kind, fresh);
                healed || before.as_ref() != self.kinds.get(&kind)
            }
            Change::Applied(kind, object) => {
                let healed = self.problems.remove(&kind).is_some();
                let slot = self.kinds.entry(kind).or_default();
                let same = slot.get(&object.key).is_some_and(|before| before.value == object.value);
                slot.insert(object.key.clone(), object);
                healed || !same
            }
            Change::Deleted(kind, object) => {
                let healed = self.problems.remove(&kind).is_some();
                let gone = self.kinds.entry(kind).or_default().remove(&object.key).is_some();
                healed || gone
            }
            Change::Lost(kind, problem) => {
                self.problems.insert(kind, problem.clone()).as_deref() != Some(problem.as_str())
            }
            Change::Healed(kind) => self.problems.remove(&kind).is_some(),
        }
    }

    /// Whether every kind has been listed once.
    pub fn is_synced(&self) -> bool {
        Kind::ALL.iter().all(|kind| self.kinds.contains_key(kind))
    }

    /// All objects of a kind, by namespace and name.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.kinds.get(&kind).into_iter().flat_map(BTreeMap::values)
    }

    /// One object.
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Object> {
        let key = ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() };
        self.kinds.get(&kind)?.get(&key)
    }

    /// What is wrong with the watches.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.problems.values().map(String::as_str)
    }
}
