//! One connection, and what it says about the way there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use nix::errno::Errno;
use signalbox_api::cell::{Evidence, Outcome};
use signalbox_api::flow::Protocol;
use signalbox_api::probe::Greeting;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

use crate::ports::Ports;
use crate::resolve::exchange::{self, Watch};
use crate::resolve::{ResolveError, Resolver};

/// A peer that is no probe says nothing: how long to wait for one that is.
const GREETING_WAIT: Duration = Duration::from_millis(50);

/// A greeting is one short line; whatever is longer is none.
const GREETING_MOST: u64 = 1024;

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// How.
    pub protocol: Protocol,
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// When to give up, resolution of the name included.
    pub within: Duration,
}

/// What a connection said.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What happened.
    pub outcome: Outcome,
    /// How that is known.
    pub evidence: Evidence,
    /// From the first packet to the peer's answer.
    pub latency: Option<Duration>,
    /// What a probe at the other end said.
    pub greeting: Option<Greeting>,
    /// What went wrong, in words.
    pub detail: Option<String>,
}

impl Finding {
    fn failed(outcome: Outcome, evidence: Evidence, detail: impl Into<String>) -> Self {
        Self { outcome, evidence, latency: None, greeting: None, detail: Some(detail.into()) }
    }

    fn open(latency: Duration, greeting: Option<Greeting>) -> Self {
        Self { outcome: Outcome::Open, evidence: Evidence::Answer, latency: Some(latency), greeting, detail: None }
    }

    /// The enforcer's word that it dropped this connection's packet.
    pub fn dropped_by_kernel() -> Self {
        Self { outcome: Outcome::Dropped, evidence: Evidence::KernelEvent, latency: None, greeting: None, detail: None }
    }

    /// The probe itself could not run.
    pub fn broken(detail: impl Into<String>) -> Self {
        Self::failed(Outcome::ProbeBroken, Evidence::Answer, detail)
    }

    fn no_answer(waited: Duration) -> Self {
        Self::failed(Outcome::Dropped, Evidence::Timeout, format!("no answer within {} ms", waited.as_millis()))
    }

    /// What an error of a connecting socket says.
    fn of_error(error: &io::Error) -> Self {
        let Some(number) = error.raw_os_error() else { return Self::broken(error.to_string()) };
        let errno = Errno::from_raw(number);
        let (outcome, evidence) = match errno {
            // A reset, or ICMP port unreachable.
            Errno::ECONNREFUSED | Errno::ECONNRESET => (Outcome::Refused, Evidence::Answer),
            // ICMP, or this pod's own routing table.
            Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EHOSTDOWN | Errno::ENONET | Errno::ENOPROTOOPT => {
                (Outcome::Unreachable, Evidence::Answer)
            }
            Errno::ETIMEDOUT => (Outcome::Dropped, Evidence::Timeout),
            // EMFILE, EACCES, EADDRNOTAVAIL, ...: nothing has left this pod.
            _ => (Outcome::ProbeBroken, Evidence::Answer),
        };
        Self::failed(outcome, evidence, errno.to_string())
    }

    fn of_resolve_error(error: &ResolveError) -> Self {
        let evidence = match error {
            ResolveError::Timeout { .. } => Evidence::Timeout,
            ResolveError::Dropped { .. } => Evidence::KernelEvent,
            ResolveError::Exchange { source, .. } if Self::of_error(source).outcome == Outcome::ProbeBroken => {
                return Self::broken(error.to_string());
            }
            ResolveError::Exchange { .. }
            | ResolveError::NotAName(_)
            | ResolveError::NoSuchName { .. }
            | ResolveError::NoAddress { .. }
            | ResolveError::ServerFailure { .. } => Evidence::Answer,
        };
        Self::failed(Outcome::DnsFailed, evidence, error.to_string())
    }
}

/// Tries a connection. `started` is called with source and destination when the socket is bound and before the first
/// packet leaves: whoever watches the kernel knows by then what to watch for. `watch` is the same for the name's questions; its ports
/// are those that the connection leaves from.
pub async fn attempt(
    goal: &Goal,
    resolver: &Resolver,
    watch: &impl Watch,
    started: impl FnOnce(SocketAddr, SocketAddr) -> io::Result<()>,
) -> Finding {
    if !crate::system::supported(goal.protocol) {
        return Finding::broken(format!("{} is not supported by this kernel", goal.protocol));
    }
    let deadline = Instant::now() + goal.within;
    let addresses = match resolver.lookup(&goal.host, goal.within, watch).await {
        Ok(addresses) => addresses,
        Err(error) => return Finding::of_resolve_error(&error),
    };
    let (local, remote) = match route(&addresses, goal.port) {
        Ok(pair) => pair,
        Err(error) => return Finding::of_error(&error),
    };
    let tried = match goal.protocol {
        Protocol::Tcp | Protocol::Sctp => {
            stream(goal.protocol, watch.ports(), (local, remote), deadline, started).await
        }
        Protocol::Udp => datagram(watch.ports(), remote, deadline, started).await,
    };
    tried.unwrap_or_else(|error| Finding::of_error(&error))
}

/// The first address that there is a route to, and the source address that the kernel takes for it. Connecting a
/// datagram socket sends nothing.
fn route(addresses: &[IpAddr], port: u16) -> io::Result<(IpAddr, SocketAddr)> {
    let mut failed = None;
    for address in addresses {
        // Port 0 is not connectable; any other says the same about the route.
        let found = std::net::UdpSocket::bind((any_of(*address), 0)).and_then(|socket| {
            socket.connect((*address, port.max(1)))?;
            socket.local_addr()
        });
        match found {
            Ok(local) => return Ok((local.ip(), SocketAddr::new(*address, port))),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable)))
}

fn any_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

async fn stream(
    protocol: Protocol,
    ports: &Ports,
    (local, remote): (IpAddr, SocketAddr),
    deadline: Instant,
    started: impl FnOnce(SocketAddr, SocketAddr) -> io::Result<()>,
) -> io::Result<Finding> {
    let bind = || {
        let socket = stream_socket(protocol, remote)?;
        // A reset at the end instead of TIME_WAIT: thousands of probes a second would use up the ports for a minute.
        if protocol == Protocol::Tcp {
            socket.set_zero_linger()?;
        }
        socket.bind(SocketAddr::new(local, 0))?;
        Ok(socket)
    };
    let (_port, socket) = ports.bind(protocol, bind, TcpSocket::local_addr)?;
    started(socket.local_addr()?, remote)?;
    let begun = Instant::now();
    let mut stream = match timeout_at(deadline, socket.connect(remote)).await {
        Ok(connected) => connected?,
        Err(_) => return Ok(Finding::no_answer(begun.elapsed())),
    };
    let latency = begun.elapsed();
    // A slow way there is a slow way back.
    let patience = GREETING_WAIT + 2 * latency;
    let greeting = timeout(patience, greeting_of(&mut stream)).await.ok().flatten();
    Ok(Finding::open(latency, greeting))
}

/// A non-blocking stream socket, not yet bound.
fn stream_socket(protocol: Protocol, remote: SocketAddr) -> io::Result<TcpSocket> {
    match protocol {
        // One-to-one SCTP sockets answer to the same calls as TCP's.
        Protocol::Sctp => {
            let socket = Socket::new(Domain::for_address(remote), Type::STREAM, Some(socket2::Protocol::SCTP))?;
            socket.set_nonblocking(true)?;
            Ok(TcpSocket::from_std_stream(socket.into()))
        }
        Protocol::Tcp | Protocol::Udp if remote.is_ipv4() => TcpSocket::new_v4(),
        Protocol::Tcp | Protocol::Udp => TcpSocket::new_v6(),
    }
}

async fn greeting_of(stream: &mut TcpStream) -> Option<Greeting> {
    let mut line = Vec::new();
    BufReader::new(stream.take(GREETING_MOST)).read_until(b'\n', &mut line).await.ok()?;
    serde_json::from_slice(&line).ok()
}

async fn datagram(
    ports: &Ports,
    remote: SocketAddr,
    deadline: Instant,
    started: impl FnOnce(SocketAddr, SocketAddr) -> io::Result<()>,
) -> io::Result<Finding> {
    let (_port, socket) = exchange::datagram_socket(remote, ports)?;
    socket.connect(remote).await?;
    let payload = payload(remote.port())?;
    started(socket.local_addr()?, remote)?;
    let begun = Instant::now();
    // Sent three times: at once, and after a tenth and a third of the time.
    let whole = deadline.saturating_duration_since(begun);
    let mut buffer = [0; GREETING_MOST as usize];
    for until in [begun + whole / 10, begun + whole / 3, deadline] {
        socket.send(&payload).await?;
        if let Ok(length) = timeout_at(until, socket.recv(&mut buffer)).await {
            let greeting = serde_json::from_slice(&buffer[..length?]).ok();
            return Ok(Finding::open(begun.elapsed(), greeting));
        }
    }
    Ok(Finding::no_answer(begun.elapsed()))
}

/// What to send. A DNS server answers to nothing but DNS, so it gets the smallest question there is.
fn payload(port: u16) -> io::Result<Vec<u8>> {
    if port == 53 {
        return exchange::question(&Name::root(), RecordType::NS).to_vec().map_err(io::Error::other);
    }
    Ok(b"signalbox probe\n".to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_errors_say() {
        let check = |errno: Errno, outcome: Outcome, evidence: Evidence| {
            let finding = Finding::of_error(&io::Error::from_raw_os_error(errno as i32));
            assert_eq!((finding.outcome, finding.evidence), (outcome, evidence), "{errno}");
            assert_eq!(finding.detail, Some(errno.to_string()));
        };
        check(Errno::ECONNREFUSED, Outcome::Refused, Evidence::Answer);
        check(Errno::ECONNRESET, Outcome::Refused, Evidence::Answer);
        check(Errno::EHOSTUNREACH, Outcome::Unreachable, Evidence::Answer);
        check(Errno::ENETUNREACH, Outcome::Unreachable, Evidence::Answer);
        check(Errno::ETIMEDOUT, Outcome::Dropped, Evidence::Timeout);
        check(Errno::EMFILE, Outcome::ProbeBroken, Evidence::Answer);
        check(Errno::EACCES, Outcome::ProbeBroken, Evidence::Answer);
        check(Errno::EPERM, Outcome::ProbeBroken, Evidence::Answer);
        check(Errno::EADDRNOTAVAIL, Outcome::ProbeBroken, Evidence::Answer);
    }
}
