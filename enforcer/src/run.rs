//! The loop: news in, tables and links out. [`ask`]: answers that need all that it knows; [`newcomers`]: interfaces that may be a
//! new pod's; [`status`]: what it says of itself; [`turns`]: the loop itself.

pub mod ask;
mod newcomers;
mod status;
mod turns;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use signalbox_api::kernel::EnforcerStatus;
use signalbox_policy::{
    Cluster, IdentityAllocator, PodRef, Problem,
    tables::{LocalPod, Tables},
};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    conditions,
    config::{Config, Mode},
    datapath::{Datapath, NodeAddresses, rehearsal::Rehearsal},
    discover::{self, Found, View, sandboxes},
    error::Error,
    events::EventReader,
    exposures::Exposures,
    metrics::Meters,
    netns::Netns,
    newcomers::Newcomers,
    store::Store,
};
pub use turns::{News, run};

/// How long a pod may be without a namespace before the status says so.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long tables of a process before may stay in force although all that is needed to replace them is known: what is asked
/// for beyond that may be refused for ever.
const LEGACY_PATIENCE: Duration = Duration::from_secs(30);
/// How long the status tells what was mended.
const TOLD: Duration = Duration::from_secs(60);

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
    newcomers: Newcomers,
    mode: Mode,
    exposures: Exposures,
    problems: Vec<String>,
    failure: Option<String>,
    status: watch::Sender<EnforcerStatus>,
    unsettled: bool,
    /// Since when all that is needed at the least is known.
    ready_since: Option<Instant>,
    /// What was mended lately, and how often anything was.
    mended: Vec<(Instant, String)>,
    mends: u64,
    mend_failure: Option<String>,
    /// What the tables were compiled from.
    cluster: Cluster,
    /// What was not understood, field by field.
    unknowns: Vec<Problem>,
    /// Where policies that are not enforced entirely are told.
    pub noted: watch::Sender<conditions::News>,
    /// Everything is let pass.
    pub is_audit: bool,
    /// What is counted as it happens.
    pub meters: Meters,
    /// Loaded when the first question needs it.
    rehearsal: Option<Rehearsal>,
    /// Until when the node's processes are not looked through.
    rest_until: Instant,
}

impl Core {
    /// Ready to run.
    pub fn new(
        config: Config,
        datapath: Datapath,
        reader: EventReader,
        status: watch::Sender<EnforcerStatus>,
        exposures: Exposures,
    ) -> Self {
        let newcomers = Newcomers::new(datapath.foreign(), datapath.inherited(), Instant::now());
        Self {
            node: config.node,
            datapath,
            reader,
            store: Store::default(),
            identities: IdentityAllocator::default(),
            tables: Tables::default(),
            audited: None,
            pods: HashMap::new(),
            missing: HashMap::new(),
            newcomers,
            mode: config.mode,
            exposures,
            problems: Vec::new(),
            failure: None,
            status,
            unsettled: false,
            ready_since: None,
            mended: Vec::new(),
            mends: 0,
            mend_failure: None,
            cluster: Cluster::default(),
            unknowns: Vec::new(),
            noted: watch::channel(conditions::News::default()).0,
            is_audit: false,
            meters: Meters::default(),
            rehearsal: None,
            rest_until: Instant::now(),
        }
    }

    /// The namespace of the node.
    pub fn netns(&self) -> &Netns {
        self.datapath.netns()
    }

    /// Whether enough is known to make tables of it. Where tables of a process before are in force, nothing is concluded from
    /// what may only be late.
    fn is_ready(&self) -> bool {
        let is_late = self.ready_since.is_some_and(|since| since.elapsed() >= LEGACY_PATIENCE);
        if self.datapath.is_adopted() && !is_late { self.store.is_complete() } else { self.store.is_ready() }
    }

    /// Looks whether somebody has removed something, and puts it back.
    fn mend(&mut self) {
        match self.datapath.mend() {
            Ok(mended) => {
                self.mend_failure = None;
                for what in mended {
                    tracing::warn!(what, "put back");
                    self.mends += 1;
                    self.mended.push((Instant::now(), what));
                }
            }
            Err(error) => {
                tracing::error!(%error, "what was removed could not be put back; it is tried again");
                self.mend_failure = Some(error.to_string());
            }
        }
        self.mended.retain(|(since, _)| since.elapsed() < TOLD);
        self.publish(None);
    }

    /// Makes the kernel as the cluster wants it. `since`: when the news arrived.
    fn reconcile(&mut self, since: Instant) {
        if self.ready_since.is_none() && self.store.is_ready() {
            self.ready_since = Some(Instant::now());
        }
        if !self.is_ready() {
            self.publish(None);
            return;
        }
        self.failure = None;
        self.compile();
        let result = if self.datapath.is_adopted() {
            // Pods that are enforced already must be known to the first tables: without them these would let go of the pods.
            self.release().and_then(|()| self.look_for_pods(since)).and_then(|()| self.apply(since))
        } else {
            // Policies of pods that are known come first: they wait for nothing.
            self.release().and_then(|()| self.apply(since)).and_then(|()| self.look_for_pods(since))
        };
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
            let before = self.pods.len();
            self.pods.retain(|pod, (_, found)| {
                // Whatever is in doubt stays.
                let is_there = view.peers.contains_key(&found.interface);
                if is_there || !self.datapath.is_gone(found.interface).unwrap_or(false) {
                    return true;
                }
                tracing::debug!(?pod, "its interface is gone");
                false
            });
            let are_all_there = self.pods.len() == before;
            self.newcomers.compare(&view.peers, Instant::now());
            self.await_newcomers()?;
            self.release()?;
            self.datapath.forget_gone(|interface| view.peers.contains_key(&interface))?;
            // The first tables of an agent that takes over come when all that is needed is known.
            if are_all_there || self.datapath.is_adopted() { Ok(()) } else { self.apply(Instant::now()) }
        });
        if let Err(error) = result {
            self.meters.errors.inc();
            tracing::error!(%error, "the node could not be looked at; it is tried again");
            self.failure = Some(error.to_string());
        }
        if self.datapath.is_adopted() && self.is_ready() {
            // It waited for more than was needed.
            self.reconcile(Instant::now());
            return;
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
        if !self.datapath.can_settle() {
            // News must not wait for it.
            return;
        }
        self.unsettled = false;
        if let Err(error) = self.datapath.settle() {
            self.meters.errors.inc();
            tracing::error!(%error, "leftovers of the last change could not be cleared away");
            self.failure = Some(error.to_string());
        }
        if self.datapath.takes_new_room() {
            self.reconcile(Instant::now());
        }
    }

    /// Lets go of pods that are gone, or are not what they were.
    fn release(&mut self) -> Result<(), Error> {
        let wanted: HashMap<&PodRef, &LocalPod> = self.tables.pods.iter().map(|pod| (&pod.pod, pod)).collect();
        self.pods.retain(|pod, (addresses, _)| {
            let Some(now) = wanted.get(pod) else { return false };
            // One more, or another order, is no other pod: perhaps it was found before the API told all of them.
            let stays = now.addresses.iter().any(|address| addresses.contains(address));
            addresses.clone_from(&now.addresses);
            stays
        });
        self.missing.retain(|pod, _| wanted.contains_key(pod));
        let gone: Vec<PodRef> =
            self.datapath.bound().keys().filter(|pod| !self.pods.contains_key(pod)).cloned().collect();
        let is_moved = gone.iter().any(|pod| wanted.contains_key(pod));
        for pod in gone {
            self.datapath.unbind(&pod)?;
        }
        // Where it stood is an interface of which nobody knows whose it is.
        if is_moved { self.await_newcomers() } else { Ok(()) }
    }

    /// Makes the tables of what is known, and beside them those with the policies in audit.
    fn compile(&mut self) {
        let all = self.store.cluster().clone();
        self.problems = all.unknowns().to_vec();
        // Otherwise their order would be that in which the objects came.
        self.problems.sort();
        self.unknowns = all.problems().to_vec();
        if let Some(enforced) = self.store.enforced() {
            let (tables, audited) = all.compile_beside(&enforced, &self.node, &mut self.identities);
            (self.tables, self.audited) = (tables, Some(audited));
            self.cluster = enforced;
        } else {
            (self.tables, self.audited) = (all.compile_with(&self.node, &mut self.identities), None);
            self.cluster = all;
        }
    }

    fn apply(&mut self, since: Instant) -> Result<(), Error> {
        if self.datapath.is_adopted() {
            // Those that no pod was found behind would be let go of.
            let bound: HashSet<u32> = self.datapath.bound().values().copied().collect();
            self.newcomers.disinherit(|interface| bound.contains(&interface));
            self.await_newcomers()?;
        }
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

    /// Whether there are pods whose place is yet to be found, or may be found soon.
    fn is_looking(&self) -> bool {
        !self.missing.is_empty() || self.has_strangers()
    }

    /// Whether there are both interfaces of which nobody knows whose they are, and pods of which the API tells no address.
    fn has_strangers(&self) -> bool {
        !self.unclaimed().is_empty() && self.tables.pods.iter().any(|pod| pod.addresses.is_empty())
    }

    /// Interfaces that are a pod's, of which is not known whose.
    fn unclaimed(&self) -> BTreeSet<u32> {
        let bound: HashSet<u32> = self.datapath.bound().values().copied().collect();
        self.newcomers.of_pods().filter(|interface| !bound.contains(interface)).collect()
    }

    /// Finds pods by their processes, before the API tells their addresses. Whether any was. To look through all processes takes its
    /// time on a large node: it is done for a tenth of the time at most, however much happens.
    fn recognise(&mut self) -> Result<bool, Error> {
        let began = Instant::now();
        if !self.has_strangers() || began < self.rest_until {
            return Ok(false);
        }
        let netns = self.datapath.netns();
        let known: HashSet<u64> = self.pods.values().map(|(_, found)| found.inode).collect();
        let found = sandboxes::find(netns, &View::of(netns)?, &self.unclaimed(), &known)?;
        self.rest_until = Instant::now() + 9 * began.elapsed();
        let mut is_news = false;
        for sandbox in found {
            let uids: BTreeSet<String> = sandbox.uids.iter().map(Uuid::to_string).collect();
            if let Some(pod) = self.store.find_pod(&self.node, &uids, &sandbox.addresses) {
                tracing::debug!(pod, addresses = ?sandbox.addresses, "found by its processes");
                is_news = true;
            }
        }
        Ok(is_news)
    }

    /// What was found of a pod counts only while its interface is: then nobody else has its addresses. Whether any was forgotten.
    fn forget_lost(&mut self) -> bool {
        let is_bound = |name: &String| self.pods.keys().any(|pod| *name == format!("{}/{}", pod.namespace, pod.name));
        let lost: Vec<String> = self.store.found_pods().filter(|name| !is_bound(name)).cloned().collect();
        lost.iter().for_each(|name| self.store.forget_pod(name));
        !lost.is_empty()
    }

    fn look_for_pods(&mut self, since: Instant) -> Result<(), Error> {
        let mut is_news = self.forget_lost();
        is_news |= self.recognise()?;
        if is_news {
            self.compile();
            self.release()?;
        }
        let bound = self.bind_pods()?;
        if self.forget_lost() {
            is_news = true;
            self.compile();
        }
        if is_news || !bound.is_empty() {
            self.apply(since)?;
            self.end_exposure(&bound)?;
        }
        Ok(())
    }

    /// Binds the pods whose interfaces can be found: those that are bound now and were not.
    fn bind_pods(&mut self) -> Result<Vec<(PodRef, u32)>, Error> {
        let wanted: Vec<(PodRef, Vec<IpAddr>)> = self
            .tables
            .pods
            .iter()
            .filter(|pod| self.is_wanted(pod) && !pod.addresses.is_empty())
            .map(|pod| (pod.pod.clone(), pod.addresses.clone()))
            .collect();
        if wanted.is_empty() {
            self.missing.clear();
            if self.datapath.is_adopted() {
                self.sync_node()?;
            }
            return Ok(Vec::new());
        }
        let view = self.sync_node()?;
        let addresses: HashSet<IpAddr> = wanted.iter().map(|(_, addresses)| addresses[0]).collect();
        let known: HashSet<u64> = self.pods.values().map(|(_, found)| found.inode).collect();
        let found = discover::find(self.datapath.netns(), &view, &addresses, &known)?;
        let mut bound = Vec::new();
        for (pod, addresses) in wanted {
            let heir = || Some(Found { interface: self.datapath.heir(&addresses[0])?, inode: HEIR });
            let Some(place) = found.get(&addresses[0]).copied().or_else(heir) else {
                if self.pods.contains_key(&pod) {
                    continue;
                }
                self.missing.entry(pod).or_insert_with(Instant::now);
                continue;
            };
            if self.datapath.bound().iter().any(|(other, at)| *at == place.interface && *other != pod) {
                // One of two that claim an address: the other one was first.
                self.missing.entry(pod).or_insert_with(Instant::now);
                continue;
            }
            match self.datapath.bind(pod.clone(), place.interface) {
                Ok(()) => {
                    tracing::debug!(pod = %format!("{}/{}", pod.namespace, pod.name), interface = place.interface, "found");
                    self.missing.remove(&pod);
                    bound.push((pod.clone(), place.interface));
                    self.pods.insert(pod, (addresses, place));
                }
                // Between the look and the attachment the interface may vanish: the pod is looked for again.
                Err(error @ Error::Attach { .. }) => {
                    tracing::warn!(%error, "cannot attach to a pod; it is tried again");
                    self.missing.entry(pod).or_insert_with(Instant::now);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(bound)
    }

    /// Whether a pod is to be looked for: one whose place is only inherited is looked for as well, for a while.
    fn is_wanted(&self, pod: &LocalPod) -> bool {
        match self.pods.get(&pod.pod) {
            None => true,
            Some((_, found)) => {
                found.inode == HEIR && self.ready_since.is_some_and(|since| since.elapsed() < LEGACY_PATIENCE)
            }
        }
    }

    fn sync_node(&mut self) -> Result<View, Error> {
        let view = View::of(self.datapath.netns())?;
        self.datapath.set_masters(view.masters.clone())?;
        if self.datapath.is_adopted() && !self.store.has_services() {
            // Those that are not known yet may be in the tables of the process before.
            return Ok(view);
        }
        let addresses = view.all_addresses();
        let mut translated = self.store.service_ports();
        translated.retain(|(address, ..)| addresses.contains(address));
        self.datapath.set_node(NodeAddresses { addresses, translated_ports: self.store.node_ports(), translated })?;
        Ok(view)
    }
}

/// Stands for the namespace of a pod whose place is inherited from a process before.
const HEIR: u64 = 0;
