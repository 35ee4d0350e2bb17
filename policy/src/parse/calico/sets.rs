//! What selectors of Calico's rules select besides pods: NetworkSets, GlobalNetworkSets and HostEndpoints.
//!
//! Source: projectcalico/calico, `libcalico-go/lib/backend/syncersv1/updateprocessors/{networkset,globalnetworkset}processor.go`:
//! a NetworkSet has the label of its namespace, and inherits the namespace's own as pods do.

use ipnet::IpNet;
use serde_json::Value;

use crate::label::Labels;
use crate::names::ObjectRef;
use crate::parse::block::parse_net_or_address;
use crate::parse::node::{Node, Problems};
use crate::parse::object;
use crate::policy;
use crate::selector::Selector;

/// All that are among the objects.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    list: Vec<Set>,
}

/// Addresses that have labels.
#[derive(Debug)]
struct Set {
    title: String,
    /// Absent for GlobalNetworkSets and HostEndpoints.
    namespace: Option<String>,
    /// Absent where they cannot be read: then it may be selected.
    labels: Option<Labels>,
    /// Absent where they cannot be read, and for HostEndpoints, whose addresses may be found out at their nodes only.
    nets: Option<Vec<IpNet>>,
}

/// Which namespaces a selector is about.
pub(super) enum Scope<'a> {
    /// All, and what is in none.
    Anywhere,
    /// What is in none.
    Global,
    /// What is in any.
    AllNamespaces,
    /// All that a `namespaceSelector` may select.
    SomeNamespaces,
    /// One.
    Own(&'a str),
}

impl Sets {
    /// Of two with one name the later one counts.
    pub(crate) fn of<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut list: Vec<Set> = Vec::new();
        for set in objects.into_iter().filter_map(set) {
            list.retain(|other| other.title != set.title);
            list.push(set);
        }
        Self { list }
    }

    /// The addresses of all that a selector selects, in some namespaces.
    ///
    /// # Errors
    /// The name of one of which it cannot be told, or not what its addresses are.
    pub(super) fn selected(&self, scope: &Scope<'_>, selector: &Selector) -> Result<Vec<IpNet>, &str> {
        let mut nets = Vec::new();
        for set in &self.list {
            let is_in_scope = match scope {
                Scope::Anywhere => true,
                Scope::Global => set.namespace.is_none(),
                Scope::AllNamespaces | Scope::SomeNamespaces => set.namespace.is_some(),
                Scope::Own(own) => set.namespace.as_deref() == Some(*own),
            };
            if !is_in_scope || set.labels.as_ref().is_some_and(|labels| !selector.matches(labels)) {
                continue;
            }
            match (&set.labels, &set.nets, scope) {
                (Some(_), Some(known), Scope::Anywhere | Scope::Global | Scope::AllNamespaces | Scope::Own(_)) => {
                    nets.extend(known);
                }
                (_, _, _) => return Err(&set.title),
            }
        }
        Ok(nets)
    }
}

/// What such an object is called, where this is one.
pub(crate) fn set_name(value: &Value) -> Option<ObjectRef> {
    let (kind, has_namespace) = kind(value)?;
    let text = |path: &str| value.pointer(path).and_then(Value::as_str);
    let namespace = has_namespace.then(|| text("/metadata/namespace").unwrap_or(object::DEFAULT_NAMESPACE).to_owned());
    Some(ObjectRef::AddressSet { kind, namespace, name: text("/metadata/name").unwrap_or_default().to_owned() })
}

/// Its kind, and whether it lies in a namespace.
fn kind(value: &Value) -> Option<(&'static str, bool)> {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    match (text("apiVersion")?.split_once('/')?.0, text("kind")?) {
        ("projectcalico.org" | "crd.projectcalico.org", "NetworkSet") => Some(("NetworkSet", true)),
        ("projectcalico.org" | "crd.projectcalico.org", "GlobalNetworkSet") => Some(("GlobalNetworkSet", false)),
        ("projectcalico.org" | "crd.projectcalico.org", "HostEndpoint") => Some(("HostEndpoint", false)),
        (_, _) => None,
    }
}

fn set(value: &Value) -> Option<Set> {
    let (kind, has_namespace) = kind(value)?;
    let title = object::title(value, kind, has_namespace);
    let mut unread = Problems::new(title.clone(), "");
    let root = Node::root(value);
    let namespace = if has_namespace { object::namespace(&root, &mut unread) } else { None };
    let mut labels = object::labels(&root, &mut unread);
    if let (Some(labels), Some(namespace)) = (&mut labels, &namespace) {
        policy::calico::add(labels, policy::calico::NAMESPACE, namespace);
    }
    let nets = if kind == "HostEndpoint" { None } else { nets(value) };
    Some(Set { title, namespace, labels, nets })
}

/// `spec.nets`: CIDRs, or addresses. `None` where the `spec` says anything else, or one of them cannot be read.
fn nets(value: &Value) -> Option<Vec<IpNet>> {
    let Some(spec) = value.get("spec").filter(|spec| !spec.is_null()) else { return Some(Vec::new()) };
    if spec.as_object()?.keys().any(|field| field != "nets") {
        return None;
    }
    let Some(nets) = spec.get("nets").filter(|nets| !nets.is_null()) else { return Some(Vec::new()) };
    let net = |text: &str| {
        let net = parse_net_or_address(text)?;
        let is_mapped = matches!(net, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some());
        (!is_mapped).then(|| net.trunc())
    };
    nets.as_array()?.iter().map(|item| net(item.as_str()?)).collect()
}
