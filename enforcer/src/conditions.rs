//! Policies that are not enforced as they are written, told where people look: as Kubernetes Events on the policy. NetworkPolicy has
//! no status that could say it.
//!
//! [`Diary`] decides what is written (pure); [`write`] writes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use signalbox_api::node::Condition;
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use crate::metrics::Meters;

/// The reason of an Event while a policy is not enforced entirely.
pub const PARTIALLY_ENFORCED: &str = "PartiallyEnforced";
/// The reason of an Event when it is again.
pub const ENFORCED: &str = "Enforced";
/// The pause between two Events, so that a cluster full of broken policies is no burden to its API.
const PAUSE: Duration = Duration::from_millis(200);
/// How long to wait before what could not be written is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// The API takes messages up to 1,024 bytes.
const LONGEST_MESSAGE: usize = 1_000;

/// A condition and the object it is written on.
#[derive(Clone, Debug, PartialEq)]
pub struct Noted {
    /// The object.
    pub object: ObjectReference,
    /// What is wrong with it.
    pub condition: Condition,
}

/// All conditions at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct News {
    /// The conditions.
    pub noted: Vec<Noted>,
    /// The `uid`s of all policies that there are: what is not among them is gone, and not mended.
    pub present: BTreeSet<String>,
}

/// An Event to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// On which object.
    pub object: ObjectReference,
    /// [`PARTIALLY_ENFORCED`] or [`ENFORCED`].
    pub reason: &'static str,
    /// What people read.
    pub message: String,
}

/// What was written so far. One Event stands for each object, and is written anew only when what it says has changed.
#[derive(Debug, Default)]
pub struct Diary {
    written: BTreeMap<String, (ObjectReference, String)>,
}

impl Diary {
    /// What is to be written so that all of this is told, and nothing else.
    pub fn compare(&mut self, news: &News) -> Vec<Entry> {
        let is_present = |object: &ObjectReference| object.uid.as_ref().is_none_or(|uid| news.present.contains(uid));
        self.written.retain(|_, (object, _)| is_present(object));
        let wanted = messages(&news.noted);
        let news = wanted
            .iter()
            .filter(|(name, (_, message))| self.written.get(*name).is_none_or(|(_, written)| written != message));
        let news = news.map(|(_, (object, message))| Entry {
            object: object.clone(),
            reason: PARTIALLY_ENFORCED,
            message: message.clone(),
        });
        let mended = self.written.iter().filter(|(name, _)| !wanted.contains_key(*name));
        let mended = mended.map(|(_, (object, _))| Entry {
            object: object.clone(),
            reason: ENFORCED,
            message: "it is enforced as it is written".to_owned(),
        });
        news.chain(mended).collect()
    }

    /// An entry was written.
    pub fn written(&mut self, entry: &Entry) {
        let name = name(&entry.object);
        if entry.reason == ENFORCED {
            self.written.remove(&name);
        } else {
            self.written.insert(name, (entry.object.clone(), entry.message.clone()));
        }
    }
}

/// One message for each object, however many fields are concerned.
fn messages(noted: &[Noted]) -> BTreeMap<String, (ObjectReference, String)> {
    let mut messages: BTreeMap<String, (ObjectReference, String)> = BTreeMap::new();
    for one in noted {
        let (_, message) = messages.entry(name(&one.object)).or_insert_with(|| (one.object.clone(), String::new()));
        if !message.is_empty() {
            message.push_str("; ");
        }
        message.push_str(&one.condition.message);
    }
    for (_, message) in messages.values_mut() {
        if message.len() > LONGEST_MESSAGE {
            let end = (0..=LONGEST_MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or_default();
            message.truncate(end);
            message.push_str(" …");
        }
    }
    messages
}

fn name(object: &ObjectReference) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{} {}/{} {}", part(&object.kind), part(&object.namespace), part(&object.name), part(&object.uid))
}

/// Why conditions cannot be told as Events, in one sentence; empty while they can. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Silence(Arc<RwLock<Option<String>>>);

impl Silence {
    /// The sentence.
    pub fn reason(&self) -> Option<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, reason: Option<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

/// Writes Events until the shutdown. An API that does not take them is told of once, and asked again.
pub async fn write(
    client: Client,
    node: String,
    mut noted: watch::Receiver<News>,
    (silence, meters): (Silence, Meters),
    shutdown: CancellationToken,
) {
    let reporter = Reporter { controller: "signalbox-enforcer".to_owned(), instance: Some(node.clone()) };
    let recorder = Recorder::new(client, reporter);
    let mut diary = Diary::default();
    loop {
        let entries = diary.compare(&noted.borrow_and_update());
        let mut failed = false;
        for entry in entries {
            let event = Event {
                type_: if entry.reason == ENFORCED { EventType::Normal } else { EventType::Warning },
                reason: entry.reason.to_owned(),
                note: Some(format!("on node {node}: {}", entry.message)),
                action: "Enforce".to_owned(),
                secondary: None,
            };
            match recorder.publish(&event, &entry.object).await {
                Ok(()) => {
                    meters.condition_events.inc();
                    silence.set(None);
                    diary.written(&entry);
                }
                Err(error) => {
                    let reason = format!(
                        "conditions of policies cannot be written as Events: {error}: allow `create` and `patch` on `events` of `events.k8s.io`"
                    );
                    if silence.reason().as_ref() != Some(&reason) {
                        tracing::warn!(%error, "{reason}");
                    }
                    meters.condition_events_refused.inc();
                    silence.set(Some(reason));
                    failed = true;
                    // Whatever refuses one refuses the others.
                    break;
                }
            }
            time::sleep(PAUSE).await;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = noted.changed() => if changed.is_err() { return },
            () = time::sleep(TRY_AGAIN), if failed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(name: &str, message: &str) -> Noted {
        Noted {
            object: ObjectReference {
                kind: Some("NetworkPolicy".to_owned()),
                name: Some(name.to_owned()),
                namespace: Some("n".to_owned()),
                uid: Some(name.to_owned()),
                ..ObjectReference::default()
            },
            condition: Condition {
                object: format!("NetworkPolicy n/{name}"),
                path: "spec".to_owned(),
                reason: "NotUnderstood".to_owned(),
                message: message.to_owned(),
            },
        }
    }

    fn write_all(diary: &mut Diary, noted: &[Noted], present: &[&str]) -> Vec<(String, &'static str, String)> {
        let present = present.iter().map(|uid| (*uid).to_owned()).collect();
        let entries = diary.compare(&News { noted: noted.to_vec(), present });
        entries.iter().for_each(|entry| diary.written(entry));
        let name = |entry: &Entry| entry.object.name.clone().unwrap_or_default();
        entries.into_iter().map(|entry| (name(&entry), entry.reason, entry.message)).collect()
    }

    #[test]
    fn one_event_for_each_policy_until_it_says_something_else_or_is_mended() {
        let mut diary = Diary::default();
        let both = ["a", "b"];
        let first = [noted("a", "x"), noted("a", "y"), noted("b", "z")];
        let told = write_all(&mut diary, &first, &both);
        let entry = |name: &str, reason, message: &str| (name.to_owned(), reason, message.to_owned());
        assert_eq!(told, [entry("a", PARTIALLY_ENFORCED, "x; y"), entry("b", PARTIALLY_ENFORCED, "z")]);
        assert_eq!(write_all(&mut diary, &first, &both), [], "said already");
        let told = write_all(&mut diary, &[noted("a", "x")], &both);
        let mended = "it is enforced as it is written";
        assert_eq!(told, [entry("a", PARTIALLY_ENFORCED, "x"), entry("b", ENFORCED, mended)]);
        assert_eq!(write_all(&mut diary, &[], &both), [entry("a", ENFORCED, mended)]);
        assert_eq!(write_all(&mut diary, &[], &both), []);
        write_all(&mut diary, &first, &both);
        assert_eq!(write_all(&mut diary, &[], &["b"]), [entry("b", ENFORCED, mended)], "a is gone, not mended");
    }

    #[test]
    fn a_message_fits_into_an_event() {
        let long = "ü".repeat(2_000);
        let entries = Diary::default().compare(&News { noted: vec![noted("a", &long)], ..News::default() });
        assert!(entries[0].message.len() < 1_024 && entries[0].message.ends_with('…'));
    }
}
