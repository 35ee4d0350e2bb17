//! Rules of every size say in the kernel what they say on paper, and in the engine: packets are run through the programs by hand.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use signalbox_enforcer::{AttachPreference, datapath::Way};
use signalbox_policy::{Cluster, Connection, Family, Party, Protocol, Route};

use crate::support::{Gate, Lab, POD_A, POD_B, can_run, frame::Frame, pod_ref, policy};

/// A prefix of either family, IPv4 as the last 32 bits.
#[derive(Clone, Copy, Debug)]
struct Block {
    is_v4: bool,
    bits: u128,
    length: u32,
}

impl Block {
    const fn width(self) -> u32 {
        if self.is_v4 { 32 } else { 128 }
    }

    /// One of its parts.
    fn part(self, more: u32, which: u128) -> Self {
        let length = (self.length + more).min(self.width());
        let more = length - self.length;
        let part = if more == 0 { 0 } else { which % (1 << more) };
        Self { bits: self.bits | part << (self.width() - length), length, ..self }
    }

    fn last(self) -> u128 {
        let free = self.width() - self.length;
        if free == 128 { u128::MAX } else { self.bits | ((1 << free) - 1) }
    }

    fn address(self, bits: u128) -> IpAddr {
        if self.is_v4 { Ipv4Addr::from_bits(bits as u32).into() } else { Ipv6Addr::from_bits(bits).into() }
    }

    fn text(self) -> String {
        format!("{}/{}", self.address(self.bits), self.length)
    }

    fn holds(self, address: IpAddr) -> bool {
        let (is_v4, bits) = match address {
            IpAddr::V4(v4) => (true, u128::from(v4.to_bits())),
            IpAddr::V6(v6) => (false, v6.to_bits()),
        };
        is_v4 == self.is_v4 && self.bits <= bits && bits <= self.last()
    }

    /// The addresses at its ends, inside and outside.
    fn edges(self) -> Vec<IpAddr> {
        let top = if self.is_v4 { u128::from(u32::MAX) } else { u128::MAX };
        let (first, last) = (self.bits, self.last());
        let mut edges = vec![first, last];
        edges.extend(first.checked_sub(1));
        edges.extend(last.checked_add(1).filter(|bits| *bits <= top));
        edges.into_iter().map(|bits| self.address(bits)).collect()
    }
}

/// Numbers that are random enough, and the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u128) -> u128 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u128::from(self.0 >> 20) % bound
    }
}

/// How many packets were asked about, and how many of them pass.
#[derive(Debug, Default)]
struct Tally {
    asked: u32,
    passed: u32,
    engine: Duration,
}

/// An end: an address, and the pod behind it.
type End<'a> = (IpAddr, Option<&'a str>);

/// Whom to ask, besides the kernel.
struct Judges<'a> {
    cluster: &'a Cluster,
    gate: &'a Gate,
    /// The engine is asked about each connection in so many: in a debug build it takes its time.
    step: u32,
}

impl Judges<'_> {
    /// Holds the kernel's word against what the rules say, and the engine's; `way`: where the connection is judged.
    fn ask(
        &self,
        way: Way<'_>,
        (from, to): (End<'_>, End<'_>),
        at: (Protocol, u16),
        expected: bool,
        tally: &mut Tally,
    ) {
        if tally.asked.is_multiple_of(self.step) {
            let party = |(address, pod): End<'_>| pod.map_or(Party::Address(address), |pod| Party::Pod(pod_ref(pod)));
            let began = Instant::now();
            let verdict = self.cluster.judge(&Connection {
                from: &party(from),
                to: &party(to),
                protocol: at.0,
                port: at.1,
                route: Route::Direct,
                family: Some(Family::of(from.0)),
            });
            tally.engine += began.elapsed();
            assert_eq!(verdict.allowed(), Some(expected), "engine: {} to {}, {at:?}", from.0, to.0);
        }
        let frame = Frame { source: (from.0, 40_000), destination: (to.0, at.1), protocol: at.0, with_options: false };
        let trial = self.gate.datapath.try_packet(&frame.bytes(), way, 1).unwrap_or_else(|error| panic!("{error:#?}"));
        assert_eq!(trial.passes, expected, "kernel: {} to {}, {at:?}", from.0, to.0);
        tally.asked += 1;
        tally.passed += u32::from(trial.passes);
    }
}

/// 10,000 CIDRs in ipBlocks: blocks within the exceptions of others, and with exceptions of their own, in four rules that allow a
/// port each. Asked about is every address at an edge of any of them.
#[test]
fn ten_thousand_nested_blocks_are_exact() {
    const PEERS: usize = 2500;
    const RULES: u16 = 4;
    if !can_run() {
        return;
    }
    let mut random = Random(7);
    let roots = [
        Block { is_v4: true, bits: 0x0b00_0000, length: 8 },
        Block { is_v4: true, bits: 0xcb00_7100, length: 24 },
        Block { is_v4: false, bits: 0x2001_0db8 << 96, length: 32 },
    ];
    // Where the next block may lie: in a root, or in what another leaves out.
    let mut places: Vec<Block> = roots.to_vec();
    let mut all: Vec<Block> = Vec::new();
    let mut rules: Vec<Vec<(Block, Vec<Block>)>> = vec![Vec::new(); usize::from(RULES)];
    for at in 0..PEERS {
        let place = places[random.below(places.len() as u128) as usize];
        let more = 1 + random.below(6) as u32;
        let mut cidr = place.part(more, random.below(1 << 40));
        if cidr.width() - cidr.length < 6 {
            cidr = roots[at % 3].part(4, random.below(16));
        }
        let excepts: Vec<Block> =
            (0..3).map(|which| cidr.part(2 + random.below(4) as u32, which + random.below(64))).collect();
        places.extend(excepts.iter().filter(|except| except.width() - except.length > 8));
        all.push(cidr);
        all.extend(&excepts);
        rules[at % usize::from(RULES)].push((cidr, excepts));
    }
    assert_eq!(all.len(), 10_000);
    let lab = Lab::new();
    let mut gate = Gate::new(&lab, AttachPreference::Auto);
    let peer = |(cidr, excepts): &(Block, Vec<Block>)| {
        let excepts: Vec<String> = excepts.iter().map(|except| except.text()).collect();
        json!({"ipBlock": {"cidr": cidr.text(), "except": excepts}})
    };
    let side = |key: &str| -> Vec<Value> {
        let rules = rules.iter().zip(80..);
        rules
            .map(|(peers, port)| json!({key: peers.iter().map(peer).collect::<Vec<_>>(), "ports": [{"port": port}]}))
            .collect()
    };
    // On paper.
    let allows = |address: IpAddr, port: u16| {
        let Some(peers) = rules.get(usize::from(port - 80)) else { return false };
        peers.iter().any(|(cidr, excepts)| cidr.holds(address) && !excepts.iter().any(|except| except.holds(address)))
    };
    let policies = [
        policy("two/p", &["Ingress"], json!({"ingress": side("from")})),
        policy("one/p", &["Egress"], json!({"egress": side("to")})),
    ];
    let began = Instant::now();
    let applied = gate.policies(&policies);
    println!("in the kernel after {:?}", began.elapsed());
    assert_eq!(applied.problems, [] as [String; 0]);
    let cluster = gate.cluster(&policies);
    let addresses: BTreeSet<IpAddr> = all.iter().flat_map(|block| block.edges()).collect();
    let [a, b, uplink] = ["va", "vb", "up0"].map(|name| lab.node.interface(name));
    let mut tally = Tally::default();
    let judges = Judges { cluster: &cluster, gate: &gate, step: 64 };
    let began = Instant::now();
    lab.node.enter(|| {
        for (at, address) in addresses.iter().enumerate() {
            let port = 80 + (at as u16) % (RULES + 1);
            let (from_pod, to_pod) = if address.is_ipv4() { (POD_A, POD_B) } else { ("fd00:244::2", "fd00:244::3") };
            let own = |text: &str| text.parse::<IpAddr>().expect("an address");
            let ways = [
                (
                    Way { program: "to_pod", interface: b, came_by: uplink, mark: 0 },
                    ((*address, None), (own(to_pod), Some("two/b"))),
                ),
                (
                    Way { program: "to_uplink", interface: uplink, came_by: a, mark: 0 },
                    ((own(from_pod), Some("one/a")), (*address, None)),
                ),
            ];
            let (way, ends) = ways[(at / 5) % 2];
            judges.ask(way, ends, (Protocol::Tcp, port), allows(*address, port), &mut tally);
        }
    });
    println!("{} addresses in {:?}: {tally:?}", addresses.len(), began.elapsed());
    assert!(
        tally.asked > 20_000 && tally.passed > tally.asked / 20 && tally.passed < tally.asked * 19 / 20,
        "{tally:?}"
    );
}

/// 200 ports and 20 ranges for one peer, of three protocols, and others for a second peer whose ports overlap: every port of TCP,
/// and every edge of the others.
#[test]
fn many_ports_for_one_peer_are_exact() {
    if !can_run() {
        return;
    }
    let mut random = Random(11);
    let mut edges: BTreeSet<u16> = [1, 2, 65_534, 65_535].into();
    let mut ports = |count: u32, ranges: u32, protocol: Protocol| -> Vec<(Protocol, u16, u16)> {
        let mut list = Vec::new();
        for at in 0..count + ranges {
            let port = 1 + random.below(65_000) as u16;
            let end = if at < count { port } else { port.saturating_add(random.below(500) as u16) };
            edges.extend([port - 1, port, port + 1, end.saturating_sub(1), end, end.saturating_add(1)]);
            list.push((protocol, port, end));
        }
        list
    };
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let lists: Vec<Vec<(Protocol, u16, u16)>> =
        (0..2).map(|_| protocols.into_iter().flat_map(|protocol| ports(70, 7, protocol)).collect()).collect();
    let entry = |(protocol, first, last): &(Protocol, u16, u16)| {
        let mut entry = json!({"port": first, "protocol": protocol.to_string()});
        if last > first {
            entry["endPort"] = (*last).into();
        }
        entry
    };
    let rule = |key: &str, peer: Value, at: usize| json!({key: [peer], "ports": lists[at].iter().map(entry).collect::<Vec<_>>()});
    // On paper.
    let allows = |at: usize, asked: Protocol, port: u16| {
        lists[at].iter().any(|(protocol, first, last)| *protocol == asked && (*first..=*last).contains(&port))
    };
    let outside = json!({"ipBlock": {"cidr": "198.51.100.0/24"}});
    let app = |name: &str| json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": name}}});
    let policies = [
        policy("two/p", &["Ingress"], json!({"ingress": [rule("from", app("a"), 0), rule("from", outside, 1)]})),
        policy("one/p", &["Egress"], json!({"egress": [rule("to", app("b"), 0), rule("to", app("none"), 1)]})),
    ];
    let lab = Lab::new();
    let mut gate = Gate::new(&lab, AttachPreference::Auto);
    assert_eq!(gate.policies(&policies).problems, [] as [String; 0]);
    let cluster = gate.cluster(&policies);
    let [a, b, uplink] = ["va", "vb", "up0"].map(|name| lab.node.interface(name));
    let own = |text: &str| text.parse::<IpAddr>().expect("an address");
    let mut tally = Tally::default();
    let judges = Judges { cluster: &cluster, gate: &gate, step: 61 };
    let began = Instant::now();
    lab.node.enter(|| {
        for (list, (came_by, from)) in
            [(a, (own(POD_A), Some("one/a"))), (uplink, (own("198.51.100.7"), None))].into_iter().enumerate()
        {
            let way = Way { program: "to_pod", interface: b, came_by, mark: 0 };
            let ends = (from, (own(POD_B), Some("two/b")));
            for port in 1..=u16::MAX {
                judges.ask(way, ends, (Protocol::Tcp, port), allows(list, Protocol::Tcp, port), &mut tally);
            }
            for port in edges.iter().copied().filter(|port| *port != 0) {
                for protocol in [Protocol::Udp, Protocol::Sctp] {
                    judges.ask(way, ends, (protocol, port), allows(list, protocol, port), &mut tally);
                }
            }
        }
    });
    println!("{:?}: {tally:?}", began.elapsed());
    assert!(tally.passed > 1000 && tally.passed < tally.asked / 2, "{tally:?}");
}
