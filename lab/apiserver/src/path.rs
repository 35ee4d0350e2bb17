//! Paths of the API, taken apart.

use crate::kinds::{self, Resource};

/// What a path names.
#[derive(Debug)]
pub(crate) enum Target {
    /// All objects of a kind, in one namespace or in all.
    Collection { resource: &'static Resource, namespace: Option<String> },
    /// One object, or a part of it.
    Object { resource: &'static Resource, namespace: String, name: String, part: Option<String> },
    /// Something that is not an object: its segments.
    Other(Vec<String>),
}

/// Takes a path apart. `None`: there is no such kind.
pub(crate) fn parse(path: &str) -> Option<Target> {
    let segments: Vec<String> =
        path.split('/').filter(|segment| !segment.is_empty()).map(decoded).collect::<Option<_>>()?;
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Some(Target::Other(segments)),
    };
    let find = |plural: &str| kinds::by_plural(group, version, plural);
    match rest {
        ["namespaces", name] if group.is_empty() => object(find("namespaces")?, "", name, None),
        ["namespaces", name, part @ ("status" | "finalize")] if group.is_empty() => {
            object(find("namespaces")?, "", name, Some(part))
        }
        ["namespaces", namespace, plural] => {
            let resource = find(plural).filter(|resource| resource.namespaced)?;
            Some(Target::Collection { resource, namespace: Some((*namespace).to_owned()) })
        }
        ["namespaces", namespace, plural, name, part @ ..] => {
            object(find(plural).filter(|resource| resource.namespaced)?, namespace, name, sub(part)?)
        }
        [plural] => Some(Target::Collection { resource: find(plural)?, namespace: None }),
        [plural, name, part @ ..] => {
            object(find(plural).filter(|resource| !resource.namespaced)?, "", name, sub(part)?)
        }
        [] => None,
    }
}

fn sub<'a>(rest: &[&'a str]) -> Option<Option<&'a str>> {
    match rest {
        [] => Some(None),
        [part] => Some(Some(part)),
        _ => None,
    }
}

fn object(resource: &'static Resource, namespace: &str, name: &str, part: Option<&str>) -> Option<Target> {
    Some(Target::Object {
        resource,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        part: part.map(str::to_owned),
    })
}

/// Undoes percent-encoding.
fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        if *byte == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, expected) in [
            ("/api/v1/pods", "pods of all"),
            ("/api/v1/namespaces", "namespaces of all"),
            ("/api/v1/namespaces/a", "namespaces /a"),
            ("/api/v1/namespaces/a/status", "namespaces /a status"),
            ("/api/v1/namespaces/a/pods", "pods of a"),
            ("/api/v1/namespaces/a/pods/b", "pods a/b"),
            ("/api/v1/namespaces/a/pods/b%2Ec/log", "pods a/b.c log"),
            ("/apis/apps/v1/namespaces/a/deployments/b/scale", "deployments a/b scale"),
            ("/apis/signalbox.dev/v1alpha1/externalhosts/b/exec", "externalhosts /b exec"),
            ("/apis/apps/v1", "other"),
            ("/version", "other"),
            ("/apis/apps/v2/deployments", "none"),
            ("/api/v1/namespaces/a/nodes/b", "none"),
            ("/api/v1/pods/a", "none"),
            ("/api/v1/namespaces/%zz", "none"),
        ] {
            let found = match parse(path) {
                None => "none".to_owned(),
                Some(Target::Other(_)) => "other".to_owned(),
                Some(Target::Collection { resource, namespace }) => {
                    format!("{} of {}", resource.plural, namespace.as_deref().unwrap_or("all"))
                }
                Some(Target::Object { resource, namespace, name, part }) => {
                    format!("{} {namespace}/{name} {}", resource.plural, part.unwrap_or_default()).trim_end().to_owned()
                }
            };
            assert_eq!(found, expected, "{path}");
        }
    }
}
