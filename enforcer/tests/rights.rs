//! The agent with no more rights than it needs, and what it says where it has fewer.

mod support;

use std::{
    os::unix::process::CommandExt,
    process::{Command, Output},
};

use serde_json::json;
use support::{
    Echo, Lab, POD_A, POD_B, Space,
    agent::{Agent, BINARY, Process, furnish, pod},
    api::Api,
    can_run, policy,
};

/// CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF.
const NEEDED: u64 = 1 << 12 | 1 << 19 | 1 << 21 | 1 << 38 | 1 << 39;

fn end_soon(mut command: Command) -> Output {
    command.stdin(std::process::Stdio::null()).output().expect("it runs")
}

#[test]
fn it_names_the_rights_that_are_missing() {
    if !can_run() {
        return;
    }
    // Somebody without any rights.
    // The binary must be readable for everybody.
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("signalbox-enforcer");
    std::fs::copy(BINARY, &copy).expect("copied");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let mut command = Command::new(&copy);
    command.args(["--node", "n"]).uid(65_534).gid(65_534);
    let output = end_soon(command);
    let text = String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert_eq!(output.status.code(), Some(3), "{text}");
    for name in ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "run it as root"] {
        assert!(text.contains(name), "{name}: {text}");
    }
    // Root, with one of them missing.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-net_admin", BINARY, "--node", "n"]);
    let output = end_soon(command);
    let text = String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("CAP_NET_ADMIN (to attach programs to interfaces)"), "{text}");
    assert!(!text.contains("CAP_BPF") && !text.contains("CAP_SYS_ADMIN"), "{text}");
}

fn value<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.unwrap_or_else(|| panic!("{name}: {status}")).trim()
}

/// Started with the needed capabilities and no others, with nothing of the file system to write to but its own folder, it enforces.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_least_of_rights_it_enforces() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let _servers = [&lab.a, &lab.b, &lab.outside].map(|space: &Space| Echo::new(space, 9000));
    let _pods = [&lab.a, &lab.b].map(Process::sleeping);
    let api = Api::start().await;
    furnish(&api);
    let (prepared, command) = Agent::prepare(&lab, &api, &[]);
    let own = prepared.socket.parent().expect("a folder").to_owned();
    std::fs::create_dir_all(&own).expect("made");
    // All mounts are read-only but the agent's own folder; set up with all rights, then the agent gets those that it needs.
    let own = own.display();
    let script = format!(
        "set -e; mount --make-rprivate /; mount --bind {own} {own}; \
         for at in $(awk '$5 !~ \"^/proc|^/sys|^/dev\" && $5 != \"{own}\" {{print $5}}' /proc/self/mountinfo); do \
         mount -o remount,ro,bind $at 2>/dev/null || true; done; \
         if touch /no-file-can-be-made-here 2>/dev/null; then exit 9; fi; \
         exec setpriv --bounding-set -all,+net_admin,+sys_ptrace,+sys_admin,+perfmon,+bpf \
         --inh-caps -all --no-new-privs \"$@\""
    );
    let mut wrapped = Command::new("unshare");
    wrapped.args(["--mount", "sh", "-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
    wrapped.env("SIGNALBOX_ENFORCER_SOCKET", &prepared.socket);
    let mut agent = prepared.begin(wrapped);

    // Every thread has these rights and no others, no way to more, and a filter of calls.
    let id = agent.process.0.id();
    let mut threads = 0;
    for thread in std::fs::read_dir(format!("/proc/{id}/task")).expect("it lives").flatten() {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        if status.is_empty() {
            continue;
        }
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(u64::from_str_radix(value(&status, set), 16), Ok(NEEDED), "{set}: {status}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(u64::from_str_radix(value(&status, set), 16), Ok(0), "{set}: {status}");
        }
        assert_eq!((value(&status, "NoNewPrivs"), value(&status, "Seccomp")), ("1", "2"), "{status}");
        threads += 1;
    }
    println!("{threads} threads confined");
    assert!(threads > 2, "{threads}");

    // It does all its work.
    let version = api.put("networkpolicies", policy("two/shut", &["Ingress"], json!({})));
    agent.until_in_force(version);
    assert!(!lab.a.reaches(POD_B, 9000) && lab.b.reaches(POD_A, 9000));
    assert_eq!(agent.json(&["trace", "one/a", "two/b", "9000"]).0["agree"], true);
    assert_eq!(agent.get("/readyz").0, 200);
    assert_eq!(agent.get("/metrics").0, 200);
    let status = agent.json(&["flows", "--denied"]).0;
    assert_eq!(status[0]["kind"], "denied");
    // A pod that goes and comes back: it attaches and detaches.
    api.remove("pods", "two", "b");
    agent.until("the pod is gone", |status| status["pods"] == 1);
    api.put("pods", pod("two", "b", POD_B));
    agent.until("the pod is back", |status| status["pods"] == 2 && status["enforcing"] == true);
    assert!(!lab.outside.reaches(POD_B, 9000));
    assert!(agent.process.end().success(), "it ends in order");
    assert!(lab.outside.reaches(POD_B, 9000), "nothing is left behind");
}

/// An agent that was started with all rights has given up what it does not need.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn started_as_root_it_gives_up_the_rest() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let _pods = [&lab.a, &lab.b].map(Process::sleeping);
    let api = Api::start().await;
    furnish(&api);
    let agent = Agent::start(&lab, &api, &[]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.process.0.id())).expect("it lives");
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(u64::from_str_radix(value(&status, set), 16), Ok(NEEDED), "{set}: {status}");
    }
    assert_eq!((value(&status, "NoNewPrivs"), value(&status, "Seccomp")), ("1", "2"));
}
