//! What a Deployment says of itself: counts, and the conditions that `kubectl rollout status` waits for.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::rollout::{Sets, available, bounds, desired};

/// Seconds without progress after which a rollout counts as failed, where the spec says nothing.
const DEFAULT_DEADLINE: i32 = 600;

/// The status, and when it has to be looked at again though nothing has changed.
pub(crate) fn of(deployment: &Deployment, sets: &Sets<'_>, now: Timestamp) -> (DeploymentStatus, Option<Duration>) {
    let before = deployment.status.clone().unwrap_or_default();
    let Some(spec) = &deployment.spec else { return (before, None) };
    let replicas: i32 = sets.all().filter_map(|set| set.status.as_ref()).map(|status| status.replicas).sum();
    let ready: i32 = sets.all().filter_map(|set| set.status.as_ref()?.ready_replicas).sum();
    let available: i32 = sets.all().map(|set| available(set)).sum();
    let updated = sets.new.and_then(|set| set.status.as_ref()).map_or(0, |status| status.replicas);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(replicas),
        updated_replicas: some(updated),
        ready_replicas: some(ready),
        available_replicas: some(available),
        unavailable_replicas: some((desired(spec).max(replicas) - available).max(0)),
        conditions: before.conditions.clone(),
        ..before.clone()
    };
    let (_, max_unavailable) = bounds(spec);
    let enough = available >= desired(spec) - max_unavailable;
    let name = deployment.name_any();
    set_condition(
        &mut status,
        if enough {
            condition("Available", true, "MinimumReplicasAvailable", "Deployment has minimum availability.".into(), now)
        } else {
            let message = "Deployment does not have minimum availability.".to_owned();
            condition("Available", false, "MinimumReplicasUnavailable", message, now)
        },
        Bump::OnChange,
    );
    let complete = updated == desired(spec) && replicas == desired(spec) && available == desired(spec);
    let set = sets.new.map(|set| set.name_any());
    let wake_in = progress(&mut status, &before, spec, Rollout { name, set, complete }, now);
    (status, wake_in)
}

struct Rollout {
    name: String,
    set: Option<String>,
    complete: bool,
}

enum Bump {
    /// `lastUpdateTime` moves with status and reason only.
    OnChange,
    /// It moves: there was progress.
    Always,
}

fn progress(
    status: &mut DeploymentStatus,
    before: &DeploymentStatus,
    spec: &k8s_openapi::api::apps::v1::DeploymentSpec,
    rollout: Rollout,
    now: Timestamp,
) -> Option<Duration> {
    let subject = match &rollout.set {
        Some(set) => format!("ReplicaSet {set:?}"),
        None => format!("Deployment {:?}", rollout.name),
    };
    if spec.paused == Some(true) {
        let message = "Deployment is paused".to_owned();
        let paused = DeploymentCondition {
            status: "Unknown".into(),
            ..condition("Progressing", true, "DeploymentPaused", message, now)
        };
        set_condition(status, paused, Bump::OnChange);
        return None;
    }
    if rollout.complete {
        let message = format!("{subject} has successfully progressed.");
        set_condition(status, condition("Progressing", true, "NewReplicaSetAvailable", message, now), Bump::OnChange);
        return None;
    }
    let known = find(before, "Progressing");
    let moved = status.updated_replicas > before.updated_replicas
        || status.ready_replicas > before.ready_replicas
        || status.available_replicas > before.available_replicas
        || old(status) < old(before);
    let new_rollout = known.is_none_or(|condition| {
        matches!(condition.reason.as_deref(), Some("NewReplicaSetAvailable" | "DeploymentPaused"))
    });
    if moved || new_rollout {
        let message = format!("{subject} is progressing.");
        set_condition(status, condition("Progressing", true, "ReplicaSetUpdated", message, now), Bump::Always);
    }
    let deadline =
        Duration::from_secs(u64::try_from(spec.progress_deadline_seconds.unwrap_or(DEFAULT_DEADLINE)).unwrap_or(0));
    let since = find(status, "Progressing")
        .and_then(|condition| condition.last_update_time.as_ref())
        .map_or(now, |time| time.0);
    let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    if passed < deadline {
        return Some(deadline - passed);
    }
    let message = format!("{subject} has timed out progressing.");
    set_condition(status, condition("Progressing", false, "ProgressDeadlineExceeded", message, now), Bump::OnChange);
    None
}

fn old(status: &DeploymentStatus) -> i32 {
    status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0)
}

/// Kubernetes leaves out counts of nothing.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

fn find<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

fn condition(type_: &str, holds: bool, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    // The API keeps whole seconds: what is written must compare equal to what comes back.
    let now = Time(Timestamp::from_second(now.as_second()).expect("a clock's second is a timestamp"));
    DeploymentCondition {
        type_: type_.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now),
    }
}

fn set_condition(status: &mut DeploymentStatus, mut condition: DeploymentCondition, bump: Bump) {
    let conditions = status.conditions.get_or_insert_default();
    let Some(known) = conditions.iter_mut().find(|known| known.type_ == condition.type_) else {
        conditions.push(condition);
        return;
    };
    if known.status == condition.status {
        condition.last_transition_time.clone_from(&known.last_transition_time);
    }
    let same =
        known.status == condition.status && known.reason == condition.reason && known.message == condition.message;
    match bump {
        Bump::OnChange if same => {}
        Bump::OnChange | Bump::Always => *known = condition,
    }
}
