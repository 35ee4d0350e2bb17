//! Which kind an object is, and its metadata.

use serde_json::Value;

use crate::label::{Labels, is_subdomain};
use crate::parse::node::{Node, Problems, shortened};
use crate::parse::problem::Reason;
use crate::parse::selector;

/// The namespace of an object that names none, as `kubectl` has it.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// What an object is to this engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Namespace,
    Node,
    Pod,
    NetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha2` and `v1beta1`, which mean the same.
    ClusterNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha1`.
    AdminNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha1`.
    BaselineAdminNetworkPolicy,
    /// Calico's.
    CalicoGlobalNetworkPolicy,
    /// Calico's.
    CalicoNetworkPolicy,
    /// Makes pods from a template; its kind.
    Workload(&'static str),
    /// A kind of policy that this engine cannot judge; its name.
    OtherPolicy(&'static str),
    /// Has no bearing on policies.
    Other,
    /// Does not say what it is.
    Nameless,
}

/// Which kind an object says it is.
pub(crate) fn kind(object: &Value) -> Kind {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let group = text("apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    match (text("apiVersion"), text("kind")) {
        ("v1", "Namespace") => Kind::Namespace,
        ("v1", "Node") => Kind::Node,
        ("v1", "Pod") => Kind::Pod,
        ("v1", "ReplicationController") => Kind::Workload("ReplicationController"),
        ("networking.k8s.io/v1", "NetworkPolicy") => Kind::NetworkPolicy,
        ("policy.networking.k8s.io/v1alpha2" | "policy.networking.k8s.io/v1beta1", "ClusterNetworkPolicy") => {
            Kind::ClusterNetworkPolicy
        }
        ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy") => Kind::AdminNetworkPolicy,
        ("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy") => Kind::BaselineAdminNetworkPolicy,
        ("projectcalico.org/v3" | "crd.projectcalico.org/v1", "GlobalNetworkPolicy") => Kind::CalicoGlobalNetworkPolicy,
        ("projectcalico.org/v3" | "crd.projectcalico.org/v1", "NetworkPolicy") => Kind::CalicoNetworkPolicy,
        (_, kind) => other(group, kind),
    }
}

/// The kinds of which several versions mean the same here, and those that cannot be judged.
fn other(group: &str, kind: &str) -> Kind {
    match (group, kind) {
        ("", "Namespace") => Kind::Namespace,
        ("", "Node") => Kind::Node,
        ("", "Pod") => Kind::Pod,
        ("apps" | "extensions", "Deployment") => Kind::Workload("Deployment"),
        ("apps", "StatefulSet") => Kind::Workload("StatefulSet"),
        ("apps" | "extensions", "DaemonSet") => Kind::Workload("DaemonSet"),
        ("apps" | "extensions", "ReplicaSet") => Kind::Workload("ReplicaSet"),
        ("batch", "Job") => Kind::Workload("Job"),
        ("batch", "CronJob") => Kind::Workload("CronJob"),
        // Whatever its group: old clusters have it in `extensions`.
        (_, "NetworkPolicy") => Kind::OtherPolicy("NetworkPolicy"),
        (_, "ClusterNetworkPolicy") => Kind::OtherPolicy("ClusterNetworkPolicy"),
        (_, "AdminNetworkPolicy") => Kind::OtherPolicy("AdminNetworkPolicy"),
        (_, "BaselineAdminNetworkPolicy") => Kind::OtherPolicy("BaselineAdminNetworkPolicy"),
        (_, "GlobalNetworkPolicy") => Kind::OtherPolicy("GlobalNetworkPolicy"),
        (_, "CiliumNetworkPolicy") => Kind::OtherPolicy("CiliumNetworkPolicy"),
        (_, "CiliumClusterwideNetworkPolicy") => Kind::OtherPolicy("CiliumClusterwideNetworkPolicy"),
        (_, "") => Kind::Nameless,
        (_, _) => Kind::Other,
    }
}

/// Kind, namespace and name for people, whatever state the object is in.
pub(crate) fn title(object: &Value, kind: &str, has_namespace: bool) -> String {
    let text = |field: &str| object.pointer(field).and_then(Value::as_str);
    let name = text("/metadata/name").unwrap_or("(without a name)");
    if has_namespace {
        format!("{kind} {}/{name}", text("/metadata/namespace").unwrap_or(DEFAULT_NAMESPACE))
    } else {
        format!("{kind} {name}")
    }
}

/// `metadata.name`.
pub(crate) fn name(root: &Node<'_>, problems: &mut Problems) -> Option<String> {
    let metadata = root.field("metadata");
    let name = metadata.as_ref().and_then(|metadata| metadata.field("name"));
    match name {
        Some(name) => name.string(problems).map(str::to_owned),
        None => {
            problems.add_at(root, "metadata.name", Reason::Missing);
            None
        }
    }
}

/// That a policy's name is one that the API takes: what it refuses is in no cluster, and isolates nobody. A name that is
/// not there has been told of.
pub(crate) fn check_name(root: &Node<'_>, name: Option<&str>, problems: &mut Problems) -> Option<()> {
    let Some(name) = name.filter(|name| !is_subdomain(name)) else { return Some(()) };
    problems.add_at(root, "metadata.name", Reason::Name { found: shortened(name) });
    None
}

/// `metadata.namespace`.
pub(crate) fn namespace(root: &Node<'_>, problems: &mut Problems) -> Option<String> {
    let metadata = root.field("metadata");
    match metadata.as_ref().and_then(|metadata| metadata.field("namespace")) {
        Some(namespace) => namespace.string(problems).map(str::to_owned),
        None => Some(DEFAULT_NAMESPACE.to_owned()),
    }
}

/// `metadata.labels`.
pub(crate) fn labels(root: &Node<'_>, problems: &mut Problems) -> Option<Labels> {
    let metadata = root.field("metadata");
    match metadata.as_ref().and_then(|metadata| metadata.field("labels")) {
        Some(labels) => selector::labels(&labels, problems),
        None => Some(Labels::new()),
    }
}
