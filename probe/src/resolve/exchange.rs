//! One question to one server: a datagram, and TCP where the answer does not fit.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use signalbox_api::flow::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::oneshot;

use crate::ports::{Port, Ports};

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name has these; none means that it exists and has none of this kind.
    Addresses(Vec<IpAddr>),
    /// NXDOMAIN.
    NoSuchName,
    /// SERVFAIL, REFUSED and the like.
    Failure(ResponseCode),
}

/// Why a server said nothing.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Whoever watches the kernel says that it dropped the question.
    #[error("the question was dropped on its way")]
    Dropped,
    /// This end cannot ask, or was told that there is no way or no listener.
    #[error(transparent)]
    Socket(#[from] io::Error),
}

/// Whoever watches the kernel, and can tell what became of a question.
pub trait Watch: Sync {
    /// A question is about to leave as a datagram, from `local` to `server`. What it gives back is told when the kernel drops
    /// the question; where its other end is gone, nobody will tell.
    fn asking(&self, local: SocketAddr, server: SocketAddr) -> oneshot::Receiver<()>;

    /// The source ports by which the kernel's events name connections and questions.
    fn ports(&self) -> &Ports;
}

/// Nobody watches questions.
#[derive(Debug, Default)]
pub struct Unwatched {
    ports: Ports,
}

impl Watch for Unwatched {
    fn asking(&self, _local: SocketAddr, _server: SocketAddr) -> oneshot::Receiver<()> {
        oneshot::channel().1
    }

    fn ports(&self) -> &Ports {
        &self.ports
    }
}

/// A question ready to send.
pub fn question(name: &Name, kind: RecordType) -> Message {
    // The hasher's keys are random per process and per call: enough against an answer that was meant for another.
    let id = RandomState::new().hash_one(name.to_string()) as u16;
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), kind));
    message
}

/// Asks. Waits until there is an answer or `watch` says that the question was dropped: the caller bounds it.
pub async fn ask(server: SocketAddr, name: &Name, kind: RecordType, watch: &impl Watch) -> Result<Answer, NoAnswer> {
    let question = question(name, kind);
    let bytes = question.to_vec().map_err(io::Error::other)?;
    let reply = by_datagram(server, &question, &bytes, watch).await?;
    let reply = if reply.metadata.truncation { by_stream(server, &question, &bytes).await? } else { reply };
    Ok(read(&reply))
}

async fn by_datagram(
    server: SocketAddr,
    question: &Message,
    bytes: &[u8],
    watch: &impl Watch,
) -> Result<Message, NoAnswer> {
    let (_port, socket) = datagram_socket(server, watch.ports())?;
    // Connected: strangers' datagrams are left out by the kernel, and ICMP errors arrive here.
    socket.connect(server).await?;
    let dropped = watch.asking(socket.local_addr()?, server);
    socket.send(bytes).await?;
    tokio::select! {
        biased;
        reply = reply(&socket, question) => Ok(reply?),
        Ok(()) = dropped => Err(NoAnswer::Dropped),
    }
}

/// A socket for datagrams to there, and its port.
pub(crate) fn datagram_socket(to: SocketAddr, ports: &Ports) -> io::Result<(Port<'_>, UdpSocket)> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let bind = || std::net::UdpSocket::bind((any, 0));
    let (port, socket) = ports.bind(Protocol::Udp, bind, std::net::UdpSocket::local_addr)?;
    socket.set_nonblocking(true)?;
    Ok((port, UdpSocket::from_std(socket)?))
}

/// The answer to this question. Waits for ever.
async fn reply(socket: &UdpSocket, question: &Message) -> io::Result<Message> {
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // A datagram that is no answer to this question may be a late answer to an earlier one. Go on waiting.
        if let Ok(reply) = Message::from_vec(&buffer[..length])
            && belongs(&reply, question)
        {
            return Ok(reply);
        }
    }
}

async fn by_stream(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await?;
    let reply = Message::from_vec(&reply).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    if belongs(&reply, question) {
        Ok(reply)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the answer belongs to another question"))
    }
}

fn belongs(reply: &Message, question: &Message) -> bool {
    reply.metadata.message_type == MessageType::Response
        && reply.metadata.id == question.metadata.id
        && reply.queries == question.queries
}

fn read(reply: &Message) -> Answer {
    match reply.metadata.response_code {
        ResponseCode::NoError => Answer::Addresses(
            reply
                .answers
                .iter()
                .filter_map(|record| match &record.data {
                    RData::A(address) => Some(IpAddr::V4(address.0)),
                    RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                    // The links of a CNAME chain; its end is in the same answer.
                    _ => None,
                })
                .collect(),
        ),
        ResponseCode::NXDomain => Answer::NoSuchName,
        code => Answer::Failure(code),
    }
}
