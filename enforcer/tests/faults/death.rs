//! The agent is killed, ended, replaced by another version.

use std::{fs, io::Write, path::PathBuf, process::Command, sync::atomic::Ordering::Relaxed};

use serde_json::Value;

use crate::{
    bench::{Bench, pause},
    support::{
        can_run,
        faults::agent::{Agent, Order},
    },
};

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
        for (tables, flows) in [(b"next", b"0001"), (b"last", b"last")] {
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

/// Maps whose keys and values have really other sizes, and back again, under the same load: the object that is built with the feature
/// `other-layout`.
#[test]
fn an_object_with_other_keys_and_values_takes_over_and_back_again() {
    if !can_run() {
        return;
    }
    let other = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/artifacts/enforcer-other.bpf.o");
    assert!(other.exists(), "{} is missing: `cargo xtask test` builds it", other.display());
    for clsact in [false, true] {
        let bench = Bench::new(clsact);
        let mut agent = bench.agent();
        agent.until_enforcing();
        let sizes = |map: &str| {
            let path = bench.set().join("maps").join(map);
            let output = Command::new("bpftool").args(["-j", "map", "show", "pinned"]).arg(path).output();
            let facts: Value = serde_json::from_slice(&output.expect("bpftool is installed").stdout).expect("JSON");
            (facts["bytes_key"].clone(), facts["bytes_value"].clone())
        };
        let (set, limits, fragments) = (bench.set(), sizes("LIMITS"), sizes("FRAGMENTS"));
        let load = bench.load();
        for round in 0..2 {
            pause(300);
            if round == 0 {
                agent.terminate()
            } else {
                agent.kill()
            }
            let mut next = Agent::start(&Order { object: Some(other.clone()), ..bench.order.clone() });
            next.until_enforcing();
            assert_ne!(bench.set(), set, "another set of maps");
            assert!(sizes("LIMITS").1 != limits.1 && sizes("FRAGMENTS").0 != fragments.0, "of other sizes");
            pause(300);
            next.terminate();
            agent = bench.agent();
            agent.until_enforcing();
            assert_eq!((bench.set(), sizes("LIMITS")), (set.clone(), limits.clone()), "back again");
        }
        pause(300);
        let tally = load.finish();
        println!("clsact: {clsact}: {tally:?}");
    }
}
