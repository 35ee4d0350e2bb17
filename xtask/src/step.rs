//! Runs commands, says what it does and how long it took.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// Where built parts lie that the binary embeds.
pub fn artifacts() -> PathBuf {
    root().join("target/artifacts")
}

/// One line for people, apart from what the commands print.
pub fn say(line: &str) {
    eprintln!("xtask: {line}");
}

/// Announces a step, runs it, and says how long it took if that was over a second.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(&format!("{what} …"));
    let start = Instant::now();
    let result = work().with_context(|| format!("{what} failed"))?;
    let took = start.elapsed();
    if took.as_secs() >= 1 {
        say(&format!("{what}: done in {:.0} s", took.as_secs_f64()));
    }
    Ok(result)
}

/// A command in the workspace's root, without flags that somebody's environment holds for the native build.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    for inherited in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER"]
    {
        command.env_remove(inherited);
    }
    // Set by the cargo that runs xtask; they would steer the toolchain of an inner cargo.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO" {
            command.env_remove(&*name);
        }
    }
    command
}

/// Runs to the end; an exit status other than 0 is an error that names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", line(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", line(command));
    }
    Ok(())
}

/// Runs to the end and returns what it printed on standard output; `None` where it cannot be started or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
