//! The loop: news in, tables and links out. [`ask`]: answers that need all that it knows.

pub mod ask;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt};
use signalbox_api::kernel::EnforcerStatus;
use signalbox_policy::{
    Cluster, IdentityAllocator, PodRef, Problem,
    tables::{LocalPod, Tables},
};
use tokio::{
    sync::{mpsc, watch},
    task, time,
};
use tokio_util::sync::CancellationToken;

use crate::{
    conditions::News,
    datapath::{Datapath, NodeAddresses, rehearsal::Rehearsal},
    discover::{self, Found, View},
    error::Error,
    events::EventReader,
    metrics::Meters,
    store::{Kind, Store, Update, key},
    telling::Question,
    watch::Updates,
};

/// The first pause before a pod's namespace is looked for again.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long a pod may be without a namespace before the status says so.
const PATIENCE: Duration = Duration::from_secs(5);
/// A pause in which nothing changes, after which the last change's leftovers are cleared away.
const SETTLE: Duration = Duration::from_millis(20);

/// Everything that the loop works on. Moves to a blocking thread and back, since the kernel is asked there.
pub struct Core {
    node: String,
    datapath: Datapath,
    reader: EventReader,
    store: Store,
    identities: IdentityAllocator,
    tables: Tables,
    /// The same with the policies in audit, where there are any.
    audited: Option<Tables>,
    pods: HashMap<PodRef, (Vec<IpAddr>, Found)>,
    missing: HashMap<PodRef, Instant>,
    problems: Vec<String>,
    failure: Option<String>,
    status: watch::Sender<EnforcerStatus>,
    unsettled: bool,
    /// What the tables were compiled from.
    cluster: Cluster,
    /// What was not understood, field by field.
    unknowns: Vec<Problem>,
    /// Where policies that are not enforced entirely are told.
    pub noted: watch::Sender<News>,
    /// Everything is let pass.
    pub is_audit: bool,
    /// What is counted as it happens.
    pub meters: Meters,
    /// Loaded when the first question needs it.
    rehearsal: Option<Rehearsal>,
}

impl Core {
    /// Ready to run.
    pub fn new(node: String, datapath: Datapath, reader: EventReader, status: watch::Sender<EnforcerStatus>) -> Self {
        Self {
            node,
            datapath,
            reader,
            store: Store::default(),
            identities: IdentityAllocator::default(),
            tables: Tables::default(),
            audited: None,
            pods: HashMap::new(),
            missing: HashMap::new(),
            problems: Vec::new(),
            failure: None,
            status,
            unsettled: false,
            cluster: Cluster::default(),
            unknowns: Vec::new(),
            noted: watch::channel(News::default()).0,
            is_audit: false,
            meters: Meters::default(),
            rehearsal: None,
        }
    }

    /// Makes the kernel as the cluster wants it. `since`: when the news arrived.
    fn reconcile(&mut self, since: Instant) {
        if !self.store.is_ready() {
            self.publish(None);
            return;
        }
        self.failure = None;
        self.compile();
        // Policies of pods that are known come first: they wait for nothing.
        let result = self.release().and_then(|()| self.apply(since)).and_then(|()| self.look_for_pods(since));
        if let Err(error) = result {
            self.meters.errors.inc();
            tracing::error!(%error, "the kernel could not be brought up to date; it is tried again");
            self.failure = Some(error.to_string());
            self.publish(None);
        }
    }

    /// Compares with the node: interfaces that vanished, addresses that came.
    fn resync(&mut self) {
        let result = self.sync_node().and_then(|view| {
            self.pods.retain(|pod, (_, found)| {
                if view.peers.contains_key(&found.interface) {
                    return true;
                }
                tracing::debug!(?pod, "its interface is gone");
                false
            });
            self.release()
        });
        if let Err(error) = result {
            self.meters.errors.inc();
            tracing::error!(%error, "the node could not be looked at; it is tried again");
            self.failure = Some(error.to_string());
        }
        self.look_again();
    }

    /// Looks again for pods without a namespace.
    fn look_again(&mut self) {
        let since = Instant::now();
        if let Err(error) = self.look_for_pods(since) {
            self.failure = Some(error.to_string());
        }
        self.publish(None);
    }

    fn tick(&mut self) {
        if let Err(error) = self.datapath.tick() {
            self.failure = Some(error.to_string());
        }
        self.publish(None);
    }

    fn settle(&mut self) {
        self.unsettled = false;
        if let Err(error) = self.datapath.settle() {
            self.meters.errors.inc();
            tracing::error!(%error, "leftovers of the last change could not be cleared away");
            self.failure = Some(error.to_string());
        }
    }

    /// Lets go of pods that are gone, or are not what they were.
    fn release(&mut self) -> Result<(), Error> {
        let wanted: HashMap<&PodRef, &LocalPod> = self.tables.pods.iter().map(|pod| (&pod.pod, pod)).collect();
        self.pods.retain(|pod, (addresses, _)| wanted.get(pod).is_some_and(|now| now.addresses == *addresses));
        self.missing.retain(|pod, _| wanted.contains_key(pod));
        let gone: Vec<PodRef> =
            self.datapath.bound().keys().filter(|pod| !self.pods.contains_key(pod)).cloned().collect();
        for pod in gone {
            self.datapath.unbind(&pod)?;
        }
        Ok(())
    }

    /// Makes the tables of what is known, and beside them those with the policies in audit.
    fn compile(&mut self) {
        let all = Cluster::from_objects(self.store.objects());
        self.problems = all.unknowns().to_vec();
        self.unknowns = all.problems().to_vec();
        if self.store.audited().next().is_some() {
            let enforced = Cluster::from_objects(self.store.enforced_objects());
            let (tables, audited) = all.compile_beside(&enforced, &self.node, &mut self.identities);
            (self.tables, self.audited) = (tables, Some(audited));
            self.cluster = enforced;
        } else {
            (self.tables, self.audited) = (all.compile_with(&self.node, &mut self.identities), None);
            self.cluster = all;
        }
    }

    fn apply(&mut self, since: Instant) -> Result<(), Error> {
        let before = self.status.borrow().generation;
        let applied = self.datapath.apply_audited(&self.tables, self.audited.as_ref())?;
        self.unsettled = true;
        self.problems.extend(applied.problems);
        self.note();
        let took = (applied.generation != before).then(|| since.elapsed());
        if let Some(took) = took {
            self.meters.apply.observe(took.as_secs_f64());
            tracing::info!(
                generation = applied.generation,
                resource_version = self.store.policies_version(),
                last_apply_us = took.as_micros(),
                "tables in force"
            );
        }
        self.publish(took);
        Ok(())
    }

    fn look_for_pods(&mut self, since: Instant) -> Result<(), Error> {
        let wanted: Vec<(PodRef, Vec<IpAddr>)> = self
            .tables
            .pods
            .iter()
            .filter(|pod| !self.pods.contains_key(&pod.pod) && !pod.addresses.is_empty())
            .map(|pod| (pod.pod.clone(), pod.addresses.clone()))
            .collect();
        if wanted.is_empty() {
            self.missing.clear();
            return Ok(());
        }
        let view = self.sync_node()?;
        let addresses: HashSet<IpAddr> = wanted.iter().map(|(_, addresses)| addresses[0]).collect();
        let known: HashSet<u64> = self.pods.values().map(|(_, found)| found.inode).collect();
        let found = discover::find(self.datapath.netns(), &view, &addresses, &known)?;
        let mut bound = 0;
        for (pod, addresses) in wanted {
            let Some(place) = found.get(&addresses[0]) else {
                self.missing.entry(pod).or_insert_with(Instant::now);
                continue;
            };
            match self.datapath.bind(pod.clone(), place.interface) {
                Ok(()) => {
                    tracing::debug!(pod = %format!("{}/{}", pod.namespace, pod.name), interface = place.interface, "found");
                    self.missing.remove(&pod);
                    self.pods.insert(pod, (addresses, *place));
                    bound += 1;
                }
                // Between the look and the attachment the interface may vanish: the pod is looked for again.
                Err(error @ Error::Attach { .. }) => {
                    tracing::warn!(%error, "cannot attach to a pod; it is tried again");
                    self.missing.entry(pod).or_insert_with(Instant::now);
                }
                Err(error) => return Err(error),
            }
        }
        if bound > 0 {
            self.apply(since)?;
        }
        Ok(())
    }

    fn sync_node(&mut self) -> Result<View, Error> {
        let view = View::of(self.datapath.netns())?;
        let services = self.store.service_addresses();
        let addresses: BTreeSet<IpAddr> = view.all_addresses().difference(&services).copied().collect();
        self.datapath.set_node(NodeAddresses { addresses, translated_ports: self.store.node_ports() })?;
        Ok(view)
    }

    fn publish(&self, took: Option<Duration>) {
        let ready = self.store.is_ready();
        let mut problems = self.problems.clone();
        problems.extend(self.store.problems());
        problems.extend(self.failure.clone());
        if self.is_audit {
            problems.push("this node is in audit: nothing is denied, what would be is only reported".to_owned());
        }
        let mut late: Vec<&PodRef> =
            self.missing.iter().filter(|(_, since)| since.elapsed() > PATIENCE).map(|(pod, _)| pod).collect();
        late.sort();
        problems.extend(late.into_iter().map(|pod| {
            format!("{}/{}: no network namespace with its address is found on the node", pod.namespace, pod.name)
        }));
        if !ready {
            problems.push("the first lists of namespaces, pods and policies are not complete yet".to_owned());
        }
        let lost_events = self.datapath.lost_events().unwrap_or_default();
        self.status.send_if_modified(|status| {
            let mut next = EnforcerStatus {
                node: self.node.clone(),
                enforcing: ready
                    && self.missing.is_empty()
                    && self.failure.is_none()
                    && self.datapath.generation() != 0,
                attach: self.datapath.attach_mode(),
                generation: self.datapath.generation(),
                policies_version: status.policies_version,
                pods: u32::try_from(self.pods.len()).unwrap_or(u32::MAX),
                last_apply_us: status.last_apply_us,
                problems,
                lost_events,
            };
            if ready && self.failure.is_none() {
                next.policies_version = self.store.policies_version();
            }
            if let Some(took) = took {
                next.last_apply_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            }
            let changed = *status != next;
            *status = next;
            changed
        });
    }
}

/// Runs until the shutdown, then detaches everything.
pub async fn run(
    core: Core,
    mut updates: Updates,
    mut questions: mpsc::Receiver<Question>,
    resync: Duration,
    shutdown: CancellationToken,
) {
    let mut core = Some(core);
    let mut clock = time::interval(Duration::from_secs(1));
    let mut round = time::interval(resync);
    clock.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    round.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut pause = FIRST_PAUSE;
    loop {
        let (missing, unsettled, failed) = core
            .as_ref()
            .map_or((false, false, false), |core| (!core.missing.is_empty(), core.unsettled, core.failure.is_some()));
        let job: Box<dyn FnOnce(&mut Core) + Send> = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            update = updates.next() => {
                let Some(update) = update else { break };
                let since = Instant::now();
                let mut news = vec![update];
                while let Some(Some(update)) = updates.next().now_or_never() {
                    news.push(update);
                }
                pause = FIRST_PAUSE;
                Box::new(move |core| {
                    let mut is_changed = false;
                    for update in news {
                        trace(&update);
                        is_changed |= core.store.take(update);
                    }
                    if is_changed {
                        core.reconcile(since);
                    }
                })
            }
            Some(question) = questions.recv() => question,
            () = time::sleep(pause), if missing || failed => {
                pause = (pause * 2).min(LONGEST_PAUSE);
                Box::new(move |core| if failed { core.reconcile(Instant::now()) } else { core.look_again() })
            }
            () = time::sleep(SETTLE), if unsettled => Box::new(Core::settle),
            _ = clock.tick() => Box::new(Core::tick),
            _ = round.tick() => Box::new(Core::resync),
        };
        let Some(mut working) = core.take() else { break };
        let worked = task::spawn_blocking(move || {
            job(&mut working);
            working
        });
        match worked.await {
            Ok(working) => core = Some(working),
            Err(error) => {
                tracing::error!(%error, "the enforcer's worker ended; its programs went with it");
                return;
            }
        }
    }
    let Some(mut core) = core else { return };
    let ended = task::spawn_blocking(move || {
        if let Err(error) = core.datapath.detach() {
            tracing::error!(%error, "cannot detach: the links end with this process");
        }
        core.status.send_modify(|status| {
            status.enforcing = false;
            status.attach = None;
        });
        drop(core.reader);
    });
    if let Err(error) = ended.await {
        tracing::error!(%error, "the enforcer's worker ended while it detached");
    }
}

/// What travels with a change of policy, so that it can be followed through the logs.
fn trace(update: &Update) {
    let (Update::Changed(kind, object) | Update::Deleted(kind, object)) = update else { return };
    match kind {
        Kind::NetworkPolicy
        | Kind::ClusterNetworkPolicy
        | Kind::AdminNetworkPolicy
        | Kind::BaselineAdminNetworkPolicy => {
            let resource_version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            tracing::info!(?kind, policy = key(object), resource_version, "a policy changed");
        }
        Kind::Namespace | Kind::Pod | Kind::Node | Kind::Service => {}
    }
}
