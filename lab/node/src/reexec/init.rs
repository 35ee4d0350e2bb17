//! Process 1 of a pod: makes the root, gives up all rights, starts and reaps what runs there.
//!
//! Whatever it starts is confined already, because it is itself: `exec` into a pod enters nothing from outside.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use caps::{CapSet, CapsHashSet};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Gid, Pid, Uid, setgroups, sethostname, setresgid, setresuid};
use rustix::pty::OpenptFlags;
use tokio::signal::unix::{SignalKind, signal};

use super::root::{self, USER};
use super::{await_request, die_with_parent, report};
use crate::channel::{self, End, Report, Request, Setup, Spawn};

/// Sets up, confines itself, then serves requests until the lab's side closes.
pub(super) fn run(socket: &OwnedFd) -> Result<(), String> {
    die_with_parent()?;
    heed_signals()?;
    let setup = match await_request(socket.as_fd())? {
        (Request::Setup(setup), _) => setup,
        (other, _) => return Err(format!("unexpected request {other:?}")),
    };
    prepare(&setup)?;
    confine()?;
    report(socket.as_fd(), &Report::Ready { programs: Vec::new() });

    let table = Arc::new(Table::default());
    let reaper = {
        let table = Arc::clone(&table);
        let socket = socket.try_clone().map_err(|error| format!("cannot hand on the socket: {error}"))?;
        move || reap(&table, socket.as_fd())
    };
    std::thread::Builder::new().spawn(reaper).map_err(|error| format!("cannot start a thread: {error}"))?;
    loop {
        match await_request(socket.as_fd())? {
            (Request::Spawn(spawn), fds) => start(&table, socket.as_fd(), &spawn, fds),
            (Request::Signal { id, signal }, _) => table.signal(id, signal),
            (other, _) => return Err(format!("unexpected request {other:?}")),
        }
    }
}

/// A signal that is ignored stays so in whatever is started, and a script ignores the interrupt in what it starts with `&`,
/// `nohup` the hang-up: then Ctrl-C in a pod's terminal would do nothing. A signal that has a handler has the default again
/// behind execve(2). The handlers are tokio's, which wake nobody here; a pod could not end this process by a signal before either.
fn heed_signals() -> Result<(), String> {
    let fail = |error: io::Error| format!("cannot take signals: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(fail)?;
    let _inside = runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::quit(), SignalKind::hangup(), SignalKind::terminate()] {
        let _nobody_reads_it = signal(kind).map_err(fail)?;
    }
    Ok(())
}

fn prepare(setup: &Setup) -> Result<(), String> {
    sethostname(&setup.hostname).map_err(|error| format!("cannot set the host name: {error}"))?;
    // A user namespace inside would hand out capabilities over itself, and with them more of the kernel to attack.
    // The file belongs to this user namespace alone; see namespaces(7).
    fs::write("/proc/sys/user/max_user_namespaces", "0")
        .map_err(|error| format!("cannot forbid further user namespaces: {error}"))?;
    root::enter(setup)
}

/// Gives up everything that root of the pod's user namespace could do.
fn confine() -> Result<(), String> {
    let fail = |what: &'static str| move |error: nix::errno::Errno| format!("cannot {what}: {error}");
    let limits = [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NOFILE, 8192),
        (Resource::RLIMIT_NPROC, 512),
        (Resource::RLIMIT_FSIZE, 64 << 20),
        (Resource::RLIMIT_MEMLOCK, 0),
    ];
    for (resource, limit) in limits {
        // Never above what the machine grants: raising a hard limit takes rights over the machine.
        let (_, hard) = getrlimit(resource).map_err(fail("read a limit"))?;
        let limit = limit.min(hard);
        setrlimit(resource, limit, limit).map_err(fail("limit resources"))?;
    }
    let caps_fail = |error: caps::errors::CapsError| format!("cannot drop capabilities: {error}");
    for capability in caps::runtime::thread_all_supported() {
        caps::drop(None, CapSet::Bounding, capability).map_err(caps_fail)?;
    }
    caps::clear(None, CapSet::Ambient).map_err(caps_fail)?;
    setgroups(&[]).map_err(fail("drop groups"))?;
    let group = Gid::from_raw(USER);
    setresgid(group, group, group).map_err(fail("change the group"))?;
    let user = Uid::from_raw(USER);
    setresuid(user, user, user).map_err(fail("change the user"))?;
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::set(None, set, &CapsHashSet::new()).map_err(caps_fail)?;
    }
    prctl::set_no_new_privs().map_err(fail("set no_new_privs"))?;
    // The pod's processes run as the same user: they must not trace this one or read it through /proc/1.
    prctl::set_dumpable(false).map_err(fail("clear dumpable"))?;
    // A change of user ids forgets the request; see prctl(2), PR_SET_PDEATHSIG.
    die_with_parent()
}

/// The processes that were asked for and still run.
#[derive(Default)]
struct Table {
    ids: Mutex<HashMap<i32, u64>>,
    started: Condvar,
}

impl Table {
    fn signal(&self, id: u64, signal: i32) {
        let Ok(signal) = Signal::try_from(signal) else { return };
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((&pid, _)) = ids.iter().find(|(_, value)| **value == id) {
            let pid = Pid::from_raw(pid);
            // A process with a terminal has no group of its own until it has made its session.
            if killpg(pid, signal).is_err() {
                let _ = kill(pid, signal);
            }
        }
    }
}

/// Waits for children, adopted ones as well, for as long as the pod lives.
///
/// It looks first and reaps under the lock: a child whose program could not be executed is reaped by the standard
/// library within `spawn`, which panics if somebody else was faster.
fn reap(table: &Table, socket: BorrowedFd<'_>) {
    loop {
        let ended = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL);
        let mut ids = table.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pid) = ended.ok().and_then(|status| status.pid()) else {
            // No child at all: nothing to wait for until one is started.
            while ids.is_empty() {
                ids = table.started.wait(ids).unwrap_or_else(PoisonError::into_inner);
            }
            continue;
        };
        let end = match waitpid(pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(_, code)) => End::Code(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => End::Signal(signal as i32),
            _ => continue,
        };
        if let Some(id) = ids.remove(&pid.as_raw()) {
            report(socket, &Report::Exited { id, end });
        }
    }
}

fn start(table: &Table, socket: BorrowedFd<'_>, spawn: &Spawn, fds: Vec<OwnedFd>) {
    // Held until the lab knows of the start: the report of its end must not overtake it.
    let mut ids = table.ids.lock().unwrap_or_else(PoisonError::into_inner);
    let started = if spawn.tty { with_terminal(spawn) } else { with_pipes(spawn, fds).map(|pid| (pid, None)) };
    match started {
        Ok((pid, terminal)) => {
            ids.insert(pid, spawn.id);
            table.started.notify_all();
            let terminal = terminal.as_ref().map(AsFd::as_fd);
            if channel::send(socket, &Report::Spawned { id: spawn.id }, terminal.as_slice()).is_err() {
                std::process::exit(0);
            }
        }
        Err(error) => report(
            socket,
            &Report::SpawnFailed {
                id: spawn.id,
                not_found: error.kind() == io::ErrorKind::NotFound,
                reason: error.to_string(),
            },
        ),
    }
}

fn base(spawn: &Spawn, argv: &[String]) -> io::Result<Command> {
    let (program, args) = argv.split_first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(spawn.env.iter().map(|(key, value)| (key, value))).current_dir(&spawn.cwd);
    Ok(command)
}

fn with_pipes(spawn: &Spawn, fds: Vec<OwnedFd>) -> io::Result<i32> {
    let [stdin, stdout, stderr]: [OwnedFd; 3] =
        fds.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "three file descriptors expected"))?;
    let mut command = base(spawn, &spawn.argv)?;
    command.stdin(stdin).stdout(stdout).stderr(stderr).process_group(0);
    Ok(command.spawn()?.id().cast_signed())
}

/// A process with a terminal of the pod's own. Only code between fork and exec could make the terminal its
/// controlling one, so busybox does it: `setsid -c` begins a session and takes standard input as its terminal.
fn with_terminal(spawn: &Spawn) -> io::Result<(i32, Option<OwnedFd>)> {
    let controller = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&controller)?;
    rustix::pty::unlockpt(&controller)?;
    let terminal =
        rustix::pty::ioctl_tiocgptpeer(&controller, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    let session = fs::exists("/bin/busybox")?;
    let mut command = if session {
        find(spawn)?;
        let mut argv = vec!["/bin/busybox".to_owned(), "setsid".to_owned(), "-c".to_owned()];
        argv.extend(spawn.argv.iter().cloned());
        base(spawn, &argv)?
    } else {
        let mut command = base(spawn, &spawn.argv)?;
        command.process_group(0);
        command
    };
    command.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(Stdio::from(terminal));
    Ok((command.spawn()?.id().cast_signed(), Some(controller)))
}

/// What the shell calls "command not found" is told before anything is started.
fn find(spawn: &Spawn) -> io::Result<()> {
    let program = spawn.argv.first().map(String::as_str).unwrap_or_default();
    let found = if program.contains('/') { fs::exists(program)? } else { fs::exists(format!("/bin/{program}"))? };
    if found { Ok(()) } else { Err(io::Error::from(io::ErrorKind::NotFound)) }
}
