//! Pods that come and go faster than anybody would start them: interfaces by netlink, in a pool of namespaces that each hold a
//! process, since a namespace of its own for each would cost more than all that is to be measured.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant},
};

use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec, LinkVeth,
    packet_route::link::{InfoData, InfoVeth, LinkAttribute},
};
use tokio::runtime::Runtime;

use super::{
    super::{Lab, Space},
    api::{Api, Process, pod},
};

/// Batches of pods that are alive at once.
const BATCHES: u32 = 3;
/// Pods of a batch.
const BATCH: u32 = 15;
/// Interfaces of the first pod and on; below are those of the lab.
const FIRST: u32 = 10_000;

struct Sandbox {
    space: Space,
    _process: Process,
    handle: Handle,
}

/// The pool.
pub struct Storm {
    runtime: Runtime,
    node: Handle,
    sandboxes: Vec<Sandbox>,
    api: Api,
    /// Pods that were started.
    started: u32,
    alive: [Vec<u32>; BATCHES as usize],
}

impl Storm {
    pub fn new(lab: &Lab, api: &Api) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let connect = |space: &Space| {
            let inside = runtime.handle().clone();
            let (connection, handle, _) = space.enter(|| {
                let _entered = inside.enter();
                rtnetlink::new_connection().expect("a netlink socket")
            });
            runtime.spawn(connection);
            handle
        };
        let sandboxes = (0..BATCHES * BATCH).map(|_| {
            let space = Space::new();
            Sandbox { _process: Process::lasting(&space, 600), handle: connect(&space), space }
        });
        let (node, sandboxes) = (connect(&lab.node), sandboxes.collect());
        Self { node, sandboxes, runtime, api: api.clone(), started: 0, alive: Default::default() }
    }

    /// Starts as many pods as so many a second would be, and ends each after the time of three batches. A busy machine may take up to twice
    /// as long for them. How many came.
    pub fn blow(&mut self, rate: u32, lasting: Duration) -> u32 {
        let before = self.started;
        let wanted = wanted(rate, lasting);
        let pause = Duration::from_secs(1) * BATCH / rate;
        let (began, mut next) = (Instant::now(), Instant::now());
        let mut batch = 0;
        while self.started - before < wanted && began.elapsed() < 2 * lasting {
            self.end(batch % BATCHES);
            self.begin(batch % BATCHES);
            batch += 1;
            next += pause;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        for batch in 0..BATCHES {
            self.end(batch);
        }
        self.started - before
    }

    fn begin(&mut self, batch: u32) {
        for at in 0..BATCH {
            let number = self.started;
            self.started += 1;
            let sandbox = &self.sandboxes[(batch * BATCH + at) as usize];
            let index = FIRST + number;
            let address = address(number);
            let netns = std::fs::File::open(sandbox.space.path()).expect("it is open");
            let inside = LinkMessageBuilder::<LinkUnspec>::new()
                .name("eth0")
                .index(index)
                .setns_by_fd(netns.as_raw_fd())
                .build();
            let link = LinkVeth::new(&format!("s{number}"), "eth0")
                .set_info_data(InfoData::Veth(InfoVeth::Peer(inside)))
                .index(index)
                .link_group(batch + 1)
                .up()
                .build();
            let made = self.runtime.block_on(async {
                self.node.link().add(link).execute().await?;
                sandbox.handle.address().add(index, address, 32).execute().await?;
                // Not before both ends are there.
                sandbox.handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await
            });
            made.unwrap_or_else(|error| panic!("pod {number}: {error}"));
            self.api.tell(
                "pods",
                "ADDED",
                self::pod("two", &format!("s{number}"), &address.to_string()),
                version(number, 0),
            );
            self.alive[batch as usize].push(number);
        }
    }

    fn end(&mut self, batch: u32) {
        let ended = std::mem::take(&mut self.alive[batch as usize]);
        let Some(first) = ended.first().copied() else { return };
        for number in &ended {
            let address = address(*number).to_string();
            self.api.tell("pods", "DELETED", self::pod("two", &format!("s{number}"), &address), version(*number, 1));
        }
        // All interfaces of the group at once.
        let mut gone = self.node.link().del(0);
        gone.message_mut().attributes.push(LinkAttribute::Group(batch + 1));
        self.runtime.block_on(gone.execute()).unwrap_or_else(|error| panic!("pods from {first} on: {error}"));
    }
}

/// How many pods so many a second are.
pub fn wanted(rate: u32, lasting: Duration) -> u32 {
    rate * u32::try_from(lasting.as_secs()).expect("a test's time")
}

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0af5_0000 + number + 1).into()
}

fn version(number: u32, step: u64) -> u64 {
    1000 + u64::from(number) * 2 + step
}
