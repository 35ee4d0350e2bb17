//! Everything that must hold before a change lands.

use anyhow::Result;

use crate::step::{command, output, run, step};
use crate::{artifact, cluster, fuzz, need_root, packages, toolchain, tools};

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
    let binary = artifact::binary()?;
    step("check licences, bans and sources", || {
        // Advisories are left out: their database lives on the network. See CONTRIBUTING.md.
        run(command(tools::cargo_deny()?).args(["--locked", "check", "licenses", "bans", "sources"]))
    })?;
    lints()?;
    tests(&[])?;
    fuzz::manifests(fuzz::IN_CI)?;
    crate::step::say(&format!("all checks passed; the binary is {}", binary.display()));
    Ok(())
}

/// Clippy without a warning: on the workspace natively, and on what that does not see, for the targets that it is built for.
pub fn lints() -> Result<()> {
    toolchain::components()?;
    step("lint", || {
        run(command("cargo")
            .args(["clippy", "--locked", "--workspace", "--exclude", "signalbox-enforcer-ebpf", "--all-targets"])
            .args(["--features", "signalbox-e2e/cluster"])
            .args(["--", "-Dwarnings"]))
    })?;
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

/// The tests, all or those whose name contains one of `filters`.
pub fn tests(filters: &[String]) -> Result<()> {
    need_root("the tests make network namespaces and load kernel programs")?;
    packages::ensure(packages::RUN)?;
    packages::ensure(packages::TEST)?;
    artifact::binary()?;
    step("run the tests of xtask", || {
        run(command("cargo").args(["test", "--locked", "-p", "xtask", "--"]).args(filters))
    })?;
    artifact::kernel_of_another_layout()?;
    if output(command("cargo").args(["nextest", "--version"])).is_none() {
        let packages = TESTED.iter().flat_map(|name| ["-p", name]);
        return step("run the tests", || {
            run(command("cargo")
                .envs(suites())
                .args(["test", "--locked", "--no-fail-fast"])
                .args(packages)
                .args(["--", "--test-threads=1"])
                .args(filters))
        });
    }
    let suites = suites();
    // The lab's tests watch the clock of a whole system: they run when nothing else keeps the machine busy. All name
    // all packages, so that all have the same features and nothing is built twice.
    let whole = "package(signalbox-e2e)";
    for (what, which) in
        [("run the tests of the parts", format!("not {whole}")), ("run the tests of the whole", whole.to_owned())]
    {
        step(what, || {
            run(command("cargo")
                .args(["nextest", "run", "--locked", "--no-tests", "pass"])
                .args(TESTED.iter().flat_map(|name| ["-p", name]))
                .args(["-E", &which])
                .envs(suites)
                .args(filters))
        })?;
    }
    Ok(())
}

/// The tests on a real Kubernetes of two nodes, which is compiled before if it is not there: the first time takes half an hour. They are
/// no part of [`everything`].
pub fn on_a_cluster(filters: &[String]) -> Result<()> {
    need_root("the tests make network namespaces and load kernel programs")?;
    packages::ensure(packages::TEST)?;
    artifact::binary()?;
    cluster::ready()?;
    step("run the tests on a real cluster", || {
        run(command("cargo")
            .args([
                "test",
                "--locked",
                "-p",
                "signalbox-e2e",
                "--features",
                "cluster",
                "--test",
                "cluster_install",
                "--test",
                "cluster_faults",
                "--",
            ])
            .arg("--test-threads=1")
            .args(filters))
    })
}

/// What tells the tests that the public suites are not on this machine, if so; said aloud, since two tests check nothing then.
fn suites() -> Option<(&'static str, &'static str)> {
    let named = std::env::var_os("SIGNALBOX_SUITES").is_some();
    if named || crate::step::root().join("../shared/suites").is_dir() {
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
