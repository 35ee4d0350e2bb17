//! The two-node cluster of the end-to-end tests: what `e2e/cluster/install.sh` makes of it once.

use std::process::Command;

use anyhow::Result;

use crate::step::{root, run, step};
use crate::{images, packages};

/// Everything that the tests on the cluster need.
pub fn ready() -> Result<()> {
    packages::ensure(packages::RUN)?;
    packages::ensure(packages::CLUSTER)?;
    images::for_tests()?;
    step("prepare the cluster of the tests", || run(&mut Command::new(root().join("e2e/cluster/install.sh"))))
}
