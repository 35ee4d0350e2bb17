//! What was typed and not yet applied. Nothing typed is lost: not by a change of view, a reload, or a refusal.

use serde::{Deserialize, Serialize};
use signalbox_api::state::PolicyInfo;

use crate::route::Edited;

/// A text in the editor, and what it started from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// The policy's `resourceVersion` when typing began; empty for one that is yet to be created.
    pub base_version: String,
    /// The policy's text then.
    pub base: String,
    /// The text now.
    pub text: String,
    /// The server has taken this text; it shows until the policy comes back by the event stream.
    #[serde(default)]
    pub applied: bool,
}

/// How a draft stands to the policy as the cluster has it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It starts from what is there.
    Current,
    /// Somebody changed the policy since typing began.
    ChangedElsewhere,
    /// Somebody deleted it.
    Gone,
}

impl Draft {
    /// Begins to edit a policy.
    pub fn of(policy: &PolicyInfo) -> Self {
        Self {
            base_version: policy.resource_version.clone(),
            base: policy.yaml.clone(),
            text: policy.yaml.clone(),
            applied: false,
        }
    }

    /// Begins a new one from a template.
    pub fn from_template(text: String) -> Self {
        Self { base: text.clone(), text, ..Self::default() }
    }

    /// Something was typed that the cluster does not have.
    pub fn is_dirty(&self) -> bool {
        !self.applied && self.text != self.base
    }

    /// How it stands to the policy now.
    pub fn standing(&self, now: Option<&PolicyInfo>) -> Standing {
        match now {
            _ if self.base_version.is_empty() || !self.is_dirty() => Standing::Current,
            None => Standing::Gone,
            Some(policy) if policy.resource_version == self.base_version || policy.yaml == self.text => {
                Standing::Current
            }
            Some(_) => Standing::ChangedElsewhere,
        }
    }

    /// Keeps what was typed, on top of what the cluster has now.
    pub fn rebase(&mut self, now: Option<&PolicyInfo>) {
        self.base_version = now.map(|policy| policy.resource_version.clone()).unwrap_or_default();
        self.base = now.map(|policy| policy.yaml.clone()).unwrap_or_default();
    }
}

/// What the editor shows: the draft if it says more than the policy, else the policy.
pub fn shown(draft: Option<&Draft>, now: Option<&PolicyInfo>) -> String {
    match (draft, now) {
        (Some(draft), Some(policy)) if draft.applied && policy.resource_version != draft.base_version => {
            policy.yaml.clone()
        }
        (Some(draft), _) if draft.applied || draft.is_dirty() => draft.text.clone(),
        (_, Some(policy)) => policy.yaml.clone(),
        (Some(draft), None) => draft.text.clone(),
        (None, None) => String::new(),
    }
}

/// Takes in what was typed.
pub fn typed(draft: Option<&Draft>, now: Option<&PolicyInfo>, text: String) -> Draft {
    let mut draft = match (draft, now) {
        (Some(draft), Some(policy)) if draft.applied || !draft.is_dirty() => Draft::of(policy),
        (Some(draft), _) => draft.clone(),
        (None, Some(policy)) => Draft::of(policy),
        (None, None) => Draft::default(),
    };
    draft.text = text;
    draft.applied = false;
    draft
}

/// Where the browser keeps the draft.
pub fn memory_key(edited: &Edited) -> String {
    match edited {
        Edited::New => format!("{MEMORY}new"),
        Edited::Existing(namespace, name) => format!("{MEMORY}{namespace}/{name}"),
    }
}

/// Which policy a key of the browser's memory is for.
pub fn edited_by_key(key: &str) -> Option<Edited> {
    match key.strip_prefix(MEMORY)? {
        "new" => Some(Edited::New),
        rest => rest.split_once('/').map(|(namespace, name)| Edited::Existing(namespace.to_owned(), name.to_owned())),
    }
}

/// What all keys of drafts begin with.
pub const MEMORY: &str = "signalbox.draft.";

/// A starting point for a new policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// What it is for.
    pub title: &'static str,
    /// Its name, and the policy's.
    pub name: &'static str,
    spec: &'static str,
}

/// The templates there are.
pub const TEMPLATES: [Template; 4] = [
    Template {
        title: "Zero trust",
        name: "zero-trust",
        spec: "  podSelector: {}\n  policyTypes: [Ingress, Egress]\n  egress:\n    - ports:\n        - {port: 53, protocol: UDP}\n",
    },
    Template {
        title: "Let in a namespace",
        name: "let-in",
        spec: "  podSelector:\n    matchLabels: {run: web}\n  policyTypes: [Ingress]\n  ingress:\n    - from:\n        - namespaceSelector:\n            matchLabels: {tier: front}\n      ports:\n        - {port: 9000, protocol: TCP}\n",
    },
    Template {
        title: "Let out to addresses",
        name: "let-out",
        spec: "  podSelector:\n    matchLabels: {run: web}\n  policyTypes: [Egress]\n  egress:\n    - to:\n        - ipBlock: {cidr: 198.51.100.0/24}\n      ports:\n        - {port: 3306, protocol: TCP}\n    - ports:\n        - {port: 53, protocol: UDP}\n",
    },
    Template {
        title: "Let in everyone",
        name: "let-in-all",
        spec: "  podSelector:\n    matchLabels: {run: web}\n  policyTypes: [Ingress]\n  ingress:\n    - {}\n",
    },
];

impl Template {
    /// The manifest, for a namespace.
    pub fn manifest(&self, namespace: &str) -> String {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: {}\n  namespace: {namespace}\nspec:\n{}",
            self.name, self.spec
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{check, sample};

    fn policy(version: &str, yaml: &str) -> PolicyInfo {
        PolicyInfo { resource_version: version.into(), yaml: yaml.into(), ..sample::zero_trust().policies.remove(0) }
    }

    #[test]
    fn every_template_is_a_good_policy() {
        for template in TEMPLATES {
            let checked = check::check(&template.manifest("frontend"));
            assert_eq!(checked.marks, [], "{}", template.title);
            assert_eq!(checked.name, Some(("frontend".into(), template.name.into())));
        }
    }

    #[test]
    fn what_was_typed_shows_until_the_policy_comes_back() {
        let (v1, v2) = (policy("1", "a"), policy("2", "b, as the server prints it"));
        let mut draft = typed(None, Some(&v1), "b".into());
        assert!(draft.is_dirty());
        assert_eq!(shown(Some(&draft), Some(&v1)), "b");
        draft.applied = true;
        assert!(!draft.is_dirty());
        assert_eq!(shown(Some(&draft), Some(&v1)), "b");
        assert_eq!(shown(Some(&draft), Some(&v2)), "b, as the server prints it");

        let next = typed(Some(&draft), Some(&v2), "c".into());
        assert_eq!((next.base_version.as_str(), next.text.as_str()), ("2", "c"));
    }

    #[test]
    fn a_change_elsewhere_is_noticed_and_overwrites_nothing() {
        let (v1, v2) = (policy("1", "a"), policy("2", "z"));
        let mut draft = typed(None, Some(&v1), "b".into());
        assert_eq!(draft.standing(Some(&v1)), Standing::Current);
        assert_eq!(draft.standing(Some(&v2)), Standing::ChangedElsewhere);
        assert_eq!(draft.standing(None), Standing::Gone);
        assert_eq!(shown(Some(&draft), Some(&v2)), "b");
        assert_eq!(typed(Some(&draft), Some(&v2), "bb".into()).base_version, "1");
        draft.rebase(Some(&v2));
        assert_eq!(draft.standing(Some(&v2)), Standing::Current);
        assert_eq!(draft.text, "b");
    }

    #[test]
    fn a_draft_that_was_typed_back_follows_the_policy() {
        let (v1, v2) = (policy("1", "a"), policy("2", "z"));
        let draft = typed(Some(&typed(None, Some(&v1), "b".into())), Some(&v1), "a".into());
        assert!(!draft.is_dirty());
        assert_eq!(shown(Some(&draft), Some(&v2)), "z");
    }

    #[test]
    fn keys_read_back() {
        for edited in [Edited::New, Edited::Existing("a".into(), "b".into())] {
            assert_eq!(edited_by_key(&memory_key(&edited)), Some(edited));
        }
        assert_eq!(edited_by_key("signalbox.theme"), None);
    }
}
