//! What the machine holds of one pod: its processes, its network namespace, its link to the node.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{processes, shell};

/// A pod, as it was found while it ran.
#[derive(Debug)]
pub struct Sandbox {
    /// `net:[…]`.
    namespace: PathBuf,
    /// Everything that ran in its network namespace.
    processes: BTreeSet<i32>,
    /// A process in the node's network namespace, and the index there of the pod's link.
    node: Pid,
    link: u64,
}

impl Sandbox {
    /// Finds the pod of this name.
    pub fn of(pod: &str) -> Result<Self> {
        let process = processes::server(pod)?;
        let namespace = fs::read_link(format!("/proc/{process}/ns/net"))?;
        ensure!(namespace != fs::read_link("/proc/self/ns/net")?, "{pod} is in the machine's own namespace");
        let processes: BTreeSet<i32> =
            holders(&namespace).filter(|(_, why)| *why == "a process").map(|(pid, _)| pid).collect();
        // The other end of the pod's link has, in the node's namespace, the index that the pod's end names.
        let own = links(process)?;
        let eth0 = own.iter().find(|link| link["ifname"] == "eth0").with_context(|| format!("{pod} has no eth0"))?;
        let link = eth0["link_index"].as_u64().context("eth0 has no other end")?;
        let node = node_of(link, eth0["ifindex"].as_u64())?;
        Ok(Self { namespace, processes, node, link })
    }

    /// What is left of it: nothing, when it is gone.
    pub fn left(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for pid in &self.processes {
            if Path::new(&format!("/proc/{pid}")).exists() {
                left.push(format!("process {pid}"));
            }
        }
        left.extend(
            holders(&self.namespace).map(|(pid, why)| format!("{} held by {why} of {pid}", self.namespace.display())),
        );
        if links(self.node)?.iter().any(|link| link["ifindex"] == self.link) {
            left.push(format!("link {} of the node", self.link));
        }
        Ok(left)
    }

    /// How many processes it has.
    pub fn size(&self) -> usize {
        self.processes.len()
    }
}

/// Who keeps a network namespace alive: a process or a thread in it, an open file, a mount.
fn holders(namespace: &Path) -> impl Iterator<Item = (i32, &'static str)> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
    pids.flat_map(move |pid| {
        let is_it = |path: PathBuf| fs::read_link(path).is_ok_and(|target| target == namespace);
        let among = |folder: &str, rest: &str| {
            let entries = fs::read_dir(format!("/proc/{pid}/{folder}")).into_iter().flatten().flatten();
            entries.map(|entry| entry.path().join(rest)).any(&is_it)
        };
        let open_files = || {
            let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).any(&is_it)
        };
        let mounted = || {
            let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            mounts.contains(&*namespace.to_string_lossy())
        };
        let found = if is_it(format!("/proc/{pid}/ns/net").into()) {
            Some("a process")
        } else if among("task", "ns/net") {
            Some("a thread")
        } else if open_files() {
            Some("an open file")
        } else if mounted() {
            Some("a mount")
        } else {
            None
        };
        found.map(|why| (pid, why))
    })
}

/// The links of a process's network namespace.
fn links(process: Pid) -> Result<Vec<Value>> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{process}/ns/net")).args(["ip", "-json", "link", "show"]);
    Ok(serde_json::from_str(&shell::run(&mut command, None)?.ok()?)?)
}

/// A process in whose network namespace the link of this index leads back to the pod's one.
fn node_of(link: u64, back: Option<u64>) -> Result<Pid> {
    let node = |words: &[&str]| words.starts_with(&["signalbox-node-init", "node-holder"]);
    let node = processes::find(node, None)?.context("no process of the node was found")?;
    let there = links(node)?;
    let there =
        there.iter().find(|one| one["ifindex"] == link).with_context(|| format!("the node has no link {link}"))?;
    ensure!(there["link_index"].as_u64() == back, "the node's link {link} leads elsewhere: {there}");
    Ok(node)
}
