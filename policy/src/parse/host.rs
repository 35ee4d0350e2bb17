//! Node objects.

use std::net::IpAddr;

use serde_json::Value;

use crate::label::Labels;
use crate::parse::node::{Node, Problems};
use crate::parse::object;
use crate::parse::problem::Problem;

/// A node's name, its labels if they could be read, and its addresses. Host names among its addresses are passed over.
pub(crate) fn host(value: &Value) -> (Option<(String, Option<Labels>, Vec<IpAddr>)>, Vec<Problem>) {
    let mut problems = Problems::new(object::title(value, "Node", false));
    let root = Node::root(value);
    let name = object::name(&root, &mut problems);
    let labels = object::labels(&root, &mut problems);
    let addresses = value.pointer("/status/addresses").and_then(Value::as_array);
    let addresses =
        addresses.into_iter().flatten().filter_map(|item| item.get("address")?.as_str()?.parse().ok()).collect();
    (name.map(|name| (name, labels, addresses)), problems.into_list())
}
