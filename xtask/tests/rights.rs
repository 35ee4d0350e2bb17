//! What somebody without root is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

const NOBODY: u32 = 65534;

#[test]
fn without_root_the_message_says_why_and_what_to_do() {
    // Where anybody may read it: a workspace often lies where others may not look.
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("xtask");
    fs::copy(env!("CARGO_BIN_EXE_xtask"), &program).expect("copied");
    for path in [folder.path(), &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("readable by all");
    }
    for (task, why) in [
        (&["lab"][..], "the lab makes network namespaces and loads kernel programs"),
        (&["test-cluster"], "the tests make network namespaces and load kernel programs"),
        (&["figures"], "the measurements run the lab"),
    ] {
        let mut command = Command::new(&program);
        command.args(task).current_dir(folder.path());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().expect("started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{task:?}: {said}");
        assert!(said.contains(why) && said.contains("needs root: run `sudo"), "{task:?}: {said}");
        assert!(!said.lines().any(|line| line.ends_with(" …")), "{task:?}: nothing is begun: {said}");
    }
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}
