//! OpenAPI 2 in the protobuf encoding of gnostic (openapiv2/OpenAPIv2.proto), as far as Kubernetes' clients read it.

use std::sync::OnceLock;

use prost::Message;
use serde_json::{Map, Value};

use super::document;

#[derive(Clone, PartialEq, Message)]
struct Document {
    #[prost(string, tag = "1")]
    swagger: String,
    #[prost(message, optional, tag = "2")]
    info: Option<Info>,
    #[prost(message, optional, tag = "8")]
    paths: Option<Paths>,
    #[prost(message, optional, tag = "9")]
    definitions: Option<Definitions>,
}

#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(string, tag = "1")]
    title: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Paths {
    #[prost(message, repeated, tag = "2")]
    path: Vec<NamedPathItem>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedPathItem {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<PathItem>,
}

#[derive(Clone, PartialEq, Message)]
struct PathItem {
    #[prost(message, optional, tag = "2")]
    get: Option<Operation>,
    #[prost(message, optional, tag = "3")]
    put: Option<Operation>,
    #[prost(message, optional, tag = "4")]
    post: Option<Operation>,
    #[prost(message, optional, tag = "5")]
    delete: Option<Operation>,
    #[prost(message, optional, tag = "8")]
    patch: Option<Operation>,
}

#[derive(Clone, PartialEq, Message)]
struct Operation {
    #[prost(string, tag = "5")]
    operation_id: String,
    #[prost(string, repeated, tag = "7")]
    consumes: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    parameters: Vec<ParametersItem>,
    #[prost(message, repeated, tag = "13")]
    vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
struct ParametersItem {
    #[prost(message, optional, tag = "1")]
    parameter: Option<Parameter>,
}

#[derive(Clone, PartialEq, Message)]
struct Parameter {
    #[prost(message, optional, tag = "2")]
    non_body: Option<NonBodyParameter>,
}

#[derive(Clone, PartialEq, Message)]
struct NonBodyParameter {
    #[prost(message, optional, tag = "3")]
    query: Option<QueryParameter>,
}

#[derive(Clone, PartialEq, Message)]
struct QueryParameter {
    #[prost(string, tag = "2")]
    location: String,
    #[prost(string, tag = "3")]
    description: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "6")]
    kind: String,
}

#[derive(Clone, PartialEq, Message)]
struct Definitions {
    #[prost(message, repeated, tag = "1")]
    additional_properties: Vec<NamedSchema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedSchema {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct Schema {
    #[prost(string, tag = "1")]
    reference: String,
    #[prost(string, tag = "2")]
    format: String,
    #[prost(string, tag = "4")]
    description: String,
    #[prost(string, repeated, tag = "19")]
    required: Vec<String>,
    #[prost(message, optional, boxed, tag = "21")]
    additional_properties: Option<Box<AdditionalProperties>>,
    #[prost(message, optional, tag = "22")]
    kind: Option<Kind>,
    #[prost(message, optional, tag = "23")]
    items: Option<Items>,
    #[prost(message, optional, tag = "25")]
    properties: Option<Definitions>,
    #[prost(message, repeated, tag = "31")]
    vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
struct AdditionalProperties {
    #[prost(message, optional, boxed, tag = "1")]
    schema: Option<Box<Schema>>,
}

#[derive(Clone, PartialEq, Message)]
struct Kind {
    #[prost(string, repeated, tag = "1")]
    value: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Items {
    #[prost(message, repeated, tag = "1")]
    schema: Vec<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedAny {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "2")]
    yaml: String,
}

/// The document, encoded once.
pub(crate) fn encoded() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| convert(document::v2()).encode_to_vec())
}

fn convert(document: &Value) -> Document {
    Document {
        swagger: text(document, "swagger"),
        info: Some(Info { title: text(&document["info"], "title"), version: text(&document["info"], "version") }),
        paths: Some(Paths {
            path: entries(&document["paths"])
                .map(|(name, item)| NamedPathItem { name: name.clone(), value: Some(path(item)) })
                .collect(),
        }),
        definitions: Some(named(&document["definitions"])),
    }
}

fn path(item: &Value) -> PathItem {
    let operation = |method: &str| item.get(method).map(self::operation);
    PathItem {
        get: operation("get"),
        put: operation("put"),
        post: operation("post"),
        delete: operation("delete"),
        patch: operation("patch"),
    }
}

fn operation(operation: &Value) -> Operation {
    Operation {
        operation_id: text(operation, "operationId"),
        consumes: texts(&operation["consumes"]),
        parameters: crate::object::items(operation, "parameters")
            .iter()
            .map(|parameter| {
                let query = QueryParameter {
                    location: "query".into(),
                    description: text(parameter, "description"),
                    name: text(parameter, "name"),
                    kind: text(parameter, "type"),
                };
                let non_body = Some(NonBodyParameter { query: Some(query) });
                ParametersItem { parameter: Some(Parameter { non_body }) }
            })
            .collect(),
        vendor_extension: extensions(operation),
    }
}

fn named(schemas: &Value) -> Definitions {
    let list = entries(schemas).map(|(name, value)| NamedSchema { name: name.clone(), value: Some(schema(value)) });
    Definitions { additional_properties: list.collect() }
}

fn schema(value: &Value) -> Schema {
    Schema {
        reference: text(value, "$ref"),
        format: text(value, "format"),
        description: text(value, "description"),
        required: texts(&value["required"]),
        additional_properties: value
            .get("additionalProperties")
            .filter(|inner| inner.is_object())
            .map(|inner| Box::new(AdditionalProperties { schema: Some(Box::new(schema(inner))) })),
        kind: value["type"].as_str().map(|kind| Kind { value: vec![kind.to_owned()] }),
        items: value.get("items").map(|items| Items { schema: vec![schema(items)] }),
        properties: value.get("properties").map(named),
        vendor_extension: extensions(value),
    }
}

fn extensions(value: &Value) -> Vec<NamedAny> {
    entries(value)
        .filter(|(name, _)| name.starts_with("x-"))
        // JSON is YAML.
        .map(|(name, value)| NamedAny { name: name.clone(), value: Some(Any { yaml: value.to_string() }) })
        .collect()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}
