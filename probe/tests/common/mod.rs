//! What the tests of the built binary share: processes that end with the test, in a network namespace of their own.

#![allow(dead_code)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use signalbox_api::probe::{Request, Response};

/// The binary under test.
pub const PROBE: &str = env!("CARGO_BIN_EXE_signalbox-probe");

/// How long any single answer may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Whether namespaces can be made. Without root it says so, and fails unless that was asked for.
pub fn root(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    if std::env::var_os("SIGNALBOX_SKIP_ROOT").is_some_and(|value| value == "1") {
        eprintln!("skipped: needs root: {test}");
        return false;
    }
    panic!("{test} needs root; set SIGNALBOX_SKIP_ROOT=1 to leave it out");
}

/// A network namespace that lives as long as this value. It has loopback and what the set-up script adds.
pub struct Namespace {
    holder: Child,
}

impl Namespace {
    /// Makes one and runs the lines of `script` in it.
    pub fn new(script: &str) -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "--kill-child", "--fork", "sh", "-ec"])
            .arg(format!("ip link set lo up\n{script}\necho made\nexec cat"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is part of util-linux");
        let mut line = String::new();
        let stdout = holder.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("readable");
        assert_eq!(line, "made\n", "the set-up script failed");
        Self { holder }
    }

    /// A command that runs inside.
    pub fn command(&self, program: &str) -> Command {
        let children = format!("/proc/{0}/task/{0}/children", self.holder.id());
        let child = std::fs::read_to_string(children).expect("the holder's child");
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", child.trim())).arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A process that ends with this value.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `serve` and waits until it listens.
pub fn serve(mut command: Command, name: &str, ports: &[&str]) -> Running {
    command.args(["serve", "--name", name]);
    for port in ports {
        command.args(["--port", port]);
    }
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("spawns");
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().expect("piped")).read_line(&mut line).expect("readable");
    assert!(line.contains("serves"), "{line}");
    Running(child)
}

/// A running agent.
pub struct Agent {
    running: Running,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Agent {
    /// Starts it and reads its greeting.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.arg("agent").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawns");
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let input = child.stdin.take();
        let agent = Self { running: Running(child), input, lines };
        assert!(matches!(agent.next(), Response::Hello { .. }));
        agent
    }

    /// Sends a request.
    pub fn send(&mut self, request: &Request) {
        self.send_line(&serde_json::to_string(request).expect("serialises"));
    }

    /// Sends a line as it is.
    pub fn send_line(&mut self, line: &str) {
        writeln!(self.input.as_mut().expect("open"), "{line}").expect("writes");
    }

    /// Sends many requests while their answers are read, then ends the input.
    pub fn send_all(&mut self, requests: Vec<Request>) {
        let mut input = self.input.take().expect("open");
        std::thread::spawn(move || {
            for request in requests {
                writeln!(input, "{}", serde_json::to_string(&request).expect("serialises")).expect("writes");
            }
        });
    }

    /// The next answer.
    pub fn next(&self) -> Response {
        let line = self.lines.recv_timeout(PATIENCE).expect("an answer in time");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Ends its input and gives back what it still says, and whether it ended well.
    pub fn finish(mut self) -> (Vec<Response>, bool) {
        drop(self.input.take());
        let rest = self.lines.iter().map(|line| serde_json::from_str(&line).expect("parses")).collect();
        (rest, self.running.0.wait().expect("ends").success())
    }
}
