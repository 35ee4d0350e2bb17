//! Manifests in, and lines for the fields at fault.

use std::collections::HashMap;

use serde_json::Value;
use serde_saphyr::granit_parser::{Event, Parser};
use signalbox_api::error::FieldCause;
use signalbox_policy::parse_documents;

use super::answer::Refusal;
use super::names;

/// A NetworkPolicy as someone sent it.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// `metadata.namespace`; `default` where there is none.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// All of it.
    pub value: Value,
    /// Which document of the text, from 0.
    document: usize,
}

/// Reads the NetworkPolicies in a text, YAML or JSON. At least one, and nothing else.
///
/// # Errors
/// Says where the text cannot be read, or what else is in it.
pub fn manifests(text: &str) -> Result<Vec<Manifest>, Refusal> {
    let mut manifests = Vec::new();
    let mut causes = Vec::new();
    for (document, parsed) in parse_documents(text, "manifest").into_iter().enumerate() {
        match parsed {
            Ok(value) => match manifest(value, document, text) {
                Ok(manifest) => manifests.push(manifest),
                Err(cause) => causes.push(cause),
            },
            Err(error) => causes.push(FieldCause {
                field: String::new(),
                message: error.reason,
                line: u32::try_from(error.line).ok(),
                column: u32::try_from(error.column).ok(),
            }),
        }
    }
    if !causes.is_empty() || manifests.is_empty() {
        return Err(Refusal::Unreadable(causes));
    }
    Ok(manifests)
}

/// Adds the lines to the fields at fault.
pub fn with_lines(refusal: Refusal, text: &str, manifest: &Manifest) -> Refusal {
    let Refusal::Cluster { status, message, mut causes } = refusal else { return refusal };
    let places = places(text, manifest.document);
    for cause in &mut causes {
        if let Some((line, column)) = nearest(&places, &cause.field) {
            cause.line = Some(line);
            cause.column = Some(column);
        }
    }
    Refusal::Cluster { status, message, causes }
}

fn manifest(value: Value, document: usize, text: &str) -> Result<Manifest, FieldCause> {
    let field = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    let wrong = |field: &str, message: String| {
        let place = nearest(&places(text, document), field);
        let (line, column) = place.unzip();
        FieldCause { field: field.to_owned(), message, line, column }
    };
    let (kind, version) = (field("/kind").unwrap_or_default(), field("/apiVersion").unwrap_or_default());
    if kind != "NetworkPolicy" || version != "networking.k8s.io/v1" {
        let what = match (kind, version) {
            ("", _) => "the manifest has no kind".to_owned(),
            (kind, "") => format!("this is a {kind} without an apiVersion"),
            (kind, version) => format!("this is a {version} {kind}"),
        };
        return Err(wrong("kind", format!("{what}; only networking.k8s.io/v1 NetworkPolicy can be applied here")));
    }
    let Some(name) = field("/metadata/name").filter(|name| !name.is_empty()) else {
        return Err(wrong("metadata.name", "the policy needs a name".to_owned()));
    };
    if !names::is_subdomain(name) {
        return Err(wrong("metadata.name", format!("{name:?} is no name: {}", names::SUBDOMAIN)));
    }
    let namespace = field("/metadata/namespace").filter(|name| !name.is_empty()).unwrap_or("default").to_owned();
    if !names::is_label(&namespace) {
        return Err(wrong("metadata.namespace", format!("{namespace:?} is no namespace's name: {}", names::LABEL)));
    }
    Ok(Manifest { namespace, name: name.to_owned(), document, value })
}

type Places = HashMap<String, (u32, u32)>;

/// Where each field of a document stands: the key of a field, the beginning of an item.
fn places(text: &str, document: usize) -> Places {
    let mut places = Places::new();
    let mut stack: Vec<Frame> = Vec::new();
    let mut current = None;
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        let at = (u32::try_from(span.start.line()).unwrap_or(0), u32::try_from(span.start.col() + 1).unwrap_or(0));
        match event {
            Event::DocumentStart(..) => current = Some(current.map_or(0, |index: usize| index + 1)),
            _ if current != Some(document) => {}
            Event::MappingStart(..) => {
                let path = open(&mut stack, None, at, &mut places);
                stack.push(Frame { path, place: Within::Mapping { key: None } });
            }
            Event::SequenceStart(..) => {
                let path = open(&mut stack, None, at, &mut places);
                stack.push(Frame { path, place: Within::Sequence { next: 0 } });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                stack.pop();
            }
            Event::Scalar(text, ..) => {
                open(&mut stack, Some(&text), at, &mut places);
            }
            Event::Alias(_) => {
                open(&mut stack, None, at, &mut places);
            }
            _ => {}
        }
    }
    places
}

struct Frame {
    path: String,
    place: Within,
}

enum Within {
    /// `key` is the path of the key whose value comes next.
    Mapping {
        key: Option<String>,
    },
    Sequence {
        next: usize,
    },
}

/// A node begins. Gives back its path: that of the mapping itself where it is a key.
fn open(stack: &mut [Frame], scalar: Option<&str>, at: (u32, u32), places: &mut Places) -> String {
    let Some(frame) = stack.last_mut() else { return String::new() };
    match &mut frame.place {
        Within::Mapping { key } => match key.take() {
            Some(path) => path,
            None => {
                let name = scalar.unwrap_or_default();
                let path = if frame.path.is_empty() { name.to_owned() } else { format!("{}.{name}", frame.path) };
                places.insert(path.clone(), at);
                *key = Some(path);
                frame.path.clone()
            }
        },
        Within::Sequence { next } => {
            let path = format!("{}[{next}]", frame.path);
            *next += 1;
            places.insert(path.clone(), at);
            path
        }
    }
}

/// The place of a field, or of the nearest field around it that is there.
fn nearest(places: &Places, field: &str) -> Option<(u32, u32)> {
    let mut path = field;
    loop {
        if let Some(place) = places.get(path) {
            return Some(*place);
        }
        let cut = path.rfind(['.', '['])?;
        path = &path[..cut];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "\
# a comment
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: one, namespace: a}
spec:
  podSelector: {}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: two
spec:
  podSelector: {}
  egress:
    - ports:
        - {port: 53, protocol: UDP}
        - port: 99999
          protocol: TCP
";

    #[test]
    fn documents_are_read_with_their_names() {
        let names: Vec<_> =
            manifests(TWO).expect("both can be read").into_iter().map(|it| (it.namespace, it.name)).collect();
        assert_eq!(names, [("a".into(), "one".into()), ("default".into(), "two".into())]);
    }

    #[test]
    fn fields_have_lines() {
        let cases = [
            (0, "metadata.name", Some((4, 12))),
            (0, "spec.podSelector", Some((6, 3))),
            (1, "spec.egress[0].ports[0].port", Some((16, 12))),
            (1, "spec.egress[0].ports[1].port", Some((17, 11))),
            (1, "spec.egress[0].ports[1].endPort", Some((17, 11))),
            (1, "spec.ingress[3]", Some((12, 1))),
            (1, "status", None),
        ];
        for (document, field, expected) in cases {
            assert_eq!(nearest(&places(TWO, document), field), expected, "{document} {field}");
        }
    }

    #[test]
    fn what_cannot_be_applied_says_where_and_why() {
        let cases = [
            ("kind: NetworkPolicy\nmetadata:\n  name: [x\n", None, "", "YAML"),
            ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n", Some(2), "kind", "only networking.k8s.io/v1"),
            (
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {}\n",
                Some(3),
                "metadata.name",
                "a name",
            ),
            (
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: ../x\n",
                Some(4),
                "metadata.name",
                "\"../x\" is no name",
            ),
            (
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: x?dryRun=All\n",
                Some(4),
                "metadata.name",
                "is no name",
            ),
            (
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: x, namespace: a/b}\n",
                Some(3),
                "metadata.namespace",
                "no namespace",
            ),
        ];
        for (text, line, field, message) in cases {
            let Err(Refusal::Unreadable(causes)) = manifests(text) else { panic!("{text} was read") };
            let cause = causes.first().expect("a cause");
            assert_eq!(cause.field, field, "{text}");
            if let Some(line) = line {
                assert_eq!(cause.line, Some(line), "{text}");
                assert!(cause.message.contains(message), "{}", cause.message);
            } else {
                assert!(cause.line.is_some(), "{text}: {message}");
            }
        }
        assert!(matches!(manifests("# nothing\n"), Err(Refusal::Unreadable(causes)) if causes.is_empty()));
    }
}
