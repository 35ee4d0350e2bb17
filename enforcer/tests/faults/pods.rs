//! Pods come and go.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    bench::{Bench, pause},
    support::{
        POD_A, POD_B, POD_B_V6, Space, can_run,
        faults::{
            agent::Agent,
            api::{Process, pod},
            load::Load,
            storm::{Storm, wanted},
        },
        policy,
    },
};

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
        // A fresh veth drops for up to a second, and until then nothing would be proved.
        let deadline = Instant::now() + Duration::from_secs(10);
        while !bench.lab.node.pings(POD_A) {
            assert!(Instant::now() < deadline, "its node always reaches {POD_A}, and gets an answer");
        }
        // It tries, and only then the API tells of it.
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
    // It was for its identity alone that the last of them got nowhere.
    let by_label = json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "c10"}}});
    let other = policy("two/only-a", &["Ingress"], json!({"ingress": [{"from": [by_label]}]}));
    bench.api.tell("networkpolicies", "MODIFIED", other, 1_000);
    let (space, _process) = last.expect("ten rounds");
    let deadline = Instant::now() + Duration::from_secs(5);
    while !space.reaches(POD_B, 9000) {
        assert!(Instant::now() < deadline, "what the policy allows now opens");
    }
}

/// What a process and its maps hold.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    /// Open files by what they are: maps, programs, links, sockets.
    files: BTreeMap<String, usize>,
    /// Entries of the maps that the agent writes.
    entries: BTreeMap<&'static str, usize>,
    /// Pinned links, and what says that a qdisc was made for a filter.
    pins: [usize; 2],
}

impl Holdings {
    /// Every second the agent looks at the node, and opens files and sockets for as long as that takes: of each kind it holds what is there
    /// in every one of many looks.
    fn of(bench: &Bench, agent: &Agent) -> Self {
        const LOOKS: u32 = 30;
        let mut files = open_files(agent);
        for _ in 1..LOOKS {
            pause(100);
            let now = open_files(agent);
            files.retain(|kind, count| {
                *count = (*count).min(now.get(kind).copied().unwrap_or_default());
                *count > 0
            });
        }
        let set = bench.set();
        let count = |name: &'static str| {
            let path = set.join("maps").join(name);
            let output = Command::new("bpftool").args(["-j", "map", "dump", "pinned"]).arg(path).output();
            let rows: Vec<Value> = serde_json::from_slice(&output.expect("it is installed").stdout).expect("JSON");
            (name, rows.len())
        };
        let entries = [
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
            "UNJUDGED",
        ];
        Self {
            files,
            entries: entries.map(count).into(),
            pins: ["links", "qdiscs"].map(|folder| fs::read_dir(set.join(folder)).map_or(0, Iterator::count)),
        }
    }
}

/// A process's open files, by what they are.
fn open_files(agent: &Agent) -> BTreeMap<String, usize> {
    let process = Path::new("/proc").join(agent.id().to_string());
    let mut files = BTreeMap::new();
    for file in fs::read_dir(process.join("fd")).expect("it lives").flatten() {
        // A file may be closed while it is looked at.
        let Ok(what) = fs::read_link(file.path()) else { continue };
        let what = what.to_string_lossy().into_owned();
        let kind = what.split([':', '[']).next().unwrap_or_default();
        let kind = if what.starts_with("anon_inode") { what.as_str() } else { kind };
        *files.entry(kind.to_owned()).or_default() += 1;
    }
    files
}

/// Memory of a process, in KiB.
fn memory(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// 150 pods start and end in every second of a minute, half as many on a machine that is busy with more: each with an interface, an address and a
/// word of the API. What must open opens and what must not does not meanwhile, and afterwards nothing is left of them.
///
/// With clsact: attaching to tcx the kernel waits for all readers (RCU) while it holds the lock under which interfaces are made, so that
/// there no more than some 40 pods a second come into being at all on a machine like ours. What is left of them is looked at there, too.
#[test]
fn pods_that_come_and_go_150_a_second_leave_nothing_behind() {
    if !can_run() {
        return;
    }
    storm_over(true, 150, Duration::from_secs(60));
}

#[test]
fn pods_that_come_and_go_on_tcx_leave_nothing_behind() {
    if !can_run() {
        return;
    }
    storm_over(false, 15, Duration::from_secs(20));
}

fn storm_over(clsact: bool, rate: u32, lasting: Duration) {
    const MOST_KIB: u64 = 16 * 1024;
    let bench = Bench::new(clsact);
    let mut agent = bench.agent();
    agent.until_enforcing();
    let mut storm = Storm::new(&bench.lab, &bench.api);
    let calm = |agent: &mut Agent| {
        agent.until("all are gone", Duration::from_secs(60), |status| status.enforcing && status.pods == 2);
        // What the last change left behind is cleared away when there is time, and idle threads end after some seconds.
        pause(12_000);
    };
    // So that what is allocated once is there.
    storm.blow(rate, Duration::from_secs(5));
    calm(&mut agent);
    let (before, memory_before) = (Holdings::of(&bench, &agent), memory(&agent));
    let load = Load::start(&bench.lab.a, &bench.lab.outside, (&bench.lab.b, &[POD_B, POD_B_V6]), 9000, 100);
    let began = Instant::now();
    let started = storm.blow(rate, lasting);
    let took = began.elapsed();
    let tally = load.finish();
    let lag = Instant::now();
    // In a debug build it takes its time to read what was told.
    agent.until("all are gone", Duration::from_secs(120), |status| status.enforcing && status.pods == 2);
    let (lag, most) = (lag.elapsed(), agent.most_pods());
    calm(&mut agent);
    let (after, memory_after) = (Holdings::of(&bench, &agent), memory(&agent));
    println!(
        "{started} pods in {took:?}, at most {most} enforced at once, the last forgotten {lag:?} later; {memory_before} KiB before, {memory_after} after; {after:?}"
    );
    println!("{tally:?}");
    assert!(started >= wanted(rate, lasting), "{started} pods in {took:?}");
    assert!(most > 2, "some of them were found while they lived");
    assert_eq!(before, after);
    assert!(memory_after <= memory_before + MOST_KIB, "{memory_before} KiB before, {memory_after} after");
    // And the next pod is found, and isolated like its neighbours.
    let (space, address) = (Space::new(), "10.244.0.9");
    let _process = Process::new(&space);
    bench.lab.pod(&space, "vn", address, "fd00:244::9");
    let _server = crate::support::faults::load::Server::new(&space, 9000);
    bench.api.tell("pods", "ADDED", pod("two", "next", address), 1_000_000);
    agent.until("it is found", Duration::from_secs(10), |status| status.enforcing && status.pods == 3);
    assert!(bench.lab.a.reaches(address, 9000) && !bench.lab.outside.reaches(address, 9000));
}
