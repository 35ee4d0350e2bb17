//! What several tests use.

use std::time::{Duration, Instant};

use signalbox_lab_node::Node;
use signalbox_lab_streaming::runtime::{ExecRequest, ExecSession, ExitStatus, PodRuntime, Target};
use tokio::io::AsyncReadExt;

pub fn pod(name: &str) -> Target {
    Target::Pod { namespace: "test".to_owned(), name: name.to_owned(), container: None }
}

/// Starts a command.
pub async fn start(node: &Node, target: Target, command: &[&str], tty: bool) -> ExecSession {
    let words = command.iter().map(|word| (*word).to_owned()).collect();
    match node.exec(target, ExecRequest { command: words, stdin: true, tty }).await {
        Ok(session) => session,
        Err(error) => panic!("{command:?}: {error}"),
    }
}

/// Runs a command to its end: exit status, and standard output and error.
pub async fn exec(node: &Node, target: Target, command: &[&str]) -> (ExitStatus, String) {
    let mut session = start(node, target, command, false).await;
    session.stdin = None;
    let (mut out, mut err) = (String::new(), String::new());
    let stderr = session.stderr.as_mut().expect("standard error");
    let (exit, out_read, err_read) =
        tokio::join!(session.exit, session.stdout.read_to_string(&mut out), stderr.read_to_string(&mut err));
    out_read.expect("readable");
    err_read.expect("readable");
    (exit, out + &err)
}

/// Runs a shell script.
pub async fn shell(node: &Node, target: Target, script: &str) -> (ExitStatus, String) {
    exec(node, target, &["sh", "-c", script]).await
}

/// One connection from a target, and whether it opened.
pub async fn connects(node: &Node, target: Target, to: &str) -> (bool, String) {
    let (exit, text) = exec(node, target, &["signalbox-probe", "connect", to, "--timeout", "2s"]).await;
    (exit == ExitStatus::Code(0), text)
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(5), "{what}: not within five seconds");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}
