//! Lesson one with `kubectl`: after each step probes, engine and the kernel's counters must give the lesson's table.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use signalbox_api::cell::Outcome;
use signalbox_api::kernel::AttachMode;
use signalbox_api::state::{EndpointKind, Snapshot};
use signalbox_e2e::counters;
use signalbox_e2e::lab::Lab;
use signalbox_e2e::lesson::{self, STEPS};

#[test]
fn every_step_gives_the_lessons_table_three_times() -> Result<()> {
    walk(&[], &[AttachMode::Tcx, AttachMode::Clsact])
}

/// What kernels before 6.6 have. Whoever has a newer one asks for it.
#[test]
fn every_step_gives_the_same_table_on_clsact() -> Result<()> {
    walk(&["--attach", "clsact"], &[AttachMode::Clsact])
}

/// Nobody asks for clsact here: the kernel has the version for tcx, and does not know it.
#[test]
fn a_kernel_that_is_built_without_tcx_takes_clsact_by_itself() -> Result<()> {
    let state = tempfile::tempdir()?;
    // The filter stays with the thread that sets it, and with the processes that it starts.
    let lab = std::thread::scope(|scope| {
        let start = || -> Result<Lab> {
            seccompiler::apply_filter(&without_links()?)?;
            Lab::start(state.path(), &[])
        };
        scope.spawn(start).join().expect("no panic")
    })?;
    steps(lab, &[AttachMode::Clsact])
}

/// As kernels answer that were built without `CONFIG_NET_XGRESS`: bpf(2) makes no links to interfaces.
fn without_links() -> Result<BpfProgram> {
    const BPF_LINK_CREATE: u64 = 28;
    let command = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, BPF_LINK_CREATE)?;
    let rules = BTreeMap::from([(nix::libc::SYS_bpf, vec![SeccompRule::new(vec![command])?])]);
    let invalid = SeccompAction::Errno(nix::libc::EINVAL.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, invalid, std::env::consts::ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

/// Whoever sees the line `ready` may ask at once: the first matrix is whole, and no round has to be asked for.
#[test]
fn what_is_ready_has_a_matrix() -> Result<()> {
    let state = tempfile::tempdir()?;
    // No other round comes by itself while this one is looked at.
    let lab = Lab::start(state.path(), &["--interval", "10m"])?;
    let snapshot: Snapshot = lab.get("/api/v1/state")?;
    ensure!(snapshot.cells.len() >= lesson::ALL.len(), "{} cells", snapshot.cells.len());
    for cell in &snapshot.cells {
        let outcome = cell.probe.as_ref().map(|probe| probe.outcome);
        ensure!(outcome == Some(Outcome::Open), "{:?} was not tried, or is not open: {outcome:?}", cell.key);
    }
    let workloads: BTreeMap<&str, &str> =
        snapshot.endpoints.iter().map(|one| (one.id.as_str(), one.workload.as_str())).collect();
    let services = snapshot.endpoints.iter().filter(|one| one.kind == EndpointKind::Service);
    ensure!(services.count() == 3, "the lesson's three Services");
    for (from, to) in lesson::ALL {
        let name = |id: &str| workloads.get(id).copied().with_context(|| format!("{id} is nowhere in the picture"));
        let tried = snapshot.cells.iter().map(|cell| Ok((name(&cell.key.from)?, name(&cell.key.to)?)));
        let tried: Vec<(&str, &str)> = tried.collect::<Result<_>>()?;
        ensure!(tried.contains(&(*from, *to)), "{from} to {to} is not among {tried:?}");
    }
    Ok(())
}

fn walk(arguments: &[&str], attached: &[AttachMode]) -> Result<()> {
    let state = tempfile::tempdir()?;
    steps(Lab::start(state.path(), arguments)?, attached)
}

fn steps(lab: Lab, attached: &[AttachMode]) -> Result<()> {
    let snapshot: Snapshot = lab.get("/api/v1/state")?;
    let mode = snapshot.enforcers.first().and_then(|enforcer| enforcer.attach);
    ensure!(mode.is_some_and(|mode| attached.contains(&mode)), "the enforcer is attached by {mode:?}");
    for step in STEPS {
        if let Some(manifest) = step.manifest {
            lab.apply_step(manifest)?;
        }
        lesson::check(&lab, step)?;
        counters::check(&lab, step)?;
    }
    lab.end(nix::sys::signal::Signal::SIGINT)?;
    Ok(())
}

#[test]
fn scaling_and_deleting_pods_needs_no_policy_change() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    for step in &STEPS[1..] {
        lab.apply_step(step.manifest.expect("steps after 0 have a manifest"))?;
    }
    lab.kubectl(&["-n", "frontend", "scale", "deployment", "web", "--replicas=3"])?;
    lab.kubectl(&["-n", "frontend", "rollout", "status", "deployment", "web", "--timeout=20s"])?;
    let pods = lab.kubectl(&["-n", "frontend", "get", "pods", "-o", "name"])?;
    ensure!(pods.lines().count() == 3, "three pods, not {pods}");
    lesson::check(&lab, STEPS.last().expect("the lesson has steps"))?;
    let victim = pods.lines().next().expect("there are three");
    lab.kubectl(&["-n", "frontend", "delete", victim, "--timeout=10s"])?;
    lab.kubectl(&["-n", "frontend", "rollout", "status", "deployment", "web", "--timeout=20s"])?;
    lesson::check(&lab, STEPS.last().expect("the lesson has steps"))?;
    lab.kubectl(&["-n", "frontend", "scale", "deployment", "web", "--replicas=1"])?;
    lab.kubectl(&["-n", "frontend", "rollout", "status", "deployment", "web", "--timeout=20s"])?;
    lesson::check(&lab, STEPS.last().expect("the lesson has steps"))?;
    Ok(())
}

#[test]
fn without_an_enforcer_the_same_manifests_change_nothing_and_the_lab_says_so() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &["--no-enforcer"])?;
    lab.apply_step("1-zero-trust.yaml")?;
    let ran = lab.test(&["-o", "json"])?;
    ensure!(ran.status == Some(1), "facts disagree, so the status is 1: {ran:?}");
    let report: signalbox_e2e::lab::Report = serde_json::from_str(&ran.stdout)?;
    ensure!(!report.agree);
    for check in &report.checks {
        ensure!(check.outcome.as_deref() == Some("open"), "nothing is enforced: {check:?}");
        ensure!(check.spec.as_deref() == Some("denied"), "the policies deny: {check:?}");
        ensure!(check.kernel.is_none(), "nobody judged: {check:?}");
    }
    Ok(())
}
