//! The object with the programs that only the benches run, its tables, and runs of its programs.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, PerCpuValues, RingBuf, lpm_trie},
    programs::{SchedClassifier, TestRun, TestRunOptions},
    util::nr_cpus,
};
use rustix::time::{ClockId, clock_gettime};
use signalbox_enforcer_common::{
    Address, CONTROL_CLOCK, CONTROL_GENERATION, Plain,
    flow::{Flow, FlowKey},
    plain,
    policy::{AddressValue, BlockValue, Judgement, PodState, PodValue, PolicyKey},
};

/// The programs that are attached, as the shipped object has them.
pub const SHIPPED: [&str; 4] = ["from_pod", "to_pod", "from_uplink", "to_uplink"];
const BENCHES: [&str; 4] = ["empty", "many_empty", "many_from_pod", "many_to_pod"];
/// The generation that all tables of a bench are of.
pub const GENERATION: u32 = 1;
const NOW: u32 = 100;
/// TC_ACT_UNSPEC: goes on.
const NEXT: u32 = u32::MAX;
/// TC_ACT_SHOT.
const DROP: u32 = 2;

/// How packets are varied: as `Vary` in the programs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vary {
    pub numbers: u32,
    pub address: u32,
    pub address_base: u32,
    pub port: u32,
    pub port_base: u32,
    pub port_bits: u32,
    pub counts_up: bool,
}

/// What a packet meets.
#[derive(Clone, Debug)]
pub struct Shot {
    pub program: &'static str,
    pub packet: Vec<u8>,
    pub interface: u32,
    pub came_by: u32,
    pub passes: bool,
}

/// Loaded programs with tables of their own.
pub struct Kernel {
    ebpf: Ebpf,
    events: RingBuf<MapData>,
}

impl Kernel {
    /// `flows`: capacity of the table of flows.
    pub fn load(object: &Path, flows: u32) -> Result<Self> {
        let bytes =
            fs::read(object).with_context(|| format!("cannot read {}: run by `cargo xtask`", object.display()))?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("ADDRESSES", 131_072)
            .map_max_entries("BLOCKS", 16_384)
            .map_max_entries("FLOWS", flows)
            .load(&bytes)?;
        let has_benches = ebpf.program("empty").is_some();
        for name in SHIPPED.into_iter().chain(BENCHES.into_iter().filter(|_| has_benches)) {
            let program: &mut SchedClassifier = ebpf.program_mut(name).with_context(|| name.to_owned())?.try_into()?;
            program.load().with_context(|| format!("the kernel refuses {name}"))?;
        }
        let events = RingBuf::try_from(ebpf.take_map("EVENTS").context("EVENTS")?)?;
        let mut kernel = Self { ebpf, events };
        kernel.cell("CONTROL", CONTROL_GENERATION, GENERATION)?;
        kernel.cell("CONTROL", CONTROL_CLOCK, NOW)?;
        Ok(kernel)
    }

    /// Instructions that the verifier looked at, and bytes before and after the compiler in the kernel.
    pub fn sizes(&self, name: &str) -> Result<(u32, u32, u32)> {
        let program: &SchedClassifier = self.ebpf.program(name).with_context(|| name.to_owned())?.try_into()?;
        let info = program.info()?;
        let verified = info.verified_instruction_count().context("kernels since 5.16 tell it")?;
        Ok((verified, info.size_translated().unwrap_or_default(), info.size_jitted()))
    }

    fn cell<V: Pod>(&mut self, map: &str, at: u32, value: V) -> Result<()> {
        let mut map: Array<_, V> = self.ebpf.map_mut(map).context("no such map")?.try_into()?;
        Ok(map.set(at, value, 0)?)
    }

    fn entries<const K: usize, const V: usize>(
        &mut self,
        map: &str,
        entries: impl Iterator<Item = ([u8; K], [u8; V])>,
    ) -> Result<()> {
        let mut map: HashMap<_, [u8; K], [u8; V]> = self.ebpf.map_mut(map).context("no such map")?.try_into()?;
        for (key, value) in entries {
            map.insert(key, value, 0)?;
        }
        Ok(())
    }

    pub fn pods(&mut self, pods: &[(u32, PodState)]) -> Result<()> {
        self.entries::<4, 96>(
            "PODS",
            pods.iter().map(|(interface, state)| (bytes(interface), bytes(&PodValue::new([*state, *state])))),
        )
    }

    /// An interface that is known to be no pod's, as the agent has it of an uplink.
    pub fn foreign(&mut self, interface: u32) -> Result<()> {
        self.entries::<4, 4>("FOREIGN", [(bytes(&interface), bytes(&1_u32))].into_iter())
    }

    /// Addresses, their identities and local interfaces.
    pub fn addresses(&mut self, addresses: impl Iterator<Item = (Address, u32, u32)>) -> Result<()> {
        self.entries::<16, 16>(
            "ADDRESSES",
            addresses.map(|(address, identity, interface)| {
                let version = (identity, interface);
                (bytes(&address), bytes(&AddressValue::new([version, version])))
            }),
        )
    }

    pub fn policy(&mut self, entries: impl Iterator<Item = (PolicyKey, Judgement)>) -> Result<()> {
        self.entries::<12, 4>("POLICY", entries.map(|(key, judgement)| (bytes(&key), bytes(&judgement))))
    }

    /// Blocks and their identities; lengths count from the first of 128 bits.
    pub fn blocks(&mut self, blocks: impl Iterator<Item = (u32, Address, u32)>) -> Result<()> {
        let mut map: LpmTrie<_, [u8; 16], [u8; 8]> = self.ebpf.map_mut("BLOCKS").context("BLOCKS")?.try_into()?;
        for (length, address, identity) in blocks {
            let value = BlockValue::new([identity, identity]);
            map.insert(&lpm_trie::Key::new(length, bytes(&address)), bytes::<_, 8>(&value), 0)?;
        }
        Ok(())
    }

    /// Flows that were allowed, with the interfaces of their ends.
    pub fn flows(&mut self, flows: impl Iterator<Item = Ends>, interfaces: (u32, u32)) -> Result<()> {
        self.entries::<40, 28>(
            "FLOWS",
            flows.map(|ends| {
                let (key, source_is_low) =
                    FlowKey::new(&ends.source.0, &ends.destination.0, ends.source.1, ends.destination.1, 6);
                let flags = if source_is_low { Flow::SOURCE_IS_LOW } else { 0 };
                (bytes(&key), bytes(&Flow::new(GENERATION, NOW, interfaces, (u32::MAX, 0), flags)))
            }),
        )
    }

    pub fn vary(&mut self, how: &Vary) -> Result<()> {
        let words =
            [how.numbers, how.address, how.address_base, how.port, how.port_base, how.port_bits, how.counts_up.into()];
        self.cell("VARY", 0, words)?;
        // Each CPU begins elsewhere.
        let mut sequence: PerCpuArray<_, [u64; 2]> = self.ebpf.map_mut("SEQUENCE").context("SEQUENCE")?.try_into()?;
        let cpus = nr_cpus().map_err(|(what, source)| anyhow::anyhow!("{what}: {source}"))?;
        let starts: Vec<[u64; 2]> = (1..=cpus as u64).map(|cpu| [cpu.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0]).collect();
        Ok(sequence.set(0, PerCpuValues::try_from(starts)?, 0)?)
    }

    /// Nanoseconds per packet, by the time of this thread, over `repeat` runs in one call.
    pub fn run(&self, shot: &Shot, repeat: u32) -> Result<f64> {
        let program: &SchedClassifier =
            self.ebpf.program(shot.program).with_context(|| shot.program.to_owned())?.try_into()?;
        // `struct __sk_buff` in linux/bpf.h, in words: ingress_ifindex and ifindex.
        let mut context = [0_u32; 48];
        (context[9], context[10]) = (shot.came_by, shot.interface);
        let options = TestRunOptions {
            data_in: Some(&shot.packet),
            ctx_in: Some(plain::as_bytes(&context)),
            repeat,
            ..TestRunOptions::default()
        };
        let began = thread_time();
        let run = program.test_run(options)?;
        let nanoseconds = thread_time() - began;
        let expected = if shot.passes { NEXT } else { DROP };
        ensure!(run.return_value == expected, "{}: {:#x}", shot.program, run.return_value);
        Ok(nanoseconds / f64::from(repeat))
    }

    /// Reads all events, as the agent would; how many.
    pub fn drain(&mut self) -> usize {
        let mut count = 0;
        while self.events.next().is_some() {
            count += 1;
        }
        count
    }

    /// A cell of the statistics, over all CPUs.
    pub fn statistic(&self, cell: u32) -> Result<u64> {
        let map: PerCpuArray<_, u64> = self.ebpf.map("STATISTICS").context("STATISTICS")?.try_into()?;
        Ok(map.get(&cell, 0)?.iter().sum())
    }
}

/// Nanoseconds that this thread has had a CPU for, in the kernel and outside.
pub fn thread_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Addresses and ports of a flow, as the one who opened it sends.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub source: (Address, u16),
    pub destination: (Address, u16),
}

fn bytes<T: Plain, const N: usize>(value: &T) -> [u8; N] {
    plain::as_bytes(std::slice::from_ref(value)).try_into().expect("the sizes are the structure's")
}
