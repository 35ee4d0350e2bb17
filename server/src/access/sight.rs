//! How it is found out what a user may see, and remembered for a short while.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};

use super::person::{Person, PersonKey, Wish};
use super::reviews::{NoReview, Reviews};
use super::view::{Scope, View};

/// Users whose views are remembered at a time.
const REMEMBERED: usize = 1_024;
/// Questions about one user that are under way at a time.
const AT_A_TIME: usize = 8;

/// A kind of policies, and where it is kept.
#[derive(Debug)]
pub struct PolicyKind {
    /// As the engine calls it.
    pub kind: &'static str,
    groups: &'static [&'static str],
    resource: &'static str,
    namespaced: bool,
}

/// Calico's objects as stored, and as its own API server shows them: who may list either sees them.
const CALICO: &[&str] = &["crd.projectcalico.org", "projectcalico.org"];
const POLICY: &[&str] = &["policy.networking.k8s.io"];

/// All kinds of policies that an answer can name.
pub const POLICY_KINDS: [PolicyKind; 8] = [
    kind("NetworkPolicy", &["networking.k8s.io"], "networkpolicies", true),
    kind("NetworkPolicy.projectcalico.org", CALICO, "networkpolicies", true),
    kind("CiliumNetworkPolicy", &["cilium.io"], "ciliumnetworkpolicies", true),
    kind("GlobalNetworkPolicy", CALICO, "globalnetworkpolicies", false),
    kind("ClusterNetworkPolicy", POLICY, "clusternetworkpolicies", false),
    kind("AdminNetworkPolicy", POLICY, "adminnetworkpolicies", false),
    kind("BaselineAdminNetworkPolicy", POLICY, "baselineadminnetworkpolicies", false),
    kind("CiliumClusterwideNetworkPolicy", &["cilium.io"], "ciliumclusterwidenetworkpolicies", false),
];

const fn kind(
    kind: &'static str,
    groups: &'static [&'static str],
    resource: &'static str,
    namespaced: bool,
) -> PolicyKind {
    PolicyKind { kind, groups, resource, namespaced }
}

/// What users may see.
pub struct Sight {
    kept: Duration,
    away_kept: Duration,
    known: Mutex<HashMap<PersonKey, Arc<Slot>>>,
}

#[derive(Default)]
struct Slot {
    /// One asks for all who wait for the same user's view.
    asking: tokio::sync::Mutex<()>,
    seen: Mutex<Option<Seen>>,
}

#[derive(Clone)]
struct Seen {
    view: Arc<View>,
    at: Instant,
    namespaces: BTreeSet<String>,
}

impl Sight {
    /// Remembers views for `kept`; where the API is away, for `away_kept`.
    pub fn new(kept: Duration, away_kept: Duration) -> Self {
        Self { kept, away_kept, known: Mutex::default() }
    }

    /// What someone may see of a cluster with these namespaces.
    ///
    /// # Errors
    /// Where the API gives no answer, and none is remembered.
    pub async fn view(
        &self,
        person: &Person,
        namespaces: &BTreeSet<String>,
        reviews: &Reviews,
    ) -> Result<Arc<View>, NoReview> {
        let slot = self.slot(person.key());
        if let Some(seen) = slot.get(self.kept).filter(|seen| seen.namespaces == *namespaces) {
            return Ok(seen.view);
        }
        let _asking = slot.asking.lock().await;
        if let Some(seen) = slot.get(self.kept).filter(|seen| seen.namespaces == *namespaces) {
            return Ok(seen.view);
        }
        match ask(person, namespaces, reviews).await {
            Ok(view) => {
                let view = Arc::new(view);
                let seen = Seen { view: view.clone(), at: Instant::now(), namespaces: namespaces.clone() };
                *slot.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
                Ok(view)
            }
            // It is the view of a moment ago: a namespace that is new since is not in it.
            Err(NoReview::Away(why)) => slot.get(self.away_kept).map(|seen| seen.view).ok_or(NoReview::Away(why)),
            Err(refused @ NoReview::Refused(_)) => Err(refused),
        }
    }

    fn slot(&self, key: PersonKey) -> Arc<Slot> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED && !known.contains_key(&key) {
            known.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.get(self.kept).is_some());
            if known.len() >= REMEMBERED {
                known.clear();
            }
        }
        known.entry(key).or_default().clone()
    }
}

impl Slot {
    fn get(&self, kept: Duration) -> Option<Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().filter(|seen| seen.at.elapsed() < kept).cloned()
    }
}

async fn ask(person: &Person, all: &BTreeSet<String>, reviews: &Reviews) -> Result<View, NoReview> {
    let namespaces = scope(person, &[""], "pods", all, reviews).await?;
    let seen: BTreeSet<String> = all.iter().filter(|name| namespaces.has(name)).cloned().collect();
    let nowhere = BTreeSet::new();
    let mut policies = BTreeMap::new();
    for kind in &POLICY_KINDS {
        let places = if kind.namespaced { &seen } else { &nowhere };
        policies.insert(kind.kind, scope(person, kind.groups, kind.resource, places, reviews).await?);
    }
    let hidden = all.difference(&seen).cloned().collect();
    Ok(View { namespaces, policies, hidden })
}

/// Where someone may list a resource: everywhere, or in some of the namespaces.
async fn scope(
    person: &Person,
    groups: &'static [&'static str],
    resource: &'static str,
    namespaces: &BTreeSet<String>,
    reviews: &Reviews,
) -> Result<Scope, NoReview> {
    let may = |namespace: Option<String>| async move {
        for group in groups {
            if reviews.may(person, &Wish::list(group, resource, namespace.as_deref())).await? {
                return Ok(true);
            }
        }
        Ok::<_, NoReview>(false)
    };
    if may(None).await? {
        return Ok(Scope::All);
    }
    let asked: Vec<_> = namespaces
        .iter()
        .map(|namespace| {
            let namespace = namespace.clone();
            let asked = may(Some(namespace.clone()));
            async move { Ok::<_, NoReview>(asked.await?.then_some(namespace)) }
        })
        .collect();
    let found: Vec<Option<String>> = stream::iter(asked).buffer_unordered(AT_A_TIME).try_collect().await?;
    Ok(Scope::Only(found.into_iter().flatten().collect()))
}
