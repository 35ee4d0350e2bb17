//! `externalhosts.signalbox.dev`: hosts outside the cluster that are reached, or that probes start from. The same fields as in the lab.

use serde_json::{Value, json};

use super::names;

pub(super) fn definition() -> Value {
    let schema = json!({
        "type": "object",
        "description": "A host outside the cluster.",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["addresses"],
                "properties": {
                    "addresses": {
                        "type": "array", "minItems": 1, "items": {"type": "string"},
                        "description": "Its IP addresses.",
                    },
                    "names": {
                        "type": "array", "items": {"type": "string"},
                        "description": "Its DNS names; it is reached by the first one, or without names by the first address.",
                    },
                    "ports": {
                        "type": "array",
                        "description": "Ports on which it listens.",
                        "items": {
                            "type": "object",
                            "required": ["port"],
                            "properties": {
                                "port": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535},
                                "protocol": {"type": "string", "enum": ["TCP", "UDP", "SCTP"], "default": "TCP"},
                            },
                        },
                    },
                    "vantage": {
                        "type": "boolean",
                        "description": "Probes start from here; the host runs `signalbox join`.",
                    },
                },
            },
        },
    });
    let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": names::metadata("externalhosts.signalbox.dev", None, None),
        "spec": {
            "group": "signalbox.dev",
            "scope": "Cluster",
            "names": {
                "kind": "ExternalHost", "listKind": "ExternalHostList",
                "plural": "externalhosts", "singular": "externalhost",
            },
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema},
                "additionalPrinterColumns": [
                    column("Addresses", ".spec.addresses"),
                    column("Names", ".spec.names"),
                ],
            }],
        },
    })
}
