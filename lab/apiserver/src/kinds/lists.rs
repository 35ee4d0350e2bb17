//! What schemas generated from Rust types do not say: how lists merge, and which maps are one value.
//!
//! One table for strategic merge, server-side apply and the OpenAPI documents. Lists that are not named here are replaced
//! as a whole, which is Kubernetes' own default.

/// How one list merges.
pub(crate) struct ListRule {
    /// The definition that has the field, without its package's prefix.
    pub(crate) definition: &'static str,
    /// The field.
    pub(crate) field: &'static str,
    /// `x-kubernetes-patch-merge-key`; empty for lists of scalars; `None` where strategic merge replaces the list.
    pub(crate) merge_key: Option<&'static str>,
    /// `x-kubernetes-list-map-keys`; empty for a set; `None` for an atomic list.
    pub(crate) keys: Option<&'static [&'static str]>,
    /// `retainKeys` is part of the patch strategy.
    pub(crate) retain_keys: bool,
}

const fn map(
    definition: &'static str,
    field: &'static str,
    merge_key: &'static str,
    keys: &'static [&'static str],
) -> ListRule {
    ListRule { definition, field, merge_key: Some(merge_key), keys: Some(keys), retain_keys: false }
}

/// Lists that merge.
pub(crate) static LISTS: &[ListRule] = &[
    ListRule {
        definition: "meta.v1.ObjectMeta",
        field: "finalizers",
        merge_key: Some(""),
        keys: Some(&[]),
        retain_keys: false,
    },
    map("meta.v1.ObjectMeta", "ownerReferences", "uid", &["uid"]),
    map("core.v1.PodSpec", "containers", "name", &["name"]),
    map("core.v1.PodSpec", "initContainers", "name", &["name"]),
    map("core.v1.PodSpec", "ephemeralContainers", "name", &["name"]),
    ListRule {
        definition: "core.v1.PodSpec",
        field: "volumes",
        merge_key: Some("name"),
        keys: Some(&["name"]),
        retain_keys: true,
    },
    map("core.v1.PodSpec", "imagePullSecrets", "name", &["name"]),
    map("core.v1.PodSpec", "hostAliases", "ip", &["ip"]),
    map("core.v1.PodSpec", "topologySpreadConstraints", "topologyKey", &["topologyKey", "whenUnsatisfiable"]),
    ListRule {
        definition: "core.v1.PodSpec",
        field: "resourceClaims",
        merge_key: Some("name"),
        keys: Some(&["name"]),
        retain_keys: true,
    },
    map("core.v1.PodSpec", "schedulingGates", "name", &["name"]),
    map("core.v1.Container", "ports", "containerPort", &["containerPort", "protocol"]),
    map("core.v1.Container", "env", "name", &["name"]),
    map("core.v1.Container", "volumeMounts", "mountPath", &["mountPath"]),
    map("core.v1.Container", "volumeDevices", "devicePath", &["devicePath"]),
    map("core.v1.EphemeralContainer", "ports", "containerPort", &["containerPort", "protocol"]),
    map("core.v1.EphemeralContainer", "env", "name", &["name"]),
    map("core.v1.EphemeralContainer", "volumeMounts", "mountPath", &["mountPath"]),
    map("core.v1.EphemeralContainer", "volumeDevices", "devicePath", &["devicePath"]),
    map("core.v1.PodStatus", "conditions", "type", &["type"]),
    map("core.v1.PodStatus", "podIPs", "ip", &["ip"]),
    ListRule {
        definition: "core.v1.PodStatus",
        field: "hostIPs",
        merge_key: Some("ip"),
        keys: None,
        retain_keys: false,
    },
    map("core.v1.ServiceSpec", "ports", "port", &["port", "protocol"]),
    map("core.v1.ServiceStatus", "conditions", "type", &["type"]),
    ListRule {
        definition: "core.v1.NodeSpec",
        field: "podCIDRs",
        merge_key: Some(""),
        keys: Some(&[]),
        retain_keys: false,
    },
    map("core.v1.NodeStatus", "conditions", "type", &["type"]),
    map("core.v1.NodeStatus", "addresses", "type", &["type"]),
    map("core.v1.NamespaceStatus", "conditions", "type", &["type"]),
    map("core.v1.ServiceAccount", "secrets", "name", &["name"]),
    map("apps.v1.DeploymentStatus", "conditions", "type", &["type"]),
    map("apps.v1.ReplicaSetStatus", "conditions", "type", &["type"]),
    ListRule {
        definition: "discovery.v1.Endpoint",
        field: "addresses",
        merge_key: None,
        keys: Some(&[]),
        retain_keys: false,
    },
];

/// Structs that server-side apply owns as a whole.
pub(crate) static ATOMIC_STRUCTS: &[&str] = &[
    "meta.v1.LabelSelector",
    "meta.v1.OwnerReference",
    "core.v1.ObjectReference",
    "core.v1.LocalObjectReference",
    "core.v1.TypedLocalObjectReference",
    "core.v1.SecretKeySelector",
    "core.v1.ConfigMapKeySelector",
    "core.v1.ObjectFieldSelector",
    "core.v1.ResourceFieldSelector",
    "core.v1.NodeSelector",
    "core.v1.NodeSelectorTerm",
    "core.v1.SecretReference",
    "core.v1.TopologySelectorTerm",
];

/// Maps that server-side apply owns as a whole: definition and field.
pub(crate) static ATOMIC_MAPS: &[(&str, &str)] =
    &[("core.v1.PodSpec", "nodeSelector"), ("core.v1.ServiceSpec", "selector")];

/// Structs whose strategic merge knows `$retainKeys`: definition and field.
pub(crate) static RETAIN_KEYS: &[(&str, &str)] = &[("apps.v1.DeploymentSpec", "strategy")];

/// A definition's name without the package's prefix: `core.v1.PodSpec`.
pub(crate) fn short_name(definition: &str) -> &str {
    definition
        .strip_prefix("io.k8s.api.")
        .or_else(|| definition.strip_prefix("io.k8s.apimachinery.pkg.apis."))
        .unwrap_or(definition)
}

/// The rule for one list.
pub(crate) fn list_rule(definition: &str, field: &str) -> Option<&'static ListRule> {
    let definition = short_name(definition);
    LISTS.iter().find(|rule| rule.definition == definition && rule.field == field)
}
