//! What a process in a pod cannot do.

use signalbox_lab_node::testing::start_pod;
use signalbox_lab_streaming::runtime::ExitStatus;

use super::support::{exec, pod, shell};
use super::{Run, config};

pub fn run(run: &mut Run) {
    run.test("a pod's processes are confined", confined);
}

async fn confined() {
    let node = signalbox_lab_node::create(config()).await.expect("a node");
    let started = start_pod(&node, "test", "web", &["TCP/9000"]).await.expect("a pod");
    let secret = std::env::temp_dir().join(format!("signalbox-secret-{}", std::process::id()));
    std::fs::write(&secret, "secret").expect("written");

    // Commands, whether they may succeed, and what they must print or not print.
    let cases: &[(&str, bool, &str)] = &[
        ("grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | grep -v 0000000000000000", false, ""),
        ("grep -E '^CapBnd' /proc/1/status | grep -v 0000000000000000", false, ""),
        ("grep NoNewPrivs /proc/self/status", true, "1"),
        ("id -u", true, "65532"),
        ("touch /x", false, "Read-only"),
        ("touch /bin/x", false, "Read-only"),
        ("echo x > /bin/signalbox-probe", false, ""),
        ("echo x > /etc/passwd", false, ""),
        ("touch /tmp/x && ls /tmp", true, "x"),
        ("cp /bin/busybox /tmp/sh && /tmp/sh true", false, ""),
        ("mount -t tmpfs none /tmp", false, ""),
        ("mount -o remount,rw /", false, ""),
        ("umount /proc", false, ""),
        ("unshare -U true", false, ""),
        ("unshare -m true", false, ""),
        ("unshare -n true", false, ""),
        ("chroot / true", false, ""),
        ("mknod /tmp/sda b 8 0", false, ""),
        // Nothing is in any of them, whether or not a pod has a folder of that name.
        ("ls -A /root 2>/dev/null | grep .", false, ""),
        ("ls -A /home 2>/dev/null | grep .", false, ""),
        ("ls -A /var 2>/dev/null | grep .", false, ""),
        ("ls -A /usr/lib 2>/dev/null | grep .", false, ""),
        ("ls -A /boot 2>/dev/null | grep .", false, ""),
        ("ls -A /sys/kernel 2>/dev/null | grep .", false, ""),
        ("cat /proc/1/environ", false, ""),
        ("ls /proc/1/root/", false, ""),
        ("cat /proc/1/root/etc/shadow", false, ""),
        ("kill -9 1; sleep 0.05; echo alive", true, "alive"),
        ("echo 1 > /proc/sys/net/ipv4/ip_forward", false, ""),
        ("echo h > /proc/sysrq-trigger", false, ""),
        ("echo x > /proc/sys/kernel/hostname", false, ""),
        ("hostname other", false, ""),
        ("ip link set eth0 down", false, ""),
        ("ip addr add 10.244.9.9/32 dev eth0", false, ""),
        ("ip route add 198.18.0.0/15 via 169.254.1.1", false, ""),
        ("nc -s 10.244.9.9 198.51.100.10 1", false, ""),
        ("arping -c 1 -I eth0 169.254.1.1", false, ""),
        ("chmod u+s /tmp/x; su -c id", false, ""),
        ("cat /etc/resolv.conf", true, "search test.svc.cluster.local svc.cluster.local cluster.local"),
        ("cat /etc/hostname", true, "web"),
    ];
    for (script, may, text) in cases {
        let (exit, output) = shell(&node, pod("web"), script).await;
        assert_eq!(exit == ExitStatus::Code(0), *may, "{script}: {exit:?} {output}");
        assert!(output.contains(text), "{script}: {output}");
        // A command that is not there refuses nothing.
        assert!(exit != ExitStatus::Code(127) && !output.contains("not found"), "{script} was not tried: {output}");
    }

    let (_, processes) = shell(&node, pod("web"), "ls -d /proc/[0-9]*").await;
    assert!(processes.lines().count() <= 5, "only the pod's own processes: {processes}");
    let (exit, output) = exec(&node, pod("web"), &["cat", secret.to_str().expect("text")]).await;
    assert_ne!(exit, ExitStatus::Code(0), "{output}");
    std::fs::remove_file(&secret).expect("removed");
    let (exit, output) = shell(&node, pod("web"), "ls /proc/self/fd").await;
    assert_eq!((exit, output.split_whitespace().count()), (ExitStatus::Code(0), 4), "0, 1, 2 and ls's own: {output}");

    // From outside: every namespace is another than the machine's, and the user ids are nobody's.
    for namespace in ["mnt", "pid", "user", "net", "uts", "ipc", "cgroup"] {
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{namespace}")).expect("a namespace");
        assert_ne!(of("self"), of(&started.init().to_string()), "{namespace}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", started.init())).expect("a status");
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:\t")).expect("a user");
    assert!(user.split('\t').all(|id| id.parse::<u32>().is_ok_and(|id| id >= 200_000_000)), "{user}");

    let second = start_pod(&node, "test", "other", &[]).await.expect("a pod");
    let other = std::fs::read_to_string(format!("/proc/{}/uid_map", second.init())).expect("a map");
    assert_ne!(other, std::fs::read_to_string(format!("/proc/{}/uid_map", started.init())).expect("a map"));
    node.remove_everything().await;
}
