//! Where somebody else enforces: Signalbox watches, on a real Kubernetes of two nodes.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use signalbox_api::cell::Agreement;
use signalbox_api::state::{Enforcement, Snapshot};
use signalbox_e2e::cluster::dashboard::{self, Dashboard, User};
use signalbox_e2e::cluster::{Cluster, Cni, NODES, lesson, plugin, standins};
use signalbox_e2e::lab::binary;
use signalbox_e2e::shell;

/// A round of probes, the pause before it, and the plugin's own time on a busy machine.
const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn what_another_enforcer_does_is_seen_node_by_node_and_point_by_point() -> Result<()> {
    let cluster = Cluster::start(Cni::Ptp)?;
    let manifests = shell::run(Command::new(binary()?).args(["install", "--enforcer=none"]), None)?.ok()?;
    cluster.apply(&manifests)?;
    lesson::deploy(&cluster)?;
    let pods = lesson::pods(&cluster)?;
    let dashboard = Dashboard::find(&cluster)?;
    let admin = dashboard.user("on-call", "cluster-admin", None)?;
    let no_ingress = |namespace: &str| {
        let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
        let metadata = json!({"namespace": namespace, "name": "no-ingress"});
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
    };
    let policies = ["frontend", "backend"].map(no_ingress);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": policies});
    cluster.apply(&list.to_string())?;
    sees(&cluster, &dashboard, &admin, "that nobody enforces", |state| {
        // Each pod is tried from the five others.
        state.enforcement == Enforcement::Nobody && between_pods(state, Agreement::Disagree).len() == 30
    })?;
    standins::abandon_one(&cluster)?;
    let abandoned = Instant::now();
    plugin::during(&cluster, |works| {
        let agrees = |state: &Snapshot| {
            state.enforcement == Enforcement::Other && between_pods(state, Agreement::Agree).len() == 30
        };
        sees(&cluster, &dashboard, &admin, "that somebody enforces", agrees)?;
        let ran = dashboard.command(&admin, &["why", "frontend/web", "backend/dbsvc:9000", "--output=json"])?;
        let live = dashboard::live(&ran)?;
        let facts = [live.pointer("/cell/probe/outcome"), live.pointer("/cell/spec/decision"), live.get("enforcement")];
        ensure!(facts == [Some(&"dropped".into()), Some(&"denied".into()), Some(&"other".into())], "{live:#}");
        ensure!(live.pointer("/cell/kernel").is_none() && ran.status == Some(1), "nobody's kernel told: {ran:#?}");

        // It does nothing on one node: its pods, and no others, are open against the policies.
        works.only_on(&NODES[..1]);
        let on_the_other: BTreeSet<_> =
            pods.iter().filter(|pod| pod.node == NODES[1]).map(lesson::Pod::endpoint).collect();
        sees(&cluster, &dashboard, &admin, "which pods are open against the policies", |state| {
            let open = between_pods(state, Agreement::Disagree);
            let to: BTreeSet<_> = open.iter().map(|(_, to)| to.clone()).collect();
            let agree = between_pods(state, Agreement::Agree).len();
            state.enforcement == Enforcement::Unknown && to == on_the_other && (open.len(), agree) == (15, 15)
        })?;
        works.only_on(&NODES);
        sees(&cluster, &dashboard, &admin, "that it enforces again", agrees)?;

        // It knows no egress, no ports and no peers: each point says so, and says where.
        let asked = ["conformance", "--point=3", "--settle=4s", "--output=json"];
        let ran = dashboard.command(&admin, &asked)?;
        let report: Value = serde_json::from_str(&ran.stdout).with_context(|| format!("{ran:#?}"))?;
        let tried = report["tried"].as_array().context("no cases")?;
        let text = |case: &Value, field: &str| case[field].as_str().unwrap_or_default().to_owned();
        let verdicts: Vec<_> = tried.iter().map(|case| (text(case, "title"), text(case, "verdict"))).collect();
        let wanted = [
            ("no ingress rule allows nothing", "passed"),
            ("an empty ingress rule allows everything", "passed"),
            ("an empty from is anybody", "failed"),
            ("no egress rule allows nothing", "failed"),
            ("an empty egress rule allows everything", "passed"),
            ("an empty to is anybody", "failed"),
        ];
        let wanted = wanted.map(|(title, verdict)| (title.to_owned(), verdict.to_owned()));
        ensure!(verdicts == wanted && ran.status == Some(1), "{report:#}\n{}", ran.stderr);
        let words = "the policies say denied, the probe saw open";
        let wrong = tried.iter().flat_map(|case| case["wrong"].as_array().cloned().unwrap_or_default());
        let wrong: Vec<_> = wrong.filter_map(|one| one.as_str().map(str::to_owned)).collect();
        ensure!(!wrong.is_empty() && wrong.iter().all(|one| one.ends_with(words)), "{wrong:#?}");
        Ok(())
    })?;
    // Its Job's deadline is 90 s after its start, and another server looks for such Jobs as well.
    let within = Duration::from_secs(120).saturating_sub(abandoned.elapsed());
    cluster.wait(within, "the stand-in goes whose server was killed", || {
        let left = standins::all(&cluster, "default")?;
        let pods: Vec<_> = left.iter().filter(|name| name.starts_with("pod/")).collect();
        Ok(if pods.is_empty() { Ok(()) } else { Err(format!("{pods:?}")) })
    })
}

fn sees(
    cluster: &Cluster,
    dashboard: &Dashboard<'_>,
    user: &User,
    what: &str,
    mut is_so: impl FnMut(&Snapshot) -> bool,
) -> Result<()> {
    cluster.wait(WITHIN, &format!("the server sees {what}"), || {
        let state = dashboard.state(user)?;
        ensure!(state.enforcers.is_empty(), "no enforcer of ours is there: {:#?}", state.enforcers);
        let count = |agreement| between_pods(&state, agreement).len();
        let counts = [Agreement::Agree, Agreement::Disagree, Agreement::Unsettled].map(count);
        let against = state.cells.iter().filter(|cell| cell.agreement == Agreement::Disagree);
        let against: Vec<_> = against.map(|cell| format!("{} to {}", cell.key.from, cell.key.to)).collect();
        let said = format!("{:?}, {counts:?} agree, disagree, unsettled, {against:#?}", state.enforcement);
        Ok(if is_so(&state) { Ok(()) } else { Err(said) })
    })
}

/// From one pod of the lesson to another, whose policies and probe stand so.
fn between_pods(state: &Snapshot, agreement: Agreement) -> BTreeSet<(String, String)> {
    let is_pod = |id: &str| id.starts_with("pod:frontend/") || id.starts_with("pod:backend/");
    let cells = state.cells.iter().filter(|cell| cell.agreement == agreement);
    let ends = cells.map(|cell| (cell.key.from.clone(), cell.key.to.clone()));
    ends.filter(|(from, to)| from != to && is_pod(from) && is_pod(to)).collect()
}
