//! Calls of bpf(2), by the kernel's own trace.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::fd::AsRawFd,
    path::PathBuf,
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// What threads of one name call, from when it is made on.
pub struct Calls {
    _root: File,
    instance: PathBuf,
}

impl Calls {
    pub fn of(thread: &str) -> Self {
        let root = thread::spawn(|| {
            // A mount namespace of the thread's own: what it mounts stays as long as somebody has it open.
            unshare(CloneFlags::CLONE_NEWNS).expect("root can make a mount namespace");
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).expect("root can make mounts private");
            mount(Some("tracefs"), "/sys/kernel", Some("tracefs"), MsFlags::empty(), none)
                .expect("the kernel has tracefs");
            File::open("/sys/kernel").expect("it is there")
        });
        let root = root.join().expect("the thread ends well");
        let id = std::process::id();
        let instance = PathBuf::from(format!("/proc/{id}/fd/{}/instances/signalbox-{id}", root.as_raw_fd()));
        fs::create_dir(&instance).expect("a trace can be made");
        let calls = Self { _root: root, instance };
        calls.set("filter", &format!("comm == \"{thread}\""));
        calls.set("enable", "1");
        calls
    }

    /// How many there were of each command, as linux/bpf.h numbers them.
    pub fn by_command(self) -> BTreeMap<u32, usize> {
        self.set("enable", "0");
        let trace = fs::read_to_string(self.instance.join("trace")).expect("it can be read");
        let commands = trace.lines().filter_map(|line| {
            let command = line.split_once("sys_bpf(cmd: ")?.1.split(',').next()?;
            u32::from_str_radix(command.trim_start_matches("0x"), 16).ok()
        });
        commands.fold(BTreeMap::new(), |mut counts, command| {
            *counts.entry(command).or_default() += 1;
            counts
        })
    }

    fn set(&self, file: &str, value: &str) {
        fs::write(self.instance.join("events/syscalls/sys_enter_bpf").join(file), value).expect("calls can be traced");
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let _kept_by_the_kernel = fs::remove_dir(&self.instance);
    }
}
