//! Policies: listed, applied, replaced, deleted. The API server judges; its words are passed on.

use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use http::StatusCode;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use serde::Deserialize;
use serde_json::Value;
use signalbox_api::rest::{ChangeAction, PolicyChange};
use signalbox_api::state::PolicyInfo;

use super::App;
use super::answer::Refusal;
use super::caller::Caller;
use super::changes::{self, Deed, Done, Subject};
use super::names;
use super::yaml::{self, Manifest};
use crate::cluster::objects::Kind;

/// Who applies, as `managedFields` has it.
const MANAGER: &str = "signalbox";

/// `?dry_run=true`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Mode {
    #[serde(default)]
    dry_run: bool,
}

/// `GET /api/v1/policies`.
pub async fn list(State(app): State<App>, Extension(caller): Extension<Caller>) -> Json<Vec<PolicyInfo>> {
    Json(app.picture(&caller).policies)
}

/// `GET /api/v1/policies/{namespace}/{name}`. One that they may not see is not there.
pub async fn one(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<PolicyInfo>, Refusal> {
    let policies = app.picture(&caller).policies;
    let found = policies.into_iter().find(|policy| policy.namespace == namespace && policy.name == name);
    found.map(Json).ok_or_else(|| Refusal::NotFound(format!("there is no policy {namespace}/{name}")))
}

/// `POST /api/v1/policies`: applies each document.
pub async fn apply(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Query(mode): Query<Mode>,
    body: String,
) -> Result<Json<Vec<PolicyChange>>, Refusal> {
    let manifests = yaml::manifests(&body)?;
    let subject = |manifest: &Manifest| Subject {
        namespace: manifest.namespace.clone(),
        name: manifest.name.clone(),
        dry_run: mode.dry_run,
    };
    // Who may not apply all of them applies none.
    for manifest in &manifests {
        changes::judge(&app, &caller, &Deed::Apply(subject(manifest))).await?;
    }
    // All are judged before the first is kept, so that a bad one does not leave half of the rest applied.
    if !mode.dry_run && manifests.len() > 1 {
        for manifest in &manifests {
            apply_now(&app.client, &Subject { dry_run: true, ..subject(manifest) }, &manifest.value)
                .await
                .map_err(|refusal| yaml::with_lines(refusal, &body, manifest))?;
        }
    }
    let mut changes = Vec::with_capacity(manifests.len());
    for manifest in &manifests {
        let change = apply_one(&app, &caller, subject(manifest), &manifest.value).await;
        changes.extend(change.map_err(|refusal| yaml::with_lines(refusal, &body, manifest))?);
    }
    Ok(Json(changes))
}

/// `PUT /api/v1/policies/{namespace}/{name}`: it becomes what the body says, and nothing of what it was before stays.
pub async fn replace(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
    Query(mode): Query<Mode>,
    body: String,
) -> Result<(StatusCode, Json<PolicyChange>), Refusal> {
    known(&namespace, &name)?;
    let manifest = only_one(yaml::manifests(&body)?)?;
    if manifest.name != name || manifest.value.pointer("/metadata/namespace").is_some_and(|its| *its != namespace) {
        return Err(Refusal::BadRequest(format!(
            "the manifest is of {}/{}, the address of {namespace}/{name}; apply it as a new policy instead",
            manifest.namespace, manifest.name
        )));
    }
    let subject = Subject { namespace, name, dry_run: mode.dry_run };
    let deed = Deed::Replace(subject.clone());
    changes::judge(&app, &caller, &deed).await?;
    let (client, value) = (app.client.clone(), manifest.value.clone());
    let work = async move { replace_now(&client, &subject, &value).await };
    let change = changes::carry_out(&app, &caller, deed, work).await;
    let change = change.map_err(|refusal| yaml::with_lines(refusal, &body, &manifest))?.ok_or(Refusal::Ending)?;
    let status = if change.action == ChangeAction::Created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(change)))
}

/// `DELETE /api/v1/policies/{namespace}/{name}`.
pub async fn delete(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((namespace, name)): Path<(String, String)>,
    Query(mode): Query<Mode>,
) -> Result<Json<PolicyChange>, Refusal> {
    known(&namespace, &name)?;
    let subject = Subject { namespace, name, dry_run: mode.dry_run };
    changes::judge(&app, &caller, &Deed::Delete(subject.clone())).await?;
    delete_one(&app, &caller, subject).await?.map(Json).ok_or(Refusal::Ending)
}

/// Applies one policy that was judged.
pub async fn apply_one(
    app: &App,
    caller: &Caller,
    subject: Subject,
    manifest: &Value,
) -> Result<Option<PolicyChange>, Refusal> {
    let (client, manifest, deed) = (app.client.clone(), manifest.clone(), Deed::Apply(subject.clone()));
    changes::carry_out(app, caller, deed, async move { apply_now(&client, &subject, &manifest).await }).await
}

/// Deletes one policy that was judged.
pub async fn delete_one(app: &App, caller: &Caller, subject: Subject) -> Result<Option<PolicyChange>, Refusal> {
    let (client, deed) = (app.client.clone(), Deed::Delete(subject.clone()));
    changes::carry_out(app, caller, deed, async move { delete_now(&client, &subject).await }).await
}

/// By server-side apply.
async fn apply_now(client: &kube::Client, subject: &Subject, manifest: &Value) -> Result<Done, Refusal> {
    let api = policies(client, &subject.namespace);
    let before = api.get_opt(&subject.name).await?;
    // A misspelled field is an error: left out in silence, the policy would mean something else than it says.
    let strict = Some(ValidationDirective::Strict);
    let params =
        PatchParams { dry_run: subject.dry_run, field_validation: strict, ..PatchParams::apply(MANAGER).force() };
    let after = api.patch(&subject.name, &params, &Patch::Apply(clean(manifest))).await?;
    Ok(changed(subject, before.as_ref(), &after))
}

async fn delete_now(client: &kube::Client, subject: &Subject) -> Result<Done, Refusal> {
    let api = policies(client, &subject.namespace);
    let before = api.get_opt(&subject.name).await?;
    let params = DeleteParams { dry_run: subject.dry_run, ..DeleteParams::default() };
    api.delete(&subject.name, &params).await?;
    let Subject { namespace, name, dry_run } = subject;
    tracing::info!(policy = %format_args!("{namespace}/{name}"), dry_run, "policy deleted");
    let change = PolicyChange {
        kind: "NetworkPolicy".to_owned(),
        namespace: namespace.clone(),
        name: name.clone(),
        action: ChangeAction::Deleted,
        resource_version: None,
        dry_run: *dry_run,
    };
    let before = before.and_then(|before| before.metadata.resource_version);
    Ok(Done { change: Some(change), before, outcome: None })
}

/// The policies of a namespace.
pub fn policies(client: &kube::Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &Kind::NetworkPolicy.resource())
}

async fn replace_now(client: &kube::Client, subject: &Subject, manifest: &Value) -> Result<Done, Refusal> {
    let Subject { namespace, name, dry_run } = subject;
    let api = policies(client, namespace);
    let params = PostParams { dry_run: *dry_run, field_manager: Some(MANAGER.to_owned()) };
    // Whoever sends a version wants to be told if it is no longer the newest.
    let version = manifest.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned);
    // As it was sent: a typed object would drop the misspelled fields that are to be refused.
    let mut object = clean(manifest);
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return Err(Refusal::BadRequest("the manifest's metadata is no object".to_owned()));
    };
    metadata.insert("namespace".to_owned(), namespace.clone().into());
    let before = api.get_opt(name).await?;
    let request = kube::core::Request::new(api.resource_url());
    let request = match (&before, version) {
        (Some(before), version) => {
            let version = version.or_else(|| before.metadata.resource_version.clone());
            metadata.insert("resourceVersion".to_owned(), version.into());
            request.replace(name, &params, object.to_string().into_bytes())
        }
        (None, Some(_)) => {
            return Err(Refusal::Conflict(format!(
                "{namespace}/{name} was deleted meanwhile; leave out metadata.resourceVersion to create it anew"
            )));
        }
        (None, None) => request.create(&params, object.to_string().into_bytes()),
    };
    let request = request.map_err(|error| Refusal::BadRequest(format!("the policy cannot be sent: {error}")))?;
    let after: DynamicObject = client.request(strict(request)?).await?;
    Ok(changed(subject, before.as_ref(), &after))
}

/// The request with strict validation of fields, which `PostParams` does not know.
fn strict(mut request: http::Request<Vec<u8>>) -> Result<http::Request<Vec<u8>>, Refusal> {
    let uri = request.uri();
    let joint = if uri.query().is_some_and(|query| !query.is_empty()) { "&" } else { "" };
    let text = format!("{}?{}{joint}fieldValidation=Strict", uri.path(), uri.query().unwrap_or_default());
    *request.uri_mut() =
        text.parse().map_err(|error| Refusal::BadRequest(format!("the policy's name cannot be sent: {error}")))?;
    Ok(request)
}

/// Names from the request's path become part of another path: what cannot be a name must not get there.
fn known(namespace: &str, name: &str) -> Result<(), Refusal> {
    if names::is_label(namespace) && names::is_subdomain(name) {
        return Ok(());
    }
    Err(Refusal::NotFound(format!("there is no policy {namespace}/{name}: that is no name of one")))
}

fn only_one(manifests: Vec<Manifest>) -> Result<Manifest, Refusal> {
    let count = manifests.len();
    let mut manifests = manifests.into_iter();
    match (manifests.next(), count) {
        (Some(manifest), 1) => Ok(manifest),
        _ => Err(Refusal::BadRequest(format!("the text holds {count} policies; replace one at a time"))),
    }
}

/// Without what the API server keeps itself.
fn clean(manifest: &Value) -> Value {
    let mut manifest = manifest.clone();
    if let Some(object) = manifest.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation"] {
            metadata.remove(field);
        }
    }
    manifest
}

fn changed(subject: &Subject, before: Option<&DynamicObject>, after: &DynamicObject) -> Done {
    let Subject { namespace, name, dry_run } = subject;
    let action = match before {
        None => ChangeAction::Created,
        Some(before) if before.data == after.data && before.metadata.labels == after.metadata.labels => {
            ChangeAction::Unchanged
        }
        Some(_) => ChangeAction::Configured,
    };
    let resource_version = after.metadata.resource_version.clone();
    tracing::info!(policy = %format_args!("{namespace}/{name}"), resource_version, dry_run, ?action, "policy applied");
    let change = PolicyChange {
        kind: "NetworkPolicy".to_owned(),
        namespace: namespace.clone(),
        name: name.clone(),
        action,
        resource_version,
        dry_run: *dry_run,
    };
    let before = before.and_then(|before| before.metadata.resource_version.clone());
    Done { change: Some(change), before, outcome: None }
}
