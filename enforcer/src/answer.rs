//! What the agent answers, over HTTP: at its socket all of it, at the address for metrics only what a monitor needs.

use std::{
    convert::Infallible,
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::{StreamExt, stream};
use http::{StatusCode, header::CONTENT_TYPE};
use nix::sys::stat::{Mode, umask};
use serde::Deserialize;
use signalbox_api::{
    error::ApiError,
    kernel::EnforcerStatus,
    node::{
        EventLine, EventTally, FlowList, FlowState, LiveFlow, NodeEvent, NodeReport, PodReport, TraceReport,
        UplinkReport,
    },
};
use signalbox_policy::{PodRef, Protocol};
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    sync::{broadcast, watch},
    task,
};
use tokio_util::sync::CancellationToken;

use crate::{
    conditions::Silence,
    datapath::sight::{Sight, Statistics},
    error::Error,
    exposures::Exposures,
    metrics::{self, Meters, Reading},
    run::Core,
    run::ask::{End, NoAnswer, TraceQuestion},
    telling::{Desk, Told},
};

/// Flows and denials in one answer, where the question names no number.
const LISTED: usize = 1_000;
/// Entries of each decision.
const ENTRIES: usize = 8;

/// All that answers need. Cheap to clone.
#[derive(Clone)]
pub struct Answers {
    pub(crate) desk: Desk,
    pub(crate) told: Told,
    pub(crate) meters: Meters,
    pub(crate) silence: Silence,
    pub(crate) exposures: Exposures,
    pub(crate) sight: Sight,
    pub(crate) status: watch::Receiver<EnforcerStatus>,
    pub(crate) audit: bool,
    /// The stream to the server, where one is wanted.
    pub(crate) uplink: Option<watch::Receiver<UplinkReport>>,
    /// Ends streams, which have no end of their own.
    pub(crate) shutdown: CancellationToken,
}

/// Why a question is refused.
enum Refusal {
    /// The question is not understood.
    BadRequest(String),
    /// What it asks about is not there.
    NotFound(String),
    /// The agent or the kernel cannot answer.
    Failed(String),
}

impl Answers {
    /// Serves at a socket of its own until the shutdown, and removes it then.
    ///
    /// # Errors
    ///
    /// When it cannot accept connections.
    pub async fn serve_socket(self, socket: Socket, shutdown: CancellationToken) -> Result<(), Error> {
        let Socket { listener, path } = socket;
        let ended = axum::serve(listener, self.all()).with_graceful_shutdown(shutdown.cancelled_owned()).await;
        // Whoever asks now is told that no agent runs.
        if let Err(error) = fs::remove_file(&path) {
            tracing::debug!(path = %path.display(), %error, "the socket was gone already");
        }
        ended.map_err(|source| Error::Socket { path, source })
    }

    /// Serves what a monitor needs until the shutdown.
    ///
    /// # Errors
    ///
    /// When it cannot accept connections.
    pub async fn serve_monitor(self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
        let ended = axum::serve(listener, self.monitored()).with_graceful_shutdown(shutdown.cancelled_owned()).await;
        ended.map_err(|source| Error::Io { what: "cannot serve metrics", source })
    }

    fn monitored(self) -> Router {
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self)
    }

    fn all(self) -> Router {
        Router::new()
            .route("/v1/status", get(status))
            .route("/v1/flows", get(flows))
            .route("/v1/denials", get(denials))
            .route("/v1/policy", get(policy))
            .route("/v1/trace", get(trace))
            .route("/v1/events", get(events))
            .with_state(self.clone())
            .merge(self.monitored())
    }

    /// Reads the kernel's tables on a thread that may wait.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sight) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let sight = self.sight.clone();
        task::spawn_blocking(move || work(&sight)).await.map_err(|_| Error::Worker)?
    }

    /// What was told and what was left out.
    pub(crate) fn tally(&self, statistics: &Statistics) -> EventTally {
        EventTally { told: self.told.count(), suppressed: statistics.suppressed, lost: statistics.lost }
    }
}

async fn ready(State(answers): State<Answers>) -> (StatusCode, String) {
    let status = answers.status.borrow().clone();
    if status.enforcing {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let why = if status.problems.is_empty() { "not enforcing yet".to_owned() } else { status.problems.join("\n") };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
}

async fn metrics(State(answers): State<Answers>) -> Result<impl IntoResponse, Refusal> {
    let (rows, conditions) = answers.desk.ask(|core| (core.pod_rows(), core.conditions())).await?;
    let missing = rows.iter().filter(|row| row.interface.is_none()).count() as u64;
    let read = |sight: &Sight| Ok((sight.fill()?, sight.statistics()?, sight.verdicts()?));
    let (maps, statistics, verdicts) = answers.look(read).await?;
    let events = answers.tally(&statistics);
    let status = answers.status.borrow().clone();
    let audit = answers.audit;
    let reading = Reading { status, missing, events, statistics, maps, verdicts, conditions, audit };
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&answers.meters, reading)?))
}

async fn status(State(answers): State<Answers>) -> Result<Json<NodeReport>, Refusal> {
    let ask = |core: &mut Core| (core.pod_rows(), core.conditions(), core.policies_in_audit());
    let (mut local_pods, conditions, policies_in_audit) = answers.desk.ask(ask).await?;
    let read = |sight: &Sight| Ok((sight.fill()?, sight.statistics()?, sight.gates()?));
    let (maps, statistics, gates) = answers.look(read).await?;
    for row in &mut local_pods {
        row.gate = row.interface.and_then(|interface| gates.get(&interface).copied());
    }
    let events = answers.tally(&statistics);
    let status = answers.status.borrow().clone();
    let notices = answers.silence.reason().into_iter().collect();
    Ok(Json(NodeReport {
        notices,
        policies_in_audit,
        status,
        audit: answers.audit,
        maps,
        events,
        local_pods,
        exposures: answers.exposures.latest(),
        conditions,
        uplink: answers.uplink.as_ref().map(|uplink| uplink.borrow().clone()),
    }))
}

#[derive(Deserialize)]
struct ListQuestion {
    pod: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    all: bool,
}

async fn flows(State(answers): State<Answers>, question: Asked<ListQuestion>) -> Result<Json<FlowList>, Refusal> {
    let question = question.0?;
    let is_asked_for = |flow: &LiveFlow| {
        let is_of_pod =
            question.pod.is_none() || flow.source_pod == question.pod || flow.destination_pod == question.pod;
        is_of_pod
            && (question.all || matches!(flow.state, FlowState::Live | FlowState::Unconfirmed | FlowState::Audited))
    };
    let mut flows = answers.look(Sight::flows).await?;
    flows.retain(is_asked_for);
    let total = flows.len() as u64;
    flows.truncate(question.limit.unwrap_or(LISTED));
    Ok(Json(FlowList { flows, total }))
}

async fn denials(
    State(answers): State<Answers>,
    question: Asked<ListQuestion>,
) -> Result<Json<Vec<NodeEvent>>, Refusal> {
    let question = question.0?;
    let mut denials = answers.told.denials();
    denials.retain(|event| {
        question.pod.is_none() || event.source_pod == question.pod || event.destination_pod == question.pod
    });
    denials.truncate(question.limit.unwrap_or(LISTED));
    Ok(Json(denials))
}

#[derive(Deserialize)]
struct PolicyQuestion {
    pod: String,
    entries: Option<usize>,
}

async fn policy(State(answers): State<Answers>, question: Asked<PolicyQuestion>) -> Result<Json<PodReport>, Refusal> {
    let question = question.0?;
    let pod = pod_ref(&question.pod)
        .ok_or_else(|| Refusal::BadRequest(format!("{:?} is no namespace/name of a pod", question.pod)))?;
    let missing = Refusal::NotFound(format!(
        "{pod} is no bound pod of this node: `signalbox-enforcer status` lists those that are"
    ));
    let Some(interface) = answers.desk.ask(move |core| core.interface_of(&pod)).await? else { return Err(missing) };
    let most = question.entries.unwrap_or(ENTRIES);
    match answers.look(move |sight| sight.policy(interface, most)).await? {
        Some(report) => Ok(Json(report)),
        None => Err(missing),
    }
}

#[derive(Deserialize)]
struct TraceQuery {
    from: String,
    to: String,
    protocol: Option<String>,
    port: u16,
}

async fn trace(State(answers): State<Answers>, question: Asked<TraceQuery>) -> Result<Json<TraceReport>, Refusal> {
    let question = question.0?;
    let protocol = match question.protocol.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("tcp") => Protocol::Tcp,
        Some("udp") => Protocol::Udp,
        Some("sctp") => Protocol::Sctp,
        Some(other) => return Err(Refusal::BadRequest(format!("{other} is none of tcp, udp, sctp"))),
    };
    let question = TraceQuestion { from: end(&question.from)?, to: end(&question.to)?, protocol, port: question.port };
    Ok(Json(answers.desk.ask(move |core| core.trace(&question)).await??))
}

async fn events(State(answers): State<Answers>) -> Response {
    let events = stream::unfold(answers.told.events(), |mut events| async move {
        let line = match events.recv().await {
            Ok(event) => EventLine::Event(Box::new(event)),
            Err(broadcast::error::RecvError::Lagged(skipped)) => EventLine::Skipped { skipped },
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some((line, events))
    });
    let lines = events.take_until(answers.shutdown.cancelled_owned()).map(|line| {
        let mut text = serde_json::to_vec(&line).expect("an event can be written as JSON");
        text.push(b'\n');
        Ok::<_, Infallible>(text)
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// The parameters of a question, or what is wrong with them.
struct Asked<T>(Result<T, Refusal>);

impl<T: serde::de::DeserializeOwned, S: Send + Sync> axum::extract::FromRequestParts<S> for Asked<T> {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, Infallible> {
        let parsed = Query::<T>::try_from_uri(&parts.uri);
        Ok(Self(parsed.map(|query| query.0).map_err(|error| Refusal::BadRequest(error.body_text()))))
    }
}

fn pod_ref(text: &str) -> Option<PodRef> {
    let (namespace, name) = text.split_once('/')?;
    let is_sound = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
    is_sound.then(|| PodRef { namespace: namespace.to_owned(), name: name.to_owned() })
}

fn end(text: &str) -> Result<End, Refusal> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(End::Address(address));
    }
    let unreadable = || Refusal::BadRequest(format!("{text:?} is neither namespace/name of a pod nor an address"));
    pod_ref(text).map(End::Pod).ok_or_else(unreadable)
}

/// The agent's own socket.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

/// Makes the agent's own socket. Only the user that it runs as may connect.
///
/// # Errors
///
/// When it cannot be made, or another agent answers there.
pub async fn listen_at(path: PathBuf) -> Result<Socket, Error> {
    match listen(&path).await {
        Ok(listener) => Ok(Socket { listener, path }),
        Err(source) => Err(Error::Socket { path, source }),
    }
}

/// A socket that nobody else may connect to.
async fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent answers there"));
        }
        // Left behind by an agent that was killed.
        fs::remove_file(path)?;
    }
    // The socket is made with its mode, so that there is no moment at which others may connect.
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    let listener = listener?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Listens for a monitor.
///
/// # Errors
///
/// When the address is taken, or not this machine's.
pub async fn listen_for_monitor(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::BadRequest(message) => (StatusCode::BAD_REQUEST, message),
            Self::NotFound(message) => (StatusCode::NOT_FOUND, message),
            Self::Failed(message) => (StatusCode::INTERNAL_SERVER_ERROR, message),
        };
        let body = ApiError { status: status.as_u16(), message, causes: Vec::new() };
        (status, Json(body)).into_response()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<NoAnswer> for Refusal {
    fn from(error: NoAnswer) -> Self {
        let message = error.to_string();
        match error {
            NoAnswer::NoSuchPod(_) => Self::NotFound(message),
            NoAnswer::NoFamily { .. } => Self::BadRequest(message),
            NoAnswer::NotReady | NoAnswer::Kernel(_) => Self::Failed(message),
        }
    }
}
