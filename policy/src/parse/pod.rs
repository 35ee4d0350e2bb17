//! Pod objects.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::label::Labels;
use crate::names::PodRef;
use crate::parse::node::{Node, Problems};
use crate::parse::problem::Problem;
use crate::parse::{block, object, port};
use crate::pod::Pod;
use crate::port::NamedPorts;

/// What a pod object says.
pub(crate) struct ParsedPod {
    /// `None`: not even its name could be read.
    pub pod: Option<Pod>,
    /// Set where the pod has ended: its phase.
    pub ended: Option<&'static str>,
    /// The addresses of its node, as far as it knows them.
    pub host_addresses: Vec<IpAddr>,
    /// What was not understood.
    pub problems: Vec<Problem>,
}

/// Reads a pod. What cannot be read is left out and reported.
pub(crate) fn pod(value: &Value) -> ParsedPod {
    let mut problems = Problems::new(object::title(value, "Pod", true), "v1");
    let root = Node::root(value);
    let namespace = object::namespace(&root, &mut problems);
    let name = object::name(&root, &mut problems);
    let labels = object::labels(&root, &mut problems);
    let spec = root.field("spec");
    let status = root.field("status");

    let phase = text(status.as_ref().and_then(|status| status.field("phase")), &mut problems);
    let read = self::spec(spec.as_ref(), &mut problems);
    let (mut addresses, mut host_addresses) = (Vec::new(), Vec::new());
    if let Some(status) = &status {
        addresses = address_list(status, "podIPs", "podIP", &mut problems);
        host_addresses = address_list(status, "hostIPs", "hostIP", &mut problems);
    }
    if read.is_host_network {
        host_addresses.extend(&addresses);
        if addresses.is_empty() {
            addresses.clone_from(&host_addresses);
        }
    }

    let is_understood = labels.is_some();
    let pod = namespace.zip(name).map(|(namespace, name)| {
        let mut pod = read.into_pod(PodRef { namespace, name }, labels.unwrap_or_default(), is_understood, addresses);
        if pod.node.is_none() {
            pod.node_addresses.clone_from(&host_addresses);
        }
        pod
    });
    let ended = match phase.as_deref() {
        Some("Succeeded") => Some("Succeeded"),
        Some("Failed") => Some("Failed"),
        Some(_) | None => None,
    };
    ParsedPod { pod, ended, host_addresses, problems: problems.into_list() }
}

/// What a pod's `spec` says, be it a pod's own or that of a workload's template.
pub(crate) struct PodSpec {
    node: Option<String>,
    is_host_network: bool,
    service_account: String,
    ports: NamedPorts,
}

impl PodSpec {
    pub(crate) fn into_pod(self, id: PodRef, labels: Labels, is_understood: bool, addresses: Vec<IpAddr>) -> Pod {
        let Self { node, is_host_network, service_account, ports } = self;
        let labels = Arc::new(labels);
        Pod {
            id,
            labels,
            node,
            node_addresses: Vec::new(),
            is_host_network,
            addresses,
            ports,
            service_account,
            is_understood,
        }
    }
}

/// Reads a pod's `spec`. What cannot be read is left out and reported.
pub(crate) fn spec(spec: Option<&Node<'_>>, problems: &mut Problems) -> PodSpec {
    let field = |name| spec.and_then(|spec| spec.field(name));
    let node = text(field("nodeName"), problems).filter(|name| !name.is_empty());
    let is_host_network = field("hostNetwork").and_then(|field| field.boolean(problems)).unwrap_or(false);
    let service_account = text(field("serviceAccountName"), problems)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "default".to_owned());
    let mut ports = NamedPorts::default();
    if let Some(spec) = spec {
        containers(spec, "containers", &mut ports, problems);
        containers(spec, "initContainers", &mut ports, problems);
    }
    PodSpec { node, is_host_network, service_account, ports }
}

fn text(field: Option<Node<'_>>, problems: &mut Problems) -> Option<String> {
    field.and_then(|field| field.string(problems).map(str::to_owned))
}

/// Adds the named ports of one list of containers. Of the `initContainers` only those that stay: with
/// `restartPolicy: Always`.
fn containers(spec: &Node<'_>, list: &str, names: &mut NamedPorts, problems: &mut Problems) {
    let Some(containers) = spec.field(list) else { return };
    let Some(items) = containers.items(problems) else { return };
    for container in items {
        let stays = || container.field("restartPolicy").is_some_and(|policy| policy.is_text("Always"));
        if list == "initContainers" && !stays() {
            continue;
        }
        let Some(ports) = container.field("ports") else { continue };
        let Some(items) = ports.items(problems) else { continue };
        for item in items {
            let Some(name) = item.field("name") else { continue };
            let name = name.string(problems);
            let protocol = port::protocol(&item, problems);
            let number = match item.field("containerPort") {
                Some(number) => number.port_number(problems),
                None => {
                    problems.add_at(&item, "containerPort", crate::parse::problem::Reason::Missing);
                    None
                }
            };
            if let (Some(name), Some(protocol), Some(number)) = (name, protocol, number) {
                names.insert(protocol, name, number);
            }
        }
    }
}

/// A list of `{ip: …}`, or where there is none the single field.
fn address_list(status: &Node<'_>, list: &str, single: &str, problems: &mut Problems) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    let entries = status.field(list);
    if let Some(entries) = &entries
        && let Some(items) = entries.items(problems)
    {
        for item in items {
            let Some(ip) = item.field("ip") else { continue };
            addresses.extend(block::address(&ip, problems));
        }
    }
    if entries.is_none()
        && let Some(ip) = status.field(single).filter(|ip| !ip.is_text(""))
    {
        addresses.extend(block::address(&ip, problems));
    }
    addresses
}
