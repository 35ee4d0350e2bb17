//! `signalbox why`: one connection of a live cluster: what the policies say, what a probe sees, what the kernel decided, since when.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use owo_colors::OwoColorize;
use serde::Serialize;
use serde_json::Value;
use signalbox_analysis::Exit;
use signalbox_analysis::streams::{Paint, Progress, Streams};
use signalbox_api::cell::{Agreement, Cell, Evidence, KernelFact};
use signalbox_api::flow::Decision;
use signalbox_api::rest::StandInWish;
use signalbox_api::state::{Endpoint, EndpointKind, Enforcement, Snapshot};

use super::client::{self, Source};
use super::signals::Asked;
use super::{complain, duration, live, standin};

const EXAMPLES: &str = "\
Examples:
  signalbox why frontend/web backend/dbsvc:9000           why web reaches dbsvc, or does not
  signalbox why web db:5432/TCP -n shop                   both in one namespace
  signalbox why frontend/web 198.51.100.20:3306           to an address outside
  signalbox why frontend/web backend/dbsvc:9000 --stand-in    try it, too, where web runs no probe
  kubectl signalbox why frontend/web backend/dbsvc:9000 -o json | jq .live

FROM and TO are [NAMESPACE/]POD, [NAMESPACE/]WORKLOAD (for which its first pod stands), an address, or outside/HOST. The port is the pod's own, after a
Service's translation.

Exit status: 0 if the policies allow the connection, 1 if they deny it or that is unknown, 2 if something could not be read or found.";

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
    #[command(flatten)]
    stand_in_args: standin::Args,
    /// Say what the policies say, and try nothing
    #[arg(long, conflicts_with = "stand_in")]
    no_probe: bool,
    /// How to print the result
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
    /// How long the live part may take
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
    /// The matrix's cell; null where there is none.
    cell: Option<Cell>,
    enforcement: Enforcement,
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
        Format::Table => print(&live),
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
    if is_address || before_port == "node" || before_port.contains('/') {
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
    let mut snapshot = match source.round(args.timeout).await {
        Ok(snapshot) => snapshot,
        Err(error) => return Live { notes: vec![format!("not tried: {error}")], ..Live::default() },
    };
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let mut live = Live { enforcement: snapshot.enforcement, ..Live::default() };
    let Some(from) = end(&snapshot, &text("from")).cloned() else {
        live.notes.push(format!("{} is not in the matrix", text("from")));
        return live;
    };
    let mut origin = vantage(&snapshot, &from, &mut live.notes);
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
    let to = text("to");
    let to = end(&snapshot, &to).map(|endpoint| endpoint.id.clone());
    live.cell = to.and_then(|to| cell(&snapshot, &origin, &to, spec));
    if origin.vantage {
        live.tried_from = Some(called(&origin));
    }
    if live.cell.is_none() {
        let port = format!("{}/{}", spec["port"], text("protocol"));
        live.notes.push(format!("the matrix has no cell for it: {}", missing(&snapshot, &text("to"), &port)));
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

/// A pod as `namespace/name`, a host outside as `outside/name`.
fn called(endpoint: &Endpoint) -> String {
    match &endpoint.namespace {
        Some(namespace) => format!("{namespace}/{}", endpoint.name),
        None => endpoint.workload.clone(),
    }
}

/// Why the matrix has no cell to this end at this port.
fn missing(snapshot: &Snapshot, to: &str, port: &str) -> String {
    if let Some(endpoint) = end(snapshot, to) {
        let declared = endpoint.ports.iter().any(|own| format!("{}/{}", own.port, own.protocol) == port);
        let why = if declared { "is left out, although it declares" } else { "declares no" };
        return format!("{to} {why} port {port}");
    }
    let Some((namespace, _)) = to.split_once('/') else {
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
fn vantage(snapshot: &Snapshot, from: &Endpoint, notes: &mut Vec<String>) -> Option<Endpoint> {
    if from.vantage {
        return Some(from.clone());
    }
    notes.push(format!("no probe runs in {}: --stand-in deploys one with its labels", from.name));
    let stand_in = format!("{} (stand-in)", from.workload);
    snapshot.endpoints.iter().find(|endpoint| endpoint.vantage && endpoint.workload == stand_in).cloned()
}

fn cell(snapshot: &Snapshot, from: &Endpoint, to: &str, spec: &Value) -> Option<Cell> {
    let is_it = |cell: &&Cell| {
        cell.key.from == from.id
            && cell.key.to == to
            && spec["port"] == cell.key.port
            && spec["protocol"] == cell.key.protocol.as_str()
    };
    snapshot.cells.iter().find(is_it).cloned()
}

fn print(live: &Live) {
    anstream::println!();
    let line = |name: &str, text: String| anstream::println!("{:10}{text}", name.bold());
    match live.cell.as_ref().and_then(|cell| cell.probe.as_ref()) {
        Some(probe) => {
            let how = match probe.evidence {
                Evidence::Answer => "by the peer's answer",
                Evidence::KernelEvent => "by the kernel's event for this packet",
                Evidence::Timeout => "no answer in time, weaker evidence",
            };
            let latency = probe.latency_us.map_or(String::new(), |us| format!(", {us} us"));
            let detail = probe.detail.as_ref().map_or(String::new(), |detail| format!(": {detail}"));
            let from = live.tried_from.as_ref().map_or(String::new(), |from| format!(" from {from}"));
            line("probe", format!("{}{from} ({how}{latency}){detail}", probe.outcome.to_string().bold()));
        }
        None => line("probe", "nothing was tried".yellow().to_string()),
    }
    match live.cell.as_ref().and_then(|cell| cell.kernel.as_ref()) {
        Some(kernel) => {
            let (word, rest) = decided(kernel);
            line("kernel", format!("{}{rest}", word.bold()));
        }
        None => line("kernel", kernel_is_silent(live.enforcement).to_owned()),
    }
    if let Some(cell) = &live.cell {
        line("since", ago(cell.since_ms));
        let (word, style) = match cell.agreement {
            Agreement::Agree => ("all that is known says the same", owo_colors::Style::new().green()),
            Agreement::Disagree => ("what is known contradicts itself", owo_colors::Style::new().red()),
            Agreement::Unsettled => ("too little is known to compare", owo_colors::Style::new().yellow()),
        };
        line("facts", word.style(style).to_string());
    }
    for note in &live.notes {
        line("note", note.clone());
    }
}

/// What the kernel decided, in a word; and where, by what, and how the policies stood.
fn decided(kernel: &KernelFact) -> (&'static str, String) {
    let word = match kernel.decision {
        Decision::Allowed => "allowed",
        Decision::Denied => "denied",
    };
    let mut rest = kernel.direction.map_or(String::new(), |direction| format!(" on the {direction} side"));
    if let Some(rule) = &kernel.rule {
        rest.push_str(&format!(" by {rule}"));
    }
    if !kernel.isolated_by.is_empty() && kernel.rule.is_none() {
        let names: Vec<String> = kernel.isolated_by.iter().map(ToString::to_string).collect();
        rest.push_str(&format!(", isolated by {}", names.join(", ")));
    }
    rest.push_str(&format!(", generation {}", kernel.generation));
    (word, rest)
}

fn kernel_is_silent(enforcement: Enforcement) -> &'static str {
    match enforcement {
        Enforcement::Signalbox => "no packet of this connection was judged yet",
        Enforcement::Nobody => "policies exist, nothing enforces them",
        Enforcement::Other => "no enforcer of Signalbox tells; the network plugin enforces",
        Enforcement::Unknown => "no enforcer of Signalbox tells",
    }
}

fn ago(at_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let seconds = u64::try_from(now).unwrap_or(u64::MAX).saturating_sub(at_ms) / 1_000;
    match seconds {
        0..120 => format!("{seconds} s ago, as far as this server has seen"),
        120..7_200 => format!("{} min ago, as far as this server has seen", seconds / 60),
        _ => format!("{} h ago, as far as this server has seen", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn ends_get_the_namespace_that_they_do_not_name() {
        let line = Line::try_parse_from(["why", "web", "db:5432/TCP", "-n", "shop"]).unwrap();
        for (end, expected) in [
            ("web", "shop/web"),
            ("a/web", "a/web"),
            ("db:5432", "shop/db:5432"),
            ("db:5432/TCP", "shop/db:5432/TCP"),
            ("a/db:5432/TCP", "a/db:5432/TCP"),
            ("198.51.100.7:80/TCP", "198.51.100.7:80/TCP"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("2001:db8::1", "2001:db8::1"),
            ("node", "node"),
        ] {
            assert_eq!(full(end, &line.args), expected, "{end}");
        }
    }

    fn kernel(value: serde_json::Value) -> KernelFact {
        serde_json::from_value(value).unwrap()
    }

    /// It was "denied, generation 13", with neither side nor policy.
    #[test]
    fn what_the_kernel_decided_is_told_with_side_and_policies() {
        let policy = serde_json::json!({"kind": "NetworkPolicy", "namespace": "shop", "name": "api"});
        let denied = kernel(serde_json::json!({
            "decision": "denied", "direction": "ingress", "isolated_by": [policy], "generation": 13, "at_ms": 1,
        }));
        assert_eq!(
            decided(&denied),
            ("denied", " on the ingress side, isolated by shop/api, generation 13".to_owned())
        );
        let bare = kernel(serde_json::json!({"decision": "denied", "generation": 2, "at_ms": 1}));
        assert_eq!(decided(&bare), ("denied", ", generation 2".to_owned()));
    }

    fn endpoint(id: &str, port: u16) -> serde_json::Value {
        let (kind, path) = id.split_once(':').unwrap();
        let namespace = path.split_once('/').map(|(namespace, _)| namespace);
        let name = path.rsplit('/').next().unwrap();
        let workload = if namespace.is_some() { path.to_owned() } else { format!("outside/{name}") };
        serde_json::json!({
            "id": id, "kind": kind, "namespace": namespace, "name": name, "workload": workload, "addresses": ["192.0.2.7"],
            "labels": {}, "ports": [{"port": port, "protocol": "TCP"}], "ready": true, "vantage": true,
        })
    }

    /// The note said "declares no port 53/UDP, or is left out" of a pod that declares it, and `open from /users`.
    #[test]
    fn a_cell_that_is_not_there_is_told_by_its_cause() {
        let endpoints = ["pod:shop/web", "outside:users"].map(|id| serde_json::from_value(endpoint(id, 80)).unwrap());
        let mut snapshot = Snapshot { endpoints: endpoints.into(), ..Snapshot::default() };
        for (to, port, expected) in [
            ("kube-system/coredns-1", "53/UDP", "it has no pod of the namespace kube-system, which is left out of it"),
            ("shop/web", "8080/TCP", "shop/web declares no port 8080/TCP"),
            ("shop/web", "80/TCP", "shop/web is left out, although it declares port 80/TCP"),
            ("shop/gone", "80/TCP", "shop/gone is not in it"),
            ("192.0.2.9", "80/TCP", "no ExternalHost has the address 192.0.2.9"),
        ] {
            assert_eq!(missing(&snapshot, to, port), expected);
        }
        assert_eq!(snapshot.endpoints.iter().map(called).collect::<Vec<_>>(), ["shop/web", "outside/users"]);
        let viewer = serde_json::json!({"name": "ann", "via": "token", "all_namespaces": false});
        snapshot.viewer = serde_json::from_value(viewer).ok();
        assert!(snapshot.viewer.is_some());
        assert!(missing(&snapshot, "data/db", "80/TCP").contains("or none that you may see"));
    }
}
