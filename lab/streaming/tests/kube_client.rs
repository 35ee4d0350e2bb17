//! The `kube` crate as a client: it is what the server of Signalbox uses, over WebSocket.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod common;

use std::time::Duration;

use futures::{AsyncBufReadExt, SinkExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, LogParams, TerminalSize};
use kube::{Api, Client, Config};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt, BufReader};

use common::{noise, read_all, start, wait_until_gone};

async fn pods() -> Api<Pod> {
    let address = start().await;
    let mut config = Config::new(format!("http://{address}").parse().unwrap());
    config.read_timeout = Some(Duration::from_secs(30));
    Api::namespaced(Client::try_from(config).unwrap(), "x")
}

fn code(status: &Status) -> String {
    let causes = status.details.as_ref().and_then(|details| details.causes.as_ref());
    let cause = causes.and_then(|causes| causes.first()).and_then(|cause| cause.message.clone());
    format!("{} {}", status.reason.as_deref().unwrap_or_default(), cause.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_apart_and_exit_codes() {
    let pods = pods().await;
    for (script, out, err, how) in [
        ("echo out; echo err >&2", "out\n", "err\n", None),
        ("exit 7", "", "", Some("NonZeroExitCode 7")),
        ("echo last; kill -9 $$", "last\n", "", Some("NonZeroExitCode 137")),
        // What it leaves behind keeps the pipe open and must not keep the client.
        ("sleep 60 & echo on", "on\n", "", None),
    ] {
        let params = AttachParams::default().stdout(true).stderr(true);
        let mut process = pods.exec("y", ["sh", "-c", script], &params).await.unwrap();
        let (stdout, stderr) = (process.stdout().unwrap(), process.stderr().unwrap());
        let status = process.take_status().unwrap();
        let (stdout, stderr, status) = tokio::join!(read_all(stdout), read_all(stderr), status);
        let status = status.expect("a status");
        assert_eq!((stdout.as_slice(), stderr.as_slice()), (out.as_bytes(), err.as_bytes()), "{script}");
        assert_eq!(status.status.as_deref(), Some(if how.is_none() { "Success" } else { "Failure" }), "{script}");
        assert_eq!(how.unwrap_or(" "), code(&status), "{script}");
        process.join().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mebibyte_both_ways_and_the_end_of_input() {
    let pods = pods().await;
    let params = AttachParams::default().stdin(true).stdout(true).stderr(false);
    let mut process = pods.exec("y", ["cat"], &params).await.unwrap();
    let (mut stdin, stdout) = (process.stdin().unwrap(), process.stdout().unwrap());
    let sent = noise(1 << 20);
    let writing = async {
        stdin.write_all(&sent).await.unwrap();
        stdin.shutdown().await.unwrap();
        drop(stdin);
    };
    let ((), received) = tokio::join!(writing, read_all(stdout));
    assert!(received == sent, "{} bytes came back", received.len());
    assert_eq!(process.take_status().unwrap().await.unwrap().status.as_deref(), Some("Success"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_and_its_size() {
    let pods = pods().await;
    let command = ["sh", "-c", "read line; stty size; test -t 0 && test -t 2 && echo terminal; exit 3"];
    let mut process = pods.exec("y", command, &AttachParams::interactive_tty()).await.unwrap();
    let mut sizes = process.terminal_size().unwrap();
    for width in [80, 100, 123] {
        sizes.send(TerminalSize { width, height: 45 }).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    process.stdin().unwrap().write_all(b"go\n").await.unwrap();
    let output = String::from_utf8(read_all(process.stdout().unwrap()).await).unwrap();
    assert!(output.contains("45 123\r\nterminal\r\n"), "{output:?}");
    assert_eq!(code(&process.take_status().unwrap().await.unwrap()), "NonZeroExitCode 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_the_command() {
    let pods = pods().await;
    // Once while it says nothing, once while it reads nothing of what the client keeps sending.
    for stuck in [false, true] {
        let params = AttachParams::default().stdin(true).stdout(true).stderr(false);
        let mut process = pods.exec("y", ["sh", "-c", "echo $$; exec sleep 1000"], &params).await.unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout().unwrap()).read_line(&mut line).await.unwrap();
        if stuck {
            let mut stdin = process.stdin().unwrap();
            let flood = async { while stdin.write_all(&[0; 4096]).await.is_ok() {} };
            let _ = tokio::time::timeout(Duration::from_millis(500), flood).await;
        }
        process.abort();
        drop(process);
        wait_until_gone(line.trim().parse().unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_is_answered_before_the_upgrade() {
    let pods = pods().await;
    for (pod, command, container, expected) in [
        ("nobody", "true", "c", "404"),
        ("y", "true", "other", "404"),
        ("asleep", "true", "c", "400"),
        ("y", "/no/such/program", "c", "500"),
    ] {
        let error =
            pods.exec(pod, [command], &AttachParams::default().container(container)).await.err().expect("an error");
        assert!(format!("{error:?}").contains(expected), "{pod} {command} {container}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs() {
    let pods = pods().await;
    let params = LogParams { tail_lines: Some(2), timestamps: true, ..LogParams::default() };
    let stamp = "2026-01-01T00:00:00Z";
    assert_eq!(pods.logs("y", &params).await.unwrap(), format!("{stamp} line 1\n{stamp} line 2\n"));
    let params = LogParams { limit_bytes: Some(4), ..LogParams::default() };
    assert_eq!(pods.logs("y", &params).await.unwrap(), "line");
    let params = LogParams { follow: true, ..LogParams::default() };
    let mut lines = pods.log_stream("y", &params).await.unwrap().lines();
    for number in 0..20 {
        assert_eq!(lines.try_next().await.unwrap().unwrap(), format!("line {number}"));
    }
    assert!(pods.logs("nobody", &LogParams::default()).await.unwrap_err().to_string().contains("not found"));
}
