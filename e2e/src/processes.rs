//! Processes that a test has started, found by what they are and where they live.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::shell::{self, Ran, root};

/// The process of the probe that serves under this name: a pod's, or a host's outside.
pub fn server(name: &str) -> Result<Pid> {
    let serves = |words: &[&str]| words.starts_with(&["/bin/signalbox-probe", "serve"]) && words.contains(&name);
    find(serves, None)?.with_context(|| format!("no process serves {name}"))
}

/// The probing agent that runs beside the process `beside`, in the same network namespace.
pub fn agent(beside: Pid) -> Result<Pid> {
    let agent = |words: &[&str]| words.get(1) == Some(&"agent") && words[0].ends_with("signalbox-probe");
    find(agent, Some(&namespace(beside)?))?.with_context(|| format!("no agent runs beside {beside}"))
}

/// Sends a signal to one process, by its id.
pub fn signal(process: Pid, signal: Signal) -> Result<()> {
    kill(process, signal).with_context(|| format!("{signal} to {process}"))
}

/// `signalbox-probe connect` from the network namespace of a process: only to addresses that exist inside the lab.
pub fn connect_from(process: Pid, arguments: &[&str]) -> Result<Ran> {
    let probe = root().join("target/artifacts/signalbox-probe");
    ensure!(probe.exists(), "{} is not there: run `cargo xtask build`", probe.display());
    ensure!(namespace(process)? != fs::read_link("/proc/self/ns/net")?, "{process} is not in a namespace of its own");
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{process}/ns/net")).arg(probe).arg("connect").args(arguments);
    shell::run(&mut command, None)
}

fn namespace(process: Pid) -> Result<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/net")).with_context(|| format!("the network namespace of {process}"))
}

/// Everything that a process started, and what those started, by id; itself too.
pub fn family(ancestor: Pid) -> Result<BTreeSet<i32>> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<i32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let is_one = |pid: &i32| {
        std::iter::successors(Some(*pid), |pid| parents.get(pid).copied()).any(|pid| pid == ancestor.as_raw())
    };
    Ok(parents.keys().copied().filter(is_one).collect())
}

/// The first process whose command line is wanted, in this network namespace if one is given.
pub fn find(wanted: impl Fn(&[&str]) -> bool, within: Option<&Path>) -> Result<Option<Pid>> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&str> = command.trim_end_matches('\0').split('\0').collect();
        let pid = Pid::from_raw(pid);
        // One that has just ended is in no namespace any more, and not the one that is looked for.
        if wanted(&words) && within.is_none_or(|within| namespace(pid).is_ok_and(|own| own == within)) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}
