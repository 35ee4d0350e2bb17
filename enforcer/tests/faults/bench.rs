//! A node with two pods, an API that can fail, and an agent that can be killed.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    BpfFs, Lab, POD_A, POD_A_V6, POD_B, POD_B_V6, Space,
    faults::{
        agent::{Agent, Order},
        api::{Api, Process, pod},
        load::{Load, Server},
    },
    policy,
};

pub struct Bench {
    pub lab: Lab,
    _servers: Vec<Server>,
    _processes: Vec<Process>,
    _bpf: BpfFs,
    pub api: Api,
    pub order: Order,
    _runtime: tokio::runtime::Runtime,
}

impl Bench {
    /// A node with `one/a` and `two/b`; only `one/a` may reach `two/b`, which may reach nobody.
    pub fn new(clsact: bool) -> Self {
        let lab = Lab::new();
        let servers = [&lab.a, &lab.b, &lab.outside].map(|space: &Space| Server::new(space, 9000));
        let processes = [&lab.a, &lab.b].map(Process::new);
        let bpf = BpfFs::new();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (api, _) = runtime.block_on(Api::start());
        for name in ["one", "two"] {
            api.put("namespaces", json!({"metadata": {"name": name, "resourceVersion": "1"}}));
        }
        pods().into_iter().for_each(|pod| api.put("pods", pod));
        api.put("networkpolicies", only_a());
        let order = Order {
            api: api.url().to_owned(),
            netns: lab.node.path(),
            pins: bpf.pins(),
            clsact,
            object: None,
            policies: None,
        };
        Self { lab, _servers: servers.into(), _processes: processes.into(), _bpf: bpf, api, order, _runtime: runtime }
    }

    pub fn agent(&self) -> Agent {
        Agent::start(&self.order)
    }

    /// The folder of the one set that is pinned.
    pub fn set(&self) -> PathBuf {
        let entries = fs::read_dir(&self.order.pins).expect("something is pinned").flatten();
        let mut sets = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
        sets.next().expect("a set is pinned")
    }

    /// The maps, with identities and groups numbered anew in the order of the addresses and interfaces that have them: an
    /// agent numbers them in the order in which it meets them.
    pub fn tables(&self) -> BTreeMap<&'static str, Entries> {
        let dump = |name: &str| {
            let path = self.set().join("maps").join(name);
            let output = Command::new("bpftool").args(["-j", "map", "dump", "pinned"]).arg(path).output();
            let rows: Vec<Value> =
                serde_json::from_slice(&output.expect("bpftool is installed").stdout).expect("bpftool writes JSON");
            let bytes = |value: &Value| -> Vec<u8> {
                let words = value.as_array().expect("bytes").iter();
                words.map(|text| u8::from_str_radix(&text.as_str().expect("hex")[2..], 16).expect("hex")).collect()
            };
            let mut rows: Entries = rows.iter().map(|row| (bytes(&row["key"]), bytes(&row["value"]))).collect();
            rows.sort();
            rows
        };
        let mut tables: BTreeMap<&str, Entries> =
            ["ADDRESSES", "BLOCKS", "PODS", "POLICY", "RANGES", "NODE_ADDRESSES", "NODE_PORTS"]
                .into_iter()
                .map(|name| (name, dump(name)))
                .collect();
        // The world, the node, and "any" are themselves; groups are numbered from 1.
        let (mut identities, mut groups) = (Numbers::above(1), Numbers::above(0));
        // Where a number stands: in an entry's key or value, at which byte, and what it numbers.
        for (name, in_key, at, is_group) in [
            ("ADDRESSES", false, 0, false),
            ("ADDRESSES", false, 4, false),
            ("BLOCKS", false, 0, false),
            ("BLOCKS", false, 4, false),
            ("PODS", false, 4, true),
            ("PODS", false, 52, true),
            ("PODS", false, 8, false),
            ("PODS", false, 56, false),
            ("PODS", false, 12, false),
            ("PODS", false, 60, false),
            ("POLICY", true, 0, true),
            ("POLICY", true, 4, false),
            ("RANGES", true, 4, true),
            ("RANGES", true, 8, false),
        ] {
            let numbers = if is_group { &mut groups } else { &mut identities };
            for (key, value) in tables.get_mut(name).expect("it is dumped") {
                numbers.renew(&mut if in_key { key } else { value }[at..at + 4]);
            }
        }
        tables.values_mut().for_each(|rows| rows.sort());
        tables
    }

    pub fn load(&self) -> Load {
        Load::start(&self.lab.a, &self.lab.outside, (&self.lab.b, &[POD_B, POD_B_V6]), 9000, 1000)
    }
}

/// Keys and values.
pub type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// Numbers in the order in which they are met.
struct Numbers {
    fixed: u32,
    known: HashMap<u32, u32>,
}

impl Numbers {
    fn above(fixed: u32) -> Self {
        Self { fixed, known: HashMap::new() }
    }

    fn renew(&mut self, bytes: &mut [u8]) {
        let number = u32::from_ne_bytes(bytes.try_into().expect("four bytes"));
        if number <= self.fixed || number == u32::MAX {
            return;
        }
        let next = 100 + u32::try_from(self.known.len()).expect("a few");
        bytes.copy_from_slice(&self.known.entry(number).or_insert(next).to_ne_bytes());
    }
}

/// `one/a` and `two/b`.
pub fn pods() -> [Value; 2] {
    [("one", "a", POD_A, POD_A_V6), ("two", "b", POD_B, POD_B_V6)].map(|(namespace, name, v4, v6)| {
        let mut pod = pod(namespace, name, v4);
        pod["status"]["podIPs"] = json!([{"ip": v4}, {"ip": v6}]);
        pod
    })
}

pub fn only_a() -> Value {
    let from_one = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "one"}}});
    let mut policy = policy("two/only-a", &["Ingress", "Egress"], json!({"ingress": [{"from": [from_one]}]}));
    policy["metadata"]["resourceVersion"] = "1".into();
    policy
}

pub fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}
