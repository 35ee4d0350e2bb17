//! The pod's root file system: small, read-only, its own.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use crate::channel::Setup;

/// Where the tree that pods share is mounted, in the mount namespace of the node's holder. A folder that every
/// machine has and that an unprivileged user may enter.
pub(super) const SHARED: &str = "/tmp";
/// The probe's name in `/bin`.
pub(super) const PROBE: &str = "signalbox-probe";

/// Who runs in a pod: nobody in particular.
pub(super) const USER: u32 = 65532;

const NONE: Option<&str> = None;
const QUIET: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// Makes the root and moves into it. Afterwards nothing of the machine's file systems can be reached.
pub(super) fn enter(setup: &Setup) -> Result<(), String> {
    let fail = |what: &'static str| move |error: nix::errno::Errno| format!("cannot {what}: {error}");
    let write = |what: &'static str| move |error: std::io::Error| format!("cannot {what}: {error}");
    let root = Path::new(SHARED).join("root");
    let at = |path: &str| root.join(path);

    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).map_err(fail("make mounts private"))?;
    mount(Some("tmpfs"), &root, Some("tmpfs"), QUIET, Some("mode=0755,size=512k")).map_err(fail("mount the root"))?;
    for folder in ["bin", "dev", "dev/pts", "etc", "home", "proc", "sys", "tmp", "usr"] {
        fs::create_dir(at(folder)).map_err(write("make a folder of the root"))?;
    }
    for (link, to) in [("sbin", "bin"), ("usr/bin", "../bin"), ("usr/sbin", "../bin")] {
        symlink(to, at(link)).map_err(write("make a link of the root"))?;
    }

    let bin = Path::new(SHARED).join("bin");
    mount(Some(&bin), &at("bin"), NONE, MsFlags::MS_BIND, NONE).map_err(fail("mount /bin"))?;
    mount(NONE, &at("bin"), NONE, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | QUIET, NONE)
        .map_err(fail("make /bin read-only"))?;

    devices(&root)?;
    // Only a mount namespace that still shows a whole /proc may mount another: before the old root goes.
    mount(Some("proc"), &at("proc"), Some("proc"), QUIET | MsFlags::MS_NOEXEC, NONE).map_err(fail("mount /proc"))?;
    mount(Some("tmpfs"), &at("tmp"), Some("tmpfs"), QUIET | MsFlags::MS_NOEXEC, Some("mode=1777,size=4m"))
        .map_err(fail("mount /tmp"))?;

    let files = [
        ("passwd", format!("root:x:0:0:root:/:/bin/sh\nnonroot:x:{USER}:{USER}:nonroot:/home:/bin/sh\n")),
        ("group", format!("root:x:0:\nnonroot:x:{USER}:\n")),
        ("hosts", setup.hosts.clone()),
        ("hostname", format!("{}\n", setup.hostname)),
        ("resolv.conf", setup.resolv_conf.clone()),
        ("nsswitch.conf", "hosts: files dns\n".to_owned()),
    ];
    for (name, text) in files {
        fs::write(at("etc").join(name), text).map_err(write("write a file of /etc"))?;
    }

    chdir(&root).map_err(fail("enter the root"))?;
    pivot_root(".", ".").map_err(fail("change the root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(fail("let go of the machine's root"))?;
    chdir("/").map_err(fail("enter the root"))?;
    mount(NONE, "/", NONE, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | QUIET, NONE)
        .map_err(fail("make the root read-only"))
}

/// The few devices that programs expect. A user namespace may not make device files, so the machine's are mounted.
fn devices(root: &Path) -> Result<(), String> {
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let to = root.join("dev").join(name);
        let from = Path::new("/dev").join(name);
        File::create(&to).map_err(|error| format!("cannot make /dev/{name}: {error}"))?;
        mount(Some(&from), &to, NONE, MsFlags::MS_BIND, NONE)
            .map_err(|error| format!("cannot mount /dev/{name}: {error}"))?;
    }
    mount(
        Some("devpts"),
        &root.join("dev/pts"),
        Some("devpts"),
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        Some("newinstance,ptmxmode=0666,mode=0620"),
    )
    .map_err(|error| format!("cannot mount /dev/pts: {error}"))?;
    let links = [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    for (name, to) in links {
        symlink(to, root.join("dev").join(name)).map_err(|error| format!("cannot make /dev/{name}: {error}"))?;
    }
    Ok(())
}
