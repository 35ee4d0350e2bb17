//! Server-side apply, and the book-keeping of managers that every write does.

use serde_json::{Value, json};

use super::fields::{Set, item_edge};
use crate::kinds::schema::{Schemas, Type};
use crate::status::Status;

/// Who writes, and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manager {
    pub(crate) name: String,
    /// `Apply` or `Update`.
    pub(crate) operation: &'static str,
    /// Empty, or `status` or `scale`.
    pub(crate) subresource: String,
    pub(crate) api_version: String,
}

/// One entry of `managedFields`.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    operation: String,
    subresource: String,
    api_version: String,
    time: Value,
    set: Set,
}

impl Entry {
    fn is(&self, manager: &Manager) -> bool {
        self.name == manager.name
            && self.operation == manager.operation
            && self.subresource == manager.subresource
            && (self.operation == "Update" && self.api_version == manager.api_version || self.operation == "Apply")
    }

    fn conflict(&self) -> String {
        let mut text = format!("conflict with \"{}\"", self.name);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource \"{}\"", self.subresource));
        }
        if self.operation == "Update" {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

fn entries(object: &Value) -> Vec<Entry> {
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    object["metadata"]["managedFields"].as_array().map_or_else(Vec::new, |list| {
        list.iter()
            .filter(|entry| entry["manager"].is_string() || entry["operation"].is_string())
            .map(|entry| Entry {
                name: text(entry, "manager"),
                operation: text(entry, "operation"),
                subresource: text(entry, "subresource"),
                api_version: text(entry, "apiVersion"),
                time: entry["time"].clone(),
                set: Set::from_json(&entry["fieldsV1"]),
            })
            .collect()
    })
}

fn write(object: &mut Value, entries: Vec<Entry>) {
    let list: Vec<Value> = entries
        .into_iter()
        .filter(|entry| !entry.set.is_empty())
        .map(|entry| {
            let mut value = json!({
                "manager": entry.name,
                "operation": entry.operation,
                "apiVersion": entry.api_version,
                "time": entry.time,
                "fieldsType": "FieldsV1",
                "fieldsV1": entry.set.to_json(),
            });
            if !entry.subresource.is_empty() {
                value["subresource"] = entry.subresource.into();
            }
            value
        })
        .collect();
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    if list.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".into(), list.into());
    }
}

/// Fields that nobody manages: the system owns them, or they name the object.
fn strip(set: &mut Set, subresource: &str, has_status: bool) {
    for path in [
        ["f:apiVersion"].as_slice(),
        &["f:kind"],
        &["f:metadata", "f:name"],
        &["f:metadata", "f:namespace"],
        &["f:metadata", "f:creationTimestamp"],
        &["f:metadata", "f:deletionTimestamp"],
        &["f:metadata", "f:deletionGracePeriodSeconds"],
        &["f:metadata", "f:selfLink"],
        &["f:metadata", "f:uid"],
        &["f:metadata", "f:generation"],
        &["f:metadata", "f:managedFields"],
        &["f:metadata", "f:resourceVersion"],
    ] {
        set.cut(path);
    }
    if subresource == "status" {
        set.keep_only("f:status");
    } else if has_status {
        set.cut(&["f:status"]);
    }
}

/// Notes in `new` what a write other than apply has changed against `old`.
pub(crate) fn track_update(
    old: Option<&Value>,
    new: &mut Value,
    definition: &str,
    manager: &Manager,
    has_status: bool,
    now: &str,
) {
    let root = Schemas::get().root(definition);
    let nothing = json!({});
    let mut changed = Set::changed(old.unwrap_or(&nothing), new, &root);
    strip(&mut changed, &manager.subresource, has_status && old.is_some());
    // A client may hand over fields by writing `managedFields` itself; an empty list starts anew.
    let given = &new["metadata"]["managedFields"];
    let source = if given.is_array() { new.clone() } else { old.cloned().unwrap_or(nothing) };
    let mut list = entries(&source);
    for entry in &mut list {
        if !entry.is(manager) {
            entry.set.subtract(&changed);
        }
        entry.set.retain_existing(new, &root);
    }
    if !changed.is_empty() {
        match list.iter_mut().find(|entry| entry.is(manager)) {
            Some(entry) => {
                entry.set.union(&changed);
                entry.time = now.into();
            }
            None => list.push(entry(manager, changed, now)),
        }
    }
    write(new, list);
}

fn entry(manager: &Manager, set: Set, now: &str) -> Entry {
    Entry {
        name: manager.name.clone(),
        operation: manager.operation.to_owned(),
        subresource: manager.subresource.clone(),
        api_version: manager.api_version.clone(),
        time: now.into(),
        set,
    }
}

/// Applies `config` to `live`. Conflicts are refused unless `force`.
pub(crate) fn apply(
    live: Option<&Value>,
    config: &Value,
    definition: &str,
    manager: &Manager,
    has_status: bool,
    force: bool,
    now: &str,
) -> Result<Value, Status> {
    let root = Schemas::get().root(definition);
    let mut applied = Set::of(config, &root);
    strip(&mut applied, &manager.subresource, has_status);
    let nothing = json!({});
    let live = live.unwrap_or(&nothing);
    let mut list = entries(live);
    let before = list.iter().position(|entry| entry.is(manager)).map(|index| list.remove(index));

    let mut merged = merge(live.clone(), config, &root);
    if let Some(before) = &before {
        // What this manager applied the last time and does not any more goes, unless somebody else wants it, too.
        let mut kept = applied.clone();
        for entry in &list {
            kept.union(&entry.set);
        }
        before.set.prune(&mut merged, &root, &kept);
    }
    let mut changed = Set::changed(live, &merged, &root);
    strip(&mut changed, &manager.subresource, has_status);
    let changed = changed.intersection(&applied);
    let mut conflicts = Vec::new();
    for entry in &mut list {
        let theirs = entry.set.intersection(&changed);
        if theirs.is_empty() {
            continue;
        }
        if force {
            entry.set.subtract(&theirs);
        } else {
            conflicts.extend(theirs.paths().into_iter().map(|path| (entry.conflict(), path)));
        }
    }
    if !conflicts.is_empty() {
        return Err(Status::apply_conflict(&conflicts));
    }
    for entry in &mut list {
        entry.set.retain_existing(&merged, &root);
    }
    // An apply that changes nothing leaves its time alone, so that it is no change at all.
    let time = before
        .as_ref()
        .filter(|before| before.set == applied && merged == *live)
        .map_or(now.into(), |before| before.time.clone());
    list.push(Entry { time, ..entry(manager, applied, now) });
    list.sort_by_key(|entry| entry.operation != "Apply");
    write(&mut merged, list);
    Ok(merged)
}

/// Merges by schema: what `config` says wins, item by item.
fn merge(live: Value, config: &Value, kind: &Type) -> Value {
    let schemas = Schemas::get();
    match (kind, live, config) {
        (Type::Object(index), Value::Object(mut map), Value::Object(config)) if !schemas.object(*index).atomic => {
            let object = schemas.object(*index);
            for (key, value) in config {
                let kind = object.fields.get(key).unwrap_or(&Type::Any);
                let old = map.remove(key).unwrap_or(Value::Null);
                map.insert(key.clone(), merge(old, value, kind));
            }
            Value::Object(map)
        }
        (Type::Map { values, atomic: false }, Value::Object(mut map), Value::Object(config)) => {
            for (key, value) in config {
                let old = map.remove(key).unwrap_or(Value::Null);
                map.insert(key.clone(), merge(old, value, values));
            }
            Value::Object(map)
        }
        (Type::List(list), Value::Array(items), Value::Array(config)) if list.keys.is_some() => {
            let mut items: Vec<(Option<String>, Value)> =
                items.into_iter().map(|item| (item_edge(&item, list), item)).collect();
            for item in config {
                let edge = item_edge(item, list);
                match items.iter_mut().find(|(other, _)| *other == edge) {
                    Some((_, slot)) => *slot = merge(std::mem::take(slot), item, &list.items),
                    None => items.push((edge, item.clone())),
                }
            }
            Value::Array(items.into_iter().map(|(_, item)| item).collect())
        }
        (_, _, config) => config.clone(),
    }
}
