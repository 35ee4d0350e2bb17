//! What the API server holds of one kind, as this process knows it: filled by a watch and by the answers to our own writes.
//!
//! The second source matters: a controller that decides again before its own write has come back by the watch would
//! create the same pod twice.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt;
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, watcher::DefaultBackoff};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Namespace (empty for cluster-scoped kinds) and name.
pub(crate) type Key = (String, String);

/// An object of the API that a [`Store`] can hold.
pub(crate) trait Object:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Object for K where K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}

/// All objects of one kind.
pub(crate) struct Store<K> {
    inner: RwLock<Inner<K>>,
    changed: watch::Sender<u64>,
    synced: watch::Sender<bool>,
}

struct Inner<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// A list under way: it replaces `objects` when it is complete.
    staged: Option<BTreeMap<Key, Arc<K>>>,
    /// Uids that we deleted and whose end the watch has not told yet: late news of them must not bring them back.
    gone: HashSet<String>,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self {
            inner: RwLock::new(Inner { objects: BTreeMap::new(), staged: None, gone: HashSet::new() }),
            changed: watch::Sender::new(0),
            synced: watch::Sender::new(false),
        }
    }
}

impl<K: Object> Store<K> {
    /// Every object, ordered by namespace and name.
    pub(crate) fn list(&self) -> Vec<Arc<K>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).objects.values().cloned().collect()
    }

    /// Counts up with every change that the store did not know of.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Becomes true once the first list is in.
    pub(crate) fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// Takes the API server's answer to a write.
    pub(crate) fn wrote(&self, object: K) {
        self.upsert(object);
    }

    /// Takes the API server's answer to a deletion that left nothing of the object.
    pub(crate) fn deleted(&self, key: &Key, uid: &str) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.gone.insert(uid.to_owned());
        if inner.objects.get(key).is_some_and(|known| known.meta().uid.as_deref() == Some(uid)) {
            inner.objects.remove(key);
            drop(inner);
            self.notify();
        }
    }

    /// Takes one event of the watch.
    pub(crate) fn observe(&self, event: Event<K>) {
        match event {
            Event::Init => {
                self.inner.write().unwrap_or_else(PoisonError::into_inner).staged = Some(BTreeMap::new());
            }
            Event::InitApply(object) => {
                let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
                inner.staged.get_or_insert_default().insert(key_of(&object), Arc::new(object));
            }
            Event::InitDone => self.listed(),
            Event::Apply(object) => self.upsert(object),
            Event::Delete(object) => self.remove(&object),
        }
    }

    fn listed(&self) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let mut listed = inner.staged.take().unwrap_or_default();
        let newest = listed.values().filter_map(|object| version(object.as_ref())).max().unwrap_or(0);
        // What we wrote while the list was under way is newer than anything in it.
        for (key, known) in std::mem::take(&mut inner.objects) {
            if version(known.as_ref()).is_some_and(|version| version > newest) {
                listed.entry(key).or_insert(known);
            }
        }
        inner.objects = listed;
        inner.gone.clear();
        drop(inner);
        self.notify();
        self.synced.send_replace(true);
    }

    fn upsert(&self, object: K) {
        let key = key_of(&object);
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if object.meta().uid.as_ref().is_some_and(|uid| inner.gone.contains(uid)) {
            return;
        }
        if inner.objects.get(&key).is_some_and(|known| !newer(&object, known)) {
            return;
        }
        inner.objects.insert(key, Arc::new(object));
        drop(inner);
        self.notify();
    }

    fn remove(&self, object: &K) {
        let key = key_of(object);
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let was_ours = object.meta().uid.as_ref().is_some_and(|uid| inner.gone.remove(uid));
        // A successor of the same name is another object.
        let known = inner.objects.get(&key).is_some_and(|known| known.meta().uid == object.meta().uid);
        if known {
            inner.objects.remove(&key);
        }
        drop(inner);
        if known || was_ours {
            self.notify();
        }
    }

    fn notify(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    async fn follow(self: Arc<Self>, api: Api<K>, shutdown: CancellationToken) {
        let strip = |object: &mut K| object.managed_fields_mut().clear();
        let events = watcher(api, watcher::Config::default()).modify(strip).backoff(DefaultBackoff::default());
        let mut events = std::pin::pin!(events);
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => self.observe(event),
                Some(Err(error)) if shutdown.is_cancelled() => {
                    tracing::debug!(kind = %K::kind(&()), %error, "watch ended with the lab");
                }
                Some(Err(error)) => warn!(kind = %K::kind(&()), %error, "watch broke; it is taken up again"),
                None => return,
            }
        }
    }
}

impl<K: Object + Resource<Scope = NamespaceResourceScope>> Store<K> {
    /// Follows all namespaces until `shutdown`.
    pub(crate) fn watch_namespaced(self: &Arc<Self>, client: &Client, shutdown: &CancellationToken) {
        tokio::spawn(self.clone().follow(Api::all(client.clone()), shutdown.clone()));
    }
}

impl<K: Object + Resource<Scope = ClusterResourceScope>> Store<K> {
    /// Follows a cluster-scoped kind until `shutdown`.
    pub(crate) fn watch_cluster(self: &Arc<Self>, client: &Client, shutdown: &CancellationToken) {
        tokio::spawn(self.clone().follow(Api::all(client.clone()), shutdown.clone()));
    }
}

/// Namespace and name of an object.
pub(crate) fn key_of<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn version<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_deref()?.parse().ok()
}

/// Whether `object` is news beside `known`. Versions are numbers on the lab's API server; where one is not, news wins.
fn newer<K: Resource>(object: &K, known: &K) -> bool {
    match (version(object), version(known)) {
        (Some(object), Some(known)) => object > known,
        (None, _) | (_, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn pod(name: &str, uid: &str, version: u64) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some("n".into());
        pod.metadata.name = Some(name.into());
        pod.metadata.uid = Some(uid.into());
        pod.metadata.resource_version = Some(version.to_string());
        pod
    }

    fn held(store: &Store<Pod>) -> Vec<String> {
        store
            .list()
            .iter()
            .map(|p| {
                let meta = &p.metadata;
                format!(
                    "{}:{}@{}",
                    meta.name.as_deref().unwrap(),
                    meta.uid.as_deref().unwrap(),
                    meta.resource_version.as_deref().unwrap()
                )
            })
            .collect()
    }

    #[test]
    fn news_replaces_and_old_news_does_not() {
        let key = ("n".to_owned(), "a".to_owned());
        type Step = Box<dyn Fn(&Store<Pod>)>;
        let cases: Vec<(&str, Vec<Step>, Vec<&str>)> = vec![
            (
                "the watch repeats what a write told",
                vec![
                    Box::new(|s| s.wrote(pod("a", "1", 5))),
                    Box::new(|s| s.observe(Event::Apply(pod("a", "1", 5)))),
                    Box::new(|s| s.observe(Event::Apply(pod("a", "1", 4)))),
                ],
                vec!["a:1@5"],
            ),
            (
                "a deletion of ours is final",
                vec![
                    Box::new(|s| s.wrote(pod("a", "1", 5))),
                    Box::new({
                        let key = key.clone();
                        move |s| s.deleted(&key, "1")
                    }),
                    Box::new(|s| s.observe(Event::Apply(pod("a", "1", 6)))),
                ],
                vec![],
            ),
            (
                "the end of a predecessor does not end its successor",
                vec![Box::new(|s| s.wrote(pod("a", "2", 9))), Box::new(|s| s.observe(Event::Delete(pod("a", "1", 8))))],
                vec!["a:2@9"],
            ),
            (
                "a list replaces everything but newer writes",
                vec![
                    Box::new(|s| s.wrote(pod("old", "1", 3))),
                    Box::new(|s| s.observe(Event::Init)),
                    Box::new(|s| s.observe(Event::InitApply(pod("a", "2", 7)))),
                    Box::new(|s| s.wrote(pod("new", "3", 8))),
                    Box::new(|s| s.observe(Event::InitDone)),
                ],
                vec!["a:2@7", "new:3@8"],
            ),
        ];
        for (name, steps, expected) in cases {
            let store = Store::<Pod>::default();
            for step in steps {
                step(&store);
            }
            assert_eq!(held(&store), expected, "{name}");
        }
    }

    #[test]
    fn only_news_wakes() {
        let store = Store::<Pod>::default();
        let mut changes = store.changes();
        store.wrote(pod("a", "1", 5));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        store.observe(Event::Apply(pod("a", "1", 5)));
        assert!(!changes.has_changed().unwrap());
    }
}
