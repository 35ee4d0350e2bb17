//! `serve`: answers each connection and each datagram with a [`Greeting`].
//!
//! - [`listen`]: the sockets.
//! - [`datagram`]: datagrams, answered from the address that they came to.

mod datagram;
mod listen;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use signalbox_api::flow::Protocol;
use signalbox_api::probe::Greeting;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::journal::Journal;

/// Connections at once, over all ports. The rest wait in the kernel's queue.
const AT_ONCE: usize = 1024;

/// How long a client may stay.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much a client may say; it has nothing to say.
const HEARD_MOST: u64 = 64 * 1024;

/// A port to listen on, written `TCP/9000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// TCP, UDP, or SCTP where the kernel has it.
    pub protocol: Protocol,
    /// The number.
    pub number: u16,
}

/// A port that is not written as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a port is written PROTOCOL/NUMBER, as in TCP/9000 or UDP/53")]
pub struct NotAPort;

impl FromStr for Port {
    type Err = NotAPort;

    fn from_str(text: &str) -> Result<Self, NotAPort> {
        let (protocol, number) = text.split_once('/').unwrap_or(("TCP", text));
        let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(protocol))
            .ok_or(NotAPort)?;
        let number = number.parse().ok().filter(|number| *number != 0).ok_or(NotAPort)?;
        Ok(Self { protocol, number })
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.protocol, self.number)
    }
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port is taken, or not ours to take.
    #[error("cannot listen on {address} {port}: {source}")]
    Listen {
        /// Where.
        address: IpAddr,
        /// The port.
        port: Port,
        /// What the kernel says.
        source: io::Error,
    },
    /// No thread, or no signal handler.
    #[error("cannot set up signals and log: {0}")]
    SetUp(#[source] io::Error),
}

/// What all connections share.
struct Shared {
    name: String,
    journal: Mutex<Journal>,
    turns: Arc<Semaphore>,
}

impl Shared {
    fn greeting(&self, peer: SocketAddr) -> Vec<u8> {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let greeting = Greeting { name: self.name.clone(), peer };
        let mut line = serde_json::to_vec(&greeting).expect("a greeting has no keys that are not strings");
        line.push(b'\n');
        line
    }

    fn log(&self, text: impl FnOnce() -> String) {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).line(text);
    }
}

/// Serves until SIGTERM or SIGINT. Without ports it only waits (and reaps, where it is PID 1).
pub async fn run(name: String, ports: &[Port]) -> Result<(), ServeError> {
    // First of all: to PID 1 the kernel delivers no signal without a handler.
    let mut signals = Signals::new().map_err(ServeError::SetUp)?;
    let shared = Arc::new(Shared {
        name,
        journal: Mutex::new(Journal::new().map_err(ServeError::SetUp)?),
        turns: Arc::new(Semaphore::new(AT_ONCE)),
    });
    let mut listeners = JoinSet::new();
    for port in ports {
        for socket in listen::sockets(*port)? {
            match socket {
                listen::Socket::Stream(listener) => drop(listeners.spawn(accept(listener, *port, shared.clone()))),
                listen::Socket::Datagram(socket) => {
                    drop(listeners.spawn(datagram::answer(socket, *port, shared.clone())));
                }
            }
        }
    }
    let listed = ports.iter().map(Port::to_string).collect::<Vec<_>>().join(", ");
    let listed = if listed.is_empty() { "no port" } else { &listed };
    eprintln!("signalbox-probe {}: {} serves {listed}", env!("CARGO_PKG_VERSION"), shared.name);
    let by = signals.wait().await;
    eprintln!("signalbox-probe: {} ends, by {by}", shared.name);
    Ok(())
}

struct Signals {
    term: Signal,
    interrupt: Signal,
    child: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            child: signal(SignalKind::child())?,
        })
    }

    /// Waits for a signal to end, and reaps meanwhile.
    async fn wait(&mut self) -> &'static str {
        loop {
            // Orphans may have ended before the handler stood.
            crate::system::reap();
            tokio::select! {
                _ = self.term.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.child.recv() => {}
            }
        }
    }
}

async fn accept(listener: TcpListener, port: Port, shared: Arc<Shared>) {
    loop {
        let Ok(turn) = shared.turns.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    let result = timeout(PATIENCE, greet(stream, &shared.greeting(peer))).await;
                    shared.log(|| match result {
                        Ok(Ok(())) => format!("{port} <- {peer}"),
                        Ok(Err(error)) => format!("{port} <- {peer}: {error}"),
                        Err(_) => format!("{port} <- {peer}: stayed for {} s, closed", PATIENCE.as_secs()),
                    });
                    drop(turn);
                });
            }
            // The client has gone already, or this process is out of descriptors: let the others get on.
            Err(error) => {
                shared.log(|| format!("{port}: cannot accept: {error}"));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Says who this is, then waits for the client to close.
async fn greet(mut stream: TcpStream, line: &[u8]) -> io::Result<()> {
    stream.write_all(line).await?;
    let mut rest = stream.take(HEARD_MOST);
    let mut buffer = [0; 512];
    loop {
        match rest.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // An agent ends a connection with a reset, to leave no TIME_WAIT behind.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let check = |text: &str, expected: Result<(Protocol, u16), NotAPort>| {
            assert_eq!(text.parse(), expected.map(|(protocol, number)| Port { protocol, number }), "{text}");
        };
        check("TCP/9000", Ok((Protocol::Tcp, 9000)));
        check("udp/53", Ok((Protocol::Udp, 53)));
        check("SCTP/1", Ok((Protocol::Sctp, 1)));
        check("80", Ok((Protocol::Tcp, 80)));
        check("TCP/0", Err(NotAPort));
        check("TCP/65536", Err(NotAPort));
        check("ICMP/1", Err(NotAPort));
        check("TCP/", Err(NotAPort));
    }
}
