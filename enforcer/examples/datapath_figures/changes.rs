//! From the API's objects to the kernel: changes of a policy on a node with many pods.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use signalbox_enforcer::{
    Config,
    datapath::{Datapath, Way},
    events::EventReader,
};
use signalbox_policy::{Cluster, IdentityAllocator, ObjectRef, PodRef, Protocol};
use tokio::sync::broadcast;

use crate::{
    kernel::thread_time,
    measure::Samples,
    support::{Space, frame::Frame, policy},
};

pub const PODS: u32 = 100;
pub const POLICIES: u32 = 50;
/// Pods of other nodes: those of a small cluster, and of one ten times as large.
pub const OTHER_PODS: [u32; 2] = [900, 9_900];

/// What each change took, in milliseconds.
#[derive(Default)]
pub struct Changes {
    /// From the objects to the generation in force: read, compile, plan, write, flip.
    pub total: Samples,
    /// The part of it that the engine takes: read what has changed, compile the node's tables.
    pub compile: Samples,
    /// The part of it that the kernel's maps take: plan, write, flip.
    pub apply: Samples,
    /// CPU time of this thread for all of it, the kernel's part included.
    pub cpu: Samples,
    /// Clearing away afterwards, where nobody waits.
    pub settle: Samples,
    /// All of it where a pod of another node comes or goes, which no rule tells apart from others.
    pub pod: Samples,
}

/// One rule of one policy comes or goes, `count` times, on a node with 100 pods of a small cluster, and of one ten times as large. After
/// each change a packet is run by hand and must meet the change.
pub fn measure(count: u32) -> Result<[Changes; 2]> {
    let [small, large] = OTHER_PODS.map(|others| measure_among(others, count));
    Ok([small?, large?])
}

fn measure_among(others: u32, count: u32) -> Result<Changes> {
    let space = Space::new();
    for at in 0..PODS {
        space.run(&format!("ip link add p{at} type veth peer name p{at}x"));
    }
    space.run("ip link add up0 type veth peer name up0x");
    let config = Config {
        node: "n".to_owned(),
        netns: Some(space.path()),
        uplinks: vec!["up0".to_owned()],
        ..Config::default()
    };
    let mut datapath = Datapath::load(&config)?;
    let (sender, _receiver) = broadcast::channel(64);
    let (ring, names) = datapath.take_events()?;
    let _reader = EventReader::start(ring, names, "n".to_owned(), sender)?;
    for at in 0..PODS {
        let pod = PodRef { namespace: namespace(at), name: format!("p{at}") };
        datapath.bind(pod, space.interface(&format!("p{at}")))?;
    }
    let pods = (0..PODS + others).map(pod);
    let names = (0..10).map(|at| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace(at), "labels": {"kubernetes.io/metadata.name": namespace(at)}}})
    });
    let mut objects: Vec<Value> = names.chain(pods).collect();
    objects.extend((0..POLICIES).map(|at| some_policy(at, false)));
    let mut identities = IdentityAllocator::default();
    let mut cluster = Cluster::from_objects(&objects);
    let tables = cluster.compile_with("n", &mut identities);
    datapath.apply(&tables)?;
    datapath.settle()?;
    let mut changes = Changes::default();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let mut is_open = vec![false; POLICIES as usize];
    for round in 0..count {
        let at = round % POLICIES;
        let open = !is_open[at as usize];
        is_open[at as usize] = open;
        let changed = some_policy(at, open);
        let (began, used) = (Instant::now(), thread_time());
        cluster = cluster.with_change([&changed], []);
        let tables = cluster.compile_with("n", &mut identities);
        let compiled = Instant::now();
        let applied = datapath.apply(&tables)?;
        let ended = Instant::now();
        changes.cpu.push((thread_time() - used) / 1e6);
        ensure!(applied.problems.is_empty(), "{:?}", applied.problems);
        changes.total.push(ms(ended - began));
        changes.compile.push(ms(compiled - began));
        changes.apply.push(ms(ended - compiled));
        // From a pod elsewhere that the rule names, to the pod on this node that the policy selects.
        let frame = Frame {
            source: (address(PODS + at), 1024 + (round % 60_000) as u16),
            destination: (address(at), 8443),
            protocol: Protocol::Tcp,
            with_options: false,
        };
        let way = Way {
            program: "to_pod",
            interface: space.interface(&format!("p{at}")),
            came_by: space.interface("up0"),
            mark: 0,
        };
        let trial = space.enter(|| datapath.try_packet(&frame.bytes(), way, 1))?;
        ensure!(trial.passes == open, "change {round} is not in force: {frame:?}");
        let began = Instant::now();
        datapath.settle()?;
        changes.settle.push(ms(began.elapsed()));
    }
    // One that is like others but for its name and its address.
    let newcomer = pod(PODS + others + POLICIES);
    let gone = ObjectRef::of(&newcomer).context("a pod has a name")?;
    for round in 0..count {
        let began = Instant::now();
        cluster = if round % 2 == 0 { cluster.with_change([&newcomer], []) } else { cluster.with_change([], [&gone]) };
        let tables = cluster.compile_with("n", &mut identities);
        let applied = datapath.apply(&tables)?;
        changes.pod.push(ms(began.elapsed()));
        ensure!(applied.problems.is_empty(), "{:?}", applied.problems);
        ensure!(
            tables.addresses.len() as u32 == PODS + others + (round + 1) % 2,
            "{} addresses",
            tables.addresses.len()
        );
        datapath.settle()?;
    }
    Ok(changes)
}

pub fn namespace(at: u32) -> String {
    format!("ns{}", at % 10)
}

pub fn address(at: u32) -> std::net::IpAddr {
    std::net::Ipv4Addr::from_bits(0x0af4_0100 + at + 2).into()
}

pub fn pod(at: u32) -> Value {
    let address = address(at).to_string();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace(at), "name": format!("p{at}"), "labels": {"app": format!("a{}", at % POLICIES), "tier": format!("t{}", at % 3)}},
        "spec": {"nodeName": if at < PODS { "n" } else { "m" }, "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    })
}

/// Lets a tier and a block in; with the rule in question also an app, on one port more.
pub fn some_policy(at: u32, with_rule: bool) -> Value {
    let app = json!({"matchLabels": {"app": format!("a{at}")}});
    let mut ingress = vec![
        json!({"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"tier": "t1"}}}], "ports": [{"port": 80}]}),
        json!({"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": [format!("192.0.2.{at}/32")]}}], "ports": [{"port": 8000}]}),
    ];
    if with_rule {
        ingress.push(json!({"from": [{"namespaceSelector": {}, "podSelector": app}], "ports": [{"port": 8443}]}));
    }
    let mut policy = policy(&format!("{}/q{at}", namespace(at)), &["Ingress"], json!({"ingress": ingress}));
    policy["spec"]["podSelector"] = app;
    policy
}
