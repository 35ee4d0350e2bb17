//! A node whose pods' packets are made up, and handed to the programs by hand.

use aya::maps::{MapData, RingBuf};
use serde_json::{Value, json};
use signalbox_enforcer::{
    Config, Limits,
    datapath::{Datapath, NodeAddresses, Trial, Way},
};
use signalbox_enforcer_common::{flow::Event, plain, verdict::Reason};
use signalbox_policy::{Cluster, IdentityAllocator};

use crate::{
    shapes::ip,
    support::{Lab, NODE, POD_A, POD_B, pod_ref, policy},
};

pub const A6: &str = "fd00:244::2";
pub const B6: &str = "fd00:244::3";
pub const OUTSIDE6: &str = "2001:db8::100";
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;
pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;

/// A node whose pods' packets are made up here.
pub struct Bench {
    pub lab: Lab,
    pub datapath: Datapath,
    /// As the kernel writes them: not every reason and protocol has a word outside.
    events: RingBuf<MapData>,
    identities: IdentityAllocator,
    pub policies: Vec<Value>,
    changes: u32,
    /// `namespace/name` of a pod that the cluster does not tell of.
    absent: Option<String>,
    is_narrow: bool,
}

/// Where a packet comes from and goes to.
#[derive(Clone, Copy, Debug)]
pub enum From {
    /// Of pod a, at its own interface.
    A,
    /// Of pod a, at the interface of pod b.
    AToB,
    /// Of pod b, at its own interface.
    B,
    /// Of pod b, at the interface of pod a.
    BToA,
    /// From outside, at the uplink.
    Outside,
    /// From outside, at the interface of pod b.
    OutsideToB,
}

impl Bench {
    /// Pods `one/a` and `two/b` talk on TCP 80, UDP 53 and SCTP 5000 of `two/b`, if `judged`; else no policy speaks of them.
    pub fn new(judged: bool) -> Self {
        Self::with(judged, Config::default())
    }

    /// The same, otherwise configured.
    pub fn with(judged: bool, config: Config) -> Self {
        let lab = Lab::new();
        let is_narrow = config.limits != Limits::default();
        let config =
            Config { node: "n".to_owned(), netns: Some(lab.node.path()), uplinks: vec!["up0".to_owned()], ..config };
        let mut datapath = Datapath::load(&config).unwrap_or_else(|error| panic!("{error:#?}"));
        let (events, _) = datapath.take_events().expect("the object has the ring buffer");
        for (pod, veth) in [("one/a", "va"), ("two/b", "vb")] {
            datapath.bind(pod_ref(pod), lab.node.interface(veth)).unwrap_or_else(|error| panic!("{error:#?}"));
        }
        let addresses = [NODE, "fe80::1"].map(ip).into();
        datapath.set_node(NodeAddresses { addresses, ..NodeAddresses::default() }).expect("written");
        let ports = json!([
            {"port": 80}, {"port": 53, "protocol": "UDP"}, {"port": 5000, "protocol": "SCTP"},
        ]);
        let namespace =
            |name: &str| json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}]);
        let policies = vec![
            policy("one/p", &["Ingress", "Egress"], json!({"egress": [{"to": namespace("two"), "ports": ports}]})),
            policy("two/p", &["Ingress", "Egress"], json!({"ingress": [{"from": namespace("one"), "ports": ports}]})),
        ];
        let policies = if judged { policies } else { Vec::new() };
        let identities = IdentityAllocator::default();
        let mut bench = Self { lab, datapath, events, identities, policies, changes: 0, absent: None, is_narrow };
        bench.next_generation();
        bench
    }

    /// Denials of a flow are told once per generation: a rule about an address that nobody has makes another one, where
    /// there are policies.
    pub fn next_generation(&mut self) {
        self.changes += 1;
        let mut policies = self.policies.clone();
        let nobody = json!([{"ipBlock": {"cidr": format!("203.0.113.{}/32", self.changes)}}]);
        for policy in &mut policies {
            if let Some(rules) = policy["spec"]["egress"].as_array_mut() {
                rules.push(json!({"to": nobody, "ports": [{"port": 9}]}));
            }
        }
        let objects = [namespace("one"), namespace("two"), pod("one", "a", [POD_A, A6]), pod("two", "b", [POD_B, B6])];
        let is_told = |object: &&Value| {
            let metadata = &object["metadata"];
            let name = format!(
                "{}/{}",
                metadata["namespace"].as_str().unwrap_or_default(),
                metadata["name"].as_str().unwrap_or_default()
            );
            self.absent.as_ref() != Some(&name)
        };
        let cluster = Cluster::from_objects(objects.iter().filter(is_told).chain(&policies));
        assert_eq!(cluster.unknowns(), &[] as &[String]);
        let before = self.datapath.generation();
        let applied = self.datapath.apply(&cluster.compile_with("n", &mut self.identities)).expect("written");
        assert!(self.is_narrow || applied.problems.is_empty(), "{:?}", applied.problems);
        self.datapath.settle().expect("cleared away");
        assert!(self.is_narrow || policies.is_empty() || self.datapath.generation() != before);
    }

    /// Neither the cluster nor the node tells anything of a pod any more.
    pub fn forget(&mut self, pod: &str, veth: &str) {
        self.absent = Some(pod.to_owned());
        self.datapath.unbind(&pod_ref(pod)).expect("detached");
        let mut foreign = self.datapath.foreign().clone();
        foreign.remove(&self.lab.node.interface(veth));
        self.datapath.set_foreign(foreign).expect("written");
    }

    pub fn run(&self, packet: &[u8], from: From) -> Trial {
        self.run_marked(packet, from, 0)
    }

    pub fn run_marked(&self, packet: &[u8], from: From, mark: u32) -> Trial {
        let node = &self.lab.node;
        let [a, b, uplink] = ["va", "vb", "up0"].map(|name| node.interface(name));
        let (program, interface, came_by) = match from {
            From::A => ("from_pod", a, a),
            From::AToB => ("to_pod", b, a),
            From::B => ("from_pod", b, b),
            From::BToA => ("to_pod", a, b),
            From::Outside => ("from_uplink", uplink, uplink),
            From::OutsideToB => ("to_pod", b, uplink),
        };
        let way = Way { program, interface, came_by, mark };
        let trial = node.enter(|| self.datapath.try_packet(packet, way, 1));
        trial.unwrap_or_else(|error| panic!("{error:#?}"))
    }

    /// Whether it passes; if not, the reason that the event has.
    pub fn verdict(&mut self, packet: &[u8], from: From) -> Result<(), Reason> {
        self.next_generation();
        while self.events.next().is_some() {}
        let passes = self.run(packet, from).passes;
        let event = self.events.next().map(|item| plain::from_bytes::<Event>(&item).expect("a whole event"));
        let reason = event.and_then(|event| Reason::from_byte(event.reason));
        match (passes, reason) {
            (true, None) => Ok(()),
            (false, Some(reason)) => Err(reason),
            other => panic!("{other:?}: what is denied, and nothing else, is told as denied"),
        }
    }
}

pub fn namespace(name: &str) -> Value {
    let labels = json!({"kubernetes.io/metadata.name": name});
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

pub fn pod(namespace: &str, name: &str, [v4, v6]: [&str; 2]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": v4, "podIPs": [{"ip": v4}, {"ip": v6}]},
    })
}
