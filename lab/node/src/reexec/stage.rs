//! The first process of a pod. It makes the pod's namespaces and stays outside the PID namespace, as the parent of
//! the pod's init: when the lab dies it dies, and when it dies init dies, and with init every process of the pod.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::{Role, await_request, command, die_with_parent, report};
use crate::channel::{Report, Request};

/// Makes the namespaces, starts init and waits for its end.
pub(super) fn run(socket: &OwnedFd, parent: &str, node: &str) -> Result<(), String> {
    let mounts = File::open(format!("/proc/{node}/ns/mnt"))
        .map_err(|error| format!("cannot open the node's mount namespace: {error}"))?;
    setns(mounts, CloneFlags::CLONE_NEWNS)
        .map_err(|error| format!("cannot enter the node's mount namespace: {error}"))?;
    unshare(
        CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .map_err(|error| {
        format!("cannot make namespaces: {error}; user namespaces must be allowed (sysctl user.max_user_namespaces)")
    })?;
    report(socket.as_fd(), &Report::Unshared);
    match await_request(socket.as_fd())? {
        (Request::Mapped, _) => {}
        (other, _) => return Err(format!("unexpected request {other:?}")),
    }

    let root = "become the pod's root";
    setgroups(&[]).map_err(|error| format!("cannot {root}: {error}"))?;
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))
        .map_err(|error| format!("cannot {root}: {error}"))?;
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))
        .map_err(|error| format!("cannot {root}: {error}"))?;
    // A change of user ids forgets the request; see prctl(2), PR_SET_PDEATHSIG.
    die_with_parent()?;
    if nix::unistd::getppid().to_string() != parent {
        return Err("the lab has ended".to_owned());
    }

    let ours = socket.try_clone().map_err(|error| format!("cannot hand on the socket: {error}"))?;
    let mut init = command(&Role::Init, ours).spawn().map_err(|error| {
        format!("cannot start the pod's init: {error}; the program must be readable and executable by everyone")
    })?;
    report(socket.as_fd(), &Report::Init { pid: init.id().cast_signed() });
    init.wait().map_err(|error| format!("cannot wait for the pod's init: {error}"))?;
    Ok(())
}
