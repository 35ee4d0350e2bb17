//! Figures of several starts, and the server's part of docs/performance.md.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use signalbox_e2e::shell::root;

use super::cluster::Shown;
use super::objects::Size;
use super::served::Memory;
use super::{PODS, POLICIES, REST, STARTS, Start};

const BEGIN: &str = "<!-- server: written by `cargo xtask bench server` -->";
const END: &str = "<!-- /server -->";

/// What was measured in front of one cluster.
pub struct Measured {
    pub size: Size,
    pub shown: Shown,
    pub pod_bytes: usize,
    pub starts: Vec<Start>,
}

impl Measured {
    /// The figures of all starts, in order.
    fn all(&self, figure: impl Fn(&Start) -> f64) -> Vec<f64> {
        self.starts.iter().map(figure).collect()
    }

    fn services(&self) -> usize {
        self.shown.endpoints - self.size.pods
    }
}

/// A row of the table: what, and its figure for each cluster.
type Row = (String, Box<dyn Fn(&Measured) -> String>);

/// Rewrites the part, and prints it.
pub fn write(sizes: &[Measured], load: [String; 2]) -> Result<()> {
    let mut text = format!("{BEGIN}\n\n## The server in front of a large cluster\n\n{}\n", introduction(sizes, &load)?);
    let heads =
        sizes.iter().map(|it| format!(" {} pods, {} policies |", thousands(it.size.pods), thousands(it.size.policies)));
    writeln!(text, "| |{}", heads.collect::<String>())?;
    writeln!(text, "|---|{}", "---|".repeat(sizes.len()))?;
    for (what, figure) in rows() {
        writeln!(text, "| {what} |{}", sizes.iter().map(|it| format!(" {} |", figure(it))).collect::<String>())?;
    }
    writeln!(text, "\n{}\n\n{END}", explanation(sizes))?;
    let path = root().join("docs/performance.md");
    let before = fs::read_to_string(&path).unwrap_or_default();
    let after = match (before.find(BEGIN), before.find(END)) {
        (Some(begin), Some(end)) => {
            format!("{}{text}{}", &before[..begin], before[end + END.len()..].trim_start_matches('\n'))
        }
        _ => format!("{}\n{text}", before.trim_end()),
    };
    fs::write(&path, after).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{text}");
    Ok(())
}

/// The load average of the last minute.
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

fn introduction(sizes: &[Measured], load: &[String; 2]) -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let clusters = sizes.iter().map(|it| {
        format!(
            "{} pods ({} KB of JSON each, `managedFields` included), {} Services and {} namespaces",
            thousands(it.size.pods),
            (it.pod_bytes as f64 / it.size.pods as f64 / 1000.0).round(),
            thousands(it.services()),
            it.shown.namespaces,
        )
    });
    Ok(format!(
        "Measured by `cargo xtask bench server` on {} CPUs ({}, kernel {}, load average {} before and {} after). `signalbox serve`, the release \
         binary, is a process of its own, started {STARTS} times in front of each cluster, with no enforcer and no probe. The API that it watches is the lab's \
         (`lab/apiserver`), on loopback, in the process of the bench, which shares the CPUs but is in no figure of memory or CPU time. The clusters: {}; policies as the engine's benches have \
         them. Medians, and from least to most.\n",
        std::thread::available_parallelism()?,
        cpu.trim_start_matches([' ', '\t', ':']),
        kernel.trim(),
        load[0],
        load[1],
        clusters.collect::<Vec<_>>().join("; "),
    ))
}

fn rows() -> Vec<Row> {
    fn row(what: &str, figure: impl Fn(&Measured) -> String + 'static) -> Row {
        (what.to_owned(), Box::new(figure))
    }
    fn time(what: &str, figure: impl Fn(&Start) -> Duration + 'static) -> Row {
        row(what, move |it| spread(it.all(|start| figure(start).as_secs_f64() * 1000.0), "ms"))
    }
    fn memory(what: &str, figure: impl Fn(&Start) -> u64 + 'static) -> Row {
        row(what, move |it| spread(it.all(|start| figure(start) as f64 / f64::from(1 << 20)), "MiB"))
    }
    let resident = |memory: &Memory| memory.resident;
    vec![
        time("command to listening", |start| start.listening),
        time("command to everything listed and judged (`ready` is printed)", |start| start.ready),
        time("command to `/api/v1/state` answered with all of it", |start| start.whole),
        time("CPU time until then", |start| start.processor),
        memory("**most memory until then** (VmHWM)", |start| start.at_start.peak),
        memory(&format!("**memory {} s later** (PSS)", REST.as_secs()), |start| start.at_rest.proportional),
        memory("the same, resident (RSS)", move |start| resident(&start.at_rest)),
        memory("of that, in no file (the binary is one)", |start| start.at_rest.anonymous),
        row("size of `/api/v1/state`", |it| spread(it.all(|start| start.picture as f64 / f64::from(1 << 20)), "MiB")),
        time(
            &format!("{} pods get another label: first request to the event with the last of them", thousands(PODS)),
            |start| start.pods.shown,
        ),
        time("the same, from the API's last answer", |start| start.pods.lag),
        time("CPU time for them", |start| start.pods.processor),
        row("one policy changed: request to the event with it", |it| {
            let times = it.starts.iter().flat_map(|start| &start.policies);
            spread(times.map(|time| time.as_secs_f64() * 1000.0).collect(), "ms")
        }),
        memory("most memory in all these changes, one page open (VmHWM)", |start| start.after.peak),
        memory(&format!("memory {} s after them, the page open (PSS)", REST.as_secs()), |start| {
            start.after.proportional
        }),
    ]
}

fn explanation(sizes: &[Measured]) -> String {
    let shown = sizes.iter().map(|it| {
        let told = it.starts.iter().flat_map(|start| &start.left_out).next();
        let cells = it.starts.first().map_or(0, |start| start.cells);
        let what = told.map_or_else(String::new, |told| format!(", and says \"{told}\""));
        let (endpoints, policies) = (thousands(it.shown.endpoints), thousands(it.shown.policies));
        format!(
            "With {} pods it shows {endpoints} endpoints, {policies} policies and {cells} cells{what}.",
            thousands(it.size.pods)
        )
    });
    format!(
        "{} A picture is whole when each pod, Service and policy is in it. {POLICIES} changes of a policy after each start. Events are those of `/api/v1/events`, \
         read by one client, as a page is one; the requests' way through the API is in the times. A look at the objects is taken again \
         after five times as long as the last one took, which is what a changed policy waits for. Not in it: probes and their cells, \
         enforcers' streams, users with rights of their own, TLS of the page, a network between server and API, an API server that is slower or faster than the lab's.",
        shown.collect::<Vec<_>>().join(" ")
    )
}

/// Median, and from least to most where these differ.
fn spread(mut values: Vec<f64>, unit: &str) -> String {
    values.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (values.first(), values.last()) else { return String::new() };
    let digits = usize::from(*most < 10.0);
    let [least, median, most] = [*least, values[values.len() / 2], *most].map(|value| format!("{value:.digits$}"));
    if least == most { format!("{median} {unit}") } else { format!("{median} {unit} ({least} to {most})") }
}

/// `10,000`.
fn thousands(number: usize) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}
