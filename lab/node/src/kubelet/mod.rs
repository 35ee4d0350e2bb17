//! Runs the pods that are bound to this node.
//!
//! - `worker`: one pod, from its first sight to its removal
//! - `container`: one container's state, and when it starts again
//! - `status`: what the API shows of them
//! - `listeners`: which ports somebody listens on
//! - `event`: what `kubectl describe` shows at its end
//! - `register`: the Node object

mod container;
pub(crate) mod event;
pub(crate) mod listeners;
mod register;
mod status;
mod worker;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::Error;
use crate::node::Node;

/// Runs until `stop`.
pub(crate) async fn run(node: Arc<Node>, client: Client, stop: CancellationToken) -> Result<(), Error> {
    register::register(&node, &client).await?;
    let heartbeat = register::heartbeat(&node, &client, stop.clone());
    tokio::join!(heartbeat, watch_pods(&node, &client, &stop));
    Ok(())
}

async fn watch_pods(node: &Arc<Node>, client: &Client, stop: &CancellationToken) {
    let pods: Api<Pod> = Api::all(client.clone());
    // The whole list rather than a field selector: a pod that the scheduler binds becomes visible without relying on
    // how the server turns a change of selection into an event.
    let mut events = watch_objects(pods, watcher::Config::default().any_semantic()).default_backoff().boxed();
    let tracker = TaskTracker::new();
    let mut workers: HashMap<String, watch::Sender<Option<Arc<Pod>>>> = HashMap::new();
    let mut listed = HashSet::new();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => break,
            event = events.next() => event,
        };
        match event {
            None => break,
            Some(Err(error)) => tracing::warn!(%error, "the watch of pods was interrupted"),
            Some(Ok(Event::Init)) => listed.clear(),
            Some(Ok(Event::InitDone)) => workers.retain(|uid, worker| {
                let keep = listed.contains(uid);
                if !keep {
                    worker.send_replace(None);
                }
                keep
            }),
            Some(Ok(Event::Delete(pod))) => {
                if let Some(worker) = pod.uid().and_then(|uid| workers.remove(&uid)) {
                    worker.send_replace(None);
                }
            }
            Some(Ok(Event::InitApply(pod) | Event::Apply(pod))) => {
                let Some(uid) = pod.uid() else { continue };
                let ours = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node.name());
                if !ours {
                    continue;
                }
                listed.insert(uid.clone());
                let pod = Arc::new(pod);
                match workers.get(&uid) {
                    Some(worker) if !worker.is_closed() => {
                        worker.send_replace(Some(pod));
                    }
                    _ => {
                        let (worker, updates) = watch::channel(Some(pod));
                        workers.insert(uid, worker);
                        let task = worker::run(Arc::clone(node), client.clone(), updates);
                        tracker.spawn(stop.child_token().run_until_cancelled_owned(task));
                    }
                }
            }
        }
    }
    tracker.close();
    tracker.wait().await;
}
