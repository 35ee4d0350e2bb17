//! Everything that must hold before a change lands.

use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::images::Make;
use crate::step::{aside, both, command, output, root, run, step};
use crate::{artifact, cluster, folder, fuzz, need_root, packages, toolchain, tools};

/// Workspace members whose tests run natively. `xtask` is by itself: with these it would be built a second time, with other features.
const TESTED: &[&str] = &[
    "signalbox-api",
    "signalbox-policy",
    "signalbox-probe",
    "signalbox-server",
    "signalbox-enforcer",
    "signalbox-enforcer-common",
    "signalbox-analysis",
    "signalbox-lab-streaming",
    "signalbox-lab-apiserver",
    "signalbox-lab-node",
    "signalbox-lab",
    "signalbox-e2e",
    "signalbox-frontend",
];

/// Crates that are no members of the workspace.
const OUTSIDE: &[&str] = &["policy/fuzz/Cargo.toml", "policy/wasm-bench/Cargo.toml"];

/// The tests that need a real Kubernetes, by file: what [`everything`] runs of them, and the others.
const ON_A_CLUSTER: &[&str] = &["cluster_install", "cluster_watching"];
const ON_A_CLUSTER_TOO: &[&str] = &["cluster_faults"];

/// Formatting, lock file, licences, lints, all tests, and a bounded while of fuzzing.
pub fn everything() -> Result<()> {
    need_root("the tests make network namespaces and load kernel programs")?;
    toolchain::components()?;
    // The workspace's own was checked when this program was built: the alias in `.cargo/config.toml` is `--locked`.
    for manifest in ["Cargo.toml"].iter().chain(OUTSIDE) {
        step(&format!("check the lock file of {manifest}"), || {
            run(command("cargo")
                .args(["metadata", "--locked", "--format-version", "1", "--manifest-path", manifest])
                .stdout(std::process::Stdio::null()))
        })?;
    }
    step("check the formatting", || {
        run(command("cargo").args(["fmt", "--all", "--check"]))?;
        OUTSIDE
            .iter()
            .try_for_each(|manifest| run(command("cargo").args(["fmt", "--manifest-path", manifest, "--check"])))
    })?;
    // The last part of each build keeps one core only: there is room beside it.
    let binary = std::thread::scope(|scope| {
        let licences = scope.spawn(check_licences);
        let binary = artifact::binary();
        let licences = licences.join().map_err(|_| anyhow!("the check of licences ended by a panic"))?;
        both(licences, binary)
    })?;
    let tests = Tests::prepare()?;
    if tests.has_nextest {
        // Most of these tests wait: for a clock, for a kernel. What only computes has room beside them, once nothing is left to install.
        tools::cargo_fuzz()?;
        toolchain::kernel()?.clippy()?;
        if cluster::unfit().is_none() {
            packages::ensure(packages::CLUSTER)?;
        }
        std::thread::scope(|scope| {
            let beside = scope.spawn(|| aside(lints_and_fuzzing));
            let tested = tests.of_the_parts(&[]);
            let checked = beside.join().map_err(|_| anyhow!("the lints ended by a panic"))?;
            both(tested, checked)
        })?;
        tests.of_the_whole(&[])?;
    } else {
        lints_and_fuzzing()?;
        tests.at_once(&[])?;
    }
    match cluster::unfit() {
        None => tests.on_a_cluster(ON_A_CLUSTER, &[])?,
        Some(why) => crate::step::say(&format!("NOT CHECKED on a real Kubernetes, from install to uninstall: {why}")),
    }
    crate::step::say(&format!("all checks passed; the binary is {}", binary.display()));
    Ok(())
}

fn check_licences() -> Result<()> {
    step("check licences, bans and sources", || {
        // Advisories are left out: their database lives on the network. See CONTRIBUTING.md.
        run(command(tools::cargo_deny()?).args(["--locked", "check", "licenses", "bans", "sources"]))
    })
}

/// Clippy without a warning: on the workspace natively, and on what that does not see, for the targets that it is built for.
pub fn lints() -> Result<()> {
    toolchain::components()?;
    lint_the_workspace()?;
    lint_the_rest()
}

fn lint_the_workspace() -> Result<()> {
    step("lint", || {
        run(command("cargo")
            .args(["clippy", "--locked", "--workspace", "--exclude", "signalbox-enforcer-ebpf", "--all-targets"])
            .args(["--features", "signalbox-e2e/cluster"])
            .args(["--", "-Dwarnings"]))
    })?;
    step("lint the binary of the server's image", || {
        run(command("cargo")
            .args(["clippy", "--locked", "-p", "signalbox-lab", "--no-default-features", "--all-targets"])
            .args(["--", "-Dwarnings"]))
    })
}

/// What [`lint_the_workspace`] does not see.
fn lint_the_rest() -> Result<()> {
    artifact::lint_kernel_programs()?;
    artifact::lint_page()?;
    for manifest in OUTSIDE {
        step(&format!("lint {manifest}"), || {
            run(command("cargo")
                .args([
                    "clippy",
                    "--locked",
                    "--manifest-path",
                    manifest,
                    "--target-dir",
                    "target/lint",
                    "--all-targets",
                ])
                .args(["--", "-Dwarnings"]))
        })?;
    }
    Ok(())
}

/// The lints of the workspace come late: the tests' own call of cargo needs the folder that they lock. And what the tests on a cluster need
/// is made at the end, so that it is there when they start.
fn lints_and_fuzzing() -> Result<()> {
    fuzz::manifests(fuzz::IN_CI)?;
    lint_the_rest()?;
    lint_the_workspace()?;
    if cluster::unfit().is_none() { cluster::ready(Make::Soon) } else { Ok(()) }
}

/// The tests, all or those whose name contains one of `filters`.
pub fn tests(filters: &[String]) -> Result<()> {
    let tests = Tests::prepare()?;
    if tests.has_nextest {
        tests.of_the_parts(filters)?;
        tests.of_the_whole(filters)
    } else {
        tests.at_once(filters)
    }
}

/// The tests, with everything that they need built, after those of xtask, which takes a second.
struct Tests {
    has_nextest: bool,
    suites: Option<(&'static str, &'static str)>,
}

impl Tests {
    fn prepare() -> Result<Self> {
        need_root("the tests make network namespaces and load kernel programs")?;
        packages::ensure(packages::RUN)?;
        packages::ensure(packages::TEST)?;
        artifact::binary()?;
        // The tests of the page in the browser alone serve this folder.
        folder::write(&root().join("target/page"))?;
        artifact::kernel_of_another_layout()?;
        let tests = Self { has_nextest: has_nextest(), suites: suites() };
        step("build the tests", || run(tests.command().arg("--no-run")))?;
        step("run the tests of xtask", || run(command("cargo").args(["test", "--locked", "-p", "xtask"])))?;
        Ok(tests)
    }

    /// All of them name all packages, so that all have the same features and nothing is built twice; but for e2e's own crate, which has one more
    /// on a cluster.
    fn command(&self) -> Command {
        let mut tests = command("cargo");
        let how = if self.has_nextest { &["nextest", "run"][..] } else { &["test", "--no-fail-fast"] };
        tests.args(how).arg("--locked").args(TESTED.iter().flat_map(|name| ["-p", name])).envs(self.suites);
        tests
    }

    fn of_the_parts(&self, filters: &[String]) -> Result<()> {
        self.run("parts", &["-E", "not package(signalbox-e2e)"], filters)
    }

    /// The lab's tests watch the clock of a whole system: they run when nothing else keeps the machine busy.
    fn of_the_whole(&self, filters: &[String]) -> Result<()> {
        self.run("whole", &["-E", "package(signalbox-e2e)"], filters)
    }

    /// Those in these files, on a real Kubernetes of two nodes.
    fn on_a_cluster(&self, files: &[&str], filters: &[String]) -> Result<()> {
        let mut which = vec!["--features", "signalbox-e2e/cluster"];
        which.extend(files.iter().flat_map(|file| ["--test", file]));
        if self.has_nextest {
            return self.run("cluster", &which, filters);
        }
        step("run the tests on a cluster", || {
            run(self.command().args(which).args(["--", "--test-threads=1"]).args(filters))
        })
    }

    /// Runs some of them. How each ended is in `junit-NAME.xml`, whatever comes of it.
    fn run(&self, name: &str, which: &[&str], filters: &[String]) -> Result<()> {
        let folder = root().join("target/nextest/default");
        let kept = folder.join(format!("junit-{name}.xml"));
        for old in [&kept, &folder.join("junit.xml")] {
            if old.exists() {
                std::fs::remove_file(old).with_context(|| format!("cannot remove {}", old.display()))?;
            }
        }
        let tested = step(&format!("run the tests of the {name}"), || {
            run(self.command().args(["--no-tests", "pass"]).args(which).args(filters))
        });
        if folder.join("junit.xml").exists() {
            std::fs::rename(folder.join("junit.xml"), &kept).context("cannot keep junit.xml")?;
        }
        tested
    }

    /// Without nextest: one after the other.
    fn at_once(&self, filters: &[String]) -> Result<()> {
        step("run the tests", || run(self.command().args(["--", "--test-threads=1"]).args(filters)))
    }
}

/// All tests on a real Kubernetes of two nodes, which is compiled before if it is not there: that takes some ten minutes.
pub fn on_a_cluster(make: Make, filters: &[String]) -> Result<()> {
    need_root("the tests make network namespaces and load kernel programs")?;
    if let Some(why) = cluster::unfit() {
        bail!(why);
    }
    packages::ensure(packages::TEST)?;
    artifact::binary()?;
    cluster::ready(make)?;
    let tests = Tests { has_nextest: has_nextest(), suites: None };
    tests.on_a_cluster(&[ON_A_CLUSTER, ON_A_CLUSTER_TOO].concat(), filters)
}

fn has_nextest() -> bool {
    output(command("cargo").args(["nextest", "--version"])).is_some()
}

/// What tells the tests that the public suites are not on this machine, if so; said aloud, since two tests check nothing then.
fn suites() -> Option<(&'static str, &'static str)> {
    let named = std::env::var_os("SIGNALBOX_SUITES").is_some();
    if named || root().join("../shared/suites").is_dir() {
        return None;
    }
    crate::step::say("NOT CHECKED: the public suites are not on this machine; SIGNALBOX_SUITES names their folder");
    Some(("SIGNALBOX_SUITES", "absent"))
}

/// Runs the measurements of `e2e/`, which rewrite docs/performance.md.
pub fn figures() -> Result<()> {
    need_root("the measurements run the lab")?;
    packages::ensure(packages::RUN)?;
    packages::ensure(packages::TEST)?;
    artifact::binary()?;
    step("measure", || run(command("cargo").args(["run", "--locked", "-p", "signalbox-e2e", "--bin", "figures"])))
}
