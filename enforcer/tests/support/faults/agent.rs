//! An agent in a process of its own, that can be killed: the test's binary runs itself again.

use std::{
    env,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use signalbox_api::kernel::EnforcerStatus;
use signalbox_enforcer::{AttachPreference, Config, Limits};
use tokio_util::sync::CancellationToken;

/// Says to the child what it is.
const ORDER: &str = "SIGNALBOX_TEST_AGENT";

/// What the child is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    pub api: String,
    pub netns: PathBuf,
    pub pins: PathBuf,
    pub clsact: bool,
    pub object: Option<PathBuf>,
    pub policies: Option<u32>,
}

/// The child's whole life: enforces until it is told to end, and prints its status, one JSON object a line.
pub fn live() {
    let order = env::var(ORDER).expect("only other tests of this file start it");
    let order: Order = serde_json::from_str(&order).expect("an order");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut limits = Limits::default();
        limits.policies = order.policies.unwrap_or(limits.policies);
        let config = Config {
            node: "n".to_owned(),
            netns: Some(order.netns),
            uplinks: vec!["up0".to_owned()],
            attach: if order.clsact { AttachPreference::Clsact } else { AttachPreference::Tcx },
            limits,
            pins: Some(order.pins),
            ..Config::default()
        };
        let object = match order.object {
            Some(path) => std::fs::read(path).expect("the object is there").into(),
            None => signalbox_enforcer::built_in_object().expect("built: `cargo xtask build`").into(),
        };
        let shutdown = CancellationToken::new();
        let client = super::api::client(&order.api);
        let started = signalbox_enforcer::start_object(config, object, client, shutdown.clone()).await;
        let enforcer = started.unwrap_or_else(|error| panic!("{error:#?}"));
        let mut status = enforcer.status();
        let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a signal");
        loop {
            println!("{}", serde_json::to_string(&*status.borrow_and_update()).expect("JSON"));
            tokio::select! {
                _ = end.recv() => break,
                changed = status.changed() => changed.expect("the enforcer lives"),
            }
        }
        shutdown.cancel();
        enforcer.stopped().await;
    });
}

/// A running child.
pub struct Agent {
    child: Child,
    status: Arc<Mutex<Option<EnforcerStatus>>>,
    most_pods: Arc<AtomicU32>,
}

impl Agent {
    pub fn start(order: &Order) -> Self {
        let order = serde_json::to_string(order).expect("JSON");
        let program = env::current_exe().expect("it runs");
        let mut child = Command::new(program)
            .args(["agent_process", "--exact", "--ignored", "--nocapture"])
            .env(ORDER, order)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test can run itself");
        let status: Arc<Mutex<Option<EnforcerStatus>>> = Arc::default();
        let (output, latest) = (child.stdout.take().expect("piped"), Arc::clone(&status));
        let most_pods: Arc<AtomicU32> = Arc::default();
        let most = Arc::clone(&most_pods);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Ok(next) = serde_json::from_str::<EnforcerStatus>(&line) {
                    most.fetch_max(next.pods, Ordering::Relaxed);
                    *latest.lock().expect("no panic") = Some(next);
                }
            }
        });
        Self { child, status, most_pods }
    }

    /// The most pods that any status told of.
    pub fn most_pods(&self) -> u32 {
        self.most_pods.load(Ordering::Relaxed)
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a status.
    pub fn until(&mut self, what: &str, patience: Duration, fits: impl Fn(&EnforcerStatus) -> bool) -> EnforcerStatus {
        let end = Instant::now() + patience;
        loop {
            let status = self.status.lock().expect("no panic").clone();
            if let Some(status) = status.as_ref().filter(|status| fits(status)) {
                return status.clone();
            }
            let ended = self.child.try_wait().expect("it is ours");
            assert!(ended.is_none(), "{what}: the agent ended: {ended:?}");
            assert!(Instant::now() < end, "{what}: {status:#?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until both pods are enforced.
    pub fn until_enforcing(&mut self) -> EnforcerStatus {
        self.until("it enforces", Duration::from_secs(20), |status| status.enforcing && status.pods == 2)
    }

    /// Ends it at once.
    pub fn kill(mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    /// Asks it to end.
    pub fn terminate(mut self) {
        let process = Pid::from_raw(i32::try_from(self.child.id()).expect("a process"));
        kill(process, Signal::SIGTERM).expect("it is ours");
        let ended = self.child.wait().expect("it is ours");
        assert!(ended.success(), "{ended:?}");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}
