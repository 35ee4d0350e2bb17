//! What everything is called (docs/adr/0010), and the labels that all of it has.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

/// The namespace that is taken where none is named.
pub const NAMESPACE: &str = "signalbox-system";
/// The server's Deployment and ServiceAccount.
pub const SERVER: &str = "signalbox-server";
/// The enforcer's DaemonSet and ServiceAccount.
pub const ENFORCER: &str = "signalbox-enforcer";
/// The Service in front of the server.
pub const SERVICE: &str = "signalbox";
/// Key and certificate of the server.
pub const TLS_SECRET: &str = "signalbox-server-tls";
/// The authority that signed them, for enforcers.
pub const AUTHORITY: &str = "signalbox-ca";
/// What enforcers' tokens are for.
pub const AUDIENCE: &str = "signalbox";
/// On the namespace: the enforcer's image, where there is one.
pub const ENFORCER_IMAGE: &str = "signalbox.dev/enforcer-image";
/// What all of our objects are a part of, as a label selector.
pub const PART: &str = "app.kubernetes.io/part-of=signalbox";

/// The page, and the streams of enforcers.
pub const PAGE_PORT: u16 = 8443;
/// See [`PAGE_PORT`].
pub const STREAMS_PORT: u16 = 9443;

/// The labels of an object, those of a component's included.
pub fn labels(component: Option<&str>) -> Map<String, Value> {
    let own = [("app.kubernetes.io/name", "signalbox"), ("app.kubernetes.io/part-of", "signalbox")];
    let component = component.map(|component| ("app.kubernetes.io/component", component));
    own.into_iter().chain(component).map(|(key, value)| (key.to_owned(), value.into())).collect()
}

/// What selects a component's pods.
pub fn selector(component: &str) -> Value {
    serde_json::json!({"app.kubernetes.io/name": "signalbox", "app.kubernetes.io/component": component})
}

/// Metadata of an object; without a namespace it is the cluster's.
pub fn metadata(name: &str, namespace: Option<&str>, component: Option<&str>) -> ObjectMeta {
    let labels = labels(component).into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())));
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: Some(labels.collect()),
        ..ObjectMeta::default()
    }
}
