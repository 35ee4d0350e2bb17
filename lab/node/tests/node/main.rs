//! Tests of the node that need root. No test harness: the program starts itself anew inside namespaces, which has to
//! come before any thread.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures::FutureExt;
use signalbox_lab_node::{Config, ProbeBinary};

mod confinement;
mod crash;
mod network;
mod processes;
mod services;
mod support;

/// A test may take so long.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    signalbox_lab_node::run_if_reexec();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some("--be-a-lab") {
        return crash::be_a_lab();
    }
    if args.iter().any(|arg| arg == "--list") {
        // cargo-nextest asks; all of it counts as one test.
        if !args.iter().any(|arg| arg == "--ignored") {
            println!("node: test");
        }
        return ExitCode::SUCCESS;
    }
    if !nix::unistd::geteuid().is_root() {
        if std::env::var_os("SIGNALBOX_SKIP_ROOT").is_some_and(|value| value == "1") {
            println!("skipped: needs root");
            return ExitCode::SUCCESS;
        }
        eprintln!("these tests need root; set SIGNALBOX_SKIP_ROOT=1 to leave them out");
        return ExitCode::FAILURE;
    }
    let mut run = Run { filter: args.into_iter().find(|arg| !arg.starts_with('-')), failed: 0, passed: 0 };
    confinement::run(&mut run);
    network::run(&mut run);
    processes::run(&mut run);
    services::run(&mut run);
    crash::run(&mut run);
    println!("{} passed, {} failed", run.passed, run.failed);
    if run.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What has run.
pub struct Run {
    filter: Option<String>,
    failed: u32,
    passed: u32,
}

impl Run {
    /// Runs one test, on a runtime of its own.
    pub fn test<F: Future<Output = ()>>(&mut self, name: &str, test: impl FnOnce() -> F) {
        if self.filter.as_ref().is_some_and(|filter| filter != "node" && !name.contains(filter.as_str())) {
            return;
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let start = Instant::now();
        let guarded = AssertUnwindSafe(async { tokio::time::timeout(LIMIT, test()).await.expect("in time") });
        let done = runtime.block_on(guarded.catch_unwind());
        runtime.shutdown_timeout(Duration::from_secs(1));
        let word = if done.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({} ms)", start.elapsed().as_millis());
        if done.is_ok() { self.passed += 1 } else { self.failed += 1 }
    }
}

/// The usual node of a test.
pub fn config() -> Config {
    Config::new(std::env::temp_dir().join("signalbox-node-tests"), ProbeBinary::Path(probe()))
}

/// Where the probe lies, as the build puts it.
fn probe() -> PathBuf {
    let artifacts = std::env::var_os("SIGNALBOX_ARTIFACTS")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/artifacts")));
    let probe = artifacts.join("signalbox-probe");
    assert!(probe.exists(), "{} is missing: build it with `cargo xtask build`", probe.display());
    probe
}
