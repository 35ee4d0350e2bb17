use signalbox_api::cell::{Agreement, KernelFact, Outcome};

use super::facts::{compare, decided, lines};
use super::inside::{self, wish};
use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

#[test]
fn ends_get_the_namespace_that_they_do_not_name() {
    let line = Line::try_parse_from(["why", "web", "db:5432/TCP", "-n", "shop"]).unwrap();
    for (end, expected) in [
        ("web", "shop/web"),
        ("a/web", "a/web"),
        ("db:5432", "shop/db:5432"),
        ("db:5432/TCP", "shop/db:5432/TCP"),
        ("a/db:5432/TCP", "a/db:5432/TCP"),
        ("198.51.100.7:80/TCP", "198.51.100.7:80/TCP"),
        ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ("2001:db8::1", "2001:db8::1"),
        ("node", "node"),
        // As kubectl writes a Service.
        ("service/db:80", "shop/service/db:80"),
        ("svc/db", "shop/svc/db"),
        ("a/service/db:80/UDP", "a/service/db:80/UDP"),
        ("service/pod/db:80", "service/pod/db:80"),
    ] {
        assert_eq!(full(end, &line.args), expected, "{end}");
    }
}

#[test]
fn what_was_tried_is_held_against_the_policies() {
    for (verdicts, outcome, expected) in [
        (&["allowed"][..], Outcome::Open, Agreement::Agree),
        (&["allowed"], Outcome::Refused, Agreement::Agree),
        (&["allowed"], Outcome::Dropped, Agreement::Disagree),
        (&["denied"], Outcome::Dropped, Agreement::Agree),
        (&["denied", "denied"], Outcome::Open, Agreement::Disagree),
        (&["allowed", "denied"], Outcome::Open, Agreement::Unsettled),
        (&["unknown"], Outcome::Open, Agreement::Unsettled),
        (&["allowed"], Outcome::ProbeBroken, Agreement::Unsettled),
        (&["denied"], Outcome::DnsFailed, Agreement::Unsettled),
        (&[], Outcome::Open, Agreement::Unsettled),
    ] {
        assert_eq!(compare(&verdicts.iter().copied().collect(), outcome), expected, "{verdicts:?} {outcome}");
    }
}

#[test]
fn what_explain_names_is_what_the_server_is_asked_to_try() {
    let spec = |from: &str| serde_json::json!({"from": from, "protocol": "UDP"});
    for (from, to, host) in [
        ("a/x", "b/y", Some("pod:b/y")),
        ("a/x", "198.51.100.20", Some("198.51.100.20")),
        ("a/x", "fd00::1", Some("fd00::1")),
        ("a/x", "198.51.100.0/24", None),
        ("198.51.100.20", "b/y", None),
        ("a/x", "node", None),
    ] {
        let wish = wish(&spec(from), to, 9000);
        assert_eq!(wish.as_ref().map(|wish| wish.to.host.as_str()), host, "{from} {to}");
        let Some(wish) = wish else { continue };
        assert_eq!((wish.to.port, wish.to.protocol), (9000, signalbox_api::flow::Protocol::Udp));
    }
    let line = |flags: &[&str]| Line::try_parse_from([&["why", "a/x", "b/y:1"], flags].concat());
    assert!(line(&["--in-pod"]).is_ok());
    assert!(line(&["--in-pod", "--stand-in"]).is_err() && line(&["--in-pod", "--no-probe"]).is_err());
}

fn kernel(value: serde_json::Value) -> KernelFact {
    serde_json::from_value(value).unwrap()
}

/// It was "denied, generation 13", with neither side nor policy.
#[test]
fn what_the_kernel_decided_is_told_with_side_and_policies() {
    let policy = serde_json::json!({"kind": "NetworkPolicy", "namespace": "shop", "name": "api"});
    let denied = kernel(serde_json::json!({
        "decision": "denied", "direction": "ingress", "isolated_by": [policy], "generation": 13, "at_ms": 1,
    }));
    assert_eq!(decided(&denied), ("denied", " on the ingress side, isolated by shop/api, generation 13".to_owned()));
    let bare = kernel(serde_json::json!({"decision": "denied", "generation": 2, "at_ms": 1}));
    assert_eq!(decided(&bare), ("denied", ", generation 2".to_owned()));
}

fn endpoint(id: &str, port: u16) -> serde_json::Value {
    let (kind, path) = id.split_once(':').unwrap();
    let namespace = path.split_once('/').map(|(namespace, _)| namespace);
    let name = path.rsplit('/').next().unwrap();
    let workload = if namespace.is_some() { path.to_owned() } else { format!("outside/{name}") };
    serde_json::json!({
        "id": id, "kind": kind, "namespace": namespace, "name": name, "workload": workload, "addresses": ["192.0.2.7"],
        "labels": {}, "ports": [{"port": port, "protocol": "TCP"}], "ready": true, "vantage": true,
    })
}

/// The note said "declares no port 53/UDP, or is left out" of a pod that declares it, and `open from /users`.
#[test]
fn a_cell_that_is_not_there_is_told_by_its_cause() {
    let endpoints = ["pod:shop/web", "outside:users"].map(|id| serde_json::from_value(endpoint(id, 80)).unwrap());
    let mut snapshot = Snapshot { endpoints: endpoints.into(), ..Snapshot::default() };
    for (to, port, expected) in [
        ("kube-system/coredns-1", "53/UDP", "it has no pod of the namespace kube-system, which is left out of it"),
        ("shop/web", "8080/TCP", "shop/web declares no port 8080/TCP"),
        ("shop/web", "80/TCP", "shop/web is left out, although it declares port 80/TCP"),
        ("shop/gone", "80/TCP", "shop/gone is not in it"),
        ("192.0.2.9", "80/TCP", "no ExternalHost has the address 192.0.2.9"),
    ] {
        assert_eq!(missing(&snapshot, end(&snapshot, to), to, port), expected);
    }
    assert_eq!(snapshot.endpoints.iter().map(called).collect::<Vec<_>>(), ["shop/web", "outside/users"]);
    let viewer = serde_json::json!({"name": "ann", "via": "token", "all_namespaces": false});
    snapshot.viewer = serde_json::from_value(viewer).ok();
    assert!(snapshot.viewer.is_some());
    assert!(missing(&snapshot, None, "data/db", "80/TCP").contains("or none that you may see"));
}

/// Each pod behind a Service has its own three facts, and those of the Service's address are not taken for theirs.
#[test]
fn each_pod_behind_a_service_has_facts_of_its_own() {
    let answer = |to: &str, port: u16, verdict: &str| serde_json::json!({"to": to, "port": port, "verdict": verdict});
    let spec = serde_json::json!({
        "from": "shop/web", "to": "shop/service/api", "port": 80, "protocol": "TCP",
        "service": {"name": "shop/api", "verdict": "differs"},
        "answers": [answer("shop/api-1", 8080, "allowed"), answer("shop/api-2", 9090, "denied")],
    });
    let mut backends = backends(&spec);
    assert_eq!(
        backends.iter().map(|one| (one.to.as_str(), one.port)).collect::<Vec<_>>(),
        [("shop/api-1", 8080), ("shop/api-2", 9090)]
    );
    backends[1].in_pod = serde_json::from_value(serde_json::json!({
        "from": "shop/web", "node": "n1", "to": {"host": "pod:shop/api-2", "port": 9090, "protocol": "TCP"}, "remote": null,
        "probe": {"outcome": "dropped", "evidence": "timeout", "latency_us": null, "detail": null, "at_ms": 1},
        "kernels": [], "elapsed_us": 1,
    }))
    .unwrap();
    let live = Live { backends, ..Live::default() };
    let told: Vec<String> = lines(&live, &spec)
        .into_iter()
        .map(|(word, text)| anstream::adapter::strip_str(&format!("{word}: {text}")).to_string())
        .collect();
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    assert_eq!(told[0], "service: shop/api port 80, by its own address");
    assert_eq!(told[1], "probe: nothing was tried");
    let of = |name: &str| told.iter().position(|line| line.starts_with(&format!("backend: {name} "))).unwrap();
    let (first, second) = (of("shop/api-1"), of("shop/api-2"));
    assert_eq!(told[first], "backend: shop/api-1 port 8080: the policies say allowed");
    assert!(told[first..second].contains(&"probe: nothing was tried"), "{told:#?}");
    assert!(told[second..].iter().any(|line| line.starts_with("in pod: dropped")), "{told:#?}");
    assert!(told[second..].contains(&"facts: all that is known says the same"), "{told:#?}");
    assert!(!told[..second].iter().any(|line| line.contains("says the same")), "{told:#?}");
}

/// `--timeout` was given to each of up to eight attempts, one after another: the command took eight times as long as it may.
#[tokio::test]
async fn all_attempts_from_inside_of_a_pod_share_the_time_that_there_is() {
    use std::cell::{Cell, RefCell};

    let answers: Vec<_> = (1..=10)
        .map(|number| serde_json::json!({"to": format!("shop/api-{number}"), "port": 80, "verdict": "denied"}))
        .collect();
    let mut backends = backends(&serde_json::json!({"answers": answers}));
    let report: ProbeReport = serde_json::from_value(serde_json::json!({
        "from": "shop/web", "node": "n1", "to": {"host": "pod:shop/api-1", "port": 80, "protocol": "TCP"}, "remote": null,
        "probe": {"outcome": "dropped", "evidence": "timeout", "latency_us": null, "detail": null, "at_ms": 1},
        "kernels": [], "elapsed_us": 1,
    }))
    .unwrap();
    let (begun, now, most) = (RefCell::new(Vec::new()), Cell::new(0), Cell::new(0));
    // The first two answer, the second of them sooner; the third is refused; who comes then never answers.
    let attempt = async |to: String, _port: u16| {
        begun.borrow_mut().push(to.clone());
        now.set(now.get() + 1);
        most.set(most.get().max(now.get()));
        match to.as_str() {
            "shop/api-1" => tokio::time::sleep(Duration::from_millis(20)).await,
            "shop/api-2" | "shop/api-3" => {}
            _ => std::future::pending().await,
        }
        now.set(now.get() - 1);
        if to == "shop/api-3" { Err("the server says so".to_owned()) } else { Ok(report.clone()) }
    };
    let within = Duration::from_millis(400);
    let since = std::time::Instant::now();
    let notes = inside::each(&mut backends, within, attempt).await;
    let took = since.elapsed();
    assert!(took >= within && took < 3 * within, "{took:?}");
    let tried: Vec<bool> = backends.iter().map(|backend| backend.in_pod.is_some()).collect();
    assert_eq!(tried, [true, true, false, false, false, false, false, false, false, false]);
    assert_eq!((begun.borrow().len(), most.get()), (5, 2), "{begun:?}");
    let begins = |at: usize, text: &str| assert!(notes[at].starts_with(text), "{text}: {notes:#?}");
    begins(0, "shop/api-3 was not tried from inside of the pod: the server says so");
    for (at, number) in [(1, 4), (2, 5)] {
        begins(
            at,
            &format!(
                "no answer about shop/api-{number}, whether or not it was tried from inside of the pod, in what was left of the 400 ms"
            ),
        );
    }
    for (at, number) in [(3, 6), (4, 7), (5, 8)] {
        begins(
            at,
            &format!("shop/api-{number} was not tried from inside of the pod: the 400 ms for all of them were over"),
        );
    }
    begins(6, "2 more pods behind the Service");
    assert_eq!(notes.len(), 7, "{notes:#?}");
}
