//! What the lab remembers over a restart: an append-only file of changes, one line each.
//!
//! A line that was handed to the kernel survives `kill -9`, so nothing waits for the disk. A line that a full disk cut short
//! is taken back at once; one that a crash of the machine cut short is left out at the next start. When dead lines outweigh live
//! ones the file is written anew beside the old one and takes its place in one step.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::Error;
use crate::store::Key;

/// Below this size a journal is not worth rewriting.
const COMPACT_FROM: u64 = 1 << 20;
/// At the start a shorter one is: the next start reads it again.
const COMPACT_AT_START: u64 = 1 << 16;

/// The open journal.
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    length: u64,
    compact_at: u64,
    _lock: File,
}

/// What a journal held.
#[derive(Default)]
pub(crate) struct Remembered {
    pub(crate) revision: u64,
    pub(crate) objects: BTreeMap<Key, Arc<Value>>,
}

impl Journal {
    /// Opens the journal below `state_dir` and reads what it holds; `fresh` forgets it.
    pub(crate) fn open(state_dir: &Path, fresh: bool) -> Result<(Self, Remembered), Error> {
        let path = state_dir.join("objects.journal");
        let fail = |source| Error::State { path: path.clone(), source };
        let lock_path = state_dir.join("lock");
        let lock = private().write(true).create(true).truncate(false).open(&lock_path).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: state_dir.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(Error::State { path: lock_path, source }),
        }
        let mut file = private().read(true).append(true).create(true).open(&path).map_err(fail)?;
        let mut remembered = Remembered::default();
        let mut length = 0;
        if fresh {
            file.set_len(0).map_err(fail)?;
        } else {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(fail)?;
            length = replay(&bytes, &mut remembered);
            if length < bytes.len() as u64 {
                let damaged = path.with_extension("damaged");
                tracing::warn!(file = %damaged.display(), bytes = bytes.len() as u64 - length, "the journal's end is damaged; it is set aside");
                let tail = usize::try_from(length).expect("the length of a slice");
                private()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .open(&damaged)
                    .and_then(|mut file| file.write_all(&bytes[tail..]))
                    .map_err(fail)?;
                file.set_len(length).map_err(fail)?;
            }
        }
        let mut journal = Self { file, path: path.clone(), length, compact_at: 0, _lock: lock };
        if length >= COMPACT_AT_START
            && let Err(error) = journal.compact(remembered.revision, &remembered.objects)
        {
            tracing::warn!(%error, file = %journal.path.display(), "cannot shorten the journal; it keeps growing for now");
        }
        journal.plan();
        Ok((journal, remembered))
    }

    /// Appends one change, all of it or nothing.
    pub(crate) fn append(&mut self, revision: u64, changes: &BTreeMap<Key, Option<Arc<Value>>>) -> io::Result<()> {
        let line = line(revision, changes.iter().map(|(key, value)| (key, value.as_deref())));
        if let Err(error) = self.file.write_all(&line) {
            // Whatever part of the line arrived must not stand before the next one.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += line.len() as u64;
        Ok(())
    }

    /// Rewrites the journal once it has outgrown what is alive.
    pub(crate) fn tidy(&mut self, revision: u64, objects: &BTreeMap<Key, Arc<Value>>) {
        if self.length < self.compact_at {
            return;
        }
        if let Err(error) = self.compact(revision, objects) {
            tracing::warn!(%error, file = %self.path.display(), "cannot shorten the journal; it keeps growing for now");
        }
        self.plan();
    }

    fn plan(&mut self) {
        self.compact_at = COMPACT_FROM.max(self.length * 4);
    }

    fn compact(&mut self, revision: u64, objects: &BTreeMap<Key, Arc<Value>>) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut bytes = line(revision, std::iter::empty());
        for (key, value) in objects {
            bytes.extend(line(revision, std::iter::once((key, Some(&**value)))));
        }
        let replace = || -> io::Result<()> {
            private().write(true).create(true).truncate(true).open(&new)?.write_all(&bytes)?;
            std::fs::rename(&new, &self.path)
        };
        if let Err(error) = replace() {
            // What a full disk left of it only takes more room.
            let _ = std::fs::remove_file(&new);
            return Err(error);
        }
        self.file = private().append(true).open(&self.path)?;
        self.length = bytes.len() as u64;
        Ok(())
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn line<'a>(revision: u64, changes: impl Iterator<Item = (&'a Key, Option<&'a Value>)>) -> Vec<u8> {
    let changes: Vec<Value> = changes
        .map(|(key, value)| json!([key.resource().group, key.resource().plural, key.namespace, key.name, value]))
        .collect();
    let text = json!({"revision": revision, "changes": changes}).to_string();
    format!("{:08x} {text}\n", checksum(text.as_bytes())).into_bytes()
}

/// Applies lines until the first that is damaged; returns how many bytes were good.
fn replay(bytes: &[u8], remembered: &mut Remembered) -> u64 {
    let mut good = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if apply(line, remembered).is_none() {
            break;
        }
        good += line.len() as u64;
    }
    good
}

fn apply(line: &[u8], remembered: &mut Remembered) -> Option<()> {
    let line = line.strip_suffix(b"\n")?;
    let (sum, text) = line.split_at_checked(8)?;
    let text = text.strip_prefix(b" ")?;
    if u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()? != checksum(text) {
        return None;
    }
    let mut record: Value = serde_json::from_slice(text).ok()?;
    remembered.revision = record["revision"].as_u64()?;
    for change in record["changes"].as_array_mut()? {
        let text = |index: usize| change[index].as_str();
        // A kind that this version no longer serves is left behind.
        let Some(key) = Key::read(text(0)?, text(1)?, text(2)?, text(3)?) else { continue };
        match change[4].take() {
            Value::Null => remembered.objects.remove(&key),
            value => remembered.objects.insert(key, Arc::new(value)),
        };
    }
    Some(())
}

/// FNV-1a: finds torn lines; it is no protection against a person.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, value: Option<Value>) -> BTreeMap<Key, Option<Arc<Value>>> {
        let key = Key::read("", "configmaps", "default", name).expect("a kind");
        BTreeMap::from([(key, value.map(Arc::new))])
    }

    fn names(remembered: &Remembered) -> Vec<&str> {
        remembered.objects.keys().map(|key| key.name.as_str()).collect()
    }

    #[test]
    fn what_was_appended_is_read_again_and_a_torn_line_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut journal, _) = Journal::open(dir.path(), false).expect("a journal");
        journal.append(1, &change("a", Some(json!({"x": 1})))).expect("append");
        journal.append(2, &change("b", Some(json!({"x": 2})))).expect("append");
        journal.append(3, &change("a", None)).expect("append");
        drop(journal);
        let path = dir.path().join("objects.journal");
        let mut bytes = std::fs::read(&path).expect("the file");
        bytes.extend(&line(4, std::iter::empty())[..10]);
        std::fs::write(&path, bytes).expect("write");
        let (mut journal, remembered) = Journal::open(dir.path(), false).expect("a journal");
        assert_eq!((remembered.revision, names(&remembered)), (3, vec!["b"]));
        assert!(dir.path().join("objects.damaged").exists());
        journal.append(5, &change("c", Some(json!({})))).expect("append");
        drop(journal);
        let (_, remembered) = Journal::open(dir.path(), false).expect("a journal");
        assert_eq!((remembered.revision, names(&remembered)), (5, vec!["b", "c"]));
    }

    #[test]
    fn fresh_forgets_and_a_second_lab_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut journal, _) = Journal::open(dir.path(), false).expect("a journal");
        journal.append(1, &change("a", Some(json!({})))).expect("append");
        assert!(matches!(Journal::open(dir.path(), false), Err(Error::Busy { .. })));
        drop(journal);
        let (_, remembered) = Journal::open(dir.path(), true).expect("a journal");
        assert!(remembered.objects.is_empty());
    }
}
