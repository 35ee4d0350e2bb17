//! A small real runtime: every command is a process of this machine, run as whoever runs the test.

use std::process::Stdio;

use futures::FutureExt;
use futures::future::BoxFuture;
use signalbox_lab_streaming::runtime::{
    ExecRequest, ExecSession, ExitStatus, LogRequest, Output, PodRuntime, RuntimeError, Target,
};
use tokio::process::Command;
use tokio::sync::mpsc;

/// Runs commands beside the test itself.
pub struct Processes;

impl PodRuntime for Processes {
    fn exec(&self, target: Target, request: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>> {
        async move {
            let io = |source| RuntimeError::Io { action: "run a command in", target: format!("{target:?}"), source };
            let mut child = Command::new(&request.command[0])
                .args(&request.command[1..])
                .stdin(if request.stdin { Stdio::piped() } else { Stdio::null() })
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .map_err(io)?;
            let stdin = child.stdin.take().map(|stdin| Box::pin(stdin) as _);
            let stdout = Box::pin(child.stdout.take().expect("standard output is piped"));
            let stderr = child.stderr.take().map(|stderr| Box::pin(stderr) as _);
            let (resize, _) = mpsc::channel(1);
            let exit = async move {
                match child.wait().await {
                    Ok(status) => status.code().map_or(ExitStatus::Signal(9), ExitStatus::Code),
                    Err(error) => ExitStatus::Failed(error.to_string()),
                }
            };
            Ok(ExecSession { stdin, stdout, stderr, resize, exit: exit.boxed() })
        }
        .boxed()
    }

    fn logs(&self, target: Target, _request: LogRequest) -> BoxFuture<'_, Result<Output, RuntimeError>> {
        async move {
            let text = format!("log of {target:?}\n");
            Ok(Box::pin(std::io::Cursor::new(text.into_bytes())) as Output)
        }
        .boxed()
    }
}
