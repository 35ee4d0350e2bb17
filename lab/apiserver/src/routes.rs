//! One request: what it names, what it wants, what it gets.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde_json::{Value, json};
use signalbox_lab_streaming::runtime::{PodRuntime, Target as Process};
use signalbox_lab_streaming::{ExecQuery, LogQuery, serve_exec, serve_logs};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::auth::Gate;
use crate::binding;
use crate::decode::{self, FieldValidation};
use crate::delete::{self, Deleted};
use crate::kinds::{self, Resource};
use crate::negotiate::Accepted;
use crate::path::{self, Target};
use crate::reviews::{self, Identities};
use crate::selector::Selector;
use crate::status::Status;
use crate::store::{Key, Store};
use crate::table::Headers;
use crate::watch::{self, BOOKMARK, Start, Watch};
use crate::write::{self, Change, Part, Written};
use crate::{discovery, openapi};

/// The largest body, as Kubernetes has it.
const MAX_BODY: usize = 3 * 1024 * 1024;
/// Watches at once.
const MAX_WATCHES: usize = 512;

/// What every request needs.
pub(crate) struct Api {
    pub(crate) store: Arc<Store>,
    runtime: Arc<dyn PodRuntime>,
    gate: Gate,
    address: SocketAddr,
    watches: Arc<Semaphore>,
    identities: Identities,
    shutdown: CancellationToken,
}

impl Api {
    pub(crate) fn new(
        store: Arc<Store>,
        runtime: Arc<dyn PodRuntime>,
        gate: Gate,
        address: SocketAddr,
        shutdown: CancellationToken,
    ) -> Self {
        let watches = Arc::new(Semaphore::new(MAX_WATCHES));
        Self { store, runtime, gate, address, watches, identities: Identities::default(), shutdown }
    }

    /// With somebody to answer reviews of tokens and rights from.
    pub(crate) fn reviewing(self, identities: Identities) -> Self {
        Self { identities, ..self }
    }
}

/// Every path leads here: they are too regular for a table of routes.
pub(crate) fn router(api: Arc<Api>) -> axum::Router {
    axum::Router::new().fallback(handle).with_state(api).layer(tower_http::catch_panic::CatchPanicLayer::custom(|_| {
        Status::internal("the API server failed on this request; its log says why").into_response()
    }))
}

async fn handle(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let answer = match api.gate.check(&uri, request.headers()) {
        Ok(()) => dispatch(api, request).await,
        Err(status) => Err(status),
    };
    let response = answer.unwrap_or_else(IntoResponse::into_response);
    tracing::debug!(%method, path = uri.path(), status = response.status().as_u16(), "request");
    response
}

async fn dispatch(api: Arc<Api>, request: Request) -> Result<Response, Status> {
    if reviews::is_review(request.uri().path()) {
        let path = request.uri().path().to_owned();
        return review(&Call::new(api, request).await?, &path);
    }
    match path::parse(request.uri().path()).ok_or_else(Status::no_such_path)? {
        Target::Other(segments) => other(&api, &segments, &request),
        Target::Collection { resource, namespace } => {
            let call = Call::new(api, request).await?;
            collection(&call, resource, namespace)
        }
        Target::Object { resource, namespace, name, part } => match part.as_deref() {
            Some("exec") => exec(&api, request, resource, namespace, name).await,
            Some("binding") if resource.is("", "Pod") => {
                let call = Call::new(api, request).await?;
                bind(&call, &Key::new(resource, &namespace, &name))
            }
            Some("log") => logs(&api, request, resource, namespace, name).await,
            part => {
                let part = match part {
                    None => Part::Main,
                    Some("status") if resource.status => Part::Status,
                    Some("scale") if resource.scale => Part::Scale,
                    Some(_) => return Err(Status::no_such_path()),
                };
                let key = Key::new(resource, &namespace, &name);
                object(&Call::new(api, request).await?, &key, part)
            }
        },
    }
}

/// A question that is written like an object, and kept nowhere.
fn review(call: &Call, path: &str) -> Result<Response, Status> {
    if call.method != Method::POST {
        return Err(Status::method_not_allowed());
    }
    let answer = call.api.identities.answer(path, call.decoded()?)?;
    Ok(call.accepted()?.respond(StatusCode::CREATED, &answer))
}

/// What is not an object.
fn other(api: &Api, segments: &[String], request: &Request) -> Result<Response, Status> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(Status::method_not_allowed());
    }
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let body = match parts.as_slice() {
        [] => {
            json!({"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]})
        }
        ["healthz" | "livez" | "readyz", ..] => return Ok("ok".into_response()),
        ["version"] => discovery::version(),
        ["api"] => discovery::versions(api.address),
        ["api", version] => discovery::resources("", version).ok_or_else(Status::no_such_path)?,
        ["apis"] => discovery::groups(),
        ["apis", group] => discovery::group(group).ok_or_else(Status::no_such_path)?,
        ["apis", group, version] => discovery::resources(group, version).ok_or_else(Status::no_such_path)?,
        ["openapi", rest @ ..] => return openapi::respond(rest, request.headers()),
        _ => return Err(Status::no_such_path()),
    };
    Ok(Accepted::parse(request.headers(), None)?.respond(StatusCode::OK, &body))
}

/// One request on objects.
struct Call {
    api: Arc<Api>,
    method: Method,
    headers: HeaderMap,
    query: Vec<(String, String)>,
    body: Bytes,
}

impl Call {
    async fn new(api: Arc<Api>, request: Request) -> Result<Self, Status> {
        let (parts, body) = request.into_parts();
        let query = query(&parts.uri)?;
        let body = axum::body::to_bytes(body, MAX_BODY).await.map_err(|error| {
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                if cause.is::<http_body_util::LengthLimitError>() {
                    return Status::too_large();
                }
                source = cause.source();
            }
            Status::bad_request(format!("cannot read the request's body: {error}"))
        })?;
        Ok(Self { api, method: parts.method, headers: parts.headers, query, body })
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| value != "false" && value != "0")
    }

    fn accepted(&self) -> Result<Accepted, Status> {
        Accepted::parse(&self.headers, self.parameter("includeObject"))
    }

    fn selector(&self, resource: &Resource) -> Result<Selector, Status> {
        Selector::parse(resource, self.parameter("labelSelector"), self.parameter("fieldSelector"))
    }

    fn decoded(&self) -> Result<Value, Status> {
        decode::body(decode::content_type(&self.headers), &self.body)
    }

    fn dry_run(&self) -> Result<bool, Status> {
        match self.parameter("dryRun") {
            None | Some("") => Ok(false),
            Some("All") => Ok(true),
            Some(other) => {
                Err(Status::bad_request(format!("dryRun: Unsupported value: \"{other}\": supported values: \"All\"")))
            }
        }
    }

    fn write_options(&self) -> Result<write::Options, Status> {
        let agent = self.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let agent = agent.split('/').next().filter(|name| !name.is_empty()).unwrap_or("unknown");
        Ok(write::Options {
            dry_run: self.dry_run()?,
            manager: self.parameter("fieldManager").filter(|name| !name.is_empty()).unwrap_or(agent).to_owned(),
            validation: FieldValidation::parse(self.parameter("fieldValidation"))?,
            force: self.flag("force"),
        })
    }

    fn delete_options(&self) -> Result<delete::Options, Status> {
        let mut body = if self.body.is_empty() { json!({}) } else { self.decoded()? };
        if !body.is_object() {
            return Err(Status::bad_request("DeleteOptions must be an object"));
        }
        if let Some(grace) = self.parameter("gracePeriodSeconds") {
            let seconds: i64 = grace
                .parse()
                .map_err(|_| Status::bad_request(format!("gracePeriodSeconds: invalid value \"{grace}\"")))?;
            body["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(policy) = self.parameter("propagationPolicy") {
            body["propagationPolicy"] = policy.into();
        }
        if let Some(orphan) = self.parameter("orphanDependents") {
            body["orphanDependents"] = (orphan == "true").into();
        }
        let mut options = delete::Options::parse(&body)?;
        options.dry_run |= self.dry_run()?;
        Ok(options)
    }

    fn written(&self, resource: &Resource, written: &Written) -> Result<Response, Status> {
        let accepted = self.accepted()?;
        let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
        let mut response = accepted.respond(code, &accepted.one(resource, &written.object, Headers::Shown));
        for warning in &written.warnings {
            let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
            if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
                response.headers_mut().append(header::WARNING, value);
            }
        }
        Ok(response)
    }
}

fn query(uri: &Uri) -> Result<Vec<(String, String)>, Status> {
    Query::try_from_uri(uri)
        .map(|Query(pairs)| pairs)
        .map_err(|error| Status::bad_request(format!("cannot read the query: {error}")))
}

fn collection(call: &Call, resource: &'static Resource, namespace: Option<String>) -> Result<Response, Status> {
    match call.method {
        Method::GET if call.flag("watch") => start_watch(call, resource, namespace, None),
        Method::GET => list(call, resource, namespace.as_deref()),
        Method::POST => {
            let namespace = match (resource.namespaced, namespace) {
                (true, None) => return Err(Status::method_not_allowed()),
                (_, namespace) => namespace.unwrap_or_default(),
            };
            let written =
                write::create(&call.api.store, resource, &namespace, call.decoded()?, &call.write_options()?)?;
            call.written(resource, &written)
        }
        Method::DELETE => delete_collection(call, resource, namespace.as_deref()),
        _ => Err(Status::method_not_allowed()),
    }
}

fn list(call: &Call, resource: &'static Resource, namespace: Option<&str>) -> Result<Response, Status> {
    let accepted = call.accepted()?;
    let selector = call.selector(resource)?;
    let limit = match call.parameter("limit") {
        None | Some("" | "0") => usize::MAX,
        Some(limit) => limit.parse().map_err(|_| Status::bad_request(format!("limit: invalid value \"{limit}\"")))?,
    };
    let after = call.parameter("continue").filter(|token| !token.is_empty()).map(read_continue).transpose()?;
    let (revision, objects) = call.api.store.list(resource, namespace);
    let wanted: Vec<&Value> = objects
        .iter()
        .map(|object| &**object)
        .filter(|object| selector.matches(object) && after.as_ref().is_none_or(|after| position(object) > *after))
        .collect();
    let (page, rest) = wanted.split_at(limit.min(wanted.len()));
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if let (Some(last), false) = (page.last(), rest.is_empty()) {
        metadata["continue"] = write_continue(last).into();
        metadata["remainingItemCount"] = rest.len().into();
    }
    Ok(accepted.respond(StatusCode::OK, &accepted.list(resource, page, metadata)))
}

/// Where an object stands in a list.
fn position(object: &Value) -> (String, String) {
    let text = |field: &str| crate::object::meta(object, field).to_owned();
    (text("namespace"), text("name"))
}

fn write_continue(last: &Value) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, json!(position(last)).to_string())
}

fn read_continue(token: &str) -> Result<(String, String), Status> {
    let refuse = || Status::bad_request("continue key is not valid: use the token that the list before returned");
    let bytes =
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, token).map_err(|_| refuse())?;
    serde_json::from_slice(&bytes).map_err(|_| refuse())
}

fn start_watch(
    call: &Call,
    resource: &'static Resource,
    namespace: Option<String>,
    name: Option<String>,
) -> Result<Response, Status> {
    let start = match call.parameter("resourceVersion") {
        _ if call.flag("sendInitialEvents") => Start::InitialWithEnd,
        None | Some("" | "0") => Start::Initial,
        Some(version) => Start::After(
            version
                .parse()
                .map_err(|_| Status::bad_request(format!("resourceVersion: Invalid value: \"{version}\"")))?,
        ),
    };
    let watch = Watch {
        resource,
        namespace,
        name,
        selector: call.selector(resource)?,
        start,
        bookmarks: call.flag("allowWatchBookmarks").then_some(BOOKMARK),
        timeout: call
            .parameter("timeoutSeconds")
            .and_then(|seconds| seconds.parse().ok())
            .filter(|seconds| *seconds > 0),
        accepted: call.accepted()?,
    };
    let slot = call.api.watches.clone().try_acquire_owned();
    let slot = slot.map_err(|_| Status::too_many_requests(format!("{MAX_WATCHES} watches are open already")))?;
    Ok(watch::respond(watch, call.api.store.clone(), slot, call.api.shutdown.clone()))
}

fn delete_collection(call: &Call, resource: &'static Resource, namespace: Option<&str>) -> Result<Response, Status> {
    if resource.namespaced && namespace.is_none() {
        return Err(Status::method_not_allowed());
    }
    let accepted = call.accepted()?;
    let selector = call.selector(resource)?;
    let options = call.delete_options()?;
    let deleted = call.api.store.write(options.dry_run, |transaction| {
        let mut deleted = Vec::new();
        for (key, object) in transaction.list(resource, namespace) {
            // What went together with its owner is no error.
            if selector.matches(&object) && transaction.get(&key).is_some() {
                delete::delete(transaction, &key, &options)?;
                deleted.push(object);
            }
        }
        Ok(deleted)
    })?;
    let objects: Vec<&Value> = deleted.iter().map(|object| &**object).collect();
    Ok(accepted.respond(StatusCode::OK, &accepted.list(resource, &objects, json!({}))))
}

fn object(call: &Call, key: &Key, part: Part) -> Result<Response, Status> {
    let resource = key.resource();
    match call.method {
        Method::GET if call.flag("watch") && part == Part::Main => {
            let namespace = resource.namespaced.then(|| key.namespace.clone());
            start_watch(call, resource, namespace, Some(key.name.clone()))
        }
        Method::GET => {
            let accepted = call.accepted()?;
            let found = call.api.store.get(key).ok_or_else(|| key.not_found())?;
            Ok(if part == Part::Scale {
                Accepted::json().respond(StatusCode::OK, &write::scale(resource, &found))
            } else {
                accepted.respond(StatusCode::OK, &accepted.one(resource, &found, Headers::Shown))
            })
        }
        Method::PUT => changed(call, key, part, &Change::Replace(call.decoded()?)),
        Method::PATCH => changed(call, key, part, &patch(call)?),
        Method::DELETE if part == Part::Main => {
            let options = call.delete_options()?;
            let deleted =
                call.api.store.write(options.dry_run, |transaction| delete::delete(transaction, key, &options))?;
            let accepted = call.accepted()?;
            Ok(match deleted {
                Deleted::Going(object) => {
                    accepted.respond(StatusCode::OK, &accepted.one(resource, &object, Headers::Shown))
                }
                Deleted::Gone(object) => {
                    let mut details = json!({
                        "name": key.name,
                        "kind": resource.plural,
                        "uid": object["metadata"]["uid"],
                    });
                    if !resource.group.is_empty() {
                        details["group"] = resource.group.into();
                    }
                    let body = json!({
                        "kind": "Status",
                        "apiVersion": "v1",
                        "metadata": {},
                        "status": "Success",
                        "details": details,
                    });
                    accepted.respond(StatusCode::OK, &body)
                }
            })
        }
        _ => Err(Status::method_not_allowed()),
    }
}

fn patch(call: &Call) -> Result<Change, Status> {
    match decode::content_type(&call.headers) {
        "application/json-patch+json" => decode::json(&call.body).map(Change::Json),
        "application/merge-patch+json" => decode::json(&call.body).map(Change::Merge),
        "application/strategic-merge-patch+json" => decode::json(&call.body).map(Change::Strategic),
        "application/apply-patch+yaml" => {
            if call.parameter("fieldManager").is_none_or(str::is_empty) {
                return Err(Status::bad_request(
                    "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
                ));
            }
            let object = decode::yaml(&call.body)?;
            if object.is_object() {
                Ok(Change::Apply(object))
            } else {
                Err(Status::bad_request("an applied configuration is an object"))
            }
        }
        other => Err(Status::unsupported_media_type(other)),
    }
}

fn bind(call: &Call, key: &Key) -> Result<Response, Status> {
    if call.method != Method::POST {
        return Err(Status::method_not_allowed());
    }
    let body = binding::bind(&call.api.store, key, &call.decoded()?, call.dry_run()?)?;
    Ok(Accepted::json().respond(StatusCode::CREATED, &body))
}

fn changed(call: &Call, key: &Key, part: Part, change: &Change) -> Result<Response, Status> {
    let written = write::change(&call.api.store, key, part, change, &call.write_options()?)?;
    if part == Part::Scale {
        return Ok(Accepted::json().respond(StatusCode::OK, &write::scale(key.resource(), &written.object)));
    }
    call.written(key.resource(), &written)
}

async fn exec(
    api: &Api,
    request: Request,
    resource: &'static Resource,
    namespace: String,
    name: String,
) -> Result<Response, Status> {
    if request.method() != Method::GET && request.method() != Method::POST {
        return Err(Status::method_not_allowed());
    }
    let key = Key::new(resource, &namespace, &name);
    let object = api.store.get(&key).ok_or_else(|| key.not_found())?;
    let external = resource.is("signalbox.dev", "ExternalHost");
    if !external && !resource.is("", "Pod") {
        return Err(Status::no_such_path());
    }
    if !external {
        check_container(&object, request.uri())?;
    }
    if external && object["spec"]["vantage"] != true {
        return Err(Status::bad_request(format!(
            "externalhosts.signalbox.dev \"{name}\" is no vantage point: commands cannot run there"
        )));
    }
    let runtime = api.runtime.clone();
    let response = serve_exec(request, |query: ExecQuery| async move {
        let target = if external {
            Process::External(name)
        } else {
            Process::Pod { namespace, name, container: query.container }
        };
        runtime.exec(target, query.request).await
    });
    Ok(response.await.map(Body::new))
}

async fn logs(
    api: &Api,
    request: Request,
    resource: &'static Resource,
    namespace: String,
    name: String,
) -> Result<Response, Status> {
    if request.method() != Method::GET {
        return Err(Status::method_not_allowed());
    }
    let key = Key::new(resource, &namespace, &name);
    if !std::ptr::eq(resource, kinds::core_kind("Pod")) {
        return Err(Status::no_such_path());
    }
    let pod = api.store.get(&key).ok_or_else(|| key.not_found())?;
    check_container(&pod, request.uri())?;
    let runtime = api.runtime.clone();
    let response = serve_logs(request, |query: LogQuery| async move {
        let target = Process::Pod { namespace, name, container: query.container };
        runtime.logs(target, query.request).await
    });
    Ok(response.await.map(Body::new))
}

/// Refuses a container that the pod does not have.
fn check_container(pod: &Value, uri: &Uri) -> Result<(), Status> {
    let asked = query(uri)?.into_iter().find(|(key, value)| key == "container" && !value.is_empty());
    let Some((_, container)) = asked else { return Ok(()) };
    if crate::object::items(&pod["spec"], "containers").iter().any(|one| one["name"] == *container) {
        return Ok(());
    }
    let name = crate::object::meta(pod, "name");
    Err(Status::bad_request(format!("container {container} is not valid for pod {name}")))
}
