//! kubectl as a client. Version 1.20, which Debian ships, knows SPDY only; newer ones begin with WebSocket and can be told
//! to speak SPDY.
//!
//! Taken from PATH, and from `SIGNALBOX_KUBECTL` (paths, separated by colons).

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use common::{noise, start, wait_until_gone};

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
struct Kubectl {
    program: PathBuf,
    web_sockets: bool,
    server: SocketAddr,
    home: PathBuf,
}

impl Kubectl {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--server", &format!("http://{}", self.server), "--namespace", "x"]).args(arguments);
        self.environment(&mut command);
        command
    }

    fn environment(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", self.web_sockets.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
    }
}

/// Every kubectl there is, in each way that it can speak.
async fn each(test: impl AsyncFn(Kubectl)) {
    let named = std::env::var_os("SIGNALBOX_KUBECTL").unwrap_or_default();
    let mut programs: Vec<PathBuf> = std::env::split_paths(&named).filter(|path| path.exists()).collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    programs.extend(std::env::split_paths(&path).map(|folder| folder.join("kubectl")).find(|path| path.exists()));
    if programs.is_empty() {
        if std::env::var_os("SIGNALBOX_SKIP_ROOT").is_some_and(|value| value == "1") {
            eprintln!("skipped: needs kubectl");
            return;
        }
        panic!("needs kubectl: in PATH, or named by SIGNALBOX_KUBECTL");
    }
    let home = tempfile::tempdir().unwrap();
    for program in programs {
        for web_sockets in [false, true] {
            let server = start().await;
            let kubectl = Kubectl { program: program.clone(), web_sockets, server, home: home.path().into() };
            println!("{} web_sockets={web_sockets}", Path::display(&program));
            timeout(PATIENCE, test(kubectl.clone())).await.unwrap_or_else(|_| panic!("{kubectl:?} hangs"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_apart_and_exit_codes() {
    each(async |kubectl| {
        for (script, out, err, code) in [
            ("echo out; echo err >&2", "out\n", "err\n", 0),
            ("echo out; exit 7", "out\n", "command terminated with exit code 7\n", 7),
            ("kill -9 $$", "", "command terminated with exit code 137\n", 137),
            ("true", "", "", 0),
        ] {
            let output = kubectl.command(&["exec", "y", "--", "sh", "-c", script]).output().await.unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(text(&output.stdout), out, "{kubectl:?} {script}: {}", text(&output.stderr));
            assert_eq!(text(&output.stderr), err, "{kubectl:?} {script}");
            assert_eq!(output.status.code(), Some(code), "{kubectl:?} {script}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mebibyte_both_ways() {
    each(async |kubectl| {
        let sent = noise(1 << 20);
        let mut child = kubectl.command(&["exec", "-i", "y", "--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut received = Vec::new();
        let writing = async {
            stdin.write_all(&sent).await.unwrap();
            drop(stdin);
        };
        let ((), read) = tokio::join!(writing, stdout.read_to_end(&mut received));
        read.unwrap();
        let output = child.wait_with_output().await.unwrap();
        assert!(received == sent, "{kubectl:?}: {} bytes: {:?}", received.len(), output);
        assert!(output.status.success(), "{output:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn much_output_at_once() {
    each(async |kubectl| {
        let script = "head -c 5000000 /dev/zero & head -c 3000000 /dev/zero >&2; wait";
        let output = kubectl.command(&["exec", "y", "--", "sh", "-c", script]).output().await.unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (5_000_000, 3_000_000), "{kubectl:?}");
        assert!(output.status.success());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_and_its_size() {
    each(async |kubectl| {
        // kubectl wants a terminal of its own: script(1) makes one.
        let exec = format!(
            "stty rows 33 cols 111; {} --server http://{} -n x exec -it y -- sh -c 'sleep 1; stty size; test -t 0 && echo tty; exit 5'",
            kubectl.program.display(),
            kubectl.server
        );
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &exec, "/dev/null"]);
        kubectl.environment(&mut command);
        // script(1) ends when its own input does.
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        let status = child.wait().await.unwrap();
        drop(stdin);
        assert!(text.contains("33 111\r\n") && text.contains("tty\r\n"), "{kubectl:?}: {text:?}");
        assert_eq!(status.code(), Some(5), "{kubectl:?}: {text:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_killed_ends_the_command() {
    each(async |kubectl| {
        let mut child = kubectl.command(&["exec", "y", "--", "sh", "-c", "echo $$; exec sleep 1000"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        child.kill().await.unwrap();
        wait_until_gone(line.trim().parse().unwrap()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_the_servers_words() {
    each(async |kubectl| {
        let output = kubectl.command(&["exec", "y", "-c", "c", "--", "/no/such/program"]).output().await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains("cannot run a command in y"), "{kubectl:?}: {error}");
        assert!(!output.status.success());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs() {
    each(async |kubectl| {
        let output = kubectl.command(&["logs", "y", "--tail=2"]).output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "line 1\nline 2\n", "{kubectl:?}: {output:?}");
        let mut child = kubectl.command(&["logs", "-f", "y"]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for number in 0..10 {
            assert_eq!(lines.next_line().await.unwrap(), Some(format!("line {number}")), "{kubectl:?}");
        }
        child.kill().await.unwrap();
    })
    .await;
}
