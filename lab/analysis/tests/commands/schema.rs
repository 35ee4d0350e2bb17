//! Outputs against docs/schema/*.json. Only the keywords that those schemas use are known; another one fails the test, so
//! that nothing is promised that nobody checks.

use std::path::Path;

use serde_json::Value;

/// Checks a value against docs/schema/NAME.json.
pub fn check(name: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../docs/schema/{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let schema: Value = serde_json::from_str(&text).expect("a schema is JSON");
    let mut wrong = Vec::new();
    walk(&schema, &schema, value, "$", &mut wrong);
    assert!(wrong.is_empty(), "{name}: {wrong:#?}\n{value:#}");
}

fn walk(root: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    for (keyword, wanted) in schema.as_object().expect("a schema is an object") {
        match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" | "properties" | "additionalProperties" => {}
            "$ref" => {
                let pointer = wanted.as_str().and_then(|it| it.strip_prefix('#')).expect("a local reference");
                walk(root, root.pointer(pointer).expect("it is there"), value, at, wrong);
            }
            "type" => {
                let names = wanted.as_array().map_or_else(|| vec![wanted], |list| list.iter().collect());
                if !names.iter().any(|name| is_of(value, name.as_str().expect("a type's name"))) {
                    wrong.push(format!("{at}: {value} is no {wanted}"));
                }
            }
            "enum" => {
                if !wanted.as_array().expect("a list").contains(value) {
                    wrong.push(format!("{at}: {value} is none of {wanted}"));
                }
            }
            "required" => {
                for field in wanted.as_array().expect("a list") {
                    if value.is_object() && value.get(field.as_str().expect("a name")).is_none() {
                        wrong.push(format!("{at}: lacks {field}"));
                    }
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    walk(root, wanted, item, &format!("{at}[{index}]"), wrong);
                }
            }
            "minItems" | "maxItems" => {
                let (count, bound) = (value.as_array().map_or(0, Vec::len) as u64, wanted.as_u64().expect("a number"));
                if value.is_array() && (if keyword == "minItems" { count < bound } else { count > bound }) {
                    wrong.push(format!("{at}: {count} items"));
                }
            }
            "minimum" | "maximum" => {
                let (number, bound) = (value.as_u64(), wanted.as_u64().expect("a number"));
                if number.is_some_and(|it| if keyword == "minimum" { it < bound } else { it > bound }) {
                    wrong.push(format!("{at}: {value} is out of bounds"));
                }
            }
            "minLength" => {
                if value.as_str().is_some_and(str::is_empty) {
                    wrong.push(format!("{at}: is empty"));
                }
            }
            "minProperties" => {
                if value.as_object().is_some_and(serde_json::Map::is_empty) {
                    wrong.push(format!("{at}: is empty"));
                }
            }
            other => panic!("{at}: no check for the keyword {other}"),
        }
    }
    let Some(fields) = value.as_object() else { return };
    for (name, field) in fields {
        let at = format!("{at}.{name}");
        match (schema.pointer(&format!("/properties/{name}")), schema.get("additionalProperties")) {
            (Some(own), _) => walk(root, own, field, &at, wrong),
            (None, Some(Value::Bool(false))) => wrong.push(format!("{at}: is not described")),
            (None, Some(Value::Bool(true)) | None) => {}
            (None, Some(rest)) => walk(root, rest, field, &at, wrong),
        }
    }
}

fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("no check for the type {other}"),
    }
}
