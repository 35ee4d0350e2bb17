//! `signalbox why`: one connection of a live cluster: what the policies say, what a probe sees, what the kernel decided, since when.
//! [`inside`] tries from inside of a pod; [`facts`] prints what a live look showed.

mod facts;
mod inside;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::Serialize;
use serde_json::Value;
use signalbox_analysis::Exit;
use signalbox_analysis::streams::{Paint, Progress, Streams};
use signalbox_api::cell::Cell;
use signalbox_api::rest::{ProbeReport, StandInWish};
use signalbox_api::state::{Endpoint, EndpointKind, Enforcement, Snapshot};

use super::client::{self, Source};
use super::signals::Asked;
use super::{complain, duration, live, standin};

const EXAMPLES: &str = "\
Examples:
  signalbox why frontend/web backend/dbsvc:9000           why web reaches dbsvc, or does not
  signalbox why web db:5432/TCP -n shop                   both in one namespace
  signalbox why frontend/web backend/service/dbsvc:80     through a Service: each pod behind it, and the Service itself
  signalbox why web service/db -n shop                    the same, at the only port that the Service has
  signalbox why frontend/web 198.51.100.20:3306           to an address outside
  signalbox why frontend/web backend/dbsvc:9000 --stand-in    try it, too, where web runs no probe
  signalbox why frontend/web backend/dbsvc:9000 --in-pod      try it from inside of web itself, through its node's enforcer
  kubectl signalbox why frontend/web backend/dbsvc:9000 -o json | jq .live

FROM and TO are [NAMESPACE/]POD, [NAMESPACE/]WORKLOAD (for which its first pod stands), an address, or outside/HOST. The port is the pod's own, after a
Service's translation. TO may be a Service, too: [NAMESPACE/]service/NAME (or svc/NAME), or its cluster address, with a port of its own; each ready pod
behind it is judged and looked at. A pod in a namespace that is called service is service/pod/NAME.

Exit status: 0 if the policies allow the connection, to each pod behind a Service, 1 if they deny it or that is unknown, 2 if something could not be read or found.";

/// Tell why a connection in a live cluster is open or shut, and try it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Who connects
    from: String,
    /// To whom, at which port
    #[arg(value_name = "TO:PORT[/PROTOCOL]")]
    to: String,
    /// The namespace of ends that name none [default: that of the kubeconfig's context]
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    #[command(flatten)]
    client: client::Args,
    /// Where the pod runs no probe, deploy one with its workload's labels for a moment
    #[arg(long)]
    stand_in: bool,
    /// Where the pod runs no probe, try it from inside of the pod's own network namespace, through its node's enforcer: where the server was started
    /// with --allow-real-pods, and you may `create` `probes.signalbox.dev` in the pod's namespace
    #[arg(long, conflicts_with_all = ["stand_in", "no_probe"])]
    in_pod: bool,
    #[command(flatten)]
    stand_in_args: standin::Args,
    /// Say what the policies say, and try nothing
    #[arg(long, conflicts_with = "stand_in")]
    no_probe: bool,
    /// How to print the result
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
    /// How long each step of the live part may take: to find a server, a round of probes, all that is tried with --in-pod
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// One object: `spec` as `explain -o json` has it, and `live`
    Json,
}

/// The offline command that knows the policies' part.
#[derive(Debug, Parser)]
struct Offline {
    #[command(subcommand)]
    command: signalbox_analysis::Command,
}

/// What a live look showed.
#[derive(Debug, Default, Serialize)]
struct Live {
    /// `namespace/name` of the pod that the probe started from; null where none did.
    tried_from: Option<String>,
    /// Why nothing is known, or known of another pod only.
    notes: Vec<String>,
    /// The matrix's cell, of a Service where one was asked about; null where there is none.
    cell: Option<Cell>,
    /// What was tried from inside of the pod; null where nothing was.
    in_pod: Option<ProbeReport>,
    /// The pods behind the Service that was asked about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backends: Vec<Backend>,
    enforcement: Enforcement,
}

/// What a live look showed of one pod behind a Service.
#[derive(Debug, Serialize)]
struct Backend {
    /// `namespace/name`.
    to: String,
    /// The pod's own.
    port: u16,
    /// The matrix's cell; null where there is none.
    cell: Option<Cell>,
    /// What was tried from inside of the pod that connects; null where nothing was.
    in_pod: Option<ProbeReport>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the kubeconfig's path is not known: name it with --kubeconfig, or set $KUBECONFIG to one file")]
    NoKubeconfig,
    #[error("{0}")]
    Usage(clap::Error),
    #[error(transparent)]
    Offline(#[from] signalbox_analysis::error::Error),
    #[error("the policies' part cannot be read: {0}")]
    Shape(#[from] serde_json::Error),
    #[error("the runtime cannot start: {0}")]
    Runtime(std::io::Error),
}

pub(super) fn run(args: &Args) -> ExitCode {
    match why(args) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            complain(&error);
            ExitCode::from(Exit::Unreadable as u8)
        }
    }
}

fn why(args: &Args) -> Result<Exit, Error> {
    let path = client::kubeconfig(args.client.cluster.kubeconfig.as_deref()).or_else(default_kubeconfig);
    let path = path.ok_or(Error::NoKubeconfig)?;
    let mut words = vec!["signalbox".to_owned(), "explain".to_owned(), full(&args.from, args), full(&args.to, args)];
    words.extend(["--kubeconfig".to_owned(), path.display().to_string()]);
    if let Some(context) = &args.client.cluster.context {
        words.extend(["--context".to_owned(), context.clone()]);
    }
    let (exit, text) = match args.output {
        Format::Table => explain(&words)?,
        Format::Json => (Exit::Fine, Vec::new()),
    };
    anstream::print!("{}", String::from_utf8_lossy(&text));
    if exit == Exit::Unreadable {
        return Ok(exit);
    }
    words.extend(["-o".to_owned(), "json".to_owned()]);
    let (exit, json) = explain(&words)?;
    let spec: Value = serde_json::from_slice(&json)?;
    let live = if args.no_probe {
        Live { notes: vec!["not tried: --no-probe".to_owned()], ..Live::default() }
    } else {
        super::runtime().map_err(Error::Runtime)?.block_on(look(args, &spec))
    };
    match args.output {
        Format::Json => println!("{}", serde_json::json!({"spec": spec, "live": live})),
        Format::Table => facts::print(&live, &spec),
    }
    Ok(exit)
}

/// Where kubectl looks.
fn default_kubeconfig() -> Option<std::path::PathBuf> {
    if let Some(all) = std::env::var_os("KUBECONFIG") {
        // One file: several are merged by kubectl, and by nobody here.
        let paths: Vec<_> = std::env::split_paths(&all).filter(|path| !path.as_os_str().is_empty()).collect();
        return if let [path] = paths.as_slice() { Some(path.clone()) } else { None };
    }
    let path = std::path::PathBuf::from(std::env::var_os("HOME")?).join(".kube/config");
    path.exists().then_some(path)
}

/// An end with its namespace.
fn full(end: &str, args: &Args) -> String {
    let host = end.split([':', '/']).next().unwrap_or_default();
    let is_address =
        end.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok() || end.parse::<std::net::IpAddr>().is_ok();
    // A slash behind the port is the protocol's.
    let before_port = end.split(':').next().unwrap_or_default();
    // As kubectl writes it, without a namespace.
    let kind_first = before_port.split_once('/').is_some_and(|(kind, name)| {
        matches!(kind, "service" | "services" | "svc") && !name.is_empty() && !name.contains('/')
    });
    if is_address || before_port == "node" || (before_port.contains('/') && !kind_first) {
        return end.to_owned();
    }
    let namespace = args.namespace.clone().or_else(|| context_namespace(args)).unwrap_or_else(|| "default".to_owned());
    format!("{namespace}/{end}")
}

fn context_namespace(args: &Args) -> Option<String> {
    let path = client::kubeconfig(args.client.cluster.kubeconfig.as_deref()).or_else(default_kubeconfig)?;
    let kubeconfig = kube::config::Kubeconfig::read_from(path).ok()?;
    let context = args.client.cluster.context.clone().or(kubeconfig.current_context)?;
    kubeconfig.contexts.into_iter().find(|named| named.name == context)?.context?.namespace
}

/// Runs the offline command on the cluster's objects.
fn explain(words: &[String]) -> Result<(Exit, Vec<u8>), Error> {
    let offline = Offline::try_parse_from(words).map_err(Error::Usage)?;
    let colours = matches!(anstream::AutoStream::choice(&std::io::stdout()), anstream::ColorChoice::Never);
    let paint = if colours { Paint::Plain } else { Paint::Colours };
    let mut out = Vec::new();
    let mut streams = Streams {
        input: &mut std::io::empty(),
        out: &mut out,
        err: &mut std::io::stderr(),
        paint,
        progress: Progress::Hidden,
    };
    let exit = signalbox_analysis::run(&offline.command, &live::Kubernetes, &mut streams)?;
    Ok((exit, out))
}

/// Asks the server, or is one for a moment. What keeps it from an answer is in the notes.
async fn look(args: &Args, spec: &Value) -> Live {
    let source = match client::find(&args.client, args.timeout).await {
        Ok(source) => source,
        Err(error) => return Live { notes: vec![format!("not tried: {error}")], ..Live::default() },
    };
    let live = look_there(args, spec, &source).await;
    source.end().await;
    live
}

async fn look_there(args: &Args, spec: &Value, source: &Source) -> Live {
    let mut live = match source.round(args.timeout).await {
        Ok(snapshot) => look_at(args, spec, source, snapshot).await,
        Err(error) => Live { notes: vec![format!("no round of probes: {error}")], ..Live::default() },
    };
    if !args.in_pod {
        return live;
    }
    if live.tried_from.as_deref() == spec["from"].as_str() {
        live.notes.push("the pod runs a probe of its own, which was asked".to_owned());
        return live;
    }
    if spec["service"].is_null() {
        let port = spec["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        match inside::attempt(args, source, spec, spec["to"].as_str(), port).await {
            Ok(report) => live.in_pod = Some(report),
            Err(why) => live.notes.push(format!("not tried from inside of the pod: {why}")),
        }
        return live;
    }
    // Without a round there are no cells, and the pods can be tried all the same.
    if live.backends.is_empty() {
        live.backends = backends(spec);
    }
    let attempt = async |to: String, port: u16| inside::attempt(args, source, spec, Some(&to), Some(port)).await;
    live.notes.extend(inside::each(&mut live.backends, args.timeout, attempt).await);
    live
}

/// The pods behind the Service that was asked about, of which nothing is seen yet; none where it was no Service.
fn backends(spec: &Value) -> Vec<Backend> {
    let mut backends: Vec<Backend> = Vec::new();
    for answer in spec["answers"].as_array().into_iter().flatten() {
        let (Some(to), Some(port)) = (answer["to"].as_str(), answer["port"].as_u64()) else { continue };
        let Ok(port) = u16::try_from(port) else { continue };
        // A pod has an answer for each family where they differ.
        if !backends.iter().any(|known| known.to == to && known.port == port) {
            backends.push(Backend { to: to.to_owned(), port, cell: None, in_pod: None });
        }
    }
    backends
}

async fn look_at(args: &Args, spec: &Value, source: &Source, mut snapshot: Snapshot) -> Live {
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let mut live = Live { enforcement: snapshot.enforcement, ..Live::default() };
    let Some(from) = end(&snapshot, &text("from")).cloned() else {
        live.notes.push(format!("{} is not in the matrix", text("from")));
        return live;
    };
    let mut origin = vantage(&snapshot, &from);
    if !from.vantage && !args.in_pod {
        let inside = match source.may_probe_in(from.namespace.as_deref().unwrap_or_default()).await {
            true => ", --in-pod tries it from inside of the pod itself",
            false => "",
        };
        live.notes.push(format!("no probe runs in {}: --stand-in deploys one with its labels{inside}", from.name));
    }
    let mut run = None;
    if args.stand_in && origin.as_ref().is_none_or(|origin| !origin.vantage) {
        let name = from.workload.rsplit('/').next().unwrap_or_default();
        let wish = StandInWish {
            run: standin::new_run(),
            namespace: from.namespace.clone().unwrap_or_default(),
            // A workload's own labels would do as well: those of the pod are what was asked about.
            like: Some(format!("pod/{}", from.name)),
            keep_service_labels: args.stand_in_args.keep_service_labels,
            ..StandInWish::default()
        };
        run = Some(wish.run.clone());
        let deploying = async {
            match Asked::listen() {
                Ok(mut asked) => tokio::select! {
                    done = standin::deployed(source, &wish, args.timeout) => Some(done),
                    () = asked.received() => None,
                },
                Err(_) => Some(standin::deployed(source, &wish, args.timeout).await),
            }
        };
        match deploying.await {
            Some(Ok((report, fresh))) => {
                origin = fresh.endpoints.iter().find(|endpoint| standin::is_one(endpoint, &report)).cloned();
                snapshot = fresh;
                live.notes = vec![format!("tried from a stand-in for {name}, with its labels")];
            }
            Some(Err(error)) => live.notes.push(format!("no stand-in: {error}")),
            None => live.notes.push("no stand-in: ended before its time".to_owned()),
        }
    }
    let origin = origin.unwrap_or(from);
    if origin.vantage {
        live.tried_from = Some(called(&origin));
    }
    let protocol = text("protocol");
    let (name, to) = match spec["service"]["name"].as_str() {
        Some(name) => (format!("Service {name}"), service(&snapshot, name)),
        None => (text("to"), end(&snapshot, &text("to"))),
    };
    live.cell = to.and_then(|to| cell(&snapshot, &origin, &to.id, &spec["port"], &protocol));
    if live.cell.is_none() {
        let port = format!("{}/{protocol}", spec["port"]);
        live.notes.push(format!("the matrix has no cell for it: {}", missing(&snapshot, to, &name, &port)));
    }
    live.backends = backends(spec);
    for backend in &mut live.backends {
        let to = end(&snapshot, &backend.to);
        backend.cell = to.and_then(|to| cell(&snapshot, &origin, &to.id, &backend.port.into(), &protocol));
        if backend.cell.is_none() {
            let port = format!("{}/{protocol}", backend.port);
            let why = missing(&snapshot, to, &backend.to, &port);
            live.notes.push(format!("the matrix has no cell for {}: {why}", backend.to));
        }
    }
    live.enforcement = snapshot.enforcement;
    if let Some(run) = run
        && let Err(error) = source.remove(&run).await
        && live.tried_from.is_some()
    {
        live.notes.push(format!("the stand-in is not removed yet: {error}"));
    }
    live
}

/// The endpoint that explain's name means.
fn end<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Endpoint> {
    let is_it = |endpoint: &&Endpoint| match (endpoint.kind, &endpoint.namespace) {
        (EndpointKind::Pod, Some(namespace)) => format!("{namespace}/{}", endpoint.name) == name,
        (EndpointKind::Outside, _) => endpoint.addresses.iter().any(|address| address.to_string() == name),
        (EndpointKind::Pod | EndpointKind::Service, _) => false,
    };
    snapshot.endpoints.iter().find(is_it)
}

/// The Service `namespace/name`.
fn service<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Endpoint> {
    let is_it = |endpoint: &&Endpoint| match (endpoint.kind, &endpoint.namespace) {
        (EndpointKind::Service, Some(namespace)) => format!("{namespace}/{}", endpoint.name) == name,
        (EndpointKind::Service | EndpointKind::Pod | EndpointKind::Outside, _) => false,
    };
    snapshot.endpoints.iter().find(is_it)
}

/// A pod as `namespace/name`, a host outside as `outside/name`.
fn called(endpoint: &Endpoint) -> String {
    match &endpoint.namespace {
        Some(namespace) => format!("{namespace}/{}", endpoint.name),
        None => endpoint.workload.clone(),
    }
}

/// Why the matrix has no cell to this end at this port.
fn missing(snapshot: &Snapshot, endpoint: Option<&Endpoint>, to: &str, port: &str) -> String {
    if let Some(endpoint) = endpoint {
        let declared = endpoint.ports.iter().any(|own| format!("{}/{}", own.port, own.protocol) == port);
        let why = if declared { "is left out, although it declares" } else { "declares no" };
        return format!("{to} {why} port {port}");
    }
    let Some((namespace, _)) = to.trim_start_matches("Service ").split_once('/') else {
        return format!("no ExternalHost has the address {to}");
    };
    let sees_all = snapshot.viewer.as_ref().is_none_or(|viewer| viewer.all_namespaces);
    let is_in =
        |endpoint: &Endpoint| endpoint.kind == EndpointKind::Pod && endpoint.namespace.as_deref() == Some(namespace);
    match (snapshot.endpoints.iter().any(is_in), sees_all) {
        (true, _) => format!("{to} is not in it"),
        (false, true) => format!("it has no pod of the namespace {namespace}, which is left out of it"),
        (false, false) => format!("no pod of the namespace {namespace} is in it, or none that you may see"),
    }
}

/// Where a probe for it starts: the pod itself, or what stands in for its workload already.
fn vantage(snapshot: &Snapshot, from: &Endpoint) -> Option<Endpoint> {
    if from.vantage {
        return Some(from.clone());
    }
    let stand_in = format!("{} (stand-in)", from.workload);
    snapshot.endpoints.iter().find(|endpoint| endpoint.vantage && endpoint.workload == stand_in).cloned()
}

fn cell(snapshot: &Snapshot, from: &Endpoint, to: &str, port: &Value, protocol: &str) -> Option<Cell> {
    let is_it = |cell: &&Cell| {
        cell.key.from == from.id
            && cell.key.to == to
            && *port == cell.key.port
            && protocol == cell.key.protocol.as_str()
    };
    snapshot.cells.iter().find(is_it).cloned()
}

#[cfg(test)]
mod tests;
