//! The page's event stream, read as a browser reads it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use signalbox_api::state::Event;

/// An open stream of events, each with the time of its arrival. Dropped, it is closed.
pub struct Events {
    client: Child,
    received: Receiver<(Instant, Event)>,
}

impl Events {
    /// Opens the stream of the lab whose page is at `url`.
    pub fn open(url: &str) -> Result<Self> {
        ensure!(url.starts_with("http://127.0.0.1:"), "{url} is not on loopback");
        let mut client = Command::new("curl")
            .args(["--silent", "--no-buffer", "--noproxy", "*", "--max-time", "600"])
            .arg(format!("{url}/api/v1/events"))
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start curl")?;
        let stdout = client.stdout.take().expect("standard output is piped");
        let (sender, received) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let arrived = Instant::now();
                let Some(data) = line.strip_prefix("data:") else { continue };
                let event = serde_json::from_str(data.trim()).expect("the stream carries events");
                if sender.send((arrived, event)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { client, received })
    }

    /// Waits for the event that `wanted`, called with each event's arrival, likes; when it arrived.
    pub fn until(&self, within: Duration, mut wanted: impl FnMut(Instant, &Event) -> bool) -> Result<Instant> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (arrived, event) = self.received.recv_timeout(left).context("the awaited event did not come")?;
            if wanted(arrived, &event) {
                return Ok(arrived);
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // It may have ended by itself, with the lab.
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
