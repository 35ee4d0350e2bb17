//! A JSON value that knows its path.

use std::fmt;

use serde_json::{Map, Value};

use crate::parse::problem::{Problem, Reason};

/// A value inside an object.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    value: &'a Value,
    parent: Option<&'a Node<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
}

/// Collects what is not understood of one object. `None` from a reader means: it has been reported here.
pub(crate) struct Problems {
    object: String,
    /// The version of the API whose fields are known.
    api: String,
    list: Vec<Problem>,
}

impl Problems {
    pub(crate) fn new(object: String, api: &str) -> Self {
        Self { object, api: api.to_owned(), list: Vec::new() }
    }

    pub(crate) fn add(&mut self, node: &Node<'_>, reason: Reason) {
        self.list.push(Problem { object: self.object.clone(), path: node.path(), reason, index: None });
    }

    /// Reports a field that is not there.
    pub(crate) fn add_at(&mut self, node: &Node<'_>, field: &str, reason: Reason) {
        let here = node.path();
        let path = if here.is_empty() { field.to_owned() } else { format!("{here}.{field}") };
        self.list.push(Problem { object: self.object.clone(), path, reason, index: None });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are so far.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// What was added after the first `count`, as one text. `None`: nothing.
    pub(crate) fn since(&self, count: usize) -> Option<String> {
        let texts: Vec<String> = self.list[count..].iter().map(Problem::to_string).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    /// Whether something was added after the first `count`, and all of it names domains.
    pub(crate) fn are_all_of_domains(&self, count: usize) -> bool {
        let added = &self.list[count..];
        !added.is_empty() && added.iter().all(|problem| problem.reason == Reason::DomainNames)
    }

    pub(crate) fn into_list(self) -> Vec<Problem> {
        self.list
    }
}

impl<'a> Node<'a> {
    pub(crate) fn root(value: &'a Value) -> Self {
        Self { value, parent: None, step: Step::Root }
    }

    /// The field, unless it is absent or null: Kubernetes reads both the same. Absent, too, where this is no object.
    pub(crate) fn field(&'a self, name: &'a str) -> Option<Node<'a>> {
        let value = self.value.get(name)?;
        (!value.is_null()).then_some(Node { value, parent: Some(self), step: Step::Field(name) })
    }

    /// Reports fields that are not among `known`. Whether this is an object at all.
    pub(crate) fn check_fields(&'a self, known: &[&str], problems: &mut Problems) -> Option<()> {
        let object = self.object(problems)?;
        let mut all_known = Some(());
        for (name, value) in object {
            if !known.contains(&name.as_str()) {
                let api = problems.api.clone();
                problems
                    .add(&Node { value, parent: Some(self), step: Step::Field(name) }, Reason::UnknownField { api });
                all_known = None;
            }
        }
        all_known
    }

    pub(crate) fn object(&self, problems: &mut Problems) -> Option<&'a Map<String, Value>> {
        let object = self.value.as_object();
        if object.is_none() {
            problems.add(self, self.wrong("an object"));
        }
        object
    }

    /// The fields of an object with a value each.
    pub(crate) fn entries(
        &'a self,
        problems: &mut Problems,
    ) -> Option<impl Iterator<Item = (&'a str, Node<'a>)> + use<'a>> {
        let object = self.object(problems)?;
        Some(
            object
                .iter()
                .map(move |(name, value)| (name.as_str(), Node { value, parent: Some(self), step: Step::Field(name) })),
        )
    }

    /// The items of a list.
    pub(crate) fn items(&'a self, problems: &mut Problems) -> Option<impl Iterator<Item = Node<'a>> + use<'a>> {
        let Some(items) = self.value.as_array() else {
            problems.add(self, self.wrong("a list"));
            return None;
        };
        Some(items.iter().enumerate().map(move |(index, value)| Node {
            value,
            parent: Some(self),
            step: Step::Index(index),
        }))
    }

    /// One item of a list.
    pub(crate) fn item(&'a self, index: usize) -> Option<Node<'a>> {
        let value = self.value.as_array()?.get(index)?;
        Some(Node { value, parent: Some(self), step: Step::Index(index) })
    }

    /// The value as it stands.
    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    pub(crate) fn string(&self, problems: &mut Problems) -> Option<&'a str> {
        let string = self.value.as_str();
        if string.is_none() {
            let expected = match self.value {
                Value::Number(_) | Value::Bool(_) => "a string (put it in quotes)",
                Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => "a string",
            };
            problems.add(self, self.wrong(expected));
        }
        string
    }

    pub(crate) fn boolean(&self, problems: &mut Problems) -> Option<bool> {
        let boolean = self.value.as_bool();
        if boolean.is_none() {
            problems.add(self, self.wrong("true or false"));
        }
        boolean
    }

    /// A port number from 1 to 65535.
    pub(crate) fn port_number(&self, problems: &mut Problems) -> Option<u16> {
        let Value::Number(number) = self.value else {
            problems.add(self, self.wrong("a whole number"));
            return None;
        };
        if number.is_f64() {
            problems.add(self, self.wrong("a whole number, without a decimal point"));
            return None;
        }
        let port = number.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|port| *port >= 1);
        if port.is_none() {
            problems.add(self, Reason::PortNumber { found: number.to_string() });
        }
        port
    }

    /// A whole number between two others, which may be reached.
    pub(crate) fn whole_number(&self, min: i64, max: i64, problems: &mut Problems) -> Option<i64> {
        let Value::Number(number) = self.value else {
            problems.add(self, self.wrong("a whole number"));
            return None;
        };
        let whole = number.as_i64().filter(|whole| (min..=max).contains(whole));
        if whole.is_none() {
            problems.add(self, Reason::Number { min, max, found: number.to_string() });
        }
        whole
    }

    /// Any number.
    pub(crate) fn number(&self, problems: &mut Problems) -> Option<f64> {
        let number = self.value.as_f64();
        if number.is_none() {
            problems.add(self, self.wrong("a number"));
        }
        number
    }

    /// The fields among `names` that are there.
    pub(crate) fn present(&'a self, names: &[&'static str]) -> Vec<(&'static str, Node<'a>)> {
        names.iter().filter_map(|name| Some((*name, self.field(name)?))).collect()
    }

    pub(crate) fn is_number(&self) -> bool {
        self.value.is_number()
    }

    pub(crate) fn is_string(&self) -> bool {
        self.value.is_string()
    }

    pub(crate) fn is_text(&self, text: &str) -> bool {
        self.value.as_str() == Some(text)
    }

    /// That the value is of another type.
    pub(crate) fn wrong(&self, expected: &'static str) -> Reason {
        let found = match self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(value) => format!("the number {value}"),
            Value::String(value) => format!("the string {:?}", shortened(value)),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
        };
        Reason::Type { expected, found }
    }

    fn path(&self) -> String {
        let mut steps = Vec::new();
        let mut node = Some(self);
        while let Some(here) = node {
            steps.push(here.step);
            node = here.parent;
        }
        let mut path = String::new();
        for step in steps.into_iter().rev() {
            step.append_to(&mut path);
        }
        path
    }
}

impl Step<'_> {
    fn append_to(self, path: &mut String) {
        match self {
            Self::Root => {}
            // Label keys hold dots and slashes: in brackets they stay one step.
            Self::Field(name) if name.contains(['.', '/', '[', ' ']) => {
                path.push('[');
                path.push_str(name);
                path.push(']');
            }
            Self::Field(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Self::Index(index) => {
                path.push('[');
                path.push_str(&index.to_string());
                path.push(']');
            }
        }
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.path(), self.value)
    }
}

/// Enough of a text to recognise it by.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
