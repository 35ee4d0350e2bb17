//! Manifests in which some values are others.

use serde_json::{Value, json};
use signalbox_policy::parse_documents;

use crate::Draw;

/// Keys that a field may be mistaken for.
const KEYS: &[&str] = &[
    "podSelector",
    "namespaceSelector",
    "matchLabels",
    "matchExpressions",
    "ingress",
    "egress",
    "from",
    "to",
    "ports",
    "port",
    "endPort",
    "protocol",
    "protocols",
    "ipBlock",
    "cidr",
    "except",
    "tier",
    "priority",
    "subject",
    "namespaces",
    "pods",
    "nodes",
    "networks",
    "action",
    "selector",
    "notSelector",
    "nets",
    "notNets",
    "notPorts",
    "order",
    "types",
    "source",
    "destination",
    "spec",
    "metadata",
    "status",
    "items",
    "labels",
    "name",
    "namespace",
    "kind",
    "apiVersion",
    "unknown",
    "",
];

/// All objects that the seeds hold.
pub fn objects(seeds: &[String]) -> Vec<Value> {
    seeds.iter().flat_map(|seed| parse_documents(seed, "seed")).filter_map(Result::ok).collect()
}

/// Some of the objects, changed here and there, as one text.
pub fn mutated(objects: &[Value], draw: &mut Draw) -> String {
    let count = 2 + draw.below(9);
    let mut chosen: Vec<Value> = (0..count).map(|_| draw.one_of(objects).clone()).collect();
    for _ in 0..=draw.below(5) {
        let at = draw.below(chosen.len());
        let steps = draw.below(9);
        change(&mut chosen[at], steps, objects, draw);
    }
    chosen.iter().map(|object| format!("---\n{object}\n")).collect()
}

/// Goes down so many steps, and changes what is there.
fn change(value: &mut Value, steps: usize, objects: &[Value], draw: &mut Draw) {
    if steps > 0 {
        match value {
            Value::Object(map) if !map.is_empty() => {
                let at = draw.below(map.len());
                let (_, inner) = map.iter_mut().nth(at).expect("it is one of them");
                return change(inner, steps - 1, objects, draw);
            }
            Value::Array(list) if !list.is_empty() => {
                let at = draw.below(list.len());
                return change(&mut list[at], steps - 1, objects, draw);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            }
        }
    }
    match (draw.below(4), &mut *value) {
        (0, Value::Object(map)) if !map.is_empty() => {
            let key = map.keys().nth(draw.below(map.len())).expect("it is one of them").clone();
            let inner = map.remove(&key).expect("it was there");
            if draw.below(2) == 0 {
                map.insert((*draw.one_of(KEYS)).to_owned(), inner);
            }
        }
        (0, Value::Array(list)) if !list.is_empty() => {
            let at = draw.below(list.len());
            let copies = draw.below(30);
            let item = list[at].clone();
            list.extend(std::iter::repeat_n(item, copies));
        }
        (1, Value::Object(map)) => {
            let inner = part(draw.one_of(objects), draw);
            map.insert((*draw.one_of(KEYS)).to_owned(), inner);
        }
        (2, it) => *it = part(draw.one_of(objects), draw),
        (_, it) => *it = strange(draw),
    }
}

/// Something out of an object.
fn part(object: &Value, draw: &mut Draw) -> Value {
    let mut here = object;
    for _ in 0..draw.below(7) {
        here = match here {
            Value::Object(map) if !map.is_empty() => {
                map.values().nth(draw.below(map.len())).expect("it is one of them")
            }
            Value::Array(list) if !list.is_empty() => draw.one_of(list),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                here
            }
        };
    }
    here.clone()
}

/// A value that few expect.
fn strange(draw: &mut Draw) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(65535),
        json!(65536),
        json!(u64::MAX),
        json!(1.5),
        json!(1e300),
        json!(""),
        json!("a"),
        json!("::/0"),
        json!("0.0.0.0/0"),
        json!("10.0.0.1/8"),
        json!("::ffff:10.0.0.0/104"),
        json!("255.255.255.255/32"),
        json!("all()"),
        json!("global()"),
        json!("!has(a) || a in {'b'}"),
        json!("a == 'b' && ("),
        json!("0:65535"),
        json!("9:1"),
        json!("Ingress"),
        json!("Egress"),
        json!("TCP"),
        json!("SCTP"),
        json!("Pass"),
        json!("Allow"),
        json!("Accept"),
        json!("Deny"),
        json!("Log"),
        json!([]),
        json!({}),
        json!([{}]),
        json!([[]]),
        json!([null]),
        json!({"": {}}),
        json!("x".repeat(5_000)),
        json!(["10.0.0.0/8", "fd00::/8"]),
    ];
    draw.one_of(&values).clone()
}
