//! Commands, and HTTP by `curl`, as a user types them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e lies in the workspace").to_owned()
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit status; `None` where a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// The standard output; an error with everything printed where the status is not 0.
    pub fn ok(self) -> Result<String> {
        if self.status != Some(0) {
            bail!("ended with {:?}\nstdout: {}\nstderr: {}", self.status, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command to its end, with `input` on its standard input.
pub fn run(command: &mut Command, input: Option<&str>) -> Result<Ran> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    if let Some(input) = input {
        child.stdin.take().expect("standard input is piped").write_all(input.as_bytes())?;
    }
    Ok(child.wait_with_output()?.into())
}

/// An answer to an HTTP request.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// One request by `curl`, with its further arguments. Only to loopback: the callers pass a lab's own URLs.
pub fn curl(arguments: &[&str], url: &str) -> Result<Answer> {
    anyhow::ensure!(url.contains("://127.0.0.1:"), "{url} is not on loopback");
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*", "--write-out", "\n%{http_code}"]);
    let printed = run(command.args(arguments).arg(url), None)?.ok()?;
    let (body, status) = printed.rsplit_once('\n').context("curl printed no status")?;
    Ok(Answer { status: status.parse()?, body: body.to_owned() })
}
