//! Keeps the objects up to date: one watch per kind, restarted with back-off.
//!
//! Kinds that are no part of Kubernetes are asked for again and again: an API server without them has none, and it may be taught
//! them, or unlearn them, while the server runs.

use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::objects::{Change, Kind, Object};
use crate::kube_error::sentence;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(15);
const HEALED_AFTER: Duration = Duration::from_secs(2);
/// Objects of one page of a list. A page is there as a whole before what nobody reads of it goes: a pod then takes twenty times what it takes as
/// text, a third of a megabyte.
const PAGE: u32 = 100;

/// Watches one kind until `shutdown`.
pub async fn watch(client: kube::Client, kind: Kind, changes: mpsc::Sender<Change>, shutdown: CancellationToken) {
    let watched = async {
        if kind.has_to_be_found() {
            follow_if_served(&client, kind, &changes).await
        } else {
            follow(&client, kind, kind.resource(), &changes).await
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        // Nobody listens any more.
        _ended = watched => {}
    }
}

/// Watches a kind while the API server serves it. While it does not, there are none.
async fn follow_if_served(client: &kube::Client, kind: Kind, changes: &mpsc::Sender<Change>) -> Option<()> {
    loop {
        match find(client, kind).await {
            Ok(Some(resource)) => {
                tracing::info!(%kind, version = resource.api_version, "watched");
                follow(client, kind, resource, changes).await?;
            }
            Ok(None) => {
                changes.send(unserved(kind)).await.ok()?;
                tokio::time::sleep(LAST_RETRY).await;
            }
            Err(error) => {
                tracing::warn!(%kind, error = sentence(&error), "whether it is served cannot be told");
                let what = format!("whether the API server has {kind} objects");
                changes.send(trouble(kind, &what, &error)).await.ok()?;
                tokio::time::sleep(LAST_RETRY).await;
            }
        }
    }
}

/// Where the API server keeps the kind; `None` where it does not.
async fn find(client: &kube::Client, kind: Kind) -> kube::Result<Option<ApiResource>> {
    for resource in kind.resources() {
        let list = match client.list_api_group_resources(&resource.api_version).await {
            Ok(list) => list,
            Err(error) if is_not_found(&error) => continue,
            Err(error) => return Err(error),
        };
        // Names with a slash are parts of a resource, such as its status.
        let found = list.resources.into_iter().find(|it| it.kind == resource.kind && !it.name.contains('/'));
        if let Some(found) = found {
            return Ok(Some(ApiResource { plural: found.name, ..resource }));
        }
    }
    Ok(None)
}

/// Watches a resource until it is no longer served. `None`: nobody listens any more.
async fn follow(
    client: &kube::Client,
    kind: Kind,
    resource: ApiResource,
    changes: &mpsc::Sender<Change>,
) -> Option<()> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let mut events = watcher::watcher(api, watcher::Config::default().page_size(PAGE)).boxed();
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
                    tracing::info!(%kind, "watch healed");
                    changes.send(Change::Healed(kind)).await.ok()?;
                    continue;
                }
            }
        } else {
            events.next().await
        };
        let change = match next? {
            Ok(Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                listed.push(Object::new(&resource, object));
                continue;
            }
            Ok(Event::InitDone) => Change::All(kind, std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => Change::Applied(kind, Object::new(&resource, object)),
            Ok(Event::Delete(object)) => Change::Deleted(kind, Object::new(&resource, object)),
            Err(error) => {
                let cause = answer(&error);
                if kind.has_to_be_found() && cause.is_some_and(is_not_found) {
                    return Some(());
                }
                let why = cause.map_or_else(|| error.to_string(), sentence);
                tracing::warn!(%kind, error = why, "watch lost");
                lost = true;
                let change = match cause {
                    Some(cause) => trouble(kind, &full_name(&resource), cause),
                    None => Change::Lost(kind, format!("cannot watch {}: {error}; trying again", full_name(&resource))),
                };
                changes.send(change).await.ok()?;
                // The watcher takes up again where it was the next time it is polled.
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(LAST_RETRY);
                continue;
            }
        };
        retry = FIRST_RETRY;
        if std::mem::take(&mut lost) {
            tracing::info!(%kind, "watch healed");
        }
        changes.send(change).await.ok()?;
    }
}

/// The API server has no such kind.
fn unserved(kind: Kind) -> Change {
    if kind.is_optional() {
        return Change::All(kind, Vec::new());
    }
    let versions: Vec<String> = kind.resources().map(|resource| resource.api_version).collect();
    Change::Lost(kind, format!("the API server has no {kind} objects in {}; trying again", versions.join(" or ")))
}

/// `pods`, `clusternetworkpolicies.policy.networking.k8s.io`.
fn full_name(resource: &ApiResource) -> String {
    let dot = if resource.group.is_empty() { "" } else { "." };
    format!("{}{dot}{}", resource.plural, resource.group)
}

/// What an error means: a right that is missing stays missing until someone grants it.
fn trouble(kind: Kind, what: &str, error: &kube::Error) -> Change {
    let is_refused = matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403));
    let text = sentence(error);
    if !is_refused {
        return Change::Lost(kind, format!("cannot watch {what}: {text}; trying again"));
    }
    let effect = if kind.is_policy() { "what the policies say is incomplete without them" } else { "trying again" };
    Change::Refused(
        kind,
        format!("cannot watch {what}: {text}; {effect}: give the server the verbs list and watch on {what}"),
    )
}

/// What the API server answered.
fn answer(error: &watcher::Error) -> Option<&kube::Error> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Some(error),
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => None,
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    /// Pages of 500, as the watcher has them by itself, took 200 MiB in front of 1,000 pods of usual weight.
    #[tokio::test]
    async fn a_list_is_asked_for_in_small_pages() {
        let (asked, mut paths) = mpsc::unbounded_channel();
        let api = tower::service_fn(move |request: Request<Body>| {
            let told = asked.send(request.uri().to_string());
            let list = r#"{"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}"#;
            async move {
                told.expect("the test listens");
                Ok::<_, Infallible>(Response::new(Body::from(list.as_bytes().to_vec())))
            }
        });
        let (changes, mut seen) = mpsc::channel(1);
        let shutdown = CancellationToken::new();
        let watching = tokio::spawn(watch(kube::Client::new(api, "default"), Kind::Pod, changes, shutdown.clone()));
        assert!(matches!(seen.recv().await, Some(Change::All(Kind::Pod, _))));
        let path = paths.recv().await.expect("a request");
        assert!(
            path.starts_with("/api/v1/pods?")
                && path.split('&').any(|word| word.trim_start_matches("/api/v1/pods?") == "limit=100"),
            "{path}"
        );
        shutdown.cancel();
        watching.await.expect("it ends");
    }
}
