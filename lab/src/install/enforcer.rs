//! The enforcer: one pod on each node, and the pod that cleans a node when it goes.

use serde_json::{Map, Value, json};

use super::{Enforcement, Options, names};

/// What `enforcer/src/rights.rs` says that the agent needs.
const CAPABILITIES: &[&str] = &["BPF", "PERFMON", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE"];
/// Where the agent answers the kubelet, on the node's loopback.
const MONITOR_PORT: u16 = 9464;
/// Where programs and tables are pinned.
const BPF: &str = "/sys/fs/bpf";
/// A profile of AppArmor for containers hides other users' processes, whose network namespaces are the pods'. An annotation, since a cluster
/// before 1.30 does not know the field.
const UNCONFINED: &str = "container.apparmor.security.beta.kubernetes.io/enforcer";

pub(super) fn daemon_set(options: &Options) -> Value {
    let mut arguments = vec![
        "run".to_owned(),
        "--socket=/run/signalbox/enforcer.sock".to_owned(),
        format!("--server-ca=configmap:{}/{}", options.namespace, names::AUTHORITY),
    ];
    match options.enforcement {
        Enforcement::Strict => arguments.push("--mode=strict".to_owned()),
        Enforcement::Audit => arguments.push("--audit".to_owned()),
        Enforcement::Standard | Enforcement::None => {}
    }
    arguments.extend(options.allow_real_pods.then(|| "--allow-probes-in-pods".to_owned()));
    let from_pod = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    // Without a server that answers there it enforces all the same.
    let server = format!("https://{}.{}.svc:{}", names::SERVICE, options.namespace, names::STREAMS_PORT);
    let ask = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": {"host": "127.0.0.1", "port": MONITOR_PORT, "path": path},
            "periodSeconds": period, "failureThreshold": failures,
        })
    };
    let container = json!({
        "name": "enforcer",
        "image": options.image("enforcer"),
        "imagePullPolicy": "IfNotPresent",
        "command": ["/signalbox-enforcer"],
        "args": arguments,
        "env": [
            from_pod("NODE_NAME", "spec.nodeName"),
            from_pod("NODE_ADDRESS", "status.hostIP"),
            {"name": "SIGNALBOX_SERVER", "value": server},
        ],
        "readinessProbe": ask("/readyz", 2, 3),
        "livenessProbe": ask("/healthz", 10, 6),
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": security(),
        "volumeMounts": [
            {"name": "bpf", "mountPath": BPF},
            {"name": "run", "mountPath": "/run/signalbox"},
            {"name": "token", "mountPath": "/var/run/secrets/signalbox", "readOnly": true},
        ],
    });
    let mut labels = names::labels(Some("enforcer"));
    labels.insert("app.kubernetes.io/version".to_owned(), options.version.clone().into());
    let mut spec = on_the_node(container);
    spec.insert("serviceAccountName".to_owned(), names::ENFORCER.into());
    // Not by architecture: on a node that the image is not for the pod fails where one can see it, instead of enforcing nothing unseen.
    spec.insert("nodeSelector".to_owned(), json!({"kubernetes.io/os": "linux"}));
    spec.insert("priorityClassName".to_owned(), "system-node-critical".into());
    spec.insert("dnsPolicy".to_owned(), "ClusterFirstWithHostNet".into());
    spec.insert("terminationGracePeriodSeconds".to_owned(), 10.into());
    let token =
        json!({"serviceAccountToken": {"audience": names::AUDIENCE, "expirationSeconds": 3600, "path": "token"}});
    let volumes = json!([
        {"name": "run", "emptyDir": {}},
        {"name": "token", "projected": {"sources": [token]}},
    ]);
    extend(&mut spec, "volumes", volumes);
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": names::metadata(names::ENFORCER, Some(&options.namespace), Some("enforcer")),
        "spec": {
            "selector": {"matchLabels": names::selector("enforcer")},
            // What is pinned goes on while a pod is replaced, and only one agent may hold the pins.
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": labels, "annotations": {UNCONFINED: "unconfined"}},
                "spec": spec,
            },
        },
    })
}

/// A pod that takes programs, tables and pins off one node, and ends.
pub(crate) fn cleaning_pod(namespace: &str, node: &str, image: &str) -> Value {
    let container = json!({
        "name": "enforcer",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/signalbox-enforcer"],
        "args": ["uninstall"],
        "securityContext": security(),
        "volumeMounts": [{"name": "bpf", "mountPath": BPF}],
    });
    let mut spec = on_the_node(container);
    spec.insert("nodeName".to_owned(), node.into());
    spec.insert("restartPolicy".to_owned(), "Never".into());
    spec.insert("automountServiceAccountToken".to_owned(), false.into());
    spec.insert("terminationGracePeriodSeconds".to_owned(), 0.into());
    let mut metadata =
        json!(names::metadata(&format!("signalbox-uninstall-{node}"), Some(namespace), Some("uninstall")));
    metadata["annotations"] = json!({UNCONFINED: "unconfined"});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

/// What both need to be where the node's interfaces and pins are.
fn on_the_node(container: Value) -> Map<String, Value> {
    let spec = json!({
        "hostNetwork": true,
        // Pods' network namespaces are found by the node's processes.
        "hostPID": true,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        // The node's own bpf file system: systemd mounts it, and what is pinned there outlives the pod.
        "volumes": [{"name": "bpf", "hostPath": {"path": BPF, "type": "Directory"}}],
    });
    let Value::Object(spec) = spec else { unreachable!("it is written as an object above") };
    spec
}

fn security() -> Value {
    json!({
        "runAsUser": 0,
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"], "add": CAPABILITIES},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

fn extend(spec: &mut Map<String, Value>, key: &str, more: Value) {
    if let (Some(Value::Array(list)), Value::Array(more)) = (spec.get_mut(key), more) {
        list.extend(more);
    }
}
