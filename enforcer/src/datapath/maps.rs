//! The maps that user space writes, opened and checked.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use aya::{Ebpf, maps::Map, util::nr_cpus};
use signalbox_enforcer_common::{
    Address,
    flow::{CountKey, Counts, Flow, FlowKey, VerdictKey},
    policy::{NodePortKey, PolicyKey, TranslatedKey, Unjudged},
};

use crate::{error::Error, sys};

/// A map that is written from here.
pub struct Table {
    name: &'static str,
    fd: OwnedFd,
    capacity: u32,
}

impl Table {
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn error(&self, source: io::Error) -> Error {
        Error::Map { map: self.name, source }
    }

    pub fn update<K: signalbox_enforcer_common::Plain, V: signalbox_enforcer_common::Plain>(
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
    pub fn update_fitting<K: signalbox_enforcer_common::Plain, V: signalbox_enforcer_common::Plain>(
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

    pub fn read<K: signalbox_enforcer_common::Plain, V: signalbox_enforcer_common::Plain>(
        &self,
        key: &K,
        value: &mut [V; 1],
    ) -> Result<(), Error> {
        sys::lookup(self.fd(), key, value).map_err(|source| self.error(source))
    }

    pub fn sum(&self, cell: u32) -> Result<u64, Error> {
        let cpus = nr_cpus().map_err(|(what, source)| Error::Io { what, source })?;
        let mut values = vec![0_u64; cpus];
        sys::lookup(self.fd(), &cell, &mut values).map_err(|source| self.error(source))?;
        Ok(values.iter().sum())
    }

    pub fn try_clone(&self) -> Result<Arc<OwnedFd>, Error> {
        let fd = self.fd.try_clone().map_err(|source| self.error(source))?;
        Ok(Arc::new(fd))
    }
}

/// The maps that are written from here.
pub struct Maps {
    pub control: Table,
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
    /// `TRANSLATED`.
    pub translated: Table,
    /// `BRIDGED`.
    pub bridged: Table,
    /// `SENDERS`.
    pub senders: Table,
    /// `AUDITS`.
    pub audits: Table,
    pub verdicts: Table,
    /// `FOREIGN`.
    pub foreign: Table,
    pub unjudged: Table,
    pub flows: Table,
    pub statistics: Table,
    pub counts: Table,
}

impl Maps {
    pub fn open(ebpf: &Ebpf) -> Result<Self, Error> {
        use signalbox_enforcer_common::policy::{
            AddressValue, AuditValue, BlockKey, BlockValue, Judgement, PodValue, RangeKey,
        };
        Ok(Self {
            control: open::<u32, u32>(ebpf, "CONTROL")?,
            pods: open::<u32, PodValue>(ebpf, "PODS")?,
            addresses: open::<Address, AddressValue>(ebpf, "ADDRESSES")?,
            blocks: open::<BlockKey, BlockValue>(ebpf, "BLOCKS")?,
            policy: open::<PolicyKey, Judgement>(ebpf, "POLICY")?,
            ranges: open::<RangeKey, Judgement>(ebpf, "RANGES")?,
            audits: open::<u32, AuditValue>(ebpf, "AUDITS")?,
            verdicts: open::<VerdictKey, u64>(ebpf, "VERDICTS")?,
            node_addresses: open::<Address, u32>(ebpf, "NODE_ADDRESSES")?,
            node_ports: open::<NodePortKey, u32>(ebpf, "NODE_PORTS")?,
            translated: open::<TranslatedKey, u32>(ebpf, "TRANSLATED")?,
            bridged: open::<u32, u32>(ebpf, "BRIDGED")?,
            senders: open::<u32, u32>(ebpf, "SENDERS")?,
            foreign: open::<u32, u32>(ebpf, "FOREIGN")?,
            unjudged: open::<u32, Unjudged>(ebpf, "UNJUDGED")?,
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
            Map::Array(data)
            | Map::PerCpuArray(data)
            | Map::HashMap(data)
            | Map::PerCpuHashMap(data)
            | Map::LruHashMap(data)
            | Map::LpmTrie(data),
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

/// No room: E2BIG for hash maps, ENOSPC for tries.
pub fn is_full(error: &Error) -> bool {
    let Error::Map { source, .. } = error else {
        return false;
    };
    matches!(source.raw_os_error(), Some(libc::E2BIG | libc::ENOSPC | libc::ENOMEM))
}
