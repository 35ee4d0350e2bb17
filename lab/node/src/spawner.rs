//! The one thread that starts processes.
//!
//! A process asks to be killed when its parent ends, and for the kernel the parent is the *thread* that started it
//! (prctl(2), PR_SET_PDEATHSIG). A thread of tokio's pool may end at any time; this one ends with the node.

use std::io;
use std::process::{Child, Command};
use std::sync::mpsc;

use tokio::sync::oneshot;

type Job = (Command, oneshot::Sender<io::Result<Child>>);

/// Starts processes that die with the node.
#[derive(Clone, Debug)]
pub(crate) struct Spawner {
    jobs: mpsc::Sender<Job>,
}

impl Spawner {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("node-spawner".to_owned()).spawn(move || {
            for (mut command, reply) in inbox {
                // Whoever asked may be gone: its process then has nobody to talk to and ends by itself.
                let _ = reply.send(command.spawn());
            }
        })?;
        Ok(Self { jobs })
    }

    /// Starts a process.
    pub(crate) async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the node has ended");
        self.jobs.send((command, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
