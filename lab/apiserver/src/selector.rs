//! Label and field selectors, as clients write them into a query.

use serde_json::Value;

use crate::kinds::Resource;
use crate::status::Status;

/// What a list or a watch is limited to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Greater(i64),
    Less(i64),
}

#[derive(Clone, Debug, PartialEq)]
struct FieldRequirement {
    path: String,
    value: String,
    equal: bool,
}

impl Selector {
    /// Reads the parameters `labelSelector` and `fieldSelector`.
    pub(crate) fn parse(resource: &Resource, labels: Option<&str>, fields: Option<&str>) -> Result<Self, Status> {
        Ok(Self {
            labels: labels.map_or(Ok(Vec::new()), parse_labels)?,
            fields: fields.map_or(Ok(Vec::new()), |text| parse_fields(resource, text))?,
        })
    }

    /// Whether an object is meant.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|requirement| requirement.matches(labels[&requirement.key].as_str()))
            && self
                .fields
                .iter()
                .all(|requirement| (field(object, &requirement.path) == requirement.value) == requirement.equal)
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        match (&self.operator, value) {
            (Operator::In(values), Some(value)) => values.iter().any(|one| one == value),
            (Operator::NotIn(values), Some(value)) => values.iter().all(|one| one != value),
            (Operator::NotIn(_) | Operator::DoesNotExist, None) | (Operator::Exists, Some(_)) => true,
            (Operator::Greater(bound), Some(value)) => value.parse::<i64>().is_ok_and(|value| value > *bound),
            (Operator::Less(bound), Some(value)) => value.parse::<i64>().is_ok_and(|value| value < *bound),
            (Operator::In(_) | Operator::Exists | Operator::Greater(_) | Operator::Less(_), None)
            | (Operator::DoesNotExist, Some(_)) => false,
        }
    }
}

/// The text of a field; empty where it is absent, as Kubernetes has it.
fn field(object: &Value, path: &str) -> String {
    let mut value = object;
    for part in path.split('.') {
        value = &value[part];
    }
    match value {
        Value::String(text) => text.clone(),
        Value::Null => match path {
            "spec.unschedulable" => "false".into(),
            "spec.hostNetwork" => "false".into(),
            _ => String::new(),
        },
        other => other.to_string(),
    }
}

/// Fields by which objects of a kind can be selected, besides name and namespace.
fn selectable(resource: &Resource) -> &'static [&'static str] {
    match resource.kind {
        "Pod" => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        "Node" => &["spec.unschedulable"],
        "Namespace" => &["status.phase"],
        "Service" => &["spec.clusterIP", "spec.type"],
        "Secret" => &["type"],
        "ReplicaSet" => &["status.replicas"],
        "Event" => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        _ => &[],
    }
}

fn parse_fields(resource: &Resource, text: &str) -> Result<Vec<FieldRequirement>, Status> {
    let mut requirements = Vec::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (path, value, equal) = if let Some((path, value)) = part.split_once("!=") {
            (path, value, false)
        } else if let Some((path, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (path, value, true)
        } else {
            return Err(Status::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'")));
        };
        let path = path.trim();
        let general = path == "metadata.name" || (path == "metadata.namespace" && resource.namespaced);
        if !general && !selectable(resource).contains(&path) {
            return Err(Status::bad_request(format!(
                "Unable to find \"{}\" that match label selector \"\", field selector \"{text}\": field label not supported: {path}",
                resource.plural
            )));
        }
        requirements.push(FieldRequirement { path: path.to_owned(), value: value.trim().to_owned(), equal });
    }
    Ok(requirements)
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, Status> {
    split(text).into_iter().map(|part| parse_label(part).ok_or_else(|| {
        Status::bad_request(format!("unable to parse requirement: found '{part}' in '{text}', expected: a key, =, !=, ==, in, notin, >, <"))
    })).collect()
}

/// Splits at commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0u32, 0);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(text[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    if parts == [""] { Vec::new() } else { parts }
}

fn parse_label(part: &str) -> Option<Requirement> {
    let requirement = |key: &str, operator| {
        let key = key.trim();
        valid_key(key).then(|| Requirement { key: key.to_owned(), operator })
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some(key) = part.strip_prefix('!') {
        return requirement(key, Operator::DoesNotExist);
    }
    if let Some(body) = part.strip_suffix(')') {
        let (head, values) = body.split_once('(')?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        let (key, word) = head.trim().split_once(char::is_whitespace)?;
        return match word.trim() {
            "in" => requirement(key, Operator::In(values)),
            "notin" => requirement(key, Operator::NotIn(values)),
            _ => None,
        };
    }
    if let Some((key, value)) = part.split_once("!=") {
        return requirement(key, Operator::NotIn(one(value)));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return requirement(key, Operator::In(one(value)));
    }
    if let Some((key, value)) = part.split_once('>') {
        return requirement(key, Operator::Greater(value.trim().parse().ok()?));
    }
    if let Some((key, value)) = part.split_once('<') {
        return requirement(key, Operator::Less(value.trim().parse().ok()?));
    }
    requirement(part, Operator::Exists)
}

fn valid_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::core_kind;

    #[test]
    fn label_selectors() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "", "n": "5"}}});
        for (text, expected) in [
            ("", Some(true)),
            ("app=web", Some(true)),
            ("app==web", Some(true)),
            ("app = web", Some(true)),
            ("app!=web", Some(false)),
            ("other!=x", Some(true)),
            ("app", Some(true)),
            ("!app", Some(false)),
            ("!other", Some(true)),
            ("tier=", Some(true)),
            ("tier", Some(true)),
            ("other=", Some(false)),
            ("app in (db, web)", Some(true)),
            ("app notin (db,web)", Some(false)),
            ("other notin (db)", Some(true)),
            ("app in (db,web),tier", Some(true)),
            ("app=web,tier=x", Some(false)),
            ("n>4", Some(true)),
            ("n<5", Some(false)),
            ("app inside (x)", None),
            ("a b", None),
            ("=x", None),
        ] {
            let parsed = Selector::parse(core_kind("Pod"), Some(text), None);
            assert_eq!(parsed.ok().map(|selector| selector.matches(&object)), expected, "{text}");
        }
    }

    #[test]
    fn field_selectors() {
        let object = json!({"metadata": {"name": "a", "namespace": "b"}, "status": {"phase": "Running"}});
        for (text, expected) in [
            ("metadata.name=a", Some(true)),
            ("metadata.name==a,metadata.namespace=b", Some(true)),
            ("status.phase!=Running", Some(false)),
            ("status.phase!=Failed,status.phase!=Succeeded", Some(true)),
            ("spec.nodeName=", Some(true)),
            ("spec.color=red", None),
            ("metadata.name", None),
        ] {
            let parsed = Selector::parse(core_kind("Pod"), None, Some(text));
            assert_eq!(parsed.ok().map(|selector| selector.matches(&object)), expected, "{text}");
        }
    }
}
