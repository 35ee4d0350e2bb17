//! A small API server on loopback whose one pod runs real processes of this machine.

#![allow(dead_code)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use signalbox_lab_streaming::runtime::{
    ExecRequest, ExecSession, ExitStatus, LogRequest, Output, PodRuntime, RuntimeError, Target, TerminalSize,
};
use signalbox_lab_streaming::{Body, ExecQuery, LogQuery, serve_exec, serve_logs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// Where the pod is.
pub const POD: &str = "/api/v1/namespaces/x/pods/y";

/// Starts a server that ends with the test's runtime.
pub async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                // A client that goes away is what some tests are about.
                let _ = connection.await;
            });
        }
    });
    address
}

async fn answer(request: Request<Incoming>) -> Response<Body> {
    let runtime: Arc<dyn PodRuntime> = Arc::new(Processes);
    let path = request.uri().path().to_owned();
    let Some((pod, sub)) = path
        .strip_prefix("/api/v1/namespaces/x/pods/")
        .map(|rest| rest.split_once('/').map_or((rest, ""), |(pod, sub)| (pod, sub)))
    else {
        return discovery(&path);
    };
    let target = |container| Target::Pod { namespace: "x".into(), name: pod.to_owned(), container };
    match sub {
        "exec" => {
            serve_exec(
                request,
                |query: ExecQuery| async move { runtime.exec(target(query.container), query.request).await },
            )
            .await
        }
        "log" => {
            serve_logs(
                request,
                |query: LogQuery| async move { runtime.logs(target(query.container), query.request).await },
            )
            .await
        }
        "" if pod == "y" && request.method() == Method::GET => json_answer(&json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": "y", "namespace": "x", "uid": "1", "resourceVersion": "1"},
            "spec": {"containers": [{"name": "c", "image": "none"}]},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "c", "ready": true, "restartCount": 0, "image": "none", "imageID": "", "state": {"running": {}},
            }]},
        })),
        _ => not_found(),
    }
}

/// The least that kubectl wants to know before it asks for a pod.
fn discovery(path: &str) -> Response<Body> {
    match path {
        "/version" => json_answer(&json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0"})),
        "/api" => json_answer(&json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        "/apis" => json_answer(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})),
        "/api/v1" => json_answer(&json!({
            "kind": "APIResourceList", "groupVersion": "v1",
            "resources": [
                {"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["get"], "shortNames": ["po"]},
                {"name": "pods/exec", "singularName": "", "namespaced": true, "kind": "PodExecOptions", "verbs": ["create", "get"]},
                {"name": "pods/log", "singularName": "", "namespaced": true, "kind": "Pod", "verbs": ["get"]},
            ],
        })),
        _ => not_found(),
    }
}

fn json_answer(value: &serde_json::Value) -> Response<Body> {
    let body = Full::from(value.to_string()).map_err(|never| match never {}).boxed_unsync();
    Response::builder().header("content-type", "application/json").body(body).unwrap()
}

fn not_found() -> Response<Body> {
    let mut response = json_answer(&json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "no such thing",
    }));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// A runtime whose pod `y` is this machine.
struct Processes;

impl PodRuntime for Processes {
    fn exec(&self, target: Target, request: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>> {
        Box::pin(async move {
            match &target {
                Target::Pod { name, .. } if name == "asleep" => {
                    return Err(RuntimeError::NotRunning("pod asleep".into(), "Pending".into()));
                }
                Target::Pod { name, container, .. }
                    if name == "y" && container.as_deref().is_none_or(|container| container == "c") => {}
                other => return Err(RuntimeError::NotFound(format!("{other:?}"))),
            }
            let io = |source| RuntimeError::Io { action: "run a command in", target: "y".into(), source };
            if request.tty { terminal(&request) } else { pipes(&request) }.map_err(io)
        })
    }

    fn logs(&self, target: Target, request: LogRequest) -> BoxFuture<'_, Result<Output, RuntimeError>> {
        Box::pin(async move {
            if !matches!(&target, Target::Pod { name, .. } if name == "y") {
                return Err(RuntimeError::NotFound(format!("{target:?}")));
            }
            let (reader, mut writer) = tokio::io::duplex(64);
            tokio::spawn(async move {
                let first = 3usize.saturating_sub(request.tail_lines.unwrap_or(3));
                for line in first.. {
                    if line >= 3 && !request.follow {
                        break;
                    }
                    let stamp = if request.timestamps { "2026-01-01T00:00:00Z " } else { "" };
                    if writer.write_all(format!("{stamp}line {line}\n").as_bytes()).await.is_err() {
                        break;
                    }
                    if line >= 2 {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            });
            Ok(Box::pin(reader) as Output)
        })
    }
}

fn pipes(request: &ExecRequest) -> std::io::Result<ExecSession> {
    let mut child = Command::new(&request.command[0])
        .args(&request.command[1..])
        .stdin(if request.stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    Ok(ExecSession {
        stdin: child.stdin.take().map(|stdin| Box::pin(stdin) as _),
        stdout: Box::pin(child.stdout.take().unwrap()),
        stderr: child.stderr.take().map(|stderr| Box::pin(stderr) as _),
        resize: mpsc::channel(1).0,
        exit: exit(child),
    })
}

fn terminal(request: &ExecRequest) -> std::io::Result<ExecSession> {
    let pair = nix::pty::openpty(None, None)?;
    let name = nix::unistd::ttyname(&pair.slave)?;
    let slave = || -> std::io::Result<OwnedFd> { pair.slave.try_clone() };
    let child = Command::new("setsid")
        .args(["--ctty", "--wait"])
        .args(&request.command)
        .stdin(slave()?)
        .stdout(slave()?)
        .stderr(slave()?)
        .kill_on_drop(true)
        .spawn()?;
    let (resize, mut sizes) = mpsc::channel::<TerminalSize>(1);
    tokio::spawn(async move {
        while let Some(TerminalSize { width, height }) = sizes.recv().await {
            let size = ["rows", &height.to_string(), "cols", &width.to_string()].map(str::to_owned);
            Command::new("stty").arg("-F").arg(&name).args(size).status().await.unwrap();
        }
    });
    let input = tokio::fs::File::from_std(pair.master.try_clone()?.into());
    let output = tokio::fs::File::from_std(pair.master.into());
    Ok(ExecSession {
        stdin: request.stdin.then(|| Box::pin(input) as _),
        stdout: Box::pin(output),
        stderr: None,
        resize,
        exit: exit(child),
    })
}

fn exit(mut child: Child) -> BoxFuture<'static, ExitStatus> {
    Box::pin(async move {
        match child.wait().await {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => ExitStatus::Code(code),
                (None, Some(signal)) => ExitStatus::Signal(signal),
                (None, None) => ExitStatus::Failed("it neither ended nor was killed".into()),
            },
            Err(error) => ExitStatus::Failed(error.to_string()),
        }
    })
}

/// Waits until a process is gone.
pub async fn wait_until_gone(pid: u32) {
    for _ in 0..1000 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        if stat.map_or(true, |stat| stat.contains(") Z ")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("process {pid} lives on");
}

/// Bytes that neither compress nor repeat.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(length)
    .collect()
}

/// Reads everything.
pub async fn read_all(mut reader: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await.unwrap();
    bytes
}
