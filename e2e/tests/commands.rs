//! `kubectl` and `signalbox` on the command line, as users type them.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use signalbox_e2e::lab::{Lab, binary};
use signalbox_e2e::shell;

/// A command line, what its output must contain.
type Case = (&'static [&'static str], &'static [&'static str]);

const KUBECTL: &[Case] = &[
    (&["get", "pods", "-A"], &["NAMESPACE", "READY", "frontend", "web-", "1/1", "Running"]),
    (&["get", "pods", "-A", "-o", "wide"], &["NODE", "10.244.", "lab"]),
    (&["get", "pods", "-n", "backend", "-l", "run=dbsvc", "-o", "yaml"], &["kind: Pod", "podIP: 10.244."]),
    (
        &["get", "deploy,rs,svc,ns,nodes", "-n", "backend"],
        &["deployment.apps/dbsvc", "service/dbsvc", "namespace/backend", "node/lab"],
    ),
    (&["get", "endpointslices", "-n", "backend"], &["9000", "10.244."]),
    (&["get", "externalhosts"], &["database", "internet", "users"]),
    (&["describe", "pods", "-n", "frontend"], &["Namespace:", "frontend", "Containers:", "9000/TCP", "Events:"]),
    (&["describe", "service", "web", "-n", "frontend"], &["Selector:", "run=web", "Endpoints:", "10.244."]),
    (&["get", "endpoints", "-n", "backend"], &["dbsvc", "extsvc", ":9000"]),
    (&["describe", "deployment", "web", "-n", "frontend"], &["Replicas:", "NewReplicaSet:"]),
    (&["describe", "node", "lab"], &["Addresses:", "InternalIP"]),
    (
        &["exec", "-n", "frontend", "deploy/web", "--", "cat", "/etc/resolv.conf"],
        &["10.96.0.10", "frontend.svc.cluster.local"],
    ),
    (
        &["exec", "-n", "frontend", "deploy/web", "--", "sh", "-c", "signalbox-probe connect dbsvc.backend:9000"],
        &["open"],
    ),
    (&["exec", "-n", "frontend", "deploy/web", "--", "signalbox-probe", "connect", "www.example.com:443"], &["open"]),
    (&["logs", "-n", "frontend", "deploy/web"], &["9000"]),
    (&["label", "namespace", "frontend", "team=blue"], &["labeled"]),
    (&["get", "ns", "-l", "team=blue", "--no-headers"], &["frontend"]),
    (&["scale", "-n", "backend", "deployment", "dbsvc", "--replicas=2"], &["scaled"]),
    (&["rollout", "status", "-n", "backend", "deployment", "dbsvc", "--timeout=20s"], &["successfully rolled out"]),
];

#[test]
fn kubectl_as_installed() -> Result<()> {
    kubectl("kubectl")
}

#[test]
fn kubectl_as_debian_ships_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let installed = shell::run(Command::new("kubectl").args(["version", "--client", "-o", "json"]), None)?.stdout;
    if installed.contains("v1.20") {
        return kubectl("kubectl");
    }
    let run = |command: &mut Command| shell::run(command.current_dir(folder.path()), None)?.ok();
    let download =
        "apt-get download -q kubernetes-client || { apt-get update -q && apt-get download -q kubernetes-client; }";
    run(Command::new("sh").args(["-c", download])).context("Debian's kubectl")?;
    run(Command::new("sh").args(["-c", "dpkg -x kubernetes-client_*.deb ."]))?;
    kubectl(&folder.path().join("usr/bin/kubectl").to_string_lossy())
}

fn kubectl(program: &str) -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    for (arguments, expected) in KUBECTL {
        let ran = lab.kubectl_raw(program, arguments, None)?;
        ensure!(ran.status == Some(0), "kubectl {arguments:?}: {ran:?}");
        for word in *expected {
            ensure!(ran.stdout.contains(word), "kubectl {arguments:?}: no {word:?} in\n{}", ran.stdout);
        }
    }
    let exit = lab.kubectl_raw(program, &["exec", "-n", "frontend", "deploy/web", "--", "sh", "-c", "exit 3"], None)?;
    ensure!(exit.status == Some(3), "the command's exit status comes through: {exit:?}");
    let echo =
        lab.kubectl_raw(program, &["exec", "-i", "-n", "frontend", "deploy/web", "--", "cat"], Some("to and fro\n"))?;
    ensure!(echo.stdout == "to and fro\n", "standard input comes through: {echo:?}");
    policies(&lab, program)
}

fn policies(lab: &Lab, program: &str) -> Result<()> {
    let file = shell::root().join("assets/lessons/one/1-zero-trust.yaml").to_string_lossy().into_owned();
    let apply = |lab: &Lab| lab.kubectl_raw(program, &["apply", "-f", &file], None)?.ok();
    ensure!(apply(lab)?.matches("created").count() == 2, "two policies are created");
    ensure!(apply(lab)?.matches("unchanged").count() == 2, "applied again, they are unchanged");
    let described =
        lab.kubectl_raw(program, &["describe", "networkpolicy", "-n", "frontend", "zero-trust"], None)?.ok()?;
    ensure!(described.contains("Allowing egress traffic"), "{described}");
    let bad = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: bad, namespace: frontend}\nspec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}\n";
    let ran = lab.kubectl_raw(program, &["apply", "-f", "-"], Some(bad))?;
    ensure!(ran.status == Some(1) && ran.stderr.contains("spec.ingress[0].from[0].ipBlock.cidr"), "{ran:?}");
    let ran = lab.kubectl_raw(program, &["delete", "-f", &file], None)?.ok()?;
    ensure!(ran.matches("deleted").count() == 2, "{ran}");
    let gone = lab.kubectl_raw(program, &["get", "networkpolicy", "-n", "frontend", "zero-trust"], None)?;
    ensure!(gone.status == Some(1) && gone.stderr.contains("NotFound"), "{gone:?}");
    Ok(())
}

#[test]
fn signalbox_test_prints_tables_for_people_and_machines() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    let table = lab.test(&[])?;
    ensure!(table.status == Some(0), "{table:?}");
    for word in ["frontend/web", "backend/dbsvc", "outside/database", "outside/internet", "outside/users", "open"] {
        ensure!(table.stdout.contains(word), "no {word} in\n{}", table.stdout);
    }
    let junit = lab.test(&["-o", "junit"])?.ok()?;
    ensure!(junit.contains("<testsuites") && junit.matches("<testcase").count() == 18, "{junit}");
    ensure!(lab.report()?.agree);
    Ok(())
}

#[test]
fn signalbox_explains_itself() -> Result<()> {
    let run = |arguments: &[&str]| shell::run(Command::new(binary()?).args(arguments), None);
    for arguments in [&["--help"][..], &["lab", "--help"], &["test", "--help"]] {
        let help = run(arguments)?.ok()?;
        ensure!(help.contains("Examples:"), "no examples in {arguments:?}:\n{help}");
    }
    ensure!(run(&["--version"])?.ok()?.starts_with("signalbox "));
    ensure!(run(&["completions", "bash"])?.ok()?.contains("complete -F"));
    let ran = run(&["test", "--kubeconfig", "/nonexistent"])?;
    ensure!(ran.status == Some(2) && ran.stderr.contains("/nonexistent"), "names the file: {ran:?}");
    Ok(())
}
