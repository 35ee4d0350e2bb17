//! The kinds that are watched, and where API servers keep them.

use std::fmt;

use kube::api::ApiResource;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `v1`.
    Namespace,
    /// `v1`.
    Pod,
    /// `v1`.
    Service,
    /// `v1`: where node ports are reached, and labels that policies ask for.
    Node,
    /// `discovery.k8s.io/v1`, or `v1beta1` before Kubernetes 1.21.
    EndpointSlice,
    /// `networking.k8s.io/v1`.
    NetworkPolicy,
    /// `policy.networking.k8s.io/v1beta1` or `v1alpha2`.
    ClusterNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha1`.
    AdminNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha1`.
    BaselineAdminNetworkPolicy,
    /// Calico's.
    CalicoGlobalNetworkPolicy,
    /// Calico's.
    CalicoNetworkPolicy,
    /// Calico's: addresses that its policies select by labels.
    CalicoGlobalNetworkSet,
    /// Calico's, too.
    CalicoNetworkSet,
    /// Calico's: hosts that its policies select by labels.
    CalicoHostEndpoint,
    /// Cilium's: not understood, so that what it may bear on is unknown.
    CiliumNetworkPolicy,
    /// Cilium's.
    CiliumClusterwideNetworkPolicy,
    /// `signalbox.dev/v1alpha1`.
    ExternalHost,
}

const POLICY: &str = "policy.networking.k8s.io";
/// As stored, which every cluster with Calico has; and as its own API server shows them.
const CALICO: &[(&str, &str)] = &[("crd.projectcalico.org", "v1"), ("projectcalico.org", "v3")];

impl Kind {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Namespace,
        Self::Pod,
        Self::Service,
        Self::Node,
        Self::EndpointSlice,
        Self::NetworkPolicy,
        Self::ClusterNetworkPolicy,
        Self::AdminNetworkPolicy,
        Self::BaselineAdminNetworkPolicy,
        Self::CalicoGlobalNetworkPolicy,
        Self::CalicoNetworkPolicy,
        Self::CalicoGlobalNetworkSet,
        Self::CalicoNetworkSet,
        Self::CalicoHostEndpoint,
        Self::CiliumNetworkPolicy,
        Self::CiliumClusterwideNetworkPolicy,
        Self::ExternalHost,
    ];

    /// Whether a cluster may lack the kind: whether it is served has to be asked.
    pub const fn is_optional(self) -> bool {
        !matches!(
            self,
            Self::Namespace | Self::Pod | Self::Service | Self::Node | Self::EndpointSlice | Self::NetworkPolicy
        )
    }

    /// Whether it has to be asked where the API server keeps it, or whether it does.
    pub const fn has_to_be_found(self) -> bool {
        self.is_optional() || self.versions().len() > 1
    }

    /// Whether the engine needs it to judge.
    pub const fn is_judged(self) -> bool {
        !matches!(self, Self::Service | Self::EndpointSlice | Self::ExternalHost)
    }

    /// Whether policies are of this kind, or what policies select.
    pub const fn is_policy(self) -> bool {
        self.is_judged() && !matches!(self, Self::Namespace | Self::Pod | Self::Node)
    }

    /// Its name, and that of its lists.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Namespace => ("Namespace", "namespaces"),
            Self::Pod => ("Pod", "pods"),
            Self::Service => ("Service", "services"),
            Self::Node => ("Node", "nodes"),
            Self::EndpointSlice => ("EndpointSlice", "endpointslices"),
            Self::NetworkPolicy | Self::CalicoNetworkPolicy => ("NetworkPolicy", "networkpolicies"),
            Self::ClusterNetworkPolicy => ("ClusterNetworkPolicy", "clusternetworkpolicies"),
            Self::AdminNetworkPolicy => ("AdminNetworkPolicy", "adminnetworkpolicies"),
            Self::BaselineAdminNetworkPolicy => ("BaselineAdminNetworkPolicy", "baselineadminnetworkpolicies"),
            Self::CalicoGlobalNetworkPolicy => ("GlobalNetworkPolicy", "globalnetworkpolicies"),
            Self::CalicoGlobalNetworkSet => ("GlobalNetworkSet", "globalnetworksets"),
            Self::CalicoNetworkSet => ("NetworkSet", "networksets"),
            Self::CalicoHostEndpoint => ("HostEndpoint", "hostendpoints"),
            Self::CiliumNetworkPolicy => ("CiliumNetworkPolicy", "ciliumnetworkpolicies"),
            Self::CiliumClusterwideNetworkPolicy => {
                ("CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies")
            }
            Self::ExternalHost => ("ExternalHost", "externalhosts"),
        }
    }

    /// Groups and versions that may have it; the first one that is served counts.
    const fn versions(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Namespace | Self::Pod | Self::Service | Self::Node => &[("", "v1")],
            Self::EndpointSlice => &[("discovery.k8s.io", "v1"), ("discovery.k8s.io", "v1beta1")],
            Self::NetworkPolicy => &[("networking.k8s.io", "v1")],
            Self::ClusterNetworkPolicy => &[(POLICY, "v1beta1"), (POLICY, "v1alpha2")],
            Self::AdminNetworkPolicy | Self::BaselineAdminNetworkPolicy => &[(POLICY, "v1alpha1")],
            Self::CalicoGlobalNetworkPolicy
            | Self::CalicoNetworkPolicy
            | Self::CalicoGlobalNetworkSet
            | Self::CalicoNetworkSet
            | Self::CalicoHostEndpoint => CALICO,
            Self::CiliumNetworkPolicy | Self::CiliumClusterwideNetworkPolicy => &[("cilium.io", "v2")],
            Self::ExternalHost => &[("signalbox.dev", "v1alpha1")],
        }
    }

    /// Where the API server keeps it, for a kind that all have.
    pub fn resource(self) -> ApiResource {
        let (group, version) = self.versions()[0];
        self.at(group, version)
    }

    /// All places where it may be kept, best first.
    pub fn resources(self) -> impl Iterator<Item = ApiResource> {
        self.versions().iter().map(move |(group, version)| self.at(group, version))
    }

    fn at(self, group: &str, version: &str) -> ApiResource {
        let (kind, plural) = self.names();
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version,
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }
}

impl fmt::Display for Kind {
    /// As the engine calls it: with its group where Kubernetes has a kind of that name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, _) = self.names();
        if *self == Self::CalicoNetworkPolicy { write!(f, "{kind}.projectcalico.org") } else { f.write_str(kind) }
    }
}
