//! Label selectors.

use std::collections::BTreeSet;
use std::fmt;

use crate::label::Labels;

/// All requirements must hold. None at all: everything is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// One condition on one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What is asked of it.
    pub test: Test,
}

/// What a requirement asks of its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Test {
    /// The key is there, with one of these values. `matchLabels` gives one value, which may be empty.
    In(BTreeSet<String>),
    /// The key is absent, or has none of these values.
    NotIn(BTreeSet<String>),
    /// The key is there.
    Exists,
    /// The key is absent.
    DoesNotExist,
}

impl Selector {
    /// Requirements in any order: they are brought into one, so that equal meanings compare equal more often.
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        let unique: BTreeSet<Requirement> = requirements.into_iter().collect();
        Self { requirements: unique.into_iter().collect() }
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether it selects an object with these labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.holds(labels))
    }

    /// What these labels fail to meet.
    pub fn unmet<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = &'a Requirement> {
        self.requirements.iter().filter(|requirement| !requirement.holds(labels))
    }
}

impl Requirement {
    /// Whether these labels meet it.
    pub fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.test {
            Test::In(values) => match values.first() {
                Some(value) if values.len() == 1 => write!(f, "{key}={}", shown(value)),
                Some(_) | None => write!(f, "{key} in ({})", list(values)),
            },
            Test::NotIn(values) => match values.first() {
                Some(value) if values.len() == 1 => write!(f, "{key}!={}", shown(value)),
                Some(_) | None => write!(f, "{key} not in ({})", list(values)),
            },
            Test::Exists => write!(f, "label {key}"),
            Test::DoesNotExist => write!(f, "no label {key}"),
        }
    }
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "\"\"" } else { value }
}

fn list(values: &BTreeSet<String>) -> String {
    values.iter().map(|value| shown(value)).collect::<Vec<_>>().join(", ")
}
