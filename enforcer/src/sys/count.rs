//! How many entries a map has, whatever is in them.

use std::{io, os::fd::BorrowedFd};

use signalbox_enforcer_common::{Plain, plain};

use super::{
    BPF_MAP_LOOKUP_BATCH, BPF_MAP_LOOKUP_ELEM, BatchAttributes, ElementAttributes, address, bpf, fd, has_no_batches,
};

const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;

/// What is asked of a map.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value; for a map per CPU of one CPU's.
    pub value: u32,
    /// Entries at most.
    pub capacity: u32,
    /// Values of a map per CPU come once for each CPU that may come up; else 1.
    pub copies: u32,
}

/// Counts the entries of a hash map or trie, as far as they hold still meanwhile.
pub fn count(map: BorrowedFd<'_>, layout: Layout) -> io::Result<u64> {
    const AT_ONCE: usize = 4096;
    let value = (layout.value as usize).next_multiple_of(8) * layout.copies as usize;
    let (mut keys, mut values) = (vec![0_u8; layout.key as usize * AT_ONCE], vec![0_u8; value * AT_ONCE]);
    // A position is one word in a hash map, and a key in a trie.
    let (mut here, mut next) = (vec![0_u8; layout.key.max(8) as usize], vec![0_u8; layout.key.max(8) as usize]);
    let mut found = 0_u64;
    let mut first = true;
    // A bound: a map that is written to faster than it is read must not keep us.
    while found <= u64::from(layout.capacity) * 2 {
        let mut attributes = BatchAttributes {
            in_batch: if first { 0 } else { address(here.as_ptr()) },
            out_batch: address(next.as_mut_ptr()),
            keys: address(keys.as_mut_ptr()),
            values: address(values.as_mut_ptr()),
            count: AT_ONCE as u32,
            map_fd: fd(map),
            ..BatchAttributes::default()
        };
        // SAFETY: keys and values have room for `count` elements of the map's sizes, and both positions for one.
        let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attributes) };
        let end = match result {
            Ok(()) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) if first && has_no_batches(&error) => return count_one_by_one(map, layout),
            Err(error) => return Err(error),
        };
        found += u64::from(attributes.count);
        if end || attributes.count == 0 {
            break;
        }
        here.copy_from_slice(&next);
        first = false;
    }
    Ok(found)
}

fn count_one_by_one(map: BorrowedFd<'_>, layout: Layout) -> io::Result<u64> {
    for_each_key(map, layout.key as usize, layout.capacity, |_| Ok(()))
}

/// All entries of a map whose kind has no batches on this kernel: tries before Linux 5.13.
pub fn entries_one_by_one<K: Plain, V: Plain>(map: BorrowedFd<'_>, capacity: u32) -> io::Result<Vec<(K, V)>> {
    let mut found: Vec<(K, V)> = Vec::new();
    for_each_key(map, size_of::<K>(), capacity, |key| {
        let mut value = vec![0_u8; size_of::<V>()];
        let mut attributes = ElementAttributes {
            map_fd: fd(map),
            key: address(key.as_ptr()),
            value: address(value.as_mut_ptr()),
            ..ElementAttributes::default()
        };
        // SAFETY: the key is as large as the map's, and `value` as large as its values, which are not per CPU.
        match unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut attributes) } {
            // It has gone meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
            other => other?,
        }
        found.extend(plain::from_bytes(key).zip(plain::from_bytes(&value)));
        Ok(())
    })?;
    Ok(found)
}

/// All entries of a hash map with a count for each CPU: the sums.
pub fn sums<K: Plain>(map: BorrowedFd<'_>, capacity: u32) -> io::Result<Vec<(K, u64)>> {
    let cpus = aya::util::nr_cpus().map_err(|(_, source)| source)?;
    let mut found: Vec<(K, u64)> = Vec::new();
    for_each_key(map, size_of::<K>(), capacity, |key| {
        let Some(key) = plain::from_bytes::<K>(key) else { return Ok(()) };
        let mut values = vec![0_u64; cpus];
        match super::lookup(map, &key, &mut values) {
            Ok(()) => found.push((key, values.iter().sum())),
            // It has gone meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    })?;
    Ok(found)
}

/// Walks over the keys of a map, one call for each; how many there were. A map that is written to meanwhile may give a key twice,
/// so it ends at the latest behind as many as the map holds.
fn for_each_key(
    map: BorrowedFd<'_>,
    size: usize,
    capacity: u32,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let (mut here, mut next) = (vec![0_u8; size], vec![0_u8; size]);
    let mut seen = 0_u64;
    while seen <= u64::from(capacity) {
        let mut attributes = ElementAttributes {
            map_fd: fd(map),
            key: if seen == 0 { 0 } else { address(here.as_ptr()) },
            value: address(next.as_mut_ptr()),
            ..ElementAttributes::default()
        };
        // SAFETY: both keys are as large as the map's; no key asks for the first one.
        match unsafe { bpf(BPF_MAP_GET_NEXT_KEY, &mut attributes) } {
            Ok(()) => seen += 1,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
            Err(error) => return Err(error),
        }
        each(&next)?;
        here.copy_from_slice(&next);
    }
    Ok(seen)
}
