//! A lab that is killed leaves nothing.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use signalbox_lab_node::testing::{start_host, start_pod};

use super::support::eventually;
use super::{Run, config};

pub fn run(run: &mut Run) {
    run.test("kill -9 of the lab leaves nothing", killed);
}

/// What the killed program does: a node with pods, until it is killed.
pub fn be_a_lab() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let node = signalbox_lab_node::create(config()).await.expect("a node");
        let one = start_pod(&node, "test", "one", &["TCP/9000"]).await.expect("a pod");
        let two = start_pod(&node, "test", "two", &["TCP/9000"]).await.expect("a pod");
        let address = "198.51.100.20".parse().expect("an address");
        let host = start_host(&node, "database", address, &["TCP/3306"]).await.expect("a host");
        println!("{} {} {}", one.init(), two.init(), host.init());
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}

/// Every process below `pid`.
fn descendants(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while at < all.len() {
        for task in std::fs::read_dir(format!("/proc/{}/task", all[at])).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        at += 1;
    }
    all.split_off(1)
}

/// Gone, or dead and waiting for the machine's init to take notice: such a one holds no namespace and no mount.
fn ended(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')),
        Err(_) => true,
    }
}

async fn killed() {
    let links = || std::fs::read_dir("/sys/class/net").expect("links").count();
    let mounts = || std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    let (links_before, mounts_before) = (links(), mounts());
    let mut lab = Command::new("/proc/self/exe").arg("--be-a-lab").stdout(Stdio::piped()).spawn().expect("a lab");
    let mut line = String::new();
    BufReader::new(lab.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    let processes = descendants(lab.id());
    // Three holders, and for each of three pods: first stage, init, probe.
    assert_eq!(processes.len(), 12, "{line}: {processes:?}");
    assert_eq!(line.split_whitespace().count(), 3, "{line}");
    lab.kill().expect("killed");
    lab.wait().expect("gone");
    let took = eventually("every process is gone", || processes.iter().all(|pid| ended(*pid))).await;
    println!("     gone {} ms after kill -9", took.as_millis());
    assert_eq!(links(), links_before);
    assert_eq!(mounts(), mounts_before);
}
