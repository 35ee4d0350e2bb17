//! Cells of pods without a probe: what the kernel decides on their own traffic belongs to them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use signalbox_api::cell::CellKey;
use signalbox_api::flow::Protocol;
use signalbox_api::kernel::FlowEvent;

use super::model::Model;

/// By source pod (`namespace/name`), destination and protocol.
#[derive(Debug, Default)]
pub struct Unprobed {
    cells: HashMap<String, HashMap<(SocketAddr, Protocol), CellKey>>,
    /// The pod that has an address: the node of the destination does not know the source by name.
    pods: HashMap<IpAddr, String>,
}

impl Unprobed {
    /// The cells of a model that no probe is tried for, and that name their destination by its own address: of a Service's
    /// traffic the kernel sees the pod behind it only.
    pub fn of(model: &Model) -> Self {
        let mut cells: HashMap<String, HashMap<_, _>> = HashMap::new();
        let unprobed = model.targets.iter().filter(|(key, _)| !model.vantages.contains_key(&key.from));
        for (key, target) in unprobed.filter(|(key, _)| !key.to.starts_with("service:")) {
            let Some(pod) = key.from.strip_prefix("pod:") else { continue };
            let of_pod = cells.entry(pod.to_owned()).or_default();
            for destination in &target.destinations {
                of_pod.insert((*destination, key.protocol), key.clone());
            }
        }
        let pods = model
            .endpoints
            .iter()
            .filter_map(|endpoint| Some((endpoint.id.strip_prefix("pod:")?, &endpoint.addresses)));
        let pods = pods.filter(|(pod, _)| cells.contains_key(*pod));
        let pods = pods.flat_map(|(pod, addresses)| addresses.iter().map(|address| (*address, pod.to_owned())));
        Self { pods: pods.collect(), cells }
    }

    /// The cell that an event is about.
    pub fn cell_of(&self, event: &FlowEvent) -> Option<&CellKey> {
        let destination = SocketAddr::new(event.destination.ip().to_canonical(), event.destination.port());
        let source = event.source_pod.as_ref().or_else(|| self.pods.get(&event.source.ip().to_canonical()))?;
        self.cells.get(source)?.get(&(destination, event.protocol.transport()?))
    }
}
