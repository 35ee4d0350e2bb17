//! Reads what the engine's benches measured and writes the engine's part of docs/performance.md and docs/engine-growth.svg. Run
//! it by `cargo xtask bench engine`.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use plotters::prelude::*;
use serde_json::Value;

const BEGIN: &str = "<!-- engine: written by `cargo xtask bench engine` -->";
const END: &str = "<!-- /engine -->";

/// Benches of the group `goals`, what each is, and its goal in milliseconds.
const GOALS: [(&str, &str, Option<f64>); 8] = [
    (
        "full matrix",
        "full matrix of 10,000 pods, 1,000 policies and 10 ports, classes included, from a model that was read",
        Some(100.0),
    ),
    ("objects to matrix", "the same from parsed JSON objects", None),
    ("count of all cells", "exact count of its 1,000,000,000 cells by what they are", None),
    ("one policy changed", "one policy changed: the cluster and the whole matrix again", Some(2.0)),
    ("one pod changed", "one pod's labels changed: the same", Some(2.0)),
    ("one pod gone", "one pod gone: the same", Some(2.0)),
    ("explain", "one denied connection explained, nearest miss included", Some(1.0)),
    ("analyze", "all pairs of 1,000 pods with exact port ranges, 1,000 policies", Some(1000.0)),
];

const GROWTH: [&str; 4] = ["pods", "policies", "labels", "ports"];

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate lies in the workspace")?.to_owned();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let mut text = format!("{BEGIN}\n\n## The engine\n\n{}", machine()?);
    text += "\n| what | goal | least | median | 95 % of the medians lie within |\n|---|---|---|---|---|\n";
    for (name, what, goal) in GOALS {
        let measured = Measured::read(&target.join("criterion/goals").join(name.replace('/', "_")))?;
        let goal = goal.map(|goal| held_against(measured.median, goal, &format!("{goal} ms"))).unwrap_or_default();
        writeln!(
            text,
            "| {what} | {goal} | {} | {} | {} to {} |",
            ms(measured.least),
            ms(measured.median),
            ms(measured.lower),
            ms(measured.upper)
        )?;
    }
    text += &load(&target.join("engine/load.json"))?;
    text += &wasm(&target.join("engine"))?;
    text += "\nHow the full matrix grows; whatever is not named is as above:\n\n![growth by pods, policies, labels and ports](engine-growth.svg)\n\n";
    let series = GROWTH.iter().map(|name| Ok((*name, growth(&target.join("criterion").join(format!("by {name}")))?)));
    let series: Vec<(&str, Vec<(f64, f64)>)> = series.collect::<Result<_>>()?;
    for (name, points) in &series {
        let list: Vec<String> = points.iter().map(|(number, time)| format!("{number}: {}", ms(*time))).collect();
        writeln!(text, "- {name}: {}", list.join(", "))?;
    }
    writeln!(text, "\n{END}")?;
    plot(&root.join("docs/engine-growth.svg"), &series)?;
    replace(&root.join("docs/performance.md"), &text)?;
    println!("{text}");
    Ok(())
}

/// Milliseconds.
struct Measured {
    least: f64,
    median: f64,
    lower: f64,
    upper: f64,
}

impl Measured {
    fn read(folder: &Path) -> Result<Self> {
        let folder = folder.join("new");
        let read = |name: &str| -> Result<Value> {
            let path = folder.join(name);
            let text =
                fs::read(&path).with_context(|| format!("cannot read {}: run the benches first", path.display()))?;
            Ok(serde_json::from_slice(&text)?)
        };
        let (estimates, sample) = (read("estimates.json")?, read("sample.json")?);
        let number =
            |path: &str| estimates.pointer(path).and_then(Value::as_f64).map(|it| it / 1e6).context("a number");
        let list =
            |name: &str| sample[name].as_array().into_iter().flatten().filter_map(Value::as_f64).collect::<Vec<_>>();
        let each = list("times").into_iter().zip(list("iters")).map(|(time, runs)| time / runs / 1e6);
        Ok(Self {
            least: each.fold(f64::INFINITY, f64::min),
            median: number("/median/point_estimate")?,
            lower: number("/median/confidence_interval/lower_bound")?,
            upper: number("/median/confidence_interval/upper_bound")?,
        })
    }
}

/// A goal, and whether the median meets it.
fn held_against(median: f64, goal: f64, text: &str) -> String {
    format!("{text}, {}", if median <= goal { "met" } else { "missed" })
}

fn ms(time: f64) -> String {
    match time {
        _ if time < 0.1 => format!("{time:.4} ms"),
        _ if time < 10.0 => format!("{time:.2} ms"),
        _ => format!("{time:.1} ms"),
    }
}

fn machine() -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or(": unknown")
        .trim_start_matches([' ', '\t', ':']);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    Ok(format!(
        "Measured by the steps of `cargo xtask bench engine` on one core of {} ({cpu}, kernel {}, load average when this was written {load}), release profile, clusters of \
         `policy/benches/common`. A time is that of one run on its core, without what other processes take of it (`CLOCK_THREAD_CPUTIME_ID`); 20 samples \
         each, by criterion.\n",
        std::thread::available_parallelism()?,
        kernel.trim()
    ))
}

fn load(path: &Path) -> Result<String> {
    let Ok(text) = fs::read(path) else { return Ok(String::new()) };
    let report: Value = serde_json::from_slice(&text)?;
    let runs: Vec<&Value> = report["runs"].as_array().into_iter().flatten().collect();
    let of = |name: &str| {
        let mut all: Vec<f64> = runs.iter().filter_map(|run| run[name].as_f64()).collect();
        all.sort_by(f64::total_cmp);
        (all.first().copied().unwrap_or_default(), all.get(all.len() / 2).copied().unwrap_or_default())
    };
    let seconds = |(least, median): (f64, f64)| format!("{:.2} s (least {:.2} s)", median / 1000.0, least / 1000.0);
    Ok(format!(
        "\n{} pods and {} policies, {} runs, each in a process of its own, time of the thread, medians: {} of JSON text become values in {}; values become a cluster \
         in {} (goal {}); its first two verdicts, classes of all pods included, take {}. Resident with the values alone {} MiB, with the cluster \
         beside them {} MiB at the most.\n",
        report["pods"],
        report["policies"],
        runs.len(),
        format_args!("{} MiB", of("text_mib").1),
        seconds(of("text_ms")),
        seconds(of("values_ms")),
        held_against(of("values_ms").1, 3000.0, "3 s"),
        seconds(of("classify_ms")),
        of("values_mib").1,
        of("peak_mib").1
    ))
}

fn wasm(folder: &Path) -> Result<String> {
    let read = |name: &str| -> Option<(f64, f64, String)> {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        let mut times: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
        times.sort_by(f64::total_cmp);
        let open = text.lines().find_map(|line| line.strip_prefix("open "))?.to_owned();
        Some((*times.first()?, *times.get(times.len() / 2)?, open))
    };
    let (Some(native), Some(fast)) = (read("native.txt"), read("wasm.txt")) else { return Ok(String::new()) };
    anyhow::ensure!(native.2 == fast.2, "WASM and native differ: {} and {} open cells", fast.2, native.2);
    let mut text = format!(
        "\nThe same full matrix in WASM under Node and natively, by the clock on the wall, one after the other, 20 runs each, and the same {} open cells in both: native median {} \
         (least {}), WASM median {} (least {}): {:.2} times (goal {}).",
        native.2,
        ms(native.1),
        ms(native.0),
        ms(fast.1),
        ms(fast.0),
        fast.1 / native.1,
        held_against(fast.1 / native.1, 2.0, "2")
    );
    if let Some(small) = read("wasm-small.txt") {
        write!(text, " Built for size, as the page is: median {}, {:.2} times.", ms(small.1), small.1 / native.1)?;
    }
    Ok(text + "\n")
}

/// Numbers and medians, ascending.
fn growth(folder: &Path) -> Result<Vec<(f64, f64)>> {
    let mut points = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if let Ok(number) = entry.file_name().to_string_lossy().parse::<f64>() {
            points.push((number, Measured::read(&entry.path())?.median));
        }
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(points)
}

fn plot(path: &Path, series: &[(&str, Vec<(f64, f64)>)]) -> Result<()> {
    let area = SVGBackend::new(path, (900, 560)).into_drawing_area();
    area.fill(&WHITE)?;
    let colour = RGBColor(0x1b, 0x5e, 0x9c);
    for (panel, (name, points)) in area.split_evenly((2, 2)).iter().zip(series) {
        let most = points.iter().map(|(_, time)| *time).fold(1.0, f64::max);
        let last = points.last().map_or(1.0, |(number, _)| *number);
        let mut chart = ChartBuilder::on(panel)
            .caption(format!("Full matrix by {name} (ms)"), ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(34)
            .y_label_area_size(54)
            .build_cartesian_2d(0.0..last * 1.05, 0.0..most * 1.1)?;
        let whole = |number: &f64| format!("{number:.0}");
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(*name).y_desc("ms").x_labels(6).x_label_formatter(&whole).y_label_formatter(&whole);
        mesh.light_line_style(WHITE).draw()?;
        chart.draw_series(LineSeries::new(points.iter().copied(), colour))?;
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    area.present()?;
    Ok(())
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
