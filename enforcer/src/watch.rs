//! The watches of the Kubernetes API.
//!
//! Policies beyond NetworkPolicy are no part of Kubernetes: whether they are served is asked again and again, and an API
//! without them has none.

use std::{
    error::Error,
    fmt::Debug,
    pin::{Pin, pin},
    time::Duration,
};

use futures::{Stream, StreamExt, future, stream};
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod, Service},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject},
    client::AuthError,
    core::GroupVersionKind,
    runtime::{WatchStreamExt, watcher},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{sync::mpsc, time};

use crate::store::{Kind, Update};

/// News of all kinds that the enforcer needs. Never ends: a watch that fails is tried again, more and more slowly.
pub type Updates = Pin<Box<dyn Stream<Item = Update> + Send>>;

/// The group of the policies around NetworkPolicy.
const GROUP: &str = "policy.networking.k8s.io";
/// How long to wait before it is asked again whether a kind is served; doubled each time that it is not.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// The longest of these pauses.
const LOOK_AGAIN_LATEST: Duration = Duration::from_secs(60);

/// A kind that an API may serve.
struct Served {
    kind: Kind,
    name: &'static str,
    /// Groups and versions that the engine reads, the first that is served is watched.
    versions: &'static [(&'static str, &'static str)],
}

/// As stored, which every cluster with Calico has; and as its own API server shows them.
const CALICO: &[(&str, &str)] = &[("crd.projectcalico.org", "v1"), ("projectcalico.org", "v3")];

/// All of them.
static SERVED: [Served; 8] = [
    Served {
        kind: Kind::ClusterNetworkPolicy,
        name: "ClusterNetworkPolicy",
        versions: &[(GROUP, "v1beta1"), (GROUP, "v1alpha2")],
    },
    Served { kind: Kind::AdminNetworkPolicy, name: "AdminNetworkPolicy", versions: &[(GROUP, "v1alpha1")] },
    Served {
        kind: Kind::BaselineAdminNetworkPolicy,
        name: "BaselineAdminNetworkPolicy",
        versions: &[(GROUP, "v1alpha1")],
    },
    Served { kind: Kind::CalicoGlobalNetworkPolicy, name: "GlobalNetworkPolicy", versions: CALICO },
    Served { kind: Kind::CalicoNetworkPolicy, name: "NetworkPolicy", versions: CALICO },
    Served { kind: Kind::CalicoGlobalNetworkSet, name: "GlobalNetworkSet", versions: CALICO },
    Served { kind: Kind::CalicoNetworkSet, name: "NetworkSet", versions: CALICO },
    Served { kind: Kind::CalicoHostEndpoint, name: "HostEndpoint", versions: CALICO },
];

/// Starts to watch.
pub fn updates(client: &Client) -> Updates {
    let always = [
        watch::<Namespace>(client, Kind::Namespace),
        watch::<Pod>(client, Kind::Pod),
        watch::<Node>(client, Kind::Node),
        watch::<NetworkPolicy>(client, Kind::NetworkPolicy),
        watch::<Service>(client, Kind::Service),
    ];
    let where_served = SERVED.iter().map(|served| watch_if_served(client, served));
    Box::pin(stream::select_all(always.into_iter().chain(where_served)))
}

fn watch<K>(client: &Client, kind: Kind) -> Updates
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
{
    let api: Api<K> = Api::all(client.clone());
    let events = watcher(api, watcher::Config::default()).default_backoff();
    Box::pin(events.filter_map(move |event| future::ready(update(kind, event))))
}

/// Watches a kind while the API serves it. While it does not, there are none.
fn watch_if_served(client: &Client, served: &'static Served) -> Updates {
    let (sender, mut news) = mpsc::channel(64);
    let client = client.clone();
    tokio::spawn(async move { follow(&client, served, &sender).await });
    Box::pin(stream::poll_fn(move |context| news.poll_recv(context)))
}

/// Ends when nobody listens any more.
async fn follow(client: &Client, served: &Served, news: &mpsc::Sender<Update>) -> Option<()> {
    let mut is_absent = false;
    let mut pause = LOOK_AGAIN;
    loop {
        match find(client, served).await {
            Ok(Some(resource)) => {
                is_absent = false;
                pause = LOOK_AGAIN;
                tracing::info!(kind = served.name, version = resource.version, "watched");
                let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
                let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
                while let Some(event) = events.next().await {
                    if event.as_ref().is_err_and(is_gone) {
                        break;
                    }
                    let event = event.map(|event| event.modify(|object| complete(object, &resource)));
                    if let Some(update) = update(served.kind, event) {
                        news.send(update).await.ok()?;
                    }
                }
                time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            Ok(None) if is_absent => {}
            Ok(None) => {
                is_absent = true;
                news.send(Update::Began(served.kind)).await.ok()?;
                news.send(Update::Ended(served.kind)).await.ok()?;
            }
            Err(error) => {
                is_absent = false;
                pause = LOOK_AGAIN;
                let why = words(&error);
                tracing::warn!(
                    kind = served.name,
                    error = why,
                    "whether it is served cannot be told; it is asked again"
                );
                news.send(Update::Trouble(served.kind, why)).await.ok()?;
            }
        }
        tokio::select! {
            () = time::sleep(pause) => pause = (pause * 2).min(LOOK_AGAIN_LATEST),
            () = news.closed() => return None,
        }
    }
}

/// The kind as the API serves it, or that it does not.
async fn find(client: &Client, served: &Served) -> kube::Result<Option<ApiResource>> {
    for (group, version) in served.versions {
        let list = match client.list_api_group_resources(&format!("{group}/{version}")).await {
            Ok(list) => list,
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => return Err(error),
        };
        // Names with a slash are parts of a resource, such as its status.
        let found = list.resources.iter().find(|it| it.kind == served.name && !it.name.contains('/'));
        if let Some(found) = found {
            let kind = GroupVersionKind::gvk(group, version, served.name);
            return Ok(Some(ApiResource::from_gvk_with_plural(&kind, &found.name)));
        }
    }
    Ok(None)
}

/// Whether the API does not serve it any more.
fn is_gone(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}

/// Items of a list need not say what they are.
fn complete(object: &mut DynamicObject, resource: &ApiResource) {
    object.types.get_or_insert_with(|| kube::core::TypeMeta {
        api_version: resource.api_version.clone(),
        kind: resource.kind.clone(),
    });
}

fn update<K: Serialize>(kind: Kind, event: watcher::Result<watcher::Event<K>>) -> Option<Update> {
    let object = |object: &K| match serde_json::to_value(object) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::error!(?kind, %error, "an object cannot be written as JSON: it is passed over");
            None::<Value>
        }
    };
    match event {
        Ok(watcher::Event::Init) => Some(Update::Began(kind)),
        Ok(watcher::Event::InitApply(listed)) => Some(Update::Listed(kind, object(&listed)?)),
        Ok(watcher::Event::InitDone) => Some(Update::Ended(kind)),
        Ok(watcher::Event::Apply(changed)) => Some(Update::Changed(kind, object(&changed)?)),
        Ok(watcher::Event::Delete(gone)) => Some(Update::Deleted(kind, object(&gone)?)),
        Err(error) => {
            let why = words(&error);
            tracing::warn!(?kind, error = why, "a watch failed; it is tried again");
            Some(Update::Trouble(kind, why))
        }
    }
}

/// What went wrong, without what a kubeconfig's credential plug-in was called with and has written: that may be a token.
pub fn words(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |cause| (*cause).source());
    let plugin = causes.filter_map(|cause| cause.downcast_ref::<AuthError>()).find_map(|cause| match cause {
        AuthError::AuthExecRun { out, .. } => Some(format!("failed with {}", out.status)),
        AuthError::AuthExecParse(_) => Some("wrote what is no ExecCredential".to_owned()),
        _ => None,
    });
    plugin.map_or_else(|| error.to_string(), |why| format!("the kubeconfig's credential plug-in {why}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{ExitStatus, Output};

    use super::*;

    #[test]
    fn what_a_credential_plug_in_wrote_is_not_told() {
        let out = Output { status: ExitStatus::from_raw(256), stdout: b"a-secret".to_vec(), stderr: Vec::new() };
        let failed = AuthError::AuthExecRun { cmd: "aws --token a-secret".to_owned(), out: Box::new(out) };
        let told = words(&watcher::Error::InitialListFailed(kube::Error::Auth(failed)));
        assert_eq!(told, "the kubeconfig's credential plug-in failed with exit status: 1");
    }
}
