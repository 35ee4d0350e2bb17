//! The controllers: what a Deployment, a Service or a namespace means, made true over the Kubernetes API.
//!
//! Each controller is a file and has two halves: a pure function from what the API server holds to the writes that are
//! missing, and a loop that runs it whenever something has changed. They know each other by the API only.
//!
//! - [`deployment`], with [`rollout`] and [`deployment_status`]: Deployment -> ReplicaSets.
//! - [`replicaset`]: ReplicaSet -> Pods.
//! - [`scheduler`]: Pod -> node.
//! - [`endpointslice`]: Service and Pods -> EndpointSlices.
//! - [`endpoints`]: EndpointSlices -> Endpoints, for older clients.
//! - [`loadbalancer`]: Service of type LoadBalancer -> address.
//! - [`serviceaccount`]: namespace -> its `default` account.
//! - [`cluster`], [`store`], [`command`], [`worker`], [`events`]: what they share.

mod cluster;
mod command;
mod deployment;
mod deployment_status;
mod endpoints;
mod endpointslice;
mod events;
mod loadbalancer;
mod owner;
mod pod;
mod replicaset;
mod rollout;
mod scheduler;
mod serviceaccount;
mod store;
mod worker;

use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The running controllers.
#[derive(Debug)]
pub struct Controllers {
    tasks: JoinSet<()>,
}

impl Controllers {
    /// Resolves when all have ended: after their `shutdown`.
    pub async fn stopped(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a controller broke");
            }
        }
    }
}

/// Starts all controllers. They end with `shutdown`.
#[must_use]
pub fn start(client: Client, shutdown: &CancellationToken) -> Controllers {
    let cluster = cluster::Cluster::watch(client.clone(), shutdown);
    let events = events::Recorder::start(client, "deployment-controller", shutdown.clone());
    let mut tasks = JoinSet::new();
    let deployments = deployment::Deployments { cluster: cluster.clone(), events: events.clone() };
    tasks.spawn(worker::run(deployments, shutdown.clone()));
    let sets = replicaset::ReplicaSets { cluster: cluster.clone(), events: events.of("replicaset-controller") };
    tasks.spawn(worker::run(sets, shutdown.clone()));
    let scheduler = scheduler::Scheduler { cluster: cluster.clone(), events: events.of("default-scheduler") };
    tasks.spawn(worker::run(scheduler, shutdown.clone()));
    tasks.spawn(worker::run(endpointslice::EndpointSlices { cluster: cluster.clone() }, shutdown.clone()));
    tasks.spawn(worker::run(endpoints::Mirror { cluster: cluster.clone() }, shutdown.clone()));
    let balancers = loadbalancer::LoadBalancers {
        cluster: cluster.clone(),
        events: events.of("service-controller"),
        told: std::collections::BTreeSet::new(),
    };
    tasks.spawn(worker::run(balancers, shutdown.clone()));
    tasks.spawn(worker::run(serviceaccount::ServiceAccounts { cluster }, shutdown.clone()));
    Controllers { tasks }
}
