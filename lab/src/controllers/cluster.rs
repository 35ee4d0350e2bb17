//! Everything that the controllers watch, each kind once.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use tokio_util::sync::CancellationToken;

use super::store::Store;

/// The stores, and the client that writes.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespaces: Arc<Store<Namespace>>,
    pub(crate) nodes: Arc<Store<Node>>,
    pub(crate) accounts: Arc<Store<ServiceAccount>>,
    pub(crate) deployments: Arc<Store<Deployment>>,
    pub(crate) replica_sets: Arc<Store<ReplicaSet>>,
    pub(crate) pods: Arc<Store<Pod>>,
    pub(crate) services: Arc<Store<Service>>,
    pub(crate) slices: Arc<Store<EndpointSlice>>,
    pub(crate) endpoints: Arc<Store<Endpoints>>,
}

impl Cluster {
    /// Starts one watch for each kind.
    pub(crate) fn watch(client: Client, shutdown: &CancellationToken) -> Arc<Self> {
        let cluster = Arc::new(Self {
            client: client.clone(),
            namespaces: Arc::default(),
            nodes: Arc::default(),
            accounts: Arc::default(),
            deployments: Arc::default(),
            replica_sets: Arc::default(),
            pods: Arc::default(),
            services: Arc::default(),
            slices: Arc::default(),
            endpoints: Arc::default(),
        });
        cluster.namespaces.watch_cluster(&client, shutdown);
        cluster.nodes.watch_cluster(&client, shutdown);
        cluster.accounts.watch_namespaced(&client, shutdown);
        cluster.deployments.watch_namespaced(&client, shutdown);
        cluster.replica_sets.watch_namespaced(&client, shutdown);
        cluster.pods.watch_namespaced(&client, shutdown);
        cluster.services.watch_namespaced(&client, shutdown);
        cluster.slices.watch_namespaced(&client, shutdown);
        cluster.endpoints.watch_namespaced(&client, shutdown);
        cluster
    }
}
