//! What a matrix says where no policy stands in the way and a connection still does not open: refused, no listener, broken probe.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use signalbox_api::cell::{Agreement, Cell, Evidence, Outcome};
use signalbox_api::flow::Decision;
use signalbox_api::state::{Event, Snapshot};
use signalbox_e2e::cells::{cells, outcome, until};
use signalbox_e2e::events::Events;
use signalbox_e2e::lab::Lab;
use signalbox_e2e::processes;

const WEB: &str = "pod:frontend/web-";
const USERS: &str = "outside:users";

fn detail(cell: &Cell) -> &str {
    cell.probe.as_ref().and_then(|probe| probe.detail.as_deref()).unwrap_or_default()
}

/// All that is known of a connection that got through to a pod: the three facts agree that it is allowed.
fn passed(cell: &Cell) -> bool {
    let spec = cell.spec.as_ref().and_then(|spec| spec.decision);
    let kernel = cell.kernel.as_ref().map(|kernel| kernel.decision);
    spec == Some(Decision::Allowed) && kernel == Some(Decision::Allowed) && cell.agreement == Agreement::Agree
}

#[test]
fn refused_and_no_listener_are_told_apart_and_from_dropped() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &["--interval", "1s"])?;
    lab.apply("outcomes.yaml")?;
    lab.kubectl(&["-n", "odd", "wait", "--for=condition=Ready", "pods", "--all", "--timeout=20s"])?;
    for from in [WEB, USERS] {
        let refused = |cell: &Cell| outcome(cell) == Some(Outcome::Refused) && passed(cell);
        until(&lab, from, "service:odd/loopback", "refused", refused)?;
        let silent = |cell: &Cell| outcome(cell) == Some(Outcome::NoListener) && passed(cell);
        for cell in until(&lab, from, "service:odd/idle", "without a listener", silent)? {
            ensure!(detail(&cell) == "nobody listens on that port", "{cell:?}");
        }
        let deserted = |cell: &Cell| outcome(cell) == Some(Outcome::NoListener);
        for cell in until(&lab, from, "service:odd/deserted", "without a backend", deserted)? {
            ensure!(detail(&cell) == "no ready pod is behind the Service", "{cell:?}");
            // There is no pod whose policies could be judged: nothing is claimed.
            ensure!(cell.spec.as_ref().is_some_and(|spec| spec.decision.is_none()), "{cell:?}");
        }
    }

    // A listener that dies, in a container that lives on: the same cell goes from open to no listener and back.
    let open = |cell: &Cell| outcome(cell) == Some(Outcome::Open) && passed(cell);
    until(&lab, WEB, "service:odd/fragile", "open", open)?;
    lab.kubectl(&["-n", "odd", "exec", "fragile", "--", "sh", "-c", "kill $(cat /tmp/listener)"])?;
    let silent = |cell: &Cell| outcome(cell) == Some(Outcome::NoListener) && passed(cell);
    until(&lab, WEB, "service:odd/fragile", "without a listener", silent)?;
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
    ensure!(lab.kubectl(&["-n", "odd", "get", "pod", "fragile", "-o", restarts])? == "0", "the container lives on");

    // Shut by a policy, all of them are dropped: whether somebody listens is then nobody's business to know.
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: shut, namespace: odd}\nspec: {podSelector: {}, policyTypes: [Ingress]}\n";
    lab.apply_text(policy)?;
    for to in ["service:odd/loopback", "service:odd/idle", "service:odd/fragile"] {
        let dropped = |cell: &Cell| {
            outcome(cell) == Some(Outcome::Dropped)
                && cell.probe.as_ref().is_some_and(|probe| probe.evidence == Evidence::KernelEvent)
                && cell.agreement == Agreement::Agree
        };
        until(&lab, WEB, to, "dropped", dropped)?;
    }
    lab.kubectl(&["-n", "odd", "delete", "networkpolicy", "shut"])?;
    until(&lab, WEB, "service:odd/loopback", "refused again", |cell| {
        outcome(cell) == Some(Outcome::Refused) && passed(cell)
    })?;
    Ok(())
}

#[test]
fn a_broken_probe_is_no_word_about_the_connection() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &["--interval", "1s"])?;
    let web = lab.kubectl(&["-n", "frontend", "get", "pods", "-l", "run=web", "-o", "name"])?;
    let web = web.trim().trim_start_matches("pod/").to_owned();
    let row = format!("pod:frontend/{web}");
    let server = processes::server(&web)?;

    // It hangs. What it was asked last stays unanswered.
    let agent = processes::agent(server)?;
    processes::signal(agent, Signal::SIGSTOP)?;
    let broken = |cell: &Cell| outcome(cell) == Some(Outcome::ProbeBroken);
    let deadline = Instant::now() + Duration::from_secs(20);
    let snapshot = loop {
        let snapshot: Snapshot = lab.get("/api/v1/state")?;
        let wrong = snapshot.cells.iter().find(|cell| (cell.key.from == row) != broken(cell));
        match wrong {
            None => break snapshot,
            Some(cell) if Instant::now() > deadline => bail!("the whole row is broken, and nothing else: {cell:?}"),
            Some(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    for cell in snapshot.cells.iter().filter(|cell| cell.key.from == row) {
        // The second where it has been silent for so long that another takes its place.
        let why = detail(cell);
        ensure!(why.contains("did not answer") || why.contains("answers nothing any more"), "{cell:?}");
        ensure!(cell.agreement == Agreement::Unsettled, "a broken probe contradicts nobody: {cell:?}");
        ensure!(cell.spec.as_ref().is_some_and(|spec| spec.decision == Some(Decision::Allowed)), "{cell:?}");
    }
    // Others reach the pod meanwhile: what it serves is another process.
    ensure!(
        cells(&lab, "pod:backend/dbsvc", "service:frontend/web")?.iter().all(|c| outcome(c) == Some(Outcome::Open))
    );
    // It may have been replaced by now.
    if Path::new(&format!("/proc/{agent}")).exists() {
        processes::signal(agent, Signal::SIGCONT)?;
    }
    let open = |cell: &Cell| outcome(cell) == Some(Outcome::Open) && passed(cell);
    until(&lab, &row, "service:backend/dbsvc", "open again", open)?;

    // It dies. The row says so at once, and a new one takes its place.
    let events = Events::open(&lab.url)?;
    events.until(Duration::from_secs(5), |_, event| matches!(event, Event::Snapshot(_)))?;
    let agent = processes::agent(server)?;
    processes::signal(agent, Signal::SIGKILL)?;
    let told = events.until(Duration::from_secs(5), |_, event| match event {
        Event::Cells(cells) => {
            cells.iter().any(|cell| cell.key.from == row && broken(cell) && detail(cell).contains("is lost"))
        }
        _ => false,
    });
    told.context("no cell told of the lost probe")?;
    until(&lab, &row, "service:backend/dbsvc", "open again", open)?;
    ensure!(processes::agent(server)? != agent, "a new agent runs");
    Ok(())
}
