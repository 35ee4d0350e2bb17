//! The resolver against a server of the test's own on loopback, which answers, fails, truncates or stays silent.

#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use signalbox_probe::ports::Ports;
use signalbox_probe::resolve::config::Config;
use signalbox_probe::resolve::exchange::{Unwatched, Watch};
use signalbox_probe::resolve::{ResolveError, Resolver};
use tokio::sync::oneshot;

/// Answers by the first label of the name; `tcp` says whether the question came over TCP.
fn answer(question: &Message, tcp: bool) -> Option<Message> {
    let query = &question.queries[0];
    let mut reply = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    reply.add_query(query.clone());
    let mut add = |name: &Name, data: RData| {
        reply.add_answer(Record::from_rdata(name.clone(), 5, data));
    };
    let v4 = |last: u8| RData::A(A(Ipv4Addr::new(192, 0, 2, last)));
    let full = query.name().to_ascii();
    match (full.as_str(), query.query_type()) {
        ("web.ns.test." | "six.ns.test.", RecordType::AAAA) => {
            add(query.name(), RData::AAAA(AAAA("2001:db8::1".parse().unwrap())));
        }
        ("web.ns.test.", _) => add(query.name(), v4(1)),
        ("six.ns.test." | "empty.ns.test.", _) => {}
        ("alias.ns.test.", RecordType::A) => {
            let target = Name::from_ascii("web.ns.test.").unwrap();
            add(query.name(), RData::CNAME(CNAME(target.clone())));
            add(&target, v4(2));
        }
        ("alias.ns.test.", _) => {}
        ("broken.ns.test.", _) => reply.metadata.response_code = ResponseCode::ServFail,
        ("silent.ns.test.", _) => return None,
        ("halfsilent.ns.test.", RecordType::AAAA) => return None,
        ("halfsilent.ns.test.", _) => add(query.name(), v4(4)),
        ("large.ns.test.", RecordType::A) if !tcp => reply.metadata.truncation = true,
        ("large.ns.test.", RecordType::A) => (0..200).for_each(|last| add(query.name(), v4(last))),
        ("large.ns.test.", _) => {}
        ("www.example.com.", RecordType::A) => add(query.name(), v4(3)),
        ("www.example.com.", _) => {}
        _ => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    Some(reply)
}

/// Starts the server. It ends with the test's process. `garbage` sends a wrong answer before each right one.
fn server(garbage: bool) -> SocketAddr {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            let question = Message::from_vec(&buffer[..length]).unwrap();
            if let Some(reply) = answer(&question, false) {
                if garbage {
                    let mut other = reply.clone();
                    other.metadata.id = other.metadata.id.wrapping_add(1);
                    udp.send_to(b"?", peer).unwrap();
                    udp.send_to(&other.to_vec().unwrap(), peer).unwrap();
                    udp.send_to(&buffer[..length], peer).unwrap();
                }
                udp.send_to(&reply.to_vec().unwrap(), peer).unwrap();
            }
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().map_while(Result::ok) {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut question).unwrap();
            let reply = answer(&Message::from_vec(&question).unwrap(), true).unwrap().to_vec().unwrap();
            stream.write_all(&(reply.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&reply).unwrap();
        }
    });
    address
}

fn resolver(servers: Vec<SocketAddr>) -> Resolver {
    let mut config = Config::parse("search ns.test\noptions ndots:5 timeout:1 attempts:2");
    config.servers = servers;
    Resolver::new(config, "192.0.2.77 pinned\n".into())
}

async fn lookup(resolver: &Resolver, name: &str) -> Result<Vec<String>, ResolveError> {
    let found = resolver.lookup(name, Duration::from_millis(600), &Unwatched::default()).await?;
    Ok(found.iter().map(IpAddr::to_string).collect())
}

#[tokio::test]
async fn names_resolve() {
    for garbage in [false, true] {
        let resolver = resolver(vec![server(garbage)]);
        for (name, expected) in [
            ("web", &["192.0.2.1", "2001:db8::1"][..]),
            ("WEB.ns.test.", &["192.0.2.1", "2001:db8::1"]),
            ("six", &["2001:db8::1"]),
            ("alias", &["192.0.2.2"]),
            ("www.example.com", &["192.0.2.3"]),
            ("halfsilent", &["192.0.2.4"]),
            ("pinned", &["192.0.2.77"]),
            ("192.0.2.9", &["192.0.2.9"]),
            ("2001:db8::9", &["2001:db8::9"]),
        ] {
            assert_eq!(lookup(&resolver, name).await.unwrap(), expected, "{name}");
        }
    }
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_over_tcp() {
    assert_eq!(lookup(&resolver(vec![server(false)]), "large").await.unwrap().len(), 200);
}

#[tokio::test]
async fn failures_are_told_apart() {
    let at = server(false);
    let resolver = resolver(vec![at]);
    for (name, expected) in [
        ("nosuch", format!("NXDOMAIN: nosuch does not exist, says {at}")),
        ("empty", format!("NODATA: empty.ns.test. has no address, says {at}")),
        ("broken", format!("SERVFAIL: {at} could not answer for broken.ns.test.")),
        ("a..b", "\"a..b\" is not a host name".into()),
    ] {
        assert_eq!(lookup(&resolver, name).await.unwrap_err().to_string(), expected, "{name}");
    }
    let begun = Instant::now();
    let error = lookup(&resolver, "silent").await.unwrap_err();
    assert!(matches!(error, ResolveError::Timeout { .. }), "{error}");
    let took = begun.elapsed();
    assert!((Duration::from_millis(590)..Duration::from_secs(2)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_second_server_helps() {
    // Nobody listens at the first one: the kernel says so at once.
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let resolver = resolver(vec![nobody, server(false)]);
    assert_eq!(lookup(&resolver, "web").await.unwrap().len(), 2);
}

/// Somebody who knows that what goes to one server is dropped, and counts the questions to it.
struct Knows {
    cut_off: SocketAddr,
    asked: AtomicU32,
    ports: Ports,
}

impl Watch for Knows {
    fn asking(&self, local: SocketAddr, server: SocketAddr) -> oneshot::Receiver<()> {
        assert_ne!(local.port(), 0);
        let (drop, dropped) = oneshot::channel();
        if server == self.cut_off {
            self.asked.fetch_add(1, Ordering::Relaxed);
            drop.send(()).unwrap();
        }
        dropped
    }

    fn ports(&self) -> &Ports {
        &self.ports
    }
}

#[tokio::test]
async fn a_server_that_is_cut_off_is_asked_once_and_the_others_as_ever() {
    // It never answers: what is sent to it waits in its socket.
    let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
    let cut_off = mute.local_addr().unwrap();
    let right = server(false);
    let begun = Instant::now();
    let dropped = || Err(format!("the question to {cut_off} for web.ns.test. was dropped on its way"));
    let failed = || Err(format!("SERVFAIL: {right} could not answer for broken.ns.test."));
    for (servers, name, expected, asked) in [
        // Once for each family of addresses, in spite of two attempts.
        (vec![cut_off, right], "web", Ok(2), 2),
        (vec![right, cut_off], "web", Ok(2), 0),
        // There is a second name to ask for.
        (vec![cut_off, right], "broken", failed(), 4),
        (vec![cut_off], "web", dropped(), 2),
        (vec![cut_off, cut_off], "web", dropped(), 2),
    ] {
        let knows = Knows { cut_off, asked: AtomicU32::new(0), ports: Ports::default() };
        let found = resolver(servers).lookup(name, Duration::from_secs(20), &knows).await;
        assert_eq!(found.map(|addresses| addresses.len()).map_err(|error| error.to_string()), expected, "{name}");
        assert_eq!(knows.asked.into_inner(), asked, "{name}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
