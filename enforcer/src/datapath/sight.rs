//! Reads the kernel's tables, apart from the datapath: whoever reads keeps no change of policy waiting.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use aya::{maps::Map, util::nr_cpus};
use ipnet::IpNet;
use signalbox_api::{
    flow::Protocol,
    node::{
        Action, AuditReport, DecisionReport, EntryReport, FlowState, Gate, LiveFlow, MapFill, NodeEvent, PodReport,
        Rest, SideReport,
    },
};
use signalbox_enforcer_common::{
    Address, CONTROL_AUDIT, CONTROL_CLOCK, CONTROL_GENERATION, Plain, STATISTIC_CELLS, STATISTIC_FLOW_INSERT_FAILED,
    STATISTIC_LOST_EVENTS, STATISTIC_SUPPRESSED_EVENTS, STATISTIC_UNCOUNTED,
    flow::{Event, Flow, FlowKey},
    policy::{
        AddressValue, AuditValue, BlockKey, BlockValue, Judgement, NO_IDENTITY, PodState, PodValue, PolicyKey,
        RangeKey, Side,
    },
};
use signalbox_policy::{PodRef, PolicyRef, tables};

use super::{Datapath, verdicts::Ledger};
use crate::{
    error::Error,
    group::{Decided, GroupContent, SideContent},
    names::{Names, policy_ref, rule_ref, told::protocol_name},
    sys::{self, count::Layout},
};

/// How many addresses and blocks of a peer are named.
const PEERS_NAMED: usize = 4;

/// Reads the kernel's tables. Cheap to clone.
#[derive(Clone)]
pub struct Sight {
    maps: Arc<HashMap<String, Seen>>,
    names: Arc<RwLock<Names>>,
    pub(super) ledger: Ledger,
}

/// A map that is read.
pub(super) struct Seen {
    pub(super) fd: OwnedFd,
    pub(super) layout: Layout,
    /// Arrays are always full.
    is_filled: bool,
}

/// What the kernel counts of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Verdicts that found no room in the table of verdicts.
    pub uncounted: u64,
    /// Events that the ring buffer had no room for.
    pub lost: u64,
    /// Events left out by the limit per flow.
    pub suppressed: u64,
    /// Flows that found no room in the table of flows.
    pub unremembered: u64,
}

impl Datapath {
    /// Reads the tables, apart from this.
    ///
    /// # Errors
    ///
    /// When no more files can be opened.
    pub fn sight(&self) -> Result<Sight, Error> {
        let cpus = nr_cpus().map_err(|(what, source)| Error::Io { what, source })?;
        let mut maps = HashMap::new();
        for (name, map) in self.ebpf.maps() {
            let (data, is_filled, copies) = match map {
                Map::HashMap(data) | Map::LruHashMap(data) | Map::LpmTrie(data) => (data, false, 1),
                Map::PerCpuHashMap(data) | Map::PerCpuLruHashMap(data) => (data, false, cpus),
                Map::Array(data) => (data, true, 1),
                Map::PerCpuArray(data) => (data, true, cpus),
                _ => continue,
            };
            let error = |source| Error::Io { what: "cannot look at a map", source };
            let info = data.info().map_err(|source| Error::OpenMap { map: "that is looked at", source })?;
            let layout = Layout {
                key: info.key_size(),
                value: info.value_size(),
                capacity: info.max_entries(),
                copies: u32::try_from(copies).unwrap_or(u32::MAX),
            };
            let fd = data.fd().as_fd().try_clone_to_owned().map_err(error)?;
            maps.insert(name.to_owned(), Seen { fd, layout, is_filled });
        }
        Ok(Sight { maps: Arc::new(maps), names: Arc::clone(&self.names), ledger: self.ledger.clone() })
    }

    /// Whether what goes there is for the node itself, and no Service translates it.
    pub fn is_node(&self, address: IpAddr, protocol: u8, port: u16) -> bool {
        self.node.addresses.contains(&address)
            && !self.node.translated_ports.contains(&(protocol, port))
            && !self.node.translated.contains(&(address, protocol, port))
    }

    /// An uplink: the first, where there are several.
    pub fn uplink(&self) -> Option<u32> {
        self.uplinks.iter().copied().min()
    }

    /// Lets everything pass and only reports, or enforces again. Flows that were let pass are judged again from the next
    /// [`Datapath::apply`] on, also where it changes no table.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn set_audit(&mut self, audit: bool) -> Result<(), Error> {
        let (mut known, wanted) = ([0_u32], u32::from(audit));
        let control = &self.maps.control;
        sys::lookup(control.fd(), &CONTROL_AUDIT, &mut known).map_err(|source| control.error(source))?;
        if known[0] != wanted {
            control.update(&CONTROL_AUDIT, &wanted)?;
            self.is_stale = true;
        }
        Ok(())
    }

    /// Pods whose policies did not fit into the kernel's tables, and these policies.
    pub fn unfit(&self) -> Vec<(PodRef, Vec<PolicyRef>)> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let pod_at = |interface| self.interfaces.iter().find(|(_, at)| **at == interface).map(|(pod, _)| pod.clone());
        let policies = |group| names.group(group).map(|content| content.policies()).unwrap_or_default();
        let unfit = self.planner.unfit();
        unfit.filter_map(|(interface, group)| Some((pod_at(interface)?, policies(group)))).collect()
    }

    /// An event in words.
    pub fn told(&self, node: &str, event: &Event) -> NodeEvent {
        self.names.read().unwrap_or_else(PoisonError::into_inner).told(node, event)
    }
}

impl Sight {
    /// How full the tables are, by name.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a read.
    pub fn fill(&self) -> Result<Vec<MapFill>, Error> {
        let mut rows = Vec::new();
        for (name, map) in self.maps.iter().filter(|(_, map)| !map.is_filled) {
            let entries = sys::count::count(map.fd.as_fd(), map.layout)
                .map_err(|source| Error::Io { what: "cannot count the entries of a map", source })?;
            rows.push(MapFill { name: name.clone(), entries, capacity: map.layout.capacity.into() });
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(rows)
    }

    /// What the kernel counts of itself.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a read.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        let map = self.map("STATISTICS")?;
        let sum = |cell: u32| -> Result<u64, Error> {
            let mut values = vec![0_u64; map.layout.copies as usize];
            let read = sys::lookup(map.fd.as_fd(), &cell, &mut values);
            read.map_err(|source| Error::Map { map: "STATISTICS", source })?;
            Ok(values.iter().sum())
        };
        // A cell that the object does not have would be refused.
        const _: () = assert!(STATISTIC_FLOW_INSERT_FAILED < STATISTIC_CELLS);
        Ok(Statistics {
            lost: sum(STATISTIC_LOST_EVENTS)?,
            suppressed: sum(STATISTIC_SUPPRESSED_EVENTS)?,
            unremembered: sum(STATISTIC_FLOW_INSERT_FAILED)?,
            uncounted: sum(STATISTIC_UNCOUNTED)?,
        })
    }

    /// The generation in force.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the read.
    pub fn generation(&self) -> Result<u32, Error> {
        self.cell(CONTROL_GENERATION)
    }

    /// The flows in the kernel's table, the least idle first.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a read.
    pub fn flows(&self) -> Result<Vec<LiveFlow>, Error> {
        let (generation, now) = (self.cell(CONTROL_GENERATION)?, self.cell(CONTROL_CLOCK)?);
        let groups: HashMap<u32, u32> = self
            .entries::<u32, PodValue>("PODS")?
            .into_iter()
            .map(|(interface, value)| (interface, value.state(generation).group()))
            .collect();
        let rows = self.entries::<FlowKey, Flow>("FLOWS")?;
        let names = self.names();
        let mut flows: Vec<LiveFlow> =
            rows.iter().map(|(key, flow)| live_flow(key, flow, (generation, now), &groups, &names)).collect();
        flows.sort_by_key(|flow| (flow.idle_s, flow.source, flow.destination));
        Ok(flows)
    }

    /// What the kernel does with what no rule decides, by the interface of the pod.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a read.
    pub fn gates(&self) -> Result<HashMap<u32, Gate>, Error> {
        let generation = self.generation()?;
        let names = self.names();
        let gate = |state: &PodState| {
            let content = names.group(state.group()).map(|content| &**content);
            Gate {
                ingress: rest(state, Side::Ingress, content),
                egress: rest(state, Side::Egress, content),
                unfit: state.has(PodState::UNFIT),
            }
        };
        let pods = self.entries::<u32, PodValue>("PODS")?;
        let known = pods.iter().map(|(interface, value)| (*interface, *value.state(generation)));
        Ok(known.filter(|(_, state)| state.has(PodState::PRESENT)).map(|(at, state)| (at, gate(&state))).collect())
    }

    /// What the kernel has for the pod behind an interface; `None`: nothing. Of each decision it lists `most` entries.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a read.
    pub fn policy(&self, interface: u32, most: usize) -> Result<Option<PodReport>, Error> {
        let generation = self.generation()?;
        let pods = self.entries::<u32, PodValue>("PODS")?;
        let Some(state) = pods.iter().find(|(at, _)| *at == interface).map(|(_, value)| *value.state(generation))
        else {
            return Ok(None);
        };
        if !state.has(PodState::PRESENT) {
            return Ok(None);
        }
        let peers = self.peers(generation)?;
        let side = |side| self.side(&state, state.group(), side, &peers, most);
        let (ingress, egress) = (side(Side::Ingress)?, side(Side::Egress)?);
        let audited = self.entries::<u32, AuditValue>("AUDITS")?.into_iter().find(|(at, _)| *at == interface);
        let audit = match audited.filter(|_| state.has(PodState::AUDITED)) {
            None => None,
            Some((_, value)) => {
                let (group, state) = (value.group(generation), state.with_flags(value.flags(generation)));
                let side = |side| self.side(&state, group, side, &peers, most);
                Some(AuditReport { group, ingress: side(Side::Ingress)?, egress: side(Side::Egress)? })
            }
        };
        let (v4, v6) = state.addresses();
        let addresses = [v4, v6].into_iter().filter(|address| *address != Address::UNSPECIFIED);
        Ok(Some(PodReport {
            pod: self.names().pod_at(interface).unwrap_or_default(),
            interface,
            addresses: addresses.map(IpAddr::from).collect(),
            generation,
            group: state.group(),
            unfit: state.has(PodState::UNFIT),
            ingress,
            egress,
            audit,
        }))
    }

    fn side(
        &self,
        state: &PodState,
        group: u32,
        side: Side,
        peers: &HashMap<u32, Vec<IpNet>>,
        most: usize,
    ) -> Result<SideReport, Error> {
        let named = |identity: Option<u32>| match identity {
            None => (vec!["any".to_owned()], 1),
            Some(0) => (vec!["addresses that no rule names".to_owned()], 1),
            Some(1) => (vec!["node".to_owned()], 1),
            Some(identity) => {
                let blocks = peers.get(&identity).map(Vec::as_slice).unwrap_or_default();
                (blocks.iter().take(PEERS_NAMED).map(short).collect(), blocks.len() as u64)
            }
        };
        let mut entries: HashMap<u32, Vec<EntryReport>> = HashMap::new();
        let mut denies: HashMap<u32, bool> = HashMap::new();
        let mut add = |judgement: Judgement, identity, protocol: Option<u8>, ports| {
            let (peers, peer_count) = named(identity);
            let protocol = protocol.and_then(api_protocol);
            denies.insert(judgement.decision(), judgement.denies());
            entries.entry(judgement.decision()).or_default().push(EntryReport { peers, peer_count, protocol, ports });
        };
        for (key, judgement) in self.entries::<PolicyKey, Judgement>("POLICY")? {
            if key.group() == group && key.side() == side as u8 {
                add(judgement, key.identity(), key.protocol(), key.port().map(|port| (port, port)));
            }
        }
        for (key, judgement) in self.entries::<RangeKey, Judgement>("RANGES")? {
            if key.group() == group && key.side() == side as u8 {
                add(judgement, key.identity(), Some(key.protocol()), Some(key.ports()));
            }
        }
        let names = self.names();
        let content = names.group(group).map(|content| content.side(side));
        let mut decisions: Vec<DecisionReport> = entries
            .into_iter()
            .map(|(index, mut entries)| {
                entries.sort_by(|a, b| (&a.peers, a.protocol, a.ports).cmp(&(&b.peers, b.protocol, b.ports)));
                let entry_count = entries.len() as u64;
                entries.truncate(most);
                let decided = content.and_then(|content| content.decisions.get(index as usize));
                let (action, rule) = action(decided, denies[&index]);
                DecisionReport { index, action, rule, entries, entry_count }
            })
            .collect();
        decisions.sort_by_key(|decision| decision.index);
        Ok(SideReport {
            isolated_by: content.map(|it| it.isolated_by.iter().map(policy_ref).collect()).unwrap_or_default(),
            decisions,
            rest: rest(state, side, names.group(group).map(|content| &**content)),
        })
    }

    /// Whom identities stand for.
    fn peers(&self, generation: u32) -> Result<HashMap<u32, Vec<IpNet>>, Error> {
        let mut peers: HashMap<u32, Vec<IpNet>> = HashMap::new();
        for (address, value) in self.entries::<Address, AddressValue>("ADDRESSES")? {
            if value.identity(generation) != NO_IDENTITY {
                peers.entry(value.identity(generation)).or_default().push(IpNet::from(IpAddr::from(address)));
            }
        }
        for (key, value) in self.entries::<BlockKey, BlockValue>("BLOCKS")? {
            let address = IpAddr::from(key.address());
            let length = if address.is_ipv4() { key.prefix_length().saturating_sub(96) } else { key.prefix_length() };
            let block = u8::try_from(length).ok().and_then(|length| IpNet::new(address, length).ok());
            peers.entry(value.identity(generation)).or_default().extend(block);
        }
        for blocks in peers.values_mut() {
            blocks.sort_by_key(|block| (Reverse(block.prefix_len()), *block));
        }
        Ok(peers)
    }

    pub(super) fn names(&self) -> RwLockReadGuard<'_, Names> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn cell(&self, cell: u32) -> Result<u32, Error> {
        let mut value = [0_u32];
        let read = sys::lookup(self.map("CONTROL")?.fd.as_fd(), &cell, &mut value);
        read.map_err(|source| Error::Map { map: "CONTROL", source })?;
        Ok(value[0])
    }

    /// All entries of a table.
    pub(crate) fn entries<K: Plain, V: Plain>(&self, name: &'static str) -> Result<Vec<(K, V)>, Error> {
        let map = self.map(name)?;
        if map.layout.key as usize != size_of::<K>() || map.layout.value as usize != size_of::<V>() {
            return Err(Error::Mismatch { kind: "map", name });
        }
        sys::entries(map.fd.as_fd(), map.layout.capacity).map_err(|source| Error::Map { map: name, source })
    }

    pub(super) fn map(&self, name: &'static str) -> Result<&Seen, Error> {
        self.maps.get(name).ok_or(Error::Mismatch { kind: "map", name })
    }
}

fn live_flow(
    key: &FlowKey,
    flow: &Flow,
    (generation, now): (u32, u32),
    groups: &HashMap<u32, u32>,
    names: &Names,
) -> LiveFlow {
    let (low, high) = (key.low(), key.high());
    let (source, destination) = if flow.has(Flow::SOURCE_IS_LOW) { (low, high) } else { (high, low) };
    let end = |(address, port): (Address, u16)| SocketAddr::new(address.into(), port);
    let is_confirmed = flow.generation() == generation;
    // The number of a decision counts in the set of policies that judged: that of the pod, if it was the same generation.
    let rule = |interface: u32, side, decision| {
        let is_allowed = !flow.has(Flow::AUDITED);
        let group = groups.get(&interface).filter(|_| is_confirmed && is_allowed && interface != 0)?;
        names.rule(*group, side, decision)
    };
    let state = if flow.has(Flow::CUT) {
        FlowState::Cut
    } else if flow.is_stale(now, key.protocol()) {
        FlowState::Stale
    } else if flow.has(Flow::AUDITED) {
        FlowState::Audited
    } else if is_confirmed {
        FlowState::Live
    } else {
        FlowState::Unconfirmed
    };
    // A packet on another CPU may have read a later second than this did.
    let idle = now.wrapping_sub(flow.last_seen());
    LiveFlow {
        protocol: protocol_name(key.protocol()),
        source: end(source),
        destination: end(destination),
        source_pod: names.pod_at(flow.source_interface()),
        destination_pod: names.pod_at(flow.destination_interface()),
        from_node: flow.has(Flow::FROM_NODE),
        egress_rule: rule(flow.source_interface(), Side::Egress, flow.egress_decision()),
        ingress_rule: rule(flow.destination_interface(), Side::Ingress, flow.ingress_decision()),
        state,
        idle_s: if idle > u32::MAX / 2 { 0 } else { idle },
        generation: flow.generation(),
    }
}

fn rest(state: &PodState, side: Side, content: Option<&GroupContent>) -> Rest {
    let (judged, shut) = match side {
        Side::Ingress => (PodState::INGRESS_JUDGED, PodState::INGRESS_SHUT),
        Side::Egress => (PodState::EGRESS_JUDGED, PodState::EGRESS_SHUT),
    };
    if !state.has(judged) {
        return Rest::Unjudged;
    }
    if !state.has(shut) {
        return Rest::Open;
    }
    match content.map(|content: &GroupContent| -> &SideContent { content.side(side) }).map(|content| content.rest) {
        Some(tables::Rest::NotUnderstood) => Rest::NotUnderstood,
        Some(tables::Rest::Open | tables::Rest::Shut) | None => Rest::Shut,
    }
}

fn action(decided: Option<&Decided>, denies: bool) -> (Action, Option<signalbox_api::flow::RuleRef>) {
    match decided {
        Some(Decided::Allow(rule)) => (Action::Allow, Some(rule_ref(rule))),
        Some(Decided::Deny(rule)) => (Action::Deny, Some(rule_ref(rule))),
        Some(Decided::NotUnderstood(rule)) => (Action::NotUnderstood, rule.as_ref().map(rule_ref)),
        Some(Decided::Rest(tables::Rest::NotUnderstood)) => (Action::NotUnderstood, None),
        Some(Decided::Rest(_)) | None if denies => (Action::Deny, None),
        Some(Decided::Rest(_)) | None => (Action::Allow, None),
    }
}

fn api_protocol(protocol: u8) -> Option<Protocol> {
    match protocol {
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        132 => Some(Protocol::Sctp),
        _ => None,
    }
}

/// A block as people write it: whole addresses without their length.
fn short(block: &IpNet) -> String {
    if block.prefix_len() == block.max_prefix_len() { block.addr().to_string() } else { block.to_string() }
}
