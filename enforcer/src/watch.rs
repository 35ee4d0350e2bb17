//! The watches of the Kubernetes API.

use std::{fmt::Debug, pin::Pin};

use futures::{Stream, StreamExt, future, stream};
use k8s_openapi::api::{
    core::v1::{Namespace, Pod, Service},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client, Resource,
    runtime::{WatchStreamExt, watcher},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::store::{Kind, Update};

/// News of all kinds that the enforcer needs. Never ends: a watch that fails is tried again, more and more slowly.
pub type Updates = Pin<Box<dyn Stream<Item = Update> + Send>>;

/// Starts to watch.
pub fn updates(client: &Client) -> Updates {
    Box::pin(stream::select_all([
        watch::<Namespace>(client, Kind::Namespace),
        watch::<Pod>(client, Kind::Pod),
        watch::<NetworkPolicy>(client, Kind::NetworkPolicy),
        watch::<Service>(client, Kind::Service),
    ]))
}

fn watch<K>(client: &Client, kind: Kind) -> Updates
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
{
    let api: Api<K> = Api::all(client.clone());
    let events = watcher(api, watcher::Config::default()).default_backoff();
    Box::pin(events.filter_map(move |event| future::ready(update(kind, event))))
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
            tracing::warn!(?kind, %error, "a watch failed; it is tried again");
            Some(Update::Trouble(kind, error.to_string()))
        }
    }
}
