//! How a lab ends, and what it leaves behind: nothing.

use std::fs::{self, File};
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use signalbox_e2e::lab::Lab;
use signalbox_e2e::leftovers::Holdings;
use signalbox_e2e::lesson::{self, STEPS};

#[test]
fn control_c_leaves_nothing() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let before = Holdings::read()?;
        let state = tempfile::tempdir()?;
        let lab = Lab::start(state.path(), &[])?;
        ensure!(Holdings::read()? != before, "a running lab shows in what the machine holds");
        let status = lab.end(signal)?;
        ensure!(status == Some(0), "{signal} ended the lab with {status:?}");
        Holdings::expect_back(&before, Duration::from_secs(2))?;
    }
    Ok(())
}

/// A terminal's Ctrl-C reaches every process of the lab, and namespaces go with pods that are still starting: all of that
/// is as it should be, and no reason for a warning.
#[test]
fn what_is_expected_is_not_logged_as_trouble() -> Result<()> {
    let before = Holdings::read()?;
    let state = tempfile::tempdir()?;
    let file = state.path().join("log");
    let lab = Lab::start_at_a_terminal(state.path(), &[], File::create(&file)?)?;
    lab.apply("outcomes.yaml")?;
    lab.kubectl(&["-n", "odd", "create", "deployment", "many", "--image=many", "--replicas=5"])?;
    lab.kubectl(&["delete", "namespace", "odd", "backend", "--timeout=20s"])?;
    lab.kubectl(&["-n", "frontend", "scale", "deployment", "web", "--replicas=6"])?;
    let status = lab.control_c()?;
    ensure!(status == Some(0), "the lab ended with {status:?}");
    Holdings::expect_back(&before, Duration::from_secs(2))?;
    let log = fs::read_to_string(&file)?;
    let trouble: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR ")).collect();
    ensure!(trouble.is_empty(), "{trouble:#?}");
    Ok(())
}

#[test]
fn killed_and_started_anew_it_gives_the_same_answers() -> Result<()> {
    let before = Holdings::read()?;
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    for step in &STEPS[1..=3] {
        lab.apply_step(step.manifest.expect("steps after 0 have a manifest"))?;
    }
    lesson::check(&lab, &STEPS[3])?;
    lab.end(Signal::SIGKILL)?;
    Holdings::expect_back(&before, Duration::from_secs(5))?;

    let lab = Lab::start(state.path(), &[])?;
    lesson::check(&lab, &STEPS[3])?;
    lab.end(Signal::SIGINT)?;
    Holdings::expect_back(&before, Duration::from_secs(2))
}

#[test]
fn a_second_lab_on_the_same_state_says_who_runs() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    let ran = signalbox_e2e::shell::run(
        std::process::Command::new(signalbox_e2e::lab::binary()?)
            .args(["lab", "--listen", &format!("127.0.0.1:{}", signalbox_e2e::lab::free_port()?), "--state"])
            .arg(state.path()),
        None,
    )?;
    ensure!(ran.status != Some(0) && ran.stderr.contains(&lab.pid().to_string()), "names the running lab: {ran:?}");
    Ok(())
}
