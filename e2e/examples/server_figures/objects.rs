//! The cluster's objects, as heavy as those of real clusters: what the engine's benches judge, with everything around it that a server
//! is sent and has no use for. The same arguments give the same cluster.

use serde_json::{Value, json};

pub use common::Size;

#[path = "../../../policy/benches/common/mod.rs"]
mod common;

/// Pods of one node.
const PODS_PER_NODE: usize = 250;
/// One of so many deployments has a Service.
const DEPLOYMENTS_PER_SERVICE: usize = 4;
/// Images that a node remembers; the kubelet reports up to 50.
const IMAGES: usize = 50;
const NOW: &str = "2026-01-01T00:00:00Z";

/// Everything, in the order in which it can be written.
pub fn objects(size: Size) -> Vec<Value> {
    let pods: Vec<Value> = (0..size.pods).map(|number| pod(size, number)).collect();
    let mut objects: Vec<Value> = common::objects(size);
    objects.retain(|object| object["kind"] != "Pod");
    objects.extend((0..size.pods.div_ceil(PODS_PER_NODE)).map(node));
    for replicas in pods.chunks(common::REPLICAS).step_by(DEPLOYMENTS_PER_SERVICE) {
        objects.push(service(&replicas[0]));
        objects.push(slice(replicas));
    }
    // Namespaces stand before what lies in them.
    objects.sort_by_key(|object| object["kind"] != "Namespace");
    objects.extend(pods);
    objects
}

/// A pod of a Deployment or of a StatefulSet.
fn pod(size: Size, number: usize) -> Value {
    let mut pod = common::pod(size, number);
    let labels = pod["metadata"]["labels"].clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (app, hash) = (text(&labels["app"]), text(&labels["pod-template-hash"]));
    let replica = number % common::REPLICAS;
    let owner = format!("{app}-{hash}");
    pod["metadata"]["name"] = format!("{owner}-{:05x}", number * 7919 % 0xF_FFFF).into();
    pod["metadata"]["generateName"] = format!("{owner}-").into();
    pod["metadata"]["annotations"] = json!({
        "checksum/config": "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945",
        "kubectl.kubernetes.io/restartedAt": NOW, "prometheus.io/scrape": "true", "prometheus.io/port": "9090",
    });
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "controller": true, "blockOwnerDeletion": true,
        "uid": format!("6f9619ff-8b86-4d01-b42d-{:012x}", number / common::REPLICAS),
    }]);
    let ports = pod["spec"]["containers"][0]["ports"].clone();
    let node = pod["spec"]["nodeName"].clone();
    let image = format!("registry.example/{app}/server:v1.{replica}.0");
    pod["spec"] = json!({
        "nodeName": node, "serviceAccountName": app, "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30, "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority", "enableServiceLinks": true,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [{
            "name": "migrate", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["/server", "migrate", "--wait=60s"],
            "env": [variable("DATABASE_URL")], "volumeMounts": [{"name": "config", "mountPath": "/etc/app", "readOnly": true}],
        }],
        "containers": [container("main", &image, &ports), container("proxy", "registry.example/mesh/proxy:v1.20.1", &json!([]))],
        "volumes": [
            {"name": "config", "configMap": {"name": format!("{app}-config"), "defaultMode": 420}},
            {"name": "tls", "secret": {"secretName": format!("{app}-tls"), "defaultMode": 420}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "kube-api-access-x2k4q", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
            ]}},
        ],
        "tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
        ],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app": app}}}],
    });
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": NOW});
    let kinds = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let address = pod["status"]["podIP"].clone();
    let host = pod["status"]["hostIP"].clone();
    pod["status"] = json!({
        "phase": "Running", "qosClass": "Burstable", "startTime": NOW,
        "podIP": address, "podIPs": [{"ip": address}], "hostIP": host, "hostIPs": [{"ip": host}],
        "conditions": kinds.map(condition),
        "initContainerStatuses": [{"name": "migrate", "ready": true, "restartCount": 0, "image": image, "imageID": digest(&image, number),
            "containerID": format!("containerd://{:064x}", number * 3), "state": {"terminated": {"exitCode": 0, "reason": "Completed",
            "startedAt": NOW, "finishedAt": NOW, "containerID": format!("containerd://{:064x}", number * 3)}}}],
        "containerStatuses": [status("main", &image, number * 3 + 1), status("proxy", "registry.example/mesh/proxy:v1.20.1", number * 3 + 2)],
    });
    pod
}

fn container(name: &str, image: &str, ports: &Value) -> Value {
    let probe = |path: &str| {
        json!({"httpGet": {"path": path, "port": 8080, "scheme": "HTTP"}, "initialDelaySeconds": 5,
        "periodSeconds": 10, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3})
    };
    let plain = [
        "LOG_LEVEL",
        "LISTEN",
        "DATABASE_HOST",
        "DATABASE_NAME",
        "CACHE_URL",
        "QUEUE_URL",
        "FEATURES",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ];
    let mut env: Vec<Value> = plain.into_iter().map(variable).collect();
    env.push(
        json!({"name": "DATABASE_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "database", "key": "password"}}}),
    );
    env.push(json!({"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}));
    json!({
        "name": name, "image": image, "imagePullPolicy": "IfNotPresent", "ports": ports, "env": env,
        "args": ["serve", "--config=/etc/app/config.yaml", "--graceful-timeout=25s"],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "livenessProbe": probe("/healthz"), "readinessProbe": probe("/readyz"), "startupProbe": probe("/healthz"),
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sleep", "5"]}}},
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/app", "readOnly": true},
            {"name": "tls", "mountPath": "/etc/tls", "readOnly": true},
            {"name": "scratch", "mountPath": "/tmp"},
            {"name": "kube-api-access-x2k4q", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true},
        ],
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
    })
}

fn variable(name: &str) -> Value {
    json!({"name": name, "value": format!("{}.platform.svc.cluster.local", name.to_lowercase().replace('_', "-"))})
}

fn status(name: &str, image: &str, number: usize) -> Value {
    json!({"name": name, "ready": true, "started": true, "restartCount": 0, "image": image, "imageID": digest(image, number),
        "containerID": format!("containerd://{number:064x}"), "state": {"running": {"startedAt": NOW}}, "lastState": {}})
}

fn digest(image: &str, number: usize) -> String {
    format!("{}@sha256:{:064x}", image.rsplit_once(':').map_or(image, |(name, _)| name), number * 31)
}

fn node(number: usize) -> Value {
    let name = format!("node-{number}");
    let address = format!("192.168.{}.{}", number / 256, number % 256);
    let condition = |kind: &str, is: &str| {
        json!({"type": kind, "status": is, "reason": format!("Kubelet{kind}"), "message": "as it should be",
        "lastHeartbeatTime": NOW, "lastTransitionTime": NOW})
    };
    let size = json!({"cpu": "16", "memory": "65842700Ki", "pods": "250", "ephemeral-storage": "101430960Ki", "hugepages-2Mi": "0"});
    let image = |at: usize| {
        let name = format!("registry.example/app-{at}/server");
        json!({"names": [format!("{name}@sha256:{:064x}", at * 31), format!("{name}:v1.0.0")], "sizeBytes": 60_000_000 + at})
    };
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "node.kubernetes.io/instance-type": "large", "topology.kubernetes.io/zone": format!("zone-{}", number % 3),
        }, "annotations": {"node.alpha.kubernetes.io/ttl": "0", "volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
        "spec": {"podCIDR": format!("10.{}.{}.0/24", 64 + number / 256, number % 256)},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "capacity": size, "allocatable": size,
            "conditions": [condition("MemoryPressure", "False"), condition("DiskPressure", "False"), condition("PIDPressure", "False"),
                condition("Ready", "True")],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "images": (0..IMAGES).map(image).collect::<Vec<_>>(),
            "nodeInfo": {"architecture": "amd64", "bootID": "b", "containerRuntimeVersion": "containerd://2.1.4", "kernelVersion": "6.12.0",
                "kubeProxyVersion": "v1.34.0", "kubeletVersion": "v1.34.0", "machineID": "m", "operatingSystem": "linux", "osImage": "Linux",
                "systemUUID": "s"},
        },
    })
}

/// The Service of the deployment that a pod is of.
fn service(pod: &Value) -> Value {
    let metadata = &pod["metadata"];
    let app = &metadata["labels"]["app"];
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": metadata["namespace"], "name": app, "labels": {"app": app},
            "annotations": {"prometheus.io/scrape": "true"}},
        "spec": {"selector": {"app": app}, "ports": [
            {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"},
            {"name": "metrics", "port": 9090, "targetPort": "metrics", "protocol": "TCP"},
        ]},
    })
}

fn slice(replicas: &[Value]) -> Value {
    let metadata = &replicas[0]["metadata"];
    let app = &metadata["labels"]["app"];
    let name = app.as_str().unwrap_or_default();
    let ports = replicas[0]["spec"]["containers"][0]["ports"].as_array().into_iter().flatten();
    let ports: Vec<Value> =
        ports.map(|port| json!({"name": port["name"], "port": port["containerPort"], "protocol": "TCP"})).collect();
    let endpoint = |pod: &Value| {
        json!({
            "addresses": [pod["status"]["podIP"]], "nodeName": pod["spec"]["nodeName"], "zone": "zone-0",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": metadata["namespace"], "name": pod["metadata"]["name"], "uid": "u"},
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": metadata["namespace"], "name": format!("{name}-x2k4q"),
            "labels": {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
        "ports": ports, "endpoints": replicas.iter().map(endpoint).collect::<Vec<_>>(),
    })
}
