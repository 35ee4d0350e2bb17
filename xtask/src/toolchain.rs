//! Which cargo builds for the browser and for the kernel.
//!
//! A rustup toolchain that has the target's standard library is used as it is. Otherwise Debian's packages serve: their
//! cargo and rustc, called by path so that no rustup proxy comes between, and their source of the standard library.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::packages;
use crate::step::{command, output};

/// A cargo for one target, and the flags that it needs before the crate's own.
pub struct Cargo {
    program: &'static str,
    environment: Vec<(&'static str, &'static str)>,
    flags: &'static [&'static str],
    clippy: Clippy,
}

/// Whose linter belongs to a cargo: it must be of the compiler's own version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clippy {
    OnPath,
    /// Called by path, since cargo would take a rustup proxy on PATH.
    Debian,
}

impl Cargo {
    /// `cargo build` with this toolchain's flags.
    pub fn build(&self) -> Command {
        let mut command = command(self.program);
        command.arg("build").args(self.flags).envs(self.environment.iter().copied());
        command
    }

    /// `cargo clippy` with this toolchain's flags.
    pub fn clippy(&self) -> Result<Command> {
        let mut command = match self.clippy {
            Clippy::OnPath => command(self.program),
            Clippy::Debian => {
                packages::ensure(packages::CLIPPY)?;
                let mut command = command("/usr/bin/cargo-clippy");
                command.env("CARGO", self.program);
                command
            }
        };
        command.arg("clippy").args(self.flags).envs(self.environment.iter().copied());
        Ok(command)
    }
}

/// What the checks of formatting and the lints of the host's own toolchain are done with.
///
/// # Errors
/// Where cargo has it not, with what brings it. Debian's is installed where cargo is Debian's.
pub fn components() -> Result<()> {
    for Component { subcommand, rustup, packages } in COMPONENTS {
        if output(command("cargo").args([subcommand, "--version"])).is_some() {
            continue;
        }
        let is_rustups = output(command("rustup").args(["show", "active-toolchain"])).is_some();
        if is_rustups {
            bail!(
                "cargo has no `{subcommand}`: `rustup component add {rustup}` brings it. Debian's packages {} belong to Debian's cargo, not to rustup's",
                names(packages)
            );
        }
        packages::ensure(packages)?;
        if output(command("cargo").args([subcommand, "--version"])).is_none() {
            bail!("cargo has no `{subcommand}`, though the package {} is there: put /usr/bin on PATH", names(packages));
        }
    }
    Ok(())
}

/// A subcommand of cargo that comes by itself.
struct Component {
    subcommand: &'static str,
    rustup: &'static str,
    packages: &'static [packages::Need],
}

const COMPONENTS: [Component; 2] = [
    Component { subcommand: "fmt", rustup: "rustfmt", packages: packages::RUSTFMT },
    Component { subcommand: "clippy", rustup: "clippy", packages: packages::CLIPPY },
];

fn names(packages: &[packages::Need]) -> String {
    packages.iter().map(|(_, package)| *package).collect::<Vec<_>>().join(" ")
}

/// For `wasm32-unknown-unknown`.
pub fn browser() -> Result<Cargo> {
    if has_target("wasm32-unknown-unknown") {
        return Ok(Cargo { program: "cargo", environment: Vec::new(), flags: &[], clippy: Clippy::OnPath });
    }
    packages::ensure(packages::TOOLCHAIN)?;
    let mut environment = debian();
    environment.push(("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld-22"));
    Ok(Cargo {
        program: "/usr/bin/cargo",
        environment,
        flags: &["-Zbuild-std=std,panic_abort"],
        clippy: Clippy::Debian,
    })
}

/// For `bpfel-unknown-none`: Debian has its `core` ready made.
pub fn kernel() -> Result<Cargo> {
    packages::ensure(packages::TOOLCHAIN)?;
    Ok(Cargo { program: "/usr/bin/cargo", environment: debian(), flags: &[], clippy: Clippy::Debian })
}

fn debian() -> Vec<(&'static str, &'static str)> {
    vec![("RUSTC", "/usr/bin/rustc"), ("RUSTC_BOOTSTRAP", "1")]
}

fn has_target(target: &str) -> bool {
    let libraries = output(command("rustc").args(["--print", "target-libdir", "--target", target]));
    libraries.is_some_and(|path| Path::new(path.trim()).is_dir())
}
