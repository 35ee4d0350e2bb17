//! The two-node cluster of the end-to-end tests: what `e2e/cluster/install.sh` makes of it once.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::step::{command, root, run, say, step};
use crate::{images, packages};

/// Kubernetes being compiled beside everything else. Dropped, it is ended.
pub struct Compiling {
    child: Option<Child>,
}

/// Starts to make what is missing. A build has long stretches in which it needs one core only: there is the other one for this.
pub fn start() -> Result<Compiling> {
    // Here and not in the script: two apt-get at a time would be in each other's way.
    packages::ensure(packages::RUN)?;
    packages::ensure(packages::CLUSTER)?;
    let script = script();
    say("compile Kubernetes for the tests, beside the rest …");
    let log = std::fs::File::create(log())?;
    let mut compile = command("nice");
    compile.args(["-n", "10"]).arg(&script).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = compile.spawn().with_context(|| format!("cannot start {}", script.display()))?;
    Ok(Compiling { child: Some(child) })
}

impl Compiling {
    /// Waits until it is done.
    pub fn finish(mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        step("wait until Kubernetes is compiled", || {
            let status = child.wait()?;
            ensure!(status.success(), "e2e/cluster/install.sh ended with {status}; see {}", log().display());
            Ok(())
        })
    }
}

impl Drop for Compiling {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _already = child.kill();
            let _gone = child.wait();
        }
    }
}

/// Everything that the tests on the cluster need.
pub fn ready() -> Result<()> {
    packages::ensure(packages::RUN)?;
    packages::ensure(packages::CLUSTER)?;
    images::for_tests()?;
    step("prepare the cluster of the tests", || run(&mut Command::new(script())))
}

fn script() -> PathBuf {
    root().join("e2e/cluster/install.sh")
}

fn log() -> PathBuf {
    root().join("target/kubernetes.log")
}
