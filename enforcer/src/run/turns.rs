//! The loop itself: whatever comes is one turn of [`Core`], on a blocking thread, and what comes meanwhile waits for the next.

use std::time::{Duration, Instant};

use futures::{FutureExt, Stream, StreamExt};
use tokio::{sync::mpsc, task, time};
use tokio_util::sync::CancellationToken;

use super::Core;
use crate::{
    interfaces,
    store::{Kind, Update, key},
    telling::Question,
    watch::Updates,
};

/// The first pause before a pod's namespace is looked for again.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How often it is looked whether somebody has removed something.
const MEND: Duration = Duration::from_millis(250);
/// A pause in which nothing changes, after which the last change's leftovers are cleared away.
const SETTLE: Duration = Duration::from_millis(20);

/// When it is looked again for pods whose place is not known. A moment of its own: other turns come more often than the longest pause.
struct Looks {
    pause: Duration,
    next: time::Instant,
}

impl Looks {
    fn new() -> Self {
        Self { pause: FIRST_PAUSE, next: time::Instant::now() }
    }

    /// Something has happened. However much does, it is not put off.
    fn soon(&mut self) {
        self.pause = FIRST_PAUSE;
        self.next = self.next.min(time::Instant::now() + FIRST_PAUSE);
    }

    /// One was in vain: the next one has longer to wait.
    fn later(&mut self) {
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.next = time::Instant::now() + self.pause;
    }
}

/// All that the loop listens to.
pub struct News<I> {
    /// Of the cluster.
    pub updates: Updates,
    /// Of the node's interfaces.
    pub interfaces: I,
    /// Of those who ask.
    pub questions: mpsc::Receiver<Question>,
}

/// Runs until the shutdown, then detaches everything, unless it is pinned.
pub async fn run(
    core: Core,
    news: News<impl Stream<Item = interfaces::News> + Send + Unpin>,
    resync: Duration,
    shutdown: CancellationToken,
) {
    let News { mut updates, mut interfaces, mut questions } = news;
    let mut core = Some(core);
    let mut clock = time::interval(Duration::from_secs(1));
    let mut round = time::interval(resync);
    let mut mending = time::interval(MEND);
    mending.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    clock.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    round.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut looks = Looks::new();
    loop {
        let (looking, unsettled, failed) = core
            .as_ref()
            .map_or((false, false, false), |core| (core.is_looking(), core.unsettled, core.failure.is_some()));
        let mut is_look = false;
        let job: Box<dyn FnOnce(&mut Core) + Send> = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            // What comes by the clock is first: it is soon done, and an API that never rests must not put it off.
            _ = clock.tick() => Box::new(Core::tick),
            _ = mending.tick() => Box::new(Core::mend),
            _ = round.tick() => Box::new(Core::resync),
            Some(question) = questions.recv() => question,
            update = updates.next() => {
                let Some(update) = update else { break };
                let since = Instant::now();
                let mut news = vec![update];
                while let Some(Some(update)) = updates.next().now_or_never() {
                    news.push(update);
                }
                // These are not put off either.
                let appeared = waiting(&mut interfaces);
                looks.soon();
                Box::new(move |core| {
                    let mut is_changed = false;
                    for update in news {
                        trace(&update);
                        is_changed |= core.store.take(update);
                    }
                    if is_changed {
                        core.reconcile(since);
                    }
                    if !appeared.is_empty() {
                        core.take_interfaces(&appeared);
                    }
                })
            }
            Some(first) = interfaces.next() => {
                let mut news = vec![first];
                news.extend(waiting(&mut interfaces));
                looks.soon();
                Box::new(move |core| core.take_interfaces(&news))
            }
            () = time::sleep_until(looks.next), if looking || failed => {
                is_look = true;
                Box::new(move |core| if failed { core.reconcile(Instant::now()) } else { core.look_again() })
            }
            () = time::sleep(SETTLE), if unsettled => Box::new(Core::settle),
        };
        let Some(mut working) = core.take() else { break };
        let worked = task::spawn_blocking(move || {
            job(&mut working);
            working
        });
        match worked.await {
            Ok(working) => core = Some(working),
            Err(error) => {
                tracing::error!(%error, "the enforcer's worker ended; its programs went with it, unless they are pinned");
                return;
            }
        }
        if is_look {
            // It may have taken longer than the pause.
            looks.later();
        }
    }
    let Some(mut core) = core else { return };
    let ended = task::spawn_blocking(move || {
        if core.datapath.is_pinned() {
            tracing::info!("ends; programs and tables stay in force");
        } else if let Err(error) = core.datapath.detach() {
            tracing::error!(%error, "cannot detach: the links end with this process");
        }
        core.status.send_modify(|status| {
            status.enforcing = core.datapath.is_pinned() && status.enforcing;
            status.attach = core.datapath.attach_mode();
        });
        drop(core.reader);
    });
    if let Err(error) = ended.await {
        tracing::error!(%error, "the enforcer's worker ended while it detached");
    }
}

/// All news of interfaces that are there by now. They would wait in memory.
fn waiting(interfaces: &mut (impl Stream<Item = interfaces::News> + Unpin)) -> Vec<interfaces::News> {
    let mut news = Vec::new();
    while let Some(Some(more)) = interfaces.next().now_or_never() {
        news.push(more);
    }
    news
}

/// What travels with a change of policy, so that it can be followed through the logs.
fn trace(update: &Update) {
    let (Update::Changed(kind, object) | Update::Deleted(kind, object)) = update else { return };
    match kind {
        Kind::NetworkPolicy
        | Kind::ClusterNetworkPolicy
        | Kind::AdminNetworkPolicy
        | Kind::BaselineAdminNetworkPolicy
        | Kind::CalicoGlobalNetworkPolicy
        | Kind::CalicoNetworkPolicy
        | Kind::CalicoGlobalNetworkSet
        | Kind::CalicoNetworkSet
        | Kind::CalicoHostEndpoint => {
            let resource_version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            tracing::info!(?kind, policy = key(object), resource_version, "a policy changed");
        }
        Kind::Namespace | Kind::Pod | Kind::Node | Kind::Service => {}
    }
}
