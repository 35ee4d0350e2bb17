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
    /// Everything is let pass: what would be denied is counted and reported only.
    pub audit: bool,
    /// Capacity of the kernel's maps.
    pub limits: Limits,
    /// How long an idle pause may last before the enforcer compares links and tables with the node again.
    pub resync: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: String::new(),
            netns: None,
            uplinks: Vec::new(),
            attach: AttachPreference::Auto,
            audit: false,
            limits: Limits::default(),
            resync: Duration::from_secs(2),
        }
    }
}

/// Capacity of the kernel's maps, in entries. What does not fit denies, and the status says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Addresses of pods.
    pub addresses: u32,
    /// Blocks that rules name.
    pub blocks: u32,
    /// Entries of policies: two generations of them stand in the map during a change.
    pub policies: u32,
    /// Flows; the least recently used make room.
    pub flows: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { addresses: 16_384, blocks: 16_384, policies: 65_536, flows: 65_536 }
    }
}
