//! Measures what `signalbox serve` takes in front of a large cluster, and writes its part of docs/performance.md. Run it by
//! `cargo xtask bench server`. The server is a process of its own; the API that it watches is in this one.
//!
//! - [`objects`]: the cluster; [`cluster`]: the API that has it.
//! - [`served`]: the server, and what the kernel says of it.
//! - [`report`]: figures of several starts, in words.

mod cluster;
mod objects;
mod report;
mod served;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cluster::{Cluster, LABEL, Shown};
use objects::Size;
use served::{Memory, Served};
use signalbox_api::state::{EndpointKind, Event, Snapshot};
use signalbox_e2e::events::Events;
use tokio::runtime::Runtime;

const SIZES: [Size; 2] = [Size::of(1_000, 100), Size::of(10_000, 1_000)];
const STARTS: usize = 3;
/// Pods that change at once, and changes of one policy, after each start.
const PODS: usize = 1_000;
const POLICIES: u16 = 5;
/// How long nothing happens before memory is read.
const REST: Duration = Duration::from_secs(5);
/// How long anything may take.
const WITHIN: Duration = Duration::from_secs(120);

/// What one start took.
struct Start {
    listening: Duration,
    ready: Duration,
    /// Until the picture had been asked for and everything was in it.
    whole: Duration,
    processor: Duration,
    /// Bytes of the picture.
    picture: usize,
    /// Rows that the picture has no cells for.
    left_out: Vec<String>,
    cells: usize,
    at_start: Memory,
    at_rest: Memory,
    pods: Change,
    policies: Vec<Duration>,
    after: Memory,
}

/// What a change of many pods took.
struct Change {
    /// From the first request to the event that shows the last one.
    shown: Duration,
    /// The same from the answer to the last request.
    lag: Duration,
    processor: Duration,
}

fn main() -> Result<()> {
    let binary: PathBuf =
        std::env::args_os().nth(1).context("name the binary: `cargo xtask bench server` does")?.into();
    let runtime = Runtime::new()?;
    let load = report::load();
    let mut sizes = Vec::new();
    for size in SIZES {
        let begin = Instant::now();
        let cluster = runtime.block_on(Cluster::start(size))?;
        eprintln!("{} pods are written in {:.1} s", size.pods, begin.elapsed().as_secs_f64());
        let starts = (0..STARTS).map(|_| start(&runtime, &binary, &cluster)).collect::<Result<Vec<Start>>>()?;
        sizes.push(report::Measured { size, shown: cluster.shown, pod_bytes: cluster.pod_bytes, starts });
        runtime.block_on(cluster.end());
    }
    report::write(&sizes, [load, report::load()])
}

fn start(runtime: &Runtime, binary: &Path, cluster: &Cluster) -> Result<Start> {
    let folder = tempfile::tempdir()?;
    let served = Served::start(binary, &cluster.kubeconfig, &folder.path().join("log"))?;
    measure(runtime, &served, cluster).with_context(|| format!("its log: {}", served.log()))
}

fn measure(runtime: &Runtime, served: &Served, cluster: &Cluster) -> Result<Start> {
    let (snapshot, picture) = loop {
        let (snapshot, bytes) = served.state()?;
        if has_all(&snapshot, cluster.shown) {
            break (snapshot, bytes);
        }
        ensure!(served.age() < WITHIN, "the picture does not become whole");
    };
    let (whole, processor, at_start) = (served.age(), served.processor()?, served.memory()?);
    eprintln!("whole after {:.2} s; most memory {} MiB", whole.as_secs_f64(), at_start.peak >> 20);
    drop(snapshot.endpoints);
    std::thread::sleep(REST);
    let at_rest = served.memory()?;
    served.forget_peak()?;
    let page = Events::open(&served.url)?;
    page.until(WITHIN, |_, event| matches!(event, Event::Snapshot(_)))?;
    let pods = pods(runtime, served, cluster, &page)?;
    eprintln!("{PODS} pods changed and shown in {:.2} s", pods.shown.as_secs_f64());
    let policies = (0..POLICIES).map(|at| policy(runtime, cluster, &page, 20_000 + at)).collect::<Result<_>>()?;
    std::thread::sleep(REST);
    Ok(Start {
        listening: served.listening,
        ready: served.ready,
        whole,
        processor,
        picture,
        left_out: snapshot.problems,
        cells: snapshot.cells.len(),
        at_start,
        at_rest,
        pods,
        policies,
        after: served.memory()?,
    })
}

/// Whether a picture shows the whole cluster. The API has namespaces of its own besides.
fn has_all(snapshot: &Snapshot, shown: Shown) -> bool {
    snapshot.endpoints.len() == shown.endpoints
        && snapshot.policies.len() == shown.policies
        && snapshot.namespaces.len() >= shown.namespaces
}

fn pods(runtime: &Runtime, served: &Served, cluster: &Cluster, page: &Events) -> Result<Change> {
    // Each start finds what the one before left.
    let value = format!("{:x}", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis());
    let (begin, processor) = (Instant::now(), served.processor()?);
    runtime.block_on(cluster.label_pods(PODS, &value))?;
    let sent = Instant::now();
    let arrived = page.until(WITHIN, |_, event| {
        let Event::Endpoints(endpoints) = event else { return false };
        let changed =
            endpoints.iter().filter(|it| it.kind == EndpointKind::Pod && it.labels.get(LABEL) == Some(&value));
        changed.count() == PODS
    })?;
    Ok(Change {
        shown: arrived - begin,
        lag: arrived.saturating_duration_since(sent),
        processor: served.processor()?.saturating_sub(processor),
    })
}

/// From the request that changes a policy to the event that shows it.
fn policy(runtime: &Runtime, cluster: &Cluster, page: &Events, port: u16) -> Result<Duration> {
    let begin = Instant::now();
    runtime.block_on(cluster.open_port(port))?;
    let arrived = page.until(WITHIN, |_, event| {
        let Event::Policies(policies) = event else { return false };
        policies.iter().any(|policy| policy.yaml.contains(&format!("port: {port}")))
    })?;
    Ok(arrived - begin)
}
