//! One question to one server: a datagram, and TCP where the answer does not fit.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

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

/// A question ready to send.
pub fn question(name: &Name, kind: RecordType) -> Message {
    // The hasher's keys are random per process and per call: enough against an answer that was meant for another.
    let id = RandomState::new().hash_one(name.to_string()) as u16;
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), kind));
    message
}

/// Asks. Waits for ever: the caller bounds it.
pub async fn ask(server: SocketAddr, name: &Name, kind: RecordType) -> io::Result<Answer> {
    let question = question(name, kind);
    let bytes = question.to_vec().map_err(io::Error::other)?;
    let reply = by_datagram(server, &question, &bytes).await?;
    let reply = if reply.metadata.truncation { by_stream(server, &question, &bytes).await? } else { reply };
    Ok(read(&reply))
}

async fn by_datagram(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected: strangers' datagrams are left out by the kernel, and ICMP errors arrive here.
    socket.connect(server).await?;
    socket.send(bytes).await?;
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
