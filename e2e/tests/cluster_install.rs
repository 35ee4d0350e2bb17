//! From `signalbox install` to `signalbox uninstall`, on a real Kubernetes of two nodes.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use signalbox_api::cell::Outcome;
use signalbox_api::state::Enforcement;
use signalbox_e2e::cluster::dashboard::{self, Dashboard};
use signalbox_e2e::cluster::leftovers::{nothing_left_on, objects, pins, uninstall};
use signalbox_e2e::cluster::outside::Outside;
use signalbox_e2e::cluster::{Cluster, Cni, NODES, VERSION, lesson, standins};
use signalbox_e2e::lab::binary;
use signalbox_e2e::lesson::STEPS;
use signalbox_e2e::shell;

/// The hosts outside, as the cluster shall know them: DNS answers for their names.
const OUTSIDE: &str = include_str!("../../assets/lab/2-outside.yaml");

#[test]
fn a_cluster_from_install_to_uninstall_on_point_to_point_links() -> Result<()> {
    walk(Cni::Ptp)
}

#[test]
fn a_cluster_from_install_to_uninstall_on_a_bridge() -> Result<()> {
    walk(Cni::Bridge)
}

fn walk(cni: Cni) -> Result<()> {
    let cluster = Cluster::start(cni)?;
    let before = objects(&cluster)?;
    install(&cluster, &["--allow-apply", "--allow-real-pods"])?;
    cluster.apply(OUTSIDE)?;
    let outside = Outside::start(&cluster)?;
    lesson::deploy(&cluster)?;
    let pods = lesson::pods(&cluster)?;
    let dashboard = Dashboard::find(&cluster)?;
    let admin = dashboard.user("on-call", "cluster-admin", None)?;
    let users = dashboard.join()?;
    let follow = |step| {
        let tried = lesson::check(&cluster, &outside, &pods, step)?;
        // 15 cells from two pods each, and users at both nodes.
        ensure!(tried.len() == 36, "step {}: {} connections", step.number, tried.len());
        enforced(&cluster)?;
        let cells = dashboard.agrees(&admin, step)?;
        // Six pods and the users, to each other, to the Services and to the outside: 113 while there are two pods of each workload.
        ensure!(cells.len() > 100, "step {}: the server sees {} cells only", step.number, cells.len());
        eprintln!(
            "step {}: {} connections as the lesson has them; policies, probes and kernels agree on {} cells",
            step.number,
            tried.len(),
            cells.len()
        );
        Ok(())
    };
    let (last, steps) = STEPS.split_last().context("the lesson has steps")?;
    steps.iter().try_for_each(follow)?;
    let told = std::thread::scope(|scope| {
        let watching = scope.spawn(|| dashboard.watch(&admin, "backend", Duration::from_secs(20)));
        follow(last)?;
        watching.join().map_err(|_| anyhow!("the watching thread panicked"))?
    })?;
    let opens = |line: &serde_json::Value| {
        let is = |field: &str, what: &str| line[field].as_str().is_some_and(|text| text.contains(what));
        let facts = [("spec", "allowed"), ("probe", "open"), ("kernel", "allowed"), ("agreement", "agree")];
        is("from", "web") && is("to", "extsvc") && facts.iter().all(|(fact, what)| is(fact, what))
    };
    ensure!(told.iter().any(opens), "`watch` does not tell what the last step opens: {told:#?}");
    why(&dashboard, &admin)?;
    a_stand_in(&cluster, &dashboard, &admin)?;
    inside_of_a_pod(&cluster, &dashboard, &admin)?;
    others_see_their_namespaces(&dashboard)?;
    let conformance = conformance(&dashboard, &admin)?;
    drop(users);
    for node in NODES {
        ensure!(!pins(&cluster, node)?.is_empty(), "{node} has no pins: nothing is enforced there");
    }
    let said = uninstall(&cluster)?.ok()?;
    for node in NODES {
        ensure!(said.contains(&format!("node {node}: detached: ")), "{node} was not cleaned:\n{said}");
        nothing_left_on(&cluster, node)?;
    }
    // The policies are still there: if a program stood anywhere, something would be shut.
    lesson::all_open_to_addresses(&cluster, &outside, &pods)?;
    nobody_enforces(&cluster, &outside, &pods)?;
    // What the lesson put in is not ours to take away.
    remove_the_lesson(&cluster)?;
    let left: BTreeSet<String> = objects(&cluster)?.difference(&before).cloned().collect();
    ensure!(left.is_empty(), "left in the cluster: {left:#?}");
    let again = uninstall(&cluster)?.ok()?;
    ensure!(again.contains("nothing of Signalbox is in this cluster"), "the second time: {again}");
    ensure!(conformance < Duration::from_secs(120), "{conformance:?} for all sets of policies");
    Ok(())
}

/// `signalbox install | kubectl apply -f -`.
fn install(cluster: &Cluster, arguments: &[&str]) -> Result<()> {
    let manifests = shell::run(Command::new(binary()?).arg("install").args(arguments), None)?.ok()?;
    cluster.apply(&manifests)?;
    cluster.rolled_out("signalbox-system", "daemonset/signalbox-enforcer")
}

/// The on-call's command finds the server by itself, and has all three facts of it.
fn why(dashboard: &Dashboard<'_>, admin: &dashboard::User) -> Result<()> {
    for (to, wanted, exit) in [("backend/dbsvc:9000", "allowed", 0), ("backend/extsvc:9000", "allowed", 0)] {
        let ran = dashboard.command(admin, &["why", "frontend/web", to, "--output=json"])?;
        let live = dashboard::live(&ran)?;
        let facts = ["/cell/spec/decision", "/cell/kernel/decision"].map(|path| live.pointer(path).cloned());
        ensure!(facts.iter().flatten().filter(|fact| **fact == wanted).count() == 2, "{to}: {live:#}\n{}", ran.stderr);
        ensure!(live.pointer("/cell/probe/outcome") == Some(&"open".into()), "{to}: {live:#}");
        ensure!(ran.status == Some(exit) && ran.stderr.contains("through the cluster's API"), "{to}: {ran:#?}");
    }
    let ran = dashboard.command(admin, &["why", "backend/dbsvc", "frontend/web:9000", "--output=json"])?;
    let live = dashboard::live(&ran)?;
    ensure!(live.pointer("/cell/kernel/decision") == Some(&"denied".into()), "{live:#}");
    ensure!(ran.status == Some(1), "{ran:#?}");
    // For people, and as kubectl's plugin: which policy it is, since when, and what would have let it in.
    let ran = dashboard.plugin(admin, &["why", "backend/dbsvc", "frontend/web:9000"])?;
    for word in ["zero-trust", "ago", "nearest"] {
        ensure!(ran.stdout.contains(word), "{word}: {ran:#?}");
    }
    ensure!(ran.status == Some(1), "{ran:#?}");
    Ok(())
}

/// Tried from a pod that stands in for another with the same labels: no Service sends it anything, and nothing is left of it.
fn a_stand_in(cluster: &Cluster, dashboard: &Dashboard<'_>, admin: &dashboard::User) -> Result<()> {
    let backends = || {
        let path = "jsonpath={.subsets[*].addresses[*].ip}";
        let printed = cluster.kubectl(&["-n", "frontend", "get", "endpoints", "web", "-o", path])?;
        Ok::<_, anyhow::Error>(printed.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>())
    };
    let stand_ins = || standins::all(cluster, "frontend");
    let before = backends()?;
    let (ran, seen) = std::thread::scope(|scope| {
        let arguments =
            ["test", "--like=deployment/web", "--namespace=frontend", "--keep-service-labels", "--output=json"];
        let testing = scope.spawn(move || dashboard.command(admin, &arguments));
        let mut seen = 0;
        while !testing.is_finished() {
            seen = seen.max(stand_ins()?.len());
            ensure!(backends()? == before, "Services send the stand-in something");
        }
        let ran = testing.join().map_err(|_| anyhow!("the testing thread panicked"))??;
        Ok((ran, seen))
    })?;
    ensure!(seen >= 2, "neither Job nor pod was seen, but {seen}: {ran:#?}");
    let printed: serde_json::Value = serde_json::from_str(&ran.stdout).with_context(|| format!("{ran:#?}"))?;
    let outcome = |to: &str| {
        let mut checks = printed["checks"].as_array().into_iter().flatten();
        checks.find(|check| check["to"] == to).map(|check| check["outcome"].clone())
    };
    // As the lesson's last step has it for the one that it stands in for.
    for (to, wanted) in [("backend/dbsvc", "open"), ("backend/extsvc", "open"), ("outside/database", "dropped")] {
        ensure!(outcome(to) == Some(wanted.into()), "{to}: {printed:#}");
    }
    ensure!(printed["agree"] == true && ran.status == Some(0), "{ran:#?}");
    cluster.wait(Duration::from_secs(30), "nothing is left of the stand-in", || {
        let left = stand_ins()?;
        Ok(if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) })
    })
}

/// A pod that carries no probe, tried from its own network namespace.
fn inside_of_a_pod(cluster: &Cluster, dashboard: &Dashboard<'_>, admin: &dashboard::User) -> Result<()> {
    let pod = |name: &str| {
        let container = json!({
            "name": "it", "image": format!("signalbox/probe:{VERSION}"), "imagePullPolicy": "IfNotPresent",
            "args": ["serve", "--name", name, "--port", "TCP/9000"], "ports": [{"containerPort": 9000}],
        });
        let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [container]});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
    };
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [pod("real"), pod("other")]});
    cluster.apply(&list.to_string())?;
    let ready = ["-n", "default", "wait", "--for=condition=Ready", "--timeout=30s", "pod/real", "pod/other"];
    cluster.kubectl(&ready)?;
    for (to, outcome, kernel) in
        [("default/other:9000", "open", "allowed"), ("backend/dbsvc:9000", "dropped", "denied")]
    {
        let ran = dashboard.command(admin, &["why", "default/real", to, "--in-pod", "--output=json"])?;
        let tried = dashboard::live(&ran)?["in_pod"].take();
        let kernels = tried["kernels"].as_array().cloned().unwrap_or_default();
        let is_so = tried["probe"]["outcome"] == outcome && kernels.iter().any(|one| one["decision"] == kernel);
        ensure!(is_so && tried["from"] == "default/real", "{to}: {tried:#}\n{}", ran.stderr);
    }
    let audit = cluster.kubectl(&["-n", "signalbox-system", "logs", "deployment/signalbox-server"])?;
    let of_real = audit.lines().filter(|line| line.contains("default:on-call") && line.contains("real")).count();
    ensure!(of_real >= 2, "the audit log does not have both:\n{audit}");
    cluster.kubectl(&["-n", "default", "delete", "pod", "real", "other"]).map(drop)
}

/// What NetworkPolicy means: each set of policies with the whole table of nine pods, by probes from all of them.
/// How long it took, which is looked at when all else has been.
fn conformance(dashboard: &Dashboard<'_>, admin: &dashboard::User) -> Result<Duration> {
    let begin = Instant::now();
    let ran = dashboard.command(admin, &["conformance", "--output=json", "--settle=10s"])?;
    let took = begin.elapsed();
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).with_context(|| format!("{ran:#?}"))?;
    let cases = report["tried"].as_array().context("no cases")?;
    let wrong: Vec<_> = cases.iter().filter(|case| case["verdict"] != "passed").collect();
    ensure!(ran.status == Some(0) && wrong.is_empty(), "{wrong:#?}\n{}", ran.stderr);
    // Nine pods to nine pods at two ports by two protocols, and three Services.
    let least = cases.iter().filter_map(|case| case["agree"].as_u64()).min();
    ensure!(cases.len() >= 40 && least >= Some(9 * 9 * 4), "{} cases, {least:?} cells in the smallest", cases.len());
    let millis: Vec<_> = cases.iter().filter_map(|case| case["millis"].as_u64()).collect();
    eprintln!("{} sets of policies with the table of nine pods each in {took:.1?}: {millis:?} ms", cases.len());
    Ok(took)
}

/// Policies are there, and no enforcer: that is what the server says, and every cell is open.
fn nobody_enforces(cluster: &Cluster, outside: &Outside, pods: &[lesson::Pod]) -> Result<()> {
    let manifests = shell::run(Command::new(binary()?).args(["install", "--enforcer=none"]), None)?.ok()?;
    cluster.apply(&manifests)?;
    cluster.apply(OUTSIDE)?;
    let dashboard = Dashboard::find(cluster)?;
    let watcher = dashboard.user("watcher", "view", None)?;
    cluster.wait(Duration::from_secs(60), "the server sees that nobody enforces", || {
        let state = dashboard.state(&watcher)?;
        let of_pods = state.cells.iter().filter(|cell| cell.key.from.starts_with("pod:"));
        let tried: Vec<_> = of_pods.filter_map(|cell| Some((cell, cell.probe.as_ref()?))).collect();
        let shut: Vec<_> = tried.iter().filter(|(_, probe)| probe.outcome != Outcome::Open).collect();
        let said = (state.enforcement, tried.len(), &shut);
        let is_so = state.enforcement == Enforcement::Nobody && tried.len() >= 36 && shut.is_empty();
        Ok(if is_so && state.enforcers.is_empty() { Ok(()) } else { Err(format!("{said:#?}")) })
    })?;
    lesson::check(cluster, outside, pods, &STEPS[0])?;
    for name in ["on-call", "learner", "outside", "watcher"] {
        cluster.kubectl(&["-n", "default", "delete", "serviceaccount", name])?;
    }
    cluster.kubectl(&["delete", "clusterrolebinding", "on-call", "outside", "watcher"])?;
    cluster.kubectl(&["delete", "clusterrole", "outside"])?;
    uninstall(cluster)?.ok().map(drop)
}

/// A user of one namespace sees that one, and changes nothing.
fn others_see_their_namespaces(dashboard: &Dashboard<'_>) -> Result<()> {
    let user = dashboard.user("learner", "view", Some("frontend"))?;
    let state = dashboard.state(&user)?;
    let of: BTreeSet<_> = state.endpoints.iter().filter_map(|endpoint| endpoint.namespace.as_deref()).collect();
    ensure!(of == BTreeSet::from(["frontend"]), "a user of `frontend` sees {of:?}");
    ensure!(!state.cells.is_empty(), "and its own cells");
    let token = format!("Authorization: Bearer {}", user.token);
    for (path, head) in [
        ("/api/v1/rounds", &["--request", "POST", "--header", &token][..]),
        ("/api/v1/policies/frontend/web", &["--request", "DELETE", "--header", &token]),
        ("/metrics", &["--header", &token]),
    ] {
        let answer = dashboard.ask(path, head)?;
        ensure!(answer.status == 403, "{path}: {} {}", answer.status, answer.body);
    }
    for head in [&[][..], &["--header", "Authorization: Bearer nonsense"]] {
        let answer = dashboard.ask("/api/v1/state", head)?;
        ensure!(answer.status == 401, "{head:?}: {} {}", answer.status, answer.body);
    }
    Ok(())
}

/// By force, and the namespaces too that `conformance` has deleted before: this kubelet now and then keeps a pod whose containers have
/// ended, for minutes.
fn remove_the_lesson(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["delete", "namespace", "frontend", "backend", "--wait=false"])?;
    let ending = "jsonpath={range .items[?(@.metadata.deletionTimestamp)]}{.metadata.name}{\"\\n\"}{end}";
    cluster.wait(Duration::from_secs(60), "namespaces that end", || {
        let left = cluster.kubectl(&["get", "namespaces", "-o", ending])?;
        for namespace in left.lines() {
            // It may be gone by now.
            cluster.kubectl_raw(
                &["-n", namespace, "delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false"],
                None,
            )?;
        }
        Ok(if left.is_empty() { Ok(()) } else { Err(left) })
    })
}

/// Every node's agent says that all is enforced.
fn enforced(cluster: &Cluster) -> Result<()> {
    let list = cluster.kubectl(&[
        "-n",
        "signalbox-system",
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/component=enforcer",
        "-o",
        "name",
    ])?;
    let pods: Vec<&str> = list.lines().collect();
    ensure!(pods.len() == NODES.len(), "enforcers: {list}");
    for pod in pods {
        let status = ["-n", "signalbox-system", "exec", pod, "--", "/signalbox-enforcer", "status"];
        cluster.wait(Duration::from_secs(5), "an enforcer's status", || {
            let ran = cluster.kubectl_raw(&status, None)?;
            Ok(if ran.status == Some(0) { Ok(()) } else { Err(format!("{pod}: {ran:#?}")) })
        })?;
    }
    Ok(())
}
