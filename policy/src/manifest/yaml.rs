//! Lines of YAML, and what may stand in them without quotes.

/// Lines of one value, without indentation of their own.
pub(super) type Block = Vec<String>;

/// Words that some reader of YAML 1.1 or 1.2 takes for something else than text.
const RESERVED: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan"];

/// A field: a value in flow style, which has one line, beside its key, any other one below it.
pub(super) fn under(key: &str, value: Block) -> Block {
    match &value[..] {
        [only] if only.starts_with('{') => vec![format!("{key}: {only}")],
        _ => std::iter::once(format!("{key}:")).chain(value.into_iter().map(|line| format!("  {line}"))).collect(),
    }
}

/// An item of a list.
pub(super) fn item(value: Block) -> Block {
    let mark = |(index, line): (usize, String)| format!("{}{line}", if index == 0 { "- " } else { "  " });
    value.into_iter().enumerate().map(mark).collect()
}

/// `[a, b]`.
pub(super) fn flow_list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|it| it.as_ref().to_owned()).collect();
    format!("[{}]", items.join(", "))
}

/// Text as a scalar: quoted wherever it might be taken for something else.
pub(super) fn scalar(text: &str) -> String {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str());
    // A slash keeps it from being a number, and without a colon it is no time of day.
    let is_cidr = text.contains('/') && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '/'));
    if is_word || is_cidr {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::scalar;

    #[test]
    fn text_stays_text() {
        let cases = [
            ("web", "web"),
            ("kubernetes.io/metadata.name", "kubernetes.io/metadata.name"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("", "\"\""),
            ("1", "\"1\""),
            ("1e3", "\"1e3\""),
            ("10.0.0.1", "\"10.0.0.1\""),
            ("No", "\"No\""),
            ("null", "\"null\""),
            ("::/0", "\"::/0\""),
            ("a: b", "\"a: b\""),
            ("a\"\\", "\"a\\\"\\\\\""),
        ];
        for (text, expected) in cases {
            assert_eq!(scalar(text), expected);
            let read: serde_json::Value = serde_saphyr::from_str(&scalar(text)).expect("it is YAML");
            assert_eq!(read, serde_json::Value::String(text.to_owned()));
        }
    }
}
