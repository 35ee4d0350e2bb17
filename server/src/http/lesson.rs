//! The lesson: its steps, and going to one of them.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, Query, State};
use kube::api::ListParams;
use serde::Deserialize;
use signalbox_api::rest::PolicyChange;
use signalbox_api::state::LessonStep;

use super::App;
use super::answer::Refusal;
use super::policies::{self, Mode};

/// `?only_lesson=false`.
#[derive(Debug, Deserialize)]
pub struct Scope {
    /// Leave policies alone that are not the lesson's. They may change what the lesson shows.
    #[serde(default = "yes")]
    only_lesson: bool,
}

const fn yes() -> bool {
    true
}

/// `GET /api/v1/lesson`.
pub async fn steps(State(app): State<App>) -> Json<Vec<LessonStep>> {
    Json(app.hub.snapshot(false).lesson)
}

/// `POST /api/v1/lesson/steps/{number}`: exactly the policies of the steps up to this one are applied afterwards.
pub async fn go_to(
    State(app): State<App>,
    Path(number): Path<usize>,
    Query(scope): Query<Scope>,
) -> Result<Json<Vec<PolicyChange>>, Refusal> {
    let steps = app.lesson.all();
    if number >= steps.len() {
        return Err(Refusal::NotFound(format!("the lesson has steps 0 to {}", steps.len() - 1)));
    }
    let (wanted, later) = steps.split_at(number + 1);
    let mut changes = Vec::new();
    for policy in wanted.iter().flat_map(|step| &step.policies) {
        let change =
            policies::apply_one(&app.client, &policy.namespace, &policy.name, &policy.manifest, Mode::default());
        changes.push(change.await?);
    }
    let mut surplus: BTreeSet<(String, String)> = later
        .iter()
        .flat_map(|step| &step.policies)
        .map(|policy| (policy.namespace.clone(), policy.name.clone()))
        .collect();
    if !scope.only_lesson {
        let all = steps.iter().flat_map(|step| &step.policies);
        let namespaces: BTreeSet<String> = all.map(|policy| policy.namespace.clone()).collect();
        for namespace in namespaces {
            let there = policies::policies(&app.client, &namespace).list(&ListParams::default()).await?;
            surplus
                .extend(there.items.into_iter().filter_map(|policy| Some((namespace.clone(), policy.metadata.name?))));
        }
        for policy in wanted.iter().flat_map(|step| &step.policies) {
            surplus.remove(&(policy.namespace.clone(), policy.name.clone()));
        }
    }
    for (namespace, name) in surplus {
        match policies::delete_one(&app.client, &namespace, &name, Mode::default()).await {
            Ok(change) => changes.push(change),
            Err(Refusal::Cluster { status: 404, .. }) => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(Json(changes))
}
