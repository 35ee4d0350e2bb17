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

/// Calls that it has no use for, with all the rights of root: what the kernel says to each.
fn forbidden_calls() -> [(&'static str, Result<(), i32>); 5] {
    let io = |result: std::io::Result<()>| result.map_err(|error| error.raw_os_error().unwrap_or_default());
    let run = || Command::new("/bin/true").status().map(drop);
    let unshare = || nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS);
    let mount = || nix::mount::mount(Some("none"), "/", None::<&str>, nix::mount::MsFlags::MS_PRIVATE, None::<&str>);
    [
        ("run a program", io(run())),
        ("make a namespace", unshare().map_err(|errno| errno as i32)),
        ("mount", mount().map_err(|errno| errno as i32)),
        ("change the root", io(std::os::unix::fs::chroot("/"))),
        ("become another user", nix::unistd::setuid(nix::unistd::Uid::from_raw(0)).map_err(|errno| errno as i32)),
    ]
}

const CONFINED: &str = "SIGNALBOX_TEST_CONFINED";

#[test]
#[ignore = "the process that the test below starts, and that gives up its rights"]
fn a_process_that_tries_what_is_forbidden() {
    let is_confined = std::env::var(CONFINED).is_ok_and(|value| value == "1");
    // So that no mount is changed outside.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("root may");
    if is_confined {
        signalbox_enforcer::rights::confine().expect("the kernel takes the filter");
    }
    for (what, said) in forbidden_calls() {
        println!("tried to {what}: {said:?}");
    }
    println!("may still read: {}", std::fs::read("/proc/self/status").is_ok());
}

/// The same calls work without the filter, and are refused with it.
#[test]
fn what_it_has_no_use_for_is_refused() {
    if !can_run() {
        return;
    }
    for (confined, said) in [("0", "Ok(())"), ("1", "Err(1)")] {
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command.args(["--exact", "a_process_that_tries_what_is_forbidden", "--ignored", "--nocapture"]);
        let output = end_soon({
            command.env(CONFINED, confined);
            command
        });
        let text = String::from_utf8_lossy(&output.stdout);
        let tries: Vec<&str> = text.lines().filter(|line| line.contains("tried to ")).collect();
        assert_eq!(tries.len(), 5, "{text} {}", String::from_utf8_lossy(&output.stderr));
        assert!(tries.iter().all(|line| line.ends_with(said)), "confined: {confined}: {tries:?}");
        assert!(text.contains("may still read: true"), "{text}");
    }
}
