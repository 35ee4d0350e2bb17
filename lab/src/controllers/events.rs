//! Events for `kubectl describe`: what a controller did to an object, and why. Written aside, so that nothing waits for them.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Events that may wait; what comes beyond is left out, as Kubernetes does under load.
const WAITING: usize = 512;

/// Takes events for one component.
#[derive(Clone)]
pub(crate) struct Recorder {
    component: &'static str,
    queue: mpsc::Sender<Event>,
}

/// Whether an event tells of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// All is well.
    Normal,
    /// Someone should look.
    Warning,
}

/// What is to be told of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// `Normal` or `Warning`.
    pub severity: Severity,
    /// One word in camel case.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl Note {
    /// A note of what was done.
    pub(crate) fn normal(reason: &'static str, message: String) -> Self {
        Self { severity: Severity::Normal, reason, message }
    }

    /// A note of what could not be done.
    pub(crate) fn warning(reason: &'static str, message: String) -> Self {
        Self { severity: Severity::Warning, reason, message }
    }
}

impl Recorder {
    /// Starts the task that writes events, for a first component.
    pub(crate) fn start(client: Client, component: &'static str, shutdown: CancellationToken) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Event>(WAITING);
        tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    () = shutdown.cancelled() => return,
                    event = waiting.recv() => event,
                };
                let Some(event) = event else { return };
                let namespace = event.metadata.namespace.clone().unwrap_or_default();
                let api = Api::<Event>::namespaced(client.clone(), &namespace);
                if let Err(error) = api.create(&PostParams::default(), &event).await {
                    debug!(%namespace, reason = event.reason, %error, "event not written");
                }
            }
        });
        Self { component, queue }
    }

    /// The same queue for another component.
    pub(crate) fn of(&self, component: &'static str) -> Self {
        Self { component, queue: self.queue.clone() }
    }

    /// Tells of `object`.
    pub(crate) fn record<K: Resource<DynamicType = ()>>(&self, object: &K, note: Note) {
        let meta = object.meta();
        let now = Time(Timestamp::now());
        let namespace = meta.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let event = Event {
            metadata: ObjectMeta {
                // The name that client-go gives: the object's, and the time in hexadecimal.
                name: Some(format!(
                    "{}.{:x}",
                    meta.name.as_deref().unwrap_or_default(),
                    now.0.as_nanosecond().unsigned_abs()
                )),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(K::api_version(&()).into_owned()),
                kind: Some(K::kind(&()).into_owned()),
                namespace: meta.namespace.clone(),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
                resource_version: meta.resource_version.clone(),
                field_path: None,
            },
            reason: Some(note.reason.to_owned()),
            message: Some(note.message),
            type_: Some(
                match note.severity {
                    Severity::Normal => "Normal",
                    Severity::Warning => "Warning",
                }
                .to_owned(),
            ),
            source: Some(EventSource { component: Some(self.component.to_owned()), host: None }),
            reporting_component: Some(self.component.to_owned()),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            ..Event::default()
        };
        // A full queue means that events come faster than anyone can read them.
        let _ = self.queue.try_send(event);
    }
}
