//! What a node's runtime offers to the API server.

use std::pin::Pin;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// Whose process is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A container of a pod.
    Pod {
        /// `metadata.namespace`.
        namespace: String,
        /// `metadata.name`.
        name: String,
        /// The container's name; the first one where it is absent.
        container: Option<String>,
    },
    /// A host outside the cluster, by the name of its `ExternalHost`.
    External(String),
}

/// A command to run beside the target's own process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program and arguments. Never empty.
    pub command: Vec<String>,
    /// The client will write to its standard input.
    pub stdin: bool,
    /// Give it a terminal; standard error is then part of standard output.
    pub tty: bool,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It ended by itself, with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It could not be started or its pod went away meanwhile: the sentence says why.
    Failed(String),
}

/// Bytes out of a process.
pub type Output = Pin<Box<dyn AsyncRead + Send>>;
/// Bytes into a process.
pub type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// A running command. Dropping it ends the command.
pub struct ExecSession {
    /// Present where it was asked for. Dropping it closes the process's standard input.
    pub stdin: Option<Input>,
    /// Standard output, or the terminal.
    pub stdout: Output,
    /// Absent with a terminal.
    pub stderr: Option<Output>,
    /// Takes changes of the terminal's size; ignored without a terminal.
    pub resize: mpsc::Sender<TerminalSize>,
    /// Resolves when the command has ended.
    pub exit: BoxFuture<'static, ExitStatus>,
}

/// Which part of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRequest {
    /// Go on as lines come.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail_lines: Option<usize>,
    /// Put an RFC 3339 timestamp before each line.
    pub timestamps: bool,
    /// The log of the container's run before this one.
    pub previous: bool,
    /// Only lines of the last so many seconds.
    pub since_seconds: Option<u64>,
}

/// Why a runtime cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No such pod, container or host here.
    #[error("{0} not found")]
    NotFound(String),
    /// It is there but not running.
    #[error("{0} is not running: {1}")]
    NotRunning(String, String),
    /// The machine refused.
    #[error("cannot {action} {target}: {source}")]
    Io {
        /// What was tried: `run a command in`, `read the log of`.
        action: &'static str,
        /// On whom.
        target: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

/// A node's runtime, as the API server sees it.
pub trait PodRuntime: Send + Sync + 'static {
    /// Starts a command beside the target's own process.
    fn exec(&self, target: Target, request: ExecRequest) -> BoxFuture<'_, Result<ExecSession, RuntimeError>>;

    /// Opens the log of the target's own process.
    fn logs(&self, target: Target, request: LogRequest) -> BoxFuture<'_, Result<Output, RuntimeError>>;
}
