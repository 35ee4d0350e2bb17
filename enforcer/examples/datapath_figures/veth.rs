//! Connections and packets between two pods of a node, over veth: without any policy, with the enforcer, with nftables.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use signalbox_enforcer::AttachPreference;
use tokio::sync::broadcast;

use crate::{
    measure::Samples,
    scenarios::pin,
    support::{Gate, Lab, POD_A, POD_B, policy},
};

const PORT: u16 = 9000;
/// Connections of one round.
const CONNECTIONS: u32 = 300;
/// One byte there and one back, so many times in a round.
const EXCHANGES: u32 = 3_000;
/// So that the reader of events has read what the round has told: it looks for new flows within 20 ms.
const GRACE: Duration = Duration::from_millis(25);

/// One way of enforcing.
pub struct Variant {
    pub name: &'static str,
    /// CPU time of one connection: connect, one byte, reset; in microseconds.
    pub connection: Samples,
    /// CPU time of one packet of an open connection, in microseconds.
    pub packet: Samples,
}

struct Way {
    lab: Lab,
    _gate: Option<Gate>,
    listener: TcpListener,
}

/// Whether somebody listens to the events, for whom each is put into words.
enum Listening {
    Nobody,
    Somebody,
}

/// Rounds of all four in turn.
pub fn measure(rounds: u32) -> Result<[Variant; 4]> {
    let ways = [none()?, ours(Listening::Nobody)?, ours(Listening::Somebody)?, nftables()?];
    let names = ["no policy", "Signalbox", "Signalbox, its events listened to", "nftables"];
    let mut variants = names.map(|name| Variant { name, connection: Samples::default(), packet: Samples::default() });
    // All of it, softirqs too, on one CPU: what a send sets off runs before the call returns, on the caller's time.
    pin(1)?;
    for round in 0..rounds + 1 {
        for (way, variant) in ways.iter().zip(&mut variants) {
            let connection = way.connections()?;
            let packet = way.packets()?;
            if round > 0 {
                variant.connection.push(connection);
                variant.packet.push(packet);
            }
        }
    }
    Ok(variants)
}

fn way(lab: Lab, gate: Option<Gate>) -> Result<Way> {
    let listener = lab.b.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)))?;
    let way = Way { lab, _gate: gate, listener };
    // The kernel opens a fresh veth's queue within a second, and drops until then.
    drop(way.open(Duration::from_secs(5))?);
    way.listener.accept()?;
    Ok(way)
}

fn none() -> Result<Way> {
    way(Lab::new(), None)
}

/// Egress of one pod and ingress of the other are judged, and allowed by a label and a port.
fn ours(listening: Listening) -> Result<Way> {
    let lab = Lab::new();
    let mut gate = Gate::new(&lab, AttachPreference::Auto);
    match listening {
        Listening::Nobody => gate.events = broadcast::channel(1).1,
        Listening::Somebody => {}
    }
    let peer =
        |namespace: &str| json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}]);
    let ports = json!([{"port": PORT}]);
    gate.policies(&[
        policy("one/out", &["Egress"], json!({"egress": [{"to": peer("two"), "ports": ports}]})),
        policy("two/in", &["Ingress"], json!({"ingress": [{"from": peer("one"), "ports": ports}]})),
    ]);
    way(lab, Some(gate))
}

/// The same in nftables, as an agent for one node would write it: connection tracking, and a set of addresses.
fn nftables() -> Result<Way> {
    let lab = Lab::new();
    let node = &lab.node;
    node.run("nft add table ip filter");
    node.run("nft add set ip filter clients { type ipv4_addr ; }");
    node.run(&format!("nft add element ip filter clients {{ {POD_A} }}"));
    node.run("nft add chain ip filter forward { type filter hook forward priority 0 ; policy drop ; }");
    node.run("nft add rule ip filter forward ct state established,related accept");
    node.run(&format!(
        "nft add rule ip filter forward ip saddr @clients ip daddr {POD_B} tcp dport {PORT} ct state new accept"
    ));
    way(lab, None)
}

impl Way {
    fn open(&self, patience: Duration) -> Result<TcpStream> {
        let address = SocketAddr::new(POD_B.parse()?, PORT);
        self.lab.a.enter(|| TcpStream::connect_timeout(&address, patience)).context("the connection is allowed")
    }

    /// Microseconds of CPU per connection.
    fn connections(&self) -> Result<f64> {
        let address = SocketAddr::new(POD_B.parse()?, PORT);
        let reset = libc::linger { l_onoff: 1, l_linger: 0 };
        let used = self.lab.a.enter(|| -> Result<f64> {
            pin(1)?;
            let before = cpu_time();
            for _ in 0..CONNECTIONS {
                let mut client = TcpStream::connect(address)?;
                let (mut server, _) = self.listener.accept()?;
                client.write_all(b"x")?;
                server.read_exact(&mut [0])?;
                setsockopt(&client, sockopt::Linger, &reset)?;
                drop(client);
                ensure!(server.read(&mut [0]).is_err(), "the reset arrives");
            }
            thread::sleep(GRACE);
            Ok(cpu_time() - before)
        })?;
        Ok(used / f64::from(CONNECTIONS))
    }

    /// Microseconds of CPU per packet, as the interfaces count them.
    fn packets(&self) -> Result<f64> {
        let mut client = self.open(Duration::from_secs(1))?;
        let (mut server, _) = self.listener.accept()?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let counted = self.count()?;
        let used = self.lab.a.enter(|| -> Result<f64> {
            pin(1)?;
            let before = cpu_time();
            for _ in 0..EXCHANGES {
                client.write_all(b"x")?;
                server.read_exact(&mut [0])?;
                server.write_all(b"y")?;
                client.read_exact(&mut [0])?;
            }
            Ok(cpu_time() - before)
        })?;
        let packets = self.count()? - counted;
        ensure!(packets >= 2 * u64::from(EXCHANGES), "{packets} packets");
        Ok(used / packets as f64)
    }

    /// Packets to and from pod b so far.
    fn count(&self) -> Result<u64> {
        let text = self.lab.node.enter(|| std::fs::read_to_string("/proc/thread-self/net/dev"))?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("vb:")).context("the interface exists")?;
        let fields: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        // Received and sent: the second and the tenth, as proc(5) has it.
        Ok(fields.get(1).context("a count")? + fields.get(9).context("a count")?)
    }
}

/// Microseconds of CPU that this process has used, in all its threads.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}
