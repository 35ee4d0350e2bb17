//! Node objects.

use std::net::IpAddr;

use serde_json::Value;

/// A node's name and addresses. Host names among its addresses are passed over, as is a node without a name.
pub(crate) fn host(value: &Value) -> Option<(String, Vec<IpAddr>)> {
    let name = value.pointer("/metadata/name")?.as_str()?.to_owned();
    let addresses = value.pointer("/status/addresses").and_then(Value::as_array);
    let addresses =
        addresses.into_iter().flatten().filter_map(|item| item.get("address")?.as_str()?.parse().ok()).collect();
    Some((name, addresses))
}
