//! A node with two pods and an outside host, in network namespaces that live as long as the test's process: held by
//! open files only, so that not even `kill -9` leaves anything behind.
#![allow(dead_code)]

pub mod agent;
pub mod api;
pub mod bridge;
pub mod faults;
pub mod frame;
pub mod server;
pub mod told;

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    path::PathBuf,
    process::Command,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use serde_json::{Value, json};
use signalbox_api::{
    flow::Decision,
    kernel::{FlowEvent, VerdictCount},
};
use signalbox_enforcer::{
    AttachPreference, Config, Limits,
    datapath::{Applied, Datapath, NodeAddresses},
    events::EventReader,
    netns::Netns,
};
use signalbox_policy::{Cluster, IdentityAllocator, PodRef};
use tokio::sync::broadcast;

pub const POD_A: &str = "10.244.0.2";
pub const POD_A_V6: &str = "fd00:244::2";
pub const POD_B: &str = "10.244.0.3";
pub const POD_B_V6: &str = "fd00:244::3";
pub const NODE: &str = "198.51.100.10";
pub const NODE_V6: &str = "2001:db8:100::10";
pub const OUTSIDE: &str = "198.51.100.100";
pub const OUTSIDE_V6: &str = "2001:db8:100::100";
pub const SERVICE: &str = "10.96.0.1";
pub const SERVICE_V6: &str = "fd00:96::1";
const GATEWAY: &str = "169.254.1.1";

/// Whether the test can run here. A test that cannot fails, unless told to skip.
pub fn can_run() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert_eq!(std::env::var("SIGNALBOX_SKIP_ROOT").as_deref(), Ok("1"), "needs root: run it as root");
    println!("skipped: needs root");
    false
}

/// A network namespace of the test's own.
pub struct Space {
    file: File,
    netns: Netns,
}

impl Space {
    pub fn new() -> Self {
        let file = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("root can make a network namespace");
            File::open("/proc/thread-self/ns/net").expect("a thread can open its own namespace")
        });
        let file = file.join().expect("the thread ends well");
        let netns = Netns::open(Some(&path(&file))).expect("an open namespace can be opened again");
        let space = Self { file, netns };
        space.run("ip link set lo up");
        space
    }

    pub fn path(&self) -> PathBuf {
        path(&self.file)
    }

    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.netns.enter(work).expect("an open namespace can be entered")
    }

    /// Runs a command line inside, word by word.
    pub fn run(&self, line: &str) {
        let output = self.enter(|| {
            let mut words = line.split_whitespace();
            Command::new(words.next().expect("a command")).args(words).output()
        });
        let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn set(&self, file: &str, value: &str) {
        self.enter(|| std::fs::write(file, value)).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// Connects; a refusal is an error, silence is [`io::ErrorKind::TimedOut`].
    pub fn connect(&self, to: &str, port: u16, patience: Duration) -> io::Result<TcpStream> {
        let address = SocketAddr::new(to.parse().expect("an address"), port);
        let stream = self.enter(|| TcpStream::connect_timeout(&address, patience))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        Ok(stream)
    }

    /// Whether a connection opens, and answers.
    pub fn reaches(&self, to: &str, port: u16) -> bool {
        match self.connect(to, port, Duration::from_millis(250)) {
            Ok(mut stream) => echo(&mut stream),
            Err(_) => false,
        }
    }

    /// Whether a datagram is answered.
    pub fn reaches_udp(&self, to: &str, port: u16) -> bool {
        let local = if to.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = self.enter(|| UdpSocket::bind(local)).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(250))).expect("a time-out");
        let to = SocketAddr::new(to.parse().expect("an address"), port);
        socket.send_to(b"ping", to).is_ok() && socket.recv_from(&mut [0; 16]).is_ok()
    }

    /// Whether an ICMP echo request is answered.
    pub fn pings(&self, to: &str) -> bool {
        use nix::sys::socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt, socket,
            sockopt,
        };
        let (family, flags) = (AddressFamily::Inet, SockFlag::empty());
        let socket = self.enter(|| socket(family, SockType::Raw, flags, SockProtocol::Icmp)).expect("root may ping");
        let patience = nix::sys::time::TimeVal::new(0, 300_000);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience).expect("a time-out");
        // Type 8, code 0, checksum, identifier 0x1234, sequence 1.
        let request = [8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1];
        let to: std::net::Ipv4Addr = to.parse().expect("an IPv4 address");
        let address = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
        sendto(socket.as_raw_fd(), &request, &address, MsgFlags::empty()).expect("a route");
        let mut bytes = [0; 128];
        // A raw socket sees all ICMP of its namespace: the answer is the one with our identifier.
        for _ in 0..16 {
            match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(length) if length >= 28 && bytes[20] == 0 && bytes[24..26] == [0x12, 0x34] => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        false
    }

    pub fn interface(&self, name: &str) -> u32 {
        self.enter(|| nix::net::if_::if_nametoindex(name)).expect("the interface exists")
    }
}

/// A bpf file system of the test's own, that no other process sees and that ends with the test's: held by an open file.
pub struct BpfFs {
    root: File,
}

impl BpfFs {
    pub fn new() -> Self {
        Self { root: mounted("bpf") }
    }

    /// Where to pin.
    pub fn pins(&self) -> PathBuf {
        path(&self.root).join("signalbox")
    }
}

/// A file system of the kernel's that nobody else sees, and that is there as long as the file is open.
pub fn mounted(kind: &'static str) -> File {
    let root = thread::spawn(move || {
        // A mount namespace of the thread's own: what it mounts stays as long as somebody has it open.
        unshare(CloneFlags::CLONE_NEWNS).expect("root can make a mount namespace");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).expect("root can make mounts private");
        mount(Some(kind), "/sys/fs", Some(kind), MsFlags::empty(), none)
            .expect("root can mount, and the kernel has it");
        File::open("/sys/fs").expect("it is there")
    });
    root.join().expect("the thread ends well")
}

pub fn path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()))
}

/// Whether a byte comes back.
pub fn echo(stream: &mut TcpStream) -> bool {
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok()
}

/// As [`echo`], with little patience.
pub fn echo_soon(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out");
    echo(stream)
}

/// A server that sends back what it gets, TCP and UDP on one port, until it is dropped.
pub struct Echo {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Echo {
    pub fn new(space: &Space, port: u16) -> Self {
        let any = SocketAddr::new(IpAddr::from([0_u16; 8]), port);
        let (listener, socket) = space.enter(|| (TcpListener::bind(any), UdpSocket::bind(any)));
        let (listener, socket) = (listener.expect("a free port"), socket.expect("a free port"));
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a time-out");
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_tcp, stop_udp) = (Arc::clone(&stop), Arc::clone(&stop));
        let tcp = thread::spawn(move || {
            let mut streams: Vec<TcpStream> = Vec::new();
            while !stop_tcp.load(Ordering::Relaxed) {
                if let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).expect("a stream can be non-blocking");
                    streams.push(stream);
                }
                let mut bytes = [0; 64];
                streams.retain_mut(|stream| match stream.read(&mut bytes) {
                    Ok(0) => false,
                    Ok(count) => stream.write_all(&bytes[..count]).is_ok(),
                    Err(error) => error.kind() == io::ErrorKind::WouldBlock,
                });
                thread::sleep(Duration::from_millis(1));
            }
        });
        let udp = thread::spawn(move || {
            let mut bytes = [0; 2048];
            while !stop_udp.load(Ordering::Relaxed) {
                if let Ok((count, from)) = socket.recv_from(&mut bytes) {
                    // Who asked may be gone.
                    let _gone = socket.send_to(&bytes[..count.min(16)], from);
                }
            }
        });
        Self { stop, threads: vec![tcp, udp] }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

/// A node with the pods `one/a` and `two/b`, and a host outside.
pub struct Lab {
    pub node: Space,
    pub a: Space,
    pub b: Space,
    pub outside: Space,
    /// Addresses of the node.
    pub local: Vec<&'static str>,
}

impl Lab {
    /// With a route to each pod's own interface, as the CNI `ptp` has it.
    pub fn new() -> Self {
        let lab = Self::bare(vec![NODE, NODE_V6, GATEWAY, "fe80::1"]);
        lab.pod(&lab.a, "va", POD_A, POD_A_V6);
        lab.pod(&lab.b, "vb", POD_B, POD_B_V6);
        lab
    }

    /// A node without pods, and the outside.
    fn bare(local: Vec<&'static str>) -> Self {
        let lab = Self { node: Space::new(), a: Space::new(), b: Space::new(), outside: Space::new(), local };
        lab.node.set("/proc/sys/net/ipv4/ip_forward", "1");
        lab.node.set("/proc/sys/net/ipv6/conf/all/forwarding", "1");
        lab.node.run(&format!("ip link add up0 type veth peer name eth0 netns {}", lab.outside.path().display()));
        lab.node.run(&format!("ip addr add {NODE}/24 dev up0"));
        lab.node.run(&format!("ip -6 addr add {NODE_V6}/64 dev up0 nodad"));
        lab.node.run("ip link set up0 up");
        lab.outside.run(&format!("ip addr add {OUTSIDE}/24 dev eth0"));
        lab.outside.run(&format!("ip -6 addr add {OUTSIDE_V6}/64 dev eth0 nodad"));
        lab.outside.run("ip link set eth0 up");
        lab.outside.run(&format!("ip -6 route add fd00:244::/64 via {NODE_V6}"));
        lab.outside.run(&format!("ip -6 route add fd00:96::/64 via {NODE_V6}"));
        for range in ["10.244.0.0/16", "10.96.0.0/16"] {
            lab.outside.run(&format!("ip route add {range} via {NODE}"));
        }
        lab
    }

    /// Makes a pod's namespace one: an interface, addresses and routes.
    pub fn pod(&self, pod: &Space, veth: &str, v4: &str, v6: &str) {
        let node = &self.node;
        node.run(&format!("ip link add {veth} type veth peer name eth0 netns {}", pod.path().display()));
        node.run(&format!("ip addr add {GATEWAY}/32 dev {veth}"));
        node.run(&format!("ip link set {veth} addrgenmode none up"));
        node.run(&format!("ip -6 addr add fe80::1/64 dev {veth} nodad"));
        node.run(&format!("ip route add {v4}/32 dev {veth}"));
        node.run(&format!("ip -6 route add {v6}/128 dev {veth}"));
        pod.run("ip link set eth0 up");
        pod.run(&format!("ip addr add {v4}/32 dev eth0"));
        pod.run(&format!("ip -6 addr add {v6}/128 dev eth0 nodad"));
        pod.run(&format!("ip route add {GATEWAY}/32 dev eth0 scope link"));
        pod.run(&format!("ip route add default via {GATEWAY} dev eth0"));
        pod.run("ip -6 route add default via fe80::1 dev eth0");
    }

    /// As kube-proxy does: port 80 of SERVICE and SERVICE_V6, TCP and UDP, is pod b's port 9000.
    pub fn translate(&self) {
        for (family, service, backend) in
            [("ip", SERVICE, POD_B.to_owned()), ("ip6", SERVICE_V6, format!("[{POD_B_V6}]"))]
        {
            self.node.run(&format!("nft add table {family} nat"));
            self.node
                .run(&format!("nft add chain {family} nat prerouting {{ type nat hook prerouting priority -100 ; }}"));
            for protocol in ["tcp", "udp"] {
                self.node.run(&format!(
                    "nft add rule {family} nat prerouting {family} daddr {service} {protocol} dport 80 dnat to {backend}:9000"
                ));
            }
        }
    }
}

/// How an enforcer of the lab's node is started.
pub fn config(lab: &Lab) -> Config {
    Config { node: "n".to_owned(), netns: Some(lab.node.path()), uplinks: vec!["up0".to_owned()], ..Config::default() }
}

/// An enforcer without a Kubernetes API: objects are handed to it.
pub struct Gate {
    pub datapath: Datapath,
    pub events: broadcast::Receiver<FlowEvent>,
    objects: Vec<Value>,
    identities: IdentityAllocator,
    _reader: EventReader,
}

impl Gate {
    pub fn new(lab: &Lab, attach: AttachPreference) -> Self {
        Self::with(lab, attach, Limits::default())
    }

    pub fn with(lab: &Lab, attach: AttachPreference, limits: Limits) -> Self {
        let mut gate = Self::start(lab, &Config { attach, limits, ..config(lab) }, None);
        gate.policies(&[]);
        gate
    }

    /// With another object than the one that is built in. Nothing is applied yet.
    pub fn start(lab: &Lab, config: &Config, object: Option<&[u8]>) -> Self {
        let began = Instant::now();
        let loaded = match object {
            Some(object) => Datapath::load_object(config, object),
            None => Datapath::load(config),
        };
        let mut datapath = loaded.unwrap_or_else(|error| panic!("{error:#?}"));
        println!("programs loaded and verified in {:?}", began.elapsed());
        let (sender, events) = broadcast::channel(4096);
        let (ring, names) = datapath.take_events().expect("the object has the ring buffer");
        let reader = EventReader::start(ring, names, "n".to_owned(), sender).expect("a thread");
        for (pod, veth) in [("one/a", "va"), ("two/b", "vb")] {
            let interface = lab.node.interface(veth);
            datapath.bind(pod_ref(pod), interface).unwrap_or_else(|error| panic!("{error:#?}"));
        }
        let addresses = lab.local.iter().map(|text| text.parse().expect("an address")).collect();
        let node = NodeAddresses { addresses, ..NodeAddresses::default() };
        datapath.set_node(node).expect("the kernel takes addresses");
        datapath.look_for_bridges().expect("the kernel takes numbers");
        let pod = |namespace: &str, name: &str, v4: &str, v6: &str| {
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
                "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 9000}]}]},
                "status": {"phase": "Running", "podIP": v4, "podIPs": [{"ip": v4}, {"ip": v6}]},
            })
        };
        let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}});
        let objects = vec![
            namespace("one"),
            namespace("two"),
            pod("one", "a", POD_A, POD_A_V6),
            pod("two", "b", POD_B, POD_B_V6),
        ];
        let identities = IdentityAllocator::default();
        Self { datapath, events, objects, identities, _reader: reader }
    }

    /// Replaces all policies.
    pub fn policies(&mut self, policies: &[Value]) -> Applied {
        let cluster = Cluster::from_objects(self.objects.iter().chain(policies));
        assert_eq!(cluster.unknowns(), &[] as &[String]);
        self.enforce(&cluster)
    }

    /// The cluster with these policies, for the engine.
    pub fn cluster(&self, policies: &[Value]) -> Cluster {
        Cluster::from_objects(self.objects.iter().chain(policies))
    }

    /// The same with policies of which something is not understood.
    pub fn policies_with_unknowns(&mut self, policies: &[Value]) -> Applied {
        let cluster = Cluster::from_objects(self.objects.iter().chain(policies));
        assert_ne!(cluster.unknowns(), &[] as &[String]);
        self.enforce(&cluster)
    }

    fn enforce(&mut self, cluster: &Cluster) -> Applied {
        let tables = cluster.compile_with("n", &mut self.identities);
        self.datapath.apply(&tables).unwrap_or_else(|error| panic!("{error:#?}"))
    }

    /// The next event that fits, within two seconds.
    pub fn event(&mut self, fits: impl Fn(&FlowEvent) -> bool) -> FlowEvent {
        self.find(Duration::from_secs(2), &fits).expect("the event comes within two seconds")
    }

    /// The next event that fits, or `None` when the time is over.
    pub fn find(&mut self, patience: Duration, fits: impl Fn(&FlowEvent) -> bool) -> Option<FlowEvent> {
        let end = Instant::now() + patience;
        loop {
            match self.events.try_recv() {
                Ok(event) if fits(&event) => return Some(event),
                Ok(_) => {}
                Err(_) if Instant::now() >= end => return None,
                Err(_) => thread::sleep(Duration::from_micros(50)),
            }
        }
    }

    pub fn denial(&mut self, port: u16) -> FlowEvent {
        self.event(|event| event.decision == Decision::Denied && event.destination.port() == port)
    }

    pub fn allowance(&mut self, port: u16) -> FlowEvent {
        self.event(|event| event.decision == Decision::Allowed && event.destination.port() == port)
    }

    pub fn counts(&self) -> Vec<VerdictCount> {
        self.datapath.counts().and_then(|counts| counts.read()).expect("the kernel's counts can be read")
    }
}

pub fn pod_ref(name: &str) -> PodRef {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    PodRef { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// A policy: `namespace/name`, its types, and the rest of its `spec`.
pub fn policy(name: &str, types: &[&str], rules: Value) -> Value {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    let mut spec = json!({"podSelector": {}, "policyTypes": types});
    let (into, from) = (spec.as_object_mut().expect("an object"), rules.as_object().expect("an object"));
    into.extend(from.clone());
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name}, "spec": spec,
    })
}
