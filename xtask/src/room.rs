//! Room on the disk. A linker that finds none ends by a bus error, half an hour into the work, and names neither the disk nor a remedy.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use anyhow::{Context, Result, bail};

use crate::step::root;

const GIB: u64 = 1 << 30;
/// What `target/` holds after a build from nothing: 6.4 GiB when this was written.
pub const BUILD: u64 = 8 * GIB;
/// The same after all checks, tests and lints: 15 GiB when this was written.
pub const CHECKS: u64 = 18 * GIB;
/// Below this, whatever has failed may have failed for want of room.
const SCARCE: u64 = GIB / 2;

/// Fails where `target/` cannot grow to that many bytes.
pub fn ensure(needed: u64) -> Result<()> {
    let target = root().join("target");
    let held = size(&target).with_context(|| format!("cannot tell the size of {}", target.display()))?;
    enough(needed, held, free()?)
}

fn enough(needed: u64, held: u64, free: u64) -> Result<()> {
    if held + free < needed {
        let tenths = |bytes: u64| bytes as f64 / GIB as f64;
        bail!(
            "not enough room on the disk of target/: this takes {:.0} GiB, target/ holds {:.1} GiB, and {:.1} GiB are free. \
             Make room for {:.1} GiB, or let target/ be a link to a folder on a larger disk",
            tenths(needed),
            tenths(held),
            tenths(free),
            tenths(needed - held - free),
        );
    }
    Ok(())
}

/// A sentence for whoever reads that something failed, where the disk of `target/` is as good as full.
pub fn is_scarce() -> Option<String> {
    let free = free().ok().filter(|free| *free < SCARCE)?;
    Some(format!("the disk of target/ is full ({} MiB are free)", free >> 20))
}

/// Bytes that may still be written to the file system of `target/`.
fn free() -> Result<u64> {
    let target = root().join("target");
    let there = if target.exists() { target } else { root() };
    let told = rustix::fs::statvfs(&there).with_context(|| format!("cannot tell the room in {}", there.display()))?;
    Ok(told.f_bavail * told.f_frsize)
}

/// Bytes on the disk. Cargo links what it has built to a second name: each name counts for its part.
fn size(path: &Path) -> io::Result<u64> {
    let of_file = |metadata: &fs::Metadata| metadata.blocks() * 512 / metadata.nlink().max(1);
    // What vanishes meanwhile takes no room.
    let gone = |error: io::Error| if error.kind() == io::ErrorKind::NotFound { Ok(0) } else { Err(error) };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return gone(error),
    };
    entries
        .map(|entry| {
            let entry = entry?;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => size(&entry.path()),
                _ => entry.metadata().map(|metadata| of_file(&metadata)).or_else(gone),
            }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_already_needs_no_room_again() {
        assert!(enough(18 * GIB, 0, 18 * GIB).is_ok());
        assert!(enough(18 * GIB, 15 * GIB, 3 * GIB).is_ok());
        let error = enough(18 * GIB, 2 * GIB, 8 * GIB + GIB / 2).expect_err("7.5 GiB are missing").to_string();
        for part in ["takes 18 GiB", "holds 2.0 GiB", "8.5 GiB are free", "room for 7.5 GiB"] {
            assert!(error.contains(part), "{part} in: {error}");
        }
    }

    #[test]
    fn a_file_with_two_names_is_counted_once() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let one = folder.path().join("deps/one");
        fs::create_dir_all(folder.path().join("deps"))?;
        fs::write(&one, vec![7; 3 << 20])?;
        fs::hard_link(&one, folder.path().join("one"))?;
        let size = size(folder.path())?;
        assert!((3 << 20..4 << 20).contains(&size), "{size}");
        assert_eq!(super::size(&folder.path().join("absent"))?, 0);
        Ok(())
    }
}
