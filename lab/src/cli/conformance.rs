//! `signalbox conformance`: what policies mean, tried against whatever enforces them in a cluster.
//!
//! - [`cases`]: the policies, by point. This file: the pods that try them, and what becomes of each case.
//! - [`pace`]: when it is looked at what policies have changed.
//! - [`report`]: how that is printed.

mod cases;
mod pace;
mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, PostParams};
use owo_colors::OwoColorize;
use serde_json::{Value, json};
use signalbox_api::cell::{Cell, Outcome};
use signalbox_api::flow::Decision;
use signalbox_api::state::{Endpoint, Snapshot};
use signalbox_server::matrix::parse::RUN_LABEL;
use signalbox_server::{Handle, ServiceHost, Vantages};
use tokio_util::sync::CancellationToken;

use super::signals::Asked;
use super::{cluster, complain, duration, standin};
use cases::{Case, Ground};
use pace::Pace;
use report::{Report, Tried, Verdict};

const EXAMPLES: &str = "\
Examples:
  signalbox conformance                          a badge for each point of what NetworkPolicy means
  signalbox conformance --point 4 --point 7      some of them
  signalbox conformance -o junit > conformance.xml
  signalbox conformance --settle 5s              for a network plugin that takes its time

It makes three namespaces of its own with three pods each, and removes them at the end, whatever comes.

Exit status: 0 if every case that could be shown is as the policies say, 1 if not, 2 if it could not run.";

/// The namespaces' names before the run's own.
const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const PODS: [&str; 3] = ["a", "b", "c"];
/// The ports that each pod listens on, by TCP and UDP.
const PORTS: [u16; 2] = [80, 81];
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Try what policies mean against whatever enforces them in a cluster
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: cluster::Args,
    /// Only this point; several times if need be
    #[arg(long, value_name = "NUMBER")]
    point: Vec<u8>,
    /// How long whoever enforces may take for a change
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    settle: Duration,
    /// After how long without an answer a connection counts as shut: each case with something shut takes at least so long
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = duration::parse)]
    probe_timeout: Duration,
    /// How long the pods may take to be ready
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
    timeout: Duration,
    /// The probe's image
    #[arg(long, value_name = "IMAGE", default_value_t = signalbox_server::Config::default().probe_image)]
    probe_image: String,
    /// How to print the result
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A badge for each point
    Table,
    /// One object with all cases
    Json,
    /// One test case for each case
    Junit,
}

/// Why it could not run.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error("cannot {what}: {source}")]
    Api { what: String, source: Box<kube::Error> },
    #[error("the pods are not ready within {} s: {why}; give them more with --timeout, or another --probe-image", after.as_secs())]
    Late { after: Duration, why: String },
    #[error("there is no case for the points {0:?}")]
    NoCase(Vec<u8>),
    #[error("ended before its time")]
    Ended,
    #[error("cannot listen for signals, or start the runtime: {0}")]
    System(#[from] std::io::Error),
}

pub(super) fn run(args: &Args) -> ExitCode {
    let result = super::runtime().map_err(Error::from).and_then(|runtime| runtime.block_on(conformance(args)));
    match result {
        Ok(report) => {
            match args.output {
                Format::Table => anstream::print!("{}", report.table()),
                Format::Json => println!("{}", report.json()),
                Format::Junit => println!("{}", report.junit()),
            }
            if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

async fn conformance(args: &Args) -> Result<Report, Error> {
    let mut asked = Asked::listen()?;
    let cluster = cluster::connect(&args.cluster).await?;
    let run = Run { client: cluster.client.clone(), id: standin::new_run() };
    let shutdown = CancellationToken::new();
    let trying = async {
        run.furnish(args).await?;
        let config = run.config(args, &cluster.name);
        let watching = signalbox_server::watch(config, cluster.client.clone(), None, shutdown.clone());
        let report = run.try_all(watching.handle(), args, &cluster.version).await;
        watching.end().await;
        report
    };
    let report = tokio::select! {
        report = trying => report,
        () = asked.received() => Err(Error::Ended),
    };
    shutdown.cancel();
    run.remove().await;
    report
}

/// A policy in the cluster. No two of a run have the same name.
type Held = (Api<NetworkPolicy>, String);

/// One run's objects.
struct Run {
    client: kube::Client,
    id: String,
}

impl Run {
    fn namespace(&self, letter: &str) -> String {
        format!("signalbox-{letter}-{}", self.id)
    }

    /// Makes namespaces, pods and Services.
    async fn furnish(&self, args: &Args) -> Result<(), Error> {
        anstream::eprintln!("{} makes 9 pods in 3 namespaces", "·".dimmed());
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let mark = json!({"app.kubernetes.io/part-of": "signalbox", RUN_LABEL: self.id});
        for letter in NAMESPACES {
            let name = self.namespace(letter);
            let mut labels = mark.clone();
            labels["ns"] = letter.into();
            labels["pod-security.kubernetes.io/enforce"] = "baseline".into();
            create(&namespaces, &name, json!({"metadata": {"name": name, "labels": labels}})).await?;
        }
        // A ServiceAccount comes a moment after its namespace, and no pod without it.
        for letter in NAMESPACES {
            let namespace = self.namespace(letter);
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
            let services: Api<Service> = Api::namespaced(self.client.clone(), &namespace);
            for name in PODS {
                let begin = Instant::now();
                while let Err(error) = create(&pods, name, pod(letter, name, &args.probe_image)).await {
                    if begin.elapsed() > args.timeout {
                        return Err(error);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
            let ports = json!([{"name": "tcp", "port": 180, "targetPort": 80}]);
            let service = json!({"metadata": {"name": "a"}, "spec": {"selector": {"pod": "a"}, "ports": ports}});
            create(&services, "a", service).await?;
        }
        Ok(())
    }

    /// A server that sees this run's pods alone, and tries connections only when it is asked to.
    fn config(&self, args: &Args, cluster: &str) -> signalbox_server::Config {
        signalbox_server::Config {
            cluster: cluster.to_owned(),
            vantages: Vantages::Labelled,
            service_host: ServiceHost::Address,
            max_cells: 0,
            run: Some(self.id.clone()),
            settle: Duration::from_millis(200),
            probe_timeout: args.probe_timeout,
            interval: Duration::from_secs(3_600),
            first_round_wait: args.timeout,
            ..signalbox_server::Config::default()
        }
    }

    /// Looks until all pods are there and reach each other, with no policy of this run left; and how many looks that took.
    async fn until_open(&self, server: &Handle, within: Duration) -> Result<(Snapshot, u32), Error> {
        let begin = Instant::now();
        let mut looks = 1;
        loop {
            let since_ms = now_ms();
            let snapshot = server.round().await.ok_or(Error::Ended)?;
            let Some(why) = self.unopen(&snapshot, since_ms) else { return Ok((snapshot, looks)) };
            if begin.elapsed() > within {
                return Err(Error::Late { after: within, why });
            }
            looks += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn cases(&self, snapshot: &Snapshot) -> Vec<Case> {
        let y_a = format!("pod:{}/a", self.namespace("y"));
        let y_a = snapshot.endpoints.iter().find(|endpoint| endpoint.id == y_a).and_then(|pod| pod.addresses.first());
        let y_a = y_a.map(ToString::to_string).unwrap_or_default();
        let (x, y) = (self.namespace("x"), self.namespace("y"));
        cases::all(&Ground { x: &x, y: &y, y_a: &y_a })
    }

    /// Tries the cases one after the other, each from pods that all reach each other: what the policies before had shut is seen to be open
    /// again.
    async fn try_all(&self, server: &Handle, args: &Args, version: &str) -> Result<Report, Error> {
        let (snapshot, _) = self.until_open(server, args.timeout).await?;
        let mut cases = self.cases(&snapshot);
        cases.retain(|case| args.point.is_empty() || args.point.contains(&case.point));
        if cases.is_empty() {
            return Err(Error::NoCase(args.point.clone()));
        }
        let begin = Instant::now();
        let mut tried = Vec::new();
        let mut pace = Pace::new(args.settle);
        let count = cases.len();
        for (number, case) in cases.into_iter().enumerate() {
            let held = self.apply(number, &case).await?;
            let one = self.try_one(server, &case, held.len(), &mut pace, args).await?;
            self.delete(held).await?;
            // What has not come in its time may come later, and the next case must not pass by it.
            let rest = if one.verdict == Verdict::Passed { pace.arrival } else { args.settle.max(pace.patience()) };
            tokio::time::sleep(rest).await;
            let (_, looks) = self.until_open(server, args.settle + args.timeout).await?;
            pace.looked(looks);
            let (number, point, title) = (number + 1, case.point, case.title);
            anstream::eprintln!("{} {number}/{count} point {point}: {title}: {}", "·".dimmed(), one.verdict);
            tried.push(one);
        }
        Ok(Report { version: version.to_owned(), tried, seconds: begin.elapsed().as_secs_f64() })
    }

    async fn apply(&self, number: usize, case: &Case) -> Result<Vec<Held>, Error> {
        let apply = case.policies.iter().enumerate().map(async |(part, (letter, spec))| {
            let api: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), &self.namespace(letter));
            let name = format!("case-{number}-{part}");
            create(&api, &name, json!({"metadata": {"name": name}, "spec": spec})).await?;
            Ok((api, name))
        });
        try_join_all(apply).await
    }

    async fn delete(&self, held: Vec<Held>) -> Result<(), Error> {
        let delete = held.into_iter().map(async |(api, name)| {
            let deleted = api.delete(&name, &DeleteParams::default()).await;
            let failed =
                |source| Error::Api { what: format!("delete the NetworkPolicy {name}"), source: Box::new(source) };
            deleted.map(drop).map_err(failed)
        });
        try_join_all(delete).await.map(drop)
    }

    /// Looks until what is seen is as the case's policies say, or whoever enforces has had its time. Where they shut nothing, nothing can be
    /// seen to arrive: then it is the look after [`Pace::patience`] that counts.
    async fn try_one(
        &self,
        server: &Handle,
        case: &Case,
        applied: usize,
        pace: &mut Pace,
        args: &Args,
    ) -> Result<Tried, Error> {
        let begin = Instant::now();
        tokio::time::sleep(pace.arrival).await;
        for looks in 1.. {
            let (began, since_ms) = (begin.elapsed(), now_ms());
            let snapshot = server.round().await.ok_or(Error::Ended)?;
            let ended = begin.elapsed();
            let tried = self.judge(case, &snapshot, since_ms, ended);
            let is_known = self.policies(&snapshot) == applied;
            let is_as_said = is_known && tried.verdict == Verdict::Passed;
            if is_as_said && tried.shows_change() {
                pace.looked(looks);
                // What was dropped was sent before the time-out began, and its policy was in force by then.
                pace.took(began.max(ended.saturating_sub(args.probe_timeout)));
                return Ok(tried);
            }
            let due = if is_as_said { pace.patience() } else { args.settle.max(pace.patience()) };
            if is_known && began >= due {
                return Ok(tried);
            }
            // The server's own watch is bounded, too.
            if !is_known && ended > args.settle + args.timeout {
                break;
            }
            if is_as_said {
                tokio::time::sleep(pace.patience().saturating_sub(ended)).await;
            } else if !tried.shows_change() {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Err(Error::Late { after: args.timeout, why: "the policies do not come back by the watch".to_owned() })
    }

    /// How many of this run's policies the server knows.
    fn policies(&self, snapshot: &Snapshot) -> usize {
        snapshot.policies.iter().filter(|policy| policy.namespace.ends_with(&self.id)).count()
    }

    /// Removes all that was made. What cannot be removed is named.
    async fn remove(&self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for letter in NAMESPACES {
            let name = self.namespace(letter);
            match namespaces.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    anstream::eprintln!("{} the namespace {name} is left: {error}", "warning:".yellow().bold())
                }
            }
        }
    }

    /// Whether an endpoint is one of this run's: hosts outside and their agents may be there or not.
    fn is_own(&self, id: &str) -> bool {
        id.split_once('/').is_some_and(|(before, _)| before.ends_with(&format!("-{}", self.id)))
    }

    fn endpoints<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Endpoint> {
        snapshot.endpoints.iter().filter(|endpoint| self.is_own(&endpoint.id))
    }

    /// The cells that count.
    fn cells<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Cell> {
        let is_own = |cell: &Cell| self.is_own(&cell.key.from) && self.is_own(&cell.key.to);
        snapshot.cells.iter().filter(move |cell| is_own(cell) && counts(cell))
    }

    /// Why not all pods are in the picture, and have been seen to reach each other since then.
    fn unopen(&self, snapshot: &Snapshot, since_ms: u64) -> Option<String> {
        let left = self.policies(snapshot);
        if left > 0 {
            return Some(format!(
                "{left} policies are in its namespaces: deleted ones that stay in the watch, or somebody else's"
            ));
        }
        let vantages = self.endpoints(snapshot).filter(|endpoint| endpoint.vantage).count();
        let pods = NAMESPACES.len() * PODS.len();
        if vantages < pods {
            return Some(format!("{vantages} of {pods} pods are there"));
        }
        let problem =
            self.endpoints(snapshot).find_map(|endpoint| endpoint.problem.clone().map(|why| (&endpoint.id, why)));
        if let Some((id, why)) = problem {
            return Some(format!("{id}: {why}"));
        }
        let is_open = |cell: &Cell| saw(cell, since_ms) == Some(Outcome::Open);
        let shut = self.cells(snapshot).find(|cell| !is_open(cell))?;
        let saw = saw(shut, since_ms).map_or("not tried", Outcome::as_str);
        Some(format!(
            "without any policy of this run {} to {} {}/{} is {saw}",
            shut.key.from, shut.key.to, shut.key.protocol, shut.key.port
        ))
    }

    /// What became of a case, by what has been seen since then.
    fn judge(&self, case: &Case, snapshot: &Snapshot, since_ms: u64, took: Duration) -> Tried {
        let (mut agree, mut unknown, mut shut) = (0, 0, 0);
        let mut wrong = Vec::new();
        for cell in self.cells(snapshot) {
            let spec = cell.spec.as_ref().and_then(|spec| spec.decision);
            let probe = saw(cell, since_ms).and_then(Outcome::decision);
            shut += usize::from(spec == Some(Decision::Denied));
            match (spec, probe) {
                (Some(spec), Some(probe)) if spec == probe => agree += 1,
                (Some(_), Some(_)) => wrong.push(report::mismatch(cell)),
                (Some(_) | None, _) => unknown += 1,
            }
        }
        let verdict = match (wrong.is_empty(), unknown) {
            (false, _) => Verdict::Failed,
            (true, 0) if agree > 0 => Verdict::Passed,
            (true, _) => Verdict::Unknown,
        };
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Tried { point: case.point, title: case.title, verdict, agree, unknown, wrong, shut, millis }
    }
}

/// What a probe has seen that ended since then: a round that was given up leaves what the one before had seen.
fn saw(cell: &Cell, since_ms: u64) -> Option<Outcome> {
    cell.probe.as_ref().filter(|probe| probe.at_ms >= since_ms).map(|probe| probe.outcome)
}

/// By the clock of the server, which is in this process.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

async fn create<T>(api: &Api<T>, name: &str, value: Value) -> Result<(), Error>
where
    T: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let failed = |source| Error::Api { what: format!("create {name}"), source: Box::new(source) };
    let object = serde_json::from_value(value).map_err(|error| failed(kube::Error::SerdeError(error)))?;
    api.create(&PostParams::default(), &object).await.map(drop).map_err(failed)
}

/// Low ports need the one capability that the baseline standard lets pods have. Container runtimes give it to root alone: another user's
/// process would have it in its bounding set only.
fn pod(letter: &str, name: &str, image: &str) -> Value {
    let mut ports = Vec::new();
    let mut arguments = vec!["serve".to_owned(), "--name".to_owned(), name.to_owned()];
    for port in PORTS {
        for protocol in ["TCP", "UDP"] {
            arguments.extend(["--port".to_owned(), format!("{protocol}/{port}")]);
            let called = format!("serve-{port}-{}", protocol.to_lowercase());
            ports.push(json!({"containerPort": port, "protocol": protocol, "name": called}));
        }
    }
    json!({
        "metadata": {"name": name, "labels": {"pod": name, "ns": letter, "signalbox.dev/probe": ""}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "containers": [{
                "name": "probe",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["/bin/signalbox-probe"],
                "args": arguments,
                "ports": ports,
                "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                "securityContext": {
                    "runAsUser": 0,
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                },
            }],
        },
    })
}

/// A pod that calls itself through its own Service depends on more than policies: not every network has a way back for it.
fn counts(cell: &Cell) -> bool {
    cell.key.from.strip_prefix("pod:") != cell.key.to.strip_prefix("service:")
}
