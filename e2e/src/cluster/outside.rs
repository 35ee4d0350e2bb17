//! The hosts outside: each a process in the network namespace that `up.sh` made for it.

use std::process::{Child, Command, Stdio};

use anyhow::Result;

use super::{Cluster, probe};
use crate::shell::{self, Ran};

/// The database's address and port.
pub const DATABASE: (&str, u16) = ("198.51.100.20", 3306);
/// The internet's name and port.
pub const INTERNET: (&str, u16) = ("www.example.com", 80);

/// What listens outside. Dropped, it ends.
#[derive(Debug)]
pub struct Outside {
    processes: Vec<Child>,
}

impl Outside {
    /// Starts the database and the web service.
    pub fn start(_cluster: &Cluster) -> Result<Self> {
        let mut outside = Self { processes: Vec::new() };
        for (name, ports) in [("database", &["TCP/3306"][..]), ("internet", &["TCP/80", "TCP/443"])] {
            let mut command = inside(name)?;
            command.args(["serve", "--name", name]);
            ports.iter().for_each(|port| {
                command.args(["--port", port]);
            });
            outside.processes.push(command.stdin(Stdio::null()).spawn()?);
        }
        Ok(outside)
    }

    /// `signalbox-probe connect` from where the users are.
    pub fn connect(&self, to: &str) -> Result<Ran> {
        shell::run(inside("users")?.args(["connect", to, "--timeout", "1s"]), None)
    }
}

/// The probe, in a host's network namespace: from there nothing but the cluster can be reached.
fn inside(host: &str) -> Result<Command> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/sbx-{host}")).arg(probe()?);
    Ok(command)
}

impl Drop for Outside {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _already = process.kill();
            let _gone = process.wait();
        }
    }
}
