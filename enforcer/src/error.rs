//! What can go wrong, and what helps.

use std::path::PathBuf;

/// What can go wrong, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The crate was built without the kernel programs.
    #[error("this build holds no kernel programs: run `cargo xtask build`, which makes enforcer.bpf.o and embeds it")]
    ObjectMissing,
    /// The kernel refused the object.
    #[error("the kernel refused the programs (root and Linux 5.10 or newer are needed): {0}")]
    Load(#[from] aya::EbpfError),
    /// The object that this binary holds cannot be read.
    #[error("the kernel object cannot be read: {source}: run `cargo xtask build`, which makes it anew")]
    Object {
        /// What the library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel refused one program.
    #[error("the kernel refused the program {program}: {source}")]
    Program {
        /// Its name in the object.
        program: &'static str,
        /// What the kernel said.
        source: aya::programs::ProgramError,
    },
    /// The object lacks something that this version expects: object and binary come from different builds.
    #[error("the kernel object has no {kind} {name}: it comes from another build, run `cargo xtask build`")]
    Mismatch {
        /// Program or map.
        kind: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// An operation on a map failed.
    #[error("map {map}: {source}")]
    Map {
        /// Its name in the object.
        map: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A map could not be opened.
    #[error("map {map}: {source}")]
    OpenMap {
        /// Its name in the object.
        map: &'static str,
        /// What the library said.
        source: aya::maps::MapError,
    },
    /// A network namespace could not be entered.
    #[error(
        "cannot enter the network namespace {path}: {source} (root is needed, and the process that holds it must live)"
    )]
    Namespace {
        /// Its file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A thread could not be started, or ended by a panic.
    #[error("a worker thread of the enforcer ended unexpectedly")]
    Worker,
    /// Links and addresses could not be read.
    #[error("netlink in the node's namespace: {0}")]
    Netlink(#[from] rtnetlink::Error),
    /// A socket or file failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A pin failed.
    #[error("{path}: {source} (pins need root and a bpf file system)")]
    Pin {
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The agent's own socket cannot be made.
    #[error(
        "cannot answer at the socket {path}: {source}: name another one with --socket, or end the agent that is there"
    )]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// There is no bpf file system where pins should be.
    #[error("{0} is not on a bpf file system: mount one, `mount -t bpf bpf /sys/fs/bpf`")]
    NoBpfFileSystem(PathBuf),
    /// Another process writes to the maps.
    #[error("{0} is held by another enforcer: end it first, its programs stay in force")]
    AnotherAgent(PathBuf),
    /// Metrics cannot be served.
    #[error("cannot listen at {address} for metrics: {source}: name another address with --listen")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// What a process before left in force is attached in another way.
    #[error("programs are attached by {found:?} already: leave the choice to the enforcer, or uninstall first")]
    AttachedOtherwise {
        /// How.
        found: signalbox_api::kernel::AttachMode,
    },
    /// An uplink does not exist.
    #[error("the node has no interface {0}: name its uplinks as `ip link` shows them")]
    NoSuchUplink(String),
    /// Nothing was found that leads out of the node.
    #[error(
        "no interface of the node has the address of --address, and no default route or tunnel leads out: name the interfaces with --uplink"
    )]
    NoUplink,
    /// The programs could not be attached.
    #[error("cannot attach to interface {ifindex}: {source}")]
    Attach {
        /// The interface.
        ifindex: u32,
        /// What the kernel said.
        source: std::io::Error,
    },
}
