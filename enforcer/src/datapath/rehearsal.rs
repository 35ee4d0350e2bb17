//! The kernel programs once more, for packets that are only asked about: over the tables in force, but with flows, counts and
//! events of their own. So a question leaves nothing behind in what the enforcer keeps of real traffic, and is not answered
//! from it: the packet is that of a new connection.

use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData, PerCpuArray, PerCpuValues, RingBuf},
    util::nr_cpus,
};
use aya_obj::Object;
use signalbox_enforcer_common::{
    flow::{Event, Flow, FlowKey, Limit, LimitKey},
    plain,
};

use super::{Datapath, Trial, Way};
use crate::{error::Error, links::Role, object, sys};

/// Tables that the programs write: here they are others than those of real traffic.
pub const OWN: [&str; 11] = [
    "UNJUDGED",
    "VERDICTS",
    "FLOWS",
    RECENT,
    "FRAGMENTS",
    "LIMITS",
    "COUNTS",
    "STATISTICS",
    "EVENTS",
    "SCRATCH",
    "WOKEN",
];

/// What the programs remember of `FLOWS`, in one of these tables.
const RECENT: &str = "RECENT";

/// The programs for questions.
pub struct Rehearsal {
    programs: HashMap<&'static str, OwnedFd>,
    own: Ebpf,
    events: RingBuf<MapData>,
}

impl Rehearsal {
    /// Loads the programs over the tables of a datapath.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, or object and datapath are not of one build.
    pub fn load(datapath: &Datapath) -> Result<Self, Error> {
        let bytes = object::object().ok_or(Error::ObjectMissing)?;
        let mut loader = EbpfLoader::new();
        // Room for one question at a time.
        for (name, _) in datapath.ebpf.maps() {
            loader.map_max_entries(name, 64);
        }
        let mut own = loader.map_max_entries("EVENTS", 1 << 16).map_max_entries(RECENT, 1).load(bytes)?;
        let mut object = Object::parse(bytes).map_err(|source| Error::Object { source: Box::new(source) })?;
        let maps = std::mem::take(&mut object.maps);
        let mut descriptors = Vec::new();
        for (name, map) in &maps {
            // What is not known to be written by the programs is a table that verdicts may come from.
            let from = if OWN.contains(&name.as_str()) { &own } else { &datapath.ebpf };
            let data = from.map(name).and_then(descriptor);
            let data = data.ok_or(Error::Mismatch { kind: "map", name: "that a question needs" })?;
            descriptors.push((name.as_str(), sys::program::raw(data), map));
        }
        let sections = object.functions.keys().map(|(section, _)| *section).collect();
        let relocated =
            object.relocate_maps(descriptors.into_iter(), &sections).and_then(|()| object.relocate_calls(&sections));
        relocated.map_err(|source| Error::Object { source: Box::new(source) })?;
        let mut programs = HashMap::new();
        for name in Role::PROGRAMS {
            let missing = Error::Mismatch { kind: "program", name };
            let program = object.programs.get(name).ok_or(missing)?;
            let function = &object.functions[&program.function_key()];
            let loaded = sys::program::load_classifier(&function.instructions, &program.license);
            programs
                .insert(name, loaded.map_err(|source| Error::Io { what: "cannot load a program once more", source })?);
        }
        let events = own.take_map("EVENTS").ok_or(Error::Mismatch { kind: "map", name: "EVENTS" })?;
        let events = RingBuf::try_from(events).map_err(|source| Error::OpenMap { map: "EVENTS", source })?;
        Ok(Self { programs, own, events })
    }

    /// Forgets the question before.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn begin(&mut self) -> Result<(), Error> {
        while self.events.next().is_some() {}
        self.forget_recent()?;
        self.clear::<FlowKey, Flow>("FLOWS")?;
        self.clear::<LimitKey, Limit>("LIMITS")
    }

    /// Runs a program on a packet. The interface must exist in the namespace that the calling thread is in.
    ///
    /// # Errors
    ///
    /// When there is no such program or interface, or the kernel refuses the packet.
    pub fn run(&self, packet: &[u8], way: Way<'_>) -> Result<Trial, Error> {
        let missing = Error::Mismatch { kind: "program", name: "that is to be run" };
        let program = self.programs.get(way.program).ok_or(missing)?;
        let mut context = [0_u32; 48];
        (context[2], context[9], context[10]) = (way.mark, way.came_by, way.interface);
        let result = sys::program::run_classifier(program.as_fd(), packet, &mut context)
            .map_err(|source| Error::Io { what: "cannot run a program on a packet", source })?;
        Ok(Trial { passes: result == super::NEXT, mark: context[2], took: std::time::Duration::ZERO })
    }

    /// What the programs have told since [`Rehearsal::begin`].
    pub fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(item) = self.events.next() {
            events.extend(plain::from_bytes::<Event>(&item));
        }
        events
    }

    /// Copies of flows that the programs keep: one for each CPU.
    fn forget_recent(&mut self) -> Result<(), Error> {
        let open_error = |source| Error::OpenMap { map: RECENT, source };
        let cpus = nr_cpus().map_err(|(what, source)| Error::Io { what, source })?;
        let nothing = PerCpuValues::try_from(vec![[0_u64; 8]; cpus])
            .map_err(|source| Error::Io { what: "cannot write for each CPU", source })?;
        let map = self.own.map_mut(RECENT).ok_or(Error::Mismatch { kind: "map", name: RECENT })?;
        let mut recent = PerCpuArray::<_, [u64; 8]>::try_from(map).map_err(open_error)?;
        recent.set(0, nothing, 0).map_err(open_error)
    }

    fn clear<K: signalbox_enforcer_common::Plain, V: signalbox_enforcer_common::Plain>(
        &self,
        name: &'static str,
    ) -> Result<(), Error> {
        let map = self.own.map(name).and_then(descriptor).ok_or(Error::Mismatch { kind: "map", name })?;
        let error = |source| Error::Map { map: name, source };
        let keys: Vec<K> = sys::entries::<K, V>(map, 4096).map_err(error)?.into_iter().map(|(key, _)| key).collect();
        sys::delete_all(map, &keys).map_err(error)
    }
}

fn descriptor(map: &Map) -> Option<BorrowedFd<'_>> {
    match map {
        Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuHashMap(data)
        | Map::PerCpuLruHashMap(data)
        | Map::LpmTrie(data)
        | Map::RingBuf(data) => Some(data.fd().as_fd()),
        _ => None,
    }
}
