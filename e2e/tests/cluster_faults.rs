//! What fails around Signalbox on a real Kubernetes, and what must not come of it: another answer.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use signalbox_e2e::cluster::backends::{Backend, Backends};
use signalbox_e2e::cluster::dashboard::{Dashboard, User};
use signalbox_e2e::cluster::lesson::{self, Pod, Tried};
use signalbox_e2e::cluster::outside::Outside;
use signalbox_e2e::cluster::{Cluster, Cni, NODES, VERSION, leftovers};
use signalbox_e2e::lab::binary;
use signalbox_e2e::lesson::STEPS;
use signalbox_e2e::shell;

/// The enforcer's image, and a tag that an upgrade leads to.
const ENFORCER: &str = "signalbox/enforcer";
const NEXT: &str = "next";
const OUTSIDE: &str = include_str!("../../assets/lab/2-outside.yaml");
/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(60);
/// How much later than kube-proxy the watch on EndpointSlices may have an event.
const AFTER: Duration = Duration::from_secs(2);
/// How long the watch on EndpointSlices may be behind: after an absence of the API server it is asked for anew.
const TOLD: Duration = Duration::from_secs(10);
/// How long after a fault `kubectl exec` may be refused, and Kubernetes may have pods as unready: once the API server is back its
/// controllers start anew, which on a busy machine takes them most of a minute.
const BACK: Duration = Duration::from_secs(120);
/// How long kube-proxy may take from a pod that is ready again to rules that lead there.
const LED: Duration = Duration::from_secs(10);

#[test]
fn what_fails_around_it_changes_no_answer() -> Result<()> {
    let cluster = Cluster::start(Cni::Ptp)?;
    let before = leftovers::objects(&cluster)?;
    let manifests = shell::run(Command::new(binary()?).args(["install", "--allow-apply"]), None)?.ok()?;
    cluster.apply(&manifests)?;
    cluster.rolled_out("signalbox-system", "daemonset/signalbox-enforcer")?;
    // Nobody joins as the users here.
    cluster.apply(&OUTSIDE.replace("vantage: true", "vantage: false"))?;
    let outside = Outside::start(&cluster)?;
    lesson::deploy(&cluster)?;
    let pods = lesson::pods(&cluster)?;
    let dashboard = Dashboard::find(&cluster)?;
    let admin = dashboard.user("on-call", "cluster-admin", None)?;
    for step in STEPS {
        lesson::check(&cluster, &outside, &pods, step)?;
    }
    let backends = &Backends::watch(&cluster)?;
    let (cluster, outside, pods, dashboard, admin) = (&cluster, &outside, &pods, &dashboard, &admin);
    let ground = Ground { cluster, outside, pods, dashboard, admin, backends };
    ground.same("before anything fails")?;
    ground.the_server_is_killed()?;
    ground.enforcers_are_replaced_under_traffic()?;
    for (name, node) in [("kubelet", "node1"), ("kubelet", "node2"), ("containerd", "node1"), ("containerd", "node2")] {
        signal(cluster, node, "KILL", name)?;
        ground.same(&format!("after {name} of {node} was killed"))?;
    }
    ground.a_node_is_cut_off()?;
    ground.the_api_server_is_away()?;
    ground.nothing_is_left(&before)
}

struct Ground<'a> {
    cluster: &'a Cluster,
    outside: &'a Outside,
    pods: &'a [Pod],
    dashboard: &'a Dashboard<'a>,
    admin: &'a User,
    backends: &'a Backends,
}

impl Ground<'_> {
    /// All connections are as the lesson's last step has them, and policies, probes and kernels agree. What is shut opens at no time,
    /// and between pods' own addresses what is open shuts at no time. Through a Service it may, as long as Kubernetes itself has a pod
    /// behind it as unready (from users the one on the node that they ask) or had until [`LED`] ago, and no longer than [`BACK`]: a restarted
    /// kubelet takes its pods out of their Services, and so do the controllers when the API server was away.
    fn same(&self, when: &str) -> Result<()> {
        let step = &STEPS[4];
        let is_wrong = |one: &Tried| one.open != lesson::is_open(step, one);
        let mut excused = BTreeSet::new();
        let begin = Instant::now();
        self.cluster.wait(BACK, when, || {
            let since = Instant::now() - LED;
            let (direct, missed) = sorted(lesson::direct(self.cluster, self.pods));
            let direct: Vec<Tried> = direct.into_iter().filter(is_wrong).collect();
            ensure!(direct.is_empty(), "{when}, between pods' own addresses: {direct:#?}");
            let tried = match lesson::attempts(self.cluster, self.outside, self.pods) {
                Ok(tried) => tried,
                Err(error) => return Ok(Err(format!("nothing can be tried: {error:#}"))),
            };
            let (tried, missed_too) = sorted(tried);
            let wrong: Vec<Tried> = tried.into_iter().filter(is_wrong).collect();
            let opened: Vec<&Tried> = wrong.iter().filter(|one| one.open).collect();
            ensure!(opened.is_empty(), "{when}, what is shut is open: {opened:#?}");
            let (late, wrong, unready) = self.excused(wrong, since, Instant::now());
            ensure!(wrong.is_empty(), "{when}, with {unready:?} unready meanwhile: {wrong:#?}");
            excused.extend(late.iter().map(|one| format!("{} -> {}", one.from, one.cell.1)));
            let missed = missed.into_iter().chain(missed_too).collect::<Vec<_>>();
            Ok(if late.is_empty() && missed.is_empty() {
                Ok(())
            } else {
                Err(format!("{unready:?} unready: {late:#?} {missed:#?}"))
            })
        })?;
        // It may be out of its own Service for a moment, as any pod of a restarted kubelet.
        self.cluster.wait(BACK, "the server answers", || {
            Ok(self.dashboard.state(self.admin).map(drop).map_err(|error| format!("{error:#}")))
        })?;
        self.dashboard.agrees(self.admin, step).with_context(|| when.to_owned())?;
        let took = begin.elapsed();
        eprintln!(
            "{when}: the same answers after {took:.1?}; behind Services with an unready pod, meanwhile: {excused:?}"
        );
        Ok(())
    }

    /// Those of the wrong ones that an unready pod explains, the others, and the unready ones. The watch that tells them may be behind by
    /// a moment.
    fn excused(
        &self,
        wrong: Vec<Tried>,
        since: Instant,
        until: Instant,
    ) -> (Vec<Tried>, Vec<Tried>, BTreeSet<Backend>) {
        let deadline = Instant::now() + TOLD;
        loop {
            let unready = self.backends.unready(since, until + AFTER);
            let (late, wrong): (Vec<_>, Vec<_>) =
                wrong.iter().cloned().partition(|one| unready.iter().any(|backend| explains(backend, one)));
            if wrong.is_empty() || Instant::now() > deadline {
                return (late, wrong, unready);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn the_server_is_killed(&self) -> Result<()> {
        let ours = "app.kubernetes.io/component=server";
        let delete = ["-n", "signalbox-system", "delete", "pod", "-l", ours, "--grace-period=0", "--force"];
        let bearer = format!("Authorization: Bearer {}", self.admin.token);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // A round is over after some 70 ms: of three who ask for one after the other, one is in a round at any moment.
            for _ in 0..3 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        // Without an answer once the server is gone.
                        let _gone = self.dashboard.ask("/api/v1/rounds", &["--request", "POST", "--header", &bearer]);
                    }
                });
            }
            let first = self.dashboard.state(self.admin).map(|state| state.round.number);
            let asked = first.and_then(|first| {
                self.cluster.wait(Duration::from_secs(30), "rounds follow one another", || {
                    let round = self.dashboard.state(self.admin)?.round;
                    Ok(if round.number > first + 10 { Ok(()) } else { Err(format!("{round:?}")) })
                })
            });
            let killed = self.cluster.kubectl(&delete);
            done.store(true, Ordering::Relaxed);
            asked.and(killed)
        })?;
        self.cluster.rolled_out("signalbox-system", "deployment/signalbox-server")?;
        self.same("after the server was killed in the middle of a round")
    }

    fn enforcers_are_replaced_under_traffic(&self) -> Result<()> {
        let done = AtomicBool::new(false);
        let rounds = std::thread::scope(|scope| {
            let trying = scope.spawn(|| {
                let mut rounds = 0;
                while !done.load(Ordering::Relaxed) {
                    let tried = lesson::round(self.cluster, self.outside, self.pods)?;
                    let wrong: Vec<_> =
                        tried.iter().filter(|one| one.open != lesson::is_open(&STEPS[4], one)).collect();
                    ensure!(wrong.is_empty(), "while the enforcers were replaced: {wrong:#?}");
                    rounds += 1;
                }
                Ok(rounds)
            });
            // To another image: the same program by another tag.
            let image = format!("enforcer={ENFORCER}:{NEXT}");
            let words = ["-n", "signalbox-system", "set", "image", "daemonset/signalbox-enforcer", image.as_str()];
            let replaced = NODES
                .iter()
                .try_for_each(|node| {
                    let tags = [VERSION, NEXT].map(|tag| format!("docker.io/{ENFORCER}:{tag}"));
                    let ctr = ["--namespace", "k8s.io", "images", "tag"];
                    shell::run(self.cluster.command(node, "ctr").args(ctr).args(tags), None)?.ok().map(drop)
                })
                .and_then(|()| self.cluster.kubectl(&words))
                .and_then(|_| self.cluster.rolled_out("signalbox-system", "daemonset/signalbox-enforcer"));
            done.store(true, Ordering::Relaxed);
            replaced?;
            trying.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
        })?;
        ensure!(rounds >= 3, "only {rounds} rounds while the enforcers were replaced");
        self.same(&format!("after the enforcers were replaced, {rounds} rounds long"))
    }

    /// The one that the server does not run on.
    fn a_node_is_cut_off(&self) -> Result<()> {
        let ours = "app.kubernetes.io/component=server";
        let path = "jsonpath={.items[0].spec.nodeName}";
        let home = self.cluster.kubectl(&["-n", "signalbox-system", "get", "pods", "-l", ours, "-o", path])?;
        let node = NODES.into_iter().find(|node| *node != home).context("no other node")?;
        let link = |state: &str| {
            let port = format!("p-{node}");
            shell::run(self.cluster.command("control", "ip").args(["link", "set", &port, state]), None)?.ok()
        };
        link("down")?;
        let told = self.cluster.wait(Duration::from_secs(60), &format!("{node} is shown as lost"), || {
            // Asked over the other node, which may be the one that requests go out from.
            let state = match self.dashboard.state_from(&home, self.admin) {
                Ok(state) => state,
                Err(error) => return Ok(Err(format!("{error:#}"))),
            };
            let it = state.enforcers.iter().find(|one| one.node == node);
            let lost =
                it.is_some_and(|one| !one.enforcing && one.link.as_ref().is_some_and(|link| link.lost.is_some()));
            Ok(if lost { Ok(()) } else { Err(format!("{it:#?}")) })
        });
        link("up")?;
        told?;
        self.same(&format!("after {node} was cut off and came back"))
    }

    /// Nothing can be asked of the cluster meanwhile: what users reach is tried.
    fn the_api_server_is_away(&self) -> Result<()> {
        let node_ports = lesson::node_ports(self.cluster)?;
        signal(self.cluster, "control", "STOP", "kube-apiserver")?;
        let begin = Instant::now();
        let mut wrong = Vec::new();
        let mut tried = 0;
        while begin.elapsed() < AWAY {
            for (workload, port) in &node_ports {
                for node in NODES {
                    let address = format!("172.30.0.1{}:{port}", node.trim_start_matches("node"));
                    let ran = self.outside.connect(&address);
                    let is_open = ran.as_ref().is_ok_and(|ran| ran.status == Some(0));
                    if is_open != (workload == "frontend/web") {
                        wrong.push(format!("{workload} at {address}: {ran:?}"));
                    }
                    tried += 1;
                }
            }
        }
        signal(self.cluster, "control", "CONT", "kube-apiserver")?;
        ensure!(wrong.is_empty() && tried > 20, "of {tried}, while the API server was away: {wrong:#?}");
        self.same(&format!("after the API server was away for {AWAY:?}, {tried} connections long"))
    }

    /// Of all that failed and came back nothing outlives the uninstallation, in the cluster or on a node.
    fn nothing_is_left(&self, before: &BTreeSet<String>) -> Result<()> {
        self.cluster.kubectl(&["-n", "default", "delete", "serviceaccount", "on-call"])?;
        self.cluster.kubectl(&["delete", "clusterrolebinding", "on-call"])?;
        leftovers::uninstall(self.cluster)?.ok()?;
        for node in NODES {
            leftovers::nothing_left_on(self.cluster, node)?;
        }
        let is_of_the_lesson = |object: &String| ["frontend", "backend"].iter().any(|name| object.contains(name));
        let mut left = leftovers::objects(self.cluster)?;
        left.retain(|object| !before.contains(object) && !is_of_the_lesson(object));
        ensure!(left.is_empty(), "left in the cluster: {left:#?}");
        Ok(())
    }
}

/// An unready pod shuts its Service to users only at its own node, and the name server's shuts all names.
fn explains((service, node): &Backend, one: &Tried) -> bool {
    let from_users = NODES.contains(&one.from.as_str());
    *service == one.cell.1 && (!from_users || *node == one.from)
        || service == "kube-system/kube-dns" && one.said.contains("dns-failed")
}

/// What was tried, and why the others were not.
fn sorted(attempts: Vec<Result<Tried>>) -> (Vec<Tried>, Vec<String>) {
    let (tried, missed): (Vec<_>, Vec<_>) = attempts.into_iter().partition(Result::is_ok);
    let missed = missed.into_iter().filter_map(Result::err).map(|error| format!("{error:#}"));
    (tried.into_iter().flatten().collect(), missed.collect())
}

/// Only the processes of that machine are there to be found. What is killed is started again by whoever supervises it there.
fn signal(cluster: &Cluster, machine: &str, signal: &str, name: &str) -> Result<()> {
    let mut pkill = cluster.command(machine, "pkill");
    shell::run(pkill.args(["--signal", signal, "--exact", name]), None)?.ok().map(drop)
}
