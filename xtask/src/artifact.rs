//! The page, the kernel programs, the probe, and the binary that embeds them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use wasm_bindgen_cli_support::Bindgen;

use crate::stamp::unless_fresh;
use crate::step::{artifacts, both, command, root, run, step};
use crate::{packages, room, toolchain, tools};

const HOST: &str = "x86_64-unknown-linux-gnu";

/// Builds everything that has changed; the path of `signalbox`. Beside it lies `signalbox-enforcer`, the agent of a node.
pub fn binary() -> Result<PathBuf> {
    let binary = root().join("target/release/signalbox");
    // What has been built once finds its room in what it replaces.
    if !binary.exists() {
        room::ensure(room::BUILD)?;
    }
    packages::ensure(packages::BUILD)?;
    // The page takes longest, and most of that one core.
    std::thread::scope(|scope| {
        let page = scope.spawn(page);
        let others = kernel_programs().and_then(|()| probe());
        let page = page.join().map_err(|_| anyhow!("the build of the page ended by a panic"))?;
        both(others, page)
    })?;
    let inputs = [
        "Cargo.toml",
        "Cargo.lock",
        "api",
        "policy",
        "server",
        "enforcer",
        "lab",
        "assets",
        "target/artifacts/ui",
        "target/artifacts/enforcer.bpf.o",
        "target/artifacts/signalbox-probe",
    ];
    unless_fresh("signalbox", &inputs, &binary, || {
        step("build signalbox", || {
            run(command("cargo").args([
                "build",
                "--locked",
                "--release",
                "-p",
                "signalbox-lab",
                "-p",
                "signalbox-enforcer",
            ]))
        })
    })?;
    Ok(binary)
}

/// The eBPF object that the enforcer embeds.
pub fn kernel_programs() -> Result<()> {
    kernel_object("enforcer.bpf.o", &[])
}

/// The same with the programs that only the benches run.
pub fn kernel_benches() -> Result<()> {
    kernel_object("enforcer-bench.bpf.o", &["--features", "bench"])
}

/// The same with keys and values of other sizes, which the test of upgrades replaces it by.
pub fn kernel_of_another_layout() -> Result<()> {
    kernel_object("enforcer-other.bpf.o", &["--features", "other-layout"])
}

fn kernel_object(name: &str, flags: &[&str]) -> Result<()> {
    let output = artifacts().join(name);
    let inputs = ["Cargo.toml", "Cargo.lock", "enforcer/common", "enforcer/ebpf"];
    unless_fresh(name, &inputs, &output, || {
        let linker = tools::bpf_linker()?;
        let cargo = toolchain::kernel()?;
        // All objects come from one file, each with its own features: nobody else makes another before this one is taken.
        fs::create_dir_all(root().join("target/bpf")).context("cannot make target/bpf")?;
        let turn = fs::File::create(root().join("target/bpf/turn")).context("cannot make target/bpf/turn")?;
        turn.lock().context("cannot wait for target/bpf/turn")?;
        step(&format!("build the kernel programs: {name}"), || {
            let compiler = ["--cfg=bpf_target_arch=\"x86_64\"", "-Cdebuginfo=2", "-Clink-arg=--btf", "-Ctarget-cpu=v3"];
            let path = std::env::var("PATH").unwrap_or_default();
            run(cargo
                .build()
                .args(["--locked", "--release", "-p", "signalbox-enforcer-ebpf"])
                .args(["--target", "bpfel-unknown-none", "--target-dir", "target/bpf"])
                .args(flags)
                .env("CARGO_ENCODED_RUSTFLAGS", compiler.join("\x1f"))
                .env("PATH", format!("{}:{path}", linker.display())))?;
            place(&root().join("target/bpf/bpfel-unknown-none/release/enforcer"), &output)
        })
    })
}

/// Clippy on the kernel programs, for the target that they are built for, and with each of their features.
pub fn lint_kernel_programs() -> Result<()> {
    let cargo = toolchain::kernel()?;
    for features in [&[][..], &["--features", "bench"], &["--features", "other-layout"]] {
        step(&format!("lint the kernel programs {}", features.join(" ")), || {
            run(cargo
                .clippy()?
                .args(["--locked", "--release", "-p", "signalbox-enforcer-ebpf"])
                .args(["--target", "bpfel-unknown-none", "--target-dir", "target/bpf-lint"])
                .args(features)
                .args(["--", "-Dwarnings"])
                .env("CARGO_ENCODED_RUSTFLAGS", ["--cfg=bpf_target_arch=\"x86_64\"", "-Ctarget-cpu=v3"].join("\x1f")))
        })?;
    }
    Ok(())
}

/// Clippy on the page, for the browser: natively it lacks what only a browser has. It shares the build of the page's macros.
pub fn lint_page() -> Result<()> {
    let cargo = toolchain::browser()?;
    step("lint the page for WASM", || {
        run(cargo
            .clippy()?
            .args(["--locked", "--profile", "wasm-release", "-p", "signalbox-frontend", "--lib", "--bins"])
            .args(["--target", "wasm32-unknown-unknown", "--target-dir", "target/ui"])
            .args(["--", "-Dwarnings"]))
    })
}

/// The static binary that runs in each pod.
pub fn probe() -> Result<()> {
    let output = artifacts().join("signalbox-probe");
    unless_fresh("signalbox-probe", &["Cargo.toml", "Cargo.lock", "api", "probe"], &output, || {
        step("build the probe", || {
            // With --target the flag reaches the probe alone, and not the procedural macros, which cannot be static.
            run(command("cargo")
                .args(["build", "--locked", "--profile", "probe", "-p", "signalbox-probe"])
                .args(["--target", HOST, "--target-dir", "target/probe"])
                .env("RUSTFLAGS", "-Ctarget-feature=+crt-static"))?;
            place(&root().join(format!("target/probe/{HOST}/probe/signalbox-probe")), &output)
        })
    })
}

/// The page: compiled, bound to JavaScript, and compressed once instead of at each request.
pub fn page() -> Result<()> {
    let output = artifacts().join("ui");
    let inputs = [
        "Cargo.toml",
        "Cargo.lock",
        "api",
        "policy",
        "frontend",
        "assets/ui",
        "assets/lessons",
        "xtask/src/artifact.rs",
    ];
    unless_fresh("ui", &inputs, &output.join("index.html"), || {
        let cargo = toolchain::browser()?;
        step("build the page", || {
            run(cargo
                .build()
                .args([
                    "--locked",
                    "--profile",
                    "wasm-release",
                    "-p",
                    "signalbox-frontend",
                    "--bin",
                    "signalbox-frontend",
                ])
                .args(["--target", "wasm32-unknown-unknown", "--target-dir", "target/ui"]))?;
            let wasm = root().join("target/ui/wasm32-unknown-unknown/wasm-release/signalbox-frontend.wasm");
            let fresh = artifacts().join("ui.new");
            remove(&fresh)?;
            fs::create_dir_all(&fresh)?;
            Bindgen::new()
                .input_path(&wasm)
                .out_name("signalbox")
                .web(true)?
                .typescript(false)
                .omit_default_module_path(false)
                .generate(&fresh)?;
            copy_folder(&root().join("assets/ui"), &fresh)?;
            compress_folder(&fresh)?;
            remove(&output)?;
            fs::rename(&fresh, &output).context("cannot put the new page in place")
        })
    })
}

/// Copies beside the target and renames, so that nobody sees half a file.
fn place(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(artifacts())?;
    let half = to.with_extension("new");
    fs::copy(from, &half).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::rename(&half, to).with_context(|| format!("cannot write {}", to.display()))
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Puts a compressed copy beside each file.
fn compress_folder(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|text| text.to_str()).unwrap_or_default();
        if path.is_dir() {
            compress_folder(&path)?;
        } else if ["wasm", "js", "css", "svg", "html"].contains(&extension) {
            compress(&path)?;
        }
    }
    Ok(())
}

/// Puts a compressed copy beside a file.
pub fn compress(path: &Path) -> Result<()> {
    let parameters = brotli::enc::BrotliEncoderParams { quality: 11, ..Default::default() };
    let mut packed = Vec::new();
    brotli::BrotliCompress(&mut fs::read(path)?.as_slice(), &mut packed, &parameters)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".br");
    fs::write(name, packed).with_context(|| format!("cannot write {}.br", path.display()))
}
