//! What a lab could leave on the machine: processes, namespaces, links, pins, mounts.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// What the machine holds of what a lab makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Network namespaces that some process lives in.
    pub namespaces: BTreeSet<String>,
    /// Interfaces of this namespace.
    pub links: BTreeSet<String>,
    /// Mount points that this process sees.
    pub mounts: BTreeSet<String>,
    /// Names below `/run/netns`.
    pub named_namespaces: BTreeSet<String>,
    /// Names below `/sys/fs/bpf`.
    pub pins: BTreeSet<String>,
    /// Processes whose executable or command is one of the lab's, as `pid command`.
    pub processes: BTreeSet<String>,
}

impl Holdings {
    /// Reads the machine.
    pub fn read() -> Result<Self> {
        let mut holdings = Self {
            links: names(Path::new("/sys/class/net")),
            named_namespaces: names(Path::new("/run/netns")),
            pins: names(Path::new("/sys/fs/bpf")),
            ..Self::default()
        };
        for line in fs::read_to_string("/proc/self/mounts")?.lines() {
            holdings.mounts.extend(line.split_whitespace().nth(1).map(str::to_owned));
        }
        for pid in names(Path::new("/proc")).into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
            let process = Path::new("/proc").join(&pid);
            if let Ok(namespace) = fs::read_link(process.join("ns/net")) {
                holdings.namespaces.insert(namespace.to_string_lossy().into_owned());
            }
            let command = fs::read_to_string(process.join("cmdline")).unwrap_or_default().replace('\0', " ");
            let own = ["signalbox-probe", "signalbox-node", "release/signalbox "];
            if own.iter().any(|name| command.contains(name)) {
                holdings.processes.insert(format!("{pid} {command}"));
            }
        }
        Ok(holdings)
    }

    /// Waits, at most `within`, until the machine holds no more than `before`.
    pub fn expect_back(before: &Self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let extra = Self::read()?.beyond(before);
            if extra == Self::default() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "left behind after {within:?}: {extra:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn beyond(self, before: &Self) -> Self {
        let extra = |now: BTreeSet<String>, then: &BTreeSet<String>| now.difference(then).cloned().collect();
        Self {
            namespaces: extra(self.namespaces, &before.namespaces),
            links: extra(self.links, &before.links),
            mounts: extra(self.mounts, &before.mounts),
            named_namespaces: extra(self.named_namespaces, &before.named_namespaces),
            pins: extra(self.pins, &before.pins),
            processes: extra(self.processes, &before.processes),
        }
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
