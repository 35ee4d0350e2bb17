//! What a client wants to get: JSON or YAML, whole objects, tables or metadata.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::kinds::Resource;
use crate::status::Status;
use crate::table::{self, Headers, Include};

/// The answer's encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Json,
    Yaml,
}

/// The answer's shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Whole,
    Table { version: String, include: Include },
    Metadata { version: String },
}

/// What was agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    encoding: Encoding,
    pub(crate) shape: Shape,
}

impl Accepted {
    /// JSON, whole objects.
    pub(crate) fn json() -> Self {
        Self { encoding: Encoding::Json, shape: Shape::Whole }
    }

    /// Takes the first form that a client accepts and this server can give.
    pub(crate) fn parse(headers: &HeaderMap, include: Option<&str>) -> Result<Self, Status> {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
        accept.split(',').find_map(|range| Self::of(range, include)).ok_or_else(Status::not_acceptable)
    }

    fn of(range: &str, include: Option<&str>) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        let encoding = match parts.next()? {
            "application/json" | "*/*" | "application/*" | "" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            _ => return None,
        };
        let (mut kind, mut version, mut group) = ("", "", "");
        for part in parts {
            match part.split_once('=') {
                Some(("as", value)) => kind = value,
                Some(("v", value)) => version = value,
                Some(("g", value)) => group = value,
                _ => {}
            }
        }
        let version = match (kind, group, version) {
            ("", _, _) => return Some(Self { encoding, shape: Shape::Whole }),
            (_, "meta.k8s.io", "v1" | "v1beta1") => version.to_owned(),
            _ => return None,
        };
        let shape = match kind {
            "Table" => Shape::Table {
                version,
                include: match include {
                    Some("None") => Include::None,
                    Some("Object") => Include::Object,
                    _ => Include::Metadata,
                },
            },
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Shape::Metadata { version },
            _ => return None,
        };
        Some(Self { encoding, shape })
    }

    /// One object in the shape agreed on.
    pub(crate) fn one(&self, resource: &Resource, object: &Value, headers: Headers) -> Value {
        match &self.shape {
            Shape::Whole => object.clone(),
            Shape::Metadata { version } => table::metadata(object, version),
            Shape::Table { version, include } => {
                let mut table = table::table(resource, &[object], *include, version, headers);
                table["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
                table
            }
        }
    }

    /// A list in the shape agreed on.
    pub(crate) fn list(&self, resource: &Resource, objects: &[&Value], metadata: Value) -> Value {
        match &self.shape {
            Shape::Whole => json!({
                "kind": format!("{}List", resource.kind),
                "apiVersion": resource.api_version(),
                "metadata": metadata,
                "items": objects,
            }),
            Shape::Metadata { version } => json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": metadata,
                "items": objects.iter().map(|object| table::metadata(object, version)).collect::<Vec<_>>(),
            }),
            Shape::Table { version, include } => {
                let mut table = table::table(resource, objects, *include, version, Headers::Shown);
                table["metadata"] = metadata;
                table
            }
        }
    }

    /// An answer with this body.
    pub(crate) fn respond(&self, code: StatusCode, body: &Value) -> Response {
        let (kind, bytes) = match self.encoding {
            Encoding::Json => ("application/json", serde_json::to_vec(body).expect("a JSON value has only text keys")),
            Encoding::Yaml => {
                let text = serde_saphyr::to_string(body).expect("a JSON value is valid YAML");
                ("application/yaml", text.into_bytes())
            }
        };
        (
            code,
            [
                (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private")),
            ],
            bytes,
        )
            .into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept() {
        let table = Shape::Table { version: "v1".into(), include: Include::Metadata };
        for (accept, expected) in [
            ("application/json", Some((Encoding::Json, Shape::Whole))),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Some((Encoding::Json, table)),
            ),
            ("application/vnd.kubernetes.protobuf, application/json", Some((Encoding::Json, Shape::Whole))),
            ("application/vnd.kubernetes.protobuf,*/*", Some((Encoding::Json, Shape::Whole))),
            ("application/vnd.kubernetes.protobuf", None),
            ("application/yaml", Some((Encoding::Yaml, Shape::Whole))),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
                Some((Encoding::Json, Shape::Whole)),
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).expect("a header"));
            let found = Accepted::parse(&headers, None).ok().map(|accepted| (accepted.encoding, accepted.shape));
            assert_eq!(found, expected, "{accept}");
        }
    }
}
