//! A pod's network namespace, and the processes in it.

use std::{
    collections::HashSet,
    fs,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::PathBuf,
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
};

use crate::{
    discover::{self, View},
    error::Error,
    netns::Netns,
    run::ask::Whereabouts,
};

/// A pod's namespace, held open.
#[derive(Debug)]
pub struct Room {
    /// The namespace.
    pub netns: Netns,
    /// The processes in it, those first that began first: whoever came later may only be a guest.
    pub processes: Vec<Process>,
}

/// A process, held by its folder in `/proc`: the next one with its number is not it.
#[derive(Debug)]
pub struct Process {
    /// `/proc/PID`.
    pub folder: OwnedFd,
    began: u64,
}

/// Why a namespace is not the pod's, or none is found.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    /// No process is in it.
    #[error("no process is in a network namespace with its address {0}: is it running?")]
    Empty(std::net::IpAddr),
    /// Another interface than the one that is judged.
    #[error(
        "the network namespace with its address {0} is not behind the interface that is judged; try again in a moment"
    )]
    Another(std::net::IpAddr),
    /// The kernel could not be asked.
    #[error(transparent)]
    Kernel(#[from] Error),
}

/// Finds a pod's namespace, and makes sure that it is the one behind the interface that is judged.
///
/// # Errors
///
/// When there is none, or the kernel cannot be asked.
pub fn find(node: &Netns, pod: &Whereabouts) -> Result<Room, NotFound> {
    let address = pod.addresses[0];
    let inode = match pod.inode {
        Some(inode) => inode,
        None => {
            let found = discover::find(node, &View::of(node)?, &HashSet::from([address]), &HashSet::new())?;
            found.get(&address).map(|found| found.inode).ok_or(NotFound::Empty(address))?
        }
    };
    let mut processes: Vec<(Process, Netns)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(|first: char| first.is_ascii_digit()) {
            processes.extend(process(entry.path(), inode));
        }
    }
    processes.sort_by_key(|(process, _)| process.began);
    let mut netns = None;
    let processes = processes.into_iter().map(|(process, its)| {
        netns.get_or_insert(its);
        process
    });
    let processes = processes.collect();
    let netns = netns.ok_or(NotFound::Empty(address))?;
    let view = View::of(&netns)?;
    let peer = view.addresses.get(&address).and_then(|index| *view.peers.get(index)?);
    if peer.is_none_or(|peer| peer.index != pod.interface) {
        return Err(NotFound::Another(address));
    }
    Ok(Room { netns, processes })
}

/// A process that is in the namespace. It may end while it is looked at: every failure means just that.
fn process(path: PathBuf, inode: u64) -> Option<(Process, Netns)> {
    // Most are in others: they are passed over before anything is opened.
    if fs::metadata(path.join("ns/net")).ok()?.ino() != inode {
        return None;
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder = open(&path, flags, Mode::empty()).ok()?;
    let netns = Netns::open(Some(&super::files::at(&folder, "ns/net"))).ok()?;
    if netns.inode().ok()? != inode {
        return None;
    }
    let stat = fs::read_to_string(super::files::at(&folder, "stat")).ok()?;
    Some((Process { folder, began: began(&stat)? }, netns))
}

/// When a process began, by the text of its `stat`, in the kernel's ticks. Its name may have blanks and brackets in it.
fn began(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_process_began_whatever_it_is_called() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 2000 100 18446744073709551615";
        assert_eq!(began(stat), Some(4242));
        for broken in ["", "7 (a)", "7 (a) S 1"] {
            assert_eq!(began(broken), None, "{broken:?}");
        }
        let own = fs::read_to_string("/proc/self/stat").expect("its own");
        assert!(began(&own).is_some_and(|began| began > 0), "{own}");
    }
}
