//! bpf(2) and membarrier(2): what aya does not offer (batches, what a link stands at, pins by descriptor), in one place. The
//! only module with `unsafe`.
#![allow(unsafe_code)]

pub mod count;
pub mod program;

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use signalbox_enforcer_common::{Plain, plain};

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_MAP_DELETE_BATCH: libc::c_long = 27;

const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

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

/// The part of `union bpf_attr` for pins.
#[repr(C)]
#[derive(Default)]
struct PinAttributes {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The part of `union bpf_attr` for what the kernel knows of an object.
#[repr(C)]
#[derive(Default)]
struct InfoAttributes {
    fd: u32,
    length: u32,
    info: u64,
}

/// The part of `union bpf_attr` for a link on tcx that is to be made.
#[repr(C)]
#[derive(Default)]
struct LinkAttributes {
    program: u32,
    interface: u32,
    hook: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    revision: u64,
}

/// The part of `union bpf_attr` for a link's next program.
#[repr(C)]
#[derive(Default)]
struct UpdateAttributes {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Where a program of tcx stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Packets that come in by the interface.
    Ingress,
    /// Packets that go out by it.
    Egress,
}

/// What the kernel knows of a link on tcx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkFacts {
    /// The program's number.
    pub program: u32,
    /// The interface; 0 where that is gone, or somebody has detached the link.
    pub interface: u32,
}

/// What the kernel knows of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFacts {
    /// Its number.
    pub id: u32,
    /// Most entries.
    pub capacity: u32,
    /// The first 15 characters of its name.
    pub name: String,
}

/// Runs one command.
///
/// # Safety
///
/// `A` is the part of `union bpf_attr` that the command reads, and every pointer in it is valid for what the command
/// reads or writes there.
unsafe fn bpf<A>(command: libc::c_long, attributes: &mut A) -> io::Result<()> {
    // SAFETY: the caller's.
    unsafe { bpf_number(command, attributes) }.map(|_| ())
}

/// The same; what it answers.
///
/// # Safety
///
/// As above.
unsafe fn bpf_number<A>(command: libc::c_long, attributes: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: the caller's; the size is that of the structure.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same, for commands that answer with a new descriptor.
///
/// # Safety
///
/// As above, and the command is one of those.
unsafe fn bpf_fd<A>(command: libc::c_long, attributes: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: the caller's.
    let number = unsafe { bpf_number(command, attributes) }?;
    let number = i32::try_from(number).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
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

/// All entries of a hash map or a trie, as far as they hold still meanwhile.
pub fn entries<K: Plain, V: Plain>(map: BorrowedFd<'_>, capacity: u32) -> io::Result<Vec<(K, V)>> {
    const AT_ONCE: usize = 1024;
    // A hash map's position is one word, that of other maps is a key.
    const POSITION: usize = 64;
    const { assert!(size_of::<K>() <= POSITION) };
    let blank = |size: usize| vec![0_u8; size * AT_ONCE];
    let mut found = Vec::new();
    let (mut keys, mut values) = (blank(size_of::<K>()), blank(size_of::<V>()));
    let (mut here, mut next) = ([0_u8; POSITION], [0_u8; POSITION]);
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
        // SAFETY: keys and values have room for `count` elements; positions have room for a word and for a key.
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

/// Pins a map, a program or a link.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = PinAttributes { path: address(path.as_ptr()), fd: fd(object), flags: 0 };
    // SAFETY: the path ends with a zero and is valid for the call.
    unsafe { bpf(BPF_OBJ_PIN, &mut attributes) }
}

/// Opens what is pinned.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = PinAttributes { path: address(path.as_ptr()), ..PinAttributes::default() };
    // SAFETY: the path ends with a zero and is valid for the call, which answers with a descriptor.
    unsafe { bpf_fd(BPF_OBJ_GET, &mut attributes) }
}

/// Puts a program on an interface, behind those that are there. It stays as long as the link is open or pinned.
pub fn attach(program: BorrowedFd<'_>, interface: u32, hook: Hook) -> io::Result<OwnedFd> {
    let mut attributes = LinkAttributes {
        program: fd(program),
        interface,
        hook: match hook {
            Hook::Ingress => BPF_TCX_INGRESS,
            Hook::Egress => BPF_TCX_EGRESS,
        },
        ..LinkAttributes::default()
    };
    // SAFETY: no pointers are passed; the call answers with a descriptor.
    unsafe { bpf_fd(BPF_LINK_CREATE, &mut attributes) }
}

/// Replaces a link's program, without a moment between.
pub fn replace(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = UpdateAttributes { link: fd(link), program: fd(program), ..UpdateAttributes::default() };
    // SAFETY: no pointers are passed.
    unsafe { bpf(BPF_LINK_UPDATE, &mut attributes) }
}

/// Takes a link off its interface, whoever else has it open.
pub fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = fd(link);
    // SAFETY: no pointers are passed; the command reads one word.
    unsafe { bpf(BPF_LINK_DETACH, &mut attributes) }
}

/// Asks what the kernel knows of an object; `words` as its structure has them.
fn info(object: BorrowedFd<'_>, words: &mut [u32]) -> io::Result<()> {
    let length = u32::try_from(size_of_val(words)).expect("a few words");
    let mut attributes = InfoAttributes { fd: fd(object), length, info: address(words.as_mut_ptr()) };
    // SAFETY: the kernel writes at most `length` bytes, and follows only pointers that are not zero: the one caller who
    // sets one sees to that.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }
}

/// What the kernel knows of a link on tcx.
pub fn link_facts(link: BorrowedFd<'_>) -> io::Result<LinkFacts> {
    // `struct bpf_link_info`: type, id, program, padding; for tcx: interface, hook.
    let mut words = [0_u32; 16];
    info(link, &mut words)?;
    Ok(LinkFacts { program: words[2], interface: words[4] })
}

/// What the kernel knows of a map.
pub fn map_facts(map: BorrowedFd<'_>) -> io::Result<MapFacts> {
    // `struct bpf_map_info`: type, id, sizes of key and value, most entries, flags, name (four words).
    let mut words = [0_u32; 16];
    info(map, &mut words)?;
    let name: Vec<u8> = words[6..10].iter().flat_map(|word| word.to_ne_bytes()).take_while(|byte| *byte != 0).collect();
    Ok(MapFacts { id: words[1], capacity: words[4], name: String::from_utf8_lossy(&name).into_owned() })
}

/// A program's number.
pub fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    let mut words = [0_u32; 16];
    info(program, &mut words)?;
    Ok(words[1])
}

/// The maps of a program, by its number.
pub fn maps_of_program(program: u32) -> io::Result<Vec<OwnedFd>> {
    const MOST: usize = 64;
    let mut number = program;
    // SAFETY: no pointers are passed; the command reads one word and answers with a descriptor.
    let program = unsafe { bpf_fd(BPF_PROG_GET_FD_BY_ID, &mut number) }?;
    let mut ids = [0_u32; MOST];
    // `struct bpf_prog_info`: the number of maps is word 13, where to write their numbers words 14 and 15.
    let mut words = [0_u32; 16];
    let place = address(ids.as_mut_ptr());
    words[13] = MOST as u32;
    words[14] = place as u32;
    words[15] = (place >> 32) as u32;
    info(std::os::fd::AsFd::as_fd(&program), &mut words)?;
    let count = (words[13] as usize).min(MOST);
    let open = |id: &u32| {
        let mut number = *id;
        // SAFETY: as above.
        unsafe { bpf_fd(BPF_MAP_GET_FD_BY_ID, &mut number) }
    };
    ids[..count].iter().map(open).collect()
}

/// Waits until every kernel program that was running has ended: it may have read the generation before.
pub fn wait_for_readers() -> io::Result<()> {
    // SAFETY: no pointers are passed. The kernel answers with synchronize_rcu(), which programs run under.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
