//! Users, and what they wish to do.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};
use signalbox_api::session::{PolicyVerb, Via};

/// A user as Kubernetes knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// `system:serviceaccount:ops:ann`.
    pub name: String,
    /// Theirs alone, where there is one.
    pub uid: String,
    /// What they belong to.
    pub groups: Vec<String>,
    /// Whatever else authorizers are told.
    pub extra: BTreeMap<String, Vec<String>>,
    /// How they logged in.
    pub via: Via,
    /// When their token ends, as it says itself, in Unix milliseconds.
    pub expires_ms: Option<u64>,
}

/// Tells users apart: the same for the same name, uid, groups and extras.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersonKey([u8; 32]);

impl Person {
    /// Tells them from others. However they logged in: their rights are the same.
    pub fn key(&self) -> PersonKey {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(text);
        };
        part(&self.name);
        part(&self.uid);
        part(&self.groups.len().to_string());
        self.groups.iter().for_each(|group| part(group));
        for (name, values) in &self.extra {
            part(name);
            part(&values.len().to_string());
            values.iter().for_each(|value| part(value));
        }
        PersonKey(hash.finalize().into())
    }
}

/// What someone wishes to do, as an authorizer is asked about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wish {
    /// To do something with objects.
    Resource {
        /// `list`, `patch`, ...
        verb: &'static str,
        /// Empty for Kubernetes' own.
        group: &'static str,
        /// `pods`.
        resource: &'static str,
        /// Absent: in all namespaces, or outside of any.
        namespace: Option<String>,
        /// Absent: with any of them.
        name: Option<String>,
    },
    /// To read a path of the server's that is about no object.
    Path(&'static str),
}

impl Wish {
    /// To list objects, in one namespace or in all.
    pub fn list(group: &'static str, resource: &'static str, namespace: Option<&str>) -> Self {
        Self::Resource { verb: "list", group, resource, namespace: namespace.map(str::to_owned), name: None }
    }

    /// To change a NetworkPolicy.
    pub fn change(verb: PolicyVerb, namespace: &str, name: Option<&str>) -> Self {
        Self::Resource {
            verb: verb.as_str(),
            group: "networking.k8s.io",
            resource: "networkpolicies",
            namespace: Some(namespace.to_owned()),
            name: name.map(str::to_owned),
        }
    }

    /// To make Jobs, in a namespace.
    pub fn make_jobs(namespace: &str) -> Self {
        let namespace = Some(namespace.to_owned());
        Self::Resource { verb: "create", group: "batch", resource: "jobs", namespace, name: None }
    }

    /// To have a connection tried from inside of a namespace's pods. No API serves such objects, either.
    pub fn probe(namespace: &str) -> Self {
        let namespace = Some(namespace.to_owned());
        Self::Resource { verb: "create", group: "signalbox.dev", resource: "probes", namespace, name: None }
    }

    /// To have a round of probes run. No API serves such objects; a role can name them all the same.
    pub const fn round() -> Self {
        Self::Resource { verb: "create", group: "signalbox.dev", resource: "rounds", namespace: None, name: None }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource { verb, group, resource, namespace, name } => {
                write!(f, "{verb} {resource}")?;
                if !group.is_empty() {
                    write!(f, ".{group}")?;
                }
                if let Some(name) = name {
                    write!(f, " {name}")?;
                }
                namespace.iter().try_for_each(|namespace| write!(f, " in the namespace {namespace}"))
            }
            Self::Path(path) => write!(f, "get {path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: &str, groups: &[&str]) -> Person {
        Person {
            name: name.to_owned(),
            uid: String::new(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            extra: BTreeMap::new(),
            via: Via::Token,
            expires_ms: None,
        }
    }

    #[test]
    fn users_are_told_apart_by_all_that_rights_depend_on() {
        let ann = person("ann", &["a", "b"]);
        let by_proxy = Person { via: Via::Proxy, expires_ms: Some(1), ..ann.clone() };
        assert_eq!(ann.key(), by_proxy.key());
        let mut more = ann.clone();
        more.extra.insert("scopes".to_owned(), vec!["x".to_owned()]);
        for other in [person("ann", &["ab"]), person("ann", &["a"]), person("anna", &["b"]), person("ann", &[]), more] {
            assert_ne!(ann.key(), other.key(), "{other:?}");
        }
    }

    #[test]
    fn wishes_read_as_rights_are_written() {
        for (wish, words) in [
            (Wish::list("", "pods", None), "list pods"),
            (
                Wish::change(PolicyVerb::Patch, "a", Some("b")),
                "patch networkpolicies.networking.k8s.io b in the namespace a",
            ),
            (Wish::round(), "create rounds.signalbox.dev"),
            (Wish::probe("a"), "create probes.signalbox.dev in the namespace a"),
            (Wish::Path("/metrics"), "get /metrics"),
        ] {
            assert_eq!(wish.to_string(), words);
        }
    }
}
