//! From a body to an object that its schema knows: JSON, YAML or protobuf, types checked, unknown fields found.

use http::{HeaderMap, header};
use serde_json::{Map, Value};

use crate::kinds::schema::{Schemas, Type};
use crate::status::Status;

/// What to do with fields that the schema does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    /// The query parameter `fieldValidation`; Kubernetes warns by default.
    pub(crate) fn parse(value: Option<&str>) -> Result<Self, Status> {
        match value {
            Some("Ignore") => Ok(Self::Ignore),
            None | Some("" | "Warn") => Ok(Self::Warn),
            Some("Strict") => Ok(Self::Strict),
            Some(other) => Err(Status::bad_request(format!(
                "fieldValidation: Unsupported value: \"{other}\": supported values: \"Ignore\", \"Warn\", \"Strict\""
            ))),
        }
    }
}

/// The media type of a body, without parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map_or("application/json", |value| value.split(';').next().unwrap_or_default().trim())
}

/// Reads a body by its media type.
pub(crate) fn body(content_type: &str, bytes: &[u8]) -> Result<Value, Status> {
    match content_type {
        "" | "application/json" => json(bytes),
        "application/yaml" | "application/x-yaml" | "text/yaml" => yaml(bytes),
        crate::protobuf::MEDIA_TYPE => crate::protobuf::decode(bytes),
        other => Err(Status::unsupported_media_type(other)),
    }
}

/// Reads JSON.
pub(crate) fn json(bytes: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(bytes)
        .map_err(|error| Status::bad_request(format!("the object provided is unrecognized: cannot read JSON: {error}")))
}

/// Reads YAML.
pub(crate) fn yaml(bytes: &[u8]) -> Result<Value, Status> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Status::bad_request(format!("the object provided is unrecognized: cannot read YAML: {error}"))
    })?;
    serde_saphyr::from_str(text)
        .map_err(|error| Status::bad_request(format!("the object provided is unrecognized: cannot read YAML: {error}")))
}

/// Checks an object's types, removes nulls, empty optional lists and unknown fields. Returns warnings.
pub(crate) fn check(object: &mut Value, definition: &str, validation: FieldValidation) -> Result<Vec<String>, Status> {
    let schemas = Schemas::get();
    let mut walk = Walk { schemas, path: Vec::new(), unknown: Vec::new() };
    walk.value(object, &schemas.root(definition))?;
    let unknown: Vec<String> = walk.unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(unknown),
        FieldValidation::Strict if unknown.is_empty() => Ok(unknown),
        FieldValidation::Strict => {
            let kind = object["kind"].as_str().unwrap_or_default();
            Err(Status::bad_request(format!(
                "{kind} in version \"{}\" cannot be handled as a {kind}: strict decoding error: {}",
                object["apiVersion"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default(),
                unknown.join(", ")
            )))
        }
    }
}

struct Walk {
    schemas: &'static Schemas,
    path: Vec<String>,
    unknown: Vec<String>,
}

impl Walk {
    fn value(&mut self, value: &mut Value, expected: &Type) -> Result<(), Status> {
        match (expected, value) {
            (Type::Any, _) | (_, Value::Null) => Ok(()),
            (Type::Object(index), Value::Object(map)) => self.object(map, *index),
            (Type::Map { values, .. }, Value::Object(map)) => self.map(map, values),
            (Type::List(list), Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.path.push(format!("[{index}]"));
                    self.value(item, &list.items)?;
                    self.path.pop();
                }
                Ok(())
            }
            (Type::String | Type::IntOrString, Value::String(_)) | (Type::Boolean, Value::Bool(_)) => Ok(()),
            (Type::Time, Value::String(text)) => match text.parse::<jiff::Timestamp>() {
                Ok(_) => Ok(()),
                Err(_) => Err(self.mismatch(&format!("parsing time \"{text}\": not in the form of RFC 3339"))),
            },
            (Type::Number, Value::Number(_)) => Ok(()),
            // A quantity may be written as a number with a fraction.
            (Type::IntOrString, Value::Number(_)) => Ok(()),
            (Type::Integer, Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(()),
            (Type::Integer, Value::Number(number)) => {
                Err(self.mismatch(&format!("cannot unmarshal number {number} into an integer")))
            }
            (expected, value) => {
                Err(self.mismatch(&format!("cannot unmarshal {} into {}", noun(value), wanted(expected))))
            }
        }
    }

    fn object(&mut self, map: &mut Map<String, Value>, index: usize) -> Result<(), Status> {
        let object = self.schemas.object(index);
        let mut remove = Vec::new();
        for (key, value) in map.iter_mut() {
            let Some(expected) = object.fields.get(key) else {
                self.path.push(key.clone());
                self.unknown.push(self.here());
                self.path.pop();
                remove.push(key.clone());
                continue;
            };
            self.path.push(key.clone());
            self.value(value, expected)?;
            self.path.pop();
            // An empty optional list or map and an absent one are the same thing to Kubernetes.
            let empty = match (expected, &*value) {
                (_, Value::Null) => true,
                (Type::List(_), Value::Array(items)) => items.is_empty() && !object.required.contains(key),
                (Type::Map { .. }, Value::Object(map)) => map.is_empty() && !object.required.contains(key),
                _ => false,
            };
            if empty {
                remove.push(key.clone());
            }
        }
        for key in remove {
            map.remove(&key);
        }
        Ok(())
    }

    fn map(&mut self, map: &mut Map<String, Value>, values: &Type) -> Result<(), Status> {
        for (key, value) in map.iter_mut() {
            // A null in a map of strings is an empty string: Go's zero value.
            if value.is_null() && matches!(values, Type::String) {
                *value = Value::String(String::new());
            }
            self.path.push(key.clone());
            self.value(value, values)?;
            self.path.pop();
        }
        Ok(())
    }

    fn here(&self) -> String {
        let mut text = String::new();
        for part in &self.path {
            if !text.is_empty() && !part.starts_with('[') {
                text.push('.');
            }
            text.push_str(part);
        }
        text
    }

    fn mismatch(&self, what: &str) -> Status {
        Status::bad_request(format!("the object provided is unrecognized: json: {what} of field {}", self.here()))
    }
}

fn noun(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn wanted(expected: &Type) -> &'static str {
    match expected {
        Type::Object(_) | Type::Map { .. } => "an object",
        Type::List(_) => "a list",
        Type::String => "a string",
        Type::Time => "a time",
        Type::Integer => "an integer",
        Type::Number => "a number",
        Type::Boolean => "a boolean",
        Type::IntOrString => "an integer or a string",
        Type::Any => "a value",
    }
}
