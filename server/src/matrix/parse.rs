//! Kubernetes objects as the model needs them. What a policy means is the engine's business, not this module's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::Deserialize;
use signalbox_api::flow::Protocol;
use signalbox_api::state::EndpointPort;

use crate::cluster::objects::Object;

/// The label of pods that carry the probe. Its value names the container; empty: the first one.
pub const PROBE_LABEL: &str = "signalbox.dev/probe";
/// The label of stand-ins: `KIND.NAME` of what they stand in for.
pub const STAND_IN_LABEL: &str = "signalbox.dev/stands-in-for";
/// The label of what one run of a command has made: the Jobs of stand-ins, and the namespaces of `signalbox conformance`.
pub const RUN_LABEL: &str = "signalbox.dev/run";

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What owns it in the end, by name, or its own name.
    pub workload: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its containers' ports.
    pub ports: Vec<EndpointPort>,
    /// The condition `Ready`.
    pub ready: bool,
    /// Whether something can be run in it now.
    pub run: Run,
    /// Changes when a container is started anew, so that what ran in it before is gone.
    pub instance: String,
    /// The container that `exec` goes to.
    pub container: Option<String>,
    /// It has the label that says that it carries the probe.
    pub is_labelled: bool,
    /// `KIND.NAME` of what it stands in for.
    pub stands_in_for: Option<String>,
}

/// The node on which an enforcer has to take this pod in charge; absent where there is nothing to do for it.
pub fn enforceable_on(object: &Object) -> Option<String> {
    let (spec, status) = (&object.value["spec"], &object.value["status"]);
    let finished = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
    if finished || spec["hostNetwork"] == true || status["podIP"].as_str().is_none_or(str::is_empty) {
        return None;
    }
    spec["nodeName"].as_str().map(str::to_owned)
}

/// Whether something can be run in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Run {
    /// It has not started yet.
    Starting,
    /// It runs.
    Running,
    /// It ran, and does not now. Why, in words.
    Stopped(String),
}

/// A Service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The addresses that the cluster gave it. Empty for a headless one.
    pub cluster_addresses: Vec<IpAddr>,
    /// The addresses that it has outside the cluster.
    pub outside_addresses: Vec<IpAddr>,
    /// Where nodes answer for it, by port; empty where they do not.
    pub node_ports: BTreeMap<(u16, Protocol), u16>,
    /// Its ports.
    pub ports: Vec<EndpointPort>,
    /// `clusterIP: None`: the name resolves to the pods, and no port is translated.
    pub headless: bool,
    /// It selects pods.
    pub selects: bool,
}

/// One port of one address behind a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// `namespace`, `name` of the Service.
    pub service: (String, String),
    /// The Service port's name; empty where it has none.
    pub port_name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The pod, `namespace`, `name`, where it is one.
    pub pod: Option<(String, String)>,
    /// The address.
    pub address: IpAddr,
    /// The port after translation.
    pub port: u16,
    /// Gets connections.
    pub ready: bool,
}

/// A host outside the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Outside {
    /// `metadata.name`.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it is.
    pub spec: OutsideSpec,
    /// Why `spec` could not be read.
    pub problem: Option<String>,
}

/// `spec` of an `ExternalHost`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct OutsideSpec {
    /// Its addresses.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Its names in DNS.
    #[serde(default)]
    pub names: Vec<String>,
    /// What it listens on.
    #[serde(default)]
    pub ports: Vec<EndpointPort>,
    /// Probes start from it.
    #[serde(default)]
    pub vantage: bool,
}

/// Reads a pod. `None`: it has ended or is about to, or cannot be read.
pub fn pod(object: &Object) -> Option<Pod> {
    let pod: core::Pod = from_value(object)?;
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let status = pod.status.unwrap_or_default();
    let phase = status.phase.as_deref().unwrap_or("Pending");
    if matches!(phase, "Succeeded" | "Failed") {
        return None;
    }
    let spec = pod.spec.unwrap_or_default();
    let labels = pod.metadata.labels.unwrap_or_default();
    let owner =
        pod.metadata.owner_references.unwrap_or_default().into_iter().find(|owner| owner.controller == Some(true));
    let workload = match owner {
        Some(owner) if owner.kind == "ReplicaSet" => labels
            .get("pod-template-hash")
            .and_then(|hash| owner.name.strip_suffix(&format!("-{hash}")))
            .map_or_else(|| owner.name.clone(), str::to_owned),
        Some(owner) => owner.name,
        None => object.key.name.clone(),
    };
    let mut addresses: Vec<IpAddr> =
        status.pod_ips.unwrap_or_default().into_iter().filter_map(|ip| ip.ip.parse().ok()).collect();
    if addresses.is_empty() {
        addresses.extend(status.pod_ip.and_then(|ip| ip.parse::<IpAddr>().ok()));
    }
    let mut ports: Vec<EndpointPort> = Vec::new();
    for port in spec.containers.iter().flat_map(|container| container.ports.iter().flatten()) {
        let Some((number, protocol)) = number_and_protocol(port.container_port, port.protocol.as_deref()) else {
            continue;
        };
        if !ports.iter().any(|known| known.port == number && known.protocol == protocol) {
            ports.push(EndpointPort { port: number, protocol, name: port.name.clone() });
        }
    }
    let ready = status
        .conditions
        .unwrap_or_default()
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let named = labels.get(PROBE_LABEL).filter(|name| !name.is_empty());
    let container = named.cloned().or_else(|| spec.containers.first().map(|container| container.name.clone()));
    let missing = named.filter(|name| !spec.containers.iter().any(|container| container.name == **name));
    let state =
        status.container_statuses.unwrap_or_default().into_iter().find(|state| container.as_ref() == Some(&state.name));
    let restarts = state.as_ref().map_or(0, |state| state.restart_count);
    let run = match (phase, state.and_then(|state| state.state)) {
        (_, Some(state)) if state.running.is_some() => Run::Running,
        (_, Some(core::ContainerState { terminated: Some(ended), .. })) => Run::Stopped(format!(
            "its container ended with code {}{}",
            ended.exit_code,
            ended.reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
        )),
        (_, Some(core::ContainerState { waiting: Some(waiting), .. })) if restarts > 0 => {
            Run::Stopped(format!("its container waits: {}", waiting.reason.unwrap_or_default()))
        }
        ("Running", None) => Run::Running,
        _ => Run::Starting,
    };
    let run = match missing {
        Some(name) => Run::Stopped(format!("its label {PROBE_LABEL} names a container {name}, which it has not")),
        None => run,
    };
    let is_labelled = labels.contains_key(PROBE_LABEL);
    let stands_in_for = labels.get(STAND_IN_LABEL).cloned();
    let workload = match stands_in_for.as_deref().map(|what| what.split_once('.').unwrap_or(("", what))) {
        Some((_, name)) => format!("{name} (stand-in)"),
        None => workload,
    };
    Some(Pod {
        namespace: object.key.namespace.clone(),
        name: object.key.name.clone(),
        instance: format!("{}/{restarts}", pod.metadata.uid.unwrap_or_default()),
        labels,
        workload,
        addresses,
        ports,
        ready,
        run,
        container,
        is_labelled,
        stands_in_for,
    })
}

/// Reads a Service. `None`: it stands for a name elsewhere, or cannot be read.
pub fn service(object: &Object) -> Option<Service> {
    let service: core::Service = from_value(object)?;
    let spec = service.spec.unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") || service.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let mut cluster: Vec<String> = spec.cluster_ips.unwrap_or_default();
    if cluster.is_empty() {
        cluster.extend(spec.cluster_ip);
    }
    let headless = cluster.iter().any(|ip| ip == "None");
    let exposed = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    let mut node_ports = BTreeMap::new();
    let mut ports = Vec::new();
    for port in spec.ports.unwrap_or_default() {
        let Some((number, protocol)) = number_and_protocol(port.port, port.protocol.as_deref()) else { continue };
        let node_port = port.node_port.filter(|_| exposed).and_then(|port| u16::try_from(port).ok());
        if let Some(node_port) = node_port.filter(|port| *port != 0) {
            node_ports.insert((number, protocol), node_port);
        }
        ports.push(EndpointPort { port: number, protocol, name: port.name });
    }
    let ingress = service.status.and_then(|status| status.load_balancer).and_then(|balancer| balancer.ingress);
    Some(Service {
        namespace: object.key.namespace.clone(),
        name: object.key.name.clone(),
        labels: service.metadata.labels.unwrap_or_default(),
        cluster_addresses: cluster.iter().filter_map(|ip| ip.parse().ok()).collect(),
        outside_addresses: ingress.unwrap_or_default().into_iter().filter_map(|to| to.ip?.parse().ok()).collect(),
        node_ports,
        ports,
        headless,
        selects: spec.selector.is_some_and(|selector| !selector.is_empty()),
    })
}

/// The address by which a node is reached: the one in its own network before the one that others see.
pub fn node_address(object: &Object) -> Option<IpAddr> {
    let node: core::Node = from_value(object)?;
    let addresses = node.status?.addresses.unwrap_or_default();
    let of_type = |wanted: &str| addresses.iter().find(|address| address.type_ == wanted)?.address.parse().ok();
    of_type("InternalIP").or_else(|| of_type("ExternalIP"))
}

/// Reads the backends in a slice.
pub fn backends(object: &Object) -> Vec<Backend> {
    let Some(slice) = from_value::<EndpointSlice>(object) else { return Vec::new() };
    let Some(service) = slice.metadata.labels.and_then(|labels| labels.get("kubernetes.io/service-name").cloned())
    else {
        return Vec::new();
    };
    let mut backends = Vec::new();
    for port in slice.ports.unwrap_or_default() {
        let Some((number, protocol)) =
            port.port.and_then(|number| number_and_protocol(number, port.protocol.as_deref()))
        else {
            continue;
        };
        for endpoint in slice.endpoints.iter() {
            let pod = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
            let pod = pod.and_then(|target| {
                Some((target.namespace.clone().unwrap_or_else(|| object.key.namespace.clone()), target.name.clone()?))
            });
            // Absent means ready: "a nil value should be interpreted as true" (EndpointConditions).
            let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
            for address in endpoint.addresses.iter().filter_map(|address| address.parse().ok()) {
                backends.push(Backend {
                    service: (object.key.namespace.clone(), service.clone()),
                    port_name: port.name.clone().unwrap_or_default(),
                    protocol,
                    pod: pod.clone(),
                    address,
                    port: number,
                    ready,
                });
            }
        }
    }
    backends
}

/// Reads a host outside the cluster.
pub fn outside(object: &Object) -> Outside {
    let spec = serde_json::from_value(object.value.get("spec").cloned().unwrap_or_default());
    let labels = object
        .value
        .pointer("/metadata/labels")
        .and_then(|labels| serde_json::from_value(labels.clone()).ok())
        .unwrap_or_default();
    let (spec, problem) = match spec {
        Ok(spec) => (spec, None),
        Err(error) => (OutsideSpec::default(), Some(format!("its spec cannot be read: {error}"))),
    };
    Outside { name: object.key.name.clone(), labels, spec, problem }
}

fn from_value<T: serde::de::DeserializeOwned>(object: &Object) -> Option<T> {
    match T::deserialize(&object.value) {
        Ok(read) => Some(read),
        Err(error) => {
            tracing::warn!(namespace = object.key.namespace, name = object.key.name, %error, "cannot read an object");
            None
        }
    }
}

fn number_and_protocol(port: i32, protocol: Option<&str>) -> Option<(u16, Protocol)> {
    let protocol = match protocol.unwrap_or("TCP") {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return None,
    };
    Some((u16::try_from(port).ok().filter(|port| *port != 0)?, protocol))
}
