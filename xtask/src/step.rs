//! Runs commands, says what it does and how long it took.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::room;

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
    let result = work().with_context(|| match room::is_scarce() {
        Some(full) => format!("{what} failed, and {full}"),
        None => format!("{what} failed"),
    })?;
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

thread_local! {
    static IS_ASIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs work beside something that must not suffer from it: what this thread runs meanwhile has the lowest priority, and what it prints
/// is shown only where it fails.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    IS_ASIDE.set(true);
    let result = work();
    IS_ASIDE.set(false);
    result
}

/// Runs to the end; an exit status other than 0 is an error that names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let status = if IS_ASIDE.get() {
        let output = gently(command).output().with_context(|| format!("cannot start {}", line(command)))?;
        if !output.status.success() {
            eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        }
        output.status
    } else {
        command.status().with_context(|| format!("cannot start {}", line(command)))?
    };
    if !status.success() {
        bail!("{} ended with {status}", line(command));
    }
    Ok(())
}

/// The same command, at the lowest priority.
fn gently(command: &Command) -> Command {
    let mut gentle = Command::new("nice");
    gentle.args(["-n", "19"]).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        gentle.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => gentle.env(name, value),
            None => gentle.env_remove(name),
        };
    }
    gentle
}

/// The second result of two things that ran beside each other. Where both failed the first error is told here, since one alone can be returned.
pub fn both<T>(first: Result<()>, second: Result<T>) -> Result<T> {
    match (first, second) {
        (Ok(()), second) => second,
        (Err(first), Ok(_)) => Err(first),
        (Err(first), Err(second)) => {
            say(&format!("{first:#}"));
            Err(second)
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_results_no_error_is_lost() {
        use anyhow::anyhow;
        let failed = |result: Result<u8>| result.expect_err("fails").to_string();
        assert_eq!(both(Ok(()), Ok(1)).expect("both are well"), 1);
        assert_eq!(failed(both(Err(anyhow!("a")), Ok(1))), "a");
        assert_eq!(failed(both(Ok(()), Err(anyhow!("b")))), "b");
        assert_eq!(failed(both(Err(anyhow!("a")), Err(anyhow!("b")))), "b");
    }

    #[test]
    fn what_runs_aside_is_gentle_and_fails_as_it_would() {
        let in_folder = |script: &str| {
            let mut shell = command("sh");
            shell.args(["-c", script]).env("WORD", "kept");
            shell
        };
        // Field 19 of stat is the niceness; the name before it has no spaces.
        let is_nice = format!(
            "test $WORD = kept && test $PWD = {} && test $(cut -d' ' -f19 /proc/$$/stat) = 19",
            root().display()
        );
        assert!(aside(|| run(&mut in_folder(&is_nice))).is_ok());
        assert!(run(&mut in_folder(&is_nice)).is_err(), "what comes after it is not");
        let failed = aside(|| run(&mut in_folder("exit 3"))).expect_err("fails");
        assert!(failed.to_string().contains("sh -c exit 3 ended with exit status: 3"), "{failed}");
    }
}
