//! Calls of bpf(2), by the kernel's own trace.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
};

use crate::support::{mounted, path};

/// What threads of one name call, from when it is made on.
pub struct Calls {
    _root: File,
    instance: PathBuf,
}

impl Calls {
    pub fn of(thread: &str) -> Self {
        let root = mounted("tracefs");
        let instance = path(&root).join("instances").join(format!("signalbox-{}", std::process::id()));
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
