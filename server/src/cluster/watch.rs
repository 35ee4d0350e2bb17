//! Keeps the objects up to date: one watch per kind, restarted with back-off.

use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::objects::{Change, Kind, Object};

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(15);
const HEALED_AFTER: Duration = Duration::from_secs(2);

/// Watches one kind until `shutdown`.
pub async fn watch(client: kube::Client, kind: Kind, changes: mpsc::Sender<Change>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follow(client, kind, changes) => {}
    }
}

async fn follow(client: kube::Client, kind: Kind, changes: mpsc::Sender<Change>) {
    let resource = kind.resource();
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
    let mut listed = Vec::new();
    let mut retry = FIRST_RETRY;
    let mut lost = false;
    loop {
        let next = if lost {
            // A watch that works again need not have anything to say.
            match tokio::time::timeout(HEALED_AFTER, events.next()).await {
                Ok(next) => next,
                Err(_elapsed) => {
                    lost = false;
                    tracing::info!(kind = %resource.kind, "watch healed");
                    if changes.send(Change::Healed(kind)).await.is_err() {
                        return;
                    }
                    continue;
                }
            }
        } else {
            events.next().await
        };
        let Some(event) = next else { return };
        let change = match event {
            Ok(Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                listed.push(Object::new(kind, object));
                continue;
            }
            Ok(Event::InitDone) => Change::All(kind, std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => Change::Applied(kind, Object::new(kind, object)),
            Ok(Event::Delete(object)) => Change::Deleted(kind, Object::new(kind, object)),
            Err(error) if kind.is_optional() && is_unknown_kind(&error) => {
                if changes.send(Change::All(kind, Vec::new())).await.is_err() {
                    return;
                }
                tokio::time::sleep(LAST_RETRY).await;
                continue;
            }
            Err(error) => {
                tracing::warn!(kind = %resource.kind, %error, "watch lost");
                let problem = format!("cannot watch {}: {error}; trying again", resource.plural);
                lost = true;
                if changes.send(Change::Lost(kind, problem)).await.is_err() {
                    return;
                }
                // The watcher takes up again where it was the next time it is polled.
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(LAST_RETRY);
                continue;
            }
        };
        retry = FIRST_RETRY;
        if std::mem::take(&mut lost) {
            tracing::info!(kind = %resource.kind, "watch healed");
        }
        if changes.send(change).await.is_err() {
            return;
        }
    }
}

/// The API server does not know the kind.
fn is_unknown_kind(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
