//! Policies that are not enforced entirely are told: status, metrics, and Events on the policy.

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{
    Lab,
    agent::{Agent, Process, furnish},
    api::Api,
    can_run, policy,
};

fn until_events(api: &Api, count: usize) -> Vec<(String, String, String)> {
    let end = Instant::now() + Duration::from_secs(10);
    while api.events().len() < count && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = |event: &Value| (text(&event["reason"]), text(&event["regarding"]["name"]), text(&event["note"]));
    api.events().iter().map(told).collect()
}

async fn scene(more: &[&str]) -> (Lab, Api, Agent, [Process; 2]) {
    let lab = Lab::new();
    let pods = [&lab.a, &lab.b].map(Process::sleeping);
    let api = Api::start().await;
    furnish(&api);
    let agent = Agent::start(&lab, &api, more);
    (lab, api, agent, pods)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_understood_is_told_on_the_policy_and_taken_back() {
    if !can_run() {
        return;
    }
    let (_lab, api, agent, _pods) = scene(&[]).await;
    let odd = json!({"ingress": [{"ports": [{"port": 80, "protocol": "QUIC"}]}]});
    let version = api.put("networkpolicies", policy("two/odd", &["Ingress"], odd));
    agent.until_in_force(version);
    let status = agent.until("the condition is told", |status| status["conditions"] != json!([]));
    let condition = &status["conditions"][0];
    assert_eq!(
        (&condition["object"], &condition["reason"]),
        (&json!("NetworkPolicy two/odd"), &json!("NotUnderstood"))
    );
    assert_eq!(condition["path"], "spec.ingress[0].ports[0].protocol", "{status:#}");
    assert_eq!(agent.json(&["status"]).1, Some(2), "the exit status tells as well");
    let (_, metrics) = agent.get("/metrics");
    assert!(
        metrics.contains("signalbox_node_conditions{object=\"NetworkPolicy two/odd\",reason=\"NotUnderstood\"} 1"),
        "{metrics}"
    );
    let events = until_events(&api, 1);
    assert_eq!((events[0].0.as_str(), events[0].1.as_str()), ("PartiallyEnforced", "odd"));
    assert!(
        events[0].2.contains("on node n") && events[0].2.contains("spec.ingress[0].ports[0].protocol"),
        "{events:?}"
    );
    println!("{}", String::from_utf8_lossy(&agent.ask(&["status"]).stdout));

    // Other changes say nothing new.
    let version = api.put("networkpolicies", policy("one/other", &["Ingress"], json!({})));
    agent.until_in_force(version);
    let sound = json!({"ingress": [{"ports": [{"port": 80}]}]});
    let version = api.put("networkpolicies", policy("two/odd", &["Ingress"], sound));
    agent.until_in_force(version);
    agent.until("the condition is gone", |status| status["conditions"] == json!([]));
    let events = until_events(&api, 2);
    assert_eq!(events.len(), 2, "{events:#?}");
    assert_eq!((events[1].0.as_str(), events[1].1.as_str()), ("Enforced", "odd"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_table_is_told_on_the_policies_that_suffer_and_without_rights_too() {
    if !can_run() {
        return;
    }
    let (_lab, api, agent, _pods) = scene(&["--policies", "16"]).await;
    api.refuses_events.store(true, std::sync::atomic::Ordering::Relaxed);
    let ports: Vec<Value> = (9000..9100).map(|port| json!({"port": port})).collect();
    let began = Instant::now();
    let version = api.put("networkpolicies", policy("two/large", &["Ingress"], json!({"ingress": [{"ports": ports}]})));
    agent.until_in_force(version);
    let status = agent.until("the condition is told", |status| status["conditions"] != json!([]));
    let gauge = "signalbox_node_conditions{object=\"NetworkPolicy two/large\",reason=\"MapFull\"} 1";
    let metrics = agent.get("/metrics").1;
    assert!(metrics.contains(gauge), "{metrics}");
    assert!(began.elapsed() < Duration::from_secs(5));
    let condition = &status["conditions"][0];
    assert_eq!((&condition["object"], &condition["reason"]), (&json!("NetworkPolicy two/large"), &json!("MapFull")));
    assert!(condition["message"].as_str().is_some_and(|it| it.contains("two/b") && it.contains("--policies")));
    let status = agent.until("the refusal is told", |status| status["notices"] != json!([]));
    assert!(status["notices"].to_string().contains("events.k8s.io"), "{status:#}");
    assert!(agent.get("/metrics").1.contains("signalbox_node_condition_events_refused_total 1"));
    assert_eq!(api.events(), [] as [Value; 0]);
    // With the rights it is written with the next change.
    api.refuses_events.store(false, std::sync::atomic::Ordering::Relaxed);
    let version = api.put("networkpolicies", policy("two/large", &["Ingress"], json!({})));
    agent.until_in_force(version);
    agent.until("the condition is gone", |status| status["conditions"] == json!([]));
}
