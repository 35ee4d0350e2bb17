//! The API is away, or slow.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    bench::{Bench, pause},
    support::{OUTSIDE, POD_B, can_run, policy},
};

/// The API is away, also while the agent starts, and is slow when it comes back: what was in force stays, and what was
/// changed meanwhile comes into force afterwards.
#[test]
fn an_api_that_is_away_or_slow_changes_nothing() {
    if !can_run() {
        return;
    }
    let bench = Bench::new(false);
    let mut agent = bench.agent();
    agent.until_enforcing();
    let load = bench.load();
    bench.api.set_away(true);
    pause(1500);
    agent.kill();
    let mut agent = bench.agent();
    agent.until("it waits", Duration::from_secs(20), |status| {
        status.problems.iter().any(|problem| problem.contains("the process before stay in force"))
    });
    pause(1500);
    bench.api.set_slow(Duration::from_millis(500));
    bench.api.set_away(false);
    agent.until("the API is back", Duration::from_secs(45), |status| status.enforcing && status.pods == 2);
    load.finish();
    // Away again, and now the policies change.
    bench.api.set_slow(Duration::ZERO);
    bench.api.set_away(true);
    // Connections that are open end a moment later.
    pause(200);
    let policy = policy("two/only-a", &["Ingress"], json!({}));
    bench.api.tell("networkpolicies", "MODIFIED", policy, 7);
    pause(1000);
    // On a busy machine one try may be late; the change would deny them all.
    assert!((0..5).any(|_| bench.lab.a.reaches(POD_B, 9000)), "nobody knows of it yet");
    bench.api.set_away(false);
    agent.until("the change", Duration::from_secs(60), |status| status.policies_version == 7 && status.enforcing);
    assert!(!bench.lab.a.reaches(POD_B, 9000), "the rule is gone");
    assert!(bench.lab.b.reaches(OUTSIDE, 9000), "and egress is open");
}

/// The API is away for a whole minute in which the policies change again and again: the old ones hold for every packet of that
/// minute, and when it is back the last ones come into force, and none of those between.
#[test]
fn an_api_that_is_away_for_a_minute_while_policies_change() {
    const MINUTE: Duration = Duration::from_secs(60);
    if !can_run() {
        return;
    }
    let bench = Bench::new(false);
    let mut agent = bench.agent();
    agent.until_enforcing();
    let load = bench.load();
    pause(200);
    let began = Instant::now();
    bench.api.set_away(true);
    let mut version = 100;
    while began.elapsed() < MINUTE {
        // Each would cut what is open, or open what is shut.
        let rules = [json!({}), json!({"ingress": [{}]})];
        let changed = policy("two/only-a", &["Ingress", "Egress"], rules[version as usize % 2].clone());
        version += 1;
        bench.api.tell("networkpolicies", "MODIFIED", changed.clone(), version);
        bench.api.replace("networkpolicies", vec![changed]);
        pause(2000);
    }
    let tally = load.finish();
    println!("{} changes while it was away for {:?}: {tally:?}", version - 100, began.elapsed());
    // The last one: everybody may reach b but those who could.
    let block = json!([{"ipBlock": {"cidr": format!("{OUTSIDE}/32")}}]);
    let mut last = policy("two/only-a", &["Ingress"], json!({"ingress": [{"from": block}]}));
    version += 1;
    last["metadata"]["resourceVersion"] = version.to_string().into();
    bench.api.tell("networkpolicies", "MODIFIED", last.clone(), version);
    bench.api.replace("networkpolicies", vec![last]);
    assert!(!bench.lab.outside.reaches(POD_B, 9000), "nobody knows of it yet");
    let back = Instant::now();
    bench.api.set_away(false);
    agent.until("it is in force", Duration::from_secs(60), |status| {
        status.policies_version == version && status.enforcing
    });
    println!("in force {:?} after the API was back", back.elapsed());
    assert!(bench.lab.outside.reaches(POD_B, 9000) && !bench.lab.a.reaches(POD_B, 9000));
    assert!(bench.lab.b.reaches(OUTSIDE, 9000), "and egress is open");
}
