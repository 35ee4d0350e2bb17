//! Measures the engine, natively and in WASM, the datapath, and the server in front of a large cluster, and has the figures written into
//! docs/performance.md.

use std::fs;

use anyhow::{Context, Result};

use crate::step::{command, output, root, run, step};
use crate::{artifact, need_root, packages, toolchain};

const WASM: &str = "wasm32-unknown-unknown";

/// The engine's benches, the load of a very large cluster, and the full matrix in WASM beside the native one.
pub fn engine() -> Result<()> {
    let folder = root().join("target/engine");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let keep = |name: &str, command: &mut std::process::Command| {
        let text = output(command).with_context(|| format!("measuring for {name} failed"))?;
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    step("measure the engine", || {
        run(command("cargo").args(["bench", "--locked", "-p", "signalbox-policy", "--bench", "engine"]))
    })?;
    step("measure the load of a very large cluster", || {
        keep("load.json", command("cargo").args(["bench", "--locked", "-p", "signalbox-policy", "--bench", "load"]))
    })?;
    let manifest = ["--manifest-path", "policy/wasm-bench/Cargo.toml", "--target-dir", "target/wasm-bench"];
    step("build for WASM and natively", || {
        for profile in ["release", "wasm-release"] {
            run(toolchain::browser()?.build().args(manifest).args(["--lib", "--profile", profile, "--target", WASM]))?;
        }
        run(command("cargo").args(["build", "--release"]).args(manifest))
    })?;
    step("measure in WASM and natively", || {
        let script = "policy/wasm-bench/run.mjs";
        let module = |profile| format!("target/wasm-bench/{WASM}/{profile}/signalbox_policy_wasm_bench.wasm");
        keep("native.txt", &mut command(root().join("target/wasm-bench/release/signalbox-policy-wasm-bench")))?;
        keep("wasm.txt", command("node").args([script, &module("release")]))?;
        keep("wasm-small.txt", command("node").args([script, &module("wasm-release")]))
    })?;
    step("write the figures", || {
        run(command("cargo").args(["run", "--locked", "-p", "signalbox-policy", "--example", "engine_figures"]))
    })
}

/// The kernel programs against an empty one, connections through namespaces, and policies on their way into the kernel.
pub fn datapath() -> Result<()> {
    need_root("the measurements make network namespaces and load kernel programs")?;
    packages::ensure(packages::RUN)?;
    artifact::kernel_programs()?;
    artifact::kernel_benches()?;
    step("measure the datapath", || {
        run(command("cargo").args(["run", "--locked", "--release"]).args([
            "-p",
            "signalbox-enforcer",
            "--example",
            "datapath_figures",
        ]))
    })
}

/// The server in front of clusters of two sizes: time, memory, and what changes in them take.
pub fn server() -> Result<()> {
    packages::ensure(packages::CLIENT)?;
    let binary = artifact::binary()?;
    step("measure the server", || {
        run(command("cargo")
            .args(["run", "--locked", "--release", "-p", "signalbox-e2e", "--example", "server_figures", "--"])
            .arg(binary))
    })
}
