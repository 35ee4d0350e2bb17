//! Label selectors.

use std::collections::BTreeSet;
use std::fmt;

use crate::label::Labels;

/// All requirements must hold, and the expression if there is one. None at all: everything is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    requirements: Vec<Requirement>,
    expression: Option<Box<Expression>>,
}

/// What Calico's selectors can say beyond a list of requirements.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Expression {
    /// One condition on one key.
    Label(Requirement),
    /// The opposite.
    Not(Box<Expression>),
    /// All of them hold.
    And(Vec<Expression>),
    /// At least one of them holds.
    Or(Vec<Expression>),
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
    /// The key is there, with a value that has this in it. Calico only, as are the next two.
    Contains(String),
    /// The key is there, with a value that starts so.
    StartsWith(String),
    /// The key is there, with a value that ends so.
    EndsWith(String),
}

impl Selector {
    /// Requirements in any order: they are brought into one, so that equal meanings compare equal more often.
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        let unique: BTreeSet<Requirement> = requirements.into_iter().collect();
        Self { requirements: unique.into_iter().collect(), expression: None }
    }

    /// What an expression selects. One that is no more than a list of requirements becomes that.
    pub fn of(expression: Expression) -> Self {
        match expression {
            Expression::Label(requirement) => Self::new([requirement]),
            Expression::And(parts) if parts.iter().all(|part| matches!(part, Expression::Label(_))) => {
                Self::new(parts.into_iter().filter_map(|part| match part {
                    Expression::Label(requirement) => Some(requirement),
                    Expression::Not(_) | Expression::And(_) | Expression::Or(_) => None,
                }))
            }
            Expression::Not(_) | Expression::And(_) | Expression::Or(_) => {
                Self { requirements: Vec::new(), expression: Some(Box::new(expression)) }
            }
        }
    }

    /// What must all hold, apart from [`Selector::expression`].
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// What must hold besides the requirements.
    pub fn expression(&self) -> Option<&Expression> {
        self.expression.as_deref()
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && self.expression.is_none()
    }

    /// Whether it selects an object with these labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.holds(labels))
            && self.expression.as_ref().is_none_or(|expression| expression.holds(labels))
    }

    /// Which requirements these labels fail to meet.
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
            Test::Contains(part) => value.is_some_and(|value| value.contains(part)),
            Test::StartsWith(part) => value.is_some_and(|value| value.starts_with(part)),
            Test::EndsWith(part) => value.is_some_and(|value| value.ends_with(part)),
        }
    }
}

impl Expression {
    /// Whether these labels meet it.
    pub fn holds(&self, labels: &Labels) -> bool {
        match self {
            Self::Label(requirement) => requirement.holds(labels),
            Self::Not(inner) => !inner.holds(labels),
            Self::And(parts) => parts.iter().all(|part| part.holds(labels)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(labels)),
        }
    }

    /// All requirements in it.
    pub fn requirements(&self) -> Vec<&Requirement> {
        match self {
            Self::Label(requirement) => vec![requirement],
            Self::Not(inner) => inner.requirements(),
            Self::And(parts) | Self::Or(parts) => parts.iter().flat_map(Self::requirements).collect(),
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
        if let Some(expression) = &self.expression {
            f.write_str(if self.requirements.is_empty() { "" } else { ", " })?;
            write!(f, "{expression}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, word) = match self {
            Self::Label(requirement) => return write!(f, "{requirement}"),
            Self::Not(inner) => return write!(f, "not ({inner})"),
            Self::And(parts) if parts.is_empty() => return f.write_str("anything"),
            Self::Or(parts) if parts.is_empty() => return f.write_str("nothing"),
            Self::And(parts) => (parts, " and "),
            Self::Or(parts) => (parts, " or "),
        };
        f.write_str("(")?;
        for (index, part) in parts.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { word })?;
            write!(f, "{part}")?;
        }
        f.write_str(")")
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
            Test::Contains(part) => write!(f, "{key} with {part:?} in it"),
            Test::StartsWith(part) => write!(f, "{key} starting with {part:?}"),
            Test::EndsWith(part) => write!(f, "{key} ending with {part:?}"),
        }
    }
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "\"\"" } else { value }
}

fn list(values: &BTreeSet<String>) -> String {
    values.iter().map(|value| shown(value)).collect::<Vec<_>>().join(", ")
}
