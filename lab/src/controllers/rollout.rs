//! How a Deployment gets from the ReplicaSets that are there to those that it wants. Pure: state in, commands out.
//!
//! One step at a time, as the Deployment controller of Kubernetes does it: the new set grows as far as `maxSurge` lets it,
//! then old ones shrink as far as `maxUnavailable` lets them, and each answer of the cluster leads to the next step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;

use super::command::Command;
use super::deployment_status;
use super::events::Note;
use super::owner::controlled_by;
use super::store::key_of;

/// The label that tells the pods of one template from those of another.
pub(crate) const TEMPLATE_HASH: &str = "pod-template-hash";
/// The annotation that `kubectl rollout history` reads.
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Old ReplicaSets kept where `revisionHistoryLimit` says nothing.
const DEFAULT_HISTORY: i32 = 10;

/// The next step.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Step {
    /// At most one write for each set.
    pub sets: Vec<Command<ReplicaSet>>,
    /// At most one write to the Deployment itself.
    pub deployment: Option<Command<Deployment>>,
    /// What to tell of it.
    pub notes: Vec<Note>,
    /// When to look again though nothing has changed.
    pub wake_in: Option<Duration>,
}

/// The ReplicaSets of one Deployment.
pub(crate) struct Sets<'a> {
    /// The one with the Deployment's template.
    pub new: Option<&'a Arc<ReplicaSet>>,
    /// All others, oldest first.
    pub old: Vec<&'a Arc<ReplicaSet>>,
}

impl<'a> Sets<'a> {
    fn sort(hash: &str, owned: &'a [Arc<ReplicaSet>]) -> Self {
        let is_new = |set: &ReplicaSet| set.labels().get(TEMPLATE_HASH).is_some_and(|label| label == hash);
        let mut old: Vec<_> = owned.iter().filter(|set| !is_new(set)).collect();
        old.sort_by_key(|set| (set.creation_timestamp().map(|time| time.0), set.name_any()));
        Self { new: owned.iter().find(|set| is_new(set)), old }
    }

    /// Every set.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'a Arc<ReplicaSet>> {
        self.new.into_iter().chain(self.old.iter().copied())
    }
}

/// Decides on the next step for a Deployment and the ReplicaSets that it controls.
pub(crate) fn step(deployment: &Deployment, owned: &[Arc<ReplicaSet>], now: Timestamp) -> Step {
    let Some(spec) = &deployment.spec else { return Step::default() };
    if deployment.metadata.deletion_timestamp.is_some() {
        return Step::default();
    }
    let hash = template_hash(&spec.template);
    let sets = Sets::sort(&hash, owned);
    let mut step = Step::default();
    let revision = revision(&sets);
    match sets.new {
        None if !paused(spec) && may_create_new(spec, &sets) => {
            create(deployment, spec, &hash, &sets, revision, &mut step)
        }
        None => scale_old(spec, &sets, &mut step),
        Some(new) => {
            annotate(deployment, new, revision, &mut step);
            if step.sets.is_empty() {
                scale(spec, new, &sets, &mut step);
            }
        }
    }
    if step.sets.is_empty() {
        prune(spec, &sets, &mut step);
    }
    set_revision(deployment, &sets, &mut step);
    if step.deployment.is_none() {
        let (status, wake_in) = deployment_status::of(deployment, &sets, now);
        step.wake_in = wake_in;
        if deployment.status.as_ref() != Some(&status) {
            let mut written = deployment.clone();
            written.status = Some(status);
            step.deployment = Some(Command::ReplaceStatus(Box::new(written)));
        }
    }
    step
}

/// Replicas that the set was asked for.
pub(crate) fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Replicas of the set that are available.
pub(crate) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// `maxSurge` and `maxUnavailable` in pods.
pub(crate) fn bounds(spec: &DeploymentSpec) -> (i32, i32) {
    if recreate(spec) {
        return (0, desired(spec));
    }
    let rolling = spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let quarter = IntOrString::String("25%".to_owned());
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
    let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
    // Surge rounds up and unavailability down; where both come to nothing, one pod may be missing, or nothing would move.
    let surge = part(surge, desired(spec), Round::Up);
    let unavailable = part(unavailable, desired(spec), Round::Down).min(desired(spec));
    (surge, if surge == 0 && unavailable == 0 { 1 } else { unavailable })
}

/// `spec.replicas`, which is 1 where it is absent.
pub(crate) fn desired(spec: &DeploymentSpec) -> i32 {
    spec.replicas.unwrap_or(1)
}

/// A name for a template: the same template has it today and after a restart.
pub(crate) fn template_hash(template: &PodTemplateSpec) -> String {
    // FNV-1a over the template's JSON: the fields come in the order of the type, maps in the order of their keys.
    let json = serde_json::to_vec(template).expect("a template has only string keys");
    hash_name(&json)
}

/// A short name for some bytes, of letters that make no words and digits that look like none.
pub(crate) fn hash_name(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mut rest = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, fnv);
    std::iter::repeat_with(|| {
        let letter = LETTERS[(rest % 27) as usize];
        rest /= 27;
        char::from(letter)
    })
    .take(10)
    .collect()
}

enum Round {
    Up,
    Down,
}

fn part(value: &IntOrString, of: i32, round: Round) -> i32 {
    match value {
        IntOrString::Int(count) => (*count).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let hundredths = percent * i64::from(of);
            let count = match round {
                Round::Up => (hundredths + 99) / 100,
                Round::Down => hundredths / 100,
            };
            i32::try_from(count).unwrap_or(i32::MAX).max(0)
        }
    }
}

fn paused(spec: &DeploymentSpec) -> bool {
    spec.paused == Some(true)
}

fn recreate(spec: &DeploymentSpec) -> bool {
    spec.strategy.as_ref().is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate"))
}

/// With `Recreate` nothing new starts while anything old is there.
fn may_create_new(spec: &DeploymentSpec, sets: &Sets<'_>) -> bool {
    !recreate(spec) || old_are_gone(sets)
}

fn old_are_gone(sets: &Sets<'_>) -> bool {
    sets.old.iter().all(|set| wanted(set) == 0 && set.status.as_ref().is_none_or(|status| status.replicas == 0))
}

fn total(sets: &Sets<'_>) -> i32 {
    sets.all().map(|set| wanted(set)).sum()
}

/// How large the new set may be now.
fn new_size(spec: &DeploymentSpec, sets: &Sets<'_>, current: i32) -> i32 {
    let desired = desired(spec);
    if recreate(spec) {
        return if old_are_gone(sets) { desired } else { current };
    }
    if current >= desired {
        return desired;
    }
    let (surge, _) = bounds(spec);
    let room = (desired + surge - total(sets)).max(0);
    (current + room).min(desired)
}

fn create(deployment: &Deployment, spec: &DeploymentSpec, hash: &str, sets: &Sets<'_>, revision: i64, step: &mut Step) {
    let name = format!("{}-{hash}", deployment.name_any());
    let replicas = new_size(spec, sets, 0);
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(TEMPLATE_HASH.to_owned(), hash.to_owned());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(TEMPLATE_HASH.to_owned(), hash.to_owned());
    let set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: deployment.namespace(),
            labels: Some(labels),
            annotations: Some(inherited_annotations(deployment, revision)),
            owner_references: Some(vec![controlled_by(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    step.sets.push(Command::Create(Box::new(set)));
    step.notes.push(scaled_note("up", &name, 0, replicas));
}

fn inherited_annotations(deployment: &Deployment, revision: i64) -> BTreeMap<String, String> {
    let mut annotations: BTreeMap<_, _> = deployment
        .annotations()
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), REVISION | "kubectl.kubernetes.io/last-applied-configuration"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    annotations.insert(REVISION.to_owned(), revision.to_string());
    annotations
}

/// The number of the current template: one more than any other's, so that going back to an old one counts as new.
fn revision(sets: &Sets<'_>) -> i64 {
    let of = |set: &ReplicaSet| set.annotations().get(REVISION).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let others = sets.old.iter().map(|set| of(set)).max().unwrap_or(0);
    let own = sets.new.map_or(0, |set| of(set));
    if own > others { own } else { others + 1 }
}

fn annotate(deployment: &Deployment, new: &ReplicaSet, revision: i64, step: &mut Step) {
    let missing: BTreeMap<_, _> = inherited_annotations(deployment, revision)
        .into_iter()
        .filter(|(key, value)| new.annotations().get(key) != Some(value))
        .collect();
    if !missing.is_empty() {
        step.sets.push(Command::Patch(key_of(new), json!({"metadata": {"annotations": missing}})));
    }
}

fn set_revision(deployment: &Deployment, sets: &Sets<'_>, step: &mut Step) {
    let Some(revision) = sets.new.and_then(|set| set.annotations().get(REVISION)) else { return };
    if deployment.annotations().get(REVISION) != Some(revision) {
        let patch = json!({"metadata": {"annotations": {REVISION: revision}}});
        step.deployment = Some(Command::Patch(key_of(deployment), patch));
    }
}

fn scale(spec: &DeploymentSpec, new: &ReplicaSet, sets: &Sets<'_>, step: &mut Step) {
    let current = wanted(new);
    // A paused Deployment still scales, but moves nothing from one set to another.
    let size =
        if paused(spec) && total(sets) != current { current.min(desired(spec)) } else { new_size(spec, sets, current) };
    if size != current {
        resize(new, size, step);
        return;
    }
    if !paused(spec) {
        shrink_old(spec, new, sets, step);
        return;
    }
    scale_old(spec, sets, step);
}

/// The newest old set takes a change of `replicas` where the new template has no set yet, or is held back by a pause.
fn scale_old(spec: &DeploymentSpec, sets: &Sets<'_>, step: &mut Step) {
    if !paused(spec) {
        // `Recreate`: the old end before the new begin.
        for set in sets.old.iter().filter(|set| wanted(set) > 0) {
            resize(set, 0, step);
        }
        return;
    }
    let others: i32 = sets.new.map_or(0, |set| wanted(set));
    let Some(active) = sets.old.iter().rev().find(|set| wanted(set) > 0) else { return };
    let rest: i32 = sets.old.iter().map(|set| wanted(set)).sum::<i32>() - wanted(active);
    let size = (desired(spec) - others - rest).max(0);
    if size != wanted(active) {
        resize(active, size, step);
    }
}

fn shrink_old(spec: &DeploymentSpec, new: &ReplicaSet, sets: &Sets<'_>, step: &mut Step) {
    let (_, max_unavailable) = bounds(spec);
    if recreate(spec) {
        for set in sets.old.iter().filter(|set| wanted(set) > 0) {
            resize(set, 0, step);
        }
        return;
    }
    let least_available = desired(spec) - max_unavailable;
    let new_unavailable = wanted(new) - available(new);
    let mut may_go = total(sets) - least_available - new_unavailable;
    let mut available_now: i32 = sets.all().map(|set| available(set)).sum();
    for set in &sets.old {
        if may_go <= 0 {
            return;
        }
        let size = wanted(set);
        // Pods that are not available cost nothing: they go first. Of the others only what the floor can spare.
        let broken = (size - available(set)).clamp(0, may_go);
        let healthy = (size - broken).min(may_go - broken).min((available_now - least_available).max(0));
        let gone = broken + healthy;
        if gone > 0 {
            resize(set, size - gone, step);
            may_go -= gone;
            available_now -= healthy;
        }
    }
}

fn resize(set: &ReplicaSet, size: i32, step: &mut Step) {
    let mut resized = set.clone();
    if let Some(spec) = &mut resized.spec {
        spec.replicas = Some(size);
    }
    let before = wanted(set);
    step.notes.push(scaled_note(if size > before { "up" } else { "down" }, &set.name_any(), before, size));
    step.sets.push(Command::Replace(Box::new(resized)));
}

fn scaled_note(direction: &str, set: &str, from: i32, to: i32) -> Note {
    Note::normal("ScalingReplicaSet", format!("Scaled {direction} replica set {set} from {from} to {to}"))
}

/// Forgets templates that nobody will go back to.
fn prune(spec: &DeploymentSpec, sets: &Sets<'_>, step: &mut Step) {
    if sets.new.is_none() {
        return;
    }
    let keep = usize::try_from(spec.revision_history_limit.unwrap_or(DEFAULT_HISTORY)).unwrap_or(0);
    let idle: Vec<_> = sets
        .old
        .iter()
        .filter(|set| {
            wanted(set) == 0
                && set.metadata.deletion_timestamp.is_none()
                && set.status.as_ref().is_none_or(|status| status.replicas == 0)
        })
        .collect();
    for set in idle.iter().take(idle.len().saturating_sub(keep)) {
        step.sets.push(Command::Delete(key_of(set.as_ref()), set.uid().unwrap_or_default()));
    }
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
