//! The two-node cluster of the end-to-end tests: what `e2e/cluster/install.sh` makes of it once.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::images::{self, Make};
use crate::packages;
use crate::step::{root, run, step};

/// Where the kubelet of Debian's Kubernetes places its pods.
const CONTROLLERS: &[&str] = &["memory", "pids", "cpuset", "devices"];

/// Why the cluster cannot run on this machine, if so, and what helps.
pub fn unfit() -> Option<String> {
    let missing =
        CONTROLLERS.iter().map(|name| format!("/sys/fs/cgroup/{name}")).find(|path| !Path::new(path).is_dir())?;
    Some(format!(
        "there is no {missing}: this Kubernetes needs control groups of version 1 (boot with systemd.unified_cgroup_hierarchy=0)"
    ))
}

/// Everything that the tests on the cluster need.
pub fn ready(make: Make) -> Result<()> {
    packages::ensure(packages::RUN)?;
    packages::ensure(packages::CLUSTER)?;
    images::for_tests(make)?;
    step("prepare the cluster of the tests", || run(&mut Command::new(root().join("e2e/cluster/install.sh"))))
}
