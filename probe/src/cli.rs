//! The command line.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, Subcommand};
use signalbox_api::cell::Outcome;
use signalbox_api::flow::Protocol;

use crate::attempt::{Finding, Goal, attempt};
use crate::resolve::Resolver;
use crate::resolve::exchange::Unwatched;
use crate::serve::{self, Port};
use crate::{agent, system};

const EXAMPLES: &str = "Examples:
  signalbox-probe connect dbsvc.backend:9000
  signalbox-probe connect 10.96.0.10:53 --udp --timeout 500ms
  signalbox-probe resolve www.example.com
  signalbox-probe serve --name web-1 --port TCP/9000 --port UDP/53
  echo '{\"type\":\"control\",\"id\":1,\"ports\":[[\"TCP\",9000]]}' | signalbox-probe agent";

/// Tries connections from inside a pod and says honestly what became of them.
#[derive(Debug, Parser)]
#[command(name = "signalbox-probe", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Listen, and answer each connection with this name and the address it came from.
    Serve {
        /// What to call itself: the pod's name.
        #[arg(long)]
        name: String,
        /// PROTOCOL/NUMBER, repeated for each port. Without any it only waits.
        #[arg(long = "port", value_name = "PORT")]
        ports: Vec<Port>,
    },
    /// Read requests and write results, one JSON object a line.
    Agent,
    /// Try one connection. Exit status 0 if it opens, 1 if not.
    Connect {
        /// A name or an address, and a port: web.frontend:9000, 10.244.0.5:80, [fd00::5]:80.
        #[arg(value_name = "HOST:PORT", value_parser = host_and_port)]
        to: (String, u16),
        /// Send a datagram instead.
        #[arg(long, conflicts_with = "sctp")]
        udp: bool,
        /// Use SCTP instead, where the kernel has it.
        #[arg(long)]
        sctp: bool,
        /// When to give up: 2s, 500ms.
        #[arg(long, default_value = "2s", value_parser = duration)]
        timeout: Duration,
    },
    /// Resolve a name as this pod would. Exit status 0 if it has an address, 1 if not.
    Resolve {
        /// The name.
        name: String,
        /// When to give up: 2s, 500ms.
        #[arg(long, default_value = "2s", value_parser = duration)]
        timeout: Duration,
    },
}

/// Does what was asked and says how the process shall end.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Serve { name, ports } => {
                system::raise_open_files();
                serve::run(name, &ports).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Agent => {
                agent::run(io::stdin(), io::stdout(), system::raise_open_files()).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Connect { to: (host, port), udp, sctp, timeout } => {
                let protocol = match (udp, sctp) {
                    (true, _) => Protocol::Udp,
                    (_, true) => Protocol::Sctp,
                    _ => Protocol::Tcp,
                };
                Ok(connect(Goal { protocol, host, port, within: timeout }).await)
            }
            Command::Resolve { name, timeout } => Ok(resolve(&name, timeout).await),
        }
    });
    runtime.shutdown_background();
    result
}

async fn connect(goal: Goal) -> ExitCode {
    let mut way = None;
    let finding = attempt(&goal, &Resolver::of_system(), &Unwatched::default(), |local, remote| {
        way = Some((local, remote));
        Ok(())
    })
    .await;
    let way = way.map(|(local, remote)| format!(" ({local} -> {remote})")).unwrap_or_default();
    println!("{} {}:{}{way}: {}", goal.protocol, goal.host, goal.port, sentence(&finding));
    if finding.outcome == Outcome::Open { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn sentence(finding: &Finding) -> String {
    let mut text = finding.outcome.to_string();
    if let Some(latency) = finding.latency {
        text.push_str(&format!(" after {:.2} ms", latency.as_secs_f64() * 1e3));
    }
    if let Some(greeting) = &finding.greeting {
        text.push_str(&format!("; {} answered, and saw {}", greeting.name, greeting.peer));
    }
    if let Some(detail) = &finding.detail {
        text.push_str(&format!(" ({detail})"));
    }
    text
}

async fn resolve(name: &str, within: Duration) -> ExitCode {
    let begun = Instant::now();
    match Resolver::of_system().lookup(name, within, &Unwatched::default()).await {
        Ok(addresses) => {
            for address in &addresses {
                println!("{address}");
            }
            eprintln!("{name}: {} found in {:.2} ms", addresses.len(), begun.elapsed().as_secs_f64() * 1e3);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn host_and_port(text: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("write HOST:PORT, as in web.frontend:9000")?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or("the port must be a number from 1 to 65535")?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bracketed.is_none() && host.contains(':') {
        return Err("write an IPv6 address in brackets, as in [fd00::5]:80");
    }
    match bracketed.unwrap_or(host) {
        "" => Err("the host is missing"),
        host => Ok((host.to_owned(), port)),
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let scale = match unit {
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        _ => return Err("write 500ms, 2s or 1m"),
    };
    let seconds = number.parse::<f64>().map_err(|_| "write 500ms, 2s or 1m")? * scale;
    if seconds <= 0.0 || seconds > 3600.0 {
        return Err("must be more than nothing and at most an hour");
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn hosts_and_ports() {
        let check = |text: &str, expected: Option<(&str, u16)>| {
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(host_and_port(text).ok(), expected, "{text}");
        };
        check("web.frontend:9000", Some(("web.frontend", 9000)));
        check("10.0.0.1:1", Some(("10.0.0.1", 1)));
        check("[fd00::5]:80", Some(("fd00::5", 80)));
        check("fd00::5:80", None);
        check("web", None);
        check("web:0", None);
        check(":80", None);
    }

    #[test]
    fn durations() {
        let check = |text: &str, millis: Option<u64>| {
            assert_eq!(duration(text).ok(), millis.map(Duration::from_millis), "{text}");
        };
        check("2s", Some(2000));
        check("2", Some(2000));
        check("0.5s", Some(500));
        check("250ms", Some(250));
        check("1m", Some(60_000));
        check("0s", None);
        check("-1s", None);
        check("2h", None);
        check("1.2.3s", None);
    }
}
