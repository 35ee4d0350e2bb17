//! A pod's namespaces and the processes in them, as the lab sees them.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::DropGuard;

use crate::addresses::USERS_PER_POD;
use crate::channel::{self, End, Report, Request, Setup, Spawn};
use crate::error::Error;
use crate::netns;
use crate::reexec::{self, Role};
use crate::spawner::Spawner;

/// A process of this program in a namespace, and the socket to it.
#[derive(Debug)]
pub(crate) struct Helper {
    socket: Arc<UnixStream>,
    child: Arc<Mutex<Child>>,
    pidfd: OwnedFd,
    pid: i32,
}

impl Helper {
    /// Starts it.
    pub(crate) async fn start(spawner: &Spawner, role: &Role) -> Result<Self, Error> {
        let (ours, theirs) = channel::pair().map_err(Error::io("make a socket"))?;
        let child =
            spawner.spawn(reexec::command(role, theirs)).await.map_err(Error::io("start a process of the node"))?;
        let pid = child.id().cast_signed();
        Ok(Self {
            // A socket is a socket to tokio; messages come and go by our own calls.
            socket: Arc::new(UnixStream::from_std(ours.into()).map_err(Error::io("watch a socket"))?),
            pidfd: open_pidfd(pid).map_err(Error::io("open a process of the node"))?,
            child: Arc::new(Mutex::new(child)),
            pid,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Where its network namespace is.
    pub(crate) fn netns(&self) -> PathBuf {
        netns::of_process(self.pid)
    }

    /// Sends a request with its file descriptors.
    pub(crate) async fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(&self.socket, request, fds).await
    }

    /// Receives the next report; a failure that it reports, or its end, is an error.
    pub(crate) async fn expect(&self, who: &str) -> Result<Report, Error> {
        let fail = |reason: String| Error::Setup { who: who.to_owned(), reason };
        match recv(&self.socket).await {
            Ok(Some((Report::Failed { reason }, _))) => Err(fail(reason)),
            Ok(Some((report, _))) => Ok(report),
            Ok(None) => Err(fail("its process ended before it was set up".to_owned())),
            Err(error) => Err(fail(error.to_string())),
        }
    }

    /// Kills it and waits for its end.
    pub(crate) async fn end(&self) {
        // It may have ended already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        self.ended().await;
    }

    async fn ended(&self) {
        let child = Arc::clone(&self.child);
        // It has been killed or is about to end, so the thread is needed for moments. A panic there has no meaning here.
        let _ = tokio::task::spawn_blocking(move || {
            let _ = child.lock().unwrap_or_else(PoisonError::into_inner).wait();
        })
        .await;
    }
}

async fn send<T: Serialize>(socket: &UnixStream, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    socket.async_io(Interest::WRITABLE, || channel::send(socket, message, fds)).await
}

async fn recv(socket: &UnixStream) -> io::Result<Option<(Report, Vec<OwnedFd>)>> {
    socket.async_io(Interest::READABLE, || channel::recv(socket)).await
}

/// Names a process for good, whoever gets its number later.
fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// A pod whose namespaces exist and whose root does not yet.
#[derive(Debug)]
pub(crate) struct Begun {
    helper: Helper,
    who: String,
}

impl Begun {
    /// Makes the namespaces, with `first_user` and the ids after it as the pod's own.
    pub(crate) async fn new(spawner: &Spawner, node: i32, first_user: u32, who: &str) -> Result<Self, Error> {
        let helper = Helper::start(spawner, &Role::Stage { node }).await?;
        match helper.expect(who).await? {
            Report::Unshared => {}
            other => {
                return Err(Error::Setup { who: who.to_owned(), reason: format!("unexpected report {other:?}") });
            }
        }
        for map in ["gid_map", "uid_map"] {
            std::fs::write(format!("/proc/{}/{map}", helper.pid()), format!("0 {first_user} {USERS_PER_POD}\n"))
                .map_err(Error::io(format!("map the user ids of {who}")))?;
        }
        Ok(Self { helper, who: who.to_owned() })
    }

    /// Where its network namespace is.
    pub(crate) fn netns(&self) -> PathBuf {
        self.helper.netns()
    }

    /// Makes the root and confines the pod's init.
    pub(crate) async fn finish(self, setup: Setup) -> Result<Sandbox, Error> {
        let told = async {
            self.helper.send(&Request::Mapped, &[]).await?;
            self.helper.send(&Request::Setup(setup), &[]).await
        };
        told.await.map_err(Error::io(format!("talk to {}", self.who)))?;
        let mut init = None;
        loop {
            match self.helper.expect(&self.who).await? {
                Report::Init { pid } => init = Some(pid),
                Report::Ready { .. } => break,
                other => {
                    return Err(Error::Setup { who: self.who, reason: format!("unexpected report {other:?}") });
                }
            }
        }
        // The first stage reports the start of init before init can have done its work, but on another thread of
        // events: both write to one socket, so the order is not given.
        let init = match init {
            Some(pid) => pid,
            None => match self.helper.expect(&self.who).await? {
                Report::Init { pid } => pid,
                other => {
                    return Err(Error::Setup { who: self.who, reason: format!("unexpected report {other:?}") });
                }
            },
        };
        Sandbox::start(self.helper, init)
    }
}

/// A running pod's namespaces.
#[derive(Debug)]
pub(crate) struct Sandbox {
    helper: Helper,
    init: i32,
    init_fd: OwnedFd,
    processes: Arc<Processes>,
    next: AtomicU64,
    gone: watch::Receiver<bool>,
    _reader: DropGuard,
}

#[derive(Debug, Default)]
struct Processes {
    starting: Mutex<HashMap<u64, oneshot::Sender<Start>>>,
    running: Mutex<HashMap<u64, oneshot::Sender<End>>>,
}

/// How a start went: the terminal's controlling side, where there is one.
type Start = Result<Option<OwnedFd>, StartError>;

/// Why a process did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// There is no such program.
    #[error("{0}: no such program in the pod")]
    NotFound(String),
    /// Something else.
    #[error("{0}")]
    Refused(String),
    /// The pod is gone.
    #[error("the pod has ended")]
    Gone,
}

/// A process in a pod.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its id for [`Sandbox::signal`].
    pub(crate) id: u64,
    /// The controlling side of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// Resolves when it has ended; an error means that the whole pod did.
    pub(crate) exit: oneshot::Receiver<End>,
}

impl Sandbox {
    fn start(helper: Helper, init: i32) -> Result<Self, Error> {
        let (set_gone, gone) = watch::channel(false);
        let processes = Arc::<Processes>::default();
        let stop = tokio_util::sync::CancellationToken::new();
        let reader = read(Arc::clone(&helper.socket), Arc::clone(&processes), set_gone);
        tokio::spawn(stop.clone().run_until_cancelled_owned(reader));
        Ok(Self {
            init_fd: open_pidfd(init).map_err(Error::io("open a pod's init"))?,
            helper,
            init,
            processes,
            next: AtomicU64::new(1),
            gone,
            _reader: stop.drop_guard(),
        })
    }

    /// Where its network namespace is.
    pub(crate) fn netns(&self) -> PathBuf {
        netns::of_process(self.init)
    }

    /// The process id of its init, as the machine counts.
    pub(crate) fn init(&self) -> i32 {
        self.init
    }

    /// Starts a process. With a terminal no file descriptors are given.
    pub(crate) async fn spawn(&self, command: Command, fds: &[BorrowedFd<'_>]) -> Result<Process, StartError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (starting, started) = oneshot::channel();
        let (running, exit) = oneshot::channel();
        lock(&self.processes.starting).insert(id, starting);
        lock(&self.processes.running).insert(id, running);
        let Command { argv, env, tty } = command;
        let request = Request::Spawn(Spawn { id, argv: argv.clone(), env, cwd: "/".to_owned(), tty });
        if let Err(error) = self.helper.send(&request, fds).await {
            lock(&self.processes.starting).remove(&id);
            lock(&self.processes.running).remove(&id);
            return Err(match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => StartError::Gone,
                _ => StartError::Refused(error.to_string()),
            });
        }
        if *self.gone.borrow() {
            return Err(StartError::Gone);
        }
        match started.await {
            Ok(Ok(terminal)) => Ok(Process { id, terminal, exit }),
            Ok(Err(StartError::NotFound(_))) => Err(StartError::NotFound(argv.into_iter().next().unwrap_or_default())),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::Gone),
        }
    }

    /// Signals a process and its group. One that has ended is no error.
    pub(crate) async fn signal(&self, id: u64, signal: i32) {
        let _ = self.helper.send(&Request::Signal { id, signal }, &[]).await;
    }

    /// Resolves when the pod's init has ended.
    pub(crate) async fn gone(&self) {
        let mut gone = self.gone.clone();
        // The sender goes only with the reader, which goes with the sandbox.
        let _ = gone.wait_for(|gone| *gone).await;
    }

    /// Kills everything in it and waits until it has ended.
    pub(crate) async fn destroy(&self) {
        // The kernel kills a PID namespace with its init, and init ends after the others; the first stage then ends.
        let killed = rustix::process::pidfd_send_signal(self.init_fd.as_fd(), Signal::KILL);
        if killed.is_ok() && tokio::time::timeout(Duration::from_secs(2), self.helper.ended()).await.is_ok() {
            return;
        }
        self.helper.end().await;
    }
}

/// What to start in a pod.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// The whole environment.
    pub(crate) env: Vec<(String, String)>,
    /// With a terminal.
    pub(crate) tty: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands reports to whom they concern, until init ends.
async fn read(socket: Arc<UnixStream>, processes: Arc<Processes>, gone: watch::Sender<bool>) {
    while let Ok(Some((report, fds))) = recv(&socket).await {
        match report {
            Report::Spawned { id } => {
                if let Some(starting) = lock(&processes.starting).remove(&id) {
                    let _ = starting.send(Ok(fds.into_iter().next()));
                }
            }
            Report::SpawnFailed { id, not_found, reason } => {
                lock(&processes.running).remove(&id);
                if let Some(starting) = lock(&processes.starting).remove(&id) {
                    let error = if not_found { StartError::NotFound(reason) } else { StartError::Refused(reason) };
                    let _ = starting.send(Err(error));
                }
            }
            Report::Exited { id, end } => {
                if let Some(running) = lock(&processes.running).remove(&id) {
                    let _ = running.send(end);
                }
            }
            other => tracing::warn!(?other, "unexpected report from a pod's init"),
        }
    }
    gone.send_replace(true);
    lock(&processes.starting).clear();
    lock(&processes.running).clear();
}
