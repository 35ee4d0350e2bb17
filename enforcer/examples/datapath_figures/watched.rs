//! From an API server's event to the kernel, through the agent's own loop: a policy changes on a node with many pods.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    changes::{self, PODS, POLICIES},
    measure::Samples,
    support::{
        Lab, Space, config,
        faults::api::{Api, Process},
    },
};

/// A change that comes when the one before is cleared away: the loop waits 20 ms for that, and the kernel takes its time.
pub const APART: Duration = Duration::from_millis(60);
/// One that comes while the one before is not: it has to wait until no program reads the generation before.
pub const AT_ONCE: Duration = Duration::from_millis(5);

/// Changes one by one, and right behind one another.
pub struct Watched {
    pub apart: Took,
    pub at_once: Took,
}

/// What each change took, in milliseconds.
#[derive(Default)]
pub struct Took {
    /// From the event that the API server sends to the generation in force, as the agent's status tells it.
    pub total: Samples,
    /// The agent's part: from the event's arrival in its loop.
    pub agent: Samples,
}

/// One rule of one policy comes or goes, `count` times in either way. The 100 pods of the node have namespaces and interfaces, and are found as pods
/// are; the cluster has 900 more. Every tenth change is followed by a connection that must meet it.
pub fn measure(count: u32) -> Result<Watched> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let lab = Lab::new();
    let pods: Vec<(Space, Process)> = (0..PODS)
        .map(|at| {
            let space = Space::new();
            let process = Process::lasting(&space, 600);
            lab.pod(&space, &format!("w{at}"), &changes::address(at).to_string(), &format!("fd00:245::{:x}", at + 2));
            (space, process)
        })
        .collect();
    let (api, client) = runtime.block_on(Api::start());
    for at in 0..10 {
        let name = changes::namespace(at);
        api.put("namespaces", json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}, "resourceVersion": "1"}}));
    }
    let versioned = |mut object: Value| {
        object["metadata"]["resourceVersion"] = "1".into();
        object
    };
    (0..PODS + changes::OTHER_PODS[0]).for_each(|at| api.put("pods", versioned(changes::pod(at))));
    (0..POLICIES).for_each(|at| api.put("networkpolicies", versioned(changes::some_policy(at, false))));
    let shutdown = CancellationToken::new();
    let enforcer =
        runtime.block_on(async { signalbox_enforcer::start(config(&lab), client, shutdown.clone()).await })?;
    let mut status = enforcer.status();
    let wait = |what: &'static str,
                status: &mut tokio::sync::watch::Receiver<_>,
                fits: &dyn Fn(&signalbox_api::kernel::EnforcerStatus) -> bool| {
        let waited = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(60), status.wait_for(|now| fits(now)))
                .await
                .map(|found| found.map(|now| now.clone()))
        });
        waited.context(what)?.context("the enforcer ended")
    };
    wait("the pods are found", &mut status, &|now| now.enforcing && now.pods == PODS)?;
    let server = std::net::Ipv4Addr::UNSPECIFIED;
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let mut is_open = vec![false; POLICIES as usize];
    let mut version = 100;
    let mut changes = |pause: Duration| -> Result<Took> {
        let mut took = Took::default();
        for round in 0..count {
            let at = round % POLICIES;
            let open = !is_open[at as usize];
            is_open[at as usize] = open;
            version += 1;
            let changed = changes::some_policy(at, open);
            let began = Instant::now();
            api.tell("networkpolicies", "MODIFIED", changed, version);
            let now = wait("the change", &mut status, &|now| now.policies_version == version)?;
            took.total.push(ms(began.elapsed()));
            took.agent.push(now.last_apply_us as f64 / 1000.0);
            if round % 10 == 0 {
                // From pod `at + 50`, which has the same app, to pod `at` that the policy selects.
                let listener = pods[at as usize].0.enter(|| std::net::TcpListener::bind((server, 8443)))?;
                let to = changes::address(at).to_string();
                let met = pods[(at + POLICIES) as usize].0.connect(&to, 8443, Duration::from_millis(300)).is_ok();
                ensure!(met == open, "change {round} is not in force: {to}");
                drop(listener);
            }
            std::thread::sleep(pause);
        }
        Ok(took)
    };
    let watched = Watched { apart: changes(APART)?, at_once: changes(AT_ONCE)? };
    shutdown.cancel();
    runtime.block_on(enforcer.stopped());
    Ok(watched)
}
