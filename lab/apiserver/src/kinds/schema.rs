//! Schemas: generated once from `k8s-openapi`'s types, completed by [`super::lists`], and compiled into a tree that decoding,
//! strategic merge and server-side apply walk.

use std::collections::HashMap;
use std::sync::OnceLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::lists;

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Type {
    /// A struct, by its definition.
    Object(usize),
    /// A map with any keys.
    Map {
        values: Box<Type>,
        /// Server-side apply owns it as a whole.
        atomic: bool,
    },
    /// A list.
    List(Box<ListType>),
    String,
    Time,
    Integer,
    Number,
    Boolean,
    IntOrString,
    /// Anything: the schema does not say.
    Any,
}

/// What a list holds and how it merges.
#[derive(Debug)]
pub(crate) struct ListType {
    pub(crate) items: Type,
    /// Strategic merge: `None` replaces, `Some("")` merges scalars, otherwise the key that identifies items.
    pub(crate) merge_key: Option<&'static str>,
    /// Server-side apply: `None` is atomic, empty is a set, otherwise the keys of items.
    pub(crate) keys: Option<&'static [&'static str]>,
}

/// A struct.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) fields: HashMap<String, Type>,
    pub(crate) required: Vec<String>,
    pub(crate) atomic: bool,
}

/// All schemas.
pub(crate) struct Schemas {
    /// Raw definitions with Kubernetes' extensions, references below `#/definitions/`.
    pub(crate) definitions: Map<String, Value>,
    objects: Vec<Object>,
    by_name: HashMap<String, usize>,
}

impl Schemas {
    /// The schemas of this process.
    pub(crate) fn get() -> &'static Self {
        static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
        SCHEMAS.get_or_init(Self::generate)
    }

    /// A struct by its index in a [`Type::Object`].
    pub(crate) fn object(&self, index: usize) -> &Object {
        &self.objects[index]
    }

    /// The type of a definition.
    pub(crate) fn root(&self, definition: &str) -> Type {
        self.by_name.get(definition).map_or(Type::Any, |index| Type::Object(*index))
    }

    fn generate() -> Self {
        use k8s_openapi::api::{apps, autoscaling, coordination, core, discovery, networking};
        use k8s_openapi::apimachinery::pkg::apis::meta;
        let mut generator = SchemaSettings::draft07().into_generator();
        macro_rules! add {
            ($($kind:ty),* $(,)?) => { $( let _ = generator.subschema_for::<$kind>(); )* };
        }
        add!(
            core::v1::Namespace,
            core::v1::Node,
            core::v1::Pod,
            core::v1::Service,
            core::v1::ServiceAccount,
            core::v1::Event,
            core::v1::ConfigMap,
            core::v1::Secret,
            core::v1::Endpoints,
            apps::v1::Deployment,
            apps::v1::ReplicaSet,
            networking::v1::NetworkPolicy,
            coordination::v1::Lease,
            discovery::v1::EndpointSlice,
            autoscaling::v1::Scale,
            meta::v1::DeleteOptions,
            meta::v1::Status,
            super::external_host::ExternalHost,
        );
        let mut definitions = generator.take_definitions(true).into_iter().collect::<Map<_, _>>();
        for (name, definition) in &mut definitions {
            complete(name, definition);
        }
        let names: Vec<String> = definitions
            .iter()
            .filter(|(_, definition)| definition.get("properties").is_some())
            .map(|(name, _)| name.clone())
            .collect();
        let by_name: HashMap<String, usize> = names.iter().cloned().zip(0..).collect();
        let objects = names
            .iter()
            .map(|name| {
                let definition = &definitions[name];
                let short = lists::short_name(name);
                let fields = definition["properties"]
                    .as_object()
                    .expect("properties are an object")
                    .iter()
                    .map(|(field, schema)| (field.clone(), compile(short, field, schema, &definitions, &by_name)))
                    .collect();
                let required = definition["required"].as_array().map_or_else(Vec::new, |list| {
                    list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
                });
                Object { fields, required, atomic: lists::ATOMIC_STRUCTS.contains(&short) }
            })
            .collect();
        Self { definitions, objects, by_name }
    }
}

fn compile(
    definition: &str,
    field: &str,
    schema: &Value,
    definitions: &Map<String, Value>,
    by_name: &HashMap<String, usize>,
) -> Type {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/definitions/")) {
        return match by_name.get(name) {
            Some(index) => Type::Object(*index),
            None => compile(definition, field, &definitions[name], definitions, by_name),
        };
    }
    if schema["format"] == "int-or-string" {
        return Type::IntOrString;
    }
    match schema["type"].as_str() {
        Some("object") => match schema.get("additionalProperties") {
            Some(values @ Value::Object(_)) => Type::Map {
                values: Box::new(compile(definition, field, values, definitions, by_name)),
                atomic: lists::ATOMIC_MAPS.contains(&(definition, field)),
            },
            _ => Type::Any,
        },
        Some("array") => {
            let rule = lists::list_rule(definition, field);
            Type::List(Box::new(ListType {
                items: compile(definition, field, &schema["items"], definitions, by_name),
                merge_key: rule.and_then(|rule| rule.merge_key),
                keys: rule.and_then(|rule| rule.keys),
            }))
        }
        Some("string") if schema["format"] == "date-time" => Type::Time,
        Some("string") => Type::String,
        Some("integer") => Type::Integer,
        Some("number") => Type::Number,
        Some("boolean") => Type::Boolean,
        _ => Type::Any,
    }
}

/// Puts what the generator cannot know into a definition: Kubernetes' extensions, and OpenAPI 2's way to say things.
fn complete(name: &str, definition: &mut Value) {
    let short = lists::short_name(name);
    plain(definition);
    if lists::ATOMIC_STRUCTS.contains(&short) {
        definition["x-kubernetes-map-type"] = "atomic".into();
    }
    if let Some(resource) = super::RESOURCES.iter().find(|resource| resource.definition == name) {
        definition["x-kubernetes-group-version-kind"] =
            json!([{"group": resource.group, "version": resource.version, "kind": resource.kind}]);
    }
    if name.ends_with("autoscaling.v1.Scale") {
        definition["x-kubernetes-group-version-kind"] =
            json!([{"group": "autoscaling", "version": "v1", "kind": "Scale"}]);
    }
    let Some(properties) = definition.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (field, schema) in properties {
        if lists::ATOMIC_MAPS.contains(&(short, field)) {
            schema["x-kubernetes-map-type"] = "atomic".into();
        }
        if lists::RETAIN_KEYS.contains(&(short, field.as_str())) {
            schema["x-kubernetes-patch-strategy"] = "retainKeys".into();
        }
        if schema["type"] != "array" {
            continue;
        }
        let rule = lists::list_rule(name, field);
        schema["x-kubernetes-list-type"] = match rule.and_then(|rule| rule.keys) {
            None => "atomic",
            Some([]) => "set",
            Some(_) => "map",
        }
        .into();
        let Some(rule) = rule else { continue };
        if let Some(keys @ [_, ..]) = rule.keys {
            schema["x-kubernetes-list-map-keys"] = json!(keys);
        }
        if let Some(key) = rule.merge_key {
            schema["x-kubernetes-patch-strategy"] = if rule.retain_keys { "merge,retainKeys" } else { "merge" }.into();
            if !key.is_empty() {
                schema["x-kubernetes-patch-merge-key"] = key.into();
            }
        }
    }
}

/// Rewrites JSON Schema to the subset that OpenAPI 2 and Kubernetes' clients know.
fn plain(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            for key in ["$schema", "title", "default"] {
                // `title` and `default` may also be names of properties; those hold schemas.
                if map.get(key).is_some_and(|value| !value.is_object()) {
                    map.remove(key);
                }
            }
            if map.remove("x-kubernetes-int-or-string").is_some() {
                map.insert("type".into(), "string".into());
                map.insert("format".into(), "int-or-string".into());
            }
            // An optional field of a derived schema: the type, or null.
            if let Some(Value::Array(types)) = map.get("type") {
                let kind = types.iter().find(|kind| *kind != "null").cloned();
                map.insert("type".into(), kind.unwrap_or(Value::Null));
            }
            for key in ["anyOf", "allOf"] {
                if let Some(Value::Array(variants)) = map.get(key) {
                    let chosen = variants.iter().find(|variant| variant["type"] != "null").cloned();
                    map.remove(key);
                    if let Some(Value::Object(chosen)) = chosen {
                        map.extend(chosen);
                    }
                }
            }
            map.values_mut().for_each(plain);
        }
        Value::Array(list) => list.iter_mut().for_each(plain),
        _ => {}
    }
}
