//! What may happen to the agent, the API and the node, with an agent in a process of its own. Every criterion is one of
//! packets sent and received; the agent's word is only waited for.

mod support;

use std::{
    fs,
    io::Write,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    BpfFs, Lab, OUTSIDE, POD_A, POD_B, Space,
    agent::{Agent, Order},
    api::{Api, Process, pod},
    can_run,
    load::{Load, Server},
    policy,
};

/// The agent of the other tests.
#[test]
#[ignore = "the agent's process of the other tests, started by them"]
fn agent_process() {
    support::agent::live();
}

struct Bench {
    lab: Lab,
    _servers: Vec<Server>,
    _processes: Vec<Process>,
    _bpf: BpfFs,
    api: Api,
    order: Order,
    _runtime: tokio::runtime::Runtime,
}

impl Bench {
    /// A node with `one/a` and `two/b`; only `one/a` may reach `two/b`, which may reach nobody.
    fn new(clsact: bool) -> Self {
        let lab = Lab::new();
        let servers = [&lab.a, &lab.b, &lab.outside].map(|space: &Space| Server::new(space, 9000));
        let processes = [&lab.a, &lab.b].map(Process::new);
        let bpf = BpfFs::new();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (api, _) = runtime.block_on(Api::start());
        for name in ["one", "two"] {
            api.put("namespaces", json!({"metadata": {"name": name, "resourceVersion": "1"}}));
        }
        api.put("pods", pod("one", "a", POD_A));
        api.put("pods", pod("two", "b", POD_B));
        api.put("networkpolicies", only_a());
        let order = Order {
            api: api.url().to_owned(),
            netns: lab.node.path(),
            pins: bpf.pins(),
            clsact,
            object: None,
            policies: None,
        };
        Self { lab, _servers: servers.into(), _processes: processes.into(), _bpf: bpf, api, order, _runtime: runtime }
    }

    fn agent(&self) -> Agent {
        Agent::start(&self.order)
    }

    fn load(&self) -> Load {
        Load::start(&self.lab.a, &self.lab.outside, POD_B, 9000, 1000)
    }
}

fn only_a() -> Value {
    let from_one = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "one"}}});
    let mut policy = policy("two/only-a", &["Ingress", "Egress"], json!({"ingress": [{"from": [from_one]}]}));
    policy["metadata"]["resourceVersion"] = "1".into();
    policy
}

fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

/// 1,000 connections a second that must open, hundreds that must not, and some that must live, meanwhile: the agent is killed,
/// is asked to end, and dies again and again at every stage of its start.
#[test]
fn an_agent_that_dies_changes_no_verdict_and_cuts_nothing() {
    if !can_run() {
        return;
    }
    for clsact in [false, true] {
        let bench = Bench::new(clsact);
        let mut agent = bench.agent();
        agent.until_enforcing();
        let load = bench.load();
        pause(300);
        agent.kill();
        pause(500);
        let mut agent = bench.agent();
        agent.until_enforcing();
        pause(300);
        agent.terminate();
        pause(500);
        for life in [20, 80, 150, 250, 350, 500, 800] {
            let agent = bench.agent();
            pause(life);
            agent.kill();
        }
        let mut agent = bench.agent();
        let status = agent.until_enforcing();
        assert_eq!(status.problems, [] as [String; 0]);
        pause(300);
        let tally = load.finish();
        assert!(tally.opened.load(Relaxed) > 2000, "{tally:?}");
        agent.terminate();
    }
}

/// Another layout of the maps, and back again, under the same load.
#[test]
fn an_upgrade_and_a_downgrade_change_no_verdict_and_cut_nothing() {
    if !can_run() {
        return;
    }
    for clsact in [false, true] {
        let bench = Bench::new(clsact);
        let mut agent = bench.agent();
        agent.until_enforcing();
        let load = bench.load();
        pause(300);
        agent.terminate();
        // Flows are shared by the first, and start empty with the second.
        for (tables, flows) in [(b"0002", b"0001"), (b"0003", b"0003")] {
            let mut object = signalbox_enforcer::built_in_object().expect("built: `cargo xtask build`").to_vec();
            for (what, to) in [(&b"tables="[..], tables), (b"flows=", flows)] {
                let at = object.windows(what.len()).position(|window| window == what).expect("it says its layout");
                object[at + what.len()..][..4].copy_from_slice(to);
            }
            let path = std::env::temp_dir().join(format!("signalbox-object-{}-{clsact}.o", std::process::id()));
            fs::File::create(&path).and_then(|mut file| file.write_all(&object)).expect("a file");
            let order = Order { object: Some(path.clone()), ..bench.order.clone() };
            let mut next = Agent::start(&order);
            next.until_enforcing();
            fs::remove_file(&path).expect("it is ours");
            pause(300);
            next.terminate();
            let mut back = bench.agent();
            back.until_enforcing();
            pause(300);
            back.kill();
        }
        load.finish();
    }
}

/// The API is away, also while the agent starts, and is slow when it comes back: what was in force stays, and what was
/// changed meanwhile comes into force afterwards.
#[test]
fn an_api_that_is_away_or_slow_changes_nothing() {
    if !can_run() {
        return;
    }
    let bench = Bench::new(false);
    let mut agent = bench.agent();
    agent.until_enforcing();
    let load = bench.load();
    bench.api.set_away(true);
    pause(1500);
    agent.kill();
    let mut agent = bench.agent();
    agent.until("it waits", Duration::from_secs(20), |status| {
        status.problems.iter().any(|problem| problem.contains("the process before stay in force"))
    });
    pause(1500);
    bench.api.set_slow(Duration::from_millis(500));
    bench.api.set_away(false);
    agent.until("the API is back", Duration::from_secs(45), |status| status.enforcing && status.pods == 2);
    load.finish();
    // Away again, and now the policies change.
    bench.api.set_slow(Duration::ZERO);
    bench.api.set_away(true);
    let mut policy = policy("two/only-a", &["Ingress"], json!({}));
    bench.api.tell("networkpolicies", "MODIFIED", policy, 7);
    pause(1000);
    assert!(bench.lab.a.reaches(POD_B, 9000), "nobody knows of it yet");
    bench.api.set_away(false);
    agent.until("the change", Duration::from_secs(60), |status| status.policies_version == 7 && status.enforcing);
    assert!(!bench.lab.a.reaches(POD_B, 9000), "the rule is gone");
    assert!(bench.lab.b.reaches(OUTSIDE, 9000), "and egress is open");
}

/// A policy that outgrows the map: its pod denies, and the status says so within five seconds.
#[test]
fn a_policy_that_does_not_fit_denies_and_is_told_within_five_seconds() {
    if !can_run() {
        return;
    }
    let bench = Bench::new(false);
    let order = Order { policies: Some(32), ..bench.order.clone() };
    let mut agent = Agent::start(&order);
    agent.until_enforcing();
    assert!(bench.lab.a.reaches(POD_B, 9000));
    let ports: Vec<_> = (9000..9100).map(|port| json!({"port": port})).collect();
    let large = policy("two/only-a", &["Ingress"], json!({"ingress": [{"ports": ports}]}));
    let began = Instant::now();
    bench.api.tell("networkpolicies", "MODIFIED", large, 9);
    agent.until("it says so", Duration::from_secs(5), |status| {
        status.problems.iter().any(|problem| problem.starts_with("two/b: its policies do not fit"))
    });
    println!("told after {:?}", began.elapsed());
    assert!(!bench.lab.a.reaches(POD_B, 9000) && !bench.lab.outside.reaches(POD_B, 9000));
    bench.api.tell("networkpolicies", "MODIFIED", only_a(), 10);
    agent.until("it is well again", Duration::from_secs(5), |status| status.problems.is_empty());
    assert!(bench.lab.a.reaches(POD_B, 9000));
}

/// A pod completes, and its address goes to another pod at once: no packet of that one is judged as the first one's.
#[test]
fn an_address_that_is_used_again_has_a_new_identity() {
    if !can_run() {
        return;
    }
    let bench = Bench::new(false);
    let by_label = json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "a"}}});
    let mut strict = policy("two/only-a", &["Ingress"], json!({"ingress": [{"from": [by_label]}]}));
    strict["metadata"]["resourceVersion"] = "2".into();
    bench.api.replace("networkpolicies", vec![strict]);
    let mut agent = bench.agent();
    agent.until_enforcing();
    assert!(bench.lab.a.reaches(POD_B, 9000));
    let mut last: Option<(Space, Process)> = None;
    for round in 0..10_u64 {
        let (name, next) = (format!("c{round}"), format!("c{}", round + 1));
        let mut done = if round == 0 { pod("one", "a", POD_A) } else { pod("one", &name, POD_A) };
        done["status"]["phase"] = "Succeeded".into();
        bench.api.tell("pods", "MODIFIED", done, 100 + 3 * round);
        bench.lab.node.run(if round == 0 { "ip link del va" } else { "ip link del vc" });
        let space = Space::new();
        let process = Process::new(&space);
        bench.lab.pod(&space, "vc", POD_A, "fd00:244::2");
        // From its first moment on it tries, and only then the API tells of it.
        let tries = space.enter(|| {
            let mut opened = 0;
            let to = format!("{POD_B}:9000").parse().expect("an address");
            let began = Instant::now();
            let mut told = false;
            while began.elapsed() < Duration::from_millis(600) {
                opened += u32::from(std::net::TcpStream::connect_timeout(&to, Duration::from_millis(20)).is_ok());
                if !told && began.elapsed() > Duration::from_millis(200) {
                    told = true;
                    bench.api.tell("pods", "ADDED", pod("one", &next, POD_A), 101 + 3 * round);
                }
            }
            opened
        });
        drop(last.replace((space, process)));
        assert_eq!(tries, 0, "round {round}: not under the identity of the pod before");
    }
}
