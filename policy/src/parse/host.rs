//! Node objects.

use std::net::IpAddr;

use serde_json::Value;

use crate::label::Labels;
use crate::parse::node::{Node, Problems};
use crate::parse::object;
use crate::parse::problem::Problem;

/// A node, as far as it could be read.
pub(crate) struct ParsedHost {
    pub name: String,
    /// Absent where they could not be read.
    pub labels: Option<Labels>,
    /// Host names among its addresses are passed over.
    pub addresses: Vec<IpAddr>,
}

/// A node, and what was not understood of it. `None`: not even its name.
pub(crate) fn host(value: &Value) -> (Option<ParsedHost>, Vec<Problem>) {
    let mut problems = Problems::new(object::title(value, "Node", false), "v1");
    let root = Node::root(value);
    let name = object::name(&root, &mut problems);
    let labels = object::labels(&root, &mut problems);
    let addresses = value.pointer("/status/addresses").and_then(Value::as_array);
    let addresses =
        addresses.into_iter().flatten().filter_map(|item| item.get("address")?.as_str()?.parse().ok()).collect();
    (name.map(|name| ParsedHost { name, labels, addresses }), problems.into_list())
}
