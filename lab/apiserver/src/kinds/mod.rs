//! The kinds that the lab serves: names, scope, subresources, and where their schemas come from.

pub(crate) mod allocate;
pub(crate) mod defaults;
pub(crate) mod external_host;
pub(crate) mod lists;
pub(crate) mod schema;

/// What the API knows of one kind.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) short: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) namespaced: bool,
    /// Has the subresource `status`; then `status` is ignored everywhere else.
    pub(crate) status: bool,
    /// Has the subresource `scale`.
    pub(crate) scale: bool,
    /// Counts changes of everything but `metadata` and `status` in `metadata.generation`.
    pub(crate) generation: bool,
    /// Name of its schema's definition.
    pub(crate) definition: &'static str,
}

impl Resource {
    /// `v1`, `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        group_version(self.group, self.version)
    }

    /// Its index in [`RESOURCES`]: the store's key.
    pub(crate) fn index(&self) -> usize {
        RESOURCES.iter().position(|other| std::ptr::eq(other, self)).expect("resources exist only in RESOURCES")
    }

    /// Whether it is the kind `kind` of `group`.
    pub(crate) fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }
}

/// `v1`, `apps/v1`.
pub(crate) fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Groups in the order in which discovery lists them; each has one version.
pub(crate) const GROUPS: [(&str, &str); 5] = [
    ("apps", "v1"),
    ("networking.k8s.io", "v1"),
    ("coordination.k8s.io", "v1"),
    ("discovery.k8s.io", "v1"),
    ("signalbox.dev", "v1alpha1"),
];

const fn core(
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
    definition: &'static str,
) -> Resource {
    Resource {
        group: "",
        version: "v1",
        kind,
        plural,
        singular,
        short,
        categories: &[],
        namespaced: true,
        status: false,
        scale: false,
        generation: false,
        definition,
    }
}

/// Every kind.
pub(crate) static RESOURCES: [Resource; 15] = [
    Resource {
        namespaced: false,
        status: true,
        ..core("Namespace", "namespaces", "namespace", &["ns"], "io.k8s.api.core.v1.Namespace")
    },
    Resource { namespaced: false, status: true, ..core("Node", "nodes", "node", &["no"], "io.k8s.api.core.v1.Node") },
    Resource {
        status: true,
        generation: true,
        categories: &["all"],
        ..core("Pod", "pods", "pod", &["po"], "io.k8s.api.core.v1.Pod")
    },
    Resource {
        status: true,
        categories: &["all"],
        ..core("Service", "services", "service", &["svc"], "io.k8s.api.core.v1.Service")
    },
    core("ServiceAccount", "serviceaccounts", "serviceaccount", &["sa"], "io.k8s.api.core.v1.ServiceAccount"),
    core("Event", "events", "event", &["ev"], "io.k8s.api.core.v1.Event"),
    core("ConfigMap", "configmaps", "configmap", &["cm"], "io.k8s.api.core.v1.ConfigMap"),
    core("Secret", "secrets", "secret", &[], "io.k8s.api.core.v1.Secret"),
    core("Endpoints", "endpoints", "endpoints", &["ep"], "io.k8s.api.core.v1.Endpoints"),
    Resource {
        group: "apps",
        status: true,
        scale: true,
        generation: true,
        categories: &["all"],
        ..core("Deployment", "deployments", "deployment", &["deploy"], "io.k8s.api.apps.v1.Deployment")
    },
    Resource {
        group: "apps",
        status: true,
        scale: true,
        generation: true,
        categories: &["all"],
        ..core("ReplicaSet", "replicasets", "replicaset", &["rs"], "io.k8s.api.apps.v1.ReplicaSet")
    },
    Resource {
        group: "networking.k8s.io",
        generation: true,
        ..core(
            "NetworkPolicy",
            "networkpolicies",
            "networkpolicy",
            &["netpol"],
            "io.k8s.api.networking.v1.NetworkPolicy",
        )
    },
    Resource {
        group: "coordination.k8s.io",
        ..core("Lease", "leases", "lease", &[], "io.k8s.api.coordination.v1.Lease")
    },
    Resource {
        group: "discovery.k8s.io",
        generation: true,
        ..core("EndpointSlice", "endpointslices", "endpointslice", &[], "io.k8s.api.discovery.v1.EndpointSlice")
    },
    Resource {
        group: "signalbox.dev",
        version: "v1alpha1",
        namespaced: false,
        generation: true,
        categories: &["signalbox"],
        ..core("ExternalHost", "externalhosts", "externalhost", &["xh"], "dev.signalbox.v1alpha1.ExternalHost")
    },
];

/// The kind that a path names.
pub(crate) fn by_plural(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES
        .iter()
        .find(|resource| resource.group == group && resource.version == version && resource.plural == plural)
}

/// The kind that an object names.
pub(crate) fn by_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|resource| resource.kind == kind && resource.api_version() == api_version)
}

/// A kind of the core group that the code itself needs.
pub(crate) fn core_kind(kind: &str) -> &'static Resource {
    by_kind("v1", kind).expect("the kind is listed in RESOURCES")
}
