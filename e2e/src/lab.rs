//! Starts `signalbox lab`, waits for its `ready` line, and ends it whatever happens.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::shell::{self, Answer, Ran, curl, root};

/// Far above what a start may take on a busy machine; the figures measure the time itself.
const READY_WITHIN: Duration = Duration::from_secs(40);

/// A running lab. Dropped, it ends.
pub struct Lab {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// What the `ready` line's link carries.
    pub token: String,
    /// The kubeconfig that the `ready` line names.
    pub kubeconfig: PathBuf,
    /// From the command to its `ready` line.
    pub ready_after: Duration,
}

/// What `signalbox test -o json` prints.
#[derive(Debug, Deserialize)]
pub struct Report {
    /// The lesson's 18.
    pub checks: Vec<Check>,
    /// All facts agree.
    pub agree: bool,
}

/// One of the checks.
#[derive(Clone, Debug, Deserialize)]
pub struct Check {
    /// `frontend/web`.
    pub from: String,
    /// `backend/dbsvc`, `outside/database`.
    pub to: String,
    /// The port.
    pub port: u16,
    /// `TCP`.
    pub protocol: String,
    /// The probe's word.
    pub outcome: Option<String>,
    /// The engine's.
    pub spec: Option<String>,
    /// The enforcer's.
    pub kernel: Option<String>,
    /// Of open ones.
    pub latency_us: Option<u64>,
}

/// The built binary.
pub fn binary() -> Result<PathBuf> {
    let path = root().join("target/release/signalbox");
    ensure!(path.exists(), "{} is not there: run `cargo xtask build`", path.display());
    Ok(path)
}

/// A port on loopback that nobody listens on now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Lab {
    /// Starts a lab with its state in `state`, and further arguments; the page on a free port.
    pub fn start(state: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_on(&format!("127.0.0.1:{}", free_port()?), state, arguments)
    }

    /// Starts a lab whose page is at `listen`.
    pub fn start_on(listen: &str, state: &Path, arguments: &[&str]) -> Result<Self> {
        Self::launch(Command::new(binary()?).arg("lab"), listen, state, arguments)
    }

    /// Starts a lab that logs to a file, as the leader of a process group, as a shell starts it at a terminal.
    pub fn start_at_a_terminal(state: &Path, arguments: &[&str], log: File) -> Result<Self> {
        let mut command = Command::new(binary()?);
        command.arg("lab").process_group(0).stderr(log);
        Self::launch(&mut command, &format!("127.0.0.1:{}", free_port()?), state, arguments)
    }

    /// Starts a lab as the README says: by `cargo xtask lab`, which builds first what has changed.
    pub fn start_by_xtask(listen: &str, state: &Path) -> Result<Self> {
        Self::launch(Command::new("cargo").args(["xtask", "lab"]).current_dir(root()), listen, state, &[])
    }

    fn launch(command: &mut Command, listen: &str, state: &Path, arguments: &[&str]) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "the lab needs root: run the tests as root");
        let started = Instant::now();
        command.args(["--listen", listen]).arg("--state").arg(state).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().expect("standard output is piped");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The lab's other lines are no test's concern, but somebody has to read them.
                let _ = sender.send(line);
            }
        });
        // From here on Drop ends the process, whatever fails.
        let mut lab = Self {
            child,
            url: String::new(),
            token: String::new(),
            kubeconfig: PathBuf::new(),
            ready_after: Duration::ZERO,
        };
        let line = loop {
            let left = READY_WITHIN.saturating_sub(started.elapsed());
            let line = receiver.recv_timeout(left).context("the lab ended, or printed no `ready` line in time")?;
            if line.starts_with("ready ") {
                break line;
            }
        };
        lab.ready_after = started.elapsed();
        lab.read_ready_line(&line)?;
        Ok(lab)
    }

    fn read_ready_line(&mut self, line: &str) -> Result<()> {
        let mut words = line.split_whitespace().skip(1);
        let link = words.next().context("the ready line has no URL")?;
        let (url, token) = link.split_once("/?token=").with_context(|| format!("no token in {link}"))?;
        (self.url, self.token) = (url.to_owned(), token.to_owned());
        let file =
            words.find_map(|word| word.strip_prefix("kubeconfig=")).context("the ready line has no kubeconfig")?;
        self.kubeconfig = file.into();
        Ok(())
    }

    /// The link that a user opens.
    pub fn link(&self) -> String {
        format!("{}/?token={}", self.url, self.token)
    }

    /// The process's id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are positive"))
    }

    /// `kubectl` with this lab's kubeconfig.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_raw("kubectl", arguments, None)?.ok().with_context(|| format!("kubectl {}", arguments.join(" ")))
    }

    /// Some `kubectl`, with its exit status.
    pub fn kubectl_raw(&self, program: &str, arguments: &[&str], input: Option<&str>) -> Result<Ran> {
        shell::run(&mut self.kubectl_command(program, arguments), input)
    }

    /// The command line of some `kubectl` with this lab's kubeconfig.
    pub fn kubectl_command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        // Caches of discovery must not outlive this lab.
        command.arg("--cache-dir").arg(self.kubeconfig.with_extension("cache"));
        command.args(arguments);
        command
    }

    /// `kubectl apply -f FILE` for one of the lesson's manifests.
    pub fn apply_step(&self, file: &str) -> Result<String> {
        let path = root().join("assets/lessons/one").join(file);
        self.kubectl(&["apply", "-f", &path.to_string_lossy()])
    }

    /// `kubectl apply -f FILE` for one of the manifests in `e2e/manifests`.
    pub fn apply(&self, file: &str) -> Result<String> {
        let path = root().join("e2e/manifests").join(file);
        self.kubectl(&["apply", "-f", &path.to_string_lossy()])
    }

    /// `kubectl apply -f -`.
    pub fn apply_text(&self, manifest: &str) -> Result<String> {
        self.kubectl_raw("kubectl", &["apply", "-f", "-"], Some(manifest))?.ok()
    }

    /// `signalbox test`, with its exit status.
    pub fn test(&self, arguments: &[&str]) -> Result<Ran> {
        shell::run(Command::new(binary()?).arg("test").arg("--kubeconfig").arg(&self.kubeconfig).args(arguments), None)
    }

    /// `signalbox test -o json`, read. A disagreement is no error here: the report says so.
    pub fn report(&self) -> Result<Report> {
        let ran = self.test(&["-o", "json"])?;
        serde_json::from_str(&ran.stdout).with_context(|| format!("`signalbox test -o json` printed {ran:?}"))
    }

    /// GET from the page's API.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = curl(&[], &format!("{}{path}", self.url))?;
        ensure!(answer.status == 200, "GET {path}: {answer:?}");
        serde_json::from_str(&answer.body).with_context(|| format!("GET {path}"))
    }

    /// A request to the page's API, with the token.
    pub fn send(&self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let authorization = format!("Authorization: Bearer {}", self.token);
        let arguments =
            ["-X", method, "-H", &authorization, "-H", "Content-Type: application/yaml", "--data-binary", body];
        curl(&arguments, &format!("{}{path}", self.url))
    }

    /// Sends a signal and waits for the end; the exit status.
    pub fn end(mut self, signal: Signal) -> Result<Option<i32>> {
        kill(self.pid(), signal)?;
        self.wait(Duration::from_secs(15))
    }

    /// Ctrl-C at its terminal, which sends the signal to the whole process group, and waits for the end.
    pub fn control_c(mut self) -> Result<Option<i32>> {
        killpg(self.pid(), Signal::SIGINT)?;
        self.wait(Duration::from_secs(15))
    }

    fn wait(&mut self, within: Duration) -> Result<Option<i32>> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("the lab did not end within {within:?}")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let asked = kill(self.pid(), Signal::SIGTERM);
        if asked.is_err() || self.wait(Duration::from_secs(10)).is_err() {
            // Its pods end with it. Nothing more can be done from a destructor than to end it hard.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
