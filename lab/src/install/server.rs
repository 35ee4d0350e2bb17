//! The server: one Deployment, and the Service in front of it.

use serde_json::{Value, json};

use super::{Options, names};

/// Whom the server runs as: nobody in particular.
const NOBODY: i64 = 65532;

pub(super) fn objects(options: &Options) -> Vec<Value> {
    vec![deployment(options), service(options)]
}

fn deployment(options: &Options) -> Value {
    let mut arguments = vec![
        "serve".to_owned(),
        format!("--listen=0.0.0.0:{}", names::PAGE_PORT),
        format!("--streams=0.0.0.0:{}", names::STREAMS_PORT),
        format!("--namespace={}", options.namespace),
        format!("--tls-secret={}", names::TLS_SECRET),
        format!("--probe-image={}", options.image("probe")),
        "--users".to_owned(),
        "--audit-log=-".to_owned(),
    ];
    arguments.extend(options.allow_apply.then(|| "--allow-apply".to_owned()));
    arguments.extend(options.allow_real_pods.then(|| "--allow-real-pods".to_owned()));
    let ask = |period: u32, failures: u32| {
        json!({
            "httpGet": {"path": "/healthz", "port": "https", "scheme": "HTTPS"},
            "periodSeconds": period, "failureThreshold": failures,
        })
    };
    let mut labels = names::labels(Some("server"));
    labels.insert("app.kubernetes.io/version".to_owned(), options.version.clone().into());
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": names::metadata(names::SERVER, Some(&options.namespace), Some("server")),
        "spec": {
            "replicas": 1,
            // Two at once would steer the same probes twice.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": names::selector("server")},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": names::SERVER,
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "terminationGracePeriodSeconds": 10,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": NOBODY, "runAsGroup": NOBODY,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": "server",
                        "image": options.image("server"),
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["/signalbox"],
                        "args": arguments,
                        "ports": [
                            {"name": "https", "containerPort": names::PAGE_PORT, "protocol": "TCP"},
                            {"name": "streams", "containerPort": names::STREAMS_PORT, "protocol": "TCP"},
                        ],
                        // Ready as soon as it answers: what keeps the first matrix from standing is shown on the page.
                        "readinessProbe": ask(2, 3),
                        "livenessProbe": ask(10, 6),
                        // docs/performance.md: 87 MiB in front of 1,000 pods; 326 MiB in front of 10,000 at the start, 463 MiB while many change.
                        "resources": {
                            "requests": {"cpu": "50m", "memory": "128Mi"},
                            "limits": {"memory": "1Gi"},
                        },
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }],
                },
            },
        },
    })
}

fn service(options: &Options) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": names::metadata(names::SERVICE, Some(&options.namespace), Some("server")),
        "spec": {
            "selector": names::selector("server"),
            "ports": [
                {"name": "https", "port": 443, "targetPort": "https", "protocol": "TCP"},
                {"name": "streams", "port": names::STREAMS_PORT, "targetPort": "streams", "protocol": "TCP"},
            ],
        },
    })
}
