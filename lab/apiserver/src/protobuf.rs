//! Bodies in Kubernetes' protobuf encoding: what `kubectl create namespace|deployment|service|configmap|…` sends since 1.32.
//!
//! Answers are always JSON. The field numbers are those of k8s.io/api's `generated.proto`, for the kinds and fields that such
//! commands fill in. A field that is not listed is refused, never skipped: the client can send the same object as JSON.

use serde_json::{Map, Value, json};

use crate::status::Status;

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";

/// How a field is read.
#[derive(Clone, Copy)]
enum Field {
    Text,
    Bytes,
    Integer,
    Bool,
    Texts,
    /// Map of texts.
    Map,
    /// Map of texts to bytes; base64 in JSON.
    ByteMap,
    IntOrString,
    One(&'static [Entry]),
    Many(&'static [Entry]),
    /// The server's own to fill in.
    Ignored,
}

type Entry = (u64, &'static str, Field);

use Field::{Bool, ByteMap, Bytes, Ignored, IntOrString as Either, Integer, Many, Map as TextMap, One, Text, Texts};

const METADATA: &[Entry] = &[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (4, "selfLink", Ignored),
    (5, "uid", Text),
    (6, "resourceVersion", Text),
    (7, "generation", Ignored),
    (8, "creationTimestamp", Ignored),
    (11, "labels", TextMap),
    (12, "annotations", TextMap),
    (14, "finalizers", Texts),
];
const REFERENCE: &[Entry] = &[(1, "name", Text)];
const SELECTOR: &[Entry] = &[(1, "matchLabels", TextMap), (2, "matchExpressions", Many(REQUIREMENT))];
const REQUIREMENT: &[Entry] = &[(1, "key", Text), (2, "operator", Text), (3, "values", Texts)];
const CONTAINER_PORT: &[Entry] = &[
    (1, "name", Text),
    (2, "hostPort", Integer),
    (3, "containerPort", Integer),
    (4, "protocol", Text),
    (5, "hostIP", Text),
];
const VARIABLE: &[Entry] = &[(1, "name", Text), (2, "value", Text)];
const CONTAINER: &[Entry] = &[
    (1, "name", Text),
    (2, "image", Text),
    (3, "command", Texts),
    (4, "args", Texts),
    (5, "workingDir", Text),
    (6, "ports", Many(CONTAINER_PORT)),
    (7, "env", Many(VARIABLE)),
    (8, "resources", One(&[])),
    (13, "terminationMessagePath", Text),
    (14, "imagePullPolicy", Text),
    (16, "stdin", Bool),
    (17, "stdinOnce", Bool),
    (18, "tty", Bool),
    (20, "terminationMessagePolicy", Text),
];
const POD_SPEC: &[Entry] = &[
    (2, "containers", Many(CONTAINER)),
    (3, "restartPolicy", Text),
    (4, "terminationGracePeriodSeconds", Integer),
    (5, "activeDeadlineSeconds", Integer),
    (6, "dnsPolicy", Text),
    (7, "nodeSelector", TextMap),
    (8, "serviceAccountName", Text),
    (9, "serviceAccount", Text),
    (10, "nodeName", Text),
    (11, "hostNetwork", Bool),
    (12, "hostPID", Bool),
    (13, "hostIPC", Bool),
    (15, "imagePullSecrets", Many(REFERENCE)),
    (16, "hostname", Text),
    (17, "subdomain", Text),
    (19, "schedulerName", Text),
    (20, "initContainers", Many(CONTAINER)),
    (24, "priorityClassName", Text),
];
const TEMPLATE: &[Entry] = &[(1, "metadata", One(METADATA)), (2, "spec", One(POD_SPEC))];
const ROLLING: &[Entry] = &[(1, "maxUnavailable", Either), (2, "maxSurge", Either)];
const STRATEGY: &[Entry] = &[(1, "type", Text), (2, "rollingUpdate", One(ROLLING))];
const DEPLOYMENT_SPEC: &[Entry] = &[
    (1, "replicas", Integer),
    (2, "selector", One(SELECTOR)),
    (3, "template", One(TEMPLATE)),
    (4, "strategy", One(STRATEGY)),
    (5, "minReadySeconds", Integer),
    (6, "revisionHistoryLimit", Integer),
    (7, "paused", Bool),
    (9, "progressDeadlineSeconds", Integer),
];
const SERVICE_PORT: &[Entry] = &[
    (1, "name", Text),
    (2, "protocol", Text),
    (3, "port", Integer),
    (4, "targetPort", Either),
    (5, "nodePort", Integer),
    (6, "appProtocol", Text),
];
const SERVICE_SPEC: &[Entry] = &[
    (1, "ports", Many(SERVICE_PORT)),
    (2, "selector", TextMap),
    (3, "clusterIP", Text),
    (4, "type", Text),
    (5, "externalIPs", Texts),
    (7, "sessionAffinity", Text),
    (8, "loadBalancerIP", Text),
    (9, "loadBalancerSourceRanges", Texts),
    (10, "externalName", Text),
    (11, "externalTrafficPolicy", Text),
    (12, "healthCheckNodePort", Integer),
    (13, "publishNotReadyAddresses", Bool),
];
const NAMESPACE: &[Entry] =
    &[(1, "metadata", One(METADATA)), (2, "spec", One(&[(1, "finalizers", Texts)])), (3, "status", Ignored)];
const SERVICE_ACCOUNT: &[Entry] = &[
    (1, "metadata", One(METADATA)),
    (3, "imagePullSecrets", Many(REFERENCE)),
    (4, "automountServiceAccountToken", Bool),
];
const CONFIG_MAP: &[Entry] =
    &[(1, "metadata", One(METADATA)), (2, "data", TextMap), (3, "binaryData", ByteMap), (4, "immutable", Bool)];
const SECRET: &[Entry] = &[
    (1, "metadata", One(METADATA)),
    (2, "data", ByteMap),
    (3, "type", Text),
    (4, "stringData", TextMap),
    (5, "immutable", Bool),
];
const SERVICE: &[Entry] = &[(1, "metadata", One(METADATA)), (2, "spec", One(SERVICE_SPEC)), (3, "status", Ignored)];
const DEPLOYMENT: &[Entry] =
    &[(1, "metadata", One(METADATA)), (2, "spec", One(DEPLOYMENT_SPEC)), (3, "status", Ignored)];
/// `runtime.Unknown`, which wraps every object.
const UNKNOWN: &[Entry] = &[
    (1, "typeMeta", One(&[(1, "apiVersion", Text), (2, "kind", Text)])),
    (2, "raw", Bytes),
    (3, "contentEncoding", Text),
    (4, "contentType", Text),
];

/// Reads an object.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value, Status> {
    let refuse = || Status::unsupported_media_type(MEDIA_TYPE);
    let unknown = message(bytes.strip_prefix(MAGIC).ok_or_else(refuse)?, UNKNOWN).ok_or_else(refuse)?;
    let kind = &unknown["typeMeta"];
    let fields = match (kind["apiVersion"].as_str(), kind["kind"].as_str()) {
        (Some("v1"), Some("Namespace")) => NAMESPACE,
        (Some("v1"), Some("ServiceAccount")) => SERVICE_ACCOUNT,
        (Some("v1"), Some("ConfigMap")) => CONFIG_MAP,
        (Some("v1"), Some("Secret")) => SECRET,
        (Some("v1"), Some("Service")) => SERVICE,
        (Some("apps/v1"), Some("Deployment")) => DEPLOYMENT,
        _ => return Err(refuse()),
    };
    let raw = unknown["raw"].as_str().unwrap_or_default();
    let raw = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, raw).map_err(|_| refuse())?;
    let mut object = message(&raw, fields).ok_or_else(refuse)?;
    object["apiVersion"] = kind["apiVersion"].clone();
    object["kind"] = kind["kind"].clone();
    Ok(object)
}

/// One message. `None`: it is broken, or holds a field that is not listed.
fn message(mut bytes: &[u8], fields: &[Entry]) -> Option<Value> {
    let mut map = Map::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let (number, data) = match key & 7 {
            0 => (varint(&mut bytes)?, &[][..]),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (data, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                (0, data)
            }
            _ => return None,
        };
        let Some((_, name, field)) = fields.iter().find(|(tag, _, _)| *tag == key >> 3) else {
            // Go writes the zero values of plain fields, too; those say nothing.
            if number == 0 && data.is_empty() {
                continue;
            }
            return None;
        };
        put(&mut map, name, *field, number, data)?;
    }
    Some(Value::Object(map))
}

fn put(map: &mut Map<String, Value>, name: &str, field: Field, number: u64, data: &[u8]) -> Option<()> {
    let text = |data: &[u8]| std::str::from_utf8(data).ok().map(str::to_owned);
    let encoded = |data: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, data);
    let value = match field {
        Field::Ignored => return Some(()),
        // Zero values and absent ones are the same, except for a number of replicas, which is a pointer in Go.
        Field::Text if data.is_empty() => return Some(()),
        Field::Integer if number == 0 && name != "replicas" => return Some(()),
        Field::Bool if number == 0 => return Some(()),
        Field::Text => text(data)?.into(),
        Field::Bytes => encoded(data).into(),
        Field::Integer => number.cast_signed().into(),
        Field::Bool => true.into(),
        Field::IntOrString => {
            let value =
                message(data, &[(1, "type", Field::Integer), (2, "number", Field::Integer), (3, "text", Field::Text)])?;
            match value["type"].as_i64() {
                None if value["number"].is_null() => return Some(()),
                None => value["number"].clone(),
                Some(_) => value["text"].clone(),
            }
        }
        Field::One(fields) => message(data, fields)?,
        Field::Texts => return push(map, name, text(data)?.into()),
        Field::Many(fields) => return push(map, name, message(data, fields)?),
        Field::Map | Field::ByteMap => {
            let kind = if matches!(field, Field::Map) { Field::Text } else { Field::Bytes };
            let mut entry = message(data, &[(1, "key", Field::Text), (2, "value", kind)])?;
            let key = entry["key"].as_str().unwrap_or_default().to_owned();
            let value = match entry["value"].take() {
                Value::Null => json!(""),
                value => value,
            };
            map.entry(name).or_insert_with(|| json!({})).as_object_mut()?.insert(key, value);
            return Some(());
        }
    };
    map.insert(name.to_owned(), value);
    Some(())
}

fn push(map: &mut Map<String, Value>, name: &str, value: Value) -> Option<()> {
    map.entry(name).or_insert_with(|| json!([])).as_array_mut()?.push(value);
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(kind: &str, raw: &[u8]) -> Vec<u8> {
        let field = |tag: u8, data: &[u8]| [&[tag << 3 | 2, u8::try_from(data.len()).expect("short")], data].concat();
        let meta = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
        [MAGIC, &field(1, &meta), &field(2, raw)].concat()
    }

    #[test]
    fn namespaces_are_read_and_what_is_unknown_is_refused() {
        let raw = b"\x0a\x09\x0a\x01a\x12\x00\x42\x00\x38\x00\x12\x00\x1a\x00";
        let namespace = decode(&wrapped("Namespace", raw)).expect("a namespace");
        assert_eq!(namespace, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}, "spec": {}}));
        for bad in [
            wrapped("Node", raw),
            wrapped("Namespace", b"\x7a\x01x"),
            wrapped("Namespace", b"\x0a\x7f"),
            wrapped("Namespace", b"\x0a"),
            b"k8s".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(decode(&bad).map_err(|status| status.reason), Err("UnsupportedMediaType"));
        }
    }
}
