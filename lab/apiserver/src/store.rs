//! The objects: ordered maps in memory, one revision counter, a bounded log of changes for watches, a journal behind it.
//!
//! A write runs as one transaction under the store's lock: read, decide, stage; then the journal takes the staged changes, and
//! only what the journal took becomes visible.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use tokio::sync::watch;

use crate::journal::{Journal, Remembered};
use crate::kinds::{RESOURCES, Resource};
use crate::status::Status;

/// Changes kept for watches that start in the past.
const LOG: usize = 8192;

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    resource: usize,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    /// `namespace` is empty for cluster-scoped kinds.
    pub(crate) fn new(resource: &'static Resource, namespace: &str, name: &str) -> Self {
        Self { resource: resource.index(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The key with these names, if the kind is served.
    pub(crate) fn read(group: &str, plural: &str, namespace: &str, name: &str) -> Option<Self> {
        let resource = RESOURCES.iter().find(|resource| resource.group == group && resource.plural == plural)?;
        Some(Self::new(resource, namespace, name))
    }

    /// Its kind.
    pub(crate) fn resource(&self) -> &'static Resource {
        &RESOURCES[self.resource]
    }

    /// 404 for this key.
    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(self.resource().group, self.resource().plural, &self.name)
    }

    /// 409 for this key.
    pub(crate) fn conflict(&self, why: &str) -> Status {
        Status::conflict(self.resource().group, self.resource().plural, &self.name, why)
    }
}

/// One change, as watches see it.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    /// The object before; absent where it was created.
    pub(crate) old: Option<Arc<Value>>,
    /// The object after; where it was deleted its last state, with the deletion's revision.
    pub(crate) new: Arc<Value>,
    pub(crate) deleted: bool,
}

/// All objects.
pub(crate) struct Store {
    inner: Mutex<Inner>,
    revision: watch::Sender<u64>,
}

struct Inner {
    revision: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    log: VecDeque<Arc<Change>>,
    /// Changes up to this revision have left the log.
    forgotten: u64,
    journal: Journal,
}

impl Store {
    pub(crate) fn new(journal: Journal, remembered: Remembered) -> Self {
        let revision = remembered.revision.max(1);
        let inner = Inner { revision, objects: remembered.objects, log: VecDeque::new(), forgotten: revision, journal };
        Self { inner: Mutex::new(inner), revision: watch::Sender::new(revision) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic cannot leave half a transaction: staged changes are dropped with it.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// One object.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.lock().objects.get(key).cloned()
    }

    /// All objects of a kind, in one namespace or in all, in order, and the revision at which that is so.
    pub(crate) fn list(&self, resource: &'static Resource, namespace: Option<&str>) -> (u64, Vec<Arc<Value>>) {
        let inner = self.lock();
        (inner.revision, inner.range(resource, namespace).map(|(_, value)| value.clone()).collect())
    }

    /// Wakes when the revision grows.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Changes of a kind after `since`, and the revision up to which they are complete. `None`: they have left the log.
    pub(crate) fn changes(&self, resource: &'static Resource, since: u64) -> Option<(u64, Vec<Arc<Change>>)> {
        let inner = self.lock();
        if since < inner.forgotten || since > inner.revision {
            return None;
        }
        let start = inner.log.partition_point(|change| change.revision <= since);
        let index = resource.index();
        let changes = inner.log.range(start..).filter(|change| change.key.resource == index).cloned().collect();
        Some((inner.revision, changes))
    }

    /// Runs a transaction. Nothing of it stays if it fails or if `dry_run` is set.
    pub(crate) fn write<T>(
        &self,
        dry_run: bool,
        transaction: impl FnOnce(&mut Transaction<'_>) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let mut inner = self.lock();
        let mut open =
            Transaction { revision: inner.revision, inner: &inner, staged: BTreeMap::new(), log: Vec::new() };
        let result = transaction(&mut open)?;
        let Transaction { revision, staged, log, .. } = open;
        if dry_run || staged.is_empty() {
            return Ok(result);
        }
        inner.journal.append(revision, &staged).map_err(|error| refused(&error))?;
        inner.commit(revision, staged, log);
        drop(inner);
        self.revision.send_replace(revision);
        Ok(result)
    }
}

fn refused(error: &io::Error) -> Status {
    let message =
        format!("the lab's state directory takes no more data, so nothing was changed: {error}; make room there");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Status::insufficient_storage(message),
        _ => Status::internal(message),
    }
}

impl Inner {
    fn range(&self, resource: &'static Resource, namespace: Option<&str>) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        let start = Key::new(resource, namespace.unwrap_or_default(), "");
        let index = start.resource;
        let namespace = namespace.map(str::to_owned);
        self.objects.range(start..).take_while(move |(key, _)| {
            key.resource == index && namespace.as_ref().is_none_or(|namespace| key.namespace == *namespace)
        })
    }

    fn commit(&mut self, revision: u64, staged: BTreeMap<Key, Option<Arc<Value>>>, log: Vec<Change>) {
        for (key, value) in staged {
            match value {
                Some(value) => self.objects.insert(key, value),
                None => self.objects.remove(&key),
            };
        }
        self.revision = revision;
        self.log.extend(log.into_iter().map(Arc::new));
        while self.log.len() > LOG {
            if let Some(change) = self.log.pop_front() {
                self.forgotten = change.revision;
            }
        }
        self.journal.tidy(self.revision, &self.objects);
    }
}

/// An open transaction.
pub(crate) struct Transaction<'store> {
    inner: &'store Inner,
    revision: u64,
    staged: BTreeMap<Key, Option<Arc<Value>>>,
    log: Vec<Change>,
}

impl Transaction<'_> {
    /// One object, as this transaction has left it.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Value>> {
        match self.staged.get(key) {
            Some(staged) => staged.clone(),
            None => self.inner.objects.get(key).cloned(),
        }
    }

    /// All objects of a kind, as this transaction has left them.
    pub(crate) fn list(&self, resource: &'static Resource, namespace: Option<&str>) -> Vec<(Key, Arc<Value>)> {
        let index = resource.index();
        let mut all: BTreeMap<Key, Arc<Value>> =
            self.inner.range(resource, namespace).map(|(key, value)| (key.clone(), value.clone())).collect();
        for (key, value) in &self.staged {
            if key.resource != index || namespace.is_some_and(|namespace| key.namespace != namespace) {
                continue;
            }
            match value {
                Some(value) => all.insert(key.clone(), value.clone()),
                None => all.remove(key),
            };
        }
        all.into_iter().collect()
    }

    /// Stages an object; it gets the next revision.
    pub(crate) fn put(&mut self, key: &Key, mut object: Value) -> Arc<Value> {
        let old = self.get(key);
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let new = Arc::new(object);
        self.staged.insert(key.clone(), Some(new.clone()));
        self.log.push(Change { revision: self.revision, key: key.clone(), old, new: new.clone(), deleted: false });
        new
    }

    /// Stages the removal of an object; returns its last state.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let old = self.get(key)?;
        self.revision += 1;
        let mut last = (*old).clone();
        last["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let new = Arc::new(last);
        self.staged.insert(key.clone(), None);
        self.log.push(Change {
            revision: self.revision,
            key: key.clone(),
            old: Some(old),
            new: new.clone(),
            deleted: true,
        });
        Some(new)
    }
}
