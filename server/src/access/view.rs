//! What of the cluster a user may see.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};
use signalbox_api::flow::PolicyRef;

/// Where a right holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In all namespaces, also those that are yet to come, and outside of any.
    All,
    /// In these.
    Only(BTreeSet<String>),
}

impl Scope {
    /// Whether it holds there.
    pub fn has(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(namespaces) => namespaces.contains(namespace),
        }
    }
}

/// What a user may see. A namespace is seen by who may list its pods; a policy by who sees its namespace and may list its
/// kind there; a policy of no namespace by who may list its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Namespaces.
    pub namespaces: Scope,
    /// Policies, by their kind as [`PolicyRef::kind`] has it. A kind that is not here is not seen.
    pub policies: BTreeMap<&'static str, Scope>,
    /// Namespaces that are known to be there, and are not seen.
    pub hidden: BTreeSet<String>,
}

/// What texts say instead of what the reader may not see.
pub const HIDDEN: &str = "something that you may not see";

impl View {
    /// Of one who may see everything.
    pub fn everything() -> Self {
        let policies = super::sight::POLICY_KINDS.iter().map(|kind| (kind.kind, Scope::All)).collect();
        Self { namespaces: Scope::All, policies, hidden: BTreeSet::new() }
    }

    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.namespaces == Scope::All && self.policies.values().all(|scope| *scope == Scope::All)
    }

    /// Whether nothing is left.
    pub fn is_nothing(&self) -> bool {
        matches!(&self.namespaces, Scope::Only(namespaces) if namespaces.is_empty())
    }

    /// Whether they see the namespace.
    pub fn namespace(&self, name: &str) -> bool {
        self.namespaces.has(name)
    }

    /// Whether they see an endpoint, by its id. Hosts outside the cluster are seen by all who see a namespace.
    pub fn endpoint(&self, id: &str) -> bool {
        match id.split_once(':') {
            Some(("pod" | "service", rest)) => {
                rest.split_once('/').is_some_and(|(namespace, _)| self.namespace(namespace))
            }
            Some(("outside", _)) => !self.is_nothing(),
            // What is new is not shown before somebody has thought it through.
            Some(_) | None => self.is_everything(),
        }
    }

    /// Whether they see a policy.
    pub fn policy(&self, policy: &PolicyRef) -> bool {
        let Some(scope) = self.policies.get(policy.kind.as_str()) else { return self.is_everything() };
        match &policy.namespace {
            Some(namespace) => self.namespace(namespace) && scope.has(namespace),
            None => *scope == Scope::All,
        }
    }

    /// Whether a text for people names nothing that they may not see: no hidden namespace, no object in one, and no kind of
    /// policy of which they may not see all.
    ///
    /// It rather withholds too much: a hidden namespace whose name is a common word takes texts with that word along.
    pub fn text(&self, text: &str) -> bool {
        if self.is_everything() {
            return true;
        }
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        if text.split(|letter| !is_name(letter)).any(|word| self.hidden.contains(word)) {
            return false;
        }
        let is_path = |letter: char| is_name(letter) || letter == '.' || letter == '/';
        let names_hidden_object = |word: &str| {
            word.split_once('/')
                .is_some_and(|(first, _)| is_namespace(first) && first != "outside" && !self.namespace(first))
        };
        if text.split(|letter| !is_path(letter)).any(names_hidden_object) {
            return false;
        }
        // A policy of a namespace that is seen, of a kind that is not; and policies of no namespace.
        let partly = self.policies.iter().filter(|(_, scope)| **scope != Scope::All);
        let mut words = text.split(|letter: char| !is_path(letter)).peekable();
        while let Some(word) = words.next() {
            let Some((_, scope)) = partly.clone().find(|(kind, _)| **kind == word) else { continue };
            let named = words.peek().and_then(|next| next.split_once('/')).map(|(namespace, _)| namespace);
            if !named.is_some_and(|namespace| scope.has(namespace)) {
                return false;
            }
        }
        true
    }

    /// The text, or that there is one.
    pub fn told(&self, text: &str) -> String {
        if self.text(text) { text.to_owned() } else { HIDDEN.to_owned() }
    }

    /// Tells this view from others, so that a reader who comes back with another one starts anew.
    pub fn mark(&self) -> String {
        let mut hash = Sha256::new();
        let mut scope = |scope: &Scope| {
            let text = match scope {
                Scope::All => "*".to_owned(),
                Scope::Only(namespaces) => namespaces.iter().map(|name| format!("{name}/")).collect(),
            };
            hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(text);
        };
        scope(&self.namespaces);
        self.policies.values().for_each(&mut scope);
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

fn is_namespace(text: &str) -> bool {
    crate::http::names::is_label(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sees `a` and `b`, and policies in `a` only; `c` and `web` are there, too.
    pub(crate) fn view() -> View {
        let only = |names: &[&str]| Scope::Only(names.iter().map(|name| (*name).to_owned()).collect());
        let mut view = View::everything();
        view.policies.values_mut().for_each(|scope| *scope = only(&[]));
        view.policies.insert("NetworkPolicy", only(&["a"]));
        View { namespaces: only(&["a", "b"]), hidden: ["c".to_owned(), "web".to_owned()].into(), ..view }
    }

    #[test]
    fn endpoints_and_policies() {
        let view = view();
        for (id, seen) in [
            ("pod:a/x", true),
            ("service:b/x", true),
            ("pod:c/x", false),
            ("pod:ab/x", false),
            ("outside:database", true),
            ("node:n1", false),
            ("", false),
        ] {
            assert_eq!(view.endpoint(id), seen, "{id}");
        }
        let policy = |kind: &str, namespace: Option<&str>| PolicyRef {
            kind: kind.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: "p".to_owned(),
        };
        for (kind, namespace, seen) in [
            ("NetworkPolicy", Some("a"), true),
            ("NetworkPolicy", Some("b"), false),
            ("NetworkPolicy", Some("c"), false),
            ("NetworkPolicy.projectcalico.org", Some("a"), false),
            ("ClusterNetworkPolicy", None, false),
            ("Unheard", Some("a"), false),
        ] {
            assert_eq!(view.policy(&policy(kind, namespace)), seen, "{kind} {namespace:?}");
            assert!(View::everything().policy(&policy(kind, namespace)));
        }
        let nothing = View { namespaces: Scope::Only(BTreeSet::new()), ..view };
        assert!(!nothing.endpoint("outside:database"));
    }

    #[test]
    fn texts() {
        for (text, told) in [
            ("a/x does not run: Error", true),
            ("pod a/x has no label app=db; the namespace b has tier=back", true),
            ("pod c/x has no label", false),
            ("backends differ: a/x is allowed, later/y is denied", false),
            ("the namespace c has no label", false),
            ("in web: nothing", false),
            ("x.c.svc.cluster.local. does not resolve", false),
            ("the label app.kubernetes.io/name is not there", true),
            ("10.0.0.0/8 and outside/database", true),
            ("NetworkPolicy a/p: spec.ingress[0]: not understood", true),
            ("NetworkPolicy b/p: spec.ingress[0]: not understood", false),
            ("ClusterNetworkPolicy deny-all: not understood", false),
            ("NetworkPolicy.projectcalico.org a/p: not understood", false),
            ("cobweb and abc", true),
        ] {
            assert_eq!(view().text(text), told, "{text}");
            assert!(View::everything().text(text));
        }
        assert_eq!(view().told("pod c/x"), HIDDEN);
    }

    #[test]
    fn other_views_have_other_marks() {
        let one = view();
        let mut other = view();
        other.policies.insert("NetworkPolicy", Scope::Only(BTreeSet::new()));
        assert_ne!(one.mark(), other.mark());
        assert_ne!(one.mark(), View::everything().mark());
        // What is there and is not seen makes no difference to what was told.
        assert_eq!(one.mark(), View { hidden: BTreeSet::new(), ..view() }.mark());
    }
}
