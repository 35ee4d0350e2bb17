//! What the probe asks of the kernel besides sockets.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use signalbox_api::flow::Protocol;
use socket2::{Domain, Socket, Type};

/// Raises the soft limit of open files to the hard one and returns it.
pub fn raise_open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return hard;
    }
    soft
}

/// The protocols that this kernel has sockets for.
pub fn protocols() -> Vec<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().filter(|protocol| supported(*protocol)).collect()
}

/// Whether this kernel has sockets for a protocol. SCTP is a module that many kernels lack.
pub fn supported(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Tcp | Protocol::Udp => true,
        Protocol::Sctp => Socket::new(Domain::IPV4, Type::STREAM, Some(socket2::Protocol::SCTP)).is_ok(),
    }
}

/// Collects every child that has ended. The probe is PID 1 of its pod: the orphans of commands that were run in the
/// pod become its children, and stay zombies until it has asked for them.
pub fn reap() -> usize {
    let mut reaped = 0;
    while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        reaped += 1;
    }
    reaped
}
