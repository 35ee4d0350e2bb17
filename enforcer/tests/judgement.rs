//! The kernel's verdict is the engine's: random packets through the programs, by `BPF_PROG_TEST_RUN`, with the tables of
//! random clusters with policies of all kinds and tiers. `SIGNALBOX_PACKETS` sets how many.

#[path = "../../policy/tests/laws/generate.rs"]
#[allow(dead_code, reason = "the engine's tests use the rest")]
mod generate;
#[path = "../../policy/tests/laws/generate_tiers.rs"]
mod generate_tiers;
mod support;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::{Duration, Instant},
};

use generate_tiers::{Place, tiered};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config as Cases, RngAlgorithm, TestRng, TestRunner},
};
use signalbox_api::{flow, kernel::FlowEvent};
use signalbox_enforcer::{
    Config,
    datapath::{Datapath, NodeAddresses, Way},
    events::EventReader,
};
use signalbox_policy::{
    Cluster, Connection, Family, IdentityAllocator, Party, PodRef, Protocol, Route, RuleRef, Side, Verdict,
    evaluate::{Endpoint, Outcome},
};
use support::{Space, can_run, frame::Frame};
use tokio::sync::broadcast;

const NODE: &str = "n1";
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
/// Ports in, at the ends of, and outside what rules name.
const PORTS: [u16; 9] = [1, 52, 53, 80, 81, 85, 90, 119, 65_535];
const PACKETS_PER_CLUSTER: usize = 1000;

/// A node in a namespace of its own: interfaces with nothing behind them.
struct Node {
    space: Space,
    uplink: u32,
    interfaces: Vec<u32>,
    datapath: Datapath,
    events: broadcast::Receiver<FlowEvent>,
    _reader: EventReader,
}

impl Node {
    fn new() -> Self {
        let space = Space::new();
        let names: Vec<String> = (0..7).map(|at| format!("p{at}")).collect();
        for name in names.iter().map(String::as_str).chain(["up0"]) {
            space.run(&format!("ip link add {name} type veth peer name {name}x"));
        }
        let config = Config {
            node: NODE.to_owned(),
            netns: Some(space.path()),
            uplinks: vec!["up0".to_owned()],
            ..Config::default()
        };
        let mut datapath = Datapath::load(&config).unwrap_or_else(|error| panic!("{error:#?}"));
        let (sender, events) = broadcast::channel(4 * PACKETS_PER_CLUSTER);
        let (ring, known) = datapath.take_events().expect("the object has the ring buffer");
        let reader = EventReader::start(ring, known, NODE.to_owned(), sender).expect("a thread");
        let addresses = ["198.51.100.1", "fd00:1::1"].map(|text| text.parse().expect("an address"));
        datapath.set_node(NodeAddresses { addresses: addresses.into(), ..NodeAddresses::default() }).expect("written");
        let interfaces = names.iter().map(|name| space.interface(name)).collect();
        Self { uplink: space.interface("up0"), interfaces, space, datapath, events, _reader: reader }
    }

    /// Gives the pods of a cluster that run here their interfaces.
    fn bind(&mut self, local: &BTreeMap<PodRef, usize>) {
        let gone: Vec<PodRef> = self.datapath.bound().keys().filter(|pod| !local.contains_key(pod)).cloned().collect();
        for pod in gone {
            self.datapath.unbind(&pod).expect("detached");
        }
        for (pod, at) in local {
            self.datapath.bind(pod.clone(), self.interfaces[*at]).expect("attached");
        }
    }
}

/// Numbers that are random enough, and the same for the same seed: splitmix64, by Steele, Lea and Flood.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ word >> 31) % bound as u64).expect("it is below the bound")
    }

    fn choose<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// A packet and what the engine says of it.
struct Question<'a> {
    from: &'a Place,
    to: &'a Place,
    protocol: Protocol,
    port: u16,
    source_port: u16,
}

#[test]
fn the_kernel_judges_as_the_engine() {
    if !can_run() {
        return;
    }
    let wanted: usize = std::env::var("SIGNALBOX_PACKETS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let seed: u64 = std::env::var("SIGNALBOX_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut random = Random(seed);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(Cases::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let mut node = Node::new();
    let mut identities = IdentityAllocator::default();
    let mut tally = Tally::default();
    let began = Instant::now();
    let mut source_port = 1024;
    while tally.packets < wanted {
        // One cluster in four holds what cannot be understood.
        let with_unknowns = tally.clusters % 4 == 3;
        let all = tiered(with_unknowns).new_tree(&mut runner).expect("the generator rejects nothing").current();
        let cluster = Cluster::from_objects(&all.objects());
        let tables = cluster.compile_with(NODE, &mut identities);
        let at = |pod: &PodRef| pod.name[1..].parse::<usize>().expect("pods are called p0, p1, ...");
        let local: BTreeMap<PodRef, usize> = tables.pods.iter().map(|pod| (pod.pod.clone(), at(&pod.pod))).collect();
        if local.is_empty() {
            continue;
        }
        node.bind(&local);
        let applied = node.datapath.apply(&tables).expect("written");
        assert_eq!(applied.problems, [] as [String; 0]);
        node.datapath.settle().expect("cleared away");
        let places = all.places();
        let mut questions = Vec::new();
        for _ in 0..20 * PACKETS_PER_CLUSTER {
            if questions.len() == PACKETS_PER_CLUSTER {
                break;
            }
            source_port = if source_port == u16::MAX { 1024 } else { source_port + 1 };
            let question = Question {
                from: random.choose(&places),
                to: random.choose(&places),
                protocol: *random.choose(&PROTOCOLS),
                port: *random.choose(&PORTS),
                source_port,
            };
            let Some((way, source, destination)) = way(&node, &local, &question) else { continue };
            let frame = Frame {
                source: (source, question.source_port),
                destination: (destination, question.port),
                protocol: question.protocol,
                with_options: random.below(4) == 0,
            };
            questions.push((question, way, frame));
        }
        let trials = node.space.enter(|| {
            let run = |(_, way, frame): &(Question<'_>, Way<'_>, Frame)| {
                node.datapath.try_packet(&frame.bytes(), *way, 1).unwrap_or_else(|error| panic!("{error:#?}"))
            };
            questions.iter().map(run).collect::<Vec<_>>()
        });
        let mut asked: HashMap<(u16, IpAddr, flow::IpProtocol), (Verdict, String)> = HashMap::new();
        for ((question, way, frame), trial) in questions.iter().zip(trials) {
            let destination = frame.destination.0;
            let verdict = cluster.judge(&question.connection(Family::of(destination)));
            let judged = tables.judge(question.from.endpoint, question.to.endpoint, question.protocol, question.port);
            let is_in_doubt =
                [judged.egress, judged.ingress].iter().flatten().any(|it| matches!(it, Outcome::NotUnderstood(_)));
            let expected = match verdict.allowed() {
                Some(true) => true,
                // The other node denies for certain, and the engine does not say that this side is in doubt.
                Some(false) if is_in_doubt => false,
                Some(false) => here(&local, question, &verdict),
                // That what is unknown passes on no pair of nodes is shown in the engine's own tests.
                None => judged.is_allowed(),
            };
            let described = format!("{way:?} {frame:?}: {verdict:?}");
            if trial.passes != expected {
                std::thread::sleep(Duration::from_millis(100));
                let events = std::iter::from_fn(|| node.events.try_recv().ok());
                let event = events.filter(|event| event.source.port() == question.source_port).last();
                println!("{:?} {tables:#?} {:#?}", tables.identity_of(destination), all.objects());
                panic!(
                    "seed {seed}, cluster {}: the engine says {expected}, the tables {judged:?}, the kernel {}: {described}\n{event:#?}",
                    tally.clusters, trial.passes
                );
            }
            tally.count(&verdict, trial.passes, Family::of(destination), way.program);
            asked.insert((question.source_port, destination, api_protocol(question.protocol)), (verdict, described));
        }
        tally.clusters += 1;
        check_events(&mut node, &local, &asked, &mut tally);
    }
    println!("{tally:#?}\nin {:?}", began.elapsed());
    assert!(tally.denied_by_rule > 100 && tally.allowed_by_rule > 100 && tally.isolated > 100 && tally.unknown > 100);
    assert!(tally.v4 > wanted / 10 && tally.v6 > wanted / 10);
    assert!(tally.events > wanted * 9 / 10, "events tell what decided");
}

/// Each event names the rule that the engine names.
fn check_events(
    node: &mut Node,
    local: &BTreeMap<PodRef, usize>,
    asked: &HashMap<(u16, IpAddr, flow::IpProtocol), (Verdict, String)>,
    tally: &mut Tally,
) {
    let patience = Instant::now() + Duration::from_secs(2);
    let mut seen = 0;
    while seen < asked.len() && Instant::now() < patience {
        let Ok(event) = node.events.try_recv() else {
            std::thread::sleep(Duration::from_micros(100));
            continue;
        };
        let key = (event.source.port(), event.destination.ip(), event.protocol);
        let Some((verdict, described)) = asked.get(&key) else { continue };
        seen += 1;
        if verdict.allowed().is_none() {
            continue;
        }
        let side_of = |side: &Option<Side>, pod: Option<&String>| {
            side.clone().filter(|_| pod.is_some_and(|pod| local.keys().any(|known| known.to_string() == *pod)))
        };
        let egress = side_of(&verdict.egress, event.source_pod.as_ref());
        let ingress = side_of(&verdict.ingress, event.destination_pod.as_ref());
        match event.decision {
            flow::Decision::Allowed => {
                let rule = |side: &Option<Side>| match side {
                    Some(Side::AllowedBy(rule, _)) => Some(api_rule(rule)),
                    Some(_) | None => None,
                };
                assert_eq!(event.rule, rule(&ingress).or_else(|| rule(&egress)), "{event:#?}\n{described}");
            }
            flow::Decision::Denied if event.reason.as_deref() == Some("not-understood") => tally.not_understood += 1,
            flow::Decision::Denied => {
                let side = match event.direction {
                    Some(flow::Direction::Egress) => egress,
                    Some(flow::Direction::Ingress) => ingress,
                    None => panic!("policies deny on a side: {event:#?}"),
                };
                match side {
                    Some(Side::DeniedBy(rule)) => {
                        assert_eq!(event.rule, Some(api_rule(&rule)), "{event:#?}\n{described}");
                        assert!(event.isolated_by.is_empty());
                    }
                    Some(Side::Denied { isolated_by, .. }) => {
                        assert_eq!(event.rule, None, "{event:#?}\n{described}");
                        let names: Vec<String> = isolated_by.iter().map(|policy| policy.name.clone()).collect();
                        assert_eq!(event.isolated_by.iter().map(|it| it.name.clone()).collect::<Vec<_>>(), names);
                    }
                    Some(_) | None => panic!("the engine allows this side: {event:#?}\n{described}"),
                }
            }
        }
    }
    tally.events += seen;
}

impl Question<'_> {
    fn connection(&self, family: Family) -> Connection<'_> {
        Connection {
            from: &self.from.party,
            to: &self.to.party,
            protocol: self.protocol,
            port: self.port,
            route: Route::Service,
            family: Some(family),
        }
    }
}

/// Where the packet goes through this node, and between which addresses; `None`: it does not.
fn way<'a>(node: &Node, local: &BTreeMap<PodRef, usize>, question: &Question<'_>) -> Option<(Way<'a>, IpAddr, IpAddr)> {
    let interface = |place: &Place| match &place.party {
        Party::Pod(pod) => local.get(pod).map(|at| node.interfaces[*at]),
        Party::Address(_) | Party::LocalNode => None,
    };
    let (from, to) = (question.from, question.to);
    let destination = to.address?;
    let source = match from.address {
        Some(address) => address,
        None if destination.is_ipv4() => "198.51.100.1".parse().expect("sound"),
        None => "fd00:1::1".parse().expect("sound"),
    };
    if source.is_ipv4() != destination.is_ipv4() {
        return None;
    }
    let is_node = |place: &Place| place.host.as_deref() == Some(NODE);
    let (program, at, came_by) = match (interface(from), interface(to)) {
        (Some(sender), Some(receiver)) => ("to_pod", receiver, sender),
        // From this node's own address, by another way than from itself: nobody sends so.
        (None, Some(_)) if is_node(from) => return None,
        (None, Some(receiver)) if from.endpoint == Endpoint::LocalNode => ("to_pod", receiver, 0),
        (None, Some(receiver)) => ("to_pod", receiver, node.uplink),
        (Some(sender), None) if is_node(to) && is_nodes(destination) => ("from_pod", sender, sender),
        (Some(sender), None) => ("to_uplink", node.uplink, sender),
        (None, None) => return None,
    };
    Some((Way { program, interface: at, came_by, mark: 0 }, source, destination))
}

fn is_nodes(address: IpAddr) -> bool {
    ["198.51.100.1", "fd00:1::1"].iter().any(|text| text.parse() == Ok(address))
}

/// What the engine says of the sides that this node judges.
fn here(local: &BTreeMap<PodRef, usize>, question: &Question<'_>, verdict: &Verdict) -> bool {
    let allows = |place: &Place, side: &Option<Side>| match &place.party {
        Party::Pod(pod) if local.contains_key(pod) => side.as_ref().is_none_or(Side::is_allowed),
        Party::Pod(_) | Party::Address(_) | Party::LocalNode => true,
    };
    allows(question.from, &verdict.egress) && allows(question.to, &verdict.ingress)
}

#[derive(Debug, Default)]
struct Tally {
    clusters: usize,
    packets: usize,
    passed: usize,
    v4: usize,
    v6: usize,
    by_program: BTreeMap<String, usize>,
    allowed_by_rule: usize,
    denied_by_rule: usize,
    isolated: usize,
    unknown: usize,
    events: usize,
    not_understood: usize,
}

impl Tally {
    fn count(&mut self, verdict: &Verdict, passes: bool, family: Family, program: &str) {
        self.packets += 1;
        self.passed += usize::from(passes);
        match family {
            Family::V4 => self.v4 += 1,
            Family::V6 => self.v6 += 1,
        }
        *self.by_program.entry(program.to_owned()).or_default() += 1;
        if verdict.allowed().is_none() {
            self.unknown += 1;
            return;
        }
        let sides: Vec<&Side> = [&verdict.egress, &verdict.ingress].into_iter().flatten().collect();
        let any = |test: fn(&Side) -> bool| usize::from(sides.iter().any(|side| test(side)));
        self.allowed_by_rule += any(|side| matches!(side, Side::AllowedBy(..)));
        self.denied_by_rule += any(|side| matches!(side, Side::DeniedBy(_)));
        self.isolated += any(|side| matches!(side, Side::Denied { .. }));
    }
}

fn api_protocol(protocol: Protocol) -> flow::IpProtocol {
    match protocol {
        Protocol::Tcp => flow::Protocol::Tcp.into(),
        Protocol::Udp => flow::Protocol::Udp.into(),
        Protocol::Sctp => flow::Protocol::Sctp.into(),
    }
}

fn api_rule(rule: &RuleRef) -> flow::RuleRef {
    let policy = flow::PolicyRef {
        kind: rule.policy.kind.to_owned(),
        namespace: rule.policy.namespace.clone(),
        name: rule.policy.name.clone(),
    };
    let direction = match rule.direction {
        signalbox_policy::Direction::Ingress => flow::Direction::Ingress,
        signalbox_policy::Direction::Egress => flow::Direction::Egress,
    };
    flow::RuleRef { policy, direction, rule: rule.rule, peer: rule.peer, port: rule.port }
}
