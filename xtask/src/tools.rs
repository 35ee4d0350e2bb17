//! Programs from crates that are built once, into `.tools/`.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::packages;
use crate::step::{command, output, root, run, step};

const BPF_LINKER: &str = "0.13.0";
const CARGO_DENY: &str = "0.20.2";
const CARGO_FUZZ: &str = "0.13.2";
/// Must not be older than the LLVM of the rustc that compiles the kernel programs.
const LLVM: &str = "22";

/// `bpf-linker`, and the folder to put in front of PATH.
pub fn bpf_linker() -> Result<PathBuf> {
    let folder = root().join(".tools/bin");
    if has("bpf-linker", BPF_LINKER) {
        return Ok(folder);
    }
    packages::ensure(packages::TOOLCHAIN)?;
    let prefix = root().join(".tools/llvm");
    let library = prefix.join("lib/libLLVM.so");
    std::fs::create_dir_all(prefix.join("lib")).context("cannot make .tools/llvm/lib")?;
    if library.symlink_metadata().is_ok() {
        std::fs::remove_file(&library).context("cannot replace .tools/llvm/lib/libLLVM.so")?;
    }
    let system = format!("/usr/lib/x86_64-linux-gnu/libLLVM.so.{LLVM}.1");
    std::os::unix::fs::symlink(system, &library).context("cannot link libLLVM.so")?;
    install("bpf-linker", BPF_LINKER, &["--no-default-features", "--features", &format!("llvm-{LLVM}")], &prefix)?;
    Ok(folder)
}

/// `cargo-deny`.
pub fn cargo_deny() -> Result<PathBuf> {
    packages::ensure(packages::BUILD)?;
    if !has("cargo-deny", CARGO_DENY) {
        install("cargo-deny", CARGO_DENY, &[], &root())?;
    }
    Ok(root().join(".tools/bin/cargo-deny"))
}

/// `cargo-fuzz`, by the folder to put in front of PATH.
pub fn cargo_fuzz() -> Result<PathBuf> {
    packages::ensure(packages::BUILD)?;
    if !has("cargo-fuzz", CARGO_FUZZ) {
        install("cargo-fuzz", CARGO_FUZZ, &[], &root())?;
    }
    Ok(root().join(".tools/bin"))
}

fn has(program: &str, version: &str) -> bool {
    let printed = output(command(root().join(".tools/bin").join(program)).arg("--version"));
    printed.is_some_and(|text| text.split_whitespace().any(|word| word == version))
}

fn install(name: &str, version: &str, flags: &[&str], llvm: &std::path::Path) -> Result<()> {
    step(&format!("build {name} {version} (once, a few minutes)"), || {
        run(command("cargo")
            .args(["install", name, "--version", version, "--locked", "--root", ".tools"])
            .args(flags)
            // They run for seconds: optimising them to the last would take longer than it ever saves.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("LLVM_PREFIX", llvm))
    })
}
