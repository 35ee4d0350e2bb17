//! Messages and file descriptors between the lab and its processes inside namespaces: JSON over `SOCK_SEQPACKET`.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The longest message. A command line fits; whoever sends more is refused by [`send`].
const MAX_MESSAGE: usize = 128 * 1024;
/// The most file descriptors with one message.
const MAX_FDS: usize = 3;

/// From the lab to a process inside.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// To the first stage of a pod: user ids are mapped, go on.
    Mapped,
    /// To a namespace's holder: fill the tree that pods share, from the file descriptors (probe, and busybox if there are two).
    Template,
    /// To a pod's init: make the root and give up all rights.
    Setup(Setup),
    /// To a pod's init: start a process. Without a terminal three file descriptors come along.
    Spawn(Spawn),
    /// To a pod's init: signal a process and its group.
    Signal {
        /// The process's id in these messages.
        id: u64,
        /// The signal's number.
        signal: i32,
    },
}

/// What a pod's init needs to make the pod's root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The pod's host name.
    pub(crate) hostname: String,
    /// `/etc/hosts`.
    pub(crate) hosts: String,
    /// `/etc/resolv.conf`.
    pub(crate) resolv_conf: String,
}

/// A process to start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spawn {
    /// Chosen by the lab; unique for this init.
    pub(crate) id: u64,
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// The whole environment.
    pub(crate) env: Vec<(String, String)>,
    /// Where it starts.
    pub(crate) cwd: String,
    /// Give it a terminal; its controlling side comes back with [`Report::Spawned`].
    pub(crate) tty: bool,
}

/// From a process inside to the lab.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The first stage has its namespaces and waits for [`Request::Mapped`].
    Unshared,
    /// The first stage has started the pod's init; its process id outside.
    Init {
        /// As the machine counts.
        pid: i32,
    },
    /// Set up and confined.
    Ready {
        /// The programs in `/bin`, where a [`Request::Template`] was answered.
        programs: Vec<String>,
    },
    /// It could not do its work and ends.
    Failed {
        /// What, and the operating system's answer.
        reason: String,
    },
    /// A process runs.
    Spawned {
        /// As in [`Spawn`].
        id: u64,
    },
    /// A process could not be started.
    SpawnFailed {
        /// As in [`Spawn`].
        id: u64,
        /// There is no such program.
        not_found: bool,
        /// The operating system's answer.
        reason: String,
    },
    /// A process has ended.
    Exited {
        /// As in [`Spawn`].
        id: u64,
        /// How.
        end: End,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// A connected pair: ours does not block, theirs does.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

/// Sends one message with its file descriptors.
pub(crate) fn send<T: Serialize>(socket: impl AsFd, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::ArgumentListTooLong, "the command line is too long"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many file descriptors"));
    }
    rustix::net::sendmsg(socket, &[io::IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message with its file descriptors; `None` when the other side is gone.
pub(crate) fn recv<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = match rustix::net::recvmsg(
        socket,
        &mut [io::IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    ) {
        Ok(received) => received.bytes,
        Err(rustix::io::Errno::CONNRESET) => 0,
        Err(error) => return Err(error.into()),
    };
    if received == 0 {
        return Ok(None);
    }
    let fds = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    Ok(Some((serde_json::from_slice(&bytes[..received])?, fds)))
}
