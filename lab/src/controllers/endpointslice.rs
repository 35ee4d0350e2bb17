//! Services and pods -> EndpointSlices.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::cluster::Cluster;
use super::command::Command;
use super::owner::{controlled_by, controls};
use super::pod;
use super::rollout::hash_name;
use super::store::key_of;
use super::worker::{Controller, Inputs, Pass};

/// Says whose slices they are.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// The API allows no more endpoints in one slice.
const LARGEST_SLICE: usize = 1000;

/// Runs [`decide`] for every Service.
pub(crate) struct EndpointSlices {
    pub(crate) cluster: Arc<Cluster>,
}

impl Controller for EndpointSlices {
    const NAME: &'static str = "endpointslice";

    fn inputs(&self) -> Inputs {
        Inputs::default().and(&self.cluster.services).and(&self.cluster.pods).and(&self.cluster.slices)
    }

    async fn pass(&mut self) -> Pass {
        let cluster = &self.cluster;
        let pods = by_namespace(cluster.pods.list());
        let slices = by_namespace(cluster.slices.list());
        let mut commands = Vec::new();
        for service in cluster.services.list() {
            let namespace = service.namespace().unwrap_or_default();
            let (pods, slices) = (pods.get(&namespace), slices.get(&namespace));
            commands.extend(decide(&service, pods.map_or(&[], Vec::as_slice), slices.map_or(&[], Vec::as_slice)));
        }
        Pass { failed: cluster.slices.carry_out(&cluster.client, commands).await, wake_in: None }
    }
}

fn by_namespace<K: kube::Resource>(objects: Vec<Arc<K>>) -> BTreeMap<String, Vec<Arc<K>>> {
    let mut sorted: BTreeMap<String, Vec<Arc<K>>> = BTreeMap::new();
    for object in objects {
        sorted.entry(object.meta().namespace.clone().unwrap_or_default()).or_default().push(object);
    }
    sorted
}

/// Decides for one Service, given the pods and slices of its namespace.
///
/// A slice's name follows from what its endpoints have in common: address family and resolved ports. So a change of a
/// pod changes one slice in place, and nothing has to be remembered over a restart.
pub(crate) fn decide(
    service: &Service,
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
) -> Vec<Command<EndpointSlice>> {
    let held: Vec<_> = slices.iter().filter(|slice| is_ours(service, slice)).collect();
    let wanted = wanted(service, pods);
    let mut commands = Vec::new();
    for slice in &wanted {
        match held.iter().find(|known| known.name_any() == slice.name_any()) {
            None => commands.push(Command::Create(Box::new(slice.clone()))),
            Some(known) if same(known, slice) => {}
            Some(known) => {
                let metadata = ObjectMeta {
                    labels: slice.metadata.labels.clone(),
                    owner_references: slice.metadata.owner_references.clone(),
                    ..known.metadata.clone()
                };
                commands.push(Command::Replace(Box::new(EndpointSlice { metadata, ..slice.clone() })));
            }
        }
    }
    let names: BTreeSet<_> = wanted.iter().map(ResourceExt::name_any).collect();
    let superfluous = held.iter().filter(|slice| !names.contains(&slice.name_any()));
    commands.extend(superfluous.map(|slice| Command::Delete(key_of(slice.as_ref()), slice.uid().unwrap_or_default())));
    commands
}

fn is_ours(service: &Service, slice: &EndpointSlice) -> bool {
    let named = slice.labels().get(SERVICE_NAME).is_some_and(|name| *name == service.name_any());
    let managed = slice.labels().get(MANAGED_BY).is_some_and(|manager| manager == MANAGER);
    named && managed && slice.metadata.deletion_timestamp.is_none() && controls(service, &slice.metadata)
}

fn same(known: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    // The API server and a person with kubectl may add labels: what counts is that ours are there.
    let labels = wanted.labels().iter().all(|(key, value)| known.labels().get(key) == Some(value));
    labels
        && known.endpoints == wanted.endpoints
        && known.ports.clone().unwrap_or_default() == wanted.ports.clone().unwrap_or_default()
}

/// The slices that a Service should have.
fn wanted(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSlice> {
    let Some(spec) = &service.spec else { return Vec::new() };
    // Without a selector somebody else writes the slices; an ExternalName is an alias in DNS and nothing more.
    let Some(selector) = spec.selector.as_ref().filter(|selector| !selector.is_empty()) else { return Vec::new() };
    if spec.type_.as_deref() == Some("ExternalName") || service.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let behind: Vec<_> = pods
        .iter()
        .filter(|pod| !pod::is_finished(pod))
        .filter(|pod| selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value)))
        .collect();
    let mut slices = Vec::new();
    for family in families(service) {
        let mut groups: BTreeMap<Vec<ResolvedPort>, Vec<Endpoint>> = BTreeMap::new();
        for pod in &behind {
            let addresses = addresses(pod, family);
            if !addresses.is_empty() {
                let ports = spec.ports.iter().flatten().filter_map(|port| resolve(port, pod)).collect();
                groups.entry(ports).or_default().push(endpoint(service, pod, addresses));
            }
        }
        if groups.is_empty() {
            // One empty slice says that the Service is known and has nobody behind it.
            groups.insert(Vec::new(), Vec::new());
        }
        for (ports, endpoints) in groups {
            slices.extend(cut(service, family, &ports, endpoints));
        }
    }
    slices
}

fn cut(service: &Service, family: Family, ports: &[ResolvedPort], endpoints: Vec<Endpoint>) -> Vec<EndpointSlice> {
    let chunks = endpoints.len().div_ceil(LARGEST_SLICE).max(1);
    let mut endpoints = endpoints.into_iter();
    (0..chunks)
        .map(|chunk| {
            let known_by = format!("{}{ports:?}{chunk}", family.as_str());
            let suffix = &hash_name(known_by.as_bytes())[..5];
            let mut labels = service.metadata.labels.clone().unwrap_or_default();
            labels.insert(SERVICE_NAME.to_owned(), service.name_any());
            labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
            if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
                labels.insert(HEADLESS.to_owned(), String::new());
            }
            EndpointSlice {
                metadata: ObjectMeta {
                    name: Some(format!("{}-{suffix}", service.name_any())),
                    generate_name: Some(format!("{}-", service.name_any())),
                    namespace: service.namespace(),
                    labels: Some(labels),
                    owner_references: Some(vec![controlled_by(service)]),
                    ..ObjectMeta::default()
                },
                address_type: family.as_str().to_owned(),
                endpoints: endpoints.by_ref().take(LARGEST_SLICE).collect(),
                ports: (!ports.is_empty()).then(|| ports.iter().map(ResolvedPort::to_api).collect()),
            }
        })
        .collect()
}

/// One port of the Service as a certain pod has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ResolvedPort {
    name: String,
    number: i32,
    protocol: String,
    app_protocol: Option<String>,
}

impl ResolvedPort {
    fn to_api(&self) -> EndpointPort {
        EndpointPort {
            name: Some(self.name.clone()),
            port: Some(self.number),
            protocol: Some(self.protocol.clone()),
            app_protocol: self.app_protocol.clone(),
        }
    }
}

/// The number behind `targetPort` in this pod; `None` where the pod has no port of that name.
fn resolve(port: &ServicePort, pod: &Pod) -> Option<ResolvedPort> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let number = match &port.target_port {
        None => port.port,
        // What the API server's defaulting leaves out and a client sends as nothing.
        Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => named_port(pod, name, protocol)?,
    };
    Some(ResolvedPort {
        name: port.name.clone().unwrap_or_default(),
        number,
        protocol: protocol.to_owned(),
        app_protocol: port.app_protocol.clone(),
    })
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let sidecars =
        spec.init_containers.iter().flatten().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .find(|port| port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol)
        .map(|port| port.container_port)
}

fn endpoint(service: &Service, pod: &Pod, addresses: Vec<String>) -> Endpoint {
    let serving = pod::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let spec = service.spec.as_ref();
    let publish_unready = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let pod_spec = pod.spec.as_ref();
    // A pod has a host name in the Service's domain where it asks for one there.
    let hostname = pod_spec
        .filter(|spec| spec.subdomain.as_deref() == Some(&service.name_any()))
        .and_then(|spec| spec.hostname.clone());
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(publish_unready || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname,
        node_name: pod_spec.and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

fn families(service: &Service) -> Vec<Family> {
    let named: Vec<_> =
        service.spec.iter().flat_map(|spec| spec.ip_families.iter().flatten()).map(String::as_str).collect();
    let families: Vec<_> =
        [Family::V4, Family::V6].into_iter().filter(|family| named.contains(&family.as_str())).collect();
    if families.is_empty() { vec![Family::V4] } else { families }
}

fn addresses(pod: &Pod, family: Family) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
    let of_family = |text: &&String| {
        text.parse::<IpAddr>().is_ok_and(|address| match family {
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        })
    };
    let found: Vec<_> = all.filter(of_family).cloned().collect();
    if found.is_empty() { status.pod_ip.iter().filter(of_family).cloned().collect() } else { found }
}

#[cfg(test)]
#[path = "endpointslice_tests.rs"]
mod tests;
