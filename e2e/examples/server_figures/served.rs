//! `signalbox serve` as a process of its own, and what the kernel says of it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use signalbox_api::state::Snapshot;
use signalbox_e2e::lab::free_port;
use signalbox_e2e::shell::curl;

const READY_WITHIN: Duration = Duration::from_secs(120);

/// A server that runs. Dropped, it ends.
pub struct Served {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// From the command to its listener.
    pub listening: Duration,
    /// From the command to the line that says that the first matrix stands.
    pub ready: Duration,
    began: Instant,
    log: PathBuf,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// The most that was resident at any time since the start, or since [`Served::forget_peak`].
    pub peak: u64,
    /// Resident now.
    pub resident: u64,
    /// Of that, what is of the process alone and of no file.
    pub anonymous: u64,
    /// Resident, pages that others share counted in part.
    pub proportional: u64,
}

impl Served {
    /// Starts it with no enforcer and no user but the owner of its token.
    pub fn start(binary: &Path, kubeconfig: &Path, log: &Path) -> Result<Self> {
        let listen = format!("127.0.0.1:{}", free_port()?);
        let began = Instant::now();
        let child = Command::new(binary)
            .arg("serve")
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--listen", &listen])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(log)?)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        // From here on Drop ends the process, whatever fails.
        let zero = Duration::ZERO;
        let mut served =
            Self { child, url: format!("http://{listen}"), listening: zero, ready: zero, began, log: log.to_owned() };
        served.wait(&listen).with_context(|| format!("its log: {}", fs::read_to_string(log).unwrap_or_default()))?;
        Ok(served)
    }

    fn wait(&mut self, listen: &str) -> Result<()> {
        let stdout = self.child.stdout.take().context("standard output is piped")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Whoever waited may have given up.
                let _ = sender.send((Instant::now(), line));
            }
        });
        while TcpStream::connect(listen).is_err() {
            ensure!(self.began.elapsed() < READY_WITHIN, "nobody listens at {listen}");
            ensure!(self.child.try_wait()?.is_none(), "it has ended");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.listening = self.began.elapsed();
        let left = READY_WITHIN.saturating_sub(self.began.elapsed());
        let (at, line) = lines.recv_timeout(left).context("no line on its standard output")?;
        ensure!(line.starts_with("ready "), "{line}");
        self.ready = at - self.began;
        Ok(())
    }

    /// Since the command.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// The whole picture, and how many bytes it has.
    pub fn state(&self) -> Result<(Snapshot, usize)> {
        let answer = curl(&[], &format!("{}/api/v1/state", self.url))?;
        ensure!(answer.status == 200, "{}", answer.body);
        let snapshot = serde_json::from_str(&answer.body)?;
        Ok((snapshot, answer.body.len()))
    }

    /// What it holds.
    pub fn memory(&self) -> Result<Memory> {
        let read = |file: &str, field: &str| -> Result<u64> {
            let text = fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))?;
            let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            Ok(number.with_context(|| format!("no {field} in {file}"))? * 1024)
        };
        Ok(Memory {
            peak: read("status", "VmHWM")?,
            resident: read("status", "VmRSS")?,
            anonymous: read("status", "RssAnon")?,
            proportional: read("smaps_rollup", "Pss")?,
        })
    }

    /// The peak counts from what is resident now (proc(5): 5 in `clear_refs`).
    pub fn forget_peak(&self) -> Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").context("cannot reset the peak")
    }

    /// Processor time that it took since its start, all threads.
    pub fn processor(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name, which may hold anything, ends with the last bracket; user and system time are fields 14 and 15 (proc(5)).
        let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).context("no times in stat");
        let per_second =
            nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("clock ticks have a length")?;
        Ok(Duration::from_secs_f64((ticks(11)? + ticks(12)?) as f64 / per_second as f64))
    }

    /// What it wrote to standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself. It has nothing outside of its memory that it would have to put in order.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
