//! What is pinned outlives the process: adoption, upgrade, mending, uninstallation. Judged by packets.

mod support;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use signalbox_enforcer::{AttachPreference, Config, Limits, uninstall};
use support::{BpfFs, Echo, Gate, Lab, OUTSIDE, POD_A, POD_B, Space, can_run, config, echo, echo_soon, policy};

const BOTH: [AttachPreference; 2] = [AttachPreference::Tcx, AttachPreference::Clsact];
const PATIENCE: Duration = Duration::from_secs(5);

fn set_up(attach: AttachPreference) -> (Lab, Vec<Echo>, BpfFs, Config) {
    let lab = Lab::new();
    let servers = [&lab.a, &lab.b, &lab.outside, &lab.node].map(|space: &Space| Echo::new(space, 9000));
    let bpf = BpfFs::new();
    let config = Config { attach, pins: Some(bpf.pins()), ..config(&lab) };
    (lab, servers.into(), bpf, config)
}

fn start(lab: &Lab, config: &Config) -> Gate {
    Gate::start(lab, config, None)
}

/// Only `one/a` may reach `two/b`.
fn only_a() -> Value {
    let from_one = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "one"}}});
    policy("two/only-a", &["Ingress", "Egress"], json!({"ingress": [{"from": [from_one]}]}))
}

fn built_in() -> Vec<u8> {
    signalbox_enforcer::built_in_object().expect("built: `cargo xtask build`").to_vec()
}

/// The built-in object with another layout: the programs and maps are the same, so that what they do is known, but no process
/// may take the pins of one for those of the other.
fn relabelled(tables: &[u8; 4], flows: &[u8; 4]) -> Vec<u8> {
    let mut object = built_in();
    for (what, to) in [(&b"tables="[..], tables), (b"flows=", flows)] {
        let at = object.windows(what.len()).position(|window| window == what).expect("the object says its layout");
        object[at + what.len()..][..4].copy_from_slice(to);
    }
    object
}

/// Names under the pins' root.
fn pinned(config: &Config) -> Vec<String> {
    let root = config.pins.as_ref().expect("pinned");
    let names = fs::read_dir(root).into_iter().flatten().flatten();
    let mut names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn set_folder(config: &Config) -> PathBuf {
    let sets: Vec<String> = pinned(config).into_iter().filter(|name| !name.starts_with("flows-")).collect();
    assert_eq!(sets.len(), 1, "one set is left: {sets:?}");
    config.pins.as_ref().expect("pinned").join(&sets[0])
}

#[test]
fn the_end_of_the_process_changes_nothing_and_the_next_one_goes_on() {
    if !can_run() {
        return;
    }
    for attach in BOTH {
        let (lab, _servers, _bpf, config) = set_up(attach);
        let mut gate = start(&lab, &config);
        gate.policies(&[only_a()]);
        let mut kept = lab.a.connect(POD_B, 9000, PATIENCE).expect("the rule allows it");
        assert!(echo(&mut kept) && !lab.outside.reaches(POD_B, 9000));
        let generation = gate.datapath.generation();
        drop(gate);

        assert!(echo_soon(&mut kept), "{attach:?}: the connection lives");
        assert!(lab.a.reaches(POD_B, 9000), "{attach:?}: what is allowed is allowed");
        assert!(!lab.outside.reaches(POD_B, 9000), "{attach:?}: what is denied is denied");
        assert!(lab.b.connect(OUTSIDE, 9000, Duration::from_millis(300)).is_err(), "{attach:?}: egress, too");

        let mut gate = start(&lab, &config);
        assert_eq!(gate.datapath.generation(), generation, "{attach:?}");
        assert!(gate.datapath.is_adopted());
        assert!(echo_soon(&mut kept) && lab.a.reaches(POD_B, 9000) && !lab.outside.reaches(POD_B, 9000));
        let applied = gate.policies(&[only_a()]);
        assert_eq!((applied.generation, applied.problems), (generation + 1, Vec::new()), "{attach:?}");
        gate.datapath.settle().expect("settled");
        assert!(echo_soon(&mut kept) && lab.a.reaches(POD_B, 9000) && !lab.outside.reaches(POD_B, 9000));
        assert_eq!(gate.datapath.mend().expect("mended"), [] as [String; 0]);

        // The next change cuts, as ever.
        gate.policies(&[policy("two/shut", &["Ingress", "Egress"], json!({}))]);
        assert!(!echo_soon(&mut kept), "{attach:?}: its rule is gone");
        drop(gate);
        assert!(!lab.a.reaches(POD_B, 9000));
    }
}

#[test]
fn another_layout_is_filled_before_it_takes_over_and_back_again() {
    if !can_run() {
        return;
    }
    for attach in BOTH {
        let (lab, _servers, _bpf, config) = set_up(attach);
        let mut gate = start(&lab, &config);
        gate.policies(&[only_a()]);
        let mut kept = lab.a.connect(POD_B, 9000, PATIENCE).expect("the rule allows it");
        assert!(echo(&mut kept));
        let mut sets = vec![set_folder(&config)];
        drop(gate);
        let versions = [relabelled(b"next", b"0001"), relabelled(b"last", b"last"), built_in()];
        for object in versions {
            let mut gate = Gate::start(&lab, &config, Some(&object));
            assert!(gate.datapath.is_adopted());
            assert!(echo_soon(&mut kept) && lab.a.reaches(POD_B, 9000), "before it is filled the old one judges");
            assert!(!lab.outside.reaches(POD_B, 9000), "before it is filled the old one judges");
            gate.policies(&[only_a()]);
            assert!(echo_soon(&mut kept) && lab.a.reaches(POD_B, 9000), "{attach:?}");
            assert!(!lab.outside.reaches(POD_B, 9000), "{attach:?}");
            assert_eq!(gate.datapath.mend().expect("mended"), [] as [String; 0]);
            sets.push(set_folder(&config));
            assert_eq!(pinned(&config).len(), 2, "one set, and its flows: {:?}", pinned(&config));
        }
        assert_ne!(sets[0], sets[1]);
        assert_ne!(sets[1], sets[2]);
        assert_eq!(sets[0], sets[3], "back again");
    }
}

/// A crash in the middle of an upgrade: the maps are filled, and no program reads them yet.
#[test]
fn an_upgrade_that_never_came_to_its_end_changes_nothing() {
    if !can_run() {
        return;
    }
    let (lab, _servers, _bpf, config) = set_up(AttachPreference::Auto);
    let mut gate = start(&lab, &config);
    gate.policies(&[only_a()]);
    drop(gate);
    let next = relabelled(b"next", b"0001");
    drop(Gate::start(&lab, &config, Some(&next)));
    assert!(lab.a.reaches(POD_B, 9000) && !lab.outside.reaches(POD_B, 9000));
    // The old version comes back, and finds its tables.
    let gate = start(&lab, &config);
    assert!(gate.datapath.generation() != 0 && gate.datapath.is_adopted());
    assert!(lab.a.reaches(POD_B, 9000) && !lab.outside.reaches(POD_B, 9000));
    drop(gate);
    let mut gate = Gate::start(&lab, &config, Some(&next));
    gate.policies(&[only_a()]);
    assert!(lab.a.reaches(POD_B, 9000) && !lab.outside.reaches(POD_B, 9000));
    set_folder(&config);
}

#[test]
fn another_limit_takes_effect_with_a_restart() {
    if !can_run() {
        return;
    }
    let (lab, _servers, _bpf, config) = set_up(AttachPreference::Auto);
    let small = Config { limits: Limits { policies: 16, ..Limits::default() }, ..config.clone() };
    let ports: Vec<_> = (9000..9100).map(|port| json!({"port": port})).collect();
    let large = policy("two/large", &["Ingress"], json!({"ingress": [{"ports": ports}]}));
    let mut gate = start(&lab, &small);
    assert!(!gate.policies(std::slice::from_ref(&large)).problems.is_empty());
    assert!(!lab.a.reaches(POD_B, 9000), "it does not fit, so it denies");
    drop(gate);
    let mut gate = start(&lab, &config);
    assert!(!lab.a.reaches(POD_B, 9000));
    assert_eq!(gate.policies(&[large]).problems, [] as [String; 0]);
    assert!(lab.a.reaches(POD_B, 9000));
    set_folder(&config);
}

/// Old and new policies stand in the maps together for a moment: what does not fit beside the old ones denies, and comes in
/// when they are gone.
#[test]
fn policies_that_fit_only_once_are_tried_again_when_the_old_ones_are_gone() {
    if !can_run() {
        return;
    }
    let (lab, _servers, _bpf, config) = set_up(AttachPreference::Auto);
    let config = Config { limits: Limits { policies: 48, ..Limits::default() }, ..config };
    let ports: Vec<_> = (8990..9020).map(|port| json!({"port": port})).collect();
    let policies = [policy("two/large", &["Ingress"], json!({"ingress": [{"ports": ports}]}))];
    let mut gate = start(&lab, &config);
    assert_eq!(gate.policies(&policies).problems, [] as [String; 0]);
    assert!(lab.a.reaches(POD_B, 9000));
    drop(gate);
    let mut gate = start(&lab, &config);
    assert!(lab.a.reaches(POD_B, 9000), "nothing has changed yet");
    assert!(!gate.policies(&policies).problems.is_empty(), "thirty beside thirty do not fit into 48");
    assert!(!lab.a.reaches(POD_B, 9000), "so it denies");
    gate.datapath.settle().expect("settled");
    assert!(gate.datapath.takes_new_room() && !gate.datapath.takes_new_room());
    assert_eq!(gate.policies(&policies).problems, [] as [String; 0]);
    assert!(lab.a.reaches(POD_B, 9000));
}

/// A process that ends in the middle of a change leaves the coming version of some values behind: it must not come into force
/// with the next change.
#[test]
fn a_change_that_was_half_done_never_comes_into_force() {
    if !can_run() {
        return;
    }
    let (lab, _servers, _bpf, config) = set_up(AttachPreference::Auto);
    let mut gate = start(&lab, &config);
    gate.policies(&[only_a()]);
    gate.datapath.settle().expect("settled");
    let generation = gate.datapath.generation();
    drop(gate);
    // As if the next generation were to give the outside the identity of one/a, and one/a none.
    let map = set_folder(&config).join("maps/ADDRESSES");
    let bytes = |address: &str| {
        let v4: std::net::Ipv4Addr = address.parse().expect("an address");
        v4.to_ipv6_mapped().octets().map(|byte| byte.to_string()).join(" ")
    };
    let output = std::process::Command::new("bpftool").args(["-j", "map", "dump", "pinned"]).arg(&map).output();
    let rows: Vec<Value> = serde_json::from_slice(&output.expect("bpftool is installed").stdout).expect("JSON");
    let byte = |value: &Value| u8::from_str_radix(&value.as_str().expect("hex")[2..], 16).expect("hex").to_string();
    let words = |value: &Value| value.as_array().expect("bytes").iter().map(byte).collect::<Vec<_>>();
    let of_a = rows.iter().find(|row| words(&row["key"]).join(" ") == bytes(POD_A)).expect("it is there");
    let identity = words(&of_a["value"])[..4].join(" ");
    let (none, nowhere) = ("255 255 255 255", "0 0 0 0");
    let versions = |current: &str, coming: &str| {
        if generation.is_multiple_of(2) { format!("{current} {coming}") } else { format!("{coming} {current}") }
    };
    let interface = words(&of_a["value"])[8..12].join(" ");
    for (address, identities, interfaces) in [
        (OUTSIDE, versions(none, &identity), versions(nowhere, nowhere)),
        (POD_A, versions(&identity, none), versions(&interface, nowhere)),
    ] {
        let line = format!("{} value {identities} {interfaces}", bytes(address));
        let words: Vec<&str> = line.split(' ').collect();
        let mut update = std::process::Command::new("bpftool");
        update.args(["map", "update", "pinned"]).arg(&map).arg("key").args(words);
        let output = update.output().expect("bpftool is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(lab.a.reaches(POD_B, 9000) && !lab.outside.reaches(POD_B, 9000), "nobody reads it yet");
    let mut gate = start(&lab, &config);
    gate.policies(&[only_a()]);
    assert!(lab.a.reaches(POD_B, 9000), "still one/a");
    assert!(!lab.outside.reaches(POD_B, 9000), "still nobody");
}

#[test]
fn another_way_of_attaching_waits_for_an_uninstallation() {
    if !can_run() {
        return;
    }
    let (lab, _servers, _bpf, config) = set_up(AttachPreference::Clsact);
    let mut gate = start(&lab, &config);
    gate.policies(&[only_a()]);
    drop(gate);
    let tcx = Config { attach: AttachPreference::Tcx, ..config.clone() };
    let refused = signalbox_enforcer::datapath::Datapath::load(&tcx).err().expect("filters are in force");
    assert!(refused.to_string().contains("uninstall first"), "{refused}");
    let mut gate = start(&lab, &Config { attach: AttachPreference::Auto, ..config.clone() });
    gate.policies(&[only_a()]);
    assert_eq!(gate.datapath.attach_mode(), Some(signalbox_api::kernel::AttachMode::Clsact), "as it was");
    assert!(lab.a.reaches(POD_B, 9000) && !lab.outside.reaches(POD_B, 9000));
}

/// Another capacity of flows is another table of flows, with the policies as they are.
#[test]
fn another_limit_of_flows_takes_effect_and_cuts_nothing() {
    if !can_run() {
        return;
    }
    let (lab, _servers, _bpf, config) = set_up(AttachPreference::Auto);
    let mut gate = start(&lab, &config);
    gate.policies(&[only_a()]);
    let mut kept = lab.a.connect(POD_B, 9000, PATIENCE).expect("the rule allows it");
    assert!(echo(&mut kept));
    drop(gate);
    let config = Config { limits: Limits { flows: 1024, ..Limits::default() }, ..config };
    let before = pinned(&config);
    let mut gate = start(&lab, &config);
    assert!(echo_soon(&mut kept) && !lab.outside.reaches(POD_B, 9000));
    gate.policies(&[only_a()]);
    assert!(echo_soon(&mut kept) && !lab.outside.reaches(POD_B, 9000));
    let after = pinned(&config);
    assert_eq!(after.len(), 2, "one set, and its flows: {after:?}");
    assert_ne!(before, after);
}

/// What 10,000 pods and 1,000 policies come to, and once more, since a process that takes over writes all groups anew.
#[test]
fn eighty_thousand_entries_fit_twice() {
    if !can_run() {
        return;
    }
    let (lab, _servers, _bpf, config) = set_up(AttachPreference::Auto);
    let many = |name: &str| {
        let ports: Vec<_> = (10_000..50_000).map(|port| json!({"port": port})).chain([json!({"port": 9000})]).collect();
        policy(name, &["Ingress"], json!({"ingress": [{"ports": ports}]}))
    };
    let mut generation = 0;
    for _ in 0..2 {
        let mut gate = start(&lab, &config);
        let began = Instant::now();
        let applied = gate.policies(&[many("one/many"), many("two/many")]);
        println!("compiled and written in {:?}", began.elapsed());
        assert_eq!(applied.problems, [] as [String; 0]);
        assert!(applied.generation > generation);
        generation = applied.generation;
        let began = Instant::now();
        gate.datapath.settle().expect("settled");
        println!("settled in {:?}", began.elapsed());
        assert_eq!(gate.datapath.policy_entries().expect("the kernel tells"), 80_002, "and no entry of before");
        assert!(lab.a.reaches(POD_B, 9000) && lab.b.connect(POD_A, 9001, PATIENCE / 20).is_err());
    }
}

/// The interface's number and the address may be somebody else's by the time the next process starts.
#[test]
fn a_pod_whose_interface_is_gone_is_forgotten_with_its_address() {
    if !can_run() {
        return;
    }
    for attach in BOTH {
        let (lab, _servers, _bpf, config) = set_up(attach);
        let mut gate = start(&lab, &config);
        gate.policies(&[only_a()]);
        assert!(lab.a.reaches(POD_B, 9000) && !lab.outside.reaches(POD_B, 9000));
        let number = lab.node.interface("va");
        drop(gate);
        lab.node.run("ip link del va");
        let other = Space::new();
        let place = other.path();
        lab.node.run(&format!("ip link add va index {number} type veth peer name eth0 netns {}", place.display()));
        lab.node.run("ip addr add 169.254.1.1/32 dev va");
        lab.node.run("ip link set va up");
        lab.node.run(&format!("ip route add {POD_A}/32 dev va"));
        other.run("ip link set eth0 up");
        other.run(&format!("ip addr add {POD_A}/32 dev eth0"));
        other.run("ip route add 169.254.1.1/32 dev eth0 scope link");
        other.run("ip route add default via 169.254.1.1 dev eth0");
        // Nobody has told the kernel: the window that docs/adr/0008 names.
        assert!(other.connect(POD_B, 9000, PATIENCE).is_ok(), "{attach:?}: the way is there");
        let gate = start(&lab, &config);
        assert!(!other.reaches(POD_B, 9000), "{attach:?}: not under the old identity");
        drop(gate);
    }
}

#[test]
fn whatever_is_removed_from_outside_is_put_back() {
    if !can_run() {
        return;
    }
    for attach in BOTH {
        let (lab, _servers, _bpf, config) = set_up(attach);
        let mut gate = start(&lab, &config);
        gate.policies(&[only_a()]);
        assert!(!lab.outside.reaches(POD_B, 9000));
        assert_eq!(gate.datapath.mend().expect("looked"), [] as [String; 0], "nothing is missing");
        let began = Instant::now();
        (0..50).for_each(|_| assert_eq!(gate.datapath.mend().expect("looked"), [] as [String; 0]));
        println!("{attach:?}: a look at three interfaces and all pins takes {:?}", began.elapsed() / 50);
        let set = set_folder(&config);
        let number = lab.node.interface("vb");
        let maps = fs::read_dir(set.join("maps")).expect("the folder of the set").count();
        let mut attacks: Vec<Attack> = vec![
            ("the pin of a map", Box::new(|| fs::remove_file(set.join("maps/POLICY")).expect("removed")), 1),
            ("all maps' pins", Box::new(|| fs::remove_dir_all(set.join("maps")).expect("removed")), maps),
        ];
        match attach {
            AttachPreference::Clsact => {
                attacks.push(("a filter", Box::new(|| lab.node.run("tc filter del dev vb egress")), 1));
                attacks.push(("a qdisc", Box::new(|| lab.node.run("tc qdisc del dev vb clsact")), 2));
            }
            AttachPreference::Tcx | AttachPreference::Auto => {
                let pin = set.join(format!("links/{number}-to_pod"));
                let file = pin.clone();
                attacks.push(("the pin of a link", Box::new(move || fs::remove_file(&file).expect("removed")), 1));
                let file = pin.clone();
                attacks.push(("a link", Box::new(move || bpftool(&["link", "detach", "pinned"], &file)), 1));
            }
        }
        for (what, attack, count) in attacks {
            attack();
            let mended = gate.datapath.mend().unwrap_or_else(|error| panic!("{what}: {error:#?}"));
            assert_eq!(mended.len(), count, "{attach:?}, {what}: {mended:?}");
            assert_eq!(gate.datapath.mend().expect("looked"), [] as [String; 0], "{attach:?}, {what}");
            assert!(!lab.outside.reaches(POD_B, 9000), "{attach:?}, {what}");
            assert!(lab.a.reaches(POD_B, 9000), "{attach:?}, {what}");
        }
        drop(gate);
        assert!(!lab.outside.reaches(POD_B, 9000), "{attach:?}: what was put back outlives the process, too");
        let gate = start(&lab, &config);
        assert!(gate.datapath.generation() != 0, "{attach:?}: and is found by the next one");
    }
}

/// What is removed, how, and how many things that is.
type Attack<'a> = (&'static str, Box<dyn Fn() + 'a>, usize);

fn bpftool(words: &[&str], file: &std::path::Path) {
    let output = std::process::Command::new("bpftool").args(words).arg(file).output().expect("bpftool is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Pins that somebody removes while nobody is there: as long as the programs hold the maps, nothing is lost.
#[test]
fn pins_of_maps_that_vanish_between_two_processes_are_found_again() {
    if !can_run() {
        return;
    }
    for attach in BOTH {
        let (lab, _servers, _bpf, config) = set_up(attach);
        let mut gate = start(&lab, &config);
        gate.policies(&[only_a()]);
        let generation = gate.datapath.generation();
        drop(gate);
        fs::remove_file(set_folder(&config).join("maps/CONTROL")).expect("removed");
        fs::remove_file(set_folder(&config).join("maps/ADDRESSES")).expect("removed");
        let gate = start(&lab, &config);
        assert_eq!(gate.datapath.generation(), generation, "{attach:?}");
        assert!(lab.a.reaches(POD_B, 9000) && !lab.outside.reaches(POD_B, 9000), "{attach:?}");
    }
}

#[test]
fn only_uninstall_detaches() {
    if !can_run() {
        return;
    }
    for attach in BOTH {
        let (lab, _servers, _bpf, config) = set_up(attach);
        // A qdisc that was there before stays.
        if attach == AttachPreference::Clsact {
            lab.node.run("tc qdisc add dev va clsact");
        }
        let mut gate = start(&lab, &config);
        gate.policies(&[only_a()]);
        let refused = uninstall(&config).expect_err("an agent runs");
        assert!(refused.to_string().contains("another enforcer"), "{refused}");
        drop(gate);
        assert!(!lab.outside.reaches(POD_B, 9000));
        let report = uninstall(&config).unwrap_or_else(|error| panic!("{error:#?}"));
        println!("{report}");
        let programs = report.detached.iter().filter(|what| what.contains("_pod") || what.contains("_uplink")).count();
        assert_eq!(programs, 6, "two on each of three interfaces: {report}");
        assert!(lab.outside.reaches(POD_B, 9000), "{attach:?}: nobody enforces any more");
        assert_eq!(pinned(&config), [] as [String; 0]);
        if attach == AttachPreference::Clsact {
            let qdiscs = report.detached.iter().filter(|what| what.contains("qdisc")).count();
            assert_eq!(qdiscs, 2, "those that were made: {report}");
            lab.node.run("tc qdisc del dev va clsact");
        }
        assert_eq!(uninstall(&config).expect("nothing to do").to_string(), "nothing was installed\n");
    }
}

#[test]
fn two_agents_do_not_write_to_one_set() {
    if !can_run() {
        return;
    }
    let (lab, _servers, _bpf, config) = set_up(AttachPreference::Auto);
    let gate = start(&lab, &config);
    let refused = signalbox_enforcer::datapath::Datapath::load(&config).err().expect("it is held");
    assert!(refused.to_string().contains("another enforcer"), "{refused}");
    drop(gate);
    let plain = Config { pins: Some(PathBuf::from("/tmp/signalbox-pins")), ..config };
    let refused = signalbox_enforcer::datapath::Datapath::load(&plain).err().expect("no bpf file system");
    assert!(refused.to_string().contains("mount -t bpf"), "{refused}");
}
