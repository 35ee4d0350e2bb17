//! How a pod resolves names: the `/etc/resolv.conf` and `/etc/hosts` that a process of its sees.
//!
//! What lies in a container belongs to whoever runs there: paths are resolved as if the container's root were the root of all, so that no link leads
//! out of it, and only regular files are read, so much of them and no more.

use std::{
    fs::{self, File},
    io::Read,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::PathBuf,
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2},
    sys::stat::Mode,
};
use signalbox_probe::resolve::{Resolver, config::Config};

use super::place::Process;

/// The longest of these files, in bytes.
const LONGEST: u64 = 64 * 1024;

/// A path below an open folder, for calls that take paths only.
pub fn at(folder: &OwnedFd, below: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{below}", folder.as_raw_fd()))
}

/// The resolver of the pod that these processes are of. Never the node's: what has the node's files, or this agent's own, is passed over.
///
/// # Errors
///
/// Where no process has files of its own: a sentence for people.
pub fn resolver(processes: &[Process]) -> Result<Resolver, String> {
    // Of this agent, and of the node where its processes are seen: whoever entered the pod's network only has one of these.
    let not_theirs: Vec<u64> = ["/proc/self/ns/mnt", "/proc/1/ns/mnt"]
        .iter()
        .filter_map(|path| fs::metadata(path).ok())
        .map(|at| at.ino())
        .collect();
    let is_own = |process: &&Process| {
        fs::metadata(at(&process.folder, "ns/mnt")).is_ok_and(|metadata| !not_theirs.contains(&metadata.ino()))
    };
    let own: Vec<&Process> = processes.iter().filter(is_own).collect();
    let mut why = "no process in its network namespace has files of its own".to_owned();
    let mut found = None;
    for process in &own {
        match read(process, "etc/resolv.conf") {
            Ok(text) => {
                found = Some(text);
                break;
            }
            Err(error) => why = format!("its /etc/resolv.conf cannot be read: {error}"),
        }
    }
    let Some(text) = found else {
        return Err(format!("the pod's way to resolve names is not known ({why}): name an address"));
    };
    // A sandbox's own process has none.
    let hosts = own.iter().find_map(|process| read(process, "etc/hosts").ok()).unwrap_or_default();
    Ok(Resolver::new(Config::parse(&text), hosts))
}

fn read(process: &Process, path: &str) -> std::io::Result<String> {
    let root = openat(&process.folder, "root", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    read_in(&root, path)
}

fn read_in(root: &OwnedFd, path: &str) -> std::io::Result<String> {
    // Opening a FIFO would wait for whoever writes to it.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let within = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let file = File::from(openat2(root, path, OpenHow::new().flags(flags).resolve(within))?);
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::{fcntl::open, unistd::mkfifo};

    use super::*;

    #[test]
    fn no_link_leads_out_of_a_container_and_only_files_are_read() {
        let outside = tempfile::tempdir().expect("a folder");
        std::fs::write(outside.path().join("secret"), "nameserver 192.0.2.1").expect("written");
        let root = tempfile::tempdir().expect("a folder");
        let etc = root.path().join("etc");
        std::fs::create_dir(&etc).expect("made");
        std::fs::write(etc.join("plain"), "nameserver 10.96.0.10").expect("written");
        std::fs::write(etc.join("long"), "x".repeat(100_000)).expect("written");
        symlink(outside.path().join("secret"), etc.join("absolute")).expect("linked");
        symlink("../../../../../../../../etc/plain", etc.join("upwards")).expect("linked");
        symlink("/proc/self/root/etc/hostname", etc.join("magic")).expect("linked");
        symlink(outside.path(), root.path().join("folder")).expect("linked");
        mkfifo(&etc.join("fifo"), Mode::S_IRUSR | Mode::S_IWUSR).expect("made");
        let folder = open(root.path(), OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).expect("opened");
        let read = |path: &str| read_in(&folder, path);
        assert_eq!(read("etc/plain").expect("it is read"), "nameserver 10.96.0.10");
        assert_eq!(read("etc/upwards").expect("it stays in the root"), "nameserver 10.96.0.10");
        assert_eq!(read("etc/long").expect("its beginning").len(), 65_536);
        for path in ["etc/absolute", "etc/magic", "folder/secret", "etc/fifo", "etc", "etc/none"] {
            let error = read(path).expect_err(path);
            println!("{path}: {error}");
        }
    }
}
