//! A connection that is held: numbers go there by `kubectl exec` and come back for as long as it lives.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::lab::Lab;

/// Far above a number's way there and back on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection under way. Dropped, it ends.
pub struct Held {
    client: Child,
    echoes: Receiver<u64>,
    last: u64,
}

impl Held {
    /// From a Deployment's pod to a server that echoes. 20 numbers a second.
    pub fn open(lab: &Lab, namespace: &str, deployment: &str, address: &str, port: u16) -> Result<Self> {
        let script = format!("i=0; while :; do i=$((i+1)); echo $i || exit; sleep 0.05; done | nc {address} {port}");
        let mut client = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(&lab.kubeconfig)
            .args(["-n", namespace, "exec", &format!("deploy/{deployment}"), "--", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start kubectl")?;
        let stdout = client.stdout.take().expect("standard output is piped");
        let (sender, echoes) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let number = line.trim().parse().expect("numbers come back");
                if sender.send(number).is_err() {
                    return;
                }
            }
        });
        let mut held = Self { client, echoes, last: 0 };
        held.lives(3)?;
        Ok(held)
    }

    /// Waits for this many further echoes: each number comes back, in order, none left out.
    pub fn lives(&mut self, count: usize) -> Result<()> {
        // What came before this call says nothing of what was done just before it.
        while let Ok(number) = self.echoes.try_recv() {
            self.take(number)?;
        }
        for _ in 0..count {
            let number = self.echoes.recv_timeout(PATIENCE).with_context(|| format!("no echo after {}", self.last))?;
            self.take(number)?;
        }
        Ok(())
    }

    /// Waits until nothing has come back for `silence`; an error where it goes on for longer than is reasonable.
    pub fn is_cut(&mut self, silence: Duration) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.echoes.recv_timeout(silence) {
                Ok(number) => self.take(number)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if Instant::now() > deadline {
                bail!("it lives on: {} came back", self.last);
            }
        }
    }

    fn take(&mut self, number: u64) -> Result<()> {
        ensure!(number == self.last + 1, "{number} came back after {}", self.last);
        self.last = number;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The command in the pod ends with its exec stream.
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
