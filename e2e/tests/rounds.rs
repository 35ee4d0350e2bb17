//! Rounds that follow each other closely, where everything is shut.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use signalbox_api::cell::{Evidence, Outcome};
use signalbox_api::rest::RoundReport;
use signalbox_e2e::lab::Lab;
use signalbox_e2e::processes;

const PODS: [&str; 3] = ["a", "b", "c"];
const ROUNDS: usize = 10;
/// Far above what a round takes on a busy machine, and below the second for which an agent waits for an answer.
const AT_MOST: Duration = Duration::from_millis(800);

/// One round in ten took a second: a probe had left by the same port, to the same place, as one of the rounds just before. Of that flow's
/// denials the kernel had just told, or what it told was taken for the earlier probe's. With few ports to leave by that is certain.
#[test]
fn no_denied_probe_waits_though_rounds_follow_each_other() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &["--empty", "--interval", "10m"])?;
    let mut manifest = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shut}\n---\n".to_owned();
    for pod in PODS {
        manifest += &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, namespace: shut, labels: {{signalbox.dev/probe: \"\"}}}}\n\
             spec: {{containers: [{{name: c, image: signalbox/probe, ports: [{{containerPort: 80}}, {{containerPort: 80, protocol: UDP}}]}}]}}\n---\n"
        );
    }
    lab.apply_text(&manifest)?;
    lab.kubectl(&["-n", "shut", "wait", "--for=condition=Ready", "pods", "--all", "--timeout=20s"])?;
    lab.kubectl(&["delete", "externalhosts", "--all"])?;
    lab.apply_text(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: shut, namespace: shut}\n\
         spec: {podSelector: {}, policyTypes: [Ingress, Egress]}\n",
    )?;
    for pod in PODS {
        let namespace = format!("--net=/proc/{}/ns/net", processes::server(pod)?);
        let narrow = "echo 40000 40127 > /proc/sys/net/ipv4/ip_local_port_range";
        ensure!(Command::new("nsenter").args([&namespace, "sh", "-c", narrow]).status()?.success(), "{pod}'s ports");
    }
    for round in 0..ROUNDS {
        let answer = lab.send("POST", "/api/v1/rounds", "")?;
        ensure!(answer.status == 200, "{answer:?}");
        let report: RoundReport = serde_json::from_str(&answer.body)?;
        let ended = report.round.ended_ms.context("the round has no end")?;
        let took = Duration::from_millis(ended - report.round.started_ms);
        let shut =
            report.cells.iter().filter(|cell| cell.key.from != cell.key.to && cell.key.from.starts_with("pod:shut/"));
        let shut: Vec<_> = shut.filter(|cell| cell.key.to.starts_with("pod:shut/")).collect();
        ensure!(shut.len() == 12, "three pods, two others each, two ports: {}", shut.len());
        for cell in shut {
            let fact = cell.probe.as_ref().with_context(|| format!("no fact: {cell:?}"))?;
            let known = (fact.outcome, fact.evidence) == (Outcome::Dropped, Evidence::KernelEvent);
            ensure!(known, "round {round}, after {took:?}: {cell:?}");
        }
        ensure!(took < AT_MOST, "round {round} took {took:?}");
    }
    Ok(())
}
