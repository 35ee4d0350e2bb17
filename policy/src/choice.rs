//! Selectors that a person would write: which labels tell what an object is, and which tell it apart from others.

use std::collections::BTreeSet;

use crate::label::{Labels, NAMESPACE_NAME};
use crate::pod::Pod;
use crate::selector::{Requirement, Selector, Test};

/// How well a label's key says what a pod is; the lower the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Worth {
    /// What it is.
    Name,
    /// Which part of it.
    Part,
    /// Anything else that people set.
    Other,
    /// Which edition, or by which tool.
    Edition,
    /// Of one pod or one revision: gone with it.
    Volatile,
    /// Not a label that Kubernetes knows: no selector of its policies can ask for it.
    Never,
}

impl Worth {
    /// That of a key.
    pub(crate) fn of(key: &str) -> Self {
        match key {
            "app.kubernetes.io/name" | "app" | "k8s-app" | "run" | "name" => Self::Name,
            "app.kubernetes.io/component" | "component" | "tier" | "role" => Self::Part,
            "version"
            | "app.kubernetes.io/version"
            | "app.kubernetes.io/managed-by"
            | "helm.sh/chart"
            | "chart"
            | "heritage"
            | "release" => Self::Edition,
            "pod-template-hash"
            | "controller-revision-hash"
            | "pod-template-generation"
            | "statefulset.kubernetes.io/pod-name"
            | "apps.kubernetes.io/pod-index"
            | "controller-uid"
            | "job-name"
            | "batch.kubernetes.io/controller-uid"
            | "batch.kubernetes.io/job-name"
            | "batch.kubernetes.io/job-completion-index" => Self::Volatile,
            key if key.starts_with("projectcalico.org/") => Self::Never,
            _ => Self::Other,
        }
    }
}

/// The labels that outlive the pod.
pub(crate) fn lasting(labels: &Labels) -> Labels {
    let lasting = labels.iter().filter(|(key, _)| Worth::of(key) < Worth::Volatile);
    lasting.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// What to call a pod: the value of its best label, else its name.
pub(crate) fn called(pod: &Pod) -> &str {
    let named = pod.labels.iter().filter(|(key, value)| Worth::of(key) <= Worth::Part && !value.is_empty());
    named.min_by_key(|(key, _)| (Worth::of(key), key.len())).map_or(pod.id.name.as_str(), |(_, value)| value)
}

/// `key: value`.
pub(crate) fn equal(key: &str, value: &str) -> Requirement {
    Requirement { key: key.to_owned(), test: Test::In(BTreeSet::from([value.to_owned()])) }
}

/// A namespace by its name.
pub(crate) fn namespace(name: &str) -> Selector {
    Selector::new([equal(NAMESPACE_NAME, name)])
}

/// The most readable selector that selects all of `wanted`, and as few of `others` as labels can do: it asks for labels
/// that last, then for the absence of some, then for such that do not last. Whatever else happens, one label that says
/// what the objects are is in it, if they have one.
pub(crate) fn selector<'a>(
    wanted: &[&'a Labels],
    others: impl IntoIterator<Item = &'a Labels>,
    limit: Worth,
) -> Selector {
    let Some((first, rest)) = wanted.split_first() else { return Selector::default() };
    let mut shared: Vec<(Worth, &String, &String)> = first
        .iter()
        .filter(|(key, value)| rest.iter().all(|labels| labels.get(*key) == Some(*value)))
        .map(|(key, value)| (Worth::of(key), key, value))
        .filter(|(worth, _, _)| *worth <= limit && *worth < Worth::Never)
        .collect();
    shared.sort_by_key(|(worth, key, _)| (*worth, key.len(), *key));
    let mut left: Vec<&Labels> = others.into_iter().collect();
    let has = |labels: &Labels, key: &str, value: &str| labels.get(key).is_some_and(|it| it == value);
    let lasting = || shared.iter().filter(|(worth, _, _)| *worth < Worth::Volatile);
    // One label alone, if one can do it.
    let alone = lasting().find(|(_, key, value)| left.iter().all(|labels| !has(labels, key, value)));
    if let Some((_, key, value)) = alone {
        return Selector::new([equal(key, value)]);
    }
    let mut requirements: Vec<Requirement> = Vec::new();
    if let Some((_, key, value)) = lasting().next() {
        left.retain(|labels| has(labels, key, value));
        requirements.push(equal(key, value));
    }
    let absent = |left: &[&Labels], is_wanted: fn(Worth) -> bool| {
        let keys = left.iter().flat_map(|labels| labels.keys()).filter(|key| is_wanted(Worth::of(key)));
        let keys: BTreeSet<&String> =
            keys.filter(|key| wanted.iter().all(|labels| !labels.contains_key(*key))).collect();
        keys.into_iter().map(|key| Requirement { key: key.clone(), test: Test::DoesNotExist }).collect::<Vec<_>>()
    };
    let mut choices: Vec<Requirement> = lasting().map(|(_, key, value)| equal(key, value)).collect();
    choices.extend(absent(&left, |worth| worth < Worth::Volatile));
    narrow(&mut left, &mut requirements, &choices);
    // What does not last, only where nothing else tells them apart, or there is nothing else.
    if limit >= Worth::Volatile {
        let volatile = shared.iter().filter(|(worth, _, _)| *worth == Worth::Volatile);
        let mut choices: Vec<Requirement> = volatile.map(|(_, key, value)| equal(key, value)).collect();
        choices.extend(absent(&left, |worth| worth == Worth::Volatile));
        narrow(&mut left, &mut requirements, &choices);
    }
    Selector::new(requirements)
}

/// Adds requirements, each time the one that leaves out the most, as long as one leaves out anything.
fn narrow(left: &mut Vec<&Labels>, requirements: &mut Vec<Requirement>, choices: &[Requirement]) {
    while !left.is_empty() {
        let remaining = |choice: &Requirement| left.iter().filter(|labels| choice.holds(labels)).count();
        let Some((count, best)) = choices.iter().map(|choice| (remaining(choice), choice)).min_by_key(|(n, _)| *n)
        else {
            return;
        };
        if count == left.len() {
            return;
        }
        left.retain(|labels| best.holds(labels));
        requirements.push(best.clone());
    }
}

/// A name as Kubernetes takes it, from some words.
pub(crate) fn object_name(words: &str) -> String {
    const LONGEST: usize = 63;
    let mut name = String::new();
    for c in words.chars() {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_alphanumeric() {
            name.push(c);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    let name: String = name.trim_matches('-').chars().take(LONGEST).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "policy".to_owned() } else { name.to_owned() }
}

/// The same with a number behind it, where it is taken.
pub(crate) fn free_name(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2_u32..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !is_taken(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        let pairs = text.split(',').filter(|pair| !pair.is_empty()).filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn selectors_read_well_and_tell_apart() {
        let cases: [(&str, &[&str], &str); 9] = [
            // (labels, the others', selector)
            ("app=web,pod-template-hash=1", &[], "app=web"),
            ("app=web,tier=front", &["app=db,tier=back"], "app=web"),
            ("app=web,tier=front", &["app=web,tier=back"], "tier=front"),
            ("app=web,x=1,y=2", &["app=web,x=1,y=3", "app=web,x=2,y=2"], "app=web, x=1, y=2"),
            ("app=web", &["app=web,canary=yes"], "app=web, no label canary"),
            ("", &["app=web"], "no label app"),
            ("", &[], ""),
            ("statefulset.kubernetes.io/pod-name=db-0", &[], ""),
            (
                "app=db,statefulset.kubernetes.io/pod-name=db-0",
                &["app=db,statefulset.kubernetes.io/pod-name=db-1"],
                "app=db, statefulset.kubernetes.io/pod-name=db-0",
            ),
        ];
        for (wanted, others, expected) in cases {
            let others: Vec<Labels> = others.iter().map(|text| labels(text)).collect();
            let found = selector(&[&labels(wanted)], &others, Worth::Volatile);
            assert_eq!(found.to_string(), expected, "{wanted} among {others:?}");
        }
        let replicas = ["app=db,pod-template-hash=1", "app=db,pod-template-hash=2"].map(labels);
        let found = selector(&[&replicas[0]], [&replicas[1]], Worth::Edition);
        assert_eq!(found.to_string(), "app=db", "what does not last is not asked for");
    }

    #[test]
    fn names_are_names() {
        assert_eq!(object_name("Web_1 allow-from 10.0.0.0/8"), "web-1-allow-from-10-0-0-0-8");
        assert_eq!(object_name("--"), "policy");
        assert_eq!(object_name(&"x".repeat(100)).len(), 63);
        assert_eq!(free_name("web", |name| name == "web"), "web-2");
    }
}
