//! Kinds with little to check.

use std::net::IpAddr;

use serde_json::Value;

use super::{PROTOCOLS, forbidden, invalid, one_of, port_number, required, unsupported};
use crate::object::items;
use crate::status::Cause;

/// `ExternalHost`'s spec.
pub(crate) fn external_host(spec: &Value, causes: &mut Vec<Cause>) {
    if items(spec, "addresses").is_empty() {
        causes.push(required("spec.addresses", "at least one IP address"));
    }
    for (index, address) in items(spec, "addresses").iter().enumerate() {
        if address.as_str().unwrap_or_default().parse::<IpAddr>().is_err() {
            causes.push(invalid(&format!("spec.addresses[{index}]"), address, "must be a valid IP address"));
        }
    }
    for (index, name) in items(spec, "names").iter().enumerate() {
        if let Err(why) = super::names::subdomain(name.as_str().unwrap_or_default()) {
            causes.push(invalid(&format!("spec.names[{index}]"), name, &why));
        }
    }
    for (index, port) in items(spec, "ports").iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        port_number(&port["port"], &format!("{path}.port"), causes);
        one_of(port, "protocol", &path, &PROTOCOLS, causes);
    }
}

/// An EndpointSlice.
pub(crate) fn endpoint_slice(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let family = &object["addressType"];
    match family.as_str() {
        None | Some("") => causes.push(required("addressType", "")),
        Some("IPv4" | "IPv6" | "FQDN") => {}
        Some(_) => causes.push(unsupported("addressType", family, &["FQDN", "IPv4", "IPv6"])),
    }
    if old.is_some_and(|old| old["addressType"] != *family) {
        causes.push(invalid("addressType", family, "field is immutable"));
    }
    for (index, endpoint) in items(object, "endpoints").iter().enumerate() {
        let path = format!("endpoints[{index}].addresses");
        if items(endpoint, "addresses").is_empty() {
            causes.push(required(&path, "must contain at least 1 address"));
        }
        for (index, address) in items(endpoint, "addresses").iter().enumerate() {
            let parsed = address.as_str().unwrap_or_default().parse::<IpAddr>();
            let fits = match family.as_str() {
                Some("IPv4") => parsed.is_ok_and(|address| address.is_ipv4()),
                Some("IPv6") => parsed.is_ok_and(|address| address.is_ipv6()),
                _ => true,
            };
            if !fits {
                let family = family.as_str().unwrap_or_default();
                causes.push(invalid(
                    &format!("{path}[{index}]"),
                    address,
                    &format!("must be a valid {family} address"),
                ));
            }
        }
    }
    for (index, port) in items(object, "ports").iter().enumerate() {
        one_of(port, "protocol", &format!("ports[{index}]"), &PROTOCOLS, causes);
    }
}

/// A ConfigMap or a Secret.
pub(crate) fn data(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    for field in ["data", "binaryData"] {
        for (key, _) in object[field].as_object().into_iter().flatten() {
            let fits = !key.is_empty()
                && key.len() <= 253
                && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            if !fits {
                causes.push(invalid(
                    &format!("{field}[{key}]"),
                    &key.as_str().into(),
                    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
                ));
            }
        }
    }
    if let Some(old) = old.filter(|old| old["immutable"] == true) {
        for field in ["data", "binaryData", "immutable"] {
            if old[field] != object[field] {
                causes.push(forbidden(field, "field is immutable when `immutable` is set"));
            }
        }
    }
}

/// An Event lies in the namespace of what it is about.
pub(crate) fn event(object: &Value, causes: &mut Vec<Cause>) {
    let about = object["involvedObject"]["namespace"].as_str().unwrap_or("default");
    if object["metadata"]["namespace"] != about {
        causes.push(invalid("involvedObject.namespace", &about.into(), "does not match event.namespace"));
    }
}
