//! What is connected to: a port of a pod, of a Service, of a host outside.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use signalbox_api::state::EndpointPort;

use super::super::parse::{Backend, Outside, Pod, Service};
use super::super::spec::{End, Way};
use super::{absolute, outside_id, pod_id, service_id};

/// A column of the matrix: one port of one endpoint.
pub(super) struct Column {
    pub(super) id: String,
    pub(super) port: EndpointPort,
    pub(super) way: Way,
    /// What pods connect to, and what hosts outside connect to, host and port. Absent: they have no way there.
    pub(super) from_pods: Option<(String, u16)>,
    pub(super) from_outside: Option<(String, u16)>,
    pub(super) ends: Vec<End>,
    /// Ends, and those that get no connections now.
    pub(super) destinations: Vec<SocketAddr>,
}

/// One for each port that a pod declares.
pub(super) fn pod_columns(pod: &Pod) -> Vec<Column> {
    let Some(address) = pod.addresses.first().copied() else { return Vec::new() };
    let column = |port: &EndpointPort| Column {
        id: pod_id(&pod.namespace, &pod.name),
        port: port.clone(),
        way: Way::Direct,
        from_pods: Some((address.to_string(), port.port)),
        from_outside: Some((address.to_string(), port.port)),
        ends: vec![End {
            pod: Some((pod.namespace.clone(), pod.name.clone())),
            address: Some(address),
            port: port.port,
        }],
        destinations: vec![SocketAddr::new(address, port.port)],
    };
    pod.ports.iter().map(column).collect()
}

/// One for each port of a Service. `host` is what pods call it, `node` the address of a node, `behind` its backends.
pub(super) fn service_columns(service: &Service, host: &str, node: Option<IpAddr>, behind: &[&Backend]) -> Vec<Column> {
    let column = |port: &EndpointPort| {
        let is_of_port = |backend: &&Backend| {
            backend.port_name == port.name.as_deref().unwrap_or_default() && backend.protocol == port.protocol
        };
        let behind: BTreeSet<&Backend> = behind.iter().copied().filter(is_of_port).collect();
        // A headless Service translates nothing: whoever connects to its port comes to that port of the pod.
        let real = |backend: &Backend| if service.headless { port.port } else { backend.port };
        Column {
            id: service_id(&service.namespace, &service.name),
            port: port.clone(),
            way: Way::ThroughService,
            from_pods: Some((host.to_owned(), port.port)),
            from_outside: way_in(service, port, node).map(|(address, port)| (address.to_string(), port)),
            ends: behind
                .iter()
                .filter(|backend| backend.ready)
                .map(|backend| End { pod: backend.pod.clone(), address: Some(backend.address), port: real(backend) })
                .collect(),
            destinations: behind.iter().map(|backend| SocketAddr::new(backend.address, real(backend))).collect(),
        }
    };
    service.ports.iter().map(column).collect()
}

/// How hosts outside come to a Service: by its load balancer, else by a node's port, else, in a network that knows the
/// way, by the address that the cluster gave it.
fn way_in(service: &Service, port: &EndpointPort, node: Option<IpAddr>) -> Option<(IpAddr, u16)> {
    let balanced = service.outside_addresses.first().map(|address| (*address, port.port));
    let by_node = || Some((node?, *service.node_ports.get(&(port.port, port.protocol))?));
    let by_cluster_address = || service.cluster_addresses.first().map(|address| (*address, port.port));
    balanced.or_else(by_node).or_else(by_cluster_address)
}

/// One for each port of a host outside.
pub(super) fn outside_columns(host: &Outside) -> Vec<Column> {
    let name = host.spec.names.first().map(|name| absolute(name));
    let Some(to) = name.or(host.spec.addresses.first().map(IpAddr::to_string)) else {
        return Vec::new();
    };
    let column = |port: &EndpointPort| Column {
        id: outside_id(&host.name),
        port: port.clone(),
        way: Way::Direct,
        from_pods: Some((to.clone(), port.port)),
        from_outside: None,
        ends: host
            .spec
            .addresses
            .iter()
            .map(|address| End { pod: None, address: Some(*address), port: port.port })
            .collect(),
        destinations: host.spec.addresses.iter().map(|address| SocketAddr::new(*address, port.port)).collect(),
    };
    host.spec.ports.iter().map(column).collect()
}
