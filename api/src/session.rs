//! Who uses a server, and what they may do there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// How a server tells its users apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessMode {
    /// It does not: whoever reaches it on loopback may read, and the token of the link lets change.
    Loopback,
    /// By Kubernetes bearer tokens, or by what an authenticating proxy says.
    Kubernetes,
}

/// How somebody logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// By a bearer token.
    Token,
    /// Through an authenticating proxy.
    Proxy,
}

/// What `GET /api/v1/session` answers, to whoever asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// How the server tells users apart.
    pub access: AccessMode,
    /// Whom it takes the asker for; absent with [`AccessMode::Loopback`], and for who has not logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewer: Option<Viewer>,
}

/// Whom a server takes somebody for. Nobody else is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Viewer {
    /// The user's name, as Kubernetes knows it.
    pub name: String,
    /// How they logged in.
    pub via: Via,
    /// They see all namespaces. Otherwise all that they are told is cut down to those that they may see.
    pub all_namespaces: bool,
    /// When their token ends, as it says itself, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

/// A change that needs a right in a namespace. The word is Kubernetes' verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyVerb {
    /// A policy that was not there.
    Create,
    /// A policy is replaced.
    Update,
    /// A policy is applied.
    Patch,
    /// A policy is deleted.
    Delete,
}

impl PolicyVerb {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Create, Self::Update, Self::Patch, Self::Delete];

    /// Kubernetes' word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// What `GET /api/v1/rights` answers: what the asker may change. Judged anew with each change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// The server takes changes at all.
    pub changes: bool,
    /// They may ask for a round of probes.
    pub rounds: bool,
    /// What they may do with NetworkPolicies in each namespace that they see.
    pub policies: BTreeMap<String, BTreeSet<PolicyVerb>>,
    /// The namespaces that they see and may have probes started in, inside of real pods. Empty, too, where the server starts none.
    #[serde(default)]
    pub probes_in_pods: BTreeSet<String>,
}

impl Rights {
    /// Why a policy of the namespace cannot be changed so; `None` where it can. One sentence that names the missing right.
    pub fn missing(&self, namespace: &str, verbs: &[PolicyVerb]) -> Option<String> {
        if !self.changes {
            return Some("This server only shows: it was started without --allow-apply.".to_owned());
        }
        let held = self.policies.get(namespace);
        let lacks = |verb: &&PolicyVerb| !held.is_some_and(|held| held.contains(verb));
        let verb = verbs.iter().find(lacks)?;
        Some(format!("You may not {} networkpolicies.networking.k8s.io in the namespace {namespace}.", verb.as_str()))
    }

    /// Why no round can be asked for; `None` where one can.
    pub fn missing_for_rounds(&self) -> Option<String> {
        if !self.changes {
            return Some("This server only shows: it was started without --allow-apply.".to_owned());
        }
        (!self.rounds).then(|| "You may not create rounds.signalbox.dev.".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_named() {
        let mut rights = Rights { changes: true, ..Rights::default() };
        rights.policies.insert("a".to_owned(), [PolicyVerb::Create, PolicyVerb::Patch].into());
        for (namespace, verbs, missing) in [
            ("a", &[PolicyVerb::Create, PolicyVerb::Patch][..], None),
            ("a", &[PolicyVerb::Patch, PolicyVerb::Delete], Some("may not delete networkpolicies")),
            ("b", &[PolicyVerb::Patch], Some("may not patch networkpolicies.networking.k8s.io in the namespace b")),
        ] {
            let told = rights.missing(namespace, verbs);
            assert_eq!(told.is_some(), missing.is_some(), "{namespace}: {told:?}");
            assert!(missing.is_none_or(|words| told.is_some_and(|told| told.contains(words))), "{namespace}");
        }
        assert!(rights.missing_for_rounds().is_some_and(|told| told.contains("rounds.signalbox.dev")));
        rights.changes = false;
        assert!(rights.missing("a", &[]).is_some_and(|told| told.contains("--allow-apply")));
    }
}
