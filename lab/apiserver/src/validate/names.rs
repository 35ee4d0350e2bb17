//! Names of objects and of ports.

use crate::kinds::Resource;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// Whether an object of a kind may have a name.
pub(crate) fn check(resource: &Resource, name: &str) -> Result<(), String> {
    match (resource.group, resource.kind) {
        ("", "Namespace") => label(name),
        ("", "Service") => label_1035(name),
        _ => subdomain(name),
    }
}

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| lower(*byte))
        && bytes.last().is_some_and(|byte| lower(*byte))
        && bytes.iter().all(|byte| lower(*byte) || *byte == b'-')
}

/// A DNS label of RFC 1123.
pub(crate) fn label(text: &str) -> Result<(), String> {
    if text.len() > 63 {
        return Err("must be no more than 63 characters".into());
    }
    if is_label(text) { Ok(()) } else { Err(LABEL.into()) }
}

fn label_1035(text: &str) -> Result<(), String> {
    if text.len() > 63 {
        return Err("must be no more than 63 characters".into());
    }
    let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if starts && is_label(text) { Ok(()) } else { Err(LABEL_1035.into()) }
}

/// A DNS name of RFC 1123.
pub(crate) fn subdomain(text: &str) -> Result<(), String> {
    if text.len() > 253 {
        return Err("must be no more than 253 characters".into());
    }
    if text.split('.').all(is_label) { Ok(()) } else { Err(SUBDOMAIN.into()) }
}

/// A port's name: an IANA service name.
pub(crate) fn port_name(text: &str) -> Result<(), String> {
    if text.len() > 15 {
        return Err("must be no more than 15 characters".into());
    }
    let bytes = text.as_bytes();
    if !bytes.iter().all(|byte| lower(*byte) || *byte == b'-') {
        return Err("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !bytes.iter().any(u8::is_ascii_lowercase) {
        return Err("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        return Err("must not contain consecutive hyphens".into());
    }
    if bytes.first() == Some(&b'-') || bytes.last() == Some(&b'-') {
        return Err("must not begin or end with a hyphen".into());
    }
    Ok(())
}
