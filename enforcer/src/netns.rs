//! Work inside a network namespace, on a thread of its own, so that no other thread ever changes place.

use std::{
    fs::File,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns};

use crate::error::Error;

/// A network namespace, held open.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
    /// `None`: the one this process is in.
    file: Option<File>,
}

impl Netns {
    /// Opens the namespace behind a file such as `/proc/PID/ns/net`; `None`: the current one.
    pub fn open(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else {
            return Ok(Self { path: PathBuf::from("/proc/thread-self/ns/net"), file: None });
        };
        let file = File::open(path).map_err(|source| Error::Namespace { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file: Some(file) })
    }

    /// The namespace's own file, opened once more.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left, or `/proc` is away.
    pub fn file(&self) -> Result<File, Error> {
        let opened = match &self.file {
            Some(file) => file.try_clone(),
            None => File::open(&self.path),
        };
        opened.map_err(|source| Error::Namespace { path: self.path.clone(), source })
    }

    /// Tells it from all other namespaces for as long as it is held open.
    ///
    /// # Errors
    ///
    /// As [`Netns::file`].
    pub fn inode(&self) -> Result<u64, Error> {
        let metadata = self.file()?.metadata();
        let metadata = metadata.map_err(|source| Error::Namespace { path: self.path.clone(), source })?;
        Ok(metadata.ino())
    }

    /// Runs something inside.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        thread::scope(|scope| {
            let inside = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || {
                if let Some(file) = &self.file {
                    setns(file, CloneFlags::CLONE_NEWNET)
                        .map_err(|source| Error::Namespace { path: self.path.clone(), source: source.into() })?;
                }
                Ok(work())
            });
            let inside = inside.map_err(|source| Error::Io { what: "cannot start a thread", source })?;
            inside.join().map_err(|_| Error::Worker)?
        })
    }
}
