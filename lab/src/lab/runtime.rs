//! A runtime that is not there yet: it lets the API server start while the node is still being made.

use std::sync::Arc;

use futures::future::BoxFuture;
use signalbox_lab_node::Node;
use signalbox_lab_streaming::runtime::{
    ExecRequest, ExecSession, LogRequest, Output, PodRuntime, RuntimeError, Target,
};
use tokio::sync::watch;

/// Passes everything on to the node, and waits for it first.
pub(crate) struct LateRuntime {
    node: watch::Receiver<Option<Arc<Node>>>,
}

impl LateRuntime {
    /// The runtime, and where to put the node.
    pub(crate) fn new() -> (Arc<Self>, watch::Sender<Option<Arc<Node>>>) {
        let (sender, node) = watch::channel(None);
        (Arc::new(Self { node }), sender)
    }

    async fn node(&self, target: &Target) -> Result<Arc<Node>, RuntimeError> {
        let mut node = self.node.clone();
        let ready = node.wait_for(Option::is_some).await.ok().and_then(|node| node.clone());
        ready.ok_or_else(|| RuntimeError::NotRunning(format!("{target:?}"), "the lab is ending".to_owned()))
    }
}

impl PodRuntime for LateRuntime {
    fn exec(&self, target: Target, request: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>> {
        Box::pin(async move { self.node(&target).await?.exec(target, request).await })
    }

    fn logs(&self, target: Target, request: LogRequest) -> BoxFuture<'_, Result<Output, RuntimeError>> {
        Box::pin(async move { self.node(&target).await?.logs(target, request).await })
    }
}
