//! Copies of flows (docs/adr/0012): they answer as the table of flows would, and not longer than they may.

#[allow(dead_code)]
#[path = "support/shapes.rs"]
mod shapes;
mod support;

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde_json::{Value, json};
use shapes::{packet, sctp, tcp, udp};
use signalbox_enforcer::{
    Config, Limits,
    datapath::{Datapath, NodeAddresses, Trial, Way},
};
use signalbox_enforcer_common::MARK_REPLY;
use signalbox_policy::Cluster;
use support::{Lab, POD_A, POD_B, can_run, pod_ref, policy};

const A6: &str = "fd00:244::2";
const B6: &str = "fd00:244::3";
const CLIENT: u16 = 40_000;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// How often a copy answers at the most.
const MOST_USES: usize = 64;

/// Pods `one/a` and `two/b`, which take TCP 80, UDP 53 and SCTP 5000 from each other while a rule says so.
struct Bench {
    lab: Lab,
    datapath: Datapath,
}

impl Bench {
    fn new(flows: u32) -> Self {
        let lab = Lab::new();
        let limits = Limits { flows, ..Limits::default() };
        let config = Config { node: "n".to_owned(), netns: Some(lab.node.path()), limits, ..Config::default() };
        let mut datapath = Datapath::load(&config).unwrap_or_else(|error| panic!("{error:#?}"));
        for (pod, veth) in [("one/a", "va"), ("two/b", "vb")] {
            datapath.bind(pod_ref(pod), lab.node.interface(veth)).unwrap_or_else(|error| panic!("{error:#?}"));
        }
        datapath.set_node(NodeAddresses::default()).expect("written");
        let mut bench = Self { lab, datapath };
        bench.apply(json!({"ingress": [{"ports": [
            {"port": 80}, {"port": 53, "protocol": "UDP"}, {"port": 5000, "protocol": "SCTP"},
        ]}]}));
        bench
    }

    fn apply(&mut self, rules: Value) {
        let mut objects: Vec<Value> = ["one", "two"]
            .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
            .into();
        for (namespace, name, v4, v6) in [("one", "a", POD_A, A6), ("two", "b", POD_B, B6)] {
            objects.push(json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": name}, "spec": {"nodeName": "n"},
                "status": {"phase": "Running", "podIP": v4, "podIPs": [{"ip": v4}, {"ip": v6}]},
            }));
        }
        objects.push(policy("two/p", &["Ingress"], rules));
        let applied = self.datapath.apply(&Cluster::from_objects(&objects).compile("n")).expect("written");
        assert_eq!(applied.problems, [] as [String; 0]);
        self.datapath.settle().expect("cleared away");
    }

    /// A packet at a program on the interface of one pod, that came in by the one of another.
    fn run(&self, packet: &[u8], program: &'static str, at: &str, came_by: &str) -> Trial {
        let [interface, came_by] = [at, came_by].map(|name| self.lab.node.interface(name));
        let way = Way { program, interface, came_by, mark: 0 };
        let trial = self.lab.node.enter(|| self.datapath.try_packet(packet, way, 1));
        trial.unwrap_or_else(|error| panic!("{error:#?}"))
    }

    /// A packet of a to b, where it goes to b.
    fn forward(&self, packet: &[u8]) -> Trial {
        self.run(packet, "to_pod", "vb", "va")
    }

    /// A packet of b to a, where it leaves b.
    fn reply(&self, packet: &[u8]) -> Trial {
        self.run(packet, "from_pod", "vb", "vb")
    }
}

/// A conversation of a with b: the first packet, a later one and a reply.
struct Talk {
    name: &'static str,
    first: Vec<u8>,
    later: Vec<u8>,
    reply: Vec<u8>,
}

fn talks() -> Vec<Talk> {
    let mut talks = Vec::new();
    for (name, a, b) in [("IPv4", POD_A, POD_B), ("IPv6", A6, B6)] {
        let [first, later, reply] =
            [(a, b, tcp(CLIENT, 80, SYN)), (a, b, tcp(CLIENT, 80, ACK)), (b, a, tcp(80, CLIENT, ACK))]
                .map(|(from, to, rest)| packet(from, to, 6, &rest));
        talks.push(Talk { name, first, later, reply });
        let datagrams = [(17, udp as fn(u16, u16) -> Vec<u8>, 53), (132, sctp as fn(u16, u16) -> Vec<u8>, 5000)];
        for (protocol, rest, port) in datagrams {
            let first = packet(a, b, protocol, &rest(CLIENT, port));
            let reply = packet(b, a, protocol, &rest(port, CLIENT));
            talks.push(Talk { name, later: first.clone(), first, reply });
        }
    }
    talks
}

#[test]
fn a_copy_says_what_the_table_says() {
    if !can_run() {
        return;
    }
    let bench = Bench::new(1024);
    for talk in talks() {
        let name = talk.name;
        assert!(bench.forward(&talk.first).passes, "{name}");
        for _ in 0..2 * MOST_USES + 2 {
            let there = bench.forward(&talk.later);
            assert!(there.passes && there.mark == 0, "{name}: {there:?}");
            let back = bench.reply(&talk.reply);
            assert!(back.passes && back.mark == MARK_REPLY, "{name}: {back:?}");
            // By another interface the same bytes are somebody else's.
            let forged = bench.run(&talk.reply, "from_pod", "va", "va");
            assert!(!forged.passes, "{name}: {forged:?}");
        }
    }
}

#[test]
fn the_next_generation_asks_no_copy() {
    if !can_run() {
        return;
    }
    let mut bench = Bench::new(1024);
    for talk in talks() {
        assert!(bench.forward(&talk.first).passes, "{}", talk.name);
        for _ in 0..3 {
            assert!(bench.forward(&talk.later).passes && bench.reply(&talk.reply).mark == MARK_REPLY, "{}", talk.name);
        }
    }
    bench.apply(json!({"ingress": []}));
    for talk in talks() {
        let back = bench.reply(&talk.reply);
        assert!(!back.passes && back.mark == 0, "{}: what had allowed it is gone: {back:?}", talk.name);
        assert!(!bench.forward(&talk.later).passes, "{}", talk.name);
    }
}

/// A flow that the table has thrown out is not remembered for good by a copy, also where nobody moves the clock.
#[test]
fn a_copy_of_a_forgotten_flow_ends() {
    if !can_run() {
        return;
    }
    let bench = Bench::new(128);
    // The table forgets for each CPU on its own, and so are the copies.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut cpu = CpuSet::new();
            cpu.set(0).expect("there is a first CPU");
            sched_setaffinity(Pid::from_raw(0), &cpu).expect("a thread may stay where it is");
            let known = || bench.datapath.sight().expect("maps").flows().expect("flows");
            let (there, back) = (udp(CLIENT, 53), udp(53, CLIENT));
            let (there, back) = (packet(POD_A, POD_B, 17, &there), packet(POD_B, POD_A, 17, &back));
            assert!(bench.forward(&there).passes);
            assert_eq!([bench.reply(&back).mark, bench.reply(&back).mark], [MARK_REPLY; 2]);
            // A flow that was asked for once gives way only to others that were, too.
            for port in 1..200 {
                let other = packet(POD_A, POD_B, 17, &udp(port, 53));
                assert!((0..3).all(|_| bench.forward(&other).passes));
            }
            assert!(!known().iter().any(|flow| flow.source.port() == CLIENT), "the table has thrown it out");
            let answered = (0..10 * MOST_USES).filter(|_| bench.reply(&back).mark == MARK_REPLY).count();
            assert!(answered < MOST_USES, "{answered} packets passed for replies of what nobody remembers");
        });
    });
}
