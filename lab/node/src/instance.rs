//! A pod or a host outside, running: its namespaces, its link, and what runs in it.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use signalbox_lab_streaming::runtime::{ExecRequest, ExecSession, LogRequest, Output};

use crate::exec::{self, out_pipe};
use crate::logs::Log;
use crate::network::Attached;
use crate::sandbox::{Command, Process, Sandbox, StartError};

/// A running pod or host.
#[derive(Debug)]
pub(crate) struct Instance {
    /// For messages: `pod backend/dbsvc-1`, `host database`.
    pub(crate) who: String,
    /// Its addresses.
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) attached: Attached,
    pub(crate) first_user: u32,
    /// The environment of a command that names no container.
    pub(crate) env: Vec<(String, String)>,
    containers: Mutex<Containers>,
}

#[derive(Debug, Default)]
struct Containers {
    first: Option<String>,
    by_name: BTreeMap<String, Container>,
}

#[derive(Debug)]
struct Container {
    env: Vec<(String, String)>,
    log: Arc<Log>,
    previous: Option<Arc<Log>>,
}

impl Instance {
    pub(crate) fn new(
        who: String,
        addresses: Vec<Ipv4Addr>,
        sandbox: Sandbox,
        attached: Attached,
        first_user: u32,
        env: Vec<(String, String)>,
    ) -> Self {
        Self { who, addresses, sandbox: Arc::new(sandbox), attached, first_user, env, containers: Mutex::default() }
    }

    fn containers(&self) -> std::sync::MutexGuard<'_, Containers> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a container's process; its output goes into a new log.
    pub(crate) async fn start(
        &self,
        container: &str,
        argv: Vec<String>,
        env: Vec<(String, String)>,
    ) -> Result<Process, StartError> {
        let io = |error: io::Error| StartError::Refused(error.to_string());
        let log = Arc::new(Log::default());
        {
            let mut containers = self.containers();
            containers.first.get_or_insert_with(|| container.to_owned());
            let previous = containers.by_name.remove(container).map(|before| before.log);
            let now = Container { env: env.clone(), log: Arc::clone(&log), previous };
            containers.by_name.insert(container.to_owned(), now);
        }
        let null = std::fs::File::open("/dev/null").map_err(io)?;
        let (stdout, out) = out_pipe().map_err(io)?;
        let (stderr, err) = out_pipe().map_err(io)?;
        let command = Command { argv, env, tty: false };
        let started = self.sandbox.spawn(command, &[null.as_fd(), stdout.as_fd(), stderr.as_fd()]).await;
        if started.is_err() {
            log.close();
        } else {
            tokio::spawn(async move {
                tokio::join!(Arc::clone(&log).collect(out), Arc::clone(&log).collect(err));
                log.close();
            });
        }
        started
    }

    /// Whether there is such a container; `None` means the first.
    fn find<T>(&self, container: Option<&str>, pick: impl FnOnce(&Container) -> T) -> Option<T> {
        let containers = self.containers();
        let name = container.or(containers.first.as_deref())?;
        containers.by_name.get(name).map(pick)
    }

    /// Starts a command beside the container's own process; `None` where there is no such container.
    pub(crate) async fn exec(
        &self,
        container: Option<&str>,
        request: ExecRequest,
    ) -> Option<Result<ExecSession, StartError>> {
        let mut env = match (self.find(container, |container| container.env.clone()), container) {
            (Some(env), _) => env,
            (None, None) => self.env.clone(),
            (None, Some(_)) => return None,
        };
        if request.tty && !env.iter().any(|(key, _)| key == "TERM") {
            env.push(("TERM".to_owned(), "xterm".to_owned()));
        }
        Some(exec::exec(&self.sandbox, request, env).await)
    }

    /// The log of a container; `None` where there is no such container or run.
    pub(crate) fn logs(&self, container: Option<&str>, request: &LogRequest) -> Option<Output> {
        let log = self.find(container, |container| {
            if request.previous { container.previous.clone() } else { Some(Arc::clone(&container.log)) }
        })??;
        Some(log.open(request))
    }
}
