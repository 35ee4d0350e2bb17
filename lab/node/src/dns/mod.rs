//! Cluster DNS. The lab answers itself, on sockets that lie in the network namespace of a pod: so Services translate
//! and policies judge its traffic as they do any pod's.
//!
//! - `zone`: what a name means

mod zone;

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio_util::sync::CancellationToken;

use crate::directory::Directory;
use crate::error::Error;
use crate::instance::Instance;
use crate::netns;
use crate::node::Node;
use zone::{Answer, Data, Kind};

/// How long an answer may be kept, in seconds. Also the answer that there is none.
const TTL: u32 = 5;
const PORT: u16 = 53;
/// A silent TCP connection is closed after so long.
const TCP_TIMEOUT: Duration = Duration::from_secs(10);

/// A resolver that answers inside a pod, until it is dropped.
pub(crate) struct Serving {
    server: Server<Handler>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.server.shutdown_token().cancel();
    }
}

/// Answers on port 53 in a pod's network namespace.
pub(crate) async fn serve(node: &Arc<Node>, instance: &Instance) -> Result<Serving, Error> {
    let (udp, tcp) = netns::inside(&instance.sandbox.netns(), || {
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
        let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok((udp, tcp))
    })
    .await
    .map_err(Error::io("listen on port 53 in the DNS pod"))?;
    let directory = Arc::clone(&node.directory);
    let domain = node.config.cluster_domain.to_lowercase();
    let mut server = Server::new(Handler { directory, domain });
    let listen = |error: io::Error| Error::io("serve DNS in its pod")(error);
    server.register_socket(tokio::net::UdpSocket::from_std(udp).map_err(listen)?);
    server.register_listener(tokio::net::TcpListener::from_std(tcp).map_err(listen)?, TCP_TIMEOUT, 32);
    Ok(Serving { server })
}

/// The cluster's DNS by itself, for clusters that have none: answers on port 53 in the network namespace that this process is in, from what the
/// API says of Services and hosts outside, until `stop`.
///
/// # Errors
/// When port 53 is taken or not allowed.
pub async fn serve_here(client: kube::Client, domain: &str, stop: CancellationToken) -> Result<(), Error> {
    let listen = Error::io("listen on port 53");
    let sockets = async {
        io::Result::Ok((
            tokio::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?,
            tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?,
        ))
    };
    let (udp, tcp) = sockets.await.map_err(listen)?;
    let directory = Arc::new(Directory::default());
    let mut server = Server::new(Handler { directory: Arc::clone(&directory), domain: domain.to_lowercase() });
    server.register_socket(udp);
    server.register_listener(tcp, TCP_TIMEOUT, 32);
    directory.run(&client, &stop).await;
    server.shutdown_token().cancel();
    Ok(())
}

struct Handler {
    directory: Arc<Directory>,
    domain: String,
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut respond: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let mut reply = Reply::default();
        match request.request_info() {
            Ok(info) if info.query.query_class() == DNSClass::IN => {
                let name = info.query.name().to_string().to_lowercase();
                reply = self.reply(name.trim_end_matches('.'), info.query.query_type());
                metadata.response_code = reply.code;
                metadata.authoritative = true;
            }
            Ok(_) => metadata.response_code = ResponseCode::Refused,
            Err(_) => metadata.response_code = ResponseCode::FormErr,
        }
        // A client behind no other resolver wants to hear that recursion is on offer; there is nothing to recurse to.
        metadata.recursion_available = true;
        let mut edns = Edns::new();
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(asked) = &request.edns {
            edns.set_max_payload(asked.max_payload().max(512));
            builder.edns(&edns);
        }
        let message = builder.build(metadata, &reply.answers, [], &reply.authority, &reply.additional);
        match respond.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "a DNS answer was not sent");
                hickory_proto::op::Header { metadata, counts: hickory_proto::op::HeaderCounts::default() }.into()
            }
        }
    }
}

struct Reply {
    code: ResponseCode,
    answers: Vec<Record>,
    authority: Vec<Record>,
    additional: Vec<Record>,
}

impl Default for Reply {
    fn default() -> Self {
        Self { code: ResponseCode::NoError, answers: Vec::new(), authority: Vec::new(), additional: Vec::new() }
    }
}

impl Handler {
    fn reply(&self, name: &str, kind: RecordType) -> Reply {
        let kind = match kind {
            RecordType::A => Kind::A,
            RecordType::SRV => Kind::Srv,
            RecordType::PTR => Kind::Ptr,
            RecordType::CNAME => Kind::Cname,
            RecordType::ANY => Kind::Any,
            _ => Kind::Other,
        };
        let answer = zone::answer(&self.directory.read(), &self.domain, name, kind);
        let mut reply = Reply::default();
        match answer {
            Answer::Found { answers, additional } => {
                reply.answers = answers.iter().filter_map(record).collect();
                reply.additional = additional.iter().filter_map(record).collect();
            }
            Answer::NoName => reply.code = ResponseCode::NXDomain,
        }
        if reply.answers.is_empty() {
            reply.authority.extend(self.authority(name));
        }
        reply
    }

    /// Lets the asker keep a negative answer; see RFC 2308.
    fn authority(&self, name: &str) -> Option<Record> {
        let inside = name == self.domain || name.ends_with(&format!(".{}", self.domain));
        // Outside, the lab's resolver is the whole of DNS: its only zone is the root.
        let zone = if inside { self.domain.as_str() } else { "" };
        let server = parse(&format!("ns.dns.{}", self.domain))?;
        let contact = parse(&format!("hostmaster.{}", self.domain))?;
        let soa = SOA::new(server, contact, 1, 7200, 1800, 86400, TTL);
        Some(Record::from_rdata(parse(zone)?, TTL, RData::SOA(soa)))
    }
}

fn parse(name: &str) -> Option<Name> {
    if name.is_empty() { Some(Name::root()) } else { Name::from_ascii(format!("{name}.")).ok() }
}

/// A name that DNS cannot carry has no record.
fn record((name, data): &zone::Record) -> Option<Record> {
    let data = match data {
        Data::A(address) => RData::A(A(*address)),
        Data::Srv(port, target) => RData::SRV(SRV::new(0, 100, *port, parse(target)?)),
        Data::Ptr(target) => RData::PTR(PTR(parse(target)?)),
        Data::Cname(target) => RData::CNAME(CNAME(parse(target)?)),
    };
    Some(Record::from_rdata(parse(name)?, TTL, data))
}
