//! Where maps and links are pinned, so that they outlive the process. See docs/adr/0008.
//!
//! Under the root lies one folder for each *set* of maps, named by what the maps are: a hash of their names, kinds, sizes and
//! of the layout that the object says it has, and one of their capacities. In it `maps/NAME`, `links/INTERFACE-PROGRAM`
//! and, for each qdisc that was made for a filter, the empty folder `qdiscs/INTERFACE`. The flows lie beside the sets, since
//! sets may share them.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use aya_obj::{Object, generated::bpf_map_type};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use signalbox_enforcer_common::LAYOUT_BEGIN;

use crate::{config::Limits, error::Error};

/// Maps that keep nothing of their own: scratch memory, copies of what the flows say that hold for a moment, and when the reader was
/// woken. Each load of the programs has others.
const FLEETING: [&str; 3] = ["SCRATCH", "RECENT", "WOKEN"];
/// The flows: judged connections.
const FLOWS: &str = "FLOWS";

/// Names of a set and of its flows, from the object and the capacities that are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The name of the set's folder.
    pub set: String,
    /// The name of the flows' file.
    pub flows: String,
    /// How many flows there is room for.
    pub flows_capacity: u32,
    /// The maps that are pinned, but for the flows.
    pub maps: BTreeSet<String>,
}

impl Schema {
    /// Reads the object.
    ///
    /// # Errors
    ///
    /// When it is not one, or does not say which layout it has.
    pub fn of(object: &[u8], limits: &Limits) -> Result<Self, Error> {
        let layout = layout(object).ok_or(Error::Mismatch { kind: "section", name: "layout" })?;
        let parsed = Object::parse(object).map_err(|source| Error::Load(source.into()))?;
        let mut maps: Vec<_> = parsed.maps.iter().filter(|(name, _)| is_pinned(name)).collect();
        maps.sort_by_key(|(name, _)| *name);
        let (mut schema, mut capacities, mut flows) = (Hash::new(), Hash::new(), Hash::new());
        schema.take(layout.tables);
        schema.take(layout.flows);
        flows.take(layout.flows);
        for (name, map) in &maps {
            let what = [map.map_type(), map.key_size(), map.value_size(), map.map_flags()];
            let capacity = limits.of(name).unwrap_or(map.max_entries());
            schema.take(name.as_bytes());
            what.iter().for_each(|word| schema.take(&word.to_le_bytes()));
            if *name == FLOWS {
                what.iter().for_each(|word| flows.take(&word.to_le_bytes()));
                flows.take(&capacity.to_le_bytes());
            } else {
                capacities.take(&capacity.to_le_bytes());
            }
            debug_assert_ne!(map.map_type(), bpf_map_type::BPF_MAP_TYPE_UNSPEC as u32, "{name}");
        }
        Ok(Self {
            set: format!("{:016x}-{:016x}", schema.word, capacities.word),
            flows_capacity: limits.flows,
            flows: format!("flows-{:016x}", flows.word),
            maps: maps.into_iter().map(|(name, _)| name.clone()).filter(|name| name != FLOWS).collect(),
        })
    }
}

/// Data sections of the object are maps, too, and belong to its code.
fn is_pinned(name: &str) -> bool {
    !FLEETING.contains(&name) && !name.starts_with('.')
}

/// What the object says of its layout.
struct Layout<'a> {
    tables: &'a [u8],
    flows: &'a [u8],
}

fn layout(object: &[u8]) -> Option<Layout<'_>> {
    let at = object.windows(LAYOUT_BEGIN.len()).position(|window| window == LAYOUT_BEGIN)?;
    let text = &object[at + LAYOUT_BEGIN.len()..];
    let line = &text[..text.iter().position(|byte| *byte == b'\n')?];
    let mut words = line.split(|byte| *byte == b' ');
    Some(Layout { tables: words.next()?.strip_prefix(b"tables=")?, flows: words.next()?.strip_prefix(b"flows=")? })
}

/// FNV-1a, 64 bits: the names must be the same in every build, and nobody attacks them.
struct Hash {
    word: u64,
}

impl Hash {
    const fn new() -> Self {
        Self { word: 0xcbf2_9ce4_8422_2325 }
    }

    fn take(&mut self, bytes: &[u8]) {
        // The length keeps neighbours apart.
        let length = (bytes.len() as u64).to_le_bytes();
        for byte in length.iter().chain(bytes) {
            self.word = (self.word ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// The pins of one node, held by one process at a time.
#[derive(Debug)]
pub struct Pins {
    root: PathBuf,
    schema: Schema,
    _lock: Flock<File>,
}

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedLink {
    /// Its file.
    pub path: PathBuf,
    /// The interface that it was made for.
    pub interface: u32,
    /// The program's name.
    pub program: String,
}

impl Pins {
    /// Takes hold of the pins.
    ///
    /// # Errors
    ///
    /// When there is no file system of bpf's there, or another process holds them.
    pub fn open(root: &Path, schema: Schema) -> Result<Self, Error> {
        let lock = lock(root)?;
        Ok(Self { root: root.to_owned(), schema, _lock: lock })
    }

    /// Where a map of the own set is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        if name == FLOWS { self.root.join(&self.schema.flows) } else { self.own().join("maps").join(name) }
    }

    /// How many flows the own set has room for.
    pub fn flows_capacity(&self) -> u32 {
        self.schema.flows_capacity
    }

    /// Where a link is pinned.
    pub fn link(&self, interface: u32, program: &str) -> PathBuf {
        self.own().join("links").join(format!("{interface}-{program}"))
    }

    /// What says that an interface's qdisc was made for a filter.
    pub fn qdisc(&self, interface: u32) -> PathBuf {
        self.own().join("qdiscs").join(interface.to_string())
    }

    /// The maps that are pinned.
    pub fn maps(&self) -> impl Iterator<Item = &str> {
        self.schema.maps.iter().map(String::as_str).chain([FLOWS])
    }

    /// Maps of the own set that are not pinned, although they should be.
    pub fn missing_maps(&self) -> Vec<&str> {
        let known = names(&self.own().join("maps"));
        let flows = self.map(FLOWS);
        self.maps().filter(|name| if *name == FLOWS { !flows.exists() } else { !known.contains(*name) }).collect()
    }

    /// Makes the folders of the own set.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn make_folders(&self) -> Result<(), Error> {
        for folder in ["maps", "links", "qdiscs"] {
            let folder = self.own().join(folder);
            fs::create_dir_all(&folder).map_err(|source| Error::Pin { path: folder, source })?;
        }
        Ok(())
    }

    /// The folders of all sets but the own one.
    pub fn others(&self) -> Vec<PathBuf> {
        sets(&self.root).into_iter().filter(|path| *path != self.own()).collect()
    }

    /// The own set's folder.
    pub fn own(&self) -> PathBuf {
        self.root.join(&self.schema.set)
    }

    /// Removes the flows.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn forget_flows(&self) -> Result<(), Error> {
        remove(&self.map(FLOWS))
    }

    /// Removes all sets but the own one, and flows that it does not use: nothing may be attached to them any more.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn forget_others(&self) -> Result<Vec<PathBuf>, Error> {
        let mut gone = self.others();
        gone.extend(flows(&self.root).into_iter().filter(|path| *path != self.map(FLOWS)));
        gone.iter().try_for_each(|path| remove(path))?;
        Ok(gone)
    }
}

/// Takes hold of the pins, so that no two processes write to one set of maps.
pub fn lock(root: &Path) -> Result<Flock<File>, Error> {
    let failed = |source| Error::Pin { path: root.to_owned(), source };
    let place = root.ancestors().find(|path| path.is_dir()).unwrap_or(root);
    let kind = statfs(place).map_err(|errno| failed(errno.into()))?.filesystem_type();
    if kind != BPF_FS_MAGIC {
        return Err(Error::NoBpfFileSystem(root.to_owned()));
    }
    fs::create_dir_all(root).map_err(failed)?;
    let folder = File::open(root).map_err(failed)?;
    Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => Error::AnotherAgent(root.to_owned()),
        errno => failed(errno.into()),
    })
}

/// The folders of all sets.
pub fn sets(root: &Path) -> Vec<PathBuf> {
    names(root).iter().filter(|name| !name.starts_with("flows-")).map(|name| root.join(name)).collect()
}

/// The files of flows.
pub fn flows(root: &Path) -> Vec<PathBuf> {
    names(root).iter().filter(|name| name.starts_with("flows-")).map(|name| root.join(name)).collect()
}

/// The links that are pinned in a set.
pub fn links(set: &Path) -> Vec<PinnedLink> {
    let folder = set.join("links");
    let link = |name: &String| {
        let (interface, program) = name.split_once('-')?;
        let interface = interface.parse().ok()?;
        Some(PinnedLink { path: folder.join(name), interface, program: program.to_owned() })
    };
    names(&folder).iter().filter_map(link).collect()
}

/// Interfaces whose qdisc was made for a filter.
pub fn qdiscs(set: &Path) -> BTreeSet<u32> {
    names(&set.join("qdiscs")).iter().filter_map(|name| name.parse().ok()).collect()
}

/// Removes a file, or a folder with all that it holds; one that is not there is no error.
pub fn remove(path: &Path) -> Result<(), Error> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| Error::Pin { path: path.to_owned(), source }),
    }
}

/// What a folder holds; nothing where there is none.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use signalbox_enforcer_common::LAYOUT;

    use super::*;
    use crate::object;

    fn schema(change: impl Fn(&mut Vec<u8>), limits: &Limits) -> Schema {
        let mut bytes = object::object().expect("built: `cargo xtask build`").to_vec();
        change(&mut bytes);
        Schema::of(&bytes, limits).expect("an object")
    }

    fn relabel(from: &[u8], to: &[u8]) -> impl Fn(&mut Vec<u8>) {
        move |bytes| {
            let at = bytes.windows(from.len()).position(|window| window == from).expect("it is there");
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }

    #[test]
    fn the_object_says_what_user_space_was_built_with() {
        let bytes = object::object().expect("built: `cargo xtask build`");
        assert!(bytes.windows(LAYOUT.len()).any(|window| window == LAYOUT), "object and binary are of one build");
    }

    #[test]
    fn another_layout_another_size_or_another_capacity_is_another_set() {
        let limits = Limits::default();
        let own = schema(|_| {}, &limits);
        assert_eq!(own, schema(|_| {}, &limits));
        assert!(own.maps.contains("POLICY") && !own.maps.contains("FLOWS"));
        assert!(FLEETING.iter().all(|name| !own.maps.contains(*name)));
        let tables = schema(relabel(b"tables=0002", b"tables=0003"), &limits);
        assert_ne!(own.set, tables.set);
        assert_eq!(own.flows, tables.flows, "flows are shared where their layout is the same");
        let flows = schema(relabel(b"flows=0001", b"flows=0002"), &limits);
        assert_ne!((&own.set, &own.flows), (&flows.set, &flows.flows));
        let larger = schema(|_| {}, &Limits { policies: limits.policies * 2, ..limits });
        assert_eq!(own.set.split('-').next(), larger.set.split('-').next(), "the schema is the same");
        assert_ne!(own.set, larger.set);
        assert_eq!(own.flows, larger.flows);
        let more_flows = schema(|_| {}, &Limits { flows: limits.flows * 2, ..limits });
        assert_ne!(own.flows, more_flows.flows);
        assert_eq!(own.set, more_flows.set);
    }
}
