//! Holds a network namespace, and for the node the tree that all pods share.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::{await_request, report, root};
use crate::channel::{Report, Request};

/// Whether this holder also makes the tree that pods share.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tree {
    /// No.
    None,
    /// Yes, in a mount namespace that pods begin in.
    Shared,
}

/// Makes the namespace, says so, and stays until the lab ends.
pub(super) fn run(socket: &OwnedFd, tree: Tree) -> Result<(), String> {
    let flags = match tree {
        Tree::None => CloneFlags::CLONE_NEWNET,
        Tree::Shared => CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS,
    };
    unshare(flags).map_err(|error| format!("cannot make a network namespace: {error}"))?;
    let programs = match tree {
        Tree::None => Vec::new(),
        Tree::Shared => match await_request(socket.as_fd())? {
            (Request::Template, files) => fill(files)?,
            (other, _) => return Err(format!("unexpected request {other:?}")),
        },
    };
    report(socket.as_fd(), &Report::Ready { programs });
    // Returns when the lab's side closes: nothing else is ever sent.
    await_request(socket.as_fd()).map(|_| ())
}

/// Mounts the shared tree and copies the programs into it. It also covers the machine's `/tmp` for whatever a
/// pod's first stage, which starts in this mount namespace, could see of it.
fn fill(files: Vec<OwnedFd>) -> Result<Vec<String>, String> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|error| format!("cannot make mounts private: {error}"))?;
    mount(
        Some("tmpfs"),
        root::SHARED,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=0755,size=128m"),
    )
    .map_err(|error| format!("cannot mount a tmpfs on {}: {error}", root::SHARED))?;
    let bin = Path::new(root::SHARED).join("bin");
    let fail = |what: &str, error: io::Error| format!("cannot {what} the pods' programs: {error}");
    fs::create_dir(&bin).map_err(|error| fail("make a folder for", error))?;
    fs::create_dir(Path::new(root::SHARED).join("root")).map_err(|error| fail("make a folder for", error))?;
    let mut files = files.into_iter();
    if let Some(probe) = files.next() {
        copy(probe, &bin.join(root::PROBE)).map_err(|error| fail("copy", error))?;
    }
    if let Some(busybox) = files.next() {
        let path = bin.join("busybox");
        copy(busybox, &path).map_err(|error| fail("copy", error))?;
        for applet in applets(&path).map_err(|error| fail("list", error))? {
            // A name that is taken already (busybox itself) stays.
            let _ = symlink("busybox", bin.join(applet));
        }
    }
    let mut programs = Vec::new();
    for entry in fs::read_dir(&bin).map_err(|error| fail("list", error))? {
        let entry = entry.map_err(|error| fail("list", error))?;
        programs.extend(entry.file_name().into_string());
    }
    programs.sort();
    Ok(programs)
}

fn copy(from: OwnedFd, to: &Path) -> io::Result<()> {
    let mut to = File::create_new(to)?;
    io::copy(&mut File::from(from), &mut to)?;
    to.flush()?;
    to.set_permissions(Permissions::from_mode(0o755))
}

/// The names that a busybox answers to.
fn applets(busybox: &Path) -> io::Result<Vec<String>> {
    let output = Command::new(busybox).arg("--list").output()?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-[".contains(c)))
        .map(str::to_owned)
        .collect())
}
