//! The objects that the server watches, as the API server sent them, stripped of what nobody reads.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::{ApiResource, DynamicObject};
use serde_json::Value;

pub use super::kind::Kind;
use super::shrink;

/// The version that slices are read as.
const SLICES: &str = "discovery.k8s.io/v1";

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
    /// The object, with `apiVersion` and `kind`, without what nobody reads: see [`super::shrink`].
    pub value: Value,
}

impl Object {
    /// Takes it from the watch of a resource.
    pub fn new(resource: &ApiResource, mut object: DynamicObject) -> Self {
        let key = ObjectKey {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
        };
        let version = object.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
        // Lists leave out what kind their items are of.
        let kind = resource.kind.clone();
        // Slices of the older version differ in what nobody reads here only.
        let api_version = if kind == "EndpointSlice" { SLICES.to_owned() } else { resource.api_version.clone() };
        object.types = Some(kube::api::TypeMeta { api_version, kind });
        shrink::metadata(&mut object);
        let mut value = serde_json::to_value(&object).unwrap_or(Value::Null);
        shrink::value(&resource.kind, &mut value);
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
    /// The API server does not let the server watch; it is asked again. A sentence for people.
    Refused(Kind, String),
    /// The watch works again.
    Healed(Kind),
}

/// All objects that are watched.
#[derive(Debug, Default)]
pub struct Objects {
    kinds: BTreeMap<Kind, BTreeMap<ObjectKey, Object>>,
    problems: BTreeMap<Kind, String>,
    /// Of the problems, those that will last until someone grants a right.
    refused: BTreeSet<Kind>,
}

impl Objects {
    /// Takes a change over. Gives back whether anything is different now.
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::All(kind, objects) => {
                let fresh: BTreeMap<_, _> = objects.into_iter().map(|object| (object.key.clone(), object)).collect();
                let healed = self.heal(kind);
                let before = self.kinds.insert(kind, fresh);
                healed || before.as_ref() != self.kinds.get(&kind)
            }
            Change::Applied(kind, object) => {
                let healed = self.heal(kind);
                let slot = self.kinds.entry(kind).or_default();
                let same = slot.get(&object.key).is_some_and(|before| before.value == object.value);
                slot.insert(object.key.clone(), object);
                healed || !same
            }
            Change::Deleted(kind, object) => {
                let healed = self.heal(kind);
                let gone = self.kinds.entry(kind).or_default().remove(&object.key).is_some();
                healed || gone
            }
            Change::Lost(kind, problem) => {
                let healed = self.refused.remove(&kind);
                healed || self.problems.insert(kind, problem.clone()).as_deref() != Some(problem.as_str())
            }
            Change::Refused(kind, problem) => {
                let refused = self.refused.insert(kind);
                let differs = self.problems.insert(kind, problem.clone()).as_deref() != Some(problem.as_str());
                refused || differs
            }
            Change::Healed(kind) => self.heal(kind),
        }
    }

    fn heal(&mut self, kind: Kind) -> bool {
        let refused = self.refused.remove(&kind);
        self.problems.remove(&kind).is_some() || refused
    }

    /// Whether every kind has been listed once; one that a cluster may lack counts if the API server refuses it, too.
    pub fn is_synced(&self) -> bool {
        let is_told =
            |kind: &Kind| self.kinds.contains_key(kind) || (kind.is_optional() && self.problems.contains_key(kind));
        Kind::ALL.iter().all(is_told)
    }

    /// The kinds that bear on policies and that the server has not seen, or may see no longer, with what is to be said of each.
    pub fn unseen(&self) -> Vec<String> {
        let unseen = Kind::ALL
            .iter()
            .filter(|kind| kind.is_judged() && (!self.kinds.contains_key(kind) || self.refused.contains(kind)));
        let sentence = |kind: &Kind| match self.problems.get(kind) {
            Some(problem) => format!("{kind} objects may bear on it: {problem}"),
            None => format!("{kind} objects may bear on it, and have not been listed yet"),
        };
        unseen.map(sentence).collect()
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
