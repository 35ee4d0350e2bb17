//! The state directory: who may use it, and what is remembered over an end.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use rand::Rng;

use super::error::Error;
use super::options::Options;
use crate::entry::DEFAULT_STATE;

/// How long a lab that was just killed may take to be gone, while its process still shows.
const DYING: Duration = Duration::from_millis(500);
/// And how long the lock may then stay with whoever inherited it.
const DEAD: Duration = Duration::from_secs(2);

/// A state directory that this process alone uses, until it is dropped or the process ends in whatever way.
#[derive(Debug)]
pub(crate) struct State {
    path: PathBuf,
    /// Whether the objects survive a clean end.
    keeps: bool,
    /// A clean end has asked to forget, or `--fresh`.
    forget: bool,
    _lock: Flock<File>,
}

impl State {
    /// Opens the directory, makes it where it is missing, and locks it.
    pub(crate) fn open(options: &Options) -> Result<Self, Error> {
        let path = options.state.clone().unwrap_or_else(|| DEFAULT_STATE.into());
        create(&path)?;
        let lock = lock(&path)?;
        let forget = options.fresh || path.join("ended").exists();
        Ok(Self { path, keeps: options.state.is_some(), forget, _lock: lock })
    }

    /// Where the API server keeps its objects and credentials.
    pub(crate) fn api(&self) -> PathBuf {
        self.path.join("api")
    }

    /// Where the node works.
    pub(crate) fn node(&self) -> PathBuf {
        self.path.join("node")
    }

    /// Where the kubeconfig lies if nobody says where.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    /// Whether this start begins without the objects of earlier ones.
    pub(crate) fn forgets(&self) -> bool {
        self.forget
    }

    /// The API server runs: what it had to forget is forgotten.
    pub(crate) fn begun(&self) -> Result<(), Error> {
        let mark = self.path.join("ended");
        match fs::remove_file(&mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(state("remove", &mark)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// A clean end: without `--state` the next start begins anew.
    pub(crate) fn ended(&self) -> Result<(), Error> {
        if self.keeps {
            return Ok(());
        }
        let mark = self.path.join("ended");
        write_private(&mark, b"").map_err(state("write", &mark))
    }

    /// The token that the page asks for. It stays, so that an open page goes on after a restart.
    pub(crate) fn page_token(&self) -> Result<String, Error> {
        let path = self.path.join("page-token");
        if let Ok(token) = fs::read_to_string(&path)
            && token.len() == 32
            && token.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Ok(token);
        }
        let token = format!("{:032x}", rand::rng().random::<u128>());
        write_private(&path, token.as_bytes()).map_err(state("write", &path))?;
        Ok(token)
    }
}

/// Writes a file that only its owner may read, in one step: a crash leaves the old one or the new one.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = match options.open(&new) {
        // A predecessor with our process id crashed here.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&new)?;
            options.open(&new)?
        }
        other => other?,
    };
    let written = file.write_all(bytes).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&new);
    }
    written
}

fn create(path: &Path) -> Result<(), Error> {
    if !path.exists() {
        return DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(state("make", path));
    }
    let metadata = fs::metadata(path).map_err(state("read", path))?;
    if !metadata.is_dir() {
        return Err(state("use", path)(io::ErrorKind::NotADirectory.into()));
    }
    // What lies here is trusted: credentials, and files that root writes.
    if metadata.uid() != nix::unistd::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
        return Err(Error::UnsafeState(path.to_owned()));
    }
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions(path, private).map_err(state("protect", path))
}

fn lock(state_dir: &Path) -> Result<Flock<File>, Error> {
    let path = state_dir.join("lock");
    let begin = Instant::now();
    loop {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(state("open", &path))?;
        let mut holder = String::new();
        file.read_to_string(&mut holder).map_err(state("read", &path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                let write = |lock: &mut File| {
                    lock.set_len(0)?;
                    lock.rewind()?;
                    write!(lock, "{}", std::process::id())
                };
                write(&mut lock).map_err(state("write", &path))?;
                return Ok(lock);
            }
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {}
            Err((_, error)) => return Err(state("lock", &path)(error.into())),
        }
        let pid = holder.trim().parse::<u32>().ok();
        let alive = pid.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists());
        if begin.elapsed() > if alive { DYING } else { DEAD } {
            let who = pid.map_or_else(|| "its process is not known".to_owned(), |pid| format!("pid {pid}"));
            let who_pid = pid.map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
            return Err(Error::Running { state: state_dir.to_owned(), who, who_pid });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn state(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::State { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(state: &Path) -> Options {
        Options { state: Some(state.to_owned()), ..Options::default() }
    }

    #[test]
    fn one_lab_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = State::open(&options(folder.path())).unwrap();
        let message = State::open(&options(folder.path())).unwrap_err().to_string();
        assert!(message.contains(&format!("kill {}", std::process::id())), "{message}");
        drop(first);
        State::open(&options(folder.path())).unwrap();
    }

    #[test]
    fn a_clean_end_forgets_only_without_a_directory_of_ones_own() {
        let folder = tempfile::tempdir().unwrap();
        for (keeps, forgets) in [(true, false), (false, true)] {
            let mut state = State::open(&options(folder.path())).unwrap();
            assert!(!state.forgets());
            state.keeps = keeps;
            state.ended().unwrap();
            drop(state);
            let state = State::open(&options(folder.path())).unwrap();
            assert_eq!(state.forgets(), forgets);
            state.begun().unwrap();
        }
        assert!(!State::open(&options(folder.path())).unwrap().forgets(), "a crash after a start forgets nothing");
    }

    #[test]
    fn the_token_stays_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&options(folder.path())).unwrap();
        let token = state.page_token().unwrap();
        assert_eq!(state.page_token().unwrap(), token);
        let mode = fs::metadata(folder.path().join("page-token")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_directory_that_others_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(State::open(&options(folder.path())), Err(Error::UnsafeState(_))));
    }
}
