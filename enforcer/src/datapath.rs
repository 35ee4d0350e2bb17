//! The kernel's side: programs, maps, links. Knows no Kubernetes.
//!
//! - [`maps`]: what it writes to; [`sight`] reads them, [`verdicts`] keeps counts of what they decided.
//! - [`survival`]: what outlives the process; [`newcomers`]: interfaces at which a pod is awaited; [`lanes`]: pods behind bridges.
//! - [`rehearsal`]: the programs, asked about packets that nobody sent.
//!
//! Longer than most files: it is the one place that knows in which order the kernel is written.

mod lanes;
pub(crate) mod maps;
mod newcomers;
pub mod rehearsal;
pub mod sight;
mod survival;
pub mod verdicts;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, RingBuf},
    programs::{SchedClassifier, TestRun, TestRunOptions},
};
use signalbox_api::kernel::{AttachMode, VerdictCount};
use signalbox_enforcer_common::{
    Address, CONTROL_CLOCK, CONTROL_GENERATION, CONTROL_MODE, MODE_STANDARD, MODE_STRICT, STATISTIC_LOST_EVENTS,
    flow::{CountKey, Counts, Flow, FlowKey},
    plain,
    policy::{NodePortKey, PolicyKey, RangeKey, TranslatedKey},
};
use signalbox_policy::{PodRef, tables::Tables};

use crate::{
    adopt::{self, Past},
    config::{Config, Mode},
    discover::View,
    error::Error,
    group::{Entries, GroupContent},
    lanes::Lanes,
    links::{Links, Role},
    names::Names,
    netns::Netns,
    object,
    pins::{Pins, Schema},
    plan::{Missing, Plan, Planner, Writes},
    sys,
};
use maps::{Maps, is_full};

/// Capacity of the map `COUNTS`, as the object has it.
const COUNTS_CAPACITY: u32 = 16_384;

/// TC_ACT_UNSPEC, which hands a packet on to the next program: links and filters do the same with it.
const NEXT: u32 = u32::MAX;

/// What the node itself listens to, so that a pod's packets for it are judged at the pod's interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeAddresses {
    /// All addresses of the node, gateways of its pods among them.
    pub addresses: BTreeSet<IpAddr>,
    /// IP protocol and port that the service proxy translates at all of these addresses: node ports.
    pub translated_ports: BTreeSet<(u8, u16)>,
    /// The same at one of these addresses, where a Service has it: an external one, say.
    pub translated: BTreeSet<(IpAddr, u8, u16)>,
}

/// What one change came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The generation in force.
    pub generation: u32,
    /// What could not be enforced entirely, one sentence each.
    pub problems: Vec<String>,
}

/// How a packet comes to a program that is run on it by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way<'a> {
    /// One of `from_pod`, `to_pod`, `from_uplink`, `to_uplink`.
    pub program: &'a str,
    /// The interface that it stands at. It must exist in the namespace that the calling thread is in.
    pub interface: u32,
    /// The interface that the packet came in by; 0: the node itself sends it.
    pub came_by: u32,
    /// `skb->mark`.
    pub mark: u32,
}

/// What a program did with a packet, run by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Whether it let the packet pass.
    pub passes: bool,
    /// `skb->mark` behind it.
    pub mark: u32,
    /// How long one run took, on average.
    pub took: Duration,
}

/// Programs, maps and links of one node. Everything ends with it, unless it is pinned.
pub struct Datapath {
    ebpf: Ebpf,
    maps: Maps,
    netns: Netns,
    links: Links,
    planner: Planner,
    interfaces: HashMap<PodRef, u32>,
    awaited: BTreeSet<u32>,
    foreign: BTreeSet<u32>,
    node: NodeAddresses,
    masters: HashMap<u32, u32>,
    lanes: Lanes,
    names: Arc<RwLock<Names>>,
    ledger: verdicts::Ledger,
    unsettled: Option<Unsettled>,
    /// Flows must be judged again although no table changes.
    is_stale: bool,
    problems: Vec<String>,
    started: Instant,
    /// Where the coarse clock stood when this process started.
    clock: u32,
    pins: Option<Pins>,
    /// What is pinned, by name, to be pinned again.
    pinned: Vec<(String, OwnedFd)>,
    uplinks: HashSet<u32>,
    /// Groups of a process before that no pod refers to any more.
    orphans: BTreeSet<u32>,
    has_new_room: bool,
    legacy: Option<Legacy>,
}

/// What a change left behind, and the thread that waits until no program of the generation before runs any more: from the
/// flip on, so that the next change need not.
struct Unsettled {
    after: Writes,
    /// `None`: no thread could be started.
    wait: Option<JoinHandle<io::Result<()>>>,
}

/// What a process before left in force, until the first complete tables take its place.
#[derive(Debug)]
struct Legacy {
    /// Groups of unknown content.
    groups: BTreeSet<u32>,
    /// Addresses of local pods, and the interface that each had.
    heirs: HashMap<IpAddr, u32>,
}

impl Datapath {
    /// Loads the programs and attaches them to the uplinks. Everything that is there passes until the first
    /// [`Datapath::apply`].
    ///
    /// # Errors
    ///
    /// When the programs are missing or refused, or when namespace or uplinks do not exist.
    pub fn load(config: &Config) -> Result<Self, Error> {
        Self::load_object(config, object::object().ok_or(Error::ObjectMissing)?)
    }

    /// The same with another object than the one that is built in: of another version, say. Where something is pinned,
    /// it is taken over; see docs/adr/0008.
    ///
    /// # Errors
    ///
    /// As [`Datapath::load`].
    pub fn load_object(config: &Config, object: &[u8]) -> Result<Self, Error> {
        let netns = Netns::open(config.netns.as_deref())?;
        let mut links = Links::new(config.attach);
        let pins = match &config.pins {
            Some(root) => Some(Pins::open(root, Schema::of(object, &config.limits)?)?),
            None => None,
        };
        let mut past = Past::Nothing;
        if let Some(pins) = &pins {
            links.adopt(pins, &netns)?;
            past = adopt::look_back(pins, links.has_foreign(), &links.foreign_maps(&netns))?;
            pins.make_folders()?;
        }
        let mut loader = EbpfLoader::new();
        for (map, limit) in config.limits.all() {
            loader.map_max_entries(map, limit);
        }
        for map in pins.iter().flat_map(Pins::maps) {
            let path = pins.as_ref().map(|pins| pins.map(map)).unwrap_or_default();
            loader.map_pin_path(map, path);
        }
        let mut ebpf = loader.load(object)?;
        for program in Role::PROGRAMS {
            let classifier: &mut SchedClassifier = ebpf
                .program_mut(program)
                .ok_or(Error::Mismatch { kind: "program", name: program })?
                .try_into()
                .map_err(|source| Error::Program { program, source })?;
            classifier.load().map_err(|source| Error::Program { program, source })?;
        }
        let maps = Maps::open(&ebpf)?;
        let pinned = match &pins {
            Some(pins) => pins
                .maps()
                .map(|name| Ok((name.to_owned(), open_pin(&pins.map(name))?)))
                .collect::<Result<_, Error>>()?,
            None => Vec::new(),
        };
        let mut datapath = Self {
            ebpf,
            maps,
            netns,
            links,
            planner: Planner::default(),
            interfaces: HashMap::new(),
            awaited: BTreeSet::new(),
            foreign: BTreeSet::new(),
            node: NodeAddresses::default(),
            masters: HashMap::new(),
            lanes: Lanes::default(),
            names: Arc::default(),
            ledger: verdicts::Ledger::default(),
            unsettled: None,
            is_stale: false,
            problems: Vec::new(),
            started: Instant::now(),
            clock: 0,
            pins,
            pinned,
            uplinks: HashSet::new(),
            orphans: BTreeSet::new(),
            has_new_room: false,
            legacy: None,
        };
        datapath.resume(past)?;
        datapath.set_audit(config.audit)?;
        datapath.tick()?;
        let mode = match config.mode {
            Mode::Standard => MODE_STANDARD,
            Mode::Strict => MODE_STRICT,
        };
        datapath.maps.control.update(&CONTROL_MODE, &mode)?;
        if datapath.foreign.is_empty() {
            let present = View::of(&datapath.netns)?.peers.into_keys().collect();
            datapath.set_foreign(present)?;
        }
        for uplink in &config.uplinks {
            let found = datapath.netns.enter(|| nix::net::if_::if_nametoindex(uplink.as_str()))?;
            let index = found.map_err(|_| Error::NoSuchUplink(uplink.clone()))?;
            datapath.uplinks.insert(index);
            datapath.links.attach(&datapath.ebpf, &datapath.netns, datapath.pins.as_ref(), index, Role::Uplink)?;
        }
        Ok(datapath)
    }

    /// The namespace of the node.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// How the programs are attached; `None` while none is.
    pub fn attach_mode(&self) -> Option<AttachMode> {
        self.links.mode()
    }

    /// The generation in force; 0 before the first [`Datapath::apply`].
    pub fn generation(&self) -> u32 {
        self.planner.generation()
    }

    /// Attaches to the host interface of a pod. Its policies follow with the next [`Datapath::apply`].
    ///
    /// # Errors
    ///
    /// When the interface is gone, or the kernel refuses.
    pub fn bind(&mut self, pod: PodRef, interface: u32) -> Result<(), Error> {
        match self.interfaces.get(&pod) {
            Some(known) if *known == interface => return Ok(()),
            Some(_) => self.unbind(&pod)?,
            None => {}
        }
        let attached = self.links.attach(&self.ebpf, &self.netns, self.pins.as_ref(), interface, Role::Pod);
        if let Err(error) = attached {
            // One program may stand already: nobody else would take it away.
            if !self.awaited.contains(&interface) {
                self.links.detach(&self.netns, self.pins.as_ref(), interface)?;
            }
            return Err(error);
        }
        write(&self.names).set_pod(interface, pod.clone());
        self.interfaces.insert(pod, interface);
        self.number_lanes()
    }

    /// Detaches from a pod that is gone; its tables go with the next [`Datapath::apply`].
    ///
    /// # Errors
    ///
    /// When the node's namespace cannot be entered.
    pub fn unbind(&mut self, pod: &PodRef) -> Result<(), Error> {
        let Some(interface) = self.interfaces.remove(pod) else {
            return Ok(());
        };
        if self.interfaces.values().any(|other| *other == interface) {
            return Ok(());
        }
        write(&self.names).retire_pod(interface);
        self.number_lanes()?;
        self.links.detach(&self.netns, self.pins.as_ref(), interface)
    }

    /// The pods that are attached, and their host interfaces.
    pub fn bound(&self) -> &HashMap<PodRef, u32> {
        &self.interfaces
    }

    /// Makes the kernel's tables equal to these, as one change. Call [`Datapath::settle`] when there is time.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a write for another reason than lack of room; the tables in force stay in force.
    pub fn apply(&mut self, tables: &Tables) -> Result<Applied, Error> {
        self.apply_audited(tables, None)
    }

    /// The same with the tables that the policies in audit are in as well, whose identities are those of `tables`.
    ///
    /// # Errors
    ///
    /// As for [`Datapath::apply`].
    pub fn apply_audited(&mut self, tables: &Tables, audit: Option<&Tables>) -> Result<Applied, Error> {
        let mut plan = self.planner.plan_audited(tables, audit, &self.interfaces);
        let is_new = self.legacy.is_some() || self.is_stale;
        if plan.is_empty() && self.planner.generation() != 0 && !is_new {
            return Ok(Applied { generation: self.planner.generation(), problems: self.problems.clone() });
        }
        // From here on nobody may read the generation before the one in force. The plan is made meanwhile.
        self.settle()?;
        if self.planner.is_distrustful() {
            plan = self.planner.plan_audited(tables, audit, &self.interfaces);
        }
        let before = std::mem::take(&mut self.problems);
        if let Err(error) = self.carry_out(&mut plan) {
            self.problems = before;
            // What was written is of no generation. It goes before anything else is written.
            self.unsettled = Some(Unsettled { after: plan.undo(), wait: None });
            return Err(error);
        }
        self.is_stale = false;
        self.planner.done(&plan);
        let wait = thread::Builder::new().name("settle".to_owned()).spawn(sys::wait_for_readers);
        self.unsettled = Some(Unsettled { after: plan.after, wait: wait.ok() });
        if let Some(legacy) = self.legacy.take() {
            self.orphans = legacy.groups;
            if self.pins.is_some() {
                self.take_over()?;
            }
        }
        Ok(Applied { generation: self.planner.generation(), problems: self.problems.clone() })
    }

    /// Whether [`Datapath::settle`] need not wait.
    pub fn can_settle(&self) -> bool {
        self.unsettled.as_ref().and_then(|unsettled| unsettled.wait.as_ref()).is_none_or(JoinHandle::is_finished)
    }

    /// Clears away what the last change left behind. Waits for the kernel, for milliseconds after the change.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a write.
    pub fn settle(&mut self) -> Result<(), Error> {
        let Some(Unsettled { after, wait }) = self.unsettled.take() else {
            return Ok(());
        };
        let waited = wait.and_then(|wait| wait.join().ok()).is_some_and(|waited| waited.is_ok());
        if let Err(error) = self.clear_away(&after, waited) {
            // It is tried again, before anything else is written.
            self.unsettled = Some(Unsettled { after, wait: None });
            return Err(error);
        }
        self.keep_verdicts()?;
        let orphans = std::mem::take(&mut self.orphans);
        if !orphans.is_empty() {
            adopt::remove_groups(&self.maps, &orphans)?;
            self.has_new_room = !self.problems.is_empty();
        }
        Ok(())
    }

    /// Whether [`Datapath::apply`] should be called again, since what did not fit beside the tables of the process before may
    /// fit now that these are gone. Says so once.
    pub fn takes_new_room(&mut self) -> bool {
        std::mem::take(&mut self.has_new_room)
    }

    /// Tells the kernel what the node itself listens to.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a write.
    pub fn set_node(&mut self, node: NodeAddresses) -> Result<(), Error> {
        let entries = |set: &BTreeSet<IpAddr>, other: &BTreeSet<IpAddr>| -> Vec<(Address, u32)> {
            set.difference(other).map(|address| (Address::from(*address), 1)).collect()
        };
        let ports = |set: &BTreeSet<(u8, u16)>, other: &BTreeSet<(u8, u16)>| -> Vec<(NodePortKey, u32)> {
            set.difference(other).map(|(protocol, port)| (NodePortKey::new(*protocol, *port), 1)).collect()
        };
        let (old, maps) = (&self.node, &self.maps);
        let translated = |set: &BTreeSet<(IpAddr, u8, u16)>, other: &BTreeSet<(IpAddr, u8, u16)>| {
            let key = |row: &(IpAddr, u8, u16)| TranslatedKey::new(Address::from(row.0), row.1, row.2);
            set.difference(other).map(key).collect::<Vec<_>>()
        };
        let new: Vec<_> = translated(&node.translated, &old.translated).into_iter().map(|key| (key, 1_u32)).collect();
        maps.translated.update_all(&new)?;
        maps.node_ports.update_all(&ports(&node.translated_ports, &old.translated_ports))?;
        maps.node_addresses.update_all(&entries(&node.addresses, &old.addresses))?;
        let keys = |rows: Vec<(Address, u32)>| rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        maps.node_addresses.delete_all(&keys(entries(&old.addresses, &node.addresses)))?;
        let gone = ports(&old.translated_ports, &node.translated_ports);
        maps.node_ports.delete_all(&gone.into_iter().map(|(key, _)| key).collect::<Vec<_>>())?;
        maps.translated.delete_all(&translated(&old.translated, &node.translated))?;
        self.node = node;
        Ok(())
    }

    /// Moves the coarse clock. Call it about once a second.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the write.
    pub fn tick(&self) -> Result<(), Error> {
        // It goes on from where it stood: flows do not age while nobody writes it, so that none that is in use is forgotten.
        let now = self.clock.saturating_add(u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX));
        self.maps.control.update(&CONTROL_CLOCK, &now)
    }

    /// Events that the ring buffer had no room for.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the read.
    pub fn lost_events(&self) -> Result<u64, Error> {
        self.maps.statistics.sum(STATISTIC_LOST_EVENTS)
    }

    /// How many flows the kernel knows, those that are cut or forgotten by now among them.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the read.
    pub fn flows(&self) -> Result<usize, Error> {
        Ok(self.maps.flows.entries::<FlowKey, Flow>()?.len())
    }

    /// How many entries the policies have in the kernel, ranges of ports left out.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the read.
    pub fn policy_entries(&self) -> Result<usize, Error> {
        Ok(self.maps.policy.entries::<PolicyKey, signalbox_enforcer_common::policy::Judgement>()?.len())
    }

    /// Reads the kernel's counts, apart from the datapath.
    ///
    /// # Errors
    ///
    /// When no more files can be opened.
    pub fn counts(&self) -> Result<CountsReader, Error> {
        Ok(CountsReader { map: self.maps.counts.try_clone()?, names: Arc::clone(&self.names) })
    }

    /// The events, once.
    ///
    /// # Errors
    ///
    /// When they were taken already.
    pub fn take_events(&mut self) -> Result<(RingBuf<MapData>, Arc<RwLock<Names>>), Error> {
        let map = self.ebpf.take_map("EVENTS").ok_or(Error::Mismatch { kind: "map", name: "EVENTS" })?;
        let ring = RingBuf::try_from(map).map_err(|source| Error::OpenMap { map: "EVENTS", source })?;
        Ok((ring, Arc::clone(&self.names)))
    }

    /// Runs a program on a packet, from its Ethernet header on, without sending it anywhere (`BPF_PROG_TEST_RUN`). Tables,
    /// counts and events change as for any packet.
    ///
    /// # Errors
    ///
    /// When there is no such program or interface, or the kernel refuses the packet.
    pub fn try_packet(&self, packet: &[u8], way: Way<'_>, repeat: u32) -> Result<Trial, Error> {
        let missing = Error::Mismatch { kind: "program", name: "that is to be run" };
        let program: &SchedClassifier = self
            .ebpf
            .program(way.program)
            .ok_or(missing)?
            .try_into()
            .map_err(|source| Error::Program { program: "that is to be run", source })?;
        // `struct __sk_buff` in linux/bpf.h, in words: all that is not set here must be 0.
        let mut context = [0_u32; 48];
        (context[2], context[9], context[10]) = (way.mark, way.came_by, way.interface);
        let mut behind = [0_u32; 48];
        let options = TestRunOptions {
            data_in: Some(packet),
            ctx_in: Some(plain::as_bytes(&context)),
            ctx_out: Some(plain::as_bytes_mut(&mut behind)),
            repeat,
            ..TestRunOptions::default()
        };
        let run = program.test_run(options).map_err(|source| Error::Program { program: "that is run", source })?;
        Ok(Trial { passes: run.return_value == NEXT, mark: behind[2], took: run.duration })
    }

    /// How many instructions the kernel's verifier looked at, by program; it gives up at 1,000,000. Empty where the kernel is
    /// older than 5.16 and does not tell.
    ///
    /// # Errors
    ///
    /// When the kernel tells nothing of its programs.
    pub fn verified_instructions(&self) -> Result<Vec<(&'static str, u32)>, Error> {
        let mut found = Vec::new();
        for program in Role::PROGRAMS {
            let classifier: &SchedClassifier = self
                .ebpf
                .program(program)
                .ok_or(Error::Mismatch { kind: "program", name: program })?
                .try_into()
                .map_err(|source| Error::Program { program, source })?;
            let info = classifier.info().map_err(|source| Error::Program { program, source })?;
            found.extend(info.verified_instruction_count().map(|count| (program, count)));
        }
        Ok(found)
    }

    /// Detaches everything, also what is pinned.
    ///
    /// # Errors
    ///
    /// When the node's namespace cannot be entered.
    pub fn detach(&mut self) -> Result<(), Error> {
        self.links.keep_only(&self.netns, self.pins.as_ref(), &HashSet::new())
    }

    /// Writes all that the coming generation needs, and makes it the one in force.
    fn carry_out(&mut self, plan: &mut Plan) -> Result<(), Error> {
        self.write_groups(plan)?;
        self.write_before(plan)?;
        self.report_unfit(plan);
        write(&self.names).set_groups(&plan.names);
        self.flip(plan.generation)
    }

    fn write_groups(&mut self, plan: &mut Plan) -> Result<(), Error> {
        match self.write_entries(&plan.groups) {
            Err(error) if is_full(&error) => {}
            other => return other,
        }
        // One group after the other: those that fit are enforced. None of these entries was there before.
        self.remove_entries(&plan.groups)?;
        let mut unfit = Vec::new();
        for (group, entries) in plan.groups.by_group() {
            match self.write_entries(&entries) {
                Err(error) if is_full(&error) => {
                    self.remove_entries(&entries)?;
                    unfit.push(group);
                }
                other => other?,
            }
        }
        plan.mark_unfit(unfit);
        Ok(())
    }

    fn write_entries(&self, entries: &Entries) -> Result<(), Error> {
        self.maps.policy.update_all(&entries.policy)?;
        self.maps.ranges.update_all(&entries.ranges)
    }

    fn remove_entries(&self, entries: &Entries) -> Result<(), Error> {
        let keys: Vec<PolicyKey> = entries.policy.iter().map(|(key, _)| *key).collect();
        self.maps.policy.delete_all(&keys)?;
        let keys: Vec<RangeKey> = entries.ranges.iter().map(|(key, _)| *key).collect();
        self.maps.ranges.delete_all(&keys)
    }

    /// Makes both versions equal, and removes what is gone. Whoever has `waited` knows that nobody reads what goes.
    fn clear_away(&mut self, after: &Writes, waited: bool) -> Result<(), Error> {
        if !waited {
            sys::wait_for_readers().map_err(|source| Error::Io { what: "membarrier(2)", source })?;
        }
        let maps = &self.maps;
        maps.addresses.delete_all(&after.gone_addresses)?;
        maps.blocks.delete_all(&after.gone_blocks)?;
        maps.pods.delete_all(&after.gone_pods)?;
        maps.audits.delete_all(&after.gone_audits)?;
        maps.policy.delete_all(&after.gone_policy)?;
        maps.ranges.delete_all(&after.gone_ranges)?;
        // All of these are in the maps already: there is room for them, unless a map needs some to replace an entry.
        let uneven = Missing {
            addresses: maps.addresses.update_fitting(&after.addresses)?,
            blocks: maps.blocks.update_fitting(&after.blocks)?,
            audits: maps.audits.update_fitting(&after.audits)?,
            pods: maps.pods.update_fitting(&after.pods)?,
        };
        if uneven != Missing::default() {
            self.problems.push("the kernel's tables have no room to replace an entry: raise their limits".to_owned());
        }
        self.planner.distrust(uneven);
        Ok(())
    }

    fn write_before(&mut self, plan: &mut Plan) -> Result<(), Error> {
        let mut missing = Missing {
            addresses: self.maps.addresses.update_fitting(&plan.before.addresses)?,
            blocks: self.maps.blocks.update_fitting(&plan.before.blocks)?,
            ..Missing::default()
        };
        let doubtful = |is_doubtful: fn(&GroupContent) -> bool| -> Vec<u32> {
            plan.names.iter().filter(|(_, content)| is_doubtful(content)).map(|(number, _)| *number).collect()
        };
        let mut unfit = Vec::new();
        if !missing.addresses.is_empty() {
            // An address that is missing is judged by its blocks. These allow no more than the rules say of them; but whom a
            // rule denies by labels would be nobody that it knows.
            unfit.extend(doubtful(GroupContent::denies_peers));
        }
        if !missing.blocks.is_empty() {
            // A block that is missing may be an exception of another: no rule with a peer can be trusted.
            unfit.extend(doubtful(GroupContent::names_peers));
        }
        plan.mark_unfit(unfit);
        missing.audits = self.maps.audits.update_fitting(&plan.before.audits)?;
        if !missing.audits.is_empty() {
            self.problems
                .push("the kernel's table of pods in audit is full: what they would deny is not told".to_owned());
        }
        missing.pods = self.maps.pods.update_fitting(&plan.before.pods)?;
        for (interface, value) in plan.before.pods.iter().filter(|(interface, _)| plan.knew(*interface)) {
            if missing.pods.contains(interface) {
                // One that the kernel has would be judged by what it was before, and that goes.
                self.maps.pods.update(interface, value)?;
            }
        }
        missing.pods.retain(|interface| !plan.knew(*interface));
        let mut roomless: Vec<_> = self
            .interfaces
            .iter()
            .filter(|(_, interface)| missing.pods.contains(interface))
            .map(|(pod, _)| pod)
            .collect();
        roomless.sort();
        // The kernel takes such a pod for one that nobody knows yet.
        self.problems.extend(roomless.into_iter().map(|pod| {
            format!(
                "{}/{}: the kernel's table of pods of this node is full, so that no policy is enforced on it (it is open; shut in strict mode): \
                 raise --pods",
                pod.namespace, pod.name
            )
        }));
        for (what, is_full) in [
            ("addresses of pods", !missing.addresses.is_empty()),
            ("address blocks of rules", !missing.blocks.is_empty()),
        ] {
            if is_full {
                self.problems.push(format!("the kernel's table of {what} is full: raise its limit"));
            }
        }
        plan.mark_missing(&missing);
        Ok(())
    }

    fn report_unfit(&mut self, plan: &Plan) {
        let unfit: Vec<u32> = plan.unfit_interfaces().collect();
        let mut pods: Vec<_> = self.interfaces.iter().filter(|(_, interface)| unfit.contains(interface)).collect();
        pods.sort();
        for (pod, _) in pods {
            self.problems.push(format!(
                "{}/{}: its policies do not fit into the kernel's tables, so it denies all that they judge: raise the limit",
                pod.namespace, pod.name
            ));
        }
    }

    fn flip(&self, generation: u32) -> Result<(), Error> {
        self.maps.control.update(&CONTROL_GENERATION, &generation)
    }
}

/// Reads the kernel's counts.
#[derive(Clone)]
pub struct CountsReader {
    map: Arc<OwnedFd>,
    names: Arc<RwLock<Names>>,
}

impl CountsReader {
    /// The counts in words.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the read.
    pub fn read(&self) -> Result<Vec<VerdictCount>, Error> {
        let rows = sys::entries::<CountKey, Counts>(self.map.as_fd(), COUNTS_CAPACITY)
            .map_err(|source| Error::Map { map: "COUNTS", source })?;
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        Ok(rows.iter().map(|(key, counts)| names.count(key, counts)).collect())
    }
}

fn open_pin(path: &Path) -> Result<OwnedFd, Error> {
    sys::open_pin(path).map_err(|source| Error::Pin { path: path.to_owned(), source })
}

fn write(names: &RwLock<Names>) -> std::sync::RwLockWriteGuard<'_, Names> {
    // Names are replaced in single steps: a panic elsewhere leaves them usable.
    names.write().unwrap_or_else(PoisonError::into_inner)
}
