//! The agent's binary with pins: it may go, enforcement stays; only `uninstall` ends it.

mod support;

use std::process::{Command, Output};

use serde_json::json;
use support::{
    BpfFs, Echo, Lab, OUTSIDE, POD_A, POD_B, Space,
    agent::{Agent, BINARY, Process, furnish},
    api::Api,
    can_run, policy,
};

fn uninstall(lab: &Lab, pins: &str) -> Output {
    let mut command = Command::new(BINARY);
    command.args(["uninstall", "--pins", pins, "--netns"]).arg(lab.node.path());
    command.output().expect("the binary runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_and_comes_back_and_only_uninstall_opens() {
    if !can_run() {
        return;
    }
    let lab = Lab::new();
    let bpf = BpfFs::new();
    let folder = bpf.pins();
    let pins = folder.to_str().expect("plain text");
    let _servers = [&lab.a, &lab.b, &lab.outside].map(|space: &Space| Echo::new(space, 9000));
    let _pods = [&lab.a, &lab.b].map(Process::sleeping);
    let api = Api::start().await;
    furnish(&api);
    let from_one = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "one"}}});
    let version =
        api.put("networkpolicies", policy("two/some", &["Ingress"], json!({"ingress": [{"from": [from_one]}]})));
    let check = |when: &str| {
        assert!(lab.a.reaches(POD_B, 9000), "{when}: the rule allows it");
        assert!(!lab.outside.reaches(POD_B, 9000), "{when}: the policy isolates it");
        assert!(lab.outside.reaches(POD_A, 9000), "{when}: nobody isolates this one");
    };
    for mode in ["strict", "standard"] {
        let mut agent = Agent::start(&lab, &api, &["--pins", pins, "--mode", mode]);
        agent.until_in_force(version);
        check("the agent runs");
        let (status, _) = agent.json(&["status"]);
        let new_pods = status["exposures"].as_array().expect("a list").clone();
        let refused = uninstall(&lab, pins);
        assert!(!refused.status.success(), "an agent holds it: {refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("held by another enforcer"), "{refused:?}");
        check("nothing was uninstalled");
        if mode == "strict" {
            agent.process.0.kill().expect("it lives");
            agent.process.0.wait().expect("it ends");
        } else {
            assert!(agent.process.end().success());
        }
        check("the agent is gone");
        if mode == "strict" {
            let fresh = Space::new();
            lab.pod(&fresh, "vc", "10.244.0.4", "fd00:244::4");
            let _server = Echo::new(&fresh, 9000);
            let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while !lab.node.reaches("10.244.0.4", 9000) {
                assert!(std::time::Instant::now() < end, "its node reaches it, as any");
            }
            assert!(
                !fresh.reaches(POD_A, 9000) && !fresh.reaches(OUTSIDE, 9000),
                "a new pod stays shut without an agent"
            );
            lab.node.run("ip link del vc");
        } else {
            assert!(new_pods.is_empty(), "pods that were there before are not new: {new_pods:?}");
        }
    }
    let done = uninstall(&lab, pins);
    assert!(done.status.success(), "{done:?}");
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(text.contains("detached: ") && text.contains("removed: "), "{text}");
    assert!(lab.outside.reaches(POD_B, 9000), "nothing enforces any more");
    assert!(!folder.exists());
    let again = uninstall(&lab, pins);
    assert!(again.status.success() && String::from_utf8_lossy(&again.stdout).contains("nothing"), "{again:?}");
}
