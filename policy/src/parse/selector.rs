//! Label selectors and labels.

use std::collections::BTreeSet;

use crate::label::{self, Labels};
use crate::parse::node::{Node, Problems, shortened};
use crate::parse::problem::Reason;
use crate::selector::{Requirement, Selector, Test};

/// A `metav1.LabelSelector`.
pub(crate) fn selector(node: &Node<'_>, problems: &mut Problems) -> Option<Selector> {
    let mut sound = node.check_fields(&["matchLabels", "matchExpressions"], problems);
    let mut requirements = Vec::new();
    if let Some(labels) = node.field("matchLabels") {
        for (key, value) in labels.entries(problems)? {
            let (name, text) = (key_of(key, &value, problems), value_of(&value, problems));
            match (name, text) {
                (Some(key), Some(text)) => {
                    requirements.push(Requirement { key, test: Test::In(BTreeSet::from([text])) });
                }
                (None, _) | (_, None) => sound = None,
            }
        }
    }
    if let Some(expressions) = node.field("matchExpressions") {
        for expression in expressions.items(problems)? {
            match requirement(&expression, problems) {
                Some(requirement) => requirements.push(requirement),
                None => sound = None,
            }
        }
    }
    sound.map(|()| Selector::new(requirements))
}

/// A plain map of labels, all of which must be there: a ReplicationController's `selector`.
pub(crate) fn plain(node: &Node<'_>, problems: &mut Problems) -> Option<Selector> {
    let labels = labels(node, problems)?;
    let requirement = |(key, value)| Requirement { key, test: Test::In(BTreeSet::from([value])) };
    Some(Selector::new(labels.into_iter().map(requirement)))
}

/// `metadata.labels`.
pub(crate) fn labels(node: &Node<'_>, problems: &mut Problems) -> Option<Labels> {
    let mut sound = Some(());
    let mut labels = Labels::new();
    for (key, value) in node.entries(problems)? {
        match value.string(problems) {
            Some(text) => {
                labels.insert(key.to_owned(), text.to_owned());
            }
            None => sound = None,
        }
    }
    sound.map(|()| labels)
}

fn requirement(node: &Node<'_>, problems: &mut Problems) -> Option<Requirement> {
    let known = node.check_fields(&["key", "operator", "values"], problems);
    let key = match node.field("key") {
        Some(key) => key.string(problems).and_then(|text| key_of(text, &key, problems)),
        None => {
            problems.add_at(node, "key", Reason::Missing);
            None
        }
    };
    let values = match node.field("values") {
        Some(values) => {
            let mut set = Some(BTreeSet::new());
            for value in values.items(problems)? {
                match (value_of(&value, problems), &mut set) {
                    (Some(text), Some(set)) => {
                        set.insert(text);
                    }
                    (_, set) => *set = None,
                }
            }
            set
        }
        None => Some(BTreeSet::new()),
    };
    let Some(operator) = node.field("operator") else {
        problems.add_at(node, "operator", Reason::Missing);
        return None;
    };
    let word = operator.string(problems)?;
    let values = values?;
    let test = match word {
        "In" if values.is_empty() => return refuse(node, problems, Reason::ValuesMissing { operator: "In" }),
        "NotIn" if values.is_empty() => return refuse(node, problems, Reason::ValuesMissing { operator: "NotIn" }),
        "Exists" if !values.is_empty() => {
            return refuse(node, problems, Reason::ValuesForbidden { operator: "Exists" });
        }
        "DoesNotExist" if !values.is_empty() => {
            return refuse(node, problems, Reason::ValuesForbidden { operator: "DoesNotExist" });
        }
        "In" => Test::In(values),
        "NotIn" => Test::NotIn(values),
        "Exists" => Test::Exists,
        "DoesNotExist" => Test::DoesNotExist,
        other => {
            let allowed = "In, NotIn, Exists, DoesNotExist";
            problems.add(&operator, Reason::Word { allowed, found: shortened(other) });
            return None;
        }
    };
    known?;
    Some(Requirement { key: key?, test })
}

fn refuse<T>(node: &Node<'_>, problems: &mut Problems, reason: Reason) -> Option<T> {
    problems.add_at(node, "values", reason);
    None
}

fn key_of(text: &str, node: &Node<'_>, problems: &mut Problems) -> Option<String> {
    if label::is_key(text) {
        return Some(text.to_owned());
    }
    problems.add(node, Reason::LabelKey { found: shortened(text) });
    None
}

fn value_of(node: &Node<'_>, problems: &mut Problems) -> Option<String> {
    let text = node.string(problems)?;
    if label::is_value(text) {
        return Some(text.to_owned());
    }
    problems.add(node, Reason::LabelValue { found: shortened(text) });
    None
}
