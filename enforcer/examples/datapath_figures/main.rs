//! Measures the datapath and writes its part of docs/performance.md and docs/datapath.svg. Run it by
//! `cargo xtask bench datapath`, as root.
//!
//! - [`kernel`]: loaded programs, their tables, and runs by hand; [`scenarios`]: what they are measured at.
//! - [`veth`]: connections between two pods; [`changes`] and [`watched`]: policies on their way into the kernel.
//! - [`measure`]: figures of many rounds; [`report`]: table and plot.

mod changes;
mod kernel;
mod measure;
mod report;
mod scenarios;
#[path = "../../tests/support/mod.rs"]
mod support;
mod veth;
mod watched;

use std::path::Path;

use anyhow::{Context, Result};
use kernel::Kernel;
use report::Report;

/// Rounds of one scenario; about a minute for all of them.
const ROUNDS: u32 = 60;
/// Rounds of the tables of nine sizes.
const ROUNDS_NEW: u32 = 25;
const ROUNDS_VETH: u32 = 40;
const CHANGES: u32 = 1000;

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate lies in the workspace")?.to_owned();
    let object = root.join("target/artifacts/enforcer-bench.bpf.o");
    let before = report::load();
    // Others work on this machine, too: what is measured by the clock on the wall must not wait for them.
    rustix::process::setpriority_process(None, -20)?;
    let node = scenarios::Node::new();
    let shipped = Kernel::load(&root.join("target/artifacts/enforcer.bpf.o"), 1024)?;
    let bench = Kernel::load(&object, 1024)?;
    let mut report = Report {
        changes: changes::measure(CHANGES)?,
        watched: watched::measure(CHANGES)?,
        // On a thread of its own, which stays on one CPU.
        veth: std::thread::scope(|scope| scope.spawn(|| veth::measure(ROUNDS_VETH)).join().expect("no panic"))?,
        established: scenarios::established(&node, &object, ROUNDS)?,
        two_cpus: scenarios::two_cpus(&node, &object, ROUNDS)?,
        denied: scenarios::denied(&node, &object, ROUNDS)?,
        new_flows: scenarios::new_flows(&node, &object, ROUNDS_NEW)?,
        load: [before.clone(), before],
    };
    report.load[1] = report::load();
    report.write(&root, &shipped, &bench)
}
