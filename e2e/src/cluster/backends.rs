//! Which pods Kubernetes has had behind its Services, from one moment to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Cluster, script};

const SLICES: &str = "/apis/discovery.k8s.io/v1beta1/endpointslices";
/// How long after the end of a watch the next one is asked for.
const AGAIN: Duration = Duration::from_millis(100);

/// A Service as `namespace/name`, and a node that has a pod behind it.
pub type Backend = (String, String);

/// A watch on all EndpointSlices, from its start on: what kube-proxy has, too. A pod's own conditions do not do for that: a kubelet may
/// put an older one back, its time included, and then nothing tells that the pod was out of its Services in between.
#[derive(Debug)]
pub struct Backends {
    history: Arc<Mutex<History>>,
    /// The running watch; `None` once it is to end.
    watch: Arc<Mutex<Option<Child>>>,
    reader: Option<JoinHandle<()>>,
}

impl Backends {
    /// Lists, and watches from there.
    pub fn watch(cluster: &Cluster) -> Result<Self> {
        let (history, version) = listed(cluster)?;
        let history = Arc::new(Mutex::new(history));
        let watch = Arc::new(Mutex::new(Some(start(&version)?)));
        let (kept, running) = (Arc::clone(&history), Arc::clone(&watch));
        let reader = std::thread::spawn(move || read(&kept, &running, version));
        Ok(Self { history, watch, reader: Some(reader) })
    }

    /// Those that were not ready at some time between these, as far as the watch has got. None where it could not go on.
    pub fn unready(&self, since: Instant, until: Instant) -> BTreeSet<Backend> {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = history.turns.iter().filter(|(_, turns)| was_unready(turns, since, until));
        turns.map(|(backend, _)| backend.clone()).collect()
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        if let Some(mut child) = self.watch.lock().unwrap_or_else(PoisonError::into_inner).take() {
            end(&mut child);
        }
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}

/// What each slice holds now; and when each backend became ready, or ceased to be: `None` is before the watch.
#[derive(Debug, Default)]
struct History {
    slices: BTreeMap<String, BTreeSet<Backend>>,
    turns: BTreeMap<Backend, Vec<(Option<Instant>, bool)>>,
}

impl History {
    /// The slice of that name holds these now. A backend may be in several.
    fn holds(&mut self, slice: String, now: BTreeSet<Backend>, at: Option<Instant>) {
        let before = self.all();
        self.slices.insert(slice, now);
        let now = self.all();
        for backend in before.symmetric_difference(&now) {
            self.turns.entry(backend.clone()).or_default().push((at, now.contains(backend)));
        }
    }

    fn all(&self) -> BTreeSet<Backend> {
        self.slices.values().flatten().cloned().collect()
    }

    /// Takes an event of the watch; the version to go on from.
    fn take(&mut self, event: &Value) -> Option<String> {
        let slice = &event["object"];
        let gone = event["type"] == "DELETED";
        let version = word(slice, "/metadata/resourceVersion")?;
        self.holds(name(slice)?, if gone { BTreeSet::new() } else { ready(slice) }, Some(Instant::now()));
        Some(version)
    }
}

/// `true` where a turn between these is to unready, or the last one before was; and where it appeared only between these.
fn was_unready(turns: &[(Option<Instant>, bool)], since: Instant, until: Instant) -> bool {
    let split = |moment: Instant| turns.partition_point(|(at, _)| at.is_none_or(|at| at < moment));
    let (before, after) = turns[..split(until)].split_at(split(since));
    !before.last().is_some_and(|(_, ready)| *ready) || after.iter().any(|(_, ready)| !ready)
}

fn listed(cluster: &Cluster) -> Result<(History, String)> {
    let list: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", SLICES])?)?;
    let mut history = History::default();
    for slice in list["items"].as_array().into_iter().flatten() {
        history.holds(name(slice).context("a slice has no name")?, ready(slice), None);
    }
    Ok((history, word(&list, "/metadata/resourceVersion").context("the list has no version")?))
}

/// Reads watch after watch, each from where the last one ended.
fn read(history: &Mutex<History>, watch: &Mutex<Option<Child>>, mut version: String) {
    loop {
        let printed = match &mut *watch.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(child) => child.stdout.take(),
            None => return,
        };
        for line in printed.into_iter().flat_map(|printed| BufReader::new(printed).lines()).map_while(Result::ok) {
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            if event["type"] == "ERROR" {
                // Nothing is excused by what is not known: the test fails, and this says why.
                eprintln!("the watch on EndpointSlices cannot go on: {event}");
                *history.lock().unwrap_or_else(PoisonError::into_inner) = History::default();
                return;
            }
            let taken = history.lock().unwrap_or_else(PoisonError::into_inner).take(&event);
            version = taken.unwrap_or(version);
        }
        std::thread::sleep(AGAIN);
        let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut ended) = watch.take() else { return };
        end(&mut ended);
        match start(&version) {
            Ok(child) => *watch = Some(child),
            Err(error) => {
                eprintln!("cannot watch EndpointSlices: {error:#}");
                *history.lock().unwrap_or_else(PoisonError::into_inner) = History::default();
                return;
            }
        }
    }
}

fn start(version: &str) -> Result<Child> {
    let mut kubectl = Command::new(script("kubectl.sh"));
    kubectl.args(["get", "--raw", &format!("{SLICES}?watch=1&resourceVersion={version}")]);
    // It ends with an error while the API server is away, which is what the test has it do.
    kubectl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    kubectl.process_group(0).spawn().context("cannot watch EndpointSlices")
}

/// The script and what it has started.
fn end(child: &mut Child) {
    killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL).ok();
    drop(child.wait());
}

fn name(slice: &Value) -> Option<String> {
    Some(format!("{}/{}", word(slice, "/metadata/namespace")?, word(slice, "/metadata/name")?))
}

/// The nodes that have a ready pod in it, each with its Service.
fn ready(slice: &Value) -> BTreeSet<Backend> {
    let service = word(slice, "/metadata/labels/kubernetes.io~1service-name").unwrap_or_default();
    let namespace = word(slice, "/metadata/namespace").unwrap_or_default();
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let ready = endpoints.filter(|endpoint| endpoint.pointer("/conditions/ready") != Some(&Value::Bool(false)));
    ready
        .filter_map(|endpoint| word(endpoint, "/topology/kubernetes.io~1hostname"))
        .map(|node| (format!("{namespace}/{service}"), node))
        .collect()
}

fn word(object: &Value, path: &str) -> Option<String> {
    object.pointer(path).and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, slice: &str, is_ready: bool) -> Value {
        json!({"type": kind, "object": {
            "metadata": {
                "namespace": "frontend", "name": slice, "resourceVersion": "7",
                "labels": {"kubernetes.io/service-name": "web"},
            },
            "endpoints": [{"conditions": {"ready": is_ready}, "topology": {"kubernetes.io/hostname": "node2"}}],
        }})
    }

    fn was_out(history: &History, since: Instant, until: Instant) -> bool {
        was_unready(&history.turns[&("frontend/web".to_owned(), "node2".to_owned())], since, until)
    }

    #[test]
    fn a_pod_that_was_out_for_a_moment_is_told_afterwards() {
        let mut history = History::default();
        let listed = event("ADDED", "web-1", true);
        history.holds(name(&listed["object"]).expect("a name"), ready(&listed["object"]), None);
        let steady = Instant::now();
        assert!(!was_out(&history, steady, steady), "it was listed as ready");
        assert_eq!(history.take(&event("MODIFIED", "web-1", false)).as_deref(), Some("7"));
        history.take(&event("MODIFIED", "web-1", true));
        let back = Instant::now();
        assert!(was_out(&history, steady, back), "it was out in between");
        assert!(!was_out(&history, steady, steady), "it was not before");
        assert!(!was_out(&history, back, Instant::now()), "that is over");
        history.take(&event("ADDED", "web-2", true));
        history.take(&event("DELETED", "web-1", true));
        assert!(!was_out(&history, back, Instant::now()), "another slice holds it");
        history.take(&event("DELETED", "web-2", true));
        assert!(was_out(&history, back, Instant::now()), "none does");
    }
}
