//! Calico's expressions, read a second time.

type Labels = [(String, String)];

/// What a text says.
pub enum Expression {
    All,
    Has(String),
    Is(String, String),
    IsNot(String, String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Contains(String, String),
    Starts(String, String),
    Not(Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
}

impl Expression {
    pub fn read(text: &str) -> Self {
        let mut rest = text;
        let all = or(&mut rest);
        assert_eq!(rest.trim(), "", "{text}");
        all
    }

    pub fn holds(&self, labels: &Labels) -> bool {
        let value = |key: &str| labels.iter().rev().find(|(own, _)| own == key).map(|(_, value)| value.as_str());
        match self {
            Self::All => true,
            Self::Has(key) => value(key).is_some(),
            Self::Is(key, text) => value(key) == Some(text),
            // Without the key it is not equal either.
            Self::IsNot(key, text) => value(key) != Some(text),
            Self::In(key, texts) => value(key).is_some_and(|value| texts.iter().any(|text| text == value)),
            Self::NotIn(key, texts) => !value(key).is_some_and(|value| texts.iter().any(|text| text == value)),
            Self::Contains(key, text) => value(key).is_some_and(|value| value.contains(text.as_str())),
            Self::Starts(key, text) => value(key).is_some_and(|value| value.starts_with(text.as_str())),
            Self::Not(inner) => !inner.holds(labels),
            Self::And(a, b) => a.holds(labels) && b.holds(labels),
            Self::Or(a, b) => a.holds(labels) || b.holds(labels),
        }
    }
}

fn take(rest: &mut &str, word: &str) -> bool {
    let trimmed = rest.trim_start();
    match trimmed.strip_prefix(word) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

fn or(rest: &mut &str) -> Expression {
    let first = and(rest);
    if take(rest, "||") { Expression::Or(Box::new(first), Box::new(or(rest))) } else { first }
}

fn and(rest: &mut &str) -> Expression {
    let first = term(rest);
    if take(rest, "&&") { Expression::And(Box::new(first), Box::new(and(rest))) } else { first }
}

fn term(rest: &mut &str) -> Expression {
    if take(rest, "!") {
        return Expression::Not(Box::new(term(rest)));
    }
    if take(rest, "(") {
        let inner = or(rest);
        assert!(take(rest, ")"));
        return inner;
    }
    if take(rest, "all()") {
        return Expression::All;
    }
    if take(rest, "has(") {
        let key = key(rest);
        assert!(take(rest, ")"));
        return Expression::Has(key);
    }
    let key = key(rest);
    if take(rest, "==") {
        Expression::Is(key, text(rest))
    } else if take(rest, "!=") {
        Expression::IsNot(key, text(rest))
    } else if take(rest, "not in") {
        Expression::NotIn(key, texts(rest))
    } else if take(rest, "in") {
        Expression::In(key, texts(rest))
    } else if take(rest, "contains") {
        Expression::Contains(key, text(rest))
    } else if take(rest, "starts with") {
        Expression::Starts(key, text(rest))
    } else {
        panic!("{rest}")
    }
}

fn key(rest: &mut &str) -> String {
    let trimmed = rest.trim_start();
    let end = trimmed.find(|c: char| !c.is_ascii_alphanumeric() && !"./-_".contains(c)).unwrap_or(trimmed.len());
    let (key, after) = trimmed.split_at(end);
    *rest = after;
    key.to_owned()
}

fn text(rest: &mut &str) -> String {
    let quote = if take(rest, "'") {
        '\''
    } else {
        assert!(take(rest, "\""));
        '"'
    };
    let (text, after) = rest.split_once(quote).unwrap();
    *rest = after;
    text.to_owned()
}

fn texts(rest: &mut &str) -> Vec<String> {
    assert!(take(rest, "{"));
    let mut list = vec![text(rest)];
    while take(rest, ",") {
        list.push(text(rest));
    }
    assert!(take(rest, "}"));
    list
}
