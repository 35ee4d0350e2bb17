//! What only the manifests show: Services, ports that containers declare, versions of nodes, and fields of policies as
//! they were written. Read leniently: what is wrong here is said by the parse boundary or by the API.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::label::Labels;
use crate::names::{PodRef, Protocol};
use crate::parse::object::{self, DEFAULT_NAMESPACE, Kind};

/// What was found.
#[derive(Default)]
pub(super) struct Raw<'a> {
    /// `networking.k8s.io/v1` NetworkPolicies by namespace and name; of several the last.
    pub network_policies: HashMap<(&'a str, &'a str), &'a Value>,
    /// All policies of any kind, with their titles.
    pub policies: Vec<(String, &'a Value)>,
    pub services: Vec<Service<'a>>,
    /// Namespaces of which there are objects.
    pub namespaces: HashSet<&'a str>,
    pub nodes: Nodes,
    /// Titles of objects that were there before under the same name.
    pub twice: BTreeSet<String>,
    pods: HashMap<PodRef, Declared>,
    workloads: HashMap<PodRef, Declared>,
}

/// Ports that a pod's containers declare.
pub(super) type Declared = BTreeSet<(Protocol, u16)>;

/// What Node objects say.
#[derive(Default)]
pub(super) struct Nodes {
    /// The lowest version of a kubelet, with the node's name.
    pub oldest: Option<((u32, u32), String)>,
    /// `spec.podCIDRs` of all.
    pub pod_blocks: BTreeSet<IpNet>,
    /// A node that a cloud provides, by the scheme of its `providerID`.
    pub cloud: Option<(String, String)>,
}

/// A Service with a selector.
pub(super) struct Service<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub selector: Labels,
    /// ClusterIPs, without `None`.
    pub addresses: Vec<IpAddr>,
    /// NodePort or LoadBalancer with `externalTrafficPolicy: Cluster`, which is the default.
    pub masks_sources: bool,
    pub ports: Vec<ServicePort<'a>>,
}

/// One of a Service's ports.
pub(super) struct ServicePort<'a> {
    pub protocol: Protocol,
    pub port: u16,
    pub target: Target<'a>,
}

/// Where a Service's port leads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Target<'a> {
    Number(u16),
    Name(&'a str),
}

impl<'a> Raw<'a> {
    pub fn read(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut raw = Self::default();
        let mut titles = HashSet::new();
        for value in objects {
            raw.add(value, &mut titles);
        }
        raw
    }

    /// The ports that a pod's containers declare; of a workload's stand-in those of its template.
    pub fn declared(&self, id: &PodRef) -> Option<&Declared> {
        self.pods.get(id).or_else(|| self.workloads.get(id)).or_else(|| {
            // Two workloads of one name: the later one's stand-in adds its kind.
            let (name, _) = id.name.rsplit_once(['-', '.', ' '])?;
            self.workloads.get(&PodRef { namespace: id.namespace.clone(), name: name.to_owned() })
        })
    }

    fn add(&mut self, value: &'a Value, titles: &mut HashSet<String>) {
        let (namespace, name) = (namespace(value), text(value, "/metadata/name").unwrap_or_default());
        let kind = object::kind(value);
        let title = match kind {
            Kind::Nameless | Kind::Other if text(value, "/kind") != Some("Service") => return,
            Kind::Namespace | Kind::Node => object::title(value, text(value, "/kind").unwrap_or_default(), false),
            Kind::ClusterNetworkPolicy => object::title(value, "ClusterNetworkPolicy", false),
            Kind::AdminNetworkPolicy => object::title(value, "AdminNetworkPolicy", false),
            Kind::BaselineAdminNetworkPolicy => object::title(value, "BaselineAdminNetworkPolicy", false),
            Kind::CalicoGlobalNetworkPolicy => object::title(value, crate::parse::calico::GLOBAL, false),
            Kind::CalicoNetworkPolicy => object::title(value, crate::parse::calico::NAMESPACED, true),
            Kind::OtherPolicy(kind) => object::title(value, kind, text(value, "/metadata/namespace").is_some()),
            Kind::Workload(kind) => object::title(value, kind, true),
            Kind::Pod | Kind::NetworkPolicy | Kind::Nameless | Kind::Other => {
                object::title(value, text(value, "/kind").unwrap_or_default(), true)
            }
        };
        if !name.is_empty() && !titles.insert(title.clone()) {
            self.twice.insert(title.clone());
        }
        match kind {
            Kind::Namespace => {
                self.namespaces.insert(name);
            }
            Kind::Node => self.nodes.add(name, value),
            Kind::Pod => {
                let id = PodRef { namespace: namespace.to_owned(), name: name.to_owned() };
                self.pods.insert(id, declared(value.get("spec")));
            }
            Kind::Workload(_) => {
                let id = PodRef { namespace: namespace.to_owned(), name: name.to_owned() };
                let template = value.pointer("/spec/jobTemplate").unwrap_or(value);
                self.workloads.entry(id).or_default().extend(declared(template.pointer("/spec/template/spec")));
            }
            Kind::NetworkPolicy => {
                self.network_policies.insert((namespace, name), value);
                self.policies.push((title, value));
            }
            Kind::ClusterNetworkPolicy
            | Kind::AdminNetworkPolicy
            | Kind::BaselineAdminNetworkPolicy
            | Kind::CalicoGlobalNetworkPolicy
            | Kind::CalicoNetworkPolicy
            | Kind::OtherPolicy(_) => self.policies.push((title, value)),
            Kind::Other | Kind::Nameless => self.services.extend(service(value, namespace, name)),
        }
    }
}

impl Nodes {
    fn add(&mut self, name: &str, value: &Value) {
        if let Some(version) = text(value, "/status/nodeInfo/kubeletVersion").and_then(version)
            && self.oldest.as_ref().is_none_or(|(oldest, _)| version < *oldest)
        {
            self.oldest = Some((version, name.to_owned()));
        }
        let list = value.pointer("/spec/podCIDRs").and_then(Value::as_array).into_iter().flatten();
        let single = value.pointer("/spec/podCIDR");
        self.pod_blocks.extend(list.chain(single).filter_map(|net| net.as_str()?.parse::<IpNet>().ok()));
        if let Some((scheme @ ("aws" | "gce" | "azure" | "openstack" | "digitalocean"), _)) =
            text(value, "/spec/providerID").and_then(|id| id.split_once("://"))
        {
            self.cloud.get_or_insert_with(|| (name.to_owned(), scheme.to_owned()));
        }
    }
}

/// `v1.24.3+k3s1` is 1.24.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim_start_matches('v').split(['.', '+', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn declared(spec: Option<&Value>) -> Declared {
    let containers = |list: &str| spec.and_then(|spec| spec.get(list)).and_then(Value::as_array).into_iter().flatten();
    let stays = |container: &&Value| text(container, "/restartPolicy") == Some("Always");
    let all = containers("containers").chain(containers("initContainers").filter(stays));
    let ports = all.filter_map(|container| container.get("ports")?.as_array()).flatten();
    ports.filter_map(|port| Some((protocol(port)?, number(port.get("containerPort")?)?))).collect()
}

fn service<'a>(value: &'a Value, namespace: &'a str, name: &'a str) -> Option<Service<'a>> {
    let spec = value.get("spec")?;
    let selector = spec.get("selector")?.as_object()?;
    let selector: Labels =
        selector.iter().map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect::<Option<_>>()?;
    if selector.is_empty() {
        return None;
    }
    let list = spec.get("clusterIPs").and_then(Value::as_array).into_iter().flatten();
    let addresses: BTreeSet<IpAddr> =
        list.chain(spec.get("clusterIP")).filter_map(|ip| ip.as_str()?.parse().ok()).collect();
    let ports = spec.get("ports").and_then(Value::as_array).into_iter().flatten();
    let ports = ports.filter_map(|item| {
        let port = number(item.get("port")?)?;
        let target = match item.get("targetPort") {
            None | Some(Value::Null) => Target::Number(port),
            Some(Value::String(name)) => Target::Name(name),
            Some(other) => Target::Number(number(other)?),
        };
        Some(ServicePort { protocol: protocol(item)?, port, target })
    });
    let is_external = matches!(text(spec, "/type"), Some("NodePort" | "LoadBalancer"));
    Some(Service {
        namespace,
        name,
        selector,
        addresses: addresses.into_iter().collect(),
        masks_sources: is_external && text(spec, "/externalTrafficPolicy") != Some("Local"),
        ports: ports.collect(),
    })
}

pub(super) fn namespace(value: &Value) -> &str {
    text(value, "/metadata/namespace").unwrap_or(DEFAULT_NAMESPACE)
}

pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|number| u16::try_from(number).ok())
}

fn protocol(port: &Value) -> Option<Protocol> {
    match port.get("protocol") {
        None | Some(Value::Null) => Some(Protocol::Tcp),
        Some(value) => match value.as_str()? {
            "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            _ => None,
        },
    }
}
