//! Lesson one with `kubectl`: after each step probes, engine and the kernel's counters must give the lesson's table.

use anyhow::{Result, ensure};
use signalbox_api::kernel::AttachMode;
use signalbox_api::state::Snapshot;
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

fn walk(arguments: &[&str], attached: &[AttachMode]) -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), arguments)?;
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
