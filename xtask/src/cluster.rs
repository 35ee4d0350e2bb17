//! The two-node cluster of the end-to-end tests: what `e2e/cluster/install.sh` makes of it once.

use std::process::Command;

use anyhow::{Context, Result};

use crate::step::{root, run, step};
use crate::{images, packages};

/// Whether Kubernetes is there in the version that the tests want.
pub fn is_compiled() -> Result<bool> {
    let mut asked = Command::new(root().join("e2e/cluster/install.sh"));
    let status = asked.arg("--is-compiled").status().context("cannot start e2e/cluster/install.sh")?;
    Ok(status.success())
}

/// Everything that the tests on the cluster need.
pub fn ready() -> Result<()> {
    packages::ensure(packages::RUN)?;
    packages::ensure(packages::CLUSTER)?;
    images::for_tests()?;
    step("prepare the cluster of the tests", || run(&mut Command::new(root().join("e2e/cluster/install.sh"))))
}
