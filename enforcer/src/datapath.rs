//! The kernel's side: programs, maps, links. Knows no Kubernetes. Longer than a file should be: the maps at its end are written
//! by nobody else, and their writes must be read beside the order in which they happen.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData, RingBuf},
    programs::{SchedClassifier, TestRun, TestRunOptions},
    util::nr_cpus,
};
use signalbox_api::kernel::{AttachMode, VerdictCount};
use signalbox_enforcer_common::{
    Address, CONTROL_CLOCK, CONTROL_GENERATION, STATISTIC_LOST_EVENTS,
    flow::{CountKey, Counts, Flow, FlowKey},
    plain,
    policy::{NodePortKey, PolicyKey},
};
use signalbox_policy::{PodRef, tables::Tables};

use crate::{
    adopt::{self, Past},
    config::Config,
    error::Error,
    group::GroupContent,
    links::{Links, Role},
    names::Names,
    netns::Netns,
    object,
    pins::{Pins, Schema},
    plan::{Image, Missing, Plan, Planner, Writes},
    sys,
};

/// Capacity of the map `COUNTS`, as the object has it.
const COUNTS_CAPACITY: u32 = 16_384;

/// What the node itself listens to, so that a pod's packets for it are judged at the pod's interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeAddresses {
    /// Addresses of the node that no Service translates.
    pub addresses: BTreeSet<IpAddr>,
    /// IP protocol and port that the service proxy translates at these addresses: node ports.
    pub translated_ports: BTreeSet<(u8, u16)>,
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
    node: NodeAddresses,
    names: Arc<RwLock<Names>>,
    unsettled: Option<Unsettled>,
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
    /// Loads the programs and attaches them to the uplinks. Everything passes until the first [`Datapath::apply`].
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
            node: NodeAddresses::default(),
            names: Arc::default(),
            unsettled: None,
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
        datapath.tick()?;
        for uplink in &config.uplinks {
            let found = datapath.netns.enter(|| nix::net::if_::if_nametoindex(uplink.as_str()))?;
            let index = found.map_err(|_| Error::NoSuchUplink(uplink.clone()))?;
            datapath.uplinks.insert(index);
            datapath.links.attach(&datapath.ebpf, &datapath.netns, datapath.pins.as_ref(), index, Role::Uplink)?;
        }
        Ok(datapath)
    }

    /// Goes on where the process before stopped.
    fn resume(&mut self, past: Past) -> Result<(), Error> {
        match past {
            Past::Nothing => {}
            Past::Own(clock) => {
                self.clock = clock.now;
                let found = adopt::read(&self.maps, clock.generation, &self.links.pods())?;
                self.legacy = Some(Legacy { groups: found.groups.clone(), heirs: found.heirs() });
                let last_group = found.last_group();
                self.planner = Planner::resume(clock.generation, found.image, last_group);
                self.node = found.node;
                // The programs read the same maps as before: they may be newer, and need not wait.
                self.links.replace_foreign(&self.ebpf, &self.netns)?;
                tracing::info!(generation = clock.generation, "the tables of the process before stay in force");
            }
            Past::Other(clock) => {
                self.clock = clock.now;
                self.legacy = Some(Legacy { groups: BTreeSet::new(), heirs: HashMap::new() });
                // A generation that no flow was judged by.
                self.planner = Planner::resume(clock.generation, Image::default(), 0);
                tracing::info!(
                    generation = clock.generation,
                    "the tables of another version stay in force until these are complete"
                );
            }
        }
        Ok(())
    }

    /// Whether tables of a process before are in force still: the next [`Datapath::apply`] replaces them, so all pods that
    /// are here should be bound by then.
    pub fn is_adopted(&self) -> bool {
        self.legacy.is_some()
    }

    /// The interface at which a pod with this address stood when the process before ended, if that is attached still: it
    /// is the same interface, not another with its number.
    pub fn heir(&self, address: &IpAddr) -> Option<u32> {
        self.legacy.as_ref()?.heirs.get(address).copied()
    }

    /// Puts back what somebody else has removed: programs, links, qdiscs, pins. One sentence on each. Costs a system call
    /// for each program, or two messages for each interface where they are filters.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn mend(&mut self) -> Result<Vec<String>, Error> {
        let mut mended = self.links.mend(&self.ebpf, &self.netns, self.pins.as_ref())?;
        if let Some(pins) = &self.pins {
            for name in pins.missing_maps() {
                let Some((_, map)) = self.pinned.iter().find(|(known, _)| known == name) else { continue };
                pins.make_folders()?;
                let path = pins.map(name);
                sys::pin(map.as_fd(), &path).map_err(|source| Error::Pin { path, source })?;
                mended.push(format!("the pin of the map {name} had been removed"));
            }
            if self.legacy.is_none() && self.links.has_foreign() {
                self.take_over()?;
            }
        }
        Ok(mended)
    }

    /// The first complete tables are in force in the own maps: puts the programs that read them in the place of others.
    fn take_over(&mut self) -> Result<(), Error> {
        self.links.replace_foreign(&self.ebpf, &self.netns)?;
        let mut kept: HashSet<u32> = self.interfaces.values().copied().collect();
        kept.extend(&self.uplinks);
        self.links.keep_only(&self.netns, self.pins.as_ref(), &kept)?;
        if let Some(pins) = &self.pins {
            for path in pins.forget_others()? {
                tracing::info!(path = %path.display(), "pins of another version removed");
            }
        }
        Ok(())
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
        self.links.attach(&self.ebpf, &self.netns, self.pins.as_ref(), interface, Role::Pod)?;
        write(&self.names).set_pod(interface, pod.clone());
        self.interfaces.insert(pod, interface);
        Ok(())
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
        write(&self.names).retire_pod(interface);
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
        self.settle()?;
        let mut plan = self.planner.plan(tables, &self.interfaces);
        if plan.is_empty() && self.planner.generation() != 0 && self.legacy.is_none() {
            return Ok(Applied { generation: self.planner.generation(), problems: self.problems.clone() });
        }
        self.problems.clear();
        self.write_groups(&mut plan)?;
        self.write_before(&mut plan)?;
        self.report_unfit(&plan);
        write(&self.names).set_groups(&plan.names);
        self.flip(plan.generation)?;
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
        if !waited {
            sys::wait_for_readers().map_err(|source| Error::Io { what: "membarrier(2)", source })?;
        }
        let maps = &self.maps;
        // All of these are in the maps already: there is room for them, unless a map needs some to replace an entry.
        let blocks = maps.blocks.update_fitting(&after.blocks)?;
        maps.addresses.update_fitting(&after.addresses)?;
        maps.pods.update_fitting(&after.pods)?;
        if !blocks.is_empty() {
            self.problems.push("the kernel's table of address blocks of rules is full: raise its limit".to_owned());
        }
        maps.addresses.delete_all(&after.gone_addresses)?;
        maps.blocks.delete_all(&after.gone_blocks)?;
        maps.pods.delete_all(&after.gone_pods)?;
        for (group, content) in &after.gone_groups {
            self.remove_group(*group, content)?;
        }
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
        maps.node_ports.update_all(&ports(&node.translated_ports, &old.translated_ports))?;
        maps.node_addresses.update_all(&entries(&node.addresses, &old.addresses))?;
        let keys = |rows: Vec<(Address, u32)>| rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        maps.node_addresses.delete_all(&keys(entries(&old.addresses, &node.addresses)))?;
        let gone = ports(&old.translated_ports, &node.translated_ports);
        maps.node_ports.delete_all(&gone.into_iter().map(|(key, _)| key).collect::<Vec<_>>())?;
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
        // TC_ACT_UNSPEC, which hands the packet on to the next program: links and filters do the same with it.
        const NEXT: u32 = u32::MAX;
        Ok(Trial { passes: run.return_value == NEXT, mark: behind[2], took: run.duration })
    }

    /// Detaches everything, also what is pinned.
    ///
    /// # Errors
    ///
    /// When the node's namespace cannot be entered.
    pub fn detach(&mut self) -> Result<(), Error> {
        self.links.keep_only(&self.netns, self.pins.as_ref(), &HashSet::new())
    }

    /// Whether it outlives the process.
    pub fn is_pinned(&self) -> bool {
        self.pins.is_some()
    }

    fn write_groups(&mut self, plan: &mut Plan) -> Result<(), Error> {
        for (group, content) in plan.groups.clone() {
            let written = self
                .maps
                .policy
                .update_all(&content.policy_entries(group))
                .and_then(|()| self.maps.ranges.update_all(&content.range_entries(group)));
            match written {
                Ok(()) => {}
                Err(error) if is_full(&error) => {
                    self.remove_group(group, &content)?;
                    plan.mark_unfit(group);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_before(&mut self, plan: &mut Plan) -> Result<(), Error> {
        let mut missing = Missing {
            addresses: self.maps.addresses.update_fitting(&plan.before.addresses)?,
            blocks: self.maps.blocks.update_fitting(&plan.before.blocks)?,
            pods: Vec::new(),
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
        unfit.into_iter().for_each(|group| plan.mark_unfit(group));
        missing.pods = self.maps.pods.update_fitting(&plan.before.pods)?;
        for (what, is_full) in [
            ("addresses of pods", !missing.addresses.is_empty()),
            ("address blocks of rules", !missing.blocks.is_empty()),
            ("pods of this node", !missing.pods.is_empty()),
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

    fn remove_group(&self, group: u32, content: &GroupContent) -> Result<(), Error> {
        let keys: Vec<PolicyKey> = content.policy_entries(group).into_iter().map(|(key, _)| key).collect();
        self.maps.policy.delete_all(&keys)?;
        let keys: Vec<_> = content.range_entries(group).into_iter().map(|(key, _)| key).collect();
        self.maps.ranges.delete_all(&keys)
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
        Ok(rows.iter().filter_map(|(key, counts)| names.count(key, counts)).collect())
    }
}

/// A map that is written from here.
pub struct Table {
    name: &'static str,
    fd: OwnedFd,
    capacity: u32,
}

impl Table {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn error(&self, source: io::Error) -> Error {
        Error::Map { map: self.name, source }
    }

    fn update<K: signalbox_enforcer_common::Plain, V: signalbox_enforcer_common::Plain>(
        &self,
        key: &K,
        value: &V,
    ) -> Result<(), Error> {
        sys::update(self.fd(), key, value).map_err(|source| self.error(source))
    }

    /// All entries.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the read.
    pub fn entries<K: signalbox_enforcer_common::Plain, V: signalbox_enforcer_common::Plain>(
        &self,
    ) -> Result<Vec<(K, V)>, Error> {
        sys::entries(self.fd(), self.capacity).map_err(|source| self.error(source))
    }

    /// Writes many entries.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a write.
    pub fn update_all<K: signalbox_enforcer_common::Plain, V: signalbox_enforcer_common::Plain>(
        &self,
        entries: &[(K, V)],
    ) -> Result<(), Error> {
        sys::update_all(self.fd(), entries).map_err(|source| self.error(source))
    }

    /// Writes what there is room for; the keys for which there is none.
    fn update_fitting<K: signalbox_enforcer_common::Plain, V: signalbox_enforcer_common::Plain>(
        &self,
        entries: &[(K, V)],
    ) -> Result<Vec<K>, Error> {
        match self.update_all(entries) {
            Ok(()) => return Ok(Vec::new()),
            Err(error) if is_full(&error) => {}
            Err(error) => return Err(error),
        }
        // A batch ends at the first entry without room: what comes behind it may be there already, and must be written.
        let mut missing = Vec::new();
        for (key, value) in entries {
            match self.update(key, value) {
                Ok(()) => {}
                Err(error) if is_full(&error) => missing.push(*key),
                Err(error) => return Err(error),
            }
        }
        Ok(missing)
    }

    /// Removes many entries; those that are not there are no error.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a write.
    pub fn delete_all<K: signalbox_enforcer_common::Plain>(&self, keys: &[K]) -> Result<(), Error> {
        sys::delete_all(self.fd(), keys).map_err(|source| self.error(source))
    }

    fn sum(&self, cell: u32) -> Result<u64, Error> {
        let cpus = nr_cpus().map_err(|(what, source)| Error::Io { what, source })?;
        let mut values = vec![0_u64; cpus];
        sys::lookup(self.fd(), &cell, &mut values).map_err(|source| self.error(source))?;
        Ok(values.iter().sum())
    }

    fn try_clone(&self) -> Result<Arc<OwnedFd>, Error> {
        let fd = self.fd.try_clone().map_err(|source| self.error(source))?;
        Ok(Arc::new(fd))
    }
}

/// The maps that are written from here.
pub struct Maps {
    control: Table,
    /// `PODS`.
    pub pods: Table,
    /// `ADDRESSES`.
    pub addresses: Table,
    /// `BLOCKS`.
    pub blocks: Table,
    /// `POLICY`.
    pub policy: Table,
    /// `RANGES`.
    pub ranges: Table,
    /// `NODE_ADDRESSES`.
    pub node_addresses: Table,
    /// `NODE_PORTS`.
    pub node_ports: Table,
    flows: Table,
    statistics: Table,
    counts: Table,
}

impl Maps {
    fn open(ebpf: &Ebpf) -> Result<Self, Error> {
        use signalbox_enforcer_common::policy::{AddressValue, BlockKey, BlockValue, Judgement, PodValue, RangeKey};
        Ok(Self {
            control: open::<u32, u32>(ebpf, "CONTROL")?,
            pods: open::<u32, PodValue>(ebpf, "PODS")?,
            addresses: open::<Address, AddressValue>(ebpf, "ADDRESSES")?,
            blocks: open::<BlockKey, BlockValue>(ebpf, "BLOCKS")?,
            policy: open::<PolicyKey, Judgement>(ebpf, "POLICY")?,
            ranges: open::<RangeKey, Judgement>(ebpf, "RANGES")?,
            node_addresses: open::<Address, u32>(ebpf, "NODE_ADDRESSES")?,
            node_ports: open::<NodePortKey, u32>(ebpf, "NODE_PORTS")?,
            flows: open::<FlowKey, Flow>(ebpf, "FLOWS")?,
            statistics: open::<u32, u64>(ebpf, "STATISTICS")?,
            counts: open::<CountKey, Counts>(ebpf, "COUNTS")?,
        })
    }
}

/// Opens a map, and checks that its keys and values are as large as ours.
fn open<K, V>(ebpf: &Ebpf, name: &'static str) -> Result<Table, Error> {
    let mismatch = Error::Mismatch { kind: "map", name };
    let data = match ebpf.map(name) {
        Some(
            Map::Array(data) | Map::PerCpuArray(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::LpmTrie(data),
        ) => data,
        Some(_) | None => return Err(mismatch),
    };
    let open_error = |source| Error::OpenMap { map: name, source };
    let info = data.info().map_err(open_error)?;
    if info.key_size() as usize != size_of::<K>() || info.value_size() as usize != size_of::<V>() {
        return Err(mismatch);
    }
    let fd = data.fd().as_fd().try_clone_to_owned().map_err(|source| Error::Map { map: name, source })?;
    Ok(Table { name, fd, capacity: info.max_entries() })
}

fn open_pin(path: &Path) -> Result<OwnedFd, Error> {
    sys::open_pin(path).map_err(|source| Error::Pin { path: path.to_owned(), source })
}

/// No room: E2BIG for hash maps, ENOSPC for tries.
fn is_full(error: &Error) -> bool {
    let Error::Map { source, .. } = error else {
        return false;
    };
    matches!(source.raw_os_error(), Some(libc::E2BIG | libc::ENOSPC | libc::ENOMEM))
}

fn write(names: &RwLock<Names>) -> std::sync::RwLockWriteGuard<'_, Names> {
    // Names are replaced in single steps: a panic elsewhere leaves them usable.
    names.write().unwrap_or_else(PoisonError::into_inner)
}
