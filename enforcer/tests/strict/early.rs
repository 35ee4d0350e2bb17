//! Pods that are known by their processes before the API tells their addresses: docs/adr/0009.

use std::{
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use signalbox_enforcer::{Config, Mode};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Ears, PORT, begun, exposure, furnish, in_mode, settle, started, talk};
use crate::support::{
    BpfFs, Echo, Lab, OUTSIDE, OUTSIDE_V6, POD_B, POD_B_V6, Space, can_run, echo,
    faults::api::{Api, Process, pod},
    policy,
    told::until,
};

/// A control group as the kubelet makes one for a pod, in whatever hierarchy this machine has.
struct Group(PathBuf);

impl Group {
    fn of_pod(uid: &str) -> Self {
        let roots = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists());
        let all = root.expect("control groups are mounted").join(format!("kubepods-signalbox-{}", std::process::id()));
        let group = Self(all.join(format!("pod{uid}")));
        fs::create_dir_all(&group.0).expect("control groups can be made");
        group
    }

    fn take(&self, process: &Process) {
        fs::write(self.0.join("cgroup.procs"), process.id().to_string()).expect("a process can be moved");
    }
}

/// To be dropped after its processes: they leave it as they end.
impl Drop for Group {
    fn drop(&mut self) {
        let all = self.0.parent().expect("it was made in another");
        let end = Instant::now() + Duration::from_secs(1);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _others_are_there = fs::remove_dir(all);
    }
}

/// The kubelet tells a pod's address a second after its first process has started, or later: by then it has its policies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_found_by_its_processes_before_its_address_is_told() {
    const UID: &str = "0f1e2d3c-4b5a-4687-9a0b-1c2d3e4f5a6b";
    const OTHER: &str = "11111111-2222-4333-8444-555555555555";
    if !can_run() {
        return;
    }
    for mode in [Mode::Strict, Mode::Standard] {
        let lab = Lab::new();
        let _servers = [&lab.b, &lab.outside].map(|space: &Space| Echo::new(space, 9000));
        let _steps = [9014, 9015].map(|port| Echo::new(&lab.b, port));
        let _processes = [&lab.a, &lab.b].map(Process::new);
        let (api, client) = Api::start().await;
        let (enforcer, shutdown) = started(&lab, &api, client, mode).await;
        // Whom `b` lets in is known by its labels, and where `c` may go by its name.
        let from_c =
            json!({"ingress": [{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "c"}}}]}]});
        api.tell("networkpolicies", "ADDED", policy("two/from-c", &["Ingress"], from_c), 10);
        let mut inwards =
            policy("one/inwards", &["Egress"], json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.244.0.0/16"}}]}]}));
        inwards["spec"]["podSelector"] = json!({"matchLabels": {"app": "c"}});
        api.tell("networkpolicies", "ADDED", inwards, 9);
        // By these it is seen from outside which news of `c` count.
        let steps = [14, 15].map(|step| {
            let who = json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"step": step.to_string()}}});
            json!({"from": [who], "ports": [{"port": 9000 + step}]})
        });
        api.tell("networkpolicies", "ADDED", policy("two/steps", &["Ingress"], json!({"ingress": steps})), 11);
        until(&enforcer, "the policies are in force", |status| status.policies_version == 11).await;
        // Pods as the scheduler leaves them. The second is one that is in its node's network.
        let known = |name: &str, uid: &str, status: Value| {
            let mut pod = pod("one", name, "");
            (pod["metadata"]["uid"], pod["status"]) = (uid.into(), status);
            pod
        };
        api.tell("pods", "ADDED", known("c", UID, json!({"phase": "Pending"})), 12);
        let mut on_the_node = known("d", OTHER, json!({"phase": "Pending"}));
        on_the_node["spec"]["hostNetwork"] = true.into();
        api.tell("pods", "ADDED", on_the_node, 13);

        let groups = [Group::of_pod(UID), Group::of_pod(OTHER)];
        let fresh = Space::new();
        lab.pod(&fresh, "vc", "10.244.0.4", "fd00:244::4");
        settle(&lab, "10.244.0.4");
        // What is there without a group of the pod's, and with that of one in the node's network, is nobody.
        // And an address that the node does not send there is none of the pod's.
        fresh.run("ip addr add 10.244.0.77/32 dev eth0");
        let strangers = [Process::new(&fresh), Process::new(&fresh)];
        groups[1].take(&strangers[1]);
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(enforcer.handle().status().borrow().pods, 2);
        assert_eq!(fresh.reaches(OUTSIDE, 9000), mode == Mode::Standard);

        let first = Process::new(&fresh);
        groups[0].take(&first);
        let began = Instant::now();
        until(&enforcer, "the pod is found", |status| status.pods == 3).await;
        let took = began.elapsed();
        println!("{mode:?}: found {took:?} after its first process was there");
        assert!(took < Duration::from_secs(2), "it is looked for twice a second at the least, and this took {took:?}");
        assert!(fresh.reaches(POD_B, 9000) && !fresh.reaches(OUTSIDE, 9000), "its policies, and its labels");
        assert!(!lab.a.reaches(POD_B, 9000));
        let early = exposure(&enforcer, "one/c").await;
        assert_eq!(early.shut, mode == Mode::Strict);

        // News without an address take nothing away, and the addresses that come change nothing: what is open stays.
        let mut open = fresh.connect(POD_B, 9000, Duration::from_secs(1)).expect("allowed");
        let told =
            json!({"phase": "Running", "podIP": "10.244.0.4", "podIPs": [{"ip": "10.244.0.4"}, {"ip": "fd00:244::4"}]});
        for (version, status) in [(14, json!({"phase": "Pending", "conditions": []})), (15, told)] {
            let mut news = known("c", UID, status);
            news["metadata"]["labels"]["step"] = version.to_string().into();
            api.tell("pods", "MODIFIED", news, version);
            let end = Instant::now() + Duration::from_secs(5);
            while !fresh.reaches(POD_B, 9000 + version as u16) {
                assert!(Instant::now() < end, "the news {version} are in");
            }
            assert_eq!(enforcer.handle().status().borrow().pods, 3);
            assert!(echo(&mut open) && !fresh.reaches(OUTSIDE, 9000), "{version}");
        }
        let exposures = enforcer.handle().exposures();
        assert_eq!(exposures.iter().filter(|exposure| exposure.pod == "one/c").count(), 1, "{exposures:?}");
        // An address that was never its own ends it: the API has the last word.
        api.tell(
            "pods",
            "MODIFIED",
            known("c", UID, json!({"phase": "Running", "podIPs": [{"ip": "10.244.0.9"}]})),
            16,
        );
        until(&enforcer, "it is where the API says", |status| status.pods == 2).await;
        shutdown.cancel();
        timeout(Duration::from_secs(5), enforcer.stopped()).await.expect("it ends");
        drop((first, strangers));
    }
}

/// What was found of a pod counts through a restart of the agent, whatever the API has told meanwhile, and ends with its interface.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_was_found_early_stays_shut_through_a_restart_and_its_address_is_free_when_it_is_gone() {
    const UIDS: [&str; 2] = ["0f1e2d3c-4b5a-4687-9a0b-1c2d3e4f5a6c", "0f1e2d3c-4b5a-4687-9a0b-1c2d3e4f5a6d"];
    if !can_run() {
        return;
    }
    let (lab, pins) = (Lab::new(), BpfFs::new());
    let ears = Ears::new(&lab);
    let _processes = [&lab.a, &lab.b].map(Process::new);
    let (api, client) = Api::start().await;
    furnish(&api);
    let mut isolated = policy("one/shut", &["Egress"], json!({}));
    isolated["metadata"]["resourceVersion"] = "1".into();
    api.put("networkpolicies", isolated);
    let config = Config { pins: Some(pins.pins()), ..in_mode(&lab, Mode::Strict) };
    let (first, shutdown) = begun(config.clone(), client.clone()).await;
    until(&first, "both pods are found", |status| status.enforcing && status.pods == 2).await;
    let pending = |name: &str, uid: &str| {
        let mut pod = pod("one", name, "");
        (pod["metadata"]["uid"], pod["status"]) = (uid.into(), json!({"phase": "Pending"}));
        pod
    };
    let groups = UIDS.map(Group::of_pod);
    let fresh = Space::new();
    lab.pod(&fresh, "vc", "10.244.0.4", "fd00:244::4");
    settle(&lab, "10.244.0.4");
    let process = Process::new(&fresh);
    groups[0].take(&process);
    api.put("pods", pending("c", UIDS[0]));
    api.tell("pods", "ADDED", pending("c", UIDS[0]), 12);
    until(&first, "the pod is found", |status| status.pods == 3).await;

    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let [v4, v6] = ["0.0.0.0:0", "[::]:0"].map(|any| fresh.enter(|| UdpSocket::bind(any)).expect("a socket"));
    let talker = std::thread::spawn(move || {
        let mut sent = 0;
        while !stopped.is_cancelled() {
            for (socket, to) in [(&v4, POD_B), (&v4, OUTSIDE), (&v6, POD_B_V6), (&v6, OUTSIDE_V6)] {
                sent += u32::from(socket.send_to(b"x", (to, PORT)).is_ok());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        sent
    });
    shutdown.cancel();
    timeout(Duration::from_secs(5), first.stopped()).await.expect("it ends");
    let (second, shutdown) = begun(config, client).await;
    until(&second, "it goes on", |status| status.enforcing && status.pods == 3).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    stop.cancel();
    let sent = talker.join().expect("it ends well");
    assert!(sent > 4000, "{sent}");
    assert_eq!(ears.heard(), [], "of {sent} datagrams before, while and after another agent took over");

    // Its sandbox fails, and another pod gets its address.
    drop(process);
    lab.node.run("ip link del vc");
    api.tell("pods", "ADDED", pending("d", UIDS[1]), 13);
    let next = Space::new();
    lab.pod(&next, "vd", "10.244.0.4", "fd00:244::4");
    settle(&lab, "10.244.0.4");
    let process = Process::new(&next);
    groups[1].take(&process);
    let exposure = exposure(&second, "one/d").await;
    assert!(exposure.shut && exposure.passed == 0, "{exposure:?}");
    assert_eq!(second.handle().status().borrow().pods, 3, "the first one has no interface any more");
    talk(&next, Duration::from_millis(20));
    assert_eq!(ears.heard(), [], "its policies isolate it");
    shutdown.cancel();
    timeout(Duration::from_secs(5), second.stopped()).await.expect("it ends");
    drop(process);
}
