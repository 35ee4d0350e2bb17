//! How an enforcer is started.

use std::{path::PathBuf, time::Duration};

/// Which way of attaching to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachPreference {
    /// tcx where the kernel has it (6.6 and newer), else clsact.
    #[default]
    Auto,
    /// tcx, or fail.
    Tcx,
    /// A filter on the clsact qdisc, on any kernel.
    Clsact,
}

/// What becomes of a new pod until its policies are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is open.
    #[default]
    Standard,
    /// It is shut, but for its own node, from the moment its interface appears. Interfaces that were there when the first
    /// enforcer of this node started, and those that do not lead into another network namespace, are left alone; anything
    /// else that makes an interface into a namespace (a container outside of Kubernetes) is shut for good.
    Strict,
}

/// How an enforcer is started. `Config { node: "lab".into(), ..Config::default() }` leaves the rest as it is.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name, as in `spec.nodeName` of its pods.
    pub node: String,
    /// The network namespace of the node, `/proc/PID/ns/net` for example; `None`: the one this process is in.
    pub netns: Option<PathBuf>,
    /// Interfaces of the node that lead out of it. Each must exist when the enforcer starts.
    pub uplinks: Vec<String>,
    /// Which way of attaching to choose.
    pub attach: AttachPreference,
    /// What becomes of a new pod until its policies are in.
    pub mode: Mode,
    /// Everything is let pass: what would be denied is counted and reported only.
    pub audit: bool,
    /// Capacity of the kernel's maps.
    pub limits: Limits,
    /// Where maps and links are pinned, so that they outlive the process: a folder on a bpf file system, [`Config::PINS`] for
    /// an agent. `None`: they end with it.
    pub pins: Option<PathBuf>,
    /// How long an idle pause may last before the enforcer compares links and tables with the node again.
    pub resync: Duration,
}

impl Config {
    /// Where an agent pins.
    pub const PINS: &str = "/sys/fs/bpf/signalbox";
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: String::new(),
            netns: None,
            uplinks: Vec::new(),
            attach: AttachPreference::Auto,
            mode: Mode::Standard,
            audit: false,
            limits: Limits::default(),
            pins: None,
            resync: Duration::from_secs(2),
        }
    }
}

/// Capacity of the kernel's maps, in entries. What does not fit denies, and the status says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pods of this node.
    pub pods: u32,
    /// Addresses of all pods that rules tell apart.
    pub addresses: u32,
    /// Blocks that rules name.
    pub blocks: u32,
    /// Entries of policies. Old and new ones stand in the map together: those of what a change touches, and all of them after
    /// a restart.
    pub policies: u32,
    /// Blocks of ports in policies, where rules name ranges; twice, as above.
    pub ranges: u32,
    /// Flows; the least recently used make room.
    pub flows: u32,
}

impl Limits {
    /// The limit of a map, where there is one.
    pub(crate) fn of(&self, map: &str) -> Option<u32> {
        self.all().into_iter().find_map(|(name, limit)| (name == map).then_some(limit))
    }

    /// Maps, and their limits.
    pub(crate) const fn all(&self) -> [(&'static str, u32); 6] {
        [
            ("PODS", self.pods),
            ("ADDRESSES", self.addresses),
            ("BLOCKS", self.blocks),
            ("POLICY", self.policies),
            ("RANGES", self.ranges),
            ("FLOWS", self.flows),
        ]
    }
}

impl Default for Limits {
    fn default() -> Self {
        // 10,000 pods of two families have 20,000 addresses, and with 1,000 policies 80,000 entries: these fit twice. Empty,
        // all of it takes 14 MiB (flows 8.5, policies 4, addresses 1); an entry 80 to 100 bytes, when it is there.
        Self { pods: 4096, addresses: 65_536, blocks: 65_536, policies: 262_144, ranges: 65_536, flows: 65_536 }
    }
}
