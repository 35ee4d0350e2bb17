//! What Kubernetes takes for a name: RFC 1123, in lower case. A name becomes part of a path of its API.

/// What [`is_label`] asks for, in words.
pub const LABEL: &str = "at most 63 lower case letters, digits and \"-\", with a letter or digit at both ends";
/// What [`is_subdomain`] asks for, in words.
pub const SUBDOMAIN: &str =
    "lower case letters, digits, \"-\" and \".\", at most 253, with a letter or digit at both ends";

/// A namespace's name.
pub fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

/// The name of most other objects.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
}

fn is_part(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, label, subdomain) in [
            ("web", true, true),
            ("a-1", true, true),
            ("a.b", false, true),
            ("", false, false),
            ("..", false, false),
            ("../x", false, false),
            ("x?dryRun=All", false, false),
            ("-x", false, false),
            ("x-", false, false),
            ("Web", false, false),
            ("a..b", false, false),
            ("über", false, false),
            (&"a".repeat(64), false, true),
            (&"a".repeat(254), false, false),
        ] {
            assert_eq!((is_label(text), is_subdomain(text)), (label, subdomain), "{text}");
        }
    }
}
