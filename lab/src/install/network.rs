//! Signalbox's own policies. Whoever reaches the page still has to log in, and enforcers show tokens; besides, nothing else is open.

use serde_json::{Value, json};

use super::{Options, names};

pub(super) fn objects(options: &Options) -> Vec<Value> {
    let policy = |name: &str, component: Option<&str>, spec: Value| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": names::metadata(name, Some(&options.namespace), component),
            "spec": spec,
        })
    };
    // Enforcers are on the nodes' networks, whose addresses nobody knows here: hence ports alone. Outwards the server needs the API server,
    // wherever that is, and DNS.
    let server = json!({
        "podSelector": {"matchLabels": names::selector("server")},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": [
            {"port": names::PAGE_PORT, "protocol": "TCP"},
            {"port": names::STREAMS_PORT, "protocol": "TCP"},
        ]}],
    });
    let all = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
    vec![policy("signalbox-default", None, all), policy(names::SERVER, Some("server"), server)]
}
