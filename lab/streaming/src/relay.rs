//! Between a command and a client, whatever protocol the client speaks.
//!
//! A protocol brings two loops: a reader that turns frames into [`FromClient`], and a writer that turns [`ToClient`] into
//! frames. Between them and the command lie short channels, so that whoever is slow slows the other end down.

use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::runtime::{ExecSession, ExitStatus, Input, Output, TerminalSize};

/// Chunks that may wait on each side.
pub const WAITING: usize = 8;

/// The size of a chunk of output, in bytes.
const CHUNK: usize = 32 * 1024;

/// After the command's end its output is read until nothing has come for so long: a child of it that lives on may keep
/// the pipe open for ever.
const DRAIN: Duration = Duration::from_millis(300);

/// After the last word a client has so long to close the connection.
const FAREWELL: Duration = Duration::from_secs(5);

/// How often a client is asked whether it is still there. One that went away while nothing was being read or written
/// shows itself by an error on the second question.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// For the command's standard input.
#[derive(Debug)]
pub enum FromClient {
    /// Bytes.
    Data(Bytes),
    /// There is no more.
    End,
}

/// From the command.
#[derive(Debug)]
pub enum ToClient {
    /// Standard output, or the terminal.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
    /// The command has taken so many bytes of its input.
    StdinTaken(usize),
    /// It has ended, and so has its output. The last word.
    Exit(ExitStatus),
}

/// The relay's end of the channels.
pub struct Pipes {
    /// For the command's input.
    pub stdin: mpsc::Receiver<FromClient>,
    /// The terminal's size; only the newest one matters.
    pub size: watch::Receiver<Option<TerminalSize>>,
    /// From the command.
    pub to: mpsc::Sender<ToClient>,
}

/// The protocol's ends of the same channels.
pub struct Ends {
    /// For the command's input.
    pub stdin: mpsc::Sender<FromClient>,
    /// The terminal's size.
    pub size: watch::Sender<Option<TerminalSize>>,
    /// From the command.
    pub from: mpsc::Receiver<ToClient>,
}

/// Both ends.
pub fn channels() -> (Ends, Pipes) {
    let (stdin_in, stdin_out) = mpsc::channel(WAITING);
    let (size_in, size_out) = watch::channel(None);
    let (to_in, to_out) = mpsc::channel(WAITING);
    (Ends { stdin: stdin_in, size: size_in, from: to_out }, Pipes { stdin: stdin_out, size: size_out, to: to_in })
}

/// Which outputs the client takes. The others are read and thrown away: a command must not hang on them.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// Carries bytes until the command has ended and the client has heard of it, or until `connection` ends. Then the
/// session is dropped, which ends the command.
pub async fn run(session: ExecSession, wanted: Wanted, pipes: Pipes, connection: impl Future<Output = ()>) {
    tokio::pin!(connection);
    tokio::select! {
        () = &mut connection => return,
        () = carry(session, wanted, pipes) => {}
    }
    let _ = timeout(FAREWELL, connection).await;
}

/// Ends after the last word has been handed on.
async fn carry(session: ExecSession, wanted: Wanted, pipes: Pipes) {
    let ExecSession { stdin, stdout, stderr, resize, exit } = session;
    let Pipes { stdin: from, size, to } = pipes;
    let (exited, has_exited) = watch::channel(false);
    let exit = async move {
        let status = exit.await;
        // Nobody may be left to hear it: both outputs have ended before.
        let _ = exited.send(true);
        status
    };
    let out = copy(Some(stdout), wanted.stdout.then_some(ToClient::Stdout), has_exited.clone(), to.clone());
    let err = copy(stderr, wanted.stderr.then_some(ToClient::Stderr), has_exited, to.clone());
    let ends = async {
        let (status, (), ()) = tokio::join!(exit, out, err);
        // Fails only if the connection has ended, and then this future is dropped anyway.
        let _ = to.send(ToClient::Exit(status)).await;
    };
    tokio::select! {
        () = ends => {}
        () = feed(stdin, from, to.clone()) => {}
        () = follow(size, resize) => {}
    }
}

/// Reads an output to its end.
async fn copy(
    output: Option<Output>,
    wrap: Option<fn(Bytes) -> ToClient>,
    mut exited: watch::Receiver<bool>,
    to: mpsc::Sender<ToClient>,
) {
    let Some(mut output) = output else { return };
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        let silent = async {
            // An error means that the sender is gone, which it is after the command's end.
            let _ = exited.wait_for(|exited| *exited).await;
            sleep(DRAIN).await;
        };
        let read = tokio::select! {
            biased;
            read = output.read_buf(&mut buffer) => read,
            () = silent => return,
        };
        match read {
            // A terminal's end shows as an error (EIO).
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let chunk = buffer.split().freeze();
        if let Some(wrap) = wrap
            && to.send(wrap(chunk)).await.is_err()
        {
            return;
        }
    }
}

/// Writes the command's input. Never ends: a command that has closed its input, or a client that has, goes on.
async fn feed(mut stdin: Option<Input>, mut from: mpsc::Receiver<FromClient>, to: mpsc::Sender<ToClient>) {
    while let Some(message) = from.recv().await {
        match message {
            FromClient::Data(bytes) => {
                if let Some(input) = &mut stdin
                    && write(input, &bytes).await.is_err()
                {
                    // It reads no more. What still comes is thrown away.
                    stdin = None;
                }
                // Fails only if the connection has ended.
                let _ = to.send(ToClient::StdinTaken(bytes.len())).await;
            }
            FromClient::End => {
                if let Some(mut input) = stdin.take() {
                    let _ = input.shutdown().await;
                }
            }
        }
    }
    std::future::pending().await
}

async fn write(input: &mut Input, bytes: &[u8]) -> std::io::Result<()> {
    input.write_all(bytes).await?;
    input.flush().await
}

/// Hands the newest size on. Never ends.
async fn follow(mut size: watch::Receiver<Option<TerminalSize>>, resize: mpsc::Sender<TerminalSize>) {
    while size.changed().await.is_ok() {
        let newest = *size.borrow_and_update();
        if let Some(newest) = newest
            && resize.send(newest).await.is_err()
        {
            break;
        }
    }
    std::future::pending().await
}

/// A size as clients write it: `{"Width":80,"Height":24}`.
pub fn parse_size(json: &[u8]) -> Result<TerminalSize, serde_json::Error> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Size {
        width: u16,
        height: u16,
    }
    let Size { width, height } = serde_json::from_slice(json)?;
    Ok(TerminalSize { width, height })
}
