//! `kubectl` and `signalbox` on the command line, as users type them.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use signalbox_e2e::lab::{Lab, binary, free_port};
use signalbox_e2e::lesson::STEPS;
use signalbox_e2e::shell;
use signalbox_e2e::talk::Talk;

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
    watching(&lab, program)?;
    a_shell_at_a_terminal(&lab, program)?;
    policies(&lab, program)
}

/// `get -w` prints each change as it happens, and goes on.
fn watching(lab: &Lab, program: &str) -> Result<()> {
    let scale = |replicas: &str| {
        let arguments = ["scale", "-n", "backend", "deployment", "extsvc", replicas];
        lab.kubectl_raw(program, &arguments, None)?.ok()
    };
    let pods = ["get", "pods", "-n", "backend", "-l", "run=extsvc", "-w"];
    let mut watch = Talk::start(lab.kubectl_command(program, &pods))?;
    let row = |text: &str, name: &str, status: &str| {
        text.lines().any(|line| line.starts_with(name) && line.split_whitespace().nth(2) == Some(status))
    };
    let first = watch.until("the pod that is there", |text| row(text, "extsvc-", "Running"))?;
    ensure!(first.starts_with("NAME ") && first.lines().count() == 2, "a heading and one pod:\n{first}");
    let old = first.lines().last().and_then(|line| line.split_whitespace().next()).context("a name")?;
    let other = |text: &str, status: &str| {
        let fresh = |line: &&str| !line.starts_with(old);
        text.lines().filter(fresh).any(|line| row(line, "extsvc-", status))
    };
    scale("--replicas=2")?;
    watch.until("the second pod comes", |text| other(text, "Pending") && other(text, "Running"))?;
    scale("--replicas=1")?;
    watch.until("one of the two goes", |text| row(text, "extsvc-", "Terminating"))?;
    ensure!(watch.goes_on()?, "a watch has no end of its own");
    Ok(())
}

/// `exec -it`: a terminal inside the pod, of the size of the one outside, where what is typed is read and shown.
fn a_shell_at_a_terminal(lab: &Lab, program: &str) -> Result<()> {
    let shell = lab.kubectl_command(program, &["exec", "-it", "-n", "frontend", "deploy/web", "--", "sh"]);
    let mut shell = Talk::at_a_terminal(&shell)?;
    // The shell asks the terminal where its cursor stands, and cleans the rest of the line, behind the prompt.
    let prompt = |text: &str| text.trim_end_matches("\x1b[6n").trim_end_matches("\x1b[J").ends_with("$ ");
    shell.until("a prompt", prompt)?;
    // What is typed is shown too, so that what is waited for must not stand in it.
    shell.say("test -t 0 && test -t 1 && echo terminal-$((40 + 2))\r")?;
    shell.until("standard input and output are a terminal", |text| text.contains("terminal-42") && prompt(text))?;
    shell.say("stty size\r")?;
    shell.until("the terminal's size", |text| text.contains("31 97") && prompt(text))?;
    // Ctrl-C ends the command in the pod, and neither kubectl nor the shell there.
    shell.say("echo begun-$((40 + 2)); sleep 600\r")?;
    shell.until("the command runs", |text| text.contains("begun-42"))?;
    shell.say("\x03")?;
    shell.until("Ctrl-C ends the command", prompt)?;
    shell.say("echo code-$?\r")?;
    shell.until("by SIGINT", |text| text.contains("code-130") && prompt(text))?;
    shell.say("exit 7\r")?;
    let status = shell.end()?;
    ensure!(status == Some(7), "the shell's exit status comes through: {status:?}");
    Ok(())
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
    colours(&lab)?;
    let open = lab.report()?;
    let junit = lab.test(&["-o", "junit"])?.ok()?;
    ensure!(junit.contains("<testsuites") && junit.matches("<testcase").count() == 18, "{junit}");
    lab.apply_step("1-zero-trust.yaml")?;
    lab.apply_step("2-web.yaml")?;
    for (step, report) in [(0, open), (2, lab.report()?)] {
        ensure!(report.agree && report.checks.len() == 18, "step {step}: {report:?}");
        for check in &report.checks {
            let expected = STEPS[step].is_open(&check.from, &check.to);
            let timed = check.latency_us.is_some_and(|us| us > 0);
            ensure!(
                if expected { timed } else { check.latency_us.is_none() },
                "step {step}, open: {expected}: {check:?}"
            );
        }
    }
    Ok(())
}

/// People at a terminal get colours, unless they have said that they want none; files and pipes get none.
fn colours(lab: &Lab) -> Result<()> {
    const GREEN_OPEN: &str = "\x1b[32mopen";
    let mut command = Command::new(binary()?);
    command.args(["test", "--kubeconfig"]).arg(&lab.kubeconfig).env("TERM", "xterm-256color");
    command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").env_remove("CLICOLOR");
    let ended = |text: &str| text.contains("look-ups of names answered");
    let shown = Talk::at_a_terminal(&command)?.until("the table", ended)?;
    ensure!(shown.matches(GREEN_OPEN).count() == 18, "18 green words at a terminal:\n{shown:?}");
    let piped = shell::run(&mut command, None)?.ok()?;
    ensure!(ended(&piped) && !piped.contains('\x1b'), "no colours in a pipe:\n{piped:?}");
    let plain = Talk::at_a_terminal(command.env("NO_COLOR", "1"))?.until("the table", ended)?;
    ensure!(!plain.contains(GREEN_OPEN), "no colours for who wants none:\n{plain:?}");
    Ok(())
}

#[test]
fn the_kubeconfig_is_written_where_it_is_asked_for_and_for_nobody_else() -> Result<()> {
    let (state, elsewhere) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let foreign = elsewhere.path().join("foreign");
    std::fs::write(&foreign, "somebody's own")?;
    // Were it not refused, the lab would run until it is ended.
    let mut lab = Command::new("timeout");
    lab.args(["--signal=INT", "20"]).arg(binary()?).args(["lab", "--listen", &format!("127.0.0.1:{}", free_port()?)]);
    lab.arg("--state").arg(state.path()).arg("--kubeconfig").arg(&foreign);
    let refused = shell::run(&mut lab, None)?;
    let reason =
        refused.stderr.contains(&*foreign.to_string_lossy()) && refused.stderr.contains("is not from Signalbox");
    ensure!(refused.status == Some(1) && reason, "{refused:?}");
    ensure!(std::fs::read_to_string(&foreign)? == "somebody's own", "a file of somebody else's is replaced");
    let file = elsewhere.path().join("kubeconfig");
    for start in ["there is none", "it is the last lab's, which others may read"] {
        if start != "there is none" {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).context("the last lab's stays")?;
        }
        let lab = Lab::start(state.path(), &["--kubeconfig", &file.to_string_lossy()])?;
        ensure!(lab.kubeconfig == file, "the ready line names {}", lab.kubeconfig.display());
        let mode = std::fs::metadata(&file)?.permissions().mode() & 0o7777;
        ensure!(mode == 0o600, "{start}: mode {mode:o}");
        // By the variable that every client knows, without a flag.
        let pods =
            shell::run(Command::new("kubectl").env("KUBECONFIG", &file).args(["get", "pods", "-A"]), None)?.ok()?;
        ensure!(pods.contains("web-") && pods.contains("Running"), "{pods}");
        lab.end(Signal::SIGINT)?;
    }
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
    completions(&run)?;
    let ran = run(&["test", "--kubeconfig", "/nonexistent"])?;
    ensure!(ran.status == Some(2) && ran.stderr.contains("/nonexistent"), "names the file: {ran:?}");
    without_root()
}

/// Somebody else runs a copy, where anybody may read it.
fn without_root() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("signalbox");
    std::fs::copy(binary()?, &copy)?;
    for path in [folder.path(), &copy] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    }
    let mut lab = Command::new("timeout");
    lab.args(["20".as_ref(), copy.as_os_str(), "lab".as_ref()]).uid(65534).gid(65534).current_dir("/");
    let ran = shell::run(&mut lab, None)?;
    let told = ran.stderr.contains("the lab needs root") && ran.stderr.contains("sudo");
    ensure!(ran.status == Some(1) && told, "without root: {ran:?}");
    Ok(())
}

/// For each shell a script in its own language, which knows every command that the help names.
fn completions(run: &impl Fn(&[&str]) -> Result<shell::Ran>) -> Result<()> {
    let help = run(&["--help"])?.ok()?;
    let listed = help.split_once("Commands:\n").context("the help has commands")?.1;
    // What a description goes on with on a further line stands further to the right.
    let named = listed.lines().take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
    let commands: Vec<&str> = named.filter_map(|line| line.split_whitespace().next()).collect();
    for known in ["lab", "test", "serve", "why", "completions", "help"] {
        ensure!(commands.contains(&known), "{known} is not in {commands:?}");
    }
    for (name, mark) in
        [("bash", "complete -F _signalbox"), ("zsh", "#compdef signalbox"), ("fish", "complete -c signalbox")]
    {
        let script = run(&["completions", name])?.ok()?;
        ensure!(script.contains(mark), "{name}: no {mark:?} in\n{script}");
        let words: Vec<&str> = script.split(|it: char| !it.is_alphanumeric() && it != '-').collect();
        for command in &commands {
            ensure!(words.contains(command), "{name}: {command} is not completed");
        }
    }
    // Bash is on every Debian: it reads its script, and completes.
    let completed = "source /dev/stdin; COMP_WORDS=(signalbox comp); COMP_CWORD=1; _signalbox signalbox comp signalbox; echo ${COMPREPLY[*]}";
    let script = run(&["completions", "bash"])?.ok()?;
    let reply = shell::run(Command::new("bash").args(["-c", completed]), Some(&script))?.ok()?;
    ensure!(reply.trim() == "completions", "`signalbox comp` is completed to {reply:?}");
    Ok(())
}
