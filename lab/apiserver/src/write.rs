//! What happens to an object on its way into the store: create, replace, patch, status, scale.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::decode::{self, FieldValidation};
use crate::kinds::{self, Resource, allocate, core_kind, defaults};
use crate::object::{self, deleting, map_in, meta, take_over};
use crate::patch::apply::{self, Manager};
use crate::patch::{json, strategic};
use crate::status::{Cause, Status};
use crate::store::{Key, Store, Transaction};
use crate::{delete, validate};

/// What a client says about its write.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) dry_run: bool,
    pub(crate) manager: String,
    pub(crate) validation: FieldValidation,
    /// Of server-side apply: take fields over from other managers.
    pub(crate) force: bool,
}

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Main,
    Status,
    Scale,
}

impl Part {
    fn subresource(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Scale => "scale",
        }
    }
}

/// How an object is to change.
pub(crate) enum Change {
    Replace(Value),
    Merge(Value),
    Strategic(Value),
    Json(Value),
    Apply(Value),
}

/// The outcome of a write.
pub(crate) struct Written {
    pub(crate) object: Arc<Value>,
    pub(crate) warnings: Vec<String>,
    pub(crate) created: bool,
}

/// Creates an object.
pub(crate) fn create(
    store: &Store,
    resource: &'static Resource,
    namespace: &str,
    object: Value,
    options: &Options,
) -> Result<Written, Status> {
    store.write(options.dry_run, |transaction| create_in(transaction, resource, namespace, object, options, None))
}

fn create_in(
    transaction: &mut Transaction<'_>,
    resource: &'static Resource,
    namespace: &str,
    mut object: Value,
    options: &Options,
    applying: Option<&Manager>,
) -> Result<Written, Status> {
    identify(resource, &mut object)?;
    let config = object.clone();
    let warnings = decode::check(&mut object, resource.definition, options.validation)?;
    map_in(&mut object, "metadata");
    place(resource, namespace, &mut object)?;
    name(&mut object);
    let key = Key::new(resource, namespace, meta(&object, "name"));
    if resource.namespaced {
        check_namespace(transaction, resource, &key)?;
    }
    if !key.name.is_empty() && transaction.get(&key).is_some() {
        return Err(Status::already_exists(resource.group, resource.plural, &key.name));
    }
    if !meta(&object, "resourceVersion").is_empty() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let metadata = map_in(&mut object, "metadata");
    for field in [
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
    ] {
        metadata.remove(field);
    }
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), object::now().into());
    if resource.generation {
        metadata.insert("generation".into(), 1.into());
    }
    // A node's agent reports its status together with the node; every other status is its controller's to write.
    if resource.status && resource.kind != "Node" {
        object.as_object_mut().expect("identify made sure of it").remove("status");
    }
    if let Some(status) = defaults::initial_status(resource) {
        object["status"] = status;
    }
    finish(transaction, &key, &mut object, None)?;
    let now = object::now();
    match applying {
        None => {
            let manager = manager(resource, options, "Update", Part::Main);
            apply::track_update(None, &mut object, resource.definition, &manager, resource.status, &now);
        }
        Some(manager) => {
            let mut config = config;
            decode::check(&mut config, resource.definition, FieldValidation::Ignore)?;
            let applied = apply::apply(None, &config, resource.definition, manager, resource.status, true, &now)?;
            take_over(&mut object["metadata"], &applied["metadata"], "managedFields");
        }
    }
    Ok(Written { object: transaction.put(&key, object), warnings, created: true })
}

/// Changes an object; server-side apply creates it where it is missing.
pub(crate) fn change(
    store: &Store,
    key: &Key,
    part: Part,
    change: &Change,
    options: &Options,
) -> Result<Written, Status> {
    store.write(options.dry_run, |transaction| change_in(transaction, key, part, change, options))
}

fn change_in(
    transaction: &mut Transaction<'_>,
    key: &Key,
    part: Part,
    change: &Change,
    options: &Options,
) -> Result<Written, Status> {
    let resource = key.resource();
    let Some(old) = transaction.get(key) else {
        return match (change, part) {
            (Change::Apply(config), Part::Main) => {
                let mut config = config.clone();
                check_name(key, &config)?;
                map_in(&mut config, "metadata").insert("name".into(), key.name.clone().into());
                let manager = manager(resource, options, "Apply", part);
                create_in(transaction, resource, &key.namespace, config, options, Some(&manager))
            }
            _ => Err(key.not_found()),
        };
    };
    let now = object::now();
    let mut warnings = Vec::new();
    // A scale's patch works on the Scale that a client sees, and comes back as a number of replicas.
    let before = if part == Part::Scale { scale(resource, &old) } else { (*old).clone() };
    let definition = if part == Part::Scale { "io.k8s.api.autoscaling.v1.Scale" } else { resource.definition };
    let mut new = match change {
        Change::Replace(object) => object.clone(),
        Change::Merge(patch) => {
            let mut new = before;
            json::merge(&mut new, patch);
            new
        }
        Change::Strategic(patch) => {
            let mut new = before;
            strategic::merge(&mut new, patch, definition)?;
            new
        }
        Change::Json(patch) => {
            let mut new = before;
            // Told as a field: kubectl shows nothing else of a 422.
            let refuse = |why: String| {
                let cause = Cause { reason: "FieldValueInvalid", field: "patch".into(), message: why };
                Status::invalid(resource.group, resource.kind, &key.name, vec![cause])
            };
            json::patch(&mut new, patch, refuse)?;
            new
        }
        Change::Apply(config) => {
            let mut config = config.clone();
            warnings = decode::check(&mut config, definition, options.validation)?;
            check_name(key, &config)?;
            if items_given(&config, "managedFields") {
                return Err(Status::bad_request("metadata.managedFields must be nil"));
            }
            let manager = manager(resource, options, "Apply", part);
            if part == Part::Scale {
                let mut new = before;
                json::merge(&mut new, &config);
                new
            } else {
                apply::apply(Some(&old), &config, definition, &manager, resource.status, options.force, &now)?
            }
        }
    };
    if part != Part::Scale {
        identify(resource, &mut new)?;
    }
    let validation = if matches!(change, Change::Apply(_)) { FieldValidation::Ignore } else { options.validation };
    warnings.extend(decode::check(&mut new, definition, validation)?);
    map_in(&mut new, "metadata");
    if part == Part::Scale {
        new = unscale(key, &old, &new)?;
    }
    check_name(key, &new)?;
    place(resource, &key.namespace, &mut new)?;
    check_version(key, &old, &new)?;
    let new = settle(transaction, key, part, &old, new)?;
    let mut new = new;
    if !matches!(change, Change::Apply(_)) || part == Part::Scale {
        let manager = manager(resource, options, "Update", part);
        apply::track_update(Some(&old), &mut new, resource.definition, &manager, resource.status, &now);
    }
    if new == *old {
        return Ok(Written { object: old, warnings, created: false });
    }
    let object = transaction.put(key, new);
    let object = delete::after_change(transaction, key, object);
    Ok(Written { object, warnings, created: false })
}

/// Puts back what this write must not change, fills defaults in, validates, counts the generation.
fn settle(transaction: &Transaction<'_>, key: &Key, part: Part, old: &Value, mut new: Value) -> Result<Value, Status> {
    let resource = key.resource();
    if part == Part::Status {
        let (status, managed) = (new.get("status").cloned(), new["metadata"].get("managedFields").cloned());
        new = old.clone();
        match status {
            Some(status) => new["status"] = status,
            None => {
                new.as_object_mut().expect("objects in the store are objects").remove("status");
            }
        }
        if let Some(managed) = managed {
            new["metadata"]["managedFields"] = managed;
        }
        return Ok(new);
    }
    for field in [
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "resourceVersion",
        "generateName",
    ] {
        take_over(&mut new["metadata"], &old["metadata"], field);
    }
    if new["metadata"].get("managedFields").is_none() {
        take_over(&mut new["metadata"], &old["metadata"], "managedFields");
    }
    if resource.status {
        take_over(&mut new, old, "status");
    }
    if deleting(old) {
        let before = object::items(&old["metadata"], "finalizers");
        if object::items(&new["metadata"], "finalizers").iter().any(|one| !before.contains(one)) {
            return Err(Status::invalid(
                resource.group,
                resource.kind,
                &key.name,
                vec![validate::forbidden(
                    "metadata.finalizers",
                    "no new finalizers can be added if the object is being deleted",
                )],
            ));
        }
    }
    finish(transaction, key, &mut new, Some(old))?;
    if resource.generation && differs(old, &new) {
        let generation = old["metadata"]["generation"].as_u64().unwrap_or(1);
        new["metadata"]["generation"] = (generation + 1).into();
    }
    Ok(new)
}

/// Whether something besides `metadata` and `status` differs.
fn differs(old: &Value, new: &Value) -> bool {
    let own = |object: &Value| -> Vec<(String, Value)> {
        let fields = object.as_object().into_iter().flatten();
        fields
            .filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status"))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    own(old) != own(new)
}

/// Defaults, allocation and validation: the same for a new object and a changed one.
fn finish(transaction: &Transaction<'_>, key: &Key, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    let resource = key.resource();
    defaults::fill(resource, object);
    let mut causes = validate::object(resource, object, old);
    if resource.is("", "Service") && causes.is_empty() {
        causes.extend(allocate::service(transaction, key, object, old));
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid(resource.group, resource.kind, meta(object, "name"), causes))
    }
}

fn manager(resource: &Resource, options: &Options, operation: &'static str, part: Part) -> Manager {
    Manager {
        name: options.manager.clone(),
        operation,
        subresource: part.subresource().into(),
        api_version: resource.api_version(),
    }
}

fn items_given(object: &Value, field: &str) -> bool {
    object["metadata"][field].as_array().is_some_and(|list| !list.is_empty())
}

/// Fills `apiVersion` and `kind` in, or refuses others than the path's.
fn identify(resource: &Resource, object: &mut Value) -> Result<(), Status> {
    if !object.is_object() {
        return Err(Status::bad_request("the object provided is unrecognized: not an object"));
    }
    for (field, expected) in [("apiVersion", resource.api_version()), ("kind", resource.kind.to_owned())] {
        match object[field].as_str() {
            None | Some("") => object[field] = expected.into(),
            Some(given) if given == expected => {}
            Some(given) => {
                return Err(Status::bad_request(format!(
                    "the {field} in the data ({given}) does not match the expected {field} ({expected})"
                )));
            }
        }
    }
    Ok(())
}

fn place(resource: &Resource, namespace: &str, object: &mut Value) -> Result<(), Status> {
    let given = meta(object, "namespace");
    if !resource.namespaced {
        if given.is_empty() {
            return Ok(());
        }
        return Err(Status::bad_request("namespace is not allowed on this type"));
    }
    if !given.is_empty() && given != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    map_in(object, "metadata").insert("namespace".into(), namespace.into());
    Ok(())
}

fn name(object: &mut Value) {
    let prefix = meta(object, "generateName").to_owned();
    if meta(object, "name").is_empty() && !prefix.is_empty() {
        let name = format!("{}{}", prefix.chars().take(58).collect::<String>(), object::random_suffix());
        map_in(object, "metadata").insert("name".into(), name.into());
    }
}

fn check_name(key: &Key, object: &Value) -> Result<(), Status> {
    let given = meta(object, "name");
    if given.is_empty() || given == key.name {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "the name of the object ({given}) does not match the name on the URL ({})",
        key.name
    )))
}

fn check_version(key: &Key, old: &Value, new: &Value) -> Result<(), Status> {
    let given = meta(new, "resourceVersion");
    if !given.is_empty() && given != meta(old, "resourceVersion") {
        return Err(
            key.conflict("the object has been modified; please apply your changes to the latest version and try again")
        );
    }
    let uid = meta(new, "uid");
    if !uid.is_empty() && uid != meta(old, "uid") {
        return Err(key.conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta(old, "uid")
        )));
    }
    Ok(())
}

fn check_namespace(transaction: &Transaction<'_>, resource: &Resource, key: &Key) -> Result<(), Status> {
    let namespace = Key::new(core_kind("Namespace"), "", &key.namespace);
    let Some(found) = transaction.get(&namespace) else { return Err(namespace.not_found()) };
    if !deleting(&found) {
        return Ok(());
    }
    Err(Status::namespace_terminating(resource.group, resource.plural, &key.name, &key.namespace))
}

/// The Scale of a Deployment or ReplicaSet.
pub(crate) fn scale(resource: &Resource, object: &Value) -> Value {
    let metadata = &object["metadata"];
    let labels = object["spec"]["selector"]["matchLabels"].as_object();
    let mut selector: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for requirement in object::items(&object["spec"]["selector"], "matchExpressions") {
        selector.push(validate::labels::printed(requirement));
    }
    debug_assert!(resource.scale);
    json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": object["spec"]["replicas"].as_u64().unwrap_or(0)},
        "status": {
            "replicas": object["status"]["replicas"].as_u64().unwrap_or(0),
            "selector": selector.join(","),
        },
    })
}

/// The object with the number of replicas that a Scale asks for.
fn unscale(key: &Key, old: &Value, scale: &Value) -> Result<Value, Status> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        return Err(Status::invalid(
            "autoscaling",
            "Scale",
            &key.name,
            vec![validate::invalid("spec.replicas", &json!(replicas), "must be greater than or equal to 0")],
        ));
    }
    let mut new = old.clone();
    new["spec"]["replicas"] = replicas.into();
    for field in ["resourceVersion", "uid", "name", "namespace"] {
        if let Some(value) = scale["metadata"].get(field) {
            new["metadata"][field] = value.clone();
        }
    }
    Ok(new)
}

/// Creates a namespace if it is missing: those that every cluster has.
pub(crate) fn ensure_namespace(store: &Store, name: &str) -> Result<(), Status> {
    let namespace = kinds::core_kind("Namespace");
    if store.get(&Key::new(namespace, "", name)).is_some() {
        return Ok(());
    }
    let options = Options {
        dry_run: false,
        manager: "signalbox-apiserver".into(),
        validation: FieldValidation::Strict,
        force: false,
    };
    create(store, namespace, "", json!({"metadata": {"name": name}}), &options).map(drop)
}
