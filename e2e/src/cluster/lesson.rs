//! Lesson one on a real cluster: its pods on both nodes, and the demo script's checks by `kubectl exec` from every one of them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::outside::{DATABASE, INTERNET, Outside};
use super::{Cluster, NODES, VERSION};
use crate::lesson::{ALL, Step};
use crate::shell::root;

/// How long a policy may take from `kubectl apply` to all nodes' kernels, on a busy machine.
const APPLIED_WITHIN: Duration = Duration::from_secs(15);

/// The lesson's manifests as a real cluster needs them: images that exist, one pod on each node, and the label that policies may select.
pub fn deploy(cluster: &Cluster) -> Result<()> {
    let path = root().join("assets/lessons/one/0-cluster.yaml");
    let printed = cluster.kubectl(&["create", "--dry-run=client", "-o", "json", "-f", &path.to_string_lossy()])?;
    let objects = serde_json::Deserializer::from_str(&printed).into_iter::<Value>();
    let mut manifests = Vec::new();
    for object in objects {
        let mut object = object?;
        if object["kind"] == "Namespace" {
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = object["metadata"]["name"].clone();
        }
        if object["kind"] == "Deployment" {
            adapt(&mut object);
        }
        manifests.push(object);
    }
    // Namespaces stand first in the file.
    let list = json!({"apiVersion": "v1", "kind": "List", "items": manifests});
    cluster.apply(&list.to_string())?;
    for (namespace, name) in WORKLOADS {
        cluster.rolled_out(namespace, &format!("deployment/{name}"))?;
    }
    Ok(())
}

const WORKLOADS: [(&str, &str); 3] = [("frontend", "web"), ("backend", "dbsvc"), ("backend", "extsvc")];

fn adapt(deployment: &mut Value) {
    let labels = deployment["spec"]["template"]["metadata"]["labels"].clone();
    deployment["spec"]["replicas"] = json!(NODES.len());
    deployment["spec"]["template"]["metadata"]["labels"]["signalbox.dev/probe"] = json!("");
    let pod = &mut deployment["spec"]["template"]["spec"];
    pod["terminationGracePeriodSeconds"] = json!(1);
    pod["topologySpreadConstraints"] = json!([{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": labels},
    }]);
    let container = &mut pod["containers"][0];
    container["image"] = json!(format!("signalbox/probe:{VERSION}"));
    container["imagePullPolicy"] = json!("IfNotPresent");
    container["args"] = json!(["serve", "--name", "$(POD_NAME)", "--port", "TCP/9000"]);
    container["env"] = json!([{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    container["readinessProbe"] = json!({"tcpSocket": {"port": 9000}, "periodSeconds": 1});
    container["securityContext"] = json!({
        "runAsNonRoot": true, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    });
}

/// A pod of the lesson.
#[derive(Clone, Debug)]
pub struct Pod {
    /// `frontend/web`.
    pub workload: String,
    /// Its own name.
    pub name: String,
    /// Where it runs.
    pub node: String,
    /// Where it is reached whether or not it is ready.
    address: String,
}

impl Pod {
    /// As the matrix calls it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("pod:{}/{}", self.namespace(), self.name)
    }

    fn namespace(&self) -> &str {
        self.workload.split_once('/').map_or("", |(namespace, _)| namespace)
    }
}

/// Its pods: two of each workload, one on each node.
pub fn pods(cluster: &Cluster) -> Result<Vec<Pod>> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<Value>,
    }
    let mut pods = Vec::new();
    for (namespace, name) in WORKLOADS {
        let printed = cluster.kubectl(&["-n", namespace, "get", "pods", "-l", &format!("run={name}"), "-o", "json"])?;
        let list: List = serde_json::from_str(&printed)?;
        let nodes: BTreeSet<String> = list.items.iter().filter_map(|pod| text(pod, "/spec/nodeName")).collect();
        ensure!(nodes.len() == NODES.len(), "the pods of {namespace}/{name} are on {nodes:?}");
        for pod in &list.items {
            let word = |path: &str| text(pod, path).with_context(|| format!("a pod has no {path}"));
            let (node, name_of_pod) = (word("/spec/nodeName")?, word("/metadata/name")?);
            let address = word("/status/podIP")?;
            pods.push(Pod { workload: format!("{namespace}/{name}"), name: name_of_pod, node, address });
        }
    }
    Ok(pods)
}

fn text(object: &Value, path: &str) -> Option<String> {
    object.pointer(path).and_then(Value::as_str).map(str::to_owned)
}

/// One connection that was tried: from where, to what, and what the probe said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tried {
    /// The lesson's cell.
    pub cell: (String, String),
    /// The pod and its node, or the node that users asked.
    pub from: String,
    /// Whether it opened.
    pub open: bool,
    /// The probe's sentence.
    pub said: String,
}

/// Runs the demo script from every pod, all of it at once.
pub fn round(cluster: &Cluster, outside: &Outside, pods: &[Pod]) -> Result<Vec<Tried>> {
    attempts(cluster, outside, pods)?.into_iter().collect()
}

/// The same, where some of it may not be tried at all.
pub fn attempts(cluster: &Cluster, outside: &Outside, pods: &[Pod]) -> Result<Vec<Result<Tried>>> {
    let node_ports = node_ports(cluster)?;
    Ok(std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (from, to) in ALL {
            let cell = ((*from).to_owned(), (*to).to_owned());
            if let Some((_, port)) = node_ports.iter().find(|(workload, _)| workload == to && *from == "outside/users")
            {
                for node in NODES {
                    // Policy `Local`: each node hands users to its own pod, and their address stays theirs.
                    let address = format!("172.30.0.1{}:{port}", node.trim_start_matches("node"));
                    let (cell, outside) = (cell.clone(), &outside);
                    running.push(scope.spawn(move || {
                        let ran = outside.connect(&address)?;
                        Ok(Tried { cell, from: node.to_owned(), open: ran.status == Some(0), said: said(&ran) })
                    }));
                }
                continue;
            }
            for pod in pods.iter().filter(|pod| pod.workload == *from) {
                let cell = cell.clone();
                running.push(scope.spawn(move || connect(cluster, pod, cell, &goal(to))));
            }
        }
        running.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?).collect()
    }))
}

/// Tries every pod from every pod of the lesson by its own address: neither Services, nor names, nor who is ready have a part in that.
pub fn direct(cluster: &Cluster, pods: &[Pod]) -> Vec<Result<Tried>> {
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for from in pods {
            for to in pods.iter().filter(|to| to.name != from.name) {
                let cell = (from.workload.clone(), to.workload.clone());
                running.push(scope.spawn(move || connect(cluster, from, cell, &format!("{}:9000", to.address))));
            }
        }
        running.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?).collect()
    })
}

/// One connection from a pod, by `kubectl exec`.
fn connect(cluster: &Cluster, pod: &Pod, cell: (String, String), goal: &str) -> Result<Tried> {
    let (namespace, name) = (pod.namespace(), pod.name.as_str());
    let probe = ["/bin/signalbox-probe", "connect", goal, "--timeout", "1s"];
    let ran = cluster.kubectl_raw(&[&["-n", namespace, "exec", name, "--"], &probe[..]].concat(), None)?;
    // Where `kubectl exec` itself fails the probe has said nothing.
    ensure!(ran.stdout.starts_with("TCP "), "{name} did not try {goal}: {ran:?}");
    let from = format!("{name} on {}", pod.node);
    Ok(Tried { cell, from, open: ran.status == Some(0), said: said(&ran) })
}

fn said(ran: &crate::shell::Ran) -> String {
    ran.stdout.trim().to_owned()
}

fn goal(to: &str) -> String {
    match to {
        "outside/database" => format!("{}:{}", DATABASE.0, DATABASE.1),
        "outside/internet" => format!("{}:{}", INTERNET.0, INTERNET.1),
        service => {
            let (namespace, name) = service.split_once('/').unwrap_or(("", service));
            format!("{name}.{namespace}:9000")
        }
    }
}

/// The node port of each workload's Service.
pub fn node_ports(cluster: &Cluster) -> Result<Vec<(String, u64)>> {
    let mut ports = Vec::new();
    for (namespace, name) in WORKLOADS {
        let printed = cluster.kubectl(&["-n", namespace, "get", "service", name, "-o", "json"])?;
        let service: Value = serde_json::from_str(&printed)?;
        let port = service.pointer("/spec/ports/0/nodePort").and_then(Value::as_u64).context("no node port")?;
        ports.push((format!("{namespace}/{name}"), port));
    }
    Ok(ports)
}

/// Applies a step, and waits until every connection from every pod is as the lesson's table has it.
pub fn check(cluster: &Cluster, outside: &Outside, pods: &[Pod], step: &Step) -> Result<Vec<Tried>> {
    if let Some(manifest) = step.manifest {
        let path = root().join("assets/lessons/one").join(manifest);
        cluster.kubectl(&["apply", "-f", &path.to_string_lossy()])?;
    }
    let mut last = Vec::new();
    cluster.wait(APPLIED_WITHIN, &format!("step {}", step.number), || {
        last = round(cluster, outside, pods)?;
        let wrong: Vec<_> = last.iter().filter(|tried| tried.open != is_open(step, tried)).collect();
        Ok(if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong:#?}")) })
    })?;
    Ok(last)
}

/// Waits until every connection is open, but for those to hosts by name: the names of hosts outside go with the kind that holds them.
pub fn all_open_to_addresses(cluster: &Cluster, outside: &Outside, pods: &[Pod]) -> Result<()> {
    cluster.wait(APPLIED_WITHIN, "all is open after the uninstallation", || {
        let tried = round(cluster, outside, pods)?;
        let is_nameless = |one: &Tried| one.cell.1 == "outside/internet" && one.said.contains("NXDOMAIN");
        let shut: Vec<_> = tried.iter().filter(|one| !one.open && !is_nameless(one)).collect();
        Ok(if shut.is_empty() { Ok(()) } else { Err(format!("{shut:#?}")) })
    })
}

/// Whether the lesson has it open after a step.
pub fn is_open(step: &Step, tried: &Tried) -> bool {
    step.open.iter().any(|(from, to)| *from == tried.cell.0 && *to == tried.cell.1)
}
