//! Labels and label selectors.

use serde_json::Value;

use super::{forbidden, invalid, required, unsupported};
use crate::object::items;
use crate::status::Cause;

const NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// A key: `NAME` or `DOMAIN/NAME`.
pub(crate) fn qualified_name(key: &str) -> Result<(), String> {
    let name = match key.split_once('/') {
        None => key,
        Some((_, rest)) if rest.contains('/') => {
            return Err("a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character, with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')".into());
        }
        Some(("", _)) => return Err("prefix part must be non-empty".into()),
        Some((prefix, name)) => {
            super::names::subdomain(prefix).map_err(|why| format!("prefix part {why}"))?;
            name
        }
    };
    match name.len() {
        0 => Err("name part must be non-empty".into()),
        1..=63 if is_name(name) => Ok(()),
        1..=63 => Err(NAME.into()),
        _ => Err("name part must be no more than 63 characters".into()),
    }
}

/// A label's value.
pub(crate) fn value(text: &str) -> Result<(), String> {
    if text.len() > 63 {
        return Err("must be no more than 63 characters".into());
    }
    if text.is_empty() || is_name(text) { Ok(()) } else { Err(VALUE.into()) }
}

/// A map of labels.
pub(crate) fn map(labels: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (key, text) in labels.as_object().into_iter().flatten() {
        if let Err(why) = qualified_name(key) {
            causes.push(invalid(path, &key.as_str().into(), &why));
        }
        if let Err(why) = value(text.as_str().unwrap_or_default()) {
            causes.push(invalid(path, text, &why));
        }
    }
}

/// A `LabelSelector`.
pub(crate) fn selector(selector: &Value, path: &str, causes: &mut Vec<Cause>) {
    map(&selector["matchLabels"], &format!("{path}.matchLabels"), causes);
    for (index, requirement) in items(selector, "matchExpressions").iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let values = items(requirement, "values");
        match requirement["operator"].as_str() {
            Some("In" | "NotIn") if values.is_empty() => {
                causes
                    .push(required(&format!("{path}.values"), "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            Some("Exists" | "DoesNotExist") if !values.is_empty() => {
                causes.push(forbidden(
                    &format!("{path}.values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                ));
            }
            Some("In" | "NotIn" | "Exists" | "DoesNotExist") => {}
            _ => causes.push(unsupported(
                &format!("{path}.operator"),
                &requirement["operator"],
                &["In", "NotIn", "Exists", "DoesNotExist"],
            )),
        }
        let key = requirement["key"].as_str().unwrap_or_default();
        if let Err(why) = qualified_name(key) {
            causes.push(invalid(&format!("{path}.key"), &key.into(), &why));
        }
        for (index, text) in values.iter().enumerate() {
            if let Err(why) = value(text.as_str().unwrap_or_default()) {
                causes.push(invalid(&format!("{path}.values[{index}]"), text, &why));
            }
        }
    }
}

/// One requirement, as `kubectl` prints it.
pub(crate) fn printed(requirement: &Value) -> String {
    let key = requirement["key"].as_str().unwrap_or_default();
    let values: Vec<&str> = items(requirement, "values").iter().filter_map(Value::as_str).collect();
    match requirement["operator"].as_str() {
        Some("In") => format!("{key} in ({})", values.join(",")),
        Some("NotIn") => format!("{key} notin ({})", values.join(",")),
        Some("DoesNotExist") => format!("!{key}"),
        _ => key.to_owned(),
    }
}

/// Whether a `LabelSelector` selects labels.
pub(crate) fn matches(selector: &Value, labels: &Value) -> bool {
    selector["matchLabels"].as_object().into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && items(selector, "matchExpressions").iter().all(|requirement| {
            let found = labels.get(requirement["key"].as_str().unwrap_or_default());
            let listed = found.is_some_and(|found| items(requirement, "values").contains(found));
            match requirement["operator"].as_str() {
                Some("In") => listed,
                Some("NotIn") => !listed,
                Some("Exists") => found.is_some(),
                Some("DoesNotExist") => found.is_none(),
                _ => false,
            }
        })
}
