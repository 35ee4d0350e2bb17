//! EndpointSlices -> Endpoints: the older kind, which `kubectl` before 1.30 or so reads for `describe service`.
//!
//! It goes the other way round than Kubernetes' own mirroring, since nothing in the lab is told by Endpoints: what stands
//! in them follows from the slices, and is for people to read.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::cluster::Cluster;
use super::command::Command;
use super::owner::{controlled_by, controls};
use super::worker::{Controller, Inputs, Pass};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Runs [`decide`].
pub(crate) struct Mirror {
    pub(crate) cluster: Arc<Cluster>,
}

impl Controller for Mirror {
    const NAME: &'static str = "endpoints";

    fn inputs(&self) -> Inputs {
        Inputs::default().and(&self.cluster.services).and(&self.cluster.slices).and(&self.cluster.endpoints)
    }

    async fn pass(&mut self) -> Pass {
        let cluster = &self.cluster;
        let commands = decide(&cluster.services.list(), &cluster.slices.list(), &cluster.endpoints.list());
        Pass { failed: cluster.endpoints.carry_out(&cluster.client, commands).await, wake_in: None }
    }
}

/// What has to be written. Endpoints of a Service without a selector are somebody's own and are left alone; those of a
/// Service that is gone go with their owner.
fn decide(
    services: &[Arc<Service>],
    slices: &[Arc<EndpointSlice>],
    endpoints: &[Arc<Endpoints>],
) -> Vec<Command<Endpoints>> {
    let mut by_service: BTreeMap<(String, String), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        if let Some(service) = slice.labels().get(SERVICE_NAME) {
            by_service.entry((slice.namespace().unwrap_or_default(), service.clone())).or_default().push(slice);
        }
    }
    let known: BTreeMap<(String, String), &Arc<Endpoints>> =
        endpoints.iter().map(|one| ((one.namespace().unwrap_or_default(), one.name_any()), one)).collect();
    let selects = |service: &&Arc<Service>| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        service.metadata.deletion_timestamp.is_none() && selector.is_some_and(|selector| !selector.is_empty())
    };
    let mut commands = Vec::new();
    for service in services.iter().filter(selects) {
        let key = (service.namespace().unwrap_or_default(), service.name_any());
        // Without its slices nothing is known yet: an empty mirror would say that nobody is behind the Service.
        let Some(slices) = by_service.get(&key) else { continue };
        let subsets = subsets(slices);
        match known.get(&key) {
            None => commands.push(Command::Create(Box::new(Endpoints {
                metadata: ObjectMeta {
                    name: Some(key.1),
                    namespace: Some(key.0),
                    labels: service.metadata.labels.clone(),
                    owner_references: Some(vec![controlled_by(service.as_ref())]),
                    ..ObjectMeta::default()
                },
                subsets,
            }))),
            Some(known) if !controls(service.as_ref(), &known.metadata) => {}
            Some(known) if known.subsets.as_deref().unwrap_or_default() == subsets.as_deref().unwrap_or_default() => {}
            Some(known) => {
                let metadata = known.metadata.clone();
                commands.push(Command::Replace(Box::new(Endpoints { metadata, subsets })));
            }
        }
    }
    commands
}

/// Slices with the same ports become one subset: its addresses are its endpoints, the ready ones apart from the others.
fn subsets(slices: &[&EndpointSlice]) -> Option<Vec<EndpointSubset>> {
    let mut by_ports: Vec<EndpointSubset> = Vec::new();
    for slice in slices {
        let ports: Vec<EndpointPort> = slice.ports.iter().flatten().filter_map(port).collect();
        let (mut ready, mut unready) = (Vec::new(), Vec::new());
        for endpoint in &slice.endpoints {
            let conditions = endpoint.conditions.as_ref();
            // Absent means ready: "a nil value should be interpreted as true" (EndpointConditions).
            match conditions.and_then(|conditions| conditions.ready) {
                None | Some(true) => ready.extend(addresses(endpoint)),
                // One that ends is in no list: it gets no connections and will not be ready again.
                Some(false) if conditions.and_then(|conditions| conditions.terminating) == Some(true) => {}
                Some(false) => unready.extend(addresses(endpoint)),
            }
        }
        if ready.is_empty() && unready.is_empty() {
            continue;
        }
        let index = by_ports.iter().position(|subset| subset.ports.as_deref() == Some(&ports));
        let index = index.unwrap_or_else(|| {
            by_ports.push(EndpointSubset { ports: Some(ports), ..EndpointSubset::default() });
            by_ports.len() - 1
        });
        let subset = &mut by_ports[index];
        subset.addresses.get_or_insert_default().extend(ready);
        subset.not_ready_addresses.get_or_insert_default().extend(unready);
    }
    for subset in &mut by_ports {
        for list in [&mut subset.addresses, &mut subset.not_ready_addresses] {
            // The API server leaves empty lists out, and what is written is compared with what comes back.
            list.take_if(|list| list.is_empty());
        }
    }
    (!by_ports.is_empty()).then_some(by_ports)
}

fn port(port: &k8s_openapi::api::discovery::v1::EndpointPort) -> Option<EndpointPort> {
    Some(EndpointPort {
        name: port.name.clone().filter(|name| !name.is_empty()),
        port: port.port?,
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    })
}

fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = EndpointAddress> + '_ {
    endpoint.addresses.iter().map(|address| EndpointAddress {
        ip: address.clone(),
        hostname: endpoint.hostname.clone(),
        node_name: endpoint.node_name.clone(),
        target_ref: endpoint.target_ref.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(selector: serde_json::Value) -> Arc<Service> {
        let service =
            json!({"metadata": {"name": "web", "namespace": "a", "uid": "1"}, "spec": {"selector": selector}});
        Arc::new(serde_json::from_value(service).expect("a Service"))
    }

    fn slice(endpoints: serde_json::Value) -> Arc<EndpointSlice> {
        let slice = json!({
            "metadata": {"name": "web-x", "namespace": "a", "labels": {SERVICE_NAME: "web"}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 9000, "protocol": "TCP"}], "endpoints": endpoints,
        });
        Arc::new(serde_json::from_value(slice).expect("an EndpointSlice"))
    }

    fn written(commands: &[Command<Endpoints>]) -> &Endpoints {
        match commands {
            [Command::Create(one) | Command::Replace(one)] => one,
            other => panic!("one write, not {other:?}"),
        }
    }

    #[test]
    fn ready_ones_stand_apart_and_ending_ones_in_no_list() {
        let slice = slice(json!([
            {"addresses": ["10.244.0.5"], "conditions": {"ready": true}},
            {"addresses": ["10.244.0.6"], "conditions": {"ready": false, "terminating": false}},
            {"addresses": ["10.244.0.7"], "conditions": {"ready": false, "terminating": true}},
        ]));
        let commands = decide(&[service(json!({"run": "web"}))], &[slice], &[]);
        let subsets = serde_json::to_value(&written(&commands).subsets).expect("JSON");
        assert_eq!(
            subsets,
            json!([{"addresses": [{"ip": "10.244.0.5"}], "notReadyAddresses": [{"ip": "10.244.0.6"}],
                    "ports": [{"port": 9000, "protocol": "TCP"}]}])
        );
    }

    #[test]
    fn what_is_right_already_or_somebody_elses_is_left_alone() {
        let (service, slices) = (service(json!({"run": "web"})), [slice(json!([{"addresses": ["10.244.0.5"]}]))]);
        let ours = written(&decide(std::slice::from_ref(&service), &slices, &[])).clone();
        let services = [service];
        assert_eq!(decide(&services, &slices, &[Arc::new(ours.clone())]), []);
        let mut foreign = ours.clone();
        foreign.metadata.owner_references = None;
        foreign.subsets = None;
        assert_eq!(decide(&services, &slices, &[Arc::new(foreign)]), []);
        let stale = Endpoints { subsets: None, ..ours.clone() };
        assert_eq!(written(&decide(&services, &slices, &[Arc::new(stale)])).subsets, ours.subsets);
    }

    #[test]
    fn a_service_without_a_selector_or_without_slices_gets_none() {
        let slices = [slice(json!([{"addresses": ["10.244.0.5"]}]))];
        assert_eq!(decide(&[service(json!({}))], &slices, &[]), []);
        assert_eq!(decide(&[service(json!({"run": "web"}))], &[], &[]), []);
    }
}
