//! `ExternalHost`: a host outside the cluster that the lab knows (docs/adr/0002).

use schemars::JsonSchema;

/// A host outside the cluster.
#[derive(JsonSchema)]
#[schemars(rename = "dev.signalbox.v1alpha1.ExternalHost", rename_all = "camelCase")]
#[allow(dead_code, reason = "only its schema is used: objects are kept as JSON")]
pub(crate) struct ExternalHost {
    /// `signalbox.dev/v1alpha1`.
    api_version: Option<String>,
    /// `ExternalHost`.
    kind: Option<String>,
    /// Standard object's metadata.
    metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    /// How it is reached, and from where probes start.
    spec: Option<ExternalHostSpec>,
}

/// How a host outside the cluster is reached.
#[derive(JsonSchema)]
#[schemars(rename = "dev.signalbox.v1alpha1.ExternalHostSpec")]
#[allow(dead_code, reason = "only its schema is used: objects are kept as JSON")]
pub(crate) struct ExternalHostSpec {
    /// Its IP addresses.
    addresses: Vec<String>,
    /// Its DNS names; it is reached by the first one, or without names by the first address.
    names: Option<Vec<String>>,
    /// Ports on which it listens.
    ports: Option<Vec<ExternalHostPort>>,
    /// Probes start from here, through the subresource exec.
    vantage: Option<bool>,
}

/// A port on which a host outside the cluster listens.
#[derive(JsonSchema)]
#[schemars(rename = "dev.signalbox.v1alpha1.ExternalHostPort")]
#[allow(dead_code, reason = "only its schema is used: objects are kept as JSON")]
pub(crate) struct ExternalHostPort {
    /// 1 to 65535.
    port: i32,
    /// TCP, UDP or SCTP. Defaults to TCP.
    protocol: Option<String>,
}
