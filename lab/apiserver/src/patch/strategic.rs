//! Strategic merge: a merge patch that knows by which key a list's items are told apart.
//!
//! Directives: `$patch: replace|delete|merge`, `$retainKeys`, `$setElementOrder/LIST`, `$deleteFromPrimitiveList/LIST`.

use serde_json::{Map, Value};

use crate::kinds::schema::{ListType, Schemas, Type};
use crate::status::Status;

const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// Merges `patch` into `object`, whose schema is `definition`.
pub(crate) fn merge(object: &mut Value, patch: &Value, definition: &str) -> Result<(), Status> {
    let Value::Object(patch) = patch else {
        return Err(Status::bad_request("error decoding patch: a strategic merge patch is an object"));
    };
    let schemas = Schemas::get();
    merge_map(schemas, object, patch, &schemas.root(definition))
}

fn merge_map(schemas: &Schemas, target: &mut Value, patch: &Map<String, Value>, kind: &Type) -> Result<(), Status> {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    match patch.get("$patch").map(|directive| directive.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => {
            *target = Value::Object(
                patch
                    .iter()
                    .filter(|(key, _)| *key != "$patch")
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect(),
            );
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some(other) => return Err(Status::bad_request(format!("unknown patch type found: {other} in map"))),
    }
    let map = target.as_object_mut().expect("made an object above");
    if let Some(keep) = patch.get("$retainKeys") {
        let keep = keep.as_array().ok_or_else(|| Status::bad_request("$retainKeys must be a list of field names"))?;
        map.retain(|key, _| keep.iter().any(|kept| kept == key));
    }
    for (key, value) in patch {
        if key == "$patch" || key == "$retainKeys" || key.starts_with(ORDER) || key.starts_with(DELETE) {
            continue;
        }
        if value.is_null() {
            map.remove(key);
            continue;
        }
        let kind = field_type(schemas, kind, key);
        match (value, kind) {
            (Value::Object(value), kind) => {
                let slot = map.entry(key.clone()).or_insert(Value::Null);
                merge_map(schemas, slot, value, kind)?;
            }
            (Value::Array(items), Type::List(list)) if list.merge_key.is_some() => {
                let slot = map.entry(key.clone()).or_insert(Value::Null);
                merge_list(schemas, slot, items, list)?;
            }
            (value, _) => {
                map.insert(key.clone(), value.clone());
            }
        }
    }
    directives(schemas, map, patch, kind)
}

/// Deletions from lists of scalars, and orders of lists: after everything else has its place.
fn directives(
    schemas: &Schemas,
    map: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    kind: &Type,
) -> Result<(), Status> {
    for (directive, value) in patch {
        let listed = || value.as_array().ok_or_else(|| Status::bad_request(format!("{directive} must be a list")));
        if let Some(field) = directive.strip_prefix(DELETE) {
            let delete = listed()?;
            if let Some(Value::Array(items)) = map.get_mut(field) {
                items.retain(|item| !delete.contains(item));
            }
        }
        let Some(field) = directive.strip_prefix(ORDER) else { continue };
        let order = listed()?;
        let Type::List(list) = field_type(schemas, kind, field) else { continue };
        let Some(key) = list.merge_key else { continue };
        if let Some(Value::Array(items)) = map.get_mut(field) {
            arrange(items, order, key);
        }
    }
    Ok(())
}

/// Puts the items that `order` names into that order; the others keep their place before the item they stood before.
fn arrange(items: &mut Vec<Value>, order: &[Value], key: &str) {
    let rank = |item: &Value| order.iter().position(|wanted| identity(wanted, key) == identity(item, key));
    let before: Vec<Value> = std::mem::take(items);
    let place = |item: &Value| before.iter().position(|other| other == item);
    let mut named: Vec<&Value> = before.iter().filter(|item| rank(item).is_some()).collect();
    named.sort_by_key(|item| rank(item));
    let mut others = before.iter().filter(|item| rank(item).is_none()).peekable();
    let mut arranged = Vec::with_capacity(before.len());
    for item in named {
        while let Some(other) = others.next_if(|other| place(other) < place(item)) {
            arranged.push(other.clone());
        }
        arranged.push(item.clone());
    }
    arranged.extend(others.cloned());
    *items = arranged;
}

fn merge_list(schemas: &Schemas, target: &mut Value, patch: &[Value], list: &ListType) -> Result<(), Status> {
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let items = target.as_array_mut().expect("made a list above");
    let key = list.merge_key.expect("called for lists that merge");
    if key.is_empty() {
        for item in patch {
            if !items.contains(item) {
                items.push(item.clone());
            }
        }
        return Ok(());
    }
    if patch.iter().any(|item| item["$patch"] == "replace") {
        *items = patch.iter().filter(|item| item["$patch"] != "replace").cloned().collect();
        return Ok(());
    }
    for item in patch {
        let Value::Object(fields) = item else {
            return Err(Status::bad_request(format!("a list that merges by \"{key}\" holds objects only")));
        };
        let Some(id) = fields.get(key) else {
            return Err(Status::bad_request(format!("map: {item} does not contain declared merge key: {key}")));
        };
        if item["$patch"] == "delete" {
            items.retain(|other| other.get(key) != Some(id));
            continue;
        }
        match items.iter_mut().find(|other| other.get(key) == Some(id)) {
            Some(slot) => merge_map(schemas, slot, fields, &list.items)?,
            None => {
                let mut slot = Value::Null;
                merge_map(schemas, &mut slot, fields, &list.items)?;
                items.push(slot);
            }
        }
    }
    Ok(())
}

fn identity<'a>(item: &'a Value, key: &str) -> &'a Value {
    if key.is_empty() { item } else { &item[key] }
}

fn field_type<'a>(schemas: &'a Schemas, kind: &'a Type, field: &str) -> &'a Type {
    match kind {
        Type::Object(index) => schemas.object(*index).fields.get(field).unwrap_or(&Type::Any),
        Type::Map { values, .. } => values,
        _ => &Type::Any,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(object: Value, patch: Value, expected: Value) {
        let mut merged = json!({"spec": object});
        merge(&mut merged, &json!({"spec": patch.clone()}), "io.k8s.api.core.v1.Pod").expect("merges");
        assert_eq!(merged["spec"], expected, "{patch}");
    }

    #[test]
    fn cases() {
        let two = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]});
        check(
            two.clone(),
            json!({"containers": [{"name": "b", "image": "2"}]}),
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}),
        );
        check(
            two.clone(),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [{"name": "b", "image": "1"}]}),
        );
        check(
            two.clone(),
            json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}),
            json!({"containers": [{"name": "c"}]}),
        );
        check(
            two.clone(),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a", "image": null}]}),
            json!({"containers": [{"name": "b", "image": "1"}, {"name": "a"}]}),
        );
        check(
            two,
            json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}], "containers": [{"name": "c"}]}),
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "c"}, {"name": "b", "image": "1"}]}),
        );
        check(json!({"nodeName": "x", "hostname": "y"}), json!({"nodeName": null}), json!({"hostname": "y"}));
        check(
            json!({"nodeSelector": {"a": "1"}}),
            json!({"nodeSelector": {"b": "2"}}),
            json!({"nodeSelector": {"a": "1", "b": "2"}}),
        );
        check(
            json!({"nodeSelector": {"a": "1"}}),
            json!({"nodeSelector": {"$patch": "replace", "b": "2"}}),
            json!({"nodeSelector": {"b": "2"}}),
        );
        check(
            json!({"tolerations": [{"key": "a"}]}),
            json!({"tolerations": [{"key": "b"}]}),
            json!({"tolerations": [{"key": "b"}]}),
        );
        check(
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/"}}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
        );
    }

    #[test]
    fn lists_of_scalars() {
        let mut object = json!({"metadata": {"finalizers": ["a", "b"]}});
        let patch = json!({"metadata": {
            "$deleteFromPrimitiveList/finalizers": ["a"],
            "$setElementOrder/finalizers": ["c", "b"],
            "finalizers": ["c"],
        }});
        merge(&mut object, &patch, "io.k8s.api.core.v1.Pod").expect("merges");
        assert_eq!(object["metadata"]["finalizers"], json!(["c", "b"]));
    }

    #[test]
    fn errors() {
        for patch in
            [json!([]), json!({"spec": {"containers": [{"image": "x"}]}}), json!({"spec": {"$patch": "mangle"}})]
        {
            let mut object = json!({"spec": {}});
            assert!(merge(&mut object, &patch, "io.k8s.api.core.v1.Pod").is_err(), "{patch}");
        }
    }
}
