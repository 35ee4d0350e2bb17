//! NetworkPolicy.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::{PROTOCOLS, forbidden, invalid, labels, one_of, port_or_name, required, unsupported};
use crate::object::items;
use crate::status::Cause;

/// A policy's `spec`.
pub(crate) fn policy(spec: &Value, causes: &mut Vec<Cause>) {
    labels::selector(&spec["podSelector"], "spec.podSelector", causes);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in items(spec, direction).iter().enumerate() {
            let path = format!("spec.{direction}[{index}]");
            for (index, entry) in items(rule, "ports").iter().enumerate() {
                port(entry, &format!("{path}.ports[{index}]"), causes);
            }
            for (index, entry) in items(rule, peers).iter().enumerate() {
                peer(entry, &format!("{path}.{peers}[{index}]"), causes);
            }
        }
    }
    let types = items(spec, "policyTypes");
    if types.len() > 2 {
        causes.push(invalid("spec.policyTypes", &spec["policyTypes"], "may not specify more than two policyTypes"));
        return;
    }
    for (index, kind) in types.iter().enumerate() {
        if kind != "Ingress" && kind != "Egress" {
            causes.push(unsupported(&format!("spec.policyTypes[{index}]"), kind, &["Egress", "Ingress"]));
        }
    }
}

fn port(entry: &Value, path: &str, causes: &mut Vec<Cause>) {
    one_of(entry, "protocol", path, &PROTOCOLS, causes);
    let port = &entry["port"];
    let end = &entry["endPort"];
    if port.is_null() {
        if !end.is_null() {
            causes.push(required(&format!("{path}.port"), "may not be empty when `endPort` is specified"));
        }
        return;
    }
    port_or_name(port, &format!("{path}.port"), causes);
    if end.is_null() {
        return;
    }
    let field = format!("{path}.endPort");
    match port.as_i64() {
        None => causes.push(forbidden(&field, "may not be specified when `port` is non-numeric")),
        Some(port) if end.as_i64().is_some_and(|end| end < port) => {
            causes.push(invalid(&field, &port.into(), "must be greater than or equal to `port`"));
        }
        Some(_) => super::port_number(end, &field, causes),
    }
}

fn peer(peer: &Value, path: &str, causes: &mut Vec<Cause>) {
    let named = ["podSelector", "namespaceSelector", "ipBlock"].map(|field| !peer[field].is_null());
    for field in ["podSelector", "namespaceSelector"] {
        labels::selector(&peer[field], &format!("{path}.{field}"), causes);
    }
    match named {
        [false, false, false] => causes.push(required(path, "must specify a peer")),
        [pods, namespaces, true] => {
            if pods || namespaces {
                causes.push(forbidden(path, "may not specify both ipBlock and another peer"));
            }
            block(&peer["ipBlock"], &format!("{path}.ipBlock"), causes);
        }
        [_, _, false] => {}
    }
}

fn block(block: &Value, path: &str, causes: &mut Vec<Cause>) {
    let field = format!("{path}.cidr");
    let text = block["cidr"].as_str().unwrap_or_default();
    if text.is_empty() {
        return causes.push(required(&field, ""));
    }
    let network = match cidr(text) {
        Ok(network) => Some(network),
        Err(why) => {
            causes.push(invalid(&field, &text.into(), why));
            None
        }
    };
    for (index, except) in items(block, "except").iter().enumerate() {
        let field = format!("{path}.except[{index}]");
        match cidr(except.as_str().unwrap_or_default()) {
            Err(why) => causes.push(invalid(&field, except, why)),
            Ok(inner) => {
                // A strict part: as large as the block itself would leave nothing.
                let part =
                    network.is_none_or(|network| network.contains(&inner) && network.prefix_len() < inner.prefix_len());
                if !part {
                    causes.push(invalid(&field, except, &format!("must be a strict subset of `{text}`")));
                }
            }
        }
    }
}

/// Addresses with host bits are read in canonical form, as Kubernetes reads them.
fn cidr(text: &str) -> Result<IpNet, &'static str> {
    const WHY: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let (address, length) = text.split_once('/').ok_or(WHY)?;
    let address: IpAddr = address.parse().map_err(|_| WHY)?;
    if length.is_empty()
        || !length.bytes().all(|byte| byte.is_ascii_digit())
        || (length.len() > 1 && length.starts_with('0'))
    {
        return Err(WHY);
    }
    let network = IpNet::new(address, length.parse().map_err(|_| WHY)?).map_err(|_| WHY)?;
    Ok(network.trunc())
}
