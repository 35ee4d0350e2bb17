//! How objects go: grace for pods, finalizers, namespaces with their contents, and what an owner leaves behind.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::kinds::{RESOURCES, Resource, core_kind};
use crate::object::{self, deleting, items, map_in, meta};
use crate::status::Status;
use crate::store::{Key, Store, Transaction};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Namespaces that every cluster keeps.
pub(crate) const KEPT_NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// What becomes of the objects that name this one as their owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// `DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    propagation: Option<Propagation>,
    grace: Option<i64>,
    uid: Option<String>,
    resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

impl Options {
    /// Reads the body's `DeleteOptions`; query parameters were put into it before.
    pub(crate) fn parse(body: &Value) -> Result<Self, Status> {
        let propagation = match body["propagationPolicy"].as_str() {
            None | Some("") => None,
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                return Err(Status::bad_request(format!(
                    "DeleteOptions: propagationPolicy: Unsupported value: \"{other}\": supported values: \"Foreground\", \"Background\", \"Orphan\""
                )));
            }
        };
        let propagation = match body["orphanDependents"].as_bool() {
            Some(true) => Some(Propagation::Orphan),
            Some(false) => Some(Propagation::Background),
            None => propagation,
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let grace = body["gracePeriodSeconds"].as_i64();
        if grace.is_some_and(|grace| grace < 0) {
            return Err(Status::bad_request("DeleteOptions: gracePeriodSeconds: must be greater than or equal to 0"));
        }
        Ok(Self {
            propagation,
            grace,
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
            dry_run: body["dryRun"].as_array().is_some_and(|list| !list.is_empty()),
        })
    }
}

/// What a client is told.
pub(crate) enum Deleted {
    /// It is gone; its last state.
    Gone(Arc<Value>),
    /// It is on its way out.
    Going(Arc<Value>),
}

/// Deletes one object, or sets off its end.
pub(crate) fn delete(transaction: &mut Transaction<'_>, key: &Key, options: &Options) -> Result<Deleted, Status> {
    let Some(object) = transaction.get(key) else { return Err(key.not_found()) };
    for (wanted, field, word) in
        [(&options.uid, "uid", "UID"), (&options.resource_version, "resourceVersion", "ResourceVersion")]
    {
        let found = meta(&object, field);
        if wanted.as_ref().is_some_and(|wanted| wanted != found) {
            let wanted = wanted.as_deref().unwrap_or_default();
            return Err(key.conflict(&format!(
                "Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {found}"
            )));
        }
    }
    let resource = key.resource();
    if resource.is("", "Namespace") {
        if KEPT_NAMESPACES.contains(&key.name.as_str()) {
            return Err(Status::forbidden_object("", "namespaces", &key.name, "this namespace may not be deleted"));
        }
        return Ok(namespace(transaction, key, &object));
    }
    let grace = grace(resource, &object, options);
    if let Some(finalizer) = match options.propagation {
        Some(Propagation::Orphan) => Some(ORPHAN),
        Some(Propagation::Foreground) => Some(FOREGROUND),
        Some(Propagation::Background) | None => None,
    } {
        let uid = meta(&object, "uid").to_owned();
        // Owners may stand in a circle.
        if items(&object["metadata"], "finalizers").iter().any(|one| one == FOREGROUND) {
            return Ok(Deleted::Going(object));
        }
        if finalizer == ORPHAN {
            release(transaction, &key.namespace, &uid);
        } else if !dependents(transaction, &key.namespace, &uid).is_empty() {
            let mut going = (*object).clone();
            mark(&mut going, grace);
            add_finalizer(&mut going, FOREGROUND);
            let going = transaction.put(key, going);
            collect(transaction, &key.namespace, &uid, options.propagation);
            return Ok(transaction.get(key).map_or(Deleted::Gone(going), Deleted::Going));
        }
    }
    if grace > 0 {
        let sooner = object["metadata"]["deletionGracePeriodSeconds"].as_i64().is_none_or(|before| grace < before);
        if deleting(&object) && !sooner {
            return Ok(Deleted::Going(object));
        }
        let mut going = (*object).clone();
        mark(&mut going, grace);
        return Ok(Deleted::Going(transaction.put(key, going)));
    }
    if items(&object["metadata"], "finalizers").is_empty() {
        return Ok(Deleted::Gone(remove(transaction, key).unwrap_or(object)));
    }
    if deleting(&object) && object["metadata"]["deletionGracePeriodSeconds"] == 0 {
        return Ok(Deleted::Going(object));
    }
    let mut going = (*object).clone();
    mark(&mut going, 0);
    Ok(Deleted::Going(transaction.put(key, going)))
}

/// Looks at an object that was changed: if it was only waiting for that, it goes.
pub(crate) fn after_change(transaction: &mut Transaction<'_>, key: &Key, object: Arc<Value>) -> Arc<Value> {
    let waiting = key.resource().is("", "Namespace")
        || object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
    if deleting(&object) && !waiting && items(&object["metadata"], "finalizers").is_empty() {
        return remove(transaction, key).unwrap_or(object);
    }
    if key.resource().is("", "Namespace") && deleting(&object) {
        finish_namespace(transaction, &key.name);
    }
    object
}

/// Seconds that an object may take to go. Only pods that run somewhere have any.
fn grace(resource: &Resource, object: &Value, options: &Options) -> i64 {
    let ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !resource.is("", "Pod") || ended || object["spec"]["nodeName"].as_str().is_none_or(str::is_empty) {
        return 0;
    }
    options.grace.or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30)
}

fn mark(object: &mut Value, grace: i64) {
    if !deleting(object) || grace > 0 {
        object["metadata"]["deletionTimestamp"] = object::after_seconds(grace).into();
    }
    object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
}

fn add_finalizer(object: &mut Value, finalizer: &str) {
    let list = map_in(object, "metadata").entry("finalizers").or_insert_with(|| json!([]));
    if let Value::Array(list) = list
        && !list.iter().any(|one| one == finalizer)
    {
        list.push(finalizer.into());
    }
}

/// Removes an object and sees to what that sets off.
fn remove(transaction: &mut Transaction<'_>, key: &Key) -> Option<Arc<Value>> {
    let last = transaction.remove(key)?;
    collect(transaction, &key.namespace, meta(&last, "uid"), None);
    for owner in items(&last["metadata"], "ownerReferences") {
        finish_owner(transaction, &key.namespace, owner);
    }
    if !key.namespace.is_empty() {
        finish_namespace(transaction, &key.namespace);
    }
    Some(last)
}

/// The objects that name `uid` as an owner.
fn dependents(transaction: &Transaction<'_>, namespace: &str, uid: &str) -> Vec<(Key, Arc<Value>)> {
    let scope = (!namespace.is_empty()).then_some(namespace);
    let owned = |object: &Value| items(&object["metadata"], "ownerReferences").iter().any(|owner| owner["uid"] == uid);
    RESOURCES
        .iter()
        .filter(|resource| scope.is_none() || resource.namespaced)
        .flat_map(|resource| transaction.list(resource, scope))
        .filter(|(_, object)| owned(object))
        .collect()
}

/// Deletes what only `uid` owned; from the others the reference goes.
fn collect(transaction: &mut Transaction<'_>, namespace: &str, uid: &str, propagation: Option<Propagation>) {
    for (key, object) in dependents(transaction, namespace, uid) {
        let others = items(&object["metadata"], "ownerReferences").iter().any(|owner| owner["uid"] != uid);
        if others {
            drop_reference(transaction, &key, &object, uid);
            continue;
        }
        if deleting(&object) && propagation.is_none() {
            continue;
        }
        let options = Options { propagation, ..Options::default() };
        if let Err(status) = delete(transaction, &key, &options) {
            // It went together with another object of this sweep.
            tracing::debug!(message = status.message, "dependent not deleted");
        }
    }
}

/// Leaves dependents alive, without an owner.
fn release(transaction: &mut Transaction<'_>, namespace: &str, uid: &str) {
    for (key, object) in dependents(transaction, namespace, uid) {
        drop_reference(transaction, &key, &object, uid);
    }
}

fn drop_reference(transaction: &mut Transaction<'_>, key: &Key, object: &Value, uid: &str) {
    let mut free = object.clone();
    let metadata = map_in(&mut free, "metadata");
    if let Some(Value::Array(owners)) = metadata.get_mut("ownerReferences") {
        owners.retain(|owner| owner["uid"] != uid);
        if owners.is_empty() {
            metadata.remove("ownerReferences");
        }
    }
    transaction.put(key, free);
}

/// An owner that waits for its dependents goes with the last one.
fn finish_owner(transaction: &mut Transaction<'_>, namespace: &str, reference: &Value) {
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let Some(resource) = crate::kinds::by_kind(text("apiVersion"), text("kind")) else { return };
    let key = Key::new(resource, if resource.namespaced { namespace } else { "" }, text("name"));
    let Some(owner) = transaction.get(&key) else { return };
    let waits = items(&owner["metadata"], "finalizers").iter().any(|one| one == FOREGROUND);
    if meta(&owner, "uid") != text("uid") || !waits || !dependents(transaction, namespace, text("uid")).is_empty() {
        return;
    }
    let mut free = (*owner).clone();
    let metadata = map_in(&mut free, "metadata");
    if let Some(Value::Array(finalizers)) = metadata.get_mut("finalizers") {
        finalizers.retain(|one| one != FOREGROUND);
        if finalizers.is_empty() {
            metadata.remove("finalizers");
        }
    }
    let free = transaction.put(&key, free);
    after_change(transaction, &key, free);
}

/// Marks a namespace; [`sweep`] empties it a moment later, so that a client which deletes a manifest's objects one by one still
/// finds those that lie in the namespace, as with Kubernetes' own namespace controller.
fn namespace(transaction: &mut Transaction<'_>, key: &Key, object: &Arc<Value>) -> Deleted {
    if deleting(object) {
        return Deleted::Going(object.clone());
    }
    let mut marked = (**object).clone();
    mark(&mut marked, 0);
    if let Some(metadata) = marked["metadata"].as_object_mut() {
        metadata.remove("deletionGracePeriodSeconds");
    }
    marked["status"]["phase"] = "Terminating".into();
    Deleted::Going(transaction.put(key, marked))
}

/// Deletes what lies in terminating namespaces, and those that are empty.
pub(crate) fn sweep(transaction: &mut Transaction<'_>) {
    for (key, object) in transaction.list(core_kind("Namespace"), None) {
        if !deleting(&object) {
            continue;
        }
        for resource in RESOURCES.iter().filter(|resource| resource.namespaced) {
            for (inner, object) in transaction.list(resource, Some(&key.name)) {
                if !deleting(&object) {
                    // Already gone together with its owner: nothing to do.
                    let _ = delete(transaction, &inner, &Options::default());
                }
            }
        }
        finish_namespace(transaction, &key.name);
    }
}

/// Whether a namespace waits to be emptied.
pub(crate) fn terminating(store: &Store) -> bool {
    store.list(core_kind("Namespace"), None).1.iter().any(|namespace| deleting(namespace))
}

/// A terminating namespace goes with the last object in it.
fn finish_namespace(transaction: &mut Transaction<'_>, name: &str) {
    let key = Key::new(core_kind("Namespace"), "", name);
    let Some(namespace) = transaction.get(&key) else { return };
    let finalizers = items(&namespace["metadata"], "finalizers");
    if !deleting(&namespace) || !finalizers.is_empty() {
        return;
    }
    let empty = RESOURCES
        .iter()
        .filter(|resource| resource.namespaced)
        .all(|resource| transaction.list(resource, Some(name)).is_empty());
    if empty {
        transaction.remove(&key);
    }
}
