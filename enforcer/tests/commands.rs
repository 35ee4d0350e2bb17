//! The agent as a process, and the commands that ask it.

mod support;

use serde_json::json;
use support::{
    Echo, Lab, NODE, OUTSIDE, POD_A, POD_B, Space,
    agent::{Agent, Process, furnish},
    api::Api,
    can_run, policy,
};

struct Scene {
    lab: Lab,
    api: Api,
    agent: Agent,
    _servers: Vec<Echo>,
    _pods: Vec<Process>,
}

async fn scene(more: &[&str]) -> Scene {
    let lab = Lab::new();
    let servers = [&lab.a, &lab.b, &lab.outside, &lab.node].map(|space: &Space| Echo::new(space, 9000));
    let pods = [&lab.a, &lab.b].map(Process::sleeping);
    let api = Api::start().await;
    furnish(&api);
    let agent = Agent::start(&lab, &api, more);
    Scene { lab, api, agent, _servers: servers.into(), _pods: pods.into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_tell_what_the_kernel_does() {
    if !can_run() {
        return;
    }
    let mut scene = scene(&[]).await;
    let (lab, agent) = (&scene.lab, &scene.agent);
    let from_one = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "one"}}});
    let version = scene.api.put(
        "networkpolicies",
        policy(
            "two/some",
            &["Ingress"],
            json!({"ingress": [{"from": [from_one], "ports": [{"port": 8999, "endPort": 9003}]}]}),
        ),
    );
    agent.until_in_force(version);
    let mut kept = lab.a.connect(POD_B, 9000, std::time::Duration::from_secs(1)).expect("the rule allows it");
    assert!(support::echo(&mut kept));
    assert!(!lab.outside.reaches(POD_B, 9000));

    // status
    let (status, code) = agent.json(&["status"]);
    assert_eq!(code, Some(0), "{status:#}");
    assert_eq!(status["local_pods"].as_array().map(Vec::len), Some(2));
    assert_eq!(status["local_pods"][1]["pod"], "two/b");
    assert_eq!(status["local_pods"][1]["gate"], json!({"ingress": "shut", "egress": "unjudged", "unfit": false}));
    let map = |name: &str| {
        let maps = status["maps"].as_array().expect("maps");
        maps.iter().find(|map| map["name"] == name).unwrap_or_else(|| panic!("{name}: {status:#}")).clone()
    };
    assert_eq!(map("PODS")["entries"], 2);
    assert_eq!(map("ADDRESSES")["entries"], 2);
    assert!(map("FLOWS")["entries"].as_u64() >= Some(1) && map("RANGES")["entries"].as_u64() >= Some(1));

    // flows
    let (flows, _) = agent.json(&["flows", "--pod", "one/a"]);
    let flow = &flows["flows"][0];
    assert_eq!((&flow["source_pod"], &flow["destination_pod"]), (&json!("one/a"), &json!("two/b")), "{flows:#}");
    assert_eq!((&flow["ingress_rule"]["policy"]["name"], &flow["state"]), (&json!("some"), &json!("live")));
    assert_eq!(flow["ingress_rule"]["peer"], 0);
    let (none, _) = agent.json(&["flows", "--pod", "one/nobody"]);
    assert_eq!(none, json!({"flows": [], "total": 0}));
    let (denied, _) = agent.json(&["flows", "--denied", "--pod", "two/b"]);
    assert_eq!(
        (&denied[0]["kind"], &denied[0]["isolated_by"][0]["name"]),
        (&json!("denied"), &json!("some")),
        "{denied:#}"
    );

    // policy
    let (report, _) = agent.json(&["policy", "two/b"]);
    assert_eq!(report["ingress"]["rest"], "shut", "{report:#}");
    let decision = &report["ingress"]["decisions"][0];
    assert_eq!((&decision["action"], &decision["rule"]["policy"]["name"]), (&json!("allow"), &json!("some")));
    let entries = decision["entries"].as_array().expect("entries");
    assert!(entries.iter().all(|entry| entry["peers"] == json!([POD_A]) && entry["protocol"] == "TCP"));
    let mut ports: Vec<(u64, u64)> = entries
        .iter()
        .map(|entry| (entry["ports"][0].as_u64().expect("a port"), entry["ports"][1].as_u64().expect("a port")))
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [(8999, 8999), (9000, 9003)]);
    assert_eq!(report["egress"], json!({"isolated_by": [], "decisions": [], "rest": "unjudged"}));
    let output = agent.ask(&["policy", "two/nobody"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("signalbox-enforcer status"), "{output:?}");

    // People get tables.
    for (words, part) in [
        (vec!["status"], "ENFORCING"),
        (vec!["flows"], "two/some ingress[0].from[0]"),
        (vec!["flows", "--denied"], "isolated by two/some"),
        (vec!["policy", "two/b"], "TCP 9000-9003"),
        (vec!["trace", "one/a", "two/b", "9000"], "allowed by two/some ingress[0].from[0]"),
    ] {
        let text = String::from_utf8(agent.ask(&words).stdout).expect("text");
        println!("$ signalbox-enforcer {}\n{text}", words.join(" "));
        assert!(text.contains(part), "{words:?}:\n{text}");
    }
    // Two agents would undo each other's work: the second one does not touch anything.
    let (_folder, mut second) = Agent::prepare(lab, &scene.api, &[]);
    second.env("SIGNALBOX_ENFORCER_SOCKET", &agent.socket);
    let output = second.output().expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && text.contains("another agent answers there"), "{text}");
    assert_eq!(agent.json(&["status"]).1, Some(0), "the first one goes on");
    assert!(!lab.outside.reaches(POD_B, 9000));

    assert!(scene.agent.process.end().success());
    assert!(!scene.agent.socket.exists(), "the socket goes with the agent");
    assert!(scene.lab.outside.reaches(POD_B, 9000), "nothing is left behind");
}

/// A question asks the very programs, agrees with the engine, and touches nothing of real traffic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_asks_both_and_leaves_nothing_behind() {
    if !can_run() {
        return;
    }
    let scene = scene(&[]).await;
    let agent = &scene.agent;
    scene.api.put(
        "networkpolicies",
        policy(
            "two/in",
            &["Ingress"],
            json!({"ingress": [
                {"from": [{"ipBlock": {"cidr": "198.51.100.0/24", "except": ["198.51.100.64/26"]}}]},
                {"from": [{"namespaceSelector": {}}], "ports": [{"port": 53, "protocol": "UDP"}]},
            ]}),
        ),
    );
    let version = scene.api.put(
        "networkpolicies",
        policy("one/out", &["Egress"], json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]})),
    );
    let before = agent.until_in_force(version);
    //        from       to       port          engine  kernel  decided by
    let cases = [
        ("one/a", "two/b", "53/udp", true, Some(true), "two/in ingress[1].from[0]"),
        ("one/a", "two/b", "53", false, Some(false), "isolated by two/in"),
        ("one/a", OUTSIDE, "443", false, Some(false), "isolated by one/out"),
        ("one/a", NODE, "443", false, Some(false), "isolated by one/out"),
        ("two/b", OUTSIDE, "443", true, Some(true), "no policy isolates"),
        ("198.51.100.7", "two/b", "80", true, Some(true), "two/in ingress[0].from[0]"),
        (OUTSIDE, "two/b", "80/sctp", false, Some(false), "isolated by two/in"),
        (NODE, "two/b", "80", true, Some(true), "allowed"),
        (POD_A, POD_B, "53/udp", true, Some(true), "two/in ingress[1].from[0]"),
        ("one/a", "one/a", "80", true, None, ""),
        ("203.0.113.1", "203.0.113.2", "80", true, None, ""),
    ];
    for (from, to, port, engine, kernel, by) in cases {
        // Twice: the first question must not answer the second.
        for _ in 0..2 {
            let (report, code) = agent.json(&["trace", from, to, port]);
            assert_eq!(report["engine"]["allowed"], engine, "{from} {to} {port}: {report:#}");
            assert_eq!(report["kernel"]["allowed"].as_bool(), kernel, "{from} {to} {port}: {report:#}");
            assert_eq!(report["agree"].as_bool(), kernel.map(|_| true), "{report:#}");
            let sentence = report["kernel"]["sentence"].as_str().unwrap_or_default();
            assert!(sentence.contains(by), "{from} {to} {port}: {sentence}");
            assert_eq!(code, Some(if engine { 0 } else { 2 }), "{report:#}");
        }
    }
    for (from, to, part) in [("one/zzz", "two/b", "no pod one/zzz"), ("fd00::9", "two/b", "no family")] {
        let output = agent.ask(&["trace", from, to, "80"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(part), "{output:?}");
    }
    let (after, _) = agent.json(&["status"]);
    assert_eq!(after["events"], before["events"], "no event, none left out");
    assert_eq!(after["maps"], before["maps"], "no flow, no count");
    assert_eq!(agent.json(&["flows", "--all"]).0["total"], 0);
    assert_eq!(agent.json(&["flows", "--denied"]).0, json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitor_reads_metrics_and_readiness() {
    if !can_run() {
        return;
    }
    let scene = scene(&[]).await;
    let (lab, agent) = (&scene.lab, &scene.agent);
    let rules = json!({"ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"port": 9000}]}]});
    let version = scene.api.put("networkpolicies", policy("two/some", &["Ingress"], rules));
    agent.until_in_force(version);
    for _ in 0..3 {
        assert!(lab.a.reaches(POD_B, 9000));
    }
    assert!(!lab.outside.reaches(POD_B, 9000));
    assert_eq!(agent.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(agent.get("/readyz"), (200, "ok\n".to_owned()));
    let (status, text) = agent.get("/metrics");
    assert_eq!(status, 200);
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name}\n{text}"))
    };
    let verdicts = |verdict: &str, by: &str| {
        value(&format!(
            "signalbox_node_verdicts_total{{kind=\"NetworkPolicy\",namespace=\"two\",policy=\"some\",direction=\"ingress\",verdict=\"{verdict}\",by=\"{by}\"}}"
        ))
    };
    assert_eq!(verdicts("allowed", "rule"), 3.0);
    assert!(verdicts("denied", "isolation") >= 1.0);
    assert_eq!(value("signalbox_node_pods{state=\"bound\"}"), 2.0);
    assert_eq!(value("signalbox_node_pods{state=\"missing\"}"), 0.0);
    assert_eq!(value("signalbox_node_map_entries{map=\"PODS\"}"), 2.0);
    assert_eq!(value("signalbox_node_events_total{outcome=\"lost\"}"), 0.0);
    assert!(value("signalbox_node_apply_seconds_count") >= 2.0 && value("signalbox_node_generation") >= 2.0);
    assert!(value("signalbox_node_apply_seconds_sum") > 0.0);
    assert_eq!(agent.get("/v1/status").0, 404, "pods and policies are told at the socket only");
    println!("{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_as_lines() {
    if !can_run() {
        return;
    }
    let scene = scene(&[]).await;
    let (lab, agent) = (&scene.lab, &scene.agent);
    let all = policy("two/some", &["Ingress"], json!({"ingress": [{"from": [{"namespaceSelector": {}}]}]}));
    let version = scene.api.put("networkpolicies", all);
    agent.until_in_force(version);
    let mut command = std::process::Command::new(support::agent::BINARY);
    command.args(["events", "-n", "3", "--socket"]).arg(&agent.socket).stdout(std::process::Stdio::piped());
    let mut follower = Process(command.spawn().expect("the binary runs"));
    // Its question is on its way: only what comes after it is told.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut stream = lab.a.connect(POD_B, 9000, std::time::Duration::from_secs(1)).expect("allowed");
    assert!(support::echo(&mut stream));
    assert!(!lab.outside.reaches(POD_B, 9000));
    let version = scene.api.put("networkpolicies", policy("two/some", &["Ingress"], json!({})));
    agent.until_in_force(version);
    assert!(!support::echo_soon(&mut stream), "cut");
    let mut text = String::new();
    let mut out = follower.0.stdout.take().expect("piped");
    std::io::Read::read_to_string(&mut out, &mut text).expect("text");
    let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["kind"].as_str()).collect();
    assert_eq!(kinds, ["new-flow", "denied", "cut"], "{text}");
    assert_eq!(events[0]["rule"]["policy"]["name"], "some");
    assert_eq!(events[2]["source_pod"], "one/a", "{text}");
    println!("{text}");
}

#[test]
fn without_an_agent_the_remedy_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("none.sock");
    for words in
        [vec!["status"], vec!["flows"], vec!["events"], vec!["policy", "a/b"], vec!["trace", "a/b", "c/d", "80"]]
    {
        let mut command = std::process::Command::new(support::agent::BINARY);
        let output = command.args(&words).arg("--socket").arg(&socket).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("no enforcer runs here") && text.contains("--node NAME"), "{words:?}: {text}");
    }
}
