//! What was told, what was left out, what was lost: every verdict is in exactly one of them.

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signalbox_api::node::EventKind;
use signalbox_enforcer::{
    Config,
    datapath::{Datapath, NodeAddresses, Way, sight::Sight},
    events::EventReader,
    telling::Told,
};
use signalbox_policy::{Cluster, Protocol, tables::Tables};
use support::{Lab, POD_A, POD_B, can_run, frame::Frame, pod_ref, policy};
use tokio::sync::broadcast;

/// A node with two pods, whose events nobody reads yet.
struct Silent {
    lab: Lab,
    datapath: Datapath,
    sight: Sight,
    way: Way<'static>,
    tables: Tables,
}

impl Silent {
    fn new(policies: &[Value], audit: bool) -> Self {
        let lab = Lab::new();
        let config = Config { node: "n".to_owned(), netns: Some(lab.node.path()), audit, ..Config::default() };
        let mut datapath = Datapath::load(&config).unwrap_or_else(|error| panic!("{error:#?}"));
        let interfaces = ["va", "vb"].map(|name| lab.node.interface(name));
        datapath.bind(pod_ref("one/a"), interfaces[0]).expect("attached");
        datapath.bind(pod_ref("two/b"), interfaces[1]).expect("attached");
        datapath.set_node(NodeAddresses::default()).expect("written");
        let pod = |namespace: &str, name: &str, address: &str| {
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": name},
                "spec": {"nodeName": "n"}, "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
            })
        };
        let mut objects = vec![pod("one", "a", POD_A), pod("two", "b", POD_B)];
        objects.extend(
            ["one", "two"].map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})),
        );
        objects.extend(policies.iter().cloned());
        let tables = Cluster::from_objects(&objects).compile("n");
        datapath.apply(&tables).expect("written");
        let sight = datapath.sight().expect("the maps can be read");
        let way = Way { program: "to_pod", interface: interfaces[1], came_by: interfaces[0], mark: 0 };
        Self { lab, datapath, sight, way, tables }
    }

    /// Sends the first packet of a flow from each of these ports, so many times; how many passed.
    fn send(&self, ports: impl Iterator<Item = u16> + Send, port: u16, repeat: u32) -> u64 {
        let ends = [POD_A, POD_B].map(|text| text.parse().expect("an address"));
        let mut passed = 0;
        self.lab.node.enter(|| {
            for source in ports {
                let frame = Frame {
                    source: (ends[0], source),
                    destination: (ends[1], port),
                    protocol: Protocol::Tcp,
                    with_options: false,
                };
                let trial = self.datapath.try_packet(&frame.bytes(), self.way, repeat).expect("the program runs");
                passed += u64::from(trial.passes);
            }
        });
        passed
    }

    fn denied(&self) -> u64 {
        let counts = self.datapath.counts().and_then(|counts| counts.read()).expect("counts");
        counts.iter().map(|count| count.denied).sum()
    }

    /// Reads all events that are there; how many came, and what they say was left out.
    fn read(&mut self) -> (u64, Told, EventReader) {
        let (ring, names) = self.datapath.take_events().expect("the object has the ring buffer");
        let told = Told::default();
        let sender = broadcast::channel(16).0;
        let reader = EventReader::start_telling(ring, names, "n".to_owned(), sender, told.clone()).expect("a thread");
        let end = Instant::now() + Duration::from_secs(10);
        let mut before = u64::MAX;
        while told.count() != before && Instant::now() < end {
            before = told.count();
            std::thread::sleep(Duration::from_millis(100));
        }
        (told.count(), told, reader)
    }
}

/// How many events the reader has told comes to this, and after how long.
fn until(told: &Told, count: u64) -> Duration {
    let began = Instant::now();
    while told.count() < count {
        assert!(began.elapsed() < Duration::from_secs(5), "{} of {count} are told", told.count());
        std::thread::yield_now();
    }
    began.elapsed()
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

/// How often the thread that reads events has gone to sleep so far.
fn rests() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this process");
    let rests = tasks.filter_map(|task| {
        let path = task.ok()?.path();
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        let status = std::fs::read_to_string(path.join("status")).ok().filter(|_| name.trim() == "enforcer-events")?;
        status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok())
    });
    rests.sum()
}

fn isolating() -> Value {
    policy("two/web", &["Ingress"], json!({"ingress": [{"ports": [{"port": 80}]}]}))
}

#[test]
fn a_full_ring_with_a_dead_reader_changes_no_verdict_and_every_loss_is_counted() {
    if !can_run() {
        return;
    }
    let mut node = Silent::new(&[isolating()], false);
    const ALLOWED: u64 = 15_000;
    const DENIED: u64 = 5_000;
    assert_eq!(node.send(10_000..25_000, 80, 1), ALLOWED, "all that is allowed passes");
    assert_eq!(node.send(30_000..35_000, 81, 1), 0, "nothing that is denied passes");
    let full = node.sight.statistics().expect("statistics");
    assert!(full.lost > 0, "the ring is full: {full:?}");
    let (read, _told, _reader) = node.read();
    let statistics = node.sight.statistics().expect("statistics");
    println!("{} verdicts: {read} told, {} lost", ALLOWED + DENIED, statistics.lost);
    assert_eq!((read + statistics.lost, statistics.suppressed), (ALLOWED + DENIED, 0));
    assert_eq!(node.denied(), DENIED, "counts do not depend on events");
    // With the reader alive nothing is lost any more.
    node.send(40_000..40_100, 80, 1);
    assert_eq!(node.sight.statistics().expect("statistics").lost, statistics.lost);
}

/// A new flow may wait for others, docs/adr/0013: for no longer than 20 ms, and nothing that is denied waits with it.
#[test]
fn new_flows_wait_for_each_other_and_a_denial_for_nobody() {
    if !can_run() {
        return;
    }
    let mut node = Silent::new(&[isolating()], false);
    let (mut sent, told, _reader) = node.read();
    let (mut denials, mut flows) = (Vec::new(), Vec::new());
    for round in 0..60 {
        let ports = 10_000 + round * 10..10_000 + round * 10 + 10;
        // The first wakes the reader, the others do not.
        assert_eq!(node.send(ports.clone(), 80, 1), 10);
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(node.send(ports.start..ports.start + 1, 81, 1), 0);
        sent += 11;
        denials.push(until(&told, sent));
        std::thread::sleep(Duration::from_millis(20));
        let ports = 30_000 + round * 10..30_000 + round * 10 + 10;
        assert_eq!(node.send(ports.start..ports.start + 1, 80, 1), 1);
        until(&told, sent + 1);
        assert_eq!(node.send(ports.start + 1..ports.end, 80, 1), 9);
        sent += 10;
        flows.push(until(&told, sent));
        std::thread::sleep(Duration::from_millis(20));
    }
    let (denials, flows) = (median(denials), median(flows));
    println!("told after: a denial {denials:?}, all of nine new flows {flows:?}");
    assert!(denials < Duration::from_millis(3), "a denial is told at once: {denials:?}");
    assert!(flows < Duration::from_millis(20), "new flows are told soon: {flows:?}");
    let (before, began) = (rests(), Instant::now());
    for round in 0..100 {
        assert_eq!(node.send(50_000 + round * 10..50_000 + round * 10 + 10, 80, 1), 10);
        std::thread::sleep(Duration::from_millis(1));
    }
    until(&told, sent + 1_000);
    let (rests, took) = (rests() - before, began.elapsed());
    println!("1,000 new flows in {took:?}: the reader slept {rests} times");
    assert!(u128::from(rests) <= took.as_millis() / 4 + 5, "it is not woken for each of them: {rests} in {took:?}");
}

/// The limit per flow remembers 8,192 flows, the least recently used make room: what it forgets is counted all the same.
#[test]
fn what_is_left_out_is_counted_exactly_also_where_the_limit_forgets() {
    if !can_run() {
        return;
    }
    let mut node = Silent::new(&[isolating()], false);
    assert_eq!(node.send(std::iter::once(9_999), 81, 1_000), 0);
    let once = node.sight.statistics().expect("statistics");
    println!("1,000 packets of one flow: {once:?}");
    assert!(once.suppressed > 900, "one flow is told now and then: {once:?}");
    let mut sent = 1_000;
    for _ in 0..2 {
        node.send(10_000..22_000, 81, 3);
        sent += 3 * 12_000;
    }
    let (read, told, _reader) = node.read();
    let statistics = node.sight.statistics().expect("statistics");
    println!("{sent} packets: {read} told, {} left out, {} lost", statistics.suppressed, statistics.lost);
    assert!(statistics.suppressed > 12_000 && statistics.lost > 0, "{statistics:?}");
    assert_eq!(read + statistics.suppressed + statistics.lost, sent);
    assert_eq!(node.denied(), sent);
    assert!(told.denials().iter().all(|event| event.kind == EventKind::Denied));
    let by_policy = node.sight.verdicts().expect("verdicts");
    let denied: Vec<_> = by_policy.iter().map(|(decider, count)| (decider.by, *count)).collect();
    assert_eq!(denied, [("isolation", sent)], "and so are the verdicts of the policy: {by_policy:#?}");
}

#[test]
fn counts_of_a_policy_outlive_the_tables_that_held_it() {
    if !can_run() {
        return;
    }
    let mut node = Silent::new(&[isolating()], false);
    node.send(10_000..10_010, 80, 1);
    node.send(10_010..10_020, 81, 1);
    let before = node.sight.verdicts().expect("verdicts");
    let counts: Vec<_> =
        before.iter().map(|(it, count)| (it.by, it.policy.clone().map(|it| it.name), *count)).collect();
    let name = || Some("web".to_owned());
    assert_eq!(counts, [("rule", name(), 10), ("isolation", name(), 10)], "{before:#?}");
    for _ in 0..20 {
        for objects in [vec![], vec![policy("two/other", &["Ingress"], json!({}))]] {
            node.datapath.apply(&Cluster::from_objects(&objects).compile("n")).expect("written");
            node.datapath.settle().expect("cleared away");
        }
    }
    assert_eq!(node.sight.verdicts().expect("verdicts"), before);
    let fill = node.sight.fill().expect("maps");
    let verdicts = fill.iter().find(|map| map.name == "VERDICTS").expect("the map");
    assert_eq!(verdicts.entries, 0, "the kernel does not keep what is gone: {fill:?}");
}

/// A map that the programs write must not be shared with those that are only asked: whoever adds one decides here.
#[test]
fn every_table_is_known_to_be_read_or_written_by_the_programs() {
    if !can_run() {
        return;
    }
    let node = Silent::new(&[], false);
    let own = signalbox_enforcer::datapath::rehearsal::OWN;
    let fill = node.sight.fill().expect("maps");
    let shared: Vec<&str> = fill.iter().map(|map| map.name.as_str()).filter(|name| !own.contains(name)).collect();
    assert_eq!(
        shared,
        [
            "ADDRESSES",
            "AUDITS",
            "BLOCKS",
            "BRIDGED",
            "FOREIGN",
            "NODE_ADDRESSES",
            "NODE_PORTS",
            "PODS",
            "POLICY",
            "RANGES",
            "SENDERS",
            "TRANSLATED",
        ]
    );
}

/// What audit has let pass is judged like anything else as soon as the node enforces again, although no table changes.
#[test]
fn the_end_of_audit_judges_what_it_let_pass() {
    if !can_run() {
        return;
    }
    let mut node = Silent::new(&[isolating()], true);
    let tables = node.tables.clone();
    let go_on = |node: &Silent| {
        let mut frame = Frame {
            source: (POD_A.parse().expect("an address"), 10_000),
            destination: (POD_B.parse().expect("an address"), 81),
            protocol: Protocol::Udp,
            with_options: false,
        }
        .bytes();
        frame.truncate(14 + 20 + 12);
        node.lab.node.enter(|| node.datapath.try_packet(&frame, node.way, 1)).expect("the program runs").passes
    };
    assert!(go_on(&node) && go_on(&node), "let pass");
    assert_eq!(node.sight.flows().expect("flows")[0].state, signalbox_api::node::FlowState::Audited);
    let generation = node.datapath.generation();
    node.datapath.set_audit(true).expect("written");
    node.datapath.apply(&tables).expect("written");
    assert_eq!(node.datapath.generation(), generation, "nothing has changed");
    node.datapath.set_audit(false).expect("written");
    node.datapath.apply(&tables).expect("written");
    assert!(!go_on(&node), "its flow does not live on");
    assert_eq!(node.denied(), 1);
}

#[test]
fn a_node_in_audit_lets_pass_and_tells_each_flow_once() {
    if !can_run() {
        return;
    }
    let mut node = Silent::new(&[isolating()], true);
    assert_eq!(node.send(10_000..10_005, 81, 1), 5, "everything passes");
    assert_eq!(node.send(10_005..10_010, 80, 1), 5);
    let (read, told, _reader) = node.read();
    assert_eq!((read, node.denied()), (10, 0));
    let told = told.denials();
    assert_eq!(told.len(), 5);
    for event in &told {
        assert_eq!((event.kind, event.destination.port()), (EventKind::WouldBeDenied, 81));
        assert_eq!(event.cause.isolated_by[0].to_string(), "two/web");
    }
    let verdicts = node.sight.verdicts().expect("verdicts");
    let outcomes: Vec<_> = verdicts.iter().map(|(it, count)| (it.outcome, it.by, *count)).collect();
    use signalbox_enforcer_common::flow::Outcome;
    assert_eq!(outcomes, [(Outcome::Allowed, "rule", 5), (Outcome::WouldBeDenied, "isolation", 5)]);
}
