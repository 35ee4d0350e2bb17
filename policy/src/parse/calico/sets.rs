//! What selectors of Calico's rules select besides pods: NetworkSets, GlobalNetworkSets and HostEndpoints.

use serde_json::Value;

use crate::label::Labels;
use crate::parse::node::{Node, Problems};
use crate::parse::object;
use crate::policy;
use crate::selector::Selector;

/// All that are among the objects.
#[derive(Default)]
pub(crate) struct Sets {
    list: Vec<Set>,
}

/// Addresses that have labels.
struct Set {
    title: String,
    /// Absent for GlobalNetworkSets and HostEndpoints.
    namespace: Option<String>,
    /// Absent where they cannot be read: then it may be selected.
    labels: Option<Labels>,
}

/// Which namespaces a selector is about.
pub(super) enum Scope<'a> {
    /// All, and what is in none.
    Anywhere,
    /// What is in none.
    Global,
    /// All that a `namespaceSelector` may select.
    SomeNamespaces,
    /// One.
    Own(&'a str),
}

impl Sets {
    pub(crate) fn of<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        Self { list: objects.into_iter().filter_map(set).collect() }
    }

    /// The name of one that a selector may select, in some namespaces.
    pub(super) fn selected(&self, scope: &Scope<'_>, selector: &Selector) -> Option<&str> {
        let is_in_scope = |set: &Set| match scope {
            Scope::Anywhere => true,
            Scope::Global => set.namespace.is_none(),
            Scope::SomeNamespaces => set.namespace.is_some(),
            Scope::Own(own) => set.namespace.as_deref() == Some(*own),
        };
        let matches = |set: &Set| set.labels.as_ref().is_none_or(|labels| selector.matches(labels));
        self.list.iter().find(|set| is_in_scope(set) && matches(set)).map(|set| set.title.as_str())
    }
}

fn set(value: &Value) -> Option<Set> {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let (kind, has_namespace) = match (text("apiVersion")?.split_once('/')?.0, text("kind")?) {
        ("projectcalico.org" | "crd.projectcalico.org", "NetworkSet") => ("NetworkSet", true),
        ("projectcalico.org" | "crd.projectcalico.org", "GlobalNetworkSet") => ("GlobalNetworkSet", false),
        ("projectcalico.org" | "crd.projectcalico.org", "HostEndpoint") => ("HostEndpoint", false),
        (_, _) => return None,
    };
    let title = object::title(value, kind, has_namespace);
    let mut unread = Problems::new(title.clone(), "");
    let root = Node::root(value);
    let namespace = if has_namespace { object::namespace(&root, &mut unread) } else { None };
    let mut labels = object::labels(&root, &mut unread);
    if let (Some(labels), Some(namespace)) = (&mut labels, &namespace) {
        policy::calico::add(labels, policy::calico::NAMESPACE, namespace);
    }
    Some(Set { title, namespace, labels })
}
