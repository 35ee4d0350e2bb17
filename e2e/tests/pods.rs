//! Pods: what they can reach, what they cannot, and what happens when their process dies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use signalbox_api::cell::{Cell, Evidence, Outcome};
use signalbox_api::state::{Event, Snapshot};
use signalbox_e2e::cells;
use signalbox_e2e::events::Events;
use signalbox_e2e::lab::Lab;
use signalbox_e2e::sandbox::Sandbox;
use signalbox_e2e::{processes, shell};

const WEB: &[&str] = &["-n", "frontend", "exec", "deploy/web", "--"];

const WEB_ROW: &str = "pod:frontend/web";

fn in_web(lab: &Lab, command: &[&str]) -> Result<shell::Ran> {
    lab.kubectl_raw("kubectl", &[WEB, command].concat(), None)
}

#[test]
fn no_namespace_of_the_lab_has_a_route_out() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    let inside = [([10, 244, 0, 0], 16), ([10, 96, 0, 0], 16), ([198, 51, 100, 0], 24), ([203, 0, 113, 0], 24)];
    let (mut namespaces, mut nodes) = (BTreeMap::new(), Vec::new());
    let own = fs::read_link("/proc/self/ns/net")?;
    for pid in processes::family(lab.pid())? {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let Ok(namespace) = fs::read_link(process.join("ns/net")) else { continue };
        let command = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
        if namespace != own && command.contains("signalbox") {
            if command.contains("\0node-holder\0") {
                nodes.push(namespace.clone());
            }
            namespaces.insert(namespace, process);
        }
    }
    ensure!(nodes.len() == 1, "one node, not {nodes:?}");
    ensure!(namespaces.len() >= 8, "a node, four pods and the outside make more than {}", namespaces.len());
    let mut gateways = 0;
    for (namespace, process) in &namespaces {
        // Nobody has an address of the family beyond its own links.
        let other_family = fs::read_to_string(process.join("net/ipv6_route")).unwrap_or_default();
        for route in other_family.lines() {
            let words: Vec<&str> = route.split_whitespace().collect();
            let [destination, length, .., flags, link] = words[..] else { bail!("unreadable route {route}") };
            // What is refused (RTF_REJECT) leads nowhere.
            let refused = u32::from_str_radix(flags, 16)? & 0x200 != 0;
            let local = link == "lo" || destination.starts_with("fe80") || destination.starts_with("ff");
            ensure!(refused || local || length != "00", "{route} in {} is a default route", process.display());
        }
        let routes = fs::read_to_string(process.join("net/route"))?;
        for route in routes.lines().skip(1) {
            let words: Vec<&str> = route.split_whitespace().collect();
            let [link, destination, _, _, _, _, _, mask] = words[..8] else { bail!("unreadable route {route}") };
            let destination = u32::from_str_radix(destination, 16)?.to_le_bytes();
            let prefix = u32::from_str_radix(mask, 16)?.count_ones();
            if prefix == 0 {
                // A pod's way to its node, and to nothing else: the node itself has no such route, as counted below.
                ensure!(link == "eth0", "a default route by {link} in {}", process.display());
                let own = fs::read_to_string(process.join("net/fib_trie"))?;
                ensure!(!nodes.contains(namespace) && own.contains("|-- 10.244."), "{} is no pod's", process.display());
                gateways += 1;
                continue;
            }
            let link_local = destination[..2] == [169, 254];
            let known = inside.iter().any(|(block, length)| {
                let shift = 32 - length;
                prefix >= *length && u32::from_be_bytes(destination) >> shift == u32::from_be_bytes(*block) >> shift
            });
            ensure!(known || link_local, "{route} in {} leads out of the lab", process.display());
        }
    }
    ensure!(gateways >= 4, "the lesson's pods and the DNS server have a way to their node, not only {gateways}");
    // The other half of the proof: no interface of the machine's own namespace belongs to the lab.
    for link in fs::read_dir("/sys/class/net")?.flatten() {
        let peer = fs::read_to_string(link.path().join("iflink"))?;
        let index = fs::read_to_string(link.path().join("ifindex"))?;
        let virtual_link = fs::canonicalize(link.path())?.to_string_lossy().contains("/virtual/");
        ensure!(!virtual_link || peer == index, "{:?} is half of a pair", link.file_name());
    }
    drop(lab);
    Ok(())
}

#[test]
fn exec_reaches_nothing_of_the_machine() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    let status = in_web(&lab, &["cat", "/proc/self/status"])?.ok()?;
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        ensure!(status.contains(line), "{line} is not in\n{status}");
    }
    let processes = in_web(&lab, &["ls", "/proc"])?.ok()?;
    let numbers = processes.split_whitespace().filter(|name| name.parse::<u32>().is_ok()).count();
    ensure!(numbers < 8, "a pod sees its own processes only, not {numbers}");
    let state_dir = state.path().to_string_lossy().into_owned();
    let checkout = shell::root().to_string_lossy().into_owned();
    let forbidden: &[&[&str]] = &[
        &["ls", &state_dir],
        &["ls", "/root"],
        &["ls", &checkout],
        &["touch", "/file"],
        &["touch", "/bin/file"],
        &["mount", "-t", "tmpfs", "none", "/tmp"],
        &["unshare", "-U", "true"],
        &["ping", "-c", "1", "-W", "1", "127.0.0.1"],
        &["ip", "address", "add", "10.244.99.99/32", "dev", "eth0"],
        &["ip", "link", "set", "eth0", "down"],
        &["mknod", "/tmp/sda", "b", "8", "0"],
        &["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"],
        &["sh", "-c", "echo b > /proc/sysrq-trigger"],
        &["cat", "/proc/kcore"],
    ];
    for command in forbidden {
        let ran = in_web(&lab, command)?;
        ensure!(ran.status != Some(0), "{command:?} worked in a pod: {ran:?}");
        // A command that is not there refuses nothing.
        let there = ran.status != Some(127) && !ran.stderr.contains("not found");
        ensure!(there, "{command:?} was not tried: {ran:?}");
    }
    let host = fs::read_link("/proc/self/ns/user")?;
    let mut seen = 0;
    for pid in processes::family(lab.pid())? {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let command = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
        if command.starts_with("/bin/signalbox-probe\0serve") {
            ensure!(fs::read_link(process.join("ns/user"))? != host, "{command} shares the machine's user namespace");
            let status = fs::read_to_string(process.join("status"))?;
            ensure!(!status.contains("\nUid:\t0\t"), "{command} runs as the machine's root");
            seen += 1;
        }
    }
    ensure!(seen >= 3, "the pods' processes were not found: {seen}");
    Ok(())
}

#[test]
fn a_deleted_pod_is_gone_within_a_second_and_its_address_rests() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    let addresses = |lab: &Lab| lab.kubectl(&["get", "pods", "-A", "-o", "jsonpath={.items[*].status.podIP}"]);
    let name = lab.kubectl(&["-n", "frontend", "get", "pods", "-o", "name"])?.trim().to_owned();
    let old = lab.kubectl(&["-n", "frontend", "get", &name, "-o", "jsonpath={.status.podIP}"])?;
    let started = Instant::now();
    lab.kubectl(&["-n", "frontend", "delete", &name, "--wait=true", "--timeout=10s"])?;
    let took = started.elapsed();
    ensure!(took < Duration::from_secs(1), "the deletion took {took:?}");
    lab.kubectl(&["-n", "frontend", "rollout", "status", "deployment", "web", "--timeout=20s"])?;
    let now = addresses(&lab)?;
    ensure!(!now.split_whitespace().any(|address| address == old), "{old} was handed out again at once: {now}");
    Ok(())
}

/// A pod without a controller, so that no new one takes over the numbers of what the old one had.
#[test]
fn a_deleted_pod_leaves_nothing_on_the_node_after_a_second() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: lone, namespace: frontend}\nspec: {terminationGracePeriodSeconds: 1, containers: [{name: probe, image: signalbox-probe, ports: [{containerPort: 9000}]}]}\n";
    lab.apply_text(pod)?;
    lab.kubectl(&["-n", "frontend", "wait", "--for=condition=Ready", "pod/lone", "--timeout=10s"])?;
    let sandbox = Sandbox::of("lone")?;
    ensure!(sandbox.size() >= 2, "an init and a container run in it: {sandbox:?}");
    let there = sandbox.left()?;
    ensure!(
        there.len() > 2 * sandbox.size(),
        "all of them, their namespace and its link are found while it runs: {there:#?}"
    );
    let started = Instant::now();
    lab.kubectl(&["-n", "frontend", "delete", "pod/lone", "--wait=true", "--timeout=10s"])?;
    let unlisted = started.elapsed();
    let mut looked = unlisted;
    let mut left = sandbox.left()?;
    while !left.is_empty() && looked < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(5));
        looked = started.elapsed();
        left = sandbox.left()?;
    }
    println!(
        "gone from the API after {unlisted:?}, from the machine after {looked:?}: before {there:#?}, after {left:#?}"
    );
    ensure!(unlisted < Duration::from_secs(1), "the deletion took {unlisted:?}");
    ensure!(left.is_empty(), "a second after the deletion there is still {left:#?}");
    Ok(())
}

#[test]
fn a_killed_process_restarts_and_its_cells_tell() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &["--interval", "1s"])?;
    let pod = lab.kubectl(&["-n", "backend", "get", "pods", "-l", "run=dbsvc", "-o", "name"])?.trim().to_owned();
    let name = pod.trim_start_matches("pod/").to_owned();
    let restarts = |lab: &Lab| -> Result<u32> {
        let path = "jsonpath={.status.containerStatuses[0].restartCount}";
        Ok(lab.kubectl(&["-n", "backend", "get", &pod, "-o", path])?.parse()?)
    };
    ensure!(restarts(&lab)? == 0);
    let address = lab.kubectl(&["-n", "backend", "get", &pod, "-o", "jsonpath={.status.podIP}"])?;
    // Each time it stays down for half a second, and the cells of all three others tell.
    for restart in [1, 2] {
        let events = Events::open(&lab.url)?;
        events.until(Duration::from_secs(5), |_, event| matches!(event, Event::Snapshot(_)))?;
        ensure!(kill_container(&name)?, "no process serves {name}");
        told(&events, &name)?;
        // The restart is to be seen: as a number, in the table, and with how the one before has ended.
        let deadline = Instant::now() + Duration::from_secs(10);
        while restarts(&lab)? < restart {
            ensure!(Instant::now() < deadline, "the process was not restarted");
            std::thread::sleep(Duration::from_millis(50));
        }
        ensure!(restarts(&lab)? == restart, "killed and restarted {restart} times");
        let table = lab.kubectl(&["-n", "backend", "get", &pod, "--no-headers"])?;
        ensure!(table.split_whitespace().nth(3) == Some(&restart.to_string()), "no restart {restart} in {table}");
        let path = "jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}";
        let ended = lab.kubectl(&["-n", "backend", "get", &pod, "-o", path])?;
        ensure!(ended == "137", "SIGKILL ended the one before, and not {ended:?}");
        lab.kubectl(&["-n", "backend", "wait", "--for=condition=Ready", &pod, "--timeout=10s"])?;
    }
    let same = lab.kubectl(&["-n", "backend", "get", &pod, "-o", "jsonpath={.status.podIP}"])?;
    ensure!(same == address, "a restart keeps the pod's address");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let snapshot: Snapshot = lab.get("/api/v1/state")?;
        let to = |cell: &&signalbox_api::cell::Cell| cell.key.to == "service:backend/dbsvc";
        let outcomes: Vec<Option<Outcome>> =
            snapshot.cells.iter().filter(to).map(|cell| cell.probe.as_ref().map(|probe| probe.outcome)).collect();
        if !outcomes.is_empty() && outcomes.iter().all(|outcome| *outcome == Some(Outcome::Open)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the cells did not come back: {outcomes:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How many others try to reach each pod: the two other pods and the users.
const OTHERS: usize = 3;

/// What happened meanwhile: the pod's row says that it is down, and the cells of all others towards it that nobody listens.
fn told(events: &Events, name: &str) -> Result<()> {
    let (mut row, mut cells) = (None, BTreeMap::new());
    let told = events.until(Duration::from_secs(5), |_, event| {
        match event {
            Event::Endpoints(all) => {
                let down = all.iter().find(|one| one.name == name && !one.ready);
                row = row.take().or_else(|| down.and_then(|one| one.problem.clone()));
            }
            Event::Cells(changed) => {
                for cell in changed {
                    let towards = cell.key.to == "service:backend/dbsvc" && !cell.key.from.ends_with(name);
                    let fact = cell.probe.as_ref().filter(|fact| towards && fact.outcome != Outcome::Open);
                    cells.extend(fact.map(|fact| (cell.key.from.clone(), (fact.outcome, fact.detail.clone()))));
                }
            }
            _ => {}
        }
        row.is_some() && cells.len() >= OTHERS
    });
    println!("the row: {row:?}; the cells: {cells:#?}");
    told.with_context(|| format!("the row told {row:?}, and the cells {cells:#?}"))?;
    for (from, (outcome, detail)) in &cells {
        // Refused: by a pod that was there again, and did not listen yet, when it was asked.
        let right = matches!(outcome, Outcome::NoListener | Outcome::Refused) && detail.is_some();
        ensure!(right, "{from}: nobody listened, and the cell says {outcome}: {detail:?}");
    }
    Ok(())
}

/// Kills the probe that serves for this pod, by its id: it was started by the lab that this test started.
fn kill_container(name: &str) -> Result<bool> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if command.starts_with("/bin/signalbox-probe\0serve") && command.contains(name) {
            let pid = entry.file_name().to_string_lossy().parse().context("a process id")?;
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?;
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn dns_forgotten_in_an_egress_policy_shows_as_a_dns_failure() -> Result<()> {
    let state = tempfile::tempdir()?;
    let lab = Lab::start(state.path(), &[])?;
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: no-dns, namespace: frontend}\nspec: {podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 9000}]}]}\n";
    lab.kubectl_raw("kubectl", &["apply", "-f", "-"], Some(policy))?.ok()?;
    let report = lab.report()?;
    for check in report.checks.iter().filter(|check| check.from == "frontend/web") {
        let by_name = check.to != "outside/database";
        let expected = if by_name { "dns-failed" } else { "dropped" };
        ensure!(check.outcome.as_deref() == Some(expected), "{expected} expected: {check:?}");
    }
    // Not by waiting: the kernel says that it dropped the question.
    let words = "was dropped on its way";
    let snapshot: Snapshot = lab.get("/api/v1/state")?;
    let failed = snapshot.cells.into_iter().filter(|cell| cells::outcome(cell) == Some(Outcome::DnsFailed));
    let of_web: BTreeSet<String> =
        failed.filter(|cell| cell.key.from.starts_with(WEB_ROW)).map(|cell| cell.key.to).collect();
    ensure!(of_web.contains("outside:internet"), "what does web not resolve? {of_web:?}");
    for to in of_web {
        let told = |cell: &Cell| {
            let fact = cell.probe.as_ref().filter(|fact| fact.outcome == Outcome::DnsFailed);
            fact.is_some_and(|fact| {
                fact.evidence == Evidence::KernelEvent
                    && fact.detail.as_ref().is_some_and(|detail| detail.contains(words))
            })
        };
        cells::until(&lab, WEB_ROW, &to, "a DNS failure by the kernel's event", told)?;
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let snapshot: Snapshot = lab.get("/api/v1/state")?;
        let of_web: Vec<_> = snapshot.dns.into_iter().filter(|fact| fact.from.starts_with(WEB_ROW)).collect();
        let told = |error: &Option<String>| error.as_ref().is_some_and(|error| error.contains(words));
        if !of_web.is_empty() && of_web.iter().all(|fact| !fact.ok && told(&fact.error)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "its look-ups say: {of_web:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
