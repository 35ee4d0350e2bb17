//! What `kubectl describe` shows at its end.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::PostParams;
use kube::{Api, Client};

/// Whether an event is good or bad news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Warning,
}

/// Writes events about one object.
#[derive(Clone)]
pub(crate) struct Recorder {
    client: Client,
    node: String,
    about: ObjectReference,
}

impl Recorder {
    pub(crate) fn new(client: Client, node: &str, about: ObjectReference) -> Self {
        Self { client, node: node.to_owned(), about }
    }

    /// Writes one, without waiting for it: an event that is lost harms nobody.
    pub(crate) fn record(&self, kind: Kind, reason: &str, message: String) {
        let namespace = self.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let name = self.about.name.clone().unwrap_or_default();
        let now = Timestamp::now();
        let kind = match kind {
            Kind::Normal => "Normal",
            Kind::Warning => "Warning",
        };
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:016x}", rand::random::<u64>())),
                namespace: Some(namespace.clone()),
                ..Default::default()
            },
            involved_object: self.about.clone(),
            type_: Some(kind.to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource { component: Some("kubelet".to_owned()), host: Some(self.node.clone()) }),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(self.node.clone()),
            ..Default::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        tokio::spawn(async move {
            if let Err(error) = events.create(&PostParams::default(), &event).await {
                tracing::debug!(%error, "an event could not be written");
            }
        });
    }
}
