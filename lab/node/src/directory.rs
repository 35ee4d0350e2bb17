//! What the service proxy and DNS know of the cluster: Services, EndpointSlices and the hosts outside.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{RwLock, RwLockReadGuard};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::outside::{self, HostSpec};

/// Namespace and name.
pub(crate) type Key = (String, String);

/// The label that names a slice's Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What is known now.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) services: BTreeMap<Key, Service>,
    slices: BTreeMap<Key, EndpointSlice>,
    pub(crate) hosts: BTreeMap<String, HostSpec>,
}

/// One endpoint of a Service's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) address: Ipv4Addr,
    /// Absent where the Service names no ports: headless ones may not.
    pub(crate) port: Option<u16>,
    pub(crate) hostname: Option<String>,
}

impl Known {
    /// The endpoints that a Service's port is served by: the ready ones, and if there are none those that still
    /// serve while they terminate, as kube-proxy has it.
    pub(crate) fn backends(&self, service: &Key, port_name: Option<&str>) -> Vec<Backend> {
        let slices = self.slices.values().filter(|slice| {
            slice.address_type == "IPv4"
                && slice.namespace().as_deref() == Some(service.0.as_str())
                && slice.labels().get(SERVICE_NAME) == Some(&service.1)
        });
        let mut ready = Vec::new();
        let mut leaving = Vec::new();
        for slice in slices {
            let port = match slice.ports.as_deref().filter(|ports| !ports.is_empty()) {
                None => None,
                Some(ports) => {
                    let named = |name: Option<&str>| name.unwrap_or_default() == port_name.unwrap_or_default();
                    match ports.iter().find(|port| named(port.name.as_deref())) {
                        Some(port) => port.port.and_then(|port| u16::try_from(port).ok()),
                        None => continue,
                    }
                }
            };
            for endpoint in &slice.endpoints {
                let Some(address) = endpoint.addresses.first().and_then(|address| address.parse().ok()) else {
                    continue;
                };
                let backend = Backend { address, port, hostname: endpoint.hostname.clone() };
                match readiness(endpoint) {
                    Readiness::Ready => ready.push(backend),
                    Readiness::Leaving => leaving.push(backend),
                    Readiness::No => {}
                }
            }
        }
        let mut backends = if ready.is_empty() { leaving } else { ready };
        backends.sort_by_key(|backend| (backend.address, backend.port));
        backends.dedup();
        backends
    }
}

enum Readiness {
    Ready,
    Leaving,
    No,
}

fn readiness(endpoint: &Endpoint) -> Readiness {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    // What is absent means yes, but for terminating; see the API's text.
    if conditions.ready.unwrap_or(true) {
        Readiness::Ready
    } else if conditions.terminating.unwrap_or(false) && conditions.serving.unwrap_or(true) {
        Readiness::Leaving
    } else {
        Readiness::No
    }
}

/// Keeps [`Known`] as the API has it.
#[derive(Debug)]
pub(crate) struct Directory {
    known: RwLock<Known>,
    changed: watch::Sender<u64>,
}

impl Default for Directory {
    fn default() -> Self {
        Self { known: RwLock::default(), changed: watch::Sender::new(0) }
    }
}

impl Directory {
    /// What is known now. Held for moments only.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Changes with every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Makes a change.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.write().unwrap_or_else(std::sync::PoisonError::into_inner));
        self.changed.send_modify(|version| *version += 1);
    }

    /// Watches until `stop`.
    pub(crate) async fn run(&self, client: &Client, stop: &CancellationToken) {
        let config = watcher::Config::default();
        let services = watch_objects(Api::<Service>::all(client.clone()), config.clone());
        let slices = watch_objects(Api::<EndpointSlice>::all(client.clone()), config.clone());
        let hosts = Api::<DynamicObject>::all_with(client.clone(), &outside::resource());
        let hosts = watch_objects(hosts, config);
        let all = async {
            tokio::join!(
                self.follow(
                    "services",
                    services.default_backoff(),
                    key,
                    |service: Service| Some(service),
                    |known| { &mut known.services }
                ),
                self.follow(
                    "endpoint slices",
                    slices.default_backoff(),
                    key,
                    |slice: EndpointSlice| Some(slice),
                    |known| { &mut known.slices }
                ),
                self.follow(
                    "external hosts",
                    hosts.default_backoff(),
                    |object: &DynamicObject| object.name_any(),
                    |object| outside::spec(&object).ok(),
                    |known| &mut known.hosts
                ),
            )
        };
        stop.run_until_cancelled(all).await;
    }

    async fn follow<K, V, I>(
        &self,
        what: &str,
        events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
        id: impl Fn(&K) -> I,
        value: impl Fn(K) -> Option<V>,
        map: impl Fn(&mut Known) -> &mut BTreeMap<I, V>,
    ) where
        I: Ord + Clone,
    {
        let mut events = std::pin::pin!(events);
        let mut listed = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event {
                Err(error) => tracing::warn!(%error, "the watch of {what} was interrupted"),
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    let id = id(&object);
                    listed.extend(value(object).map(|value| (id, value)));
                }
                Ok(Event::InitDone) => {
                    let listed = std::mem::take(&mut listed);
                    self.update(|known| *map(known) = listed);
                }
                Ok(Event::Apply(object)) => {
                    let id = id(&object);
                    let value = value(object);
                    self.update(|known| {
                        match value {
                            Some(value) => map(known).insert(id, value),
                            None => map(known).remove(&id),
                        };
                    });
                }
                Ok(Event::Delete(object)) => self.update(|known| {
                    map(known).remove(&id(&object));
                }),
            }
        }
    }
}

fn key<K: ResourceExt>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// What a test says is known.
///
/// # Panics
/// Where the test is written wrongly.
pub(crate) fn from_json(services: serde_json::Value, slices: serde_json::Value, hosts: serde_json::Value) -> Known {
    let services: Vec<Service> = serde_json::from_value(services).expect("a test's Services are well-formed");
    let slices: Vec<EndpointSlice> = serde_json::from_value(slices).expect("a test's slices are well-formed");
    Known {
        services: services.into_iter().map(|service| (key(&service), service)).collect(),
        slices: slices.into_iter().map(|slice| (key(&slice), slice)).collect(),
        hosts: serde_json::from_value(hosts).expect("a test's hosts are well-formed"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    pub(crate) use super::from_json as known;

    /// A slice of the Service `name` in `backend`, with one port and endpoints of address, ready, terminating.
    pub(crate) fn slice(name: &str, port: Value, endpoints: &[(&str, bool, bool)]) -> Value {
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|(address, ready, terminating)| {
                json!({"addresses": [address],
                       "conditions": {"ready": ready, "serving": true, "terminating": terminating}})
            })
            .collect();
        json!({"metadata": {"name": format!("{name}-1"), "namespace": "backend",
                            "labels": {"kubernetes.io/service-name": name}},
               "addressType": "IPv4", "ports": [port], "endpoints": endpoints})
    }

    #[test]
    fn ready_ones_or_else_those_that_still_serve() {
        let port = json!({"name": "http", "port": 9000, "protocol": "TCP"});
        type Case = (&'static [(&'static str, bool, bool)], &'static [&'static str]);
        let cases: [Case; 3] = [
            (&[("10.244.0.10", true, false), ("10.244.0.11", false, false)], &["10.244.0.10"]),
            (&[("10.244.0.10", false, true), ("10.244.0.11", true, false)], &["10.244.0.11"]),
            (&[("10.244.0.10", false, true), ("10.244.0.11", false, false)], &["10.244.0.10"]),
        ];
        for (endpoints, expected) in cases {
            let known = known(json!([]), json!([slice("dbsvc", port.clone(), endpoints)]), json!({}));
            let service = ("backend".to_owned(), "dbsvc".to_owned());
            let found: Vec<String> =
                known.backends(&service, Some("http")).iter().map(|b| b.address.to_string()).collect();
            assert_eq!(found, expected);
            assert_eq!(known.backends(&service, Some("other")), []);
        }
    }
}
