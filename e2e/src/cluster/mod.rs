//! The two-node cluster of `e2e/cluster`: a real Kubernetes in network namespaces, brought up for one test and taken down whatever happens.
//!
//! - [`backends`]: which pods Kubernetes has behind its Services, from one moment to the next.
//! - [`dashboard`]: the server that was installed, asked as users ask it.
//! - [`leftovers`]: what is left of Signalbox.
//! - [`lesson`]: lesson one on it, and its checks by `kubectl exec`.
//! - [`outside`]: the hosts outside, each a process in a network namespace.
//! - [`plugin`]: somebody else's enforcer, with gaps.
//! - [`standins`]: the probes that are deployed for one run.

pub mod backends;
pub mod dashboard;
pub mod leftovers;
pub mod lesson;
pub mod outside;
pub mod plugin;
pub mod standins;

use std::fs::File;
use std::io::BufRead;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};

use crate::shell::{self, Ran, root};

/// The nodes' names.
pub const NODES: [&str; 2] = ["node1", "node2"];
/// The images' tag.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Which plugin joins pods to their node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cni {
    /// Each pod has a point-to-point link to its node.
    Ptp,
    /// The pods of a node share a bridge.
    Bridge,
}

/// A running cluster. Dropped, it ends; so it does when this process is killed.
#[derive(Debug)]
pub struct Cluster {
    /// Runs `down.sh` as soon as this process lets go of its standard input.
    guard: Child,
    /// There is one such cluster on a machine.
    _lock: Flock<File>,
}

impl Cluster {
    /// Starts it, with our images on both nodes. Some ten seconds.
    pub fn start(cni: Cni) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "the cluster needs root: run the tests as root");
        let images = images()?;
        let file = File::create("/run/lock/signalbox-e2e").context("cannot make /run/lock/signalbox-e2e")?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
        let mut guard = Command::new("bash");
        guard.args(["-c", "read -r _; exec \"$0\""]).arg(script("down.sh")).stdin(Stdio::piped());
        // Out of this process group, which is what a test runner kills.
        let cluster = Self { guard: guard.process_group(0).spawn()?, _lock: lock };
        let mut up = Command::new(script("up.sh"));
        up.env("CNI", if cni == Cni::Bridge { "bridge" } else { "ptp" }).env("IMAGES", images.join(" "));
        // Its standard error is the test's: it says what is missing, and where to look.
        let up = up.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let up = up.wait_with_output()?;
        for line in up.stdout.lines().map_while(Result::ok) {
            eprintln!("{line}");
        }
        ensure!(up.status.success(), "the cluster does not start");
        cluster.start_dns()?;
        Ok(cluster)
    }

    /// The administrator's kubeconfig; the API server is reached from within the cluster's network only: see [`Cluster::command`].
    pub fn kubeconfig(&self) -> PathBuf {
        let state = std::env::var_os("SIGNALBOX_E2E_STATE").map_or("/var/tmp/signalbox-e2e".into(), PathBuf::from);
        state.join("run/keys/admin.conf")
    }

    /// A command on one of the machines (`control`, `node1`, `node2`), or in the network of a host outside.
    pub fn command(&self, machine: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(script("on.sh"));
        command.arg(machine).arg(program);
        command
    }

    /// `kubectl`, as the administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_raw(arguments, None)?.ok().with_context(|| format!("kubectl {}", arguments.join(" ")))
    }

    /// `kubectl`, with its exit status.
    pub fn kubectl_raw(&self, arguments: &[&str], input: Option<&str>) -> Result<Ran> {
        shell::run(Command::new(script("kubectl.sh")).args(arguments), input)
    }

    /// `kubectl apply -f -`.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl_raw(&["apply", "-f", "-"], Some(manifest))?.ok()
    }

    /// Waits until something is so; what it says while it is not goes into the error.
    pub fn wait(
        &self,
        within: Duration,
        what: &str,
        mut done: impl FnMut() -> Result<Result<(), String>>,
    ) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let Err(still) = done()? else { return Ok(()) };
            if Instant::now() > deadline {
                let pods = self.kubectl(&["get", "pods", "--all-namespaces", "-o", "wide"]).unwrap_or_default();
                bail!("{what}: not within {within:?}: {still}\n{pods}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn start_dns(&self) -> Result<()> {
        let manifest = std::fs::read_to_string(root().join("e2e/cluster/dns.yaml"))?;
        self.apply(&manifest.replace("VERSION", VERSION))?;
        self.rolled_out("kube-system", "deployment/coredns")
    }

    /// Waits for a Deployment or DaemonSet.
    pub fn rolled_out(&self, namespace: &str, what: &str) -> Result<()> {
        let done = self.kubectl(&["-n", namespace, "rollout", "status", what, "--timeout=90s"]);
        done.map(drop).with_context(|| {
            let pods = self.kubectl(&["-n", namespace, "describe", "pods"]).unwrap_or_default();
            let logs =
                self.kubectl(&["-n", namespace, "logs", what, "--all-containers", "--tail=40"]).unwrap_or_default();
            format!("{what} is not ready\n{pods}\n{logs}")
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        match self.guard.wait() {
            Ok(status) if status.success() => {}
            ended => eprintln!("the cluster was not taken down: {ended:?}"),
        }
    }
}

fn script(name: &str) -> PathBuf {
    root().join("e2e/cluster").join(name)
}

/// The archives that both nodes import.
fn images() -> Result<Vec<String>> {
    let folder = root().join("target/images");
    let path = |name: &str| folder.join(format!("signalbox-{name}.tar"));
    ["server", "enforcer", "probe", "dns"]
        .into_iter()
        .map(|name| {
            ensure!(path(name).exists(), "{} is not there: run `cargo xtask images --for-tests`", path(name).display());
            Ok(path(name).to_string_lossy().into_owned())
        })
        .collect()
}

/// The probe, for processes outside of the cluster.
pub(crate) fn probe() -> Result<PathBuf> {
    let path: &Path = &root().join("target/artifacts/signalbox-probe");
    ensure!(path.exists(), "{} is not there: run `cargo xtask build`", path.display());
    Ok(path.to_owned())
}
