//! The lesson: its steps, and going to one of them.

use std::collections::BTreeSet;

use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use kube::api::ListParams;
use serde::Deserialize;
use signalbox_api::rest::PolicyChange;
use signalbox_api::state::LessonStep;

use super::App;
use super::answer::Refusal;
use super::caller::Caller;
use super::changes::{self, Deed, Subject};
use super::policies;
use crate::lesson::Wanted;

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

/// The same for one who may not see it.
fn no_lesson() -> Refusal {
    let what = "there is no lesson here: its namespaces (frontend, backend) with their Services are not in this cluster, or not for you to see";
    Refusal::NotFound(what.to_owned())
}

/// `GET /api/v1/lesson`.
pub async fn steps(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<LessonStep>>, Refusal> {
    let steps = app.picture(&caller).lesson;
    if steps.is_empty() { Err(no_lesson()) } else { Ok(Json(steps)) }
}

/// `POST /api/v1/lesson/steps/{number}`: exactly the policies of the steps up to this one are applied afterwards.
///
/// Who may not make all of these changes makes none.
pub async fn go_to(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(number): Path<usize>,
    Query(scope): Query<Scope>,
) -> Result<Json<Vec<PolicyChange>>, Refusal> {
    let steps = app.lesson.all();
    if number >= steps.len() {
        return Err(Refusal::NotFound(format!("the lesson has steps 0 to {}", steps.len() - 1)));
    }
    let (wanted, later) = steps.split_at(number + 1);
    let subject = |namespace: &str, name: &str| Subject {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        dry_run: false,
    };
    let wanted: Vec<&Wanted> = wanted.iter().flat_map(|step| &step.policies).collect();
    for policy in &wanted {
        changes::judge(&app, &caller, &Deed::Apply(subject(&policy.namespace, &policy.name))).await?;
    }
    let mut surplus: BTreeSet<(String, String)> = later
        .iter()
        .flat_map(|step| &step.policies)
        .map(|policy| (policy.namespace.clone(), policy.name.clone()))
        .collect();
    // Before anything is looked up: the lesson's namespaces have the lesson's names only, which everyone knows.
    for (namespace, name) in &surplus {
        changes::judge(&app, &caller, &Deed::Delete(subject(namespace, name))).await?;
    }
    // Told to those only who may change what is there.
    if !app.hub.has_lesson() {
        return Err(no_lesson());
    }
    if !scope.only_lesson {
        let namespaces = app.lesson.namespaces();
        for namespace in &namespaces {
            // One right for all that there may be, whatever their names.
            changes::judge(&app, &caller, &Deed::Delete(subject(namespace, ""))).await?;
        }
        for namespace in namespaces {
            let there = policies::policies(&app.client, &namespace).list(&ListParams::default()).await?;
            surplus
                .extend(there.items.into_iter().filter_map(|policy| Some((namespace.clone(), policy.metadata.name?))));
        }
        for policy in &wanted {
            surplus.remove(&(policy.namespace.clone(), policy.name.clone()));
        }
    }
    let mut done = Vec::new();
    for policy in wanted {
        let subject = subject(&policy.namespace, &policy.name);
        done.extend(policies::apply_one(&app, &caller, subject, &policy.manifest).await?);
    }
    for (namespace, name) in surplus {
        match policies::delete_one(&app, &caller, subject(&namespace, &name)).await {
            Ok(change) => done.extend(change),
            Err(Refusal::Cluster { status: 404, .. }) => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(Json(done))
}
