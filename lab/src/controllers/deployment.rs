//! Deployment -> ReplicaSets.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::jiff::Timestamp;
use tracing::debug;

use super::cluster::Cluster;
use super::events::Recorder;
use super::owner::controller_uid;
use super::rollout::step;
use super::worker::{Controller, Inputs, Pass};

/// Runs [`step`] for every Deployment.
pub(crate) struct Deployments {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) events: Recorder,
}

impl Controller for Deployments {
    const NAME: &'static str = "deployment";

    fn inputs(&self) -> Inputs {
        Inputs::default().and(&self.cluster.deployments).and(&self.cluster.replica_sets)
    }

    async fn pass(&mut self) -> Pass {
        let cluster = &self.cluster;
        let mut owned: BTreeMap<String, Vec<Arc<ReplicaSet>>> = BTreeMap::new();
        for set in cluster.replica_sets.list() {
            if let Some(uid) = controller_uid(&set.metadata) {
                owned.entry(uid.to_owned()).or_default().push(set.clone());
            }
        }
        let mut pass = Pass::default();
        let (mut sets, mut deployments) = (Vec::new(), Vec::new());
        for deployment in cluster.deployments.list() {
            let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
            let step = step(&deployment, owned.get(uid).map_or(&[], Vec::as_slice), Timestamp::now());
            for note in step.notes {
                debug!(deployment = deployment.metadata.name, note = note.message, "rollout");
                self.events.record(deployment.as_ref(), note);
            }
            sets.extend(step.sets);
            deployments.extend(step.deployment);
            pass.wake_in = [pass.wake_in, step.wake_in].into_iter().flatten().min();
        }
        let (sets, deployments) = tokio::join!(
            cluster.replica_sets.carry_out(&cluster.client, sets),
            cluster.deployments.carry_out(&cluster.client, deployments),
        );
        pass.failed = sets + deployments;
        pass
    }
}
