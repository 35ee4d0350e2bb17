//! The documents: OpenAPI 2 as a whole, OpenAPI 3 for each group and version.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use crate::kinds::schema::Schemas;
use crate::kinds::{GROUPS, RESOURCES, Resource};

/// Patches that a kind takes.
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// OpenAPI 2.
pub(crate) fn v2() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut paths = Map::new();
        for resource in &RESOURCES {
            paths.extend(self::paths(resource, &|name, kind, description| {
                json!({"name": name, "in": "query", "type": kind, "description": description, "uniqueItems": true})
            }));
        }
        json!({
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": "v1.33.0+signalbox"},
            "paths": paths,
            "definitions": Schemas::get().definitions,
        })
    })
}

/// The index of OpenAPI 3 documents. The hash lets clients keep what they have.
pub(crate) fn v3_index() -> Value {
    let mut paths = Map::new();
    for (group, version) in [("", "v1")].iter().chain(&GROUPS) {
        let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
        let url = format!("/openapi/v3/{path}?hash={}", env!("CARGO_PKG_VERSION"));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// OpenAPI 3 of one group and version.
pub(crate) fn v3(group: &str, version: &str) -> Option<&'static Value> {
    static DOCUMENTS: OnceLock<BTreeMap<(&str, &str), Value>> = OnceLock::new();
    let documents = DOCUMENTS.get_or_init(|| {
        let groups = [("", "v1")].into_iter().chain(GROUPS);
        groups.map(|(group, version)| ((group, version), build_v3(group, version))).collect()
    });
    documents.iter().find(|((g, v), _)| *g == group && *v == version).map(|(_, document)| document)
}

fn build_v3(group: &str, version: &str) -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for resource in RESOURCES.iter().filter(|resource| resource.group == group && resource.version == version) {
        paths.extend(self::paths(resource, &|name, kind, description| {
            json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}, "description": description})
        }));
        reach(resource.definition, &mut schemas);
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.33.0+signalbox"},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// A definition and all that it refers to, with references as OpenAPI 3 has them.
fn reach(name: &str, schemas: &mut Map<String, Value>) {
    if schemas.contains_key(name) {
        return;
    }
    let mut definition = Schemas::get().definitions[name].clone();
    let mut names = Vec::new();
    relocate(&mut definition, &mut names);
    schemas.insert(name.to_owned(), definition);
    names.iter().for_each(|name| reach(name, schemas));
}

fn relocate(value: &mut Value, names: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) =
                map.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/definitions/"))
            {
                let name = name.to_owned();
                // Nothing may stand beside a reference in OpenAPI 3.0; `allOf` lets a description.
                let reference = json!({"$ref": format!("#/components/schemas/{name}")});
                map.remove("$ref");
                map.insert("allOf".into(), json!([reference]));
                names.push(name);
                return;
            }
            map.values_mut().for_each(|value| relocate(value, names));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| relocate(value, names)),
        _ => {}
    }
}

/// The paths of a kind, with what clients look for: which kind an operation is about, and the parameters it takes.
fn paths(resource: &Resource, parameter: &dyn Fn(&str, &str, &str) -> Value) -> Map<String, Value> {
    let gvk = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let dry_run = parameter("dryRun", "string", "All: do everything but keep nothing");
    let manager = parameter("fieldManager", "string", "who makes the change");
    let validation = parameter("fieldValidation", "string", "Ignore, Warn or Strict: what to do with unknown fields");
    let force = parameter("force", "boolean", "apply: take over fields that others manage");
    let operation = |action: &str, parameters: &[&Value]| {
        json!({
            "operationId": format!("{action}{}{}", resource.group.replace(['.', '-'], ""), resource.kind),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk,
            "parameters": parameters,
            "responses": {"200": {"description": "OK"}},
        })
    };
    let writes = [&dry_run, &manager, &validation];
    let mut patch = operation("patch", &[&dry_run, &manager, &validation, &force]);
    patch["consumes"] = json!(PATCHES);
    let root = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{root}{scope}/{}", resource.plural);
    let mut paths = Map::new();
    paths.insert(
        format!("{collection}/{{name}}"),
        json!({
            "get": operation("get", &[]),
            "put": operation("put", &writes),
            "patch": patch,
            "delete": operation("delete", &[&dry_run]),
        }),
    );
    paths.insert(
        collection,
        json!({
            "get": operation("list", &[]),
            "post": operation("post", &writes),
            "delete": operation("deletecollection", &[&dry_run]),
        }),
    );
    paths
}
