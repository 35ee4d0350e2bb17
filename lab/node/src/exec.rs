//! A command beside a pod's own process, with its streams.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::termios::Winsize;
use signalbox_lab_streaming::runtime::{ExecRequest, ExecSession, ExitStatus, Input, Output, TerminalSize};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use crate::channel::End;
use crate::sandbox::{Command, Process, Sandbox, StartError};

/// Starts a command in a pod.
pub(crate) async fn exec(
    sandbox: &Arc<Sandbox>,
    request: ExecRequest,
    env: Vec<(String, String)>,
) -> Result<ExecSession, StartError> {
    let io = |error: io::Error| StartError::Refused(error.to_string());
    let command = Command { argv: request.command, env, tty: request.tty };
    if request.tty {
        let mut process = sandbox.spawn(command, &[]).await?;
        let terminal = process.terminal.take().ok_or_else(|| StartError::Refused("no terminal came".to_owned()))?;
        rustix::io::ioctl_fionbio(&terminal, true).map_err(|error| io(error.into()))?;
        // Not pipes, but read and written as these are.
        let keys = pipe::Sender::from_owned_fd_unchecked(terminal.try_clone().map_err(io)?).map_err(io)?;
        let screen = pipe::Receiver::from_owned_fd_unchecked(terminal.try_clone().map_err(io)?).map_err(io)?;
        let resize = resizer(terminal);
        let stdin = request.stdin.then(|| Box::pin(keys) as Input);
        let stdout: Output = Box::pin(Screen(screen));
        return Ok(session(sandbox, process, stdin, stdout, None, resize));
    }
    let (stdin, feed) = if request.stdin {
        let (theirs, ours) = io::pipe().map_err(io)?;
        (OwnedFd::from(theirs), Some(pipe::Sender::from_owned_fd(ours.into()).map_err(io)?))
    } else {
        (std::fs::File::open("/dev/null").map_err(io)?.into(), None)
    };
    let (stdout, out) = out_pipe().map_err(io)?;
    let (stderr, err) = out_pipe().map_err(io)?;
    let process = sandbox.spawn(command, &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]).await?;
    let stdin = feed.map(|feed| Box::pin(feed) as Input);
    let (resize, _) = mpsc::channel(1);
    Ok(session(sandbox, process, stdin, Box::pin(out), Some(Box::pin(err)), resize))
}

/// A pipe: the end that is written to, and ours.
pub(crate) fn out_pipe() -> io::Result<(OwnedFd, pipe::Receiver)> {
    let (ours, theirs) = io::pipe()?;
    Ok((theirs.into(), pipe::Receiver::from_owned_fd(ours.into())?))
}

fn session(
    sandbox: &Arc<Sandbox>,
    process: Process,
    stdin: Option<Input>,
    stdout: Output,
    stderr: Option<Output>,
    resize: mpsc::Sender<TerminalSize>,
) -> ExecSession {
    let guard = KillOnDrop { sandbox: Arc::clone(sandbox), id: Some(process.id) };
    let exit = Box::pin(async move {
        let mut guard = guard;
        let ended = process.exit.await;
        guard.id = None;
        match ended {
            Ok(End::Code(code)) => ExitStatus::Code(code),
            Ok(End::Signal(signal)) => ExitStatus::Signal(signal),
            Err(_) => ExitStatus::Failed("the pod has ended".to_owned()),
        }
    });
    ExecSession { stdin, stdout, stderr, resize, exit }
}

/// Ends a command whose session was dropped.
struct KillOnDrop {
    sandbox: Arc<Sandbox>,
    id: Option<u64>,
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let sandbox = Arc::clone(&self.sandbox);
        // Without a runtime the lab itself is ending, and takes the command along.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { sandbox.signal(id, libc::SIGKILL).await });
        }
    }
}

/// Applies changes of size for as long as the session keeps its sender.
fn resizer(terminal: OwnedFd) -> mpsc::Sender<TerminalSize> {
    let (resize, mut sizes) = mpsc::channel::<TerminalSize>(4);
    tokio::spawn(async move {
        while let Some(size) = sizes.recv().await {
            let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
            // A terminal whose process has ended has no size to change.
            let _ = rustix::termios::tcsetwinsize(&terminal, size);
        }
    });
    resize
}

/// What a terminal shows. Its end is an error to the kernel and none to us.
struct Screen(pipe::Receiver);

impl AsyncRead for Screen {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.0).poll_read(context, buffer)) {
            // The last process that had it open has gone; see pty(7).
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}
