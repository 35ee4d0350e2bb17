//! Names to addresses.
//!
//! [`config`] reads the files, [`exchange`] asks one server, and [`Resolver`] walks through search domains, servers and
//! attempts within the time that it is given.

pub mod config;
pub mod exchange;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use tokio::time::{Instant, timeout};

use config::Config;
use exchange::{Answer, NoAnswer, Watch};

/// Once one family has addresses, the other one gets so much longer.
const STRAGGLER: Duration = Duration::from_millis(50);

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No name at all, by RFC 1035.
    #[error("{0:?} is not a host name")]
    NotAName(String),
    /// The server says that there is no such name.
    #[error("NXDOMAIN: {name} does not exist, says {server}")]
    NoSuchName {
        /// The name as it was given.
        name: String,
        /// Who says so.
        server: SocketAddr,
    },
    /// The name exists and has no address.
    #[error("NODATA: {name} has no address, says {server}")]
    NoAddress {
        /// The full name.
        name: String,
        /// Who says so.
        server: SocketAddr,
    },
    /// The server failed or refused.
    #[error("{}: {server} could not answer for {name}", code_name(*.code))]
    ServerFailure {
        /// The full name.
        name: String,
        /// Who says so.
        server: SocketAddr,
        /// The DNS response code.
        code: ResponseCode,
    },
    /// No answer.
    #[error("timeout: no answer for {name} from {server} within {} ms", .waited.as_millis())]
    Timeout {
        /// The full name that was asked for last.
        name: String,
        /// Who was asked last.
        server: SocketAddr,
        /// How long.
        waited: Duration,
    },
    /// The kernel dropped the question, says whoever watches it.
    #[error("the question to {server} for {name} was dropped on its way")]
    Dropped {
        /// The full name that was asked for.
        name: String,
        /// Who was asked.
        server: SocketAddr,
    },
    /// The server cannot be reached, or this end has no socket left.
    #[error("cannot ask {server} for {name}: {source}")]
    Exchange {
        /// The full name.
        name: String,
        /// Who was to be asked.
        server: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
}

fn code_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::Refused => "REFUSED".into(),
        ResponseCode::NotImp => "NOTIMP".into(),
        ResponseCode::FormErr => "FORMERR".into(),
        other => format!("{other:?}"),
    }
}

/// Resolves names as the files say.
#[derive(Clone, Debug)]
pub struct Resolver {
    config: Config,
    hosts: String,
}

impl Resolver {
    /// By `/etc/resolv.conf` and `/etc/hosts` as they are now. A missing file is an empty one.
    pub fn of_system() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self::new(Config::parse(&read("/etc/resolv.conf")), read("/etc/hosts"))
    }

    /// By the given configuration and text of a hosts file.
    pub fn new(config: Config, hosts: String) -> Self {
        Self { config, hosts }
    }

    /// The addresses of a host, IPv4 first. An address resolves to itself. `watch` is told of each question that leaves: a
    /// server to which the kernel lets none pass is neither waited for nor asked again.
    pub async fn lookup(&self, host: &str, within: Duration, watch: &impl Watch) -> Result<Vec<IpAddr>, ResolveError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let known = config::in_hosts(&self.hosts, host);
        if !known.is_empty() {
            return Ok(known);
        }
        let begun = Instant::now();
        let deadline = begun + within;
        let mut failed = None;
        for candidate in self.config.candidates(host) {
            // A search domain can make a name too long; the other candidates are still worth a question.
            let Ok(name) = Name::from_utf8(&candidate) else {
                failed.get_or_insert_with(|| ResolveError::NotAName(host.to_owned()));
                continue;
            };
            match self.addresses(&name, begun, deadline, watch).await {
                Ok(addresses) => return Ok(addresses),
                // Silence is no reason to ask the same servers for another name.
                Err(
                    error @ (ResolveError::Timeout { .. }
                    | ResolveError::Dropped { .. }
                    | ResolveError::Exchange { .. }),
                ) => return Err(error),
                Err(error) if weight(&error) > failed.as_ref().map_or(0, weight) => failed = Some(error),
                Err(_) => {}
            }
        }
        Err(match failed {
            // The user typed a name, not one of the candidates.
            Some(ResolveError::NoSuchName { server, .. }) => ResolveError::NoSuchName { name: host.to_owned(), server },
            Some(error) => error,
            None => ResolveError::NotAName(host.to_owned()),
        })
    }

    /// Both families of one full name.
    async fn addresses(
        &self,
        name: &Name,
        begun: Instant,
        deadline: Instant,
        watch: &impl Watch,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        let v4 = self.family(name, RecordType::A, begun, deadline, watch);
        let v6 = self.family(name, RecordType::AAAA, begun, deadline, watch);
        tokio::pin!(v4, v6);
        let (v4, v6) = tokio::select! {
            first = &mut v4 => {
                let second = straggler(&first, v6).await;
                (Some(first), second)
            }
            first = &mut v6 => {
                let second = straggler(&first, v4).await;
                (second, Some(first))
            }
        };
        let mut addresses = Vec::new();
        let mut failed: Option<ResolveError> = None;
        for result in [v4, v6].into_iter().flatten() {
            match result {
                Ok(some) => addresses.extend(some),
                // It is the name that does not exist, not one kind of record.
                Err(error @ ResolveError::NoSuchName { .. }) => return Err(error),
                Err(error) if weight(&error) > failed.as_ref().map_or(0, weight) => failed = Some(error),
                Err(_) => {}
            }
        }
        match failed {
            Some(error) if addresses.is_empty() => Err(error),
            _ => Ok(addresses),
        }
    }

    /// One kind of record of one full name. Never an empty list.
    async fn family(
        &self,
        name: &Name,
        kind: RecordType,
        begun: Instant,
        deadline: Instant,
        watch: &impl Watch,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        let servers = &self.config.servers;
        let mut left: VecDeque<SocketAddr> = (0..self.config.attempts).flat_map(|_| servers.iter().copied()).collect();
        let mut failed = None;
        while let Some(server) = left.pop_front() {
            // A short deadline is shared among the attempts that are left: a lost datagram must not use it up.
            let remaining = deadline.saturating_duration_since(Instant::now());
            let patience = self.config.timeout.min(remaining / (left.len() as u32 + 1));
            if patience.is_zero() {
                break;
            }
            let error = match timeout(patience, exchange::ask(server, name, kind, watch)).await {
                Ok(Ok(Answer::Addresses(addresses))) if !addresses.is_empty() => return Ok(addresses),
                Ok(Ok(Answer::Addresses(_))) => return Err(ResolveError::NoAddress { name: name.to_string(), server }),
                Ok(Ok(Answer::NoSuchName)) => return Err(ResolveError::NoSuchName { name: name.to_string(), server }),
                // Another server may know better.
                Ok(Ok(Answer::Failure(code))) => ResolveError::ServerFailure { name: name.to_string(), server, code },
                Ok(Err(NoAnswer::Dropped)) => {
                    left.retain(|other| *other != server);
                    ResolveError::Dropped { name: name.to_string(), server }
                }
                Ok(Err(NoAnswer::Socket(source))) => ResolveError::Exchange { name: name.to_string(), server, source },
                Err(_) => ResolveError::Timeout { name: name.to_string(), server, waited: begun.elapsed() },
            };
            failed = Some(error);
        }
        Err(failed.unwrap_or_else(|| ResolveError::Timeout {
            name: name.to_string(),
            server: servers[0],
            waited: begun.elapsed(),
        }))
    }
}

/// The other family's result. Addresses that are there already do not wait for it long, nor does a name that is not.
async fn straggler<F>(first: &Result<Vec<IpAddr>, ResolveError>, second: F) -> Option<F::Output>
where
    F: Future,
{
    match first {
        Ok(_) | Err(ResolveError::NoSuchName { .. }) => timeout(STRAGGLER, second).await.ok(),
        Err(_) => Some(second.await),
    }
}

/// Which of several failures says most. Silence says least only if something else was said.
fn weight(error: &ResolveError) -> u8 {
    match error {
        ResolveError::NotAName(_) => 1,
        ResolveError::NoSuchName { .. } => 2,
        ResolveError::NoAddress { .. } => 3,
        ResolveError::Exchange { .. } => 4,
        ResolveError::Timeout { .. } => 5,
        ResolveError::Dropped { .. } => 6,
        ResolveError::ServerFailure { .. } => 7,
    }
}
