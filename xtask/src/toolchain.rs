//! Which cargo builds for the browser and for the kernel.
//!
//! A rustup toolchain that has the target's standard library is used as it is. Otherwise Debian's packages serve: their
//! cargo and rustc, called by path so that no rustup proxy comes between, and their source of the standard library.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::packages;
use crate::step::{command, output};

/// A cargo for one target, and the flags that it needs before the crate's own.
pub struct Cargo {
    program: &'static str,
    environment: Vec<(&'static str, &'static str)>,
    flags: &'static [&'static str],
}

impl Cargo {
    /// `cargo build` with this toolchain's flags.
    pub fn build(&self) -> Command {
        let mut command = command(self.program);
        command.arg("build").args(self.flags).envs(self.environment.iter().copied());
        command
    }
}

/// For `wasm32-unknown-unknown`.
pub fn browser() -> Result<Cargo> {
    if has_target("wasm32-unknown-unknown") {
        return Ok(Cargo { program: "cargo", environment: Vec::new(), flags: &[] });
    }
    packages::ensure(packages::TOOLCHAIN)?;
    let mut environment = debian();
    environment.push(("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld-22"));
    Ok(Cargo { program: "/usr/bin/cargo", environment, flags: &["-Zbuild-std=std,panic_abort"] })
}

/// For `bpfel-unknown-none`: Debian has its `core` ready made.
pub fn kernel() -> Result<Cargo> {
    packages::ensure(packages::TOOLCHAIN)?;
    Ok(Cargo { program: "/usr/bin/cargo", environment: debian(), flags: &[] })
}

fn debian() -> Vec<(&'static str, &'static str)> {
    vec![("RUSTC", "/usr/bin/rustc"), ("RUSTC_BOOTSTRAP", "1")]
}

fn has_target(target: &str) -> bool {
    let libraries = output(command("rustc").args(["--print", "target-libdir", "--target", target]));
    libraries.is_some_and(|path| Path::new(path.trim()).is_dir())
}
