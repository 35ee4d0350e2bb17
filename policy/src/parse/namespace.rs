//! Namespace objects.

use serde_json::Value;

use crate::namespace::Namespace;
use crate::parse::node::{Node, Problems};
use crate::parse::object;
use crate::parse::problem::Problem;

/// A namespace and what was not understood of it. `None`: not even its name.
pub(crate) fn namespace(value: &Value) -> (Option<Namespace>, Vec<Problem>) {
    let mut problems = Problems::new(object::title(value, "Namespace", false), "v1");
    let root = Node::root(value);
    let name = object::name(&root, &mut problems);
    let labels = object::labels(&root, &mut problems);
    let namespace = name.map(|name| {
        let is_understood = labels.is_some();
        Namespace { is_understood, ..Namespace::new(name, labels.unwrap_or_default()) }
    });
    (namespace, problems.into_list())
}
