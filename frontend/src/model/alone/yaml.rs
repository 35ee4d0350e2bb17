//! Objects as YAML text.

use serde_json::Value;

/// Prints a value in block style.
pub fn print(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(value, 0, &mut out),
        Value::Array(list) if !list.is_empty() => sequence(value, 0, &mut out),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            out.push_str(&scalar(value));
            out.push('\n');
        }
    }
    out
}

fn mapping(value: &Value, indent: usize, out: &mut String) {
    for (at, (key, value)) in value.as_object().into_iter().flatten().enumerate() {
        // The first key of an item stands behind the item's dash.
        if at > 0 || !out.ends_with("- ") {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(&text(key));
        out.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                mapping(value, indent + 2, out);
            }
            Value::Array(list) if !list.is_empty() => {
                out.push('\n');
                sequence(value, indent + 2, out);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                out.push(' ');
                out.push_str(&scalar(value));
                out.push('\n');
            }
        }
    }
}

fn sequence(value: &Value, indent: usize, out: &mut String) {
    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
        if at > 0 || !out.ends_with("- ") {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => mapping(item, indent + 2, out),
            Value::Array(list) if !list.is_empty() => sequence(item, indent + 2, out),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                out.push_str(&scalar(item));
                out.push('\n');
            }
        }
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(value) => text(value),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Without quotes where no reader of YAML, old or new, could take it for anything but a text.
fn text(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic());
    // With two dots it is no number.
    let is_address = text.starts_with(|c: char| c.is_ascii_digit())
        && text.matches('.').count() >= 2
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '/'));
    let is_word = WORDS.contains(&text.to_ascii_lowercase().as_str());
    if (starts_well && text.chars().all(plain) && !is_word) || is_address {
        text.to_owned()
    } else {
        Value::String(text.to_owned()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_printed_reads_back() {
        let value = json!({
            "apiVersion": "networking.k8s.io/v1",
            "empty": {}, "none": [], "null": null, "no": "no", "port": 80, "text": "80", "odd": "a: b # c", "": "",
            "lines": "one\ntwo", "cidr": "10.0.0.0/8", "v6": "fd00::/8", "version": "1.20", "key/with.dots": true,
            "list": [1, "x", [2, [3, {"deep": [{}]}]], {"a": {"b": 1}, "c": [1]}, [[{"d": "e"}]]],
        });
        let read: Vec<_> = signalbox_policy::parse_documents(&print(&value), "test").into_iter().collect();
        assert_eq!(read, [Ok(value)]);
    }

    #[test]
    fn a_policy_looks_as_people_write_it() {
        let value = json!({"kind": "NetworkPolicy", "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
            "ports": [{"port": 80, "protocol": "TCP"}]}]}});
        let expected = "kind: NetworkPolicy\nspec:\n  ingress:\n    - from:\n        - ipBlock:\n            cidr: 10.0.0.0/8\n      ports:\n        - port: 80\n          protocol: TCP\n  podSelector: {}\n";
        assert_eq!(print(&value), expected);
    }
}
