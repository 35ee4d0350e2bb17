//! Audit, for the node and for one policy, with real connections.

mod support;

use serde_json::{Value, json};
use support::{
    Echo, Lab, OUTSIDE, POD_B, Space,
    agent::{Agent, Process, furnish},
    api::Api,
    can_run, policy,
};

fn in_audit(mut policy: Value) -> Value {
    policy["metadata"]["annotations"] = json!({"signalbox.dev/audit": "true"});
    policy
}

async fn scene(more: &[&str]) -> (Lab, Api, Agent, Vec<Echo>, [Process; 2]) {
    let lab = Lab::new();
    let servers = [&lab.a, &lab.b, &lab.outside].map(|space: &Space| Echo::new(space, 9000));
    let pods = [&lab.a, &lab.b].map(Process::sleeping);
    let api = Api::start().await;
    furnish(&api);
    let agent = Agent::start(&lab, &api, more);
    (lab, api, agent, servers.into(), pods)
}

fn kinds(agent: &Agent) -> Vec<(String, String)> {
    let (denials, _) = agent.json(&["flows", "--denied"]);
    let denials = denials.as_array().expect("a list").clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    denials.iter().map(|event| (text(&event["kind"]), text(&event["isolated_by"][0]["name"]))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_in_audit_lets_everything_pass() {
    if !can_run() {
        return;
    }
    let (lab, api, agent, _servers, _pods) = scene(&["--audit"]).await;
    api.put("networkpolicies", policy("one/shut", &["Ingress", "Egress"], json!({})));
    let version = api.put("networkpolicies", policy("two/shut", &["Ingress", "Egress"], json!({})));
    let status = agent.until_in_force(version);
    assert_eq!(status["audit"], true);
    assert!(status["problems"].to_string().contains("in audit"), "whoever reads the status is told: {status:#}");
    let mut stream = lab.a.connect(POD_B, 9000, std::time::Duration::from_secs(1)).expect("it is let pass");
    assert!(support::echo(&mut stream), "there and back");
    assert!(lab.a.reaches_udp(POD_B, 9000) && lab.a.pings(POD_B) && lab.a.reaches(OUTSIDE, 9000));
    assert!(lab.outside.reaches(POD_B, 9000));
    let told = kinds(&agent);
    assert!(told.iter().all(|(kind, _)| kind == "would-be-denied"), "{told:?}");
    assert_eq!(told.len(), 5, "one for each flow, none for its replies: {told:?}");
    let (_, metrics) = agent.get("/metrics");
    let would_be = metrics.lines().filter(|line| line.contains(r#"verdict="would-be-denied""#));
    let counts: Vec<u64> = would_be.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    assert_eq!(counts.iter().sum::<u64>(), 5, "{metrics}");
    assert!(metrics.contains("signalbox_node_audit 1") && !metrics.contains(r#"verdict="denied""#), "{metrics}");
    let (flows, _) = agent.json(&["flows"]);
    assert!(
        flows["flows"].as_array().is_some_and(|flows| flows.iter().all(|flow| flow["state"] == "audited")),
        "{flows:#}"
    );
    // A flow that begins to be denied lives on.
    let version = api.put("networkpolicies", policy("two/more", &["Ingress"], json!({})));
    agent.until_in_force(version);
    assert!(support::echo_soon(&mut stream));
    let (trace, code) = agent.json(&["trace", "one/a", "two/b", "9000"]);
    assert_eq!((&trace["agree"], code), (&json!(true), Some(2)), "{trace:#}");
}

/// A policy in audit isolates nobody. What it would deny is told; what the others deny is denied, and not told twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_policy_in_audit_decides_nothing_and_tells_what_it_would_deny() {
    if !can_run() {
        return;
    }
    let (lab, api, agent, _servers, _pods) = scene(&[]).await;
    let from_one = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "one"}}});
    let trial = policy("two/trial", &["Ingress"], json!({"ingress": [{"from": [from_one]}]}));
    let version = api.put("networkpolicies", in_audit(trial.clone()));
    let status = agent.until_in_force(version);
    assert_eq!(status["policies_in_audit"], json!(["NetworkPolicy two/trial"]));
    assert!(lab.a.reaches(POD_B, 9000), "its rule allows it");
    assert_eq!(kinds(&agent), []);
    assert!(lab.outside.reaches(POD_B, 9000), "let pass");
    assert_eq!(kinds(&agent), [("would-be-denied".to_owned(), "trial".to_owned())]);
    let (_, metrics) = agent.get("/metrics");
    let counted = r#"verdicts_total{kind="NetworkPolicy",namespace="two",policy="trial",direction="ingress",verdict="would-be-denied",by="isolation"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    let (report, _) = agent.json(&["policy", "two/b"]);
    assert_eq!((&report["ingress"]["rest"], &report["audit"]["ingress"]["rest"]), (&json!("unjudged"), &json!("shut")));
    assert_eq!(report["audit"]["ingress"]["decisions"][0]["rule"]["policy"]["name"], "trial", "{report:#}");
    let (trace, code) = agent.json(&["trace", OUTSIDE, "two/b", "9000"]);
    assert_eq!((&trace["agree"], code), (&json!(true), Some(0)), "{trace:#}");
    assert!(
        trace["notes"].to_string().contains("in audit it would be denied on ingress: isolated by two/trial"),
        "{trace:#}"
    );

    // Beside a policy that is enforced: the real verdict is that one's alone.
    let real =
        policy("two/real", &["Ingress"], json!({"ingress": [{"from": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]}]}));
    let version = api.put("networkpolicies", real);
    agent.until_in_force(version);
    assert!(!lab.a.reaches(POD_B, 9000), "what only the policy in audit allows is denied");
    assert!(lab.outside.reaches(POD_B, 9000));
    let told = kinds(&agent);
    assert_eq!(told[0], ("denied".to_owned(), "real".to_owned()), "{told:?}");
    assert_eq!(told.iter().filter(|(kind, _)| kind == "would-be-denied").count(), 1, "together they allow: {told:?}");

    // Enforced at last.
    api.remove("networkpolicies", "two", "real");
    let version = api.put("networkpolicies", trial);
    agent.until_in_force(version);
    assert!(!lab.outside.reaches(POD_B, 9000) && lab.a.reaches(POD_B, 9000));
    let (report, _) = agent.json(&["policy", "two/b"]);
    assert_eq!((&report["ingress"]["rest"], report["audit"].is_null()), (&json!("shut"), true));
}
