//! The datapath's part of docs/performance.md, and its plot.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};
use plotters::prelude::*;

use crate::{
    changes::Changes,
    kernel::{Kernel, SHIPPED},
    measure::Samples,
    scenarios::{Family, New, Row, TwoCpus},
    veth::Variant,
    watched::{self, Watched},
};

const BEGIN: &str = "<!-- datapath: written by `cargo xtask bench datapath` -->";
const END: &str = "<!-- /datapath -->";
/// What the kernel's verifier looks at before it gives up: `BPF_COMPLEXITY_LIMIT_INSNS`.
const VERIFIER_LIMIT: u32 = 1_000_000;

/// Everything that was measured.
pub struct Report {
    pub established: Vec<Row>,
    pub two_cpus: Vec<TwoCpus>,
    pub denied: Vec<Row>,
    pub new_flows: Vec<New>,
    pub veth: [Variant; 4],
    pub changes: [Changes; 2],
    pub watched: Watched,
    /// Load average before and after.
    pub load: [String; 2],
}

impl Report {
    pub fn write(&self, root: &Path, shipped: &Kernel, bench: &Kernel) -> Result<()> {
        let mut text = format!("{BEGIN}\n\n## The datapath\n\n{}\n", self.how()?);
        self.programs(&mut text)?;
        self.two(&mut text)?;
        self.growth(&mut text)?;
        text += "\n![what a packet costs, as a multiple of an empty program](datapath.svg)\n";
        verifier(&mut text, shipped, bench)?;
        self.connections(&mut text)?;
        self.to_kernel(&mut text)?;
        write!(text, "\n{END}\n")?;
        self.plot(&root.join("docs/datapath.svg"))?;
        replace(&root.join("docs/performance.md"), &text)?;
        println!("{text}");
        Ok(())
    }

    fn how(&self) -> Result<String> {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(format!(
            "Measured by `cargo xtask bench datapath` on {} CPUs ({}, kernel {}, load average {} before and {} after). The programs run by \
             `BPF_PROG_TEST_RUN`, many times in one call, by the time of the calling thread, so that other processes do not count; the process has the highest \
             priority (nice -20). In each round every program runs in turn with \
             an empty one (`return TC_ACT_UNSPEC`), whose time is the unit; the median of the rounds' ratios is given, and between which ratios eight of ten rounds lie. One packet \
             again and again is one flow. For more flows a program that exists only for this bench writes four bytes of an address and the port into \
             the packet, then goes the whole way of the shipped one; what the writing takes, measured in the same round, is taken off. `to_pod` stands where a \
             packet goes to a pod, `from_pod` where one comes from it: a packet between two pods of a node meets both, its reply is looked up in one of them.\n",
            thread_count()?,
            cpu.trim_start_matches([' ', '\t', ':']),
            kernel.trim(),
            self.load[0],
            self.load[1],
        ))
    }

    fn programs(&self, text: &mut String) -> Result<()> {
        *text += "| what | goal, x empty | x empty | 80 % of rounds | median | least | empty, median |\n|---|---|---|---|---|---|---|\n";
        for row in self.established.iter().chain(&self.denied) {
            let ratio = row.ratio();
            let goal = match row.name.as_str() {
                name if name.starts_with("established, 1 flow,") => Some(2.5),
                name if name.starts_with("denied, one") => Some(18.0),
                _ => None,
            };
            let goal = goal.map(|goal| held_against(ratio.median(), goal)).unwrap_or_default();
            // A round in which the writing alone took longer than the writing and the program says nothing of the program.
            let least = row.took.least();
            let least = if least > 0.0 { format!("{least:.1} ns") } else { "below the noise".to_owned() };
            writeln!(
                text,
                "| {} | {goal} | {:.2} | {:.2} to {:.2} | {:.1} ns | {least} | {:.1} ns |",
                row.name,
                ratio.median(),
                ratio.at(0.1),
                ratio.at(0.9),
                row.took.median(),
                row.empty.median()
            )?;
        }
        let hot = |family: Family| {
            let rows = self.established.iter().filter(|row| row.name.contains("1 flow,"));
            let medians = rows.filter(|row| row.name.contains(family.name())).map(|row| row.took.median());
            medians.sum::<f64>()
        };
        let ratio = hot(Family::V6) / hot(Family::V4);
        writeln!(
            text,
            "\nThe goal of a denied packet is held against one connection and the plainest rules: more kinds of rules, blocks or connections cost more.\n\n\
             IPv6 takes {ratio:.2} times what IPv4 takes on a hot flow (goal {}).",
            held_against(ratio, 1.4)
        )?;
        Ok(())
    }

    fn two(&self, text: &mut String) -> Result<()> {
        *text += "\nThe same hot flow on two CPUs at once, each thread on a CPU of its own, per packet of the slower one:\n\n";
        *text += "| flow | one CPU | both | both / one, goal 1.1 | 80 % of rounds | the empty program, both / one |\n|---|---|---|---|---|---|\n";
        for two in &self.two_cpus {
            let ratio = two.both.ratio(&two.alone);
            writeln!(
                text,
                "| {}, {} | {:.1} ns | {:.1} ns | {:.2}, {} | {:.2} to {:.2} | {:.2} |",
                two.family.name(),
                two.way,
                two.alone.median(),
                two.both.median(),
                ratio.median(),
                if ratio.median() <= 1.1 { "met" } else { "missed" },
                ratio.at(0.1),
                ratio.at(0.9),
                two.empty_both.ratio(&two.empty_alone).median()
            )?;
        }
        Ok(())
    }

    fn growth(&self, text: &mut String) -> Result<()> {
        *text += "\nNew flows into a judged pod, IPv4: each is judged, remembered, counted, and told to a reader that keeps up. The tables of nine sizes stand in the kernel at \
                  once and take turns; before each turn 3,000 packets fill the caches. Once every flow comes from one address, once the addresses are drawn at random \
                  over the whole table, so that each packet touches memory that its CPU's own caches do not hold:\n\n";
        *text +=
            "| entries of policy | addresses | one address | x empty | drawn | x empty |\n|---|---|---|---|---|---|\n";
        for new in &self.new_flows {
            writeln!(
                text,
                "| {} | {} | {:.0} ns | {:.1} | {:.0} ns | {:.1} |",
                new.entries,
                new.addresses,
                new.one_pair.took.median(),
                new.one_pair.ratio().median(),
                new.drawn.took.median(),
                new.drawn.ratio().median()
            )?;
        }
        let (Some(first), Some(last)) = (self.new_flows.first(), self.new_flows.last()) else { return Ok(()) };
        let ratio = |of: fn(&New) -> &Row| of(last).took.ratio(&of(first).took).median();
        writeln!(
            text,
            "\nThe largest takes {:.2} times what the smallest takes from one address (goal {}), and {:.2} times drawn over all (goal {}).",
            ratio(|new| &new.one_pair),
            held_against(ratio(|new| &new.one_pair), 1.3),
            ratio(|new| &new.drawn),
            held_against(ratio(|new| &new.drawn), 1.3),
        )?;
        *text += "What the drawn ones take more goes into waiting for memory, by a profile of the largest and the smallest on an Intel Xeon: three tenths of it into the bucket and the entry of the source's \
                  address, two tenths into those of its identity's policy, the rest into counts by pair and by rule, the flow that makes room, and the event. The first alone, one look-up in a table \
                  that the caches do not hold, took more there than the goal allows for all.\n";
        Ok(())
    }

    fn connections(&self, text: &mut String) -> Result<()> {
        let [none, ours, _listened_to, nftables] = &self.veth;
        writeln!(
            text,
            "\nConnections (connect, one byte, reset) and packets of an open connection (one byte there, one back) between two pods of a node, over veth, through namespaces of the \
             bench's own; {} rounds of each in turn. One thread on one CPU is client and server, so that a send carries the packet through every program and into the other's \
             socket before it returns: the process's CPU time, all its threads, holds the softirqs, too, and the reader of events. This kernel counts softirqs to \
             the thread that they interrupt; what it hands to its own threads under load is not counted. The nftables rule set accepts what is established and \
             new connections from a set of addresses to one port. Signalbox reads an event for each connection, as on every node, and puts it into words only where somebody \
             listens: the second of its rows has a listener, as the page of the lab is one.\n",
            none.connection.count()
        )?;
        *text += "| | CPU per connection | x no policy | 80 % of rounds | CPU per packet | x no policy |\n|---|---|---|---|---|---|\n";
        for variant in &self.veth {
            let ratio = variant.connection.ratio(&none.connection);
            writeln!(
                text,
                "| {} | {:.1} us | {:.2} | {:.2} to {:.2} | {:.2} us | {:.2} |",
                variant.name,
                variant.connection.median(),
                ratio.median(),
                ratio.at(0.1),
                ratio.at(0.9),
                variant.packet.median(),
                variant.packet.ratio(&none.packet).median()
            )?;
        }
        let ratio = ours.connection.ratio(&none.connection).median();
        let peer = ours.connection.ratio(&nftables.connection).median();
        writeln!(
            text,
            "\nA connection costs {ratio:.2} times one without policy (goal {}) and {peer:.2} times one with nftables (goal {}).",
            held_against(ratio, 1.15),
            held_against(peer, 1.0)
        )?;
        Ok(())
    }

    fn to_kernel(&self, text: &mut String) -> Result<()> {
        let [small, large] = &self.changes;
        writeln!(
            text,
            "\nFrom a changed policy to the kernel: {} changes of one rule of one of 50 policies, on a node with 100 pods, real interfaces and maps, of a cluster of 1,000 pods and of one \
             of 10,000. The rule tells pods apart that no rule told apart before. After each a packet is run by hand and must meet the change. From the changed object in \
             memory to the generation in force; the way from the API server is not in it.\n",
            small.total.count()
        )?;
        *text += "| | goal | 1,000 pods, median | 99 % | 10,000 pods, median | 99 % | 10,000 / 1,000 |\n|---|---|---|---|---|---|---|\n";
        let row = |name: &str, goal: &str, of: fn(&Changes) -> &Samples| {
            let [few, many] = [of(small), of(large)];
            let ratio = many.median() / few.median();
            let [a, b, c, d] = [few.median(), few.at(0.99), many.median(), many.at(0.99)];
            format!("| {name} | {goal} | {a:.2} ms | {b:.2} ms | {c:.2} ms | {d:.2} ms | {ratio:.2} |\n")
        };
        let median = held_against(small.total.median(), 10.0);
        let late = held_against(small.total.at(0.99), 50.0);
        let goal = format!("median {median}; 99 % {late} (ms)");
        *text += &row("all of it", &goal, |changes| &changes.total);
        *text += &row("of it reading the policy and compiling the node's tables", "", |changes| &changes.compile);
        *text += &row("of it plan, write, flip", "", |changes| &changes.apply);
        *text += &row("CPU time of all of it, in the kernel and outside", "", |changes| &changes.cpu);
        *text += &row("cleared away afterwards, where nobody waits", "", |changes| &changes.settle);
        *text +=
            &row("instead of a rule, one pod of another node comes or goes: all of it", "", |changes| &changes.pod);
        let row = |samples: &Samples| {
            let [least, median, late, most] = [0.0, 0.5, 0.99, 1.0].map(|part| samples.at(part));
            format!("{least:.2} ms | {median:.2} ms | {late:.2} ms | {most:.2} ms")
        };
        let Watched { apart, at_once } = &self.watched;
        writeln!(
            text,
            "\nThe same through the agent's own loop: changes told by an API server on loopback, 100 pods in namespaces of their own. From the event that is sent to the \
             generation in force, as the status tells it; each tenth change is followed by a connection that must meet it. {} changes one by one, each {} ms after the one \
             before is in force; and as many right behind one another, {} ms after it, where each waits until no program reads the generation before the last any more (an RCU \
             grace period).\n",
            apart.total.count(),
            watched::APART.as_millis(),
            watched::AT_ONCE.as_millis()
        )?;
        *text += "| | goal | least | median | 99 % | most |\n|---|---|---|---|---|---|\n";
        for (name, took) in [("one by one", apart), ("right behind one another", at_once)] {
            let median = held_against(took.total.median(), 10.0);
            let late = held_against(took.total.at(0.99), 50.0);
            writeln!(
                text,
                "| {name}: from API to kernel | median {median}; 99 % {late} (ms) | {} |",
                row(&took.total)
            )?;
            writeln!(text, "| of it in the agent's loop | | {} |", row(&took.agent))?;
        }
        Ok(())
    }

    fn plot(&self, path: &Path) -> Result<()> {
        let mut bars: Vec<(String, f64, f64, f64)> = self
            .established
            .iter()
            .chain(&self.denied)
            .map(|row| (row.name.clone(), row.ratio().median(), row.ratio().at(0.1), row.ratio().at(0.9)))
            .collect();
        bars.extend(self.new_flows.iter().map(|new| {
            let ratio = new.one_pair.ratio();
            let name = format!("new flow, {} entries, {} addresses", new.entries, new.addresses);
            (name, ratio.median(), ratio.at(0.1), ratio.at(0.9))
        }));
        let most = bars.iter().map(|bar| bar.3).fold(1.0, f64::max);
        let height = 60 + 20 * bars.len() as u32;
        let area = SVGBackend::new(path, (960, height)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption("What a packet costs, x an empty program", ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(30)
            .y_label_area_size(440)
            .build_cartesian_2d(0.0..most * 1.05, 0.0..bars.len() as f64)?;
        chart.configure_mesh().disable_y_mesh().disable_y_axis().y_labels(0).light_line_style(WHITE).draw()?;
        let colour = RGBColor(0x1b, 0x5e, 0x9c);
        for (at, (_, median, low, high)) in bars.iter().rev().enumerate() {
            let at = at as f64;
            chart.draw_series([Rectangle::new([(0.0, at + 0.2), (*median, at + 0.8)], colour.filled())])?;
            chart.draw_series([PathElement::new([(*low, at + 0.5), (*high, at + 0.5)], BLACK)])?;
        }
        for (at, (name, median, ..)) in bars.iter().enumerate() {
            let (_, y) = chart.backend_coord(&(0.0, (bars.len() - at) as f64 - 0.5));
            let right = ("sans-serif", 13).into_font().into_text_style(&area);
            let text = format!("{name}: {median:.1}");
            let (width, _) = area.estimate_text_size(&text, &right)?;
            area.draw(&Text::new(text, (444 - width as i32, y - 6), right))?;
        }
        area.present()?;
        Ok(())
    }
}

/// What the verifier thinks of the programs, and that the bench's are the shipped ones.
fn verifier(text: &mut String, shipped: &Kernel, bench: &Kernel) -> Result<()> {
    *text += "\nThe verifier gives up at 1,000,000 instructions looked at; a test fails where a program takes more than half of that. Instructions as the kernel runs them, after its own \
              rewriting, and the bytes of machine code:\n\n";
    *text += "| program | looked at | of the limit | instructions | machine code |\n|---|---|---|---|---|\n";
    for name in SHIPPED {
        let (verified, translated, jited) = shipped.sizes(name)?;
        anyhow::ensure!(
            bench.sizes(name)?.1 == translated,
            "{name} differs between the bench's object and the shipped one"
        );
        writeln!(
            text,
            "| `{name}` | {verified} | {:.1} % | {} | {jited} |",
            f64::from(verified) * 100.0 / f64::from(VERIFIER_LIMIT),
            translated / 8
        )?;
    }
    Ok(())
}

fn thread_count() -> Result<usize> {
    Ok(std::thread::available_parallelism()?.get())
}

/// A goal, and whether the figure meets it.
fn held_against(figure: f64, goal: f64) -> String {
    format!("{goal}, {}", if figure <= goal { "met" } else { "missed" })
}

/// The load average of the last minute.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Puts the text between the markers, or at the end.
fn replace(path: &Path, text: &str) -> Result<()> {
    let before = fs::read_to_string(path).unwrap_or_default();
    let after = match (before.find(BEGIN), before.find(END)) {
        (Some(begin), Some(end)) => {
            format!("{}{text}{}", &before[..begin], before[end + END.len()..].trim_start_matches('\n'))
        }
        _ => format!("{}\n\n{text}", before.trim_end()),
    };
    fs::write(path, after).with_context(|| format!("cannot write {}", path.display()))
}
