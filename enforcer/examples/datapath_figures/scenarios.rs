//! What the programs do with a packet, held against an empty one in the same round.

use std::{net::IpAddr, path::Path, sync::Barrier, thread};

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use signalbox_enforcer_common::{
    Address, STATISTIC_LOST_EVENTS,
    policy::{Judgement, PodState, PolicyKey, Shapes, Side},
};
use signalbox_policy::Protocol;

use crate::{
    kernel::{Ends, Kernel, Shot, Vary},
    measure::Samples,
    support::{Space, frame::Frame},
};

/// Runs in one call, where the packet stays the same.
const REPEAT: u32 = 20_000;
/// Runs in one call, where each makes an event: the ring has room for about 11,000.
const REPEAT_NEW: u32 = 6_000;
/// Before those, so that the caches hold this kernel's tables and not the one's before.
const WARM_UP: u32 = 3_000;
/// Without a divisor in common with nine.
const STRIDES: [usize; 6] = [1, 5, 7, 2, 8, 4];
const PORT: u16 = 80;
const POLICY_GROUP: u32 = 1;
const FIRST_IDENTITY: u32 = 1000;
/// As `Limits::default()`.
const FLOWS: u32 = 65_536;

/// All that a group may have to be asked for.
const EVERY: Shapes = Shapes::IDENTITY
    .and(Shapes::ALL)
    .and(Shapes::IDENTITY_PROTOCOL)
    .and(Shapes::PROTOCOL)
    .and(Shapes::IDENTITY_PORT)
    .and(Shapes::PORT)
    .and(Shapes::IDENTITY_RANGE)
    .and(Shapes::RANGE);

/// One scenario's figures: nanoseconds per packet, and those of the empty program in the same rounds.
pub struct Row {
    pub name: String,
    pub took: Samples,
    pub empty: Samples,
}

impl Row {
    pub fn ratio(&self) -> Samples {
        self.took.ratio(&self.empty)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn local(self) -> IpAddr {
        self.parse("10.244.0.2", "fd00:244::2")
    }

    /// The first of those that are drawn.
    fn far(self) -> IpAddr {
        self.parse("10.64.0.0", "fd00:64::")
    }

    fn parse(self, v4: &str, v6: &str) -> IpAddr {
        match self {
            Self::V4 => v4.parse().expect("an address"),
            Self::V6 => v6.parse().expect("an address"),
        }
    }

    /// The far address of a number.
    fn numbered(self, number: u32) -> IpAddr {
        match self.far() {
            IpAddr::V4(first) => IpAddr::V4((first.to_bits() + number).into()),
            IpAddr::V6(first) => IpAddr::V6((first.to_bits() + u128::from(number)).into()),
        }
    }

    fn address_base(self) -> u32 {
        match self.far() {
            IpAddr::V4(first) => first.to_bits(),
            IpAddr::V6(first) => first.to_bits() as u32,
        }
    }

    /// Where the last four bytes of the source, those of the destination, the source's port and the destination's lie.
    fn offsets(self) -> [u32; 4] {
        match self {
            Self::V4 => [26, 30, 34, 36],
            Self::V6 => [34, 50, 54, 56],
        }
    }

    fn flags_at(self) -> usize {
        match self {
            Self::V4 => 47,
            Self::V6 => 67,
        }
    }
}

/// A namespace of the bench's own with three interfaces that nothing is behind.
pub struct Node {
    space: Space,
    pod: u32,
    uplink: u32,
}

impl Node {
    pub fn new() -> Self {
        let space = Space::new();
        for name in ["pod0", "up0"] {
            space.run(&format!("ip link add {name} type veth peer name {name}x"));
        }
        let (pod, uplink) = (space.interface("pod0"), space.interface("up0"));
        Self { space, pod, uplink }
    }

    /// A pod that a policy isolates, whose group has entries of these kinds.
    fn judged_pod(&self, shapes: Shapes) -> (u32, PodState) {
        let shapes = PodState::shapes_as_flags(shapes, Shapes::NONE);
        let flags = PodState::INGRESS_JUDGED | PodState::INGRESS_SHUT | shapes;
        let own = |family: Family| (Address::from(family.local()), FIRST_IDENTITY - 1);
        (self.pod, PodState::new(flags, POLICY_GROUP, own(Family::V4), own(Family::V6)))
    }

    fn packet(&self, family: Family, out: bool, opens: bool) -> Vec<u8> {
        let (far, local) = ((family.far(), 1024), (family.local(), PORT));
        let (source, destination) = if out { (local, far) } else { (far, local) };
        let frame = Frame { source, destination, protocol: Protocol::Tcp, with_options: false };
        let mut bytes = frame.bytes();
        if !opens {
            bytes[family.flags_at()] = 0x10;
        }
        bytes
    }

    /// A packet of a flow that a far host opened to the pod: forward at `to_pod`, a reply at `from_pod`.
    fn shot(&self, family: Family, program: &'static str, opens: bool) -> Shot {
        let out = program.ends_with("from_pod");
        Shot {
            program,
            packet: self.packet(family, out, opens),
            interface: self.pod,
            came_by: if out { self.pod } else { self.uplink },
            passes: true,
        }
    }

    /// The same packet, and nothing done with it.
    fn floor(&self, shot: &Shot) -> Shot {
        let program = if shot.program.starts_with("many_") { "many_empty" } else { "empty" };
        Shot { program, passes: true, ..shot.clone() }
    }
}

/// Established flows: 1 of them through the shipped programs, more through the same programs behind [`Vary`].
pub fn established(node: &Node, object: &Path, rounds: u32) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        for count in [1_u32, 1_000, 100_000] {
            // The table is split between the CPUs, and these all come from one.
            let mut kernel = Kernel::load(object, 262_144)?;
            kernel.pods(&[node.judged_pod(Shapes::IDENTITY_PORT)])?;
            let bits = 10;
            let ends = (0..count.max(2)).map(|number| Ends {
                source: (Address::from(family.numbered(number >> bits)), 1024 + (number & ((1 << bits) - 1)) as u16),
                destination: (Address::from(family.local()), PORT),
            });
            kernel.flows(ends, (0, node.pod))?;
            let [source, destination, source_port, destination_port] = family.offsets();
            for (program, many, way) in [("to_pod", "many_to_pod", "forward"), ("from_pod", "many_from_pod", "reply")] {
                let out = program == "from_pod";
                kernel.vary(&Vary {
                    numbers: count,
                    address: if out { destination } else { source },
                    address_base: family.address_base(),
                    port: if out { destination_port } else { source_port },
                    port_base: 1024,
                    port_bits: bits,
                    counts_up: false,
                })?;
                let shot = node.shot(family, if count == 1 { program } else { many }, false);
                let lost = kernel.drain();
                let row = against_empty(node, &mut kernel, &shot, rounds, REPEAT)?;
                anyhow::ensure!(kernel.drain() == 0 && lost == 0, "a packet of a known flow was taken for a new one");
                let name = format!("established, {count} {}, {}, {way} ({program})", flows(count), family.name());
                rows.push(Row { name, ..row });
            }
        }
    }
    Ok(rows)
}

fn flows(count: u32) -> &'static str {
    if count == 1 { "flow" } else { "flows" }
}

/// Runs the program and its floor in turn. Where the floor is that of a varied packet, it is taken off, and that of the
/// empty program put in its place.
fn against_empty(node: &Node, kernel: &mut Kernel, shot: &Shot, rounds: u32, repeat: u32) -> Result<Row> {
    let floor = node.floor(shot);
    let empty = Shot { program: "empty", ..floor.clone() };
    let mut row = Row { name: String::new(), took: Samples::default(), empty: Samples::default() };
    node.space.enter(|| -> Result<()> {
        for round in 0..rounds + 2 {
            let base = kernel.run(&empty, repeat)?;
            let above = if floor.program == "empty" { base } else { kernel.run(&floor, repeat)? };
            let took = kernel.run(shot, repeat)?;
            if round >= 2 {
                row.empty.push(base);
                row.took.push(took - above + base);
            }
        }
        Ok(())
    })?;
    Ok(row)
}

/// One hot flow on one CPU and on both at once: per packet, the median of each round's slower CPU.
pub struct TwoCpus {
    pub family: Family,
    pub way: &'static str,
    pub alone: Samples,
    pub both: Samples,
    pub empty_alone: Samples,
    pub empty_both: Samples,
}

/// The same hot flow at once on two CPUs.
pub fn two_cpus(node: &Node, object: &Path, rounds: u32) -> Result<Vec<TwoCpus>> {
    let mut found = Vec::new();
    for family in Family::BOTH {
        let mut kernel = Kernel::load(object, FLOWS)?;
        kernel.pods(&[node.judged_pod(Shapes::IDENTITY_PORT)])?;
        let ends =
            Ends { source: (Address::from(family.far()), 1024), destination: (Address::from(family.local()), PORT) };
        kernel.flows([ends].into_iter(), (0, node.pod))?;
        for (program, way) in [("to_pod", "forward"), ("from_pod", "reply")] {
            let shot = node.shot(family, program, false);
            let empty = node.floor(&shot);
            let shots = [&empty, &shot];
            let barrier = Barrier::new(2);
            // By CPU, then alone or both, then the floor or the program.
            let work = |cpu: usize| -> Result<[[Samples; 2]; 2]> {
                pin(cpu)?;
                let mut samples: [[Samples; 2]; 2] = Default::default();
                for round in 0..rounds + 2 {
                    for (at, shot) in shots.iter().enumerate() {
                        for turn in 0..2 {
                            barrier.wait();
                            let alone = (turn == cpu).then(|| kernel.run(shot, REPEAT)).transpose()?;
                            if let Some(alone) = alone.filter(|_| round >= 2) {
                                samples[0][at].push(alone);
                            }
                        }
                        barrier.wait();
                        let both = kernel.run(shot, REPEAT)?;
                        if round >= 2 {
                            samples[1][at].push(both);
                        }
                    }
                }
                Ok(samples)
            };
            let [first, second] = thread::scope(|scope| -> Result<_> {
                let threads = [0, 1].map(|cpu| {
                    let work = &work;
                    scope.spawn(move || node.space.enter(|| work(cpu)))
                });
                let [first, second] = threads.map(|thread| thread.join().expect("no panic"));
                Ok([first?, second?])
            })?;
            let slower = |turn: usize, at: usize| first[turn][at].combine(&second[turn][at], f64::max);
            found.push(TwoCpus {
                family,
                way,
                alone: slower(0, 1),
                both: slower(1, 1),
                empty_alone: slower(0, 0),
                empty_both: slower(1, 0),
            });
        }
    }
    Ok(found)
}

/// This thread stays on a CPU.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("two CPUs are needed")
}

/// New flows: by entries of policy and addresses. First of one pair of hosts, then drawn over all addresses.
pub struct New {
    pub entries: u32,
    pub addresses: u32,
    pub one_pair: Row,
    pub drawn: Row,
}

/// New flows into a judged pod: each is looked up in the tables, remembered, counted and told.
pub fn new_flows(node: &Node, object: &Path, rounds: u32) -> Result<Vec<New>> {
    let family = Family::V4;
    let mut kernels = Vec::new();
    for entries in [10_u32, 1_000, 16_000] {
        for addresses in [10_u32, 1_000, 100_000] {
            let mut kernel = Kernel::load(object, FLOWS)?;
            kernel.pods(&[node.judged_pod(Shapes::IDENTITY_PORT)])?;
            kernel.foreign(node.uplink)?;
            kernel.addresses(
                (0..addresses)
                    .map(|number| (Address::from(family.numbered(number)), FIRST_IDENTITY + number % entries, 0)),
            )?;
            kernel.policy((0..entries).map(|number| {
                let identity = Some(FIRST_IDENTITY + number);
                let key = PolicyKey::new(POLICY_GROUP, Side::Ingress, identity, Some(6), Some(PORT));
                (key, Judgement::new(number % 1000, false))
            }))?;
            kernels.push((entries, addresses, kernel));
        }
    }
    let blank = || Row { name: String::new(), took: Samples::default(), empty: Samples::default() };
    let mut found: Vec<New> = kernels
        .iter()
        .map(|(entries, addresses, _)| New {
            entries: *entries,
            addresses: *addresses,
            one_pair: blank(),
            drawn: blank(),
        })
        .collect();
    let shot = node.shot(family, "many_to_pod", true);
    let floor = node.floor(&shot);
    let empty = Shot { program: "empty", ..floor.clone() };
    let [source, _, source_port, _] = family.offsets();
    node.space.enter(|| -> Result<()> {
        for round in 0..rounds + 1 {
            for turn in 0..kernels.len() {
                // In another order each round: who came before has left its tables in the caches.
                let at = (turn * STRIDES[round as usize % STRIDES.len()] + round as usize) % kernels.len();
                let ((_, addresses, kernel), new) = (&mut kernels[at], &mut found[at]);
                for (numbers, row) in [(1, &mut new.one_pair), (*addresses, &mut new.drawn)] {
                    kernel.vary(&Vary {
                        numbers,
                        address: source,
                        address_base: family.address_base(),
                        port: source_port,
                        port_base: 1024 + round * 12_345,
                        port_bits: 0,
                        counts_up: true,
                    })?;
                    let base = kernel.run(&empty, REPEAT_NEW)?;
                    let above = kernel.run(&floor, REPEAT_NEW)?;
                    let lost = kernel.statistic(STATISTIC_LOST_EVENTS)?;
                    kernel.drain();
                    kernel.run(&shot, WARM_UP)?;
                    let took = kernel.run(&shot, REPEAT_NEW)?;
                    let told = kernel.drain();
                    anyhow::ensure!(told == (REPEAT_NEW + WARM_UP) as usize, "{told} events");
                    anyhow::ensure!(kernel.statistic(STATISTIC_LOST_EVENTS)? == lost, "the ring was full");
                    if round > 0 {
                        row.empty.push(base);
                        row.took.push(took - above + base);
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// Denied packets: of one connection, over and over; of many; and where the source is in one of 10,000 blocks.
pub fn denied(node: &Node, object: &Path, rounds: u32) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for family in Family::BOTH {
        let mut kernel = Kernel::load(object, FLOWS)?;
        kernel.pods(&[node.judged_pod(Shapes::IDENTITY_PORT)])?;
        kernel.foreign(node.uplink)?;
        kernel.policy((0..1000).map(|number| {
            let key = PolicyKey::new(POLICY_GROUP, Side::Ingress, Some(FIRST_IDENTITY + number), Some(6), Some(443));
            (key, Judgement::new(number, false))
        }))?;
        let mut opening = node.shot(family, "to_pod", true);
        opening.passes = false;
        let row = against_empty(node, &mut kernel, &opening, rounds, REPEAT)?;
        rows.push(Row { name: format!("denied, one connection asked for again and again, {}", family.name()), ..row });
        kernel.pods(&[node.judged_pod(EVERY)])?;
        let row = against_empty(node, &mut kernel, &opening, rounds, REPEAT)?;
        rows.push(Row {
            name: format!("the same with rules of all kinds, ranges of ports too, {}", family.name()),
            ..row
        });
        kernel.pods(&[node.judged_pod(Shapes::IDENTITY_PORT)])?;
        // Blocks of 256 addresses, of a third of which the pod knows a rule, but for another port.
        let length = 120;
        kernel.blocks(
            (0..10_000)
                .map(|number| (length, Address::from(family.numbered(number << 8)), FIRST_IDENTITY + number % 3000)),
        )?;
        let row = against_empty(node, &mut kernel, &opening, rounds, REPEAT)?;
        rows.push(Row { name: format!("the same with 10,000 blocks of addresses, {}", family.name()), ..row });
        let [source, _, source_port, _] = family.offsets();
        kernel.vary(&Vary {
            numbers: 1_000 << 8,
            address: source,
            address_base: family.address_base(),
            port: source_port,
            port_base: 1024,
            port_bits: 8,
            counts_up: false,
        })?;
        let many = Shot { program: "many_to_pod", ..opening };
        let row = against_empty(node, &mut kernel, &many, rounds, REPEAT)?;
        rows.push(Row {
            name: format!("denied, drawn over 256,000 connections of 1,000 addresses, {}", family.name()),
            ..row
        });
        kernel.drain();
    }
    Ok(rows)
}
