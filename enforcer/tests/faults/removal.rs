//! Somebody takes away what the agent has put there.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    bench::Bench,
    support::{POD_B, can_run, faults::api::pod},
};

/// Somebody takes programs, pins and qdiscs away while the agent runs: within a second the gate is shut again, and it is told.
#[test]
fn what_is_removed_from_outside_is_back_within_a_second() {
    if !can_run() {
        return;
    }
    for clsact in [false, true] {
        let bench = Bench::new(clsact);
        let mut agent = bench.agent();
        agent.until_enforcing();
        assert!(!bench.lab.outside.reaches(POD_B, 9000));
        let number = bench.lab.node.interface("vb");
        let to_pod = bench.set().join(format!("links/{number}-to_pod"));
        let attacks: &[&dyn Fn()] = if clsact {
            &[&|| bench.lab.node.run("tc filter del dev vb egress"), &|| {
                bench.lab.node.run("tc qdisc del dev vb clsact")
            }]
        } else {
            &[&|| run("bpftool", &["link", "detach", "pinned"], &to_pod), &|| {
                fs::remove_file(&to_pod).expect("it is there");
                fs::remove_dir_all(bench.set().join("maps")).expect("it is there");
            }]
        };
        for (at, attack) in attacks.iter().enumerate() {
            let before = agent.until("a status", Duration::from_secs(1), |_| true).mended;
            attack();
            let began = Instant::now();
            let told = agent.until("it is told", Duration::from_secs(1), |status| status.mended > before);
            println!("clsact: {clsact}, attack {at}: told after {:?}: {:?}", began.elapsed(), told.problems);
            assert!(told.problems.iter().any(|problem| problem.contains("put back")), "{told:?}");
            assert!(!bench.lab.outside.reaches(POD_B, 9000), "shut again");
            assert!(bench.lab.a.reaches(POD_B, 9000));
        }
        // What was put back is pinned as before.
        agent.kill();
        assert!(!bench.lab.outside.reaches(POD_B, 9000));
    }
}

/// The same while the API never rests, so that there is always news to be taken.
#[test]
fn what_is_removed_is_back_within_a_second_while_the_api_never_rests() {
    if !can_run() {
        return;
    }
    let bench = Bench::new(false);
    let mut agent = bench.agent();
    agent.until_enforcing();
    let before = agent.until("a status", Duration::from_secs(1), |_| true).mended;
    let to_pod = bench.set().join(format!("links/{}-to_pod", bench.lab.node.interface("vb")));
    let (api, rests) = (bench.api.clone(), Arc::new(AtomicBool::new(false)));
    let is_over = Arc::clone(&rests);
    let talker = thread::spawn(move || {
        let began = Instant::now();
        let mut version = 100_u64;
        while !is_over.load(Relaxed) && began.elapsed() < Duration::from_secs(10) {
            version += 1;
            let mut other = pod("one", "far", "10.244.9.9");
            other["spec"]["nodeName"] = "m".into();
            other["metadata"]["labels"]["round"] = version.to_string().into();
            other["metadata"]["resourceVersion"] = version.to_string().into();
            api.tell_raw("pods", json!({"type": "MODIFIED", "object": other}));
            thread::sleep(Duration::from_micros(20));
        }
        version - 100
    });
    thread::sleep(Duration::from_millis(500));
    run("bpftool", &["link", "detach", "pinned"], &to_pod);
    let began = Instant::now();
    agent.until("it is told", Duration::from_secs(1), |status| status.mended > before);
    let took = began.elapsed();
    assert!(!bench.lab.outside.reaches(POD_B, 9000), "shut again");
    rests.store(true, Relaxed);
    println!("told after {took:?}, with {} events of the API meanwhile", talker.join().expect("no panic"));
}

fn run(program: &str, words: &[&str], file: &Path) {
    let output = Command::new(program).args(words).arg(file).output().expect("it is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
