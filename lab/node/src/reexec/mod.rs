//! What runs inside the namespaces: this program, started anew under another name.
//!
//! - `holder`: holds a network namespace, and the node's the tree that all pods share
//! - `stage`: the first process of a pod, outside its PID namespace; makes the namespaces
//! - `init`: process 1 of a pod; makes the root, gives up all rights, starts and reaps what runs there
//! - `root`: the pod's root file system
//!
//! A process of several threads cannot safely run code between fork and exec; a new start of the same program can
//! do anything. All of them speak [`crate::channel`] on their standard input and end when the lab's side closes.

mod holder;
mod init;
mod root;
mod stage;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::channel::{self, Report, Request};

/// The name under which the program is started anew.
const NAME: &str = "signalbox-node-init";

/// Which part a new start plays.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// Hold a network namespace.
    Holder,
    /// Hold the node's: its network namespace, and a mount namespace with the tree that pods share.
    NodeHolder,
    /// Begin a pod whose shared tree lies in this process's mount namespace.
    Stage {
        /// The process that plays [`Role::NodeHolder`].
        node: i32,
    },
    /// Be process 1 of a pod.
    Init,
}

/// Call it first thing in `main`, before any thread: where this process was started to run inside a namespace, it
/// does that and never returns. Otherwise it does nothing.
pub fn run_if_reexec() {
    let mut args = std::env::args();
    if args.next().as_deref() != Some(NAME) {
        return;
    }
    close_inherited();
    let args: Vec<String> = args.collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let socket = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(socket) => socket,
        Err(_) => std::process::exit(70),
    };
    let done = match args.as_slice() {
        ["holder", parent] => follow(parent).and_then(|()| holder::run(&socket, holder::Tree::None)),
        ["node-holder", parent] => follow(parent).and_then(|()| holder::run(&socket, holder::Tree::Shared)),
        ["stage", parent, node] => follow(parent).and_then(|()| stage::run(&socket, parent, node)),
        ["init"] => init::run(&socket),
        _ => Err(format!("unknown role {args:?}")),
    };
    if let Err(reason) = done {
        // Where the lab is gone nobody listens, and nothing is left to do.
        let _ = channel::send(&socket, &Report::Failed { reason }, &[]);
        std::process::exit(1);
    }
    std::process::exit(0);
}

/// Closes whatever the lab itself has inherited from a shell or a supervisor, and so all its children: nothing of the
/// machine is to be open in a pod. What the lab opens is closed by the kernel at each start.
fn close_inherited() {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open: Vec<i32> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // The one that listed them is closed already.
        let _ = nix::unistd::close(fd);
    }
}

/// How this program is started anew. The caller spawns it from a thread that lives as long as the lab.
pub(crate) fn command(role: &Role, socket: OwnedFd) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).env_clear().stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::null());
    // A terminal sends Ctrl-C to its whole foreground group: the lab is to end its namespaces in order, not to lose them.
    command.process_group(0);
    let parent = std::process::id().to_string();
    match role {
        Role::Holder => command.args(["holder", &parent]),
        Role::NodeHolder => command.args(["node-holder", &parent]),
        Role::Stage { node } => command.args(["stage", &parent, &node.to_string()]),
        Role::Init => command.arg("init"),
    };
    command
}

/// Ends this process when its parent ends, however that ends.
fn die_with_parent() -> Result<(), String> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| format!("cannot ask to die with the lab: {error}"))
}

/// [`die_with_parent`], for a parent that is known: it may have ended before we could ask.
fn follow(parent: &str) -> Result<(), String> {
    die_with_parent()?;
    if nix::unistd::getppid().to_string() == parent { Ok(()) } else { Err("the lab has ended".to_owned()) }
}

/// Waits for the one request that is due; ends the process if the lab is gone.
fn await_request(socket: BorrowedFd<'_>) -> Result<(Request, Vec<OwnedFd>), String> {
    match channel::recv(socket) {
        Ok(Some(request)) => Ok(request),
        Ok(None) => std::process::exit(0),
        Err(error) => Err(format!("cannot hear the lab: {error}")),
    }
}

/// Tells the lab; ends the process if the lab is gone.
fn report(socket: BorrowedFd<'_>, report: &Report) {
    if channel::send(socket, report, &[]).is_err() {
        std::process::exit(0);
    }
}
