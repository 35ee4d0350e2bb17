//! The lines of JSON that the server and the probe agent in a pod write to each other, one object a line.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::cell::{Evidence, Outcome};
use crate::flow::Protocol;

/// How long an agent uses a source port no more, once a connection from it has ended, in milliseconds. Longer than a kernel tells nothing
/// more of a flow whose denial it has told, and longer than the server waits for what kernels tell late of a connection that has ended: so an
/// event with that port is about one connection only, as far as one agent can see to it: one that is started anew knows nothing of the ports before.
pub const PORT_RESTS_MS: u64 = 3_000;

/// From the server to the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Request {
    /// Try one connection.
    Connect {
        /// Chosen by the server; unique on this stream.
        id: u64,
        /// How.
        protocol: Protocol,
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
        /// When to give up, in milliseconds.
        timeout_ms: u32,
    },
    /// Resolve a name and do nothing else.
    Resolve {
        /// Chosen by the server; unique on this stream.
        id: u64,
        /// The name.
        name: String,
        /// When to give up, in milliseconds.
        timeout_ms: u32,
    },
    /// The kernel dropped this connection's packet: end it now, as [`Outcome::Dropped`] by [`Evidence::KernelEvent`].
    Dropped {
        /// The id of the `Connect`.
        id: u64,
    },
    /// The kernel dropped a question to a DNS server: wait for its answer no longer, and ask this server no more. The request
    /// goes on with the next server; where there is none, it ends as [`Outcome::DnsFailed`] by [`Evidence::KernelEvent`].
    QuestionDropped {
        /// The id of the `Connect` or `Resolve`.
        id: u64,
        /// The source that the question left from, as [`Response::Asking`] told it.
        local: SocketAddr,
    },
    /// Connect to the pod's own listeners over loopback: tells a closed gate from a dead listener.
    Control {
        /// Chosen by the server; unique on this stream.
        id: u64,
        /// TCP and UDP ports.
        ports: Vec<(Protocol, u16)>,
    },
}

/// From the agent to the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Response {
    /// The first line: the agent is ready.
    Hello {
        /// The agent's version.
        version: String,
        /// Protocols that this kernel has sockets for.
        protocols: Vec<Protocol>,
    },
    /// The first packet of a connection is about to leave.
    Started {
        /// The request's id.
        id: u64,
        /// The source that it leaves from.
        local: SocketAddr,
        /// Where to: the resolved address, before any translation.
        remote: SocketAddr,
    },
    /// A question to a DNS server is about to leave, as a datagram: each has a port of its own.
    Asking {
        /// The id of the `Connect` or `Resolve` that wants to know.
        id: u64,
        /// The source that it leaves from.
        local: SocketAddr,
        /// The server, before any translation.
        remote: SocketAddr,
    },
    /// A connection ended.
    Done {
        /// The request's id.
        id: u64,
        /// What happened.
        outcome: Outcome,
        /// How that is known.
        evidence: Evidence,
        /// From the first packet to the peer's answer, in microseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        latency_us: Option<u64>,
        /// What the peer called itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer_name: Option<String>,
        /// The source address that the peer saw.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen_source: Option<IpAddr>,
        /// What went wrong, in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// A name was resolved, or not.
    Resolved {
        /// The request's id.
        id: u64,
        /// Empty where it failed.
        addresses: Vec<IpAddr>,
        /// In microseconds.
        latency_us: u64,
        /// What went wrong, in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// Who listens here.
    Controlled {
        /// The request's id.
        id: u64,
        /// The ports, of those asked for, that answered.
        listening: Vec<(Protocol, u16)>,
    },
    /// A line that the agent could not read.
    Rejected {
        /// Why, with the line's beginning.
        error: String,
    },
}

/// What `probe serve` answers on each connection or datagram, as one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Greeting {
    /// The server's own name: the pod's, or the outside host's.
    pub name: String,
    /// The source address and port that it saw.
    pub peer: SocketAddr,
}
