//! bpf(2) and membarrier(2): what aya does not offer, in one place. The only module with `unsafe`.
#![allow(unsafe_code)]

pub mod count;
pub mod program;

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use signalbox_enforcer_common::{Plain, plain};

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_MAP_DELETE_BATCH: libc::c_long = 27;

const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;

/// `ENOTSUPP`, which the kernel uses inside and lets slip out here: this kind of map has no batches.
const ENOTSUPP: i32 = 524;

/// The part of `union bpf_attr` for operations on one element, as linux/bpf.h has it.
#[repr(C)]
#[derive(Default)]
struct ElementAttributes {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part of `union bpf_attr` for operations on many elements.
#[repr(C)]
#[derive(Default)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

/// Runs one command.
///
/// # Safety
///
/// `A` is the part of `union bpf_attr` that the command reads, and every pointer in it is valid for what the command
/// reads or writes there.
unsafe fn bpf<A>(command: libc::c_long, attributes: &mut A) -> io::Result<()> {
    // SAFETY: the caller's; the size is that of the structure.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Address of a structure or row of them, as bpf(2) wants it.
fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

fn fd(map: BorrowedFd<'_>) -> u32 {
    u32::try_from(map.as_raw_fd()).expect("an open file has a number that is not negative")
}

/// Writes one entry. Key and value must have the sizes that the map was made with.
pub fn update<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let mut attributes = ElementAttributes {
        map_fd: fd(map),
        key: address(plain::as_bytes(std::slice::from_ref(key)).as_ptr()),
        value: address(plain::as_bytes(std::slice::from_ref(value)).as_ptr()),
        ..ElementAttributes::default()
    };
    // SAFETY: both pointers are valid for the call; the sizes are the map's, which `Datapath::load` has checked.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attributes) }
}

/// Reads one entry.
pub fn lookup<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K, values: &mut [V]) -> io::Result<()> {
    let mut attributes = ElementAttributes {
        map_fd: fd(map),
        key: address(plain::as_bytes(std::slice::from_ref(key)).as_ptr()),
        value: address(values.as_mut_ptr()),
        ..ElementAttributes::default()
    };
    // SAFETY: the key is as large as the map's; `values` has room for one value of each CPU that may come up, where the
    // map is per CPU, and for one value otherwise: the callers see to that.
    unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut attributes) }
}

/// Removes one entry; one that is not there is no error.
pub fn delete<K: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    let mut attributes = ElementAttributes {
        map_fd: fd(map),
        key: address(plain::as_bytes(std::slice::from_ref(key)).as_ptr()),
        ..ElementAttributes::default()
    };
    // SAFETY: the key is valid for the call and as large as the map's.
    match unsafe { bpf(BPF_MAP_DELETE_ELEM, &mut attributes) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// Writes many entries with as few calls as the kernel allows.
pub fn update_all<K: Plain, V: Plain>(map: BorrowedFd<'_>, entries: &[(K, V)]) -> io::Result<()> {
    match entries {
        [] => return Ok(()),
        [(key, value)] => return update(map, key, value),
        _ => {}
    }
    let (keys, values): (Vec<K>, Vec<V>) = entries.iter().copied().unzip();
    let mut attributes = BatchAttributes {
        keys: address(keys.as_ptr()),
        values: address(values.as_ptr()),
        count: u32::try_from(keys.len()).expect("maps hold fewer than 2^32 entries"),
        map_fd: fd(map),
        ..BatchAttributes::default()
    };
    // SAFETY: both rows are valid for `count` elements of the map's sizes.
    match unsafe { bpf(BPF_MAP_UPDATE_BATCH, &mut attributes) } {
        Err(error) if has_no_batches(&error) => entries.iter().try_for_each(|(key, value)| update(map, key, value)),
        other => other,
    }
}

/// Removes many entries; those that are not there are no error.
pub fn delete_all<K: Plain>(map: BorrowedFd<'_>, keys: &[K]) -> io::Result<()> {
    match keys {
        [] => return Ok(()),
        [key] => return delete(map, key),
        _ => {}
    }
    let mut attributes = BatchAttributes {
        keys: address(keys.as_ptr()),
        count: u32::try_from(keys.len()).expect("maps hold fewer than 2^32 entries"),
        map_fd: fd(map),
        ..BatchAttributes::default()
    };
    // SAFETY: the row is valid for `count` keys of the map's size.
    match unsafe { bpf(BPF_MAP_DELETE_BATCH, &mut attributes) } {
        // A batch ends at the first key that is missing.
        Err(error) if has_no_batches(&error) || error.raw_os_error() == Some(libc::ENOENT) => {
            keys.iter().try_for_each(|key| delete(map, key))
        }
        other => other,
    }
}

/// All entries of a hash map or trie, as far as they hold still meanwhile.
pub fn entries<K: Plain, V: Plain>(map: BorrowedFd<'_>, capacity: u32) -> io::Result<Vec<(K, V)>> {
    const AT_ONCE: usize = 1024;
    let blank = |size: usize| vec![0_u8; size * AT_ONCE];
    let mut found = Vec::new();
    let (mut keys, mut values) = (blank(size_of::<K>()), blank(size_of::<V>()));
    // A position is one word in a hash map, and a key in a trie.
    let (mut here, mut next) = ([0_u64; 8], [0_u64; 8]);
    assert!(size_of::<K>() <= size_of_val(&here), "keys are small");
    let mut first = true;
    // A bound: a map that is written to faster than it is read must not keep us.
    while found.len() <= capacity as usize * 2 {
        let mut attributes = BatchAttributes {
            in_batch: if first { 0 } else { address(here.as_ptr()) },
            out_batch: address(next.as_mut_ptr()),
            keys: address(keys.as_mut_ptr()),
            values: address(values.as_mut_ptr()),
            count: AT_ONCE as u32,
            map_fd: fd(map),
            ..BatchAttributes::default()
        };
        // SAFETY: keys and values have room for `count` elements, and both positions for a word and for a key.
        let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attributes) };
        let end = match result {
            Ok(()) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) if first && has_no_batches(&error) => return count::entries_one_by_one(map, capacity),
            Err(error) => return Err(error),
        };
        let count = attributes.count as usize;
        let rows = keys.chunks_exact(size_of::<K>()).zip(values.chunks_exact(size_of::<V>())).take(count);
        found.extend(rows.filter_map(|(key, value)| Some((plain::from_bytes(key)?, plain::from_bytes(value)?))));
        if end {
            break;
        }
        here = next;
        first = false;
    }
    Ok(found)
}

fn has_no_batches(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(ENOTSUPP | libc::EOPNOTSUPP | libc::EINVAL))
}

/// Waits until every kernel program that was running has ended: it may have read the generation before.
pub fn wait_for_readers() -> io::Result<()> {
    // SAFETY: no pointers are passed. The kernel answers with synchronize_rcu(), which programs run under.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
